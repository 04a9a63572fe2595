"""The output cap of a call at one model: what the caller asked for, or the model's own largest output.

Which of them is sent is decided with the reservation (`store/functions/fitting.sql`); here is what it is decided from.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from fusewire.ai.provider import AIProvider
from fusewire.ai.schema import ChatRequest
from fusewire.config import Settings
from fusewire.errors import InvalidRequestError, ModelNotBoundedError

if TYPE_CHECKING:
    from fusewire.budget.largest_outputs import ModelOutput

DEFAULT_CAP: Final = 4096
"""Tokens: the cap of a call without one to a model whose largest output nobody knows."""
FIRST_CAP: Final = 2048
"""Tokens: what is sent instead of a cap that takes too much of the room, while few answers of the model are known."""
FIRST_CAP_WITH_REASONING: Final = 16_384
"""The same of a model that reasons: its thoughts are under the cap, and come first. 2,048 are used up before the answer
begins (langchain-ai/langchain#32492: an empty answer with finish reason `length`)."""
_SMALLEST: Final = 256
"""Tokens: a shorter cap than this is of no use to an answer."""
_ANSWER_BESIDE_THOUGHTS: Final = 1024
"""Tokens that a cap leaves beside a budget of thoughts."""
_BYTES_OF_TOKEN: Final = 2
"""For a guess of a prompt's tokens from its bound, which is its bytes: English has 4, code 3, Japanese 2 to 3."""


@dataclass(frozen=True, slots=True)
class OutputCap:
    """Of one call at one model, in tokens of each answer."""

    tokens: int
    """The most that is sent."""
    n: int
    """How many answers."""
    billed: int
    """The most output tokens that all answers together may be billed for."""
    asked: int
    """What the caller asked for, or the model's own largest output."""
    smallest: int = 1
    """The smallest cap of use."""
    first: int = FIRST_CAP
    """What is sent instead of a cap that takes too much of the room, while few answers of the model are known."""
    fits: bool = False
    """Whether a smaller one may be sent."""

    @property
    def smaller(self) -> int | None:
        """What the caller is told: the cap that is sent, where it is smaller than what was asked for."""
        return self.tokens if self.tokens < self.asked else None

    def shorter(self, tokens: int) -> "OutputCap":
        """The same with a smaller cap, which is one that the provider enforces."""
        return replace(self, tokens=tokens, billed=tokens * self.n)


class OutputCaps:
    """The caps of calls under one set of settings."""

    def __init__(self, settings: Settings) -> None:
        self._most = settings.ai_max_output_tokens
        self._fits = settings.ai_output_cap_policy == "fit"

    def of(
        self, request: ChatRequest, provider: AIProvider, model: str, input_bound: int, *, is_strict: bool = False
    ) -> OutputCap:
        """
        :param input_bound: tokens of the input, at most
        :param is_strict: whether the caller wants the whole cap or nothing
        :raises ModelNotBoundedError: where nobody knows what a call with a cap may be billed for
        :raises InvalidRequestError: where a caller who wants the whole cap may not have it here
        """
        from fusewire.budget.largest_outputs import largest_output  # here, with the price list that it needs

        known = largest_output(provider.id, provider.known_as(model))
        # Where its text isn't counted by the vendor's own encoding, the bound is in bytes.
        is_counted = provider.counting(model).encoding is not None
        asked = request.output_cap or _default(known, input_bound if is_counted else input_bound // _BYTES_OF_TOKEN)
        if is_strict and self._most is not None and request.output_cap is not None and asked > self._most:
            raise InvalidRequestError(
                f"At most {self._most:,} output tokens may be asked for here, and x-fusewire-output-cap: strict takes "
                "no smaller cap.",
                param="max_tokens",
            )
        tokens = asked if self._most is None else min(asked, self._most)
        n = request.n or 1
        billed = provider.output_bound(model, tokens)
        if billed is None:
            raise ModelNotBoundedError(provider.id, model)
        return OutputCap(
            tokens,
            n,
            billed * n,
            asked,
            smallest=min(tokens, _smallest(request)),
            first=FIRST_CAP_WITH_REASONING if known.reasons or _asks_for_thoughts(request) else FIRST_CAP,
            # A model whose reasoning isn't under its cap is billed for more, however small the cap is.
            fits=self._fits and not is_strict and provider.output_bound(model, 1) == 1,
        )


def _default(known: "ModelOutput", input_tokens: int) -> int:
    """The model's largest output, or what its context window leaves beside the input, where that is less: some vendors
    answer a cap with a 400 that passes the window together with the input (docker/docker-agent#569)."""
    if known.tokens is None:
        return DEFAULT_CAP
    if known.window is None:
        return known.tokens
    left = known.window - input_tokens
    return min(known.tokens, max(left, DEFAULT_CAP))


def _smallest(request: ChatRequest) -> int:
    budget = request.thinking.budget_tokens if request.thinking is not None else None
    return _SMALLEST if budget is None else budget + _ANSWER_BESIDE_THOUGHTS


def _asks_for_thoughts(request: ChatRequest) -> bool:
    thinking, effort = request.thinking, request.reasoning_effort
    return effort not in (None, "none", "minimal") or (thinking is not None and thinking.type != "disabled")
