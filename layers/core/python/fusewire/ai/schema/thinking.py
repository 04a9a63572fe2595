"""Claude's own thinking: how it is asked for, and the thoughts that have to come back."""

from typing import Annotated, Literal

from pydantic import Field

from fusewire.ai.schema.base import RequestModel
from fusewire.ai.schema.capabilities import NOT_SENT, SENT


class Thinking(RequestModel):
    """Anthropic's own words for how Claude thinks. Claude gets these, and `reasoning_effort` is its effort beside them;
    every other model gets `reasoning_effort` alone."""

    type: Annotated[Literal["enabled", "adaptive", "disabled"] | None, SENT] = None
    """None: as the model does unasked."""
    budget_tokens: Annotated[Annotated[int, Field(ge=1024)] | None, SENT] = None
    display: Annotated[Literal["summarized", "omitted"] | None, SENT] = None
    effort: Annotated[Literal["low", "medium", "high", "xhigh", "max"] | None, SENT] = None


def is_more_than_effort(thinking: Thinking) -> bool:
    """Whether it asks for something that `reasoning_effort` doesn't say."""
    is_said_by_effort = thinking.type in (None, "disabled") or (thinking.type == "adaptive" and thinking.effort)
    return not is_said_by_effort or thinking.display is not None


class ThinkingBlock(RequestModel):
    """A thought of Claude's, which goes back to Claude as it came and to nobody else: its signature is checked.

    In chat completions it stands where LiteLLM has it too.
    """

    type: Literal["thinking", "redacted_thinking"]
    thinking: Annotated[str | None, SENT] = None
    signature: Annotated[str | None, SENT] = None
    data: Annotated[str | None, SENT] = None
    """Of a redacted one, encrypted."""
    place: Annotated[Annotated[int, Field(ge=0)] | None, NOT_SENT] = None
    """Where it stood among the answer's blocks; None stands for the beginning."""

    @property
    def is_signed(self) -> bool:
        """Whether Claude would take it: it answers what isn't signed with a 400."""
        return bool(self.data if self.type == "redacted_thinking" else self.signature)


def holds_signed(blocks: list[ThinkingBlock]) -> bool:
    """Whether Claude would take one of them."""
    return any(block.is_signed for block in blocks)
