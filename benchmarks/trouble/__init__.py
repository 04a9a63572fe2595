"""What `benchmarks/chaos.py` is made of: vendors that fail, callers that leave, a Postgres that is killed, a verdict.

Every call has a number, and asks in such a way that its number can be read from all that it leaves behind: the vendor
reads it in the prompt, and in the ledger it follows from the bound, because no two calls have both the same length and
the same output cap.
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import Final

PROVIDERS: Final = ("azure", "openai", "vllm")
CAPS: Final = 100
LENGTHS: Final = 700
MAX_CALLS: Final = CAPS * LENGTHS
_MIN_PROMPT: Final = 80

INPUT_USD: Final = Decimal("0.000001")
"""Of a token. The output tokens' price is the base that separates the two numbers that a bound is made of."""
OUTPUT_USD: Final = Decimal("0.001")
DEAR: Final = 2000
"""How many times dearer the tier `cost_effective` is: a few of its calls use the budget up."""

SECRETS: Final = {
    "prompt": "the-prompts-own-words",
    "answer": "the-answers-own-words",
    "vendor's key": "sk-the-vendors-key",
    "database's password": "the-databases-password",
}
"""Words that nothing but the wire may ever hold."""


@dataclass(frozen=True, slots=True)
class Question:
    """The call of a number."""

    number: int

    @property
    def cap(self) -> int:
        """Output tokens, of which a vendor makes half."""
        return 1 + self.number % CAPS

    @property
    def prompt(self) -> str:
        return f"{self.number} {SECRETS['prompt']} ".ljust(_MIN_PROMPT + self.number // CAPS, ".")

    @property
    def tokens(self) -> tuple[int, int]:
        """Input and output, as vendors bill them."""
        return len(self.prompt), (self.cap + 1) // 2


def number_in(prompt: str) -> int:
    """The number of the call that asks this."""
    return int(prompt.partition(" ")[0])


def usd(tokens: tuple[int, int], factor: int) -> Decimal:
    """What so many input and output tokens cost."""
    return (tokens[0] * INPUT_USD + tokens[1] * OUTPUT_USD) * factor


def number_of_bound(bound: Decimal, factor: int, allowance: int) -> int:
    """The number of the call that was bound at so much.

    :param allowance: the tokens that the bound has beyond the prompt's bytes
    """
    cap, rest = divmod(bound / factor, OUTPUT_USD)
    size = int(rest / INPUT_USD) - allowance
    return (size - _MIN_PROMPT) * CAPS + int(cap) - 1
