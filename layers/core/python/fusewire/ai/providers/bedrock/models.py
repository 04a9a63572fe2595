"""What Bedrock's models are capable of, which is known without calling one."""

from typing import Final

SUPPORTED: Final = frozenset({
    "tools", "strict_tools", "tool_choice_none", "tool_choice_required", "tool_choice_named", "images", "json_schema",
    "stop", "temperature", "top_p", "reasoning_effort", "cache_control", "service_tier", "thinking", "thinking_blocks",
})  # fmt: skip
"""What `converse_parameters` maps, if not for each model."""
CLAUDES_ALONE: Final = frozenset({"thinking", "thinking_blocks"})
"""Of those, what only Claude takes."""


def caches(model: str) -> bool:
    """Whether the model takes cache points. Others refuse them, and a mark that saves money must not cost an answer."""
    return "claude" in model or "amazon.nova" in model
