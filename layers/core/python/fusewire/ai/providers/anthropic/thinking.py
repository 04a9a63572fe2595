"""How Claude is asked to think, and how its thoughts go back to it. At Anthropic and at Bedrock the same.

Sources: Anthropic's documentation, "Thinking" (what each model takes), "Extended thinking: preserving thinking blocks"
and its SDK's `ThinkingBlockParam`: signed thoughts go back unmodified and in their order, or not at all.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from fusewire.ai.providers.anthropic.models import Traits
from fusewire.ai.schema import AssistantMessage, ChatRequest, ThinkingBlock, ToolMessage, UserMessage

MAX_CAP: Final = 2**31 - 1
"""Tokens: an output cap that fits any budget, where none is set yet."""
MIN_BUDGET: Final = 1024
"""Tokens of thought: Anthropic takes no smaller budget."""

_Block = dict[str, Any]


class Asked(NamedTuple):
    """What a request's `thinking` becomes for one model."""

    thinking: _Block | None
    effort: str | None
    dropped: tuple[str, ...]
    """What of it this model doesn't take, by name."""


def as_asked(request: ChatRequest, limits: Traits, output_cap: int) -> Asked:
    """The request's own `thinking` and effort, as far as this model takes them. Nothing is added to them.

    :param output_cap: in tokens; a budget has to be smaller
    """
    asked = request.thinking
    if asked is None:
        return Asked(None, None, ())
    dropped = []
    # What a vendor refused by name was left out of the request, and stays out.
    effort = asked.effort if request.reasoning_effort is not None else None
    if effort is not None and effort not in limits.efforts and limits.claude:
        effort = None
        dropped.append("reasoning_effort")
    thinking, lost = _thinking(request, limits, output_cap)
    return Asked(thinking, effort, (*dropped, *lost))


def _thinking(request: ChatRequest, limits: Traits, output_cap: int) -> tuple[_Block | None, tuple[str, ...]]:
    asked = request.thinking
    if asked is None or asked.type is None:
        return None, ()
    if asked.type == "disabled":
        if limits.without_thinking == "impossible":
            return None, ("thinking",)
        return (None if limits.without_thinking == "left out" else {"type": limits.without_thinking}), ()
    display: _Block = {"display": asked.display} if asked.display else {}
    if asked.type == "adaptive" and not limits.adapts:
        return None, ("thinking",)
    if asked.type == "adaptive":
        return {"type": "adaptive", **display}, ()
    if not limits.takes_budget:
        return {"type": "adaptive", **display}, ("thinking.budget_tokens",)
    budget = min(asked.budget_tokens or MIN_BUDGET, output_cap - 1)
    if budget < MIN_BUDGET or _goes_on_without_thoughts(request.messages):
        return None, ("thinking",)
    return {"type": "enabled", "budget_tokens": budget, **display}, ()


def _goes_on_without_thoughts(messages: Sequence[object]) -> bool:
    """Whether the last answer called tools without a thought before: with a budget, Claude refuses to go on from it.

    Source: anomalyco/opencode#3077, "a final `assistant` message must start with a thinking block".
    """
    for place in range(len(messages) - 1, -1, -1):
        message = messages[place]
        if isinstance(message, AssistantMessage):
            # A thought at another place than the first doesn't count.
            first = next((b for b in message.thinking_blocks or () if b.is_signed and not b.place), None)
            return bool(message.tool_calls) and first is None
        if not isinstance(message, ToolMessage | UserMessage):
            continue
    return False


def dropped_thoughts(names: set[str], request: ChatRequest, limits: Traits, output_cap: int | None) -> set[str]:
    """What a call leaves out, with what of `thinking` and of earlier thoughts this model doesn't take.

    :param names: what it leaves out otherwise
    """
    answers = [message for message in request.messages if isinstance(message, AssistantMessage)]
    unsigned = [m for m in answers if m.reasoning_content and not any(b.is_signed for b in m.thinking_blocks or ())]
    if not unsigned:
        # Their text goes back in the blocks that hold it.
        names = names - {"reasoning_content"}
    if request.thinking is None:
        return names
    return names | {*as_asked(request, limits, output_cap or MAX_CAP).dropped}


_REFUSES: Final = re.compile(
    r"signature|cannot be modified|binding|must remain as they were|conversation", re.IGNORECASE
)


def refuses_thoughts(message: str | None) -> bool:
    """Whether a 400 of Claude's is about the thoughts of earlier answers.

    ``messages.1.content.0: Invalid `signature` in `thinking` block`` (router-for-me/CLIProxyAPI#2172), ``messages.N.
    content.M: `thinking` or `redacted_thinking` blocks in the latest assistant message cannot be modified``
    (router-for-me/CLIProxyAPI#3624).
    """
    text = message or ""
    return "thinking" in text and "messages." in text and _REFUSES.search(text) is not None


def sent_back(message: AssistantMessage, *, unsigned: bool) -> Iterator[tuple[int, ThinkingBlock]]:
    """The thoughts of an earlier answer that go back, each with its place among the answer's blocks, in order.

    :param unsigned: whether those without a signature go back too: Claude refuses them, other models may want them
    """
    beginning = 0
    for block in message.thinking_blocks or ():
        if unsigned or block.is_signed:
            yield (beginning if block.place is None else block.place), block
            beginning += block.place is None
