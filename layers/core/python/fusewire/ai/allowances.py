"""What servers add to prompts, where calls' usages have shown that it is more than was allowed for.

An input bound has an allowance for what the server adds once (`AIProvider.template_tokens`). Where a usage reports more
input than its bound, the settlement records a larger allowance for that model in Postgres
(`store/functions/allowances.sql`). From its commit on no environment can reserve at less: a reserve with less is
refused and told the tokens, which are kept here, and the call is bounded anew. Where an administrator takes one back,
the prices get another version: with it what is known here is forgotten, and learnt again where it still holds.
"""

from typing import Final

MAX_ALLOWANCE: Final = 10_000_000
"""No model reads more tokens at once; a usage that says so is a mistake."""


class Allowances:
    """The raised allowances that this execution environment knows of, in tokens by provider and model."""

    def __init__(self) -> None:
        self._raised: dict[tuple[str, str], int] = {}

    def of(self, provider: str, model: str, least: int) -> int:
        """The allowance in force as far as it is known here, `least` where none was raised."""
        return max(least, self._raised.get((provider, model.lower()), 0))

    def raise_to(self, provider: str, model: str, tokens: int) -> None:
        """Allow at least `tokens` from now on."""
        self._raised[provider, model.lower()] = self.of(provider, model, tokens)

    def forget(self) -> None:
        """Know of none: an administrator may have taken some back."""
        self._raised.clear()


def raised(allowance: int, bound: int, reported: int) -> int | None:
    """The allowance that a usage asks for; None where the usage is within its bound.

    What was missing is added twice: a longer request may miss more.

    :param allowance: within the bound
    :param bound: of the input, in tokens
    :param reported: the input tokens of the usage
    """
    missing = reported - bound
    return min(allowance + 2 * missing, MAX_ALLOWANCE) if missing > 0 else None
