"""The error tree as HTTP: OpenAI's body, so that its SDKs raise their own typed exceptions. The one place for it."""

from collections.abc import Sequence
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from fusewire.errors import (
    AllProvidersFailedError,
    BudgetExceededError,
    FusewireError,
    InvalidRequestError,
    UnsupportedParameterError,
)
from fusewire.http.limits import limit_headers

# Real fields of OpenAI's API that no provider here can be asked for; unlike a typing error they deserve their own code.
_UNSUPPORTED_FIELDS: Final = {
    "audio", "modalities", "prediction", "service_tier", "store", "web_search_options", "functions", "function_call",
    "moderation", "prompt_cache_retention", "prompt_cache_options", "prompt_cache_breakpoint",
}  # fmt: skip
UNSUPPORTED: Final = "unsupported_parameter"
"""The type of a validation error that a model raises for what it knows, and can't honour."""
_LONGEST_PARAM: Final = 120
_LONGEST_SHOWN: Final = 60

# How pydantic names the members of our unions in an error's location.
_MEMBER_TAGS: Final = {
    "system", "developer", "user", "assistant", "tool", "text", "image_url", "refusal", "str", "int",
    "image", "tool_use", "tool_result", "thinking", "redacted_thinking",
    "message", "function_call", "function_call_output", "reasoning", "input_text", "input_image", "output_text",
}  # fmt: skip
_UNION_FIELDS: Final = {
    "content", "stop", "input", "response_format", "tool_choice", "system", "source", "output", "format",
}  # fmt: skip
_VALUE_TAGS: Final = {
    "str", "int", "none", "text", "json_object", "json_schema", "NamedToolChoice", "base64", "url",
}  # fmt: skip


def body_of(error: FusewireError) -> dict[str, object]:
    """`{"error": {...}}`, with what the contract adds for budgets and exhausted chains."""
    told: dict[str, object] = {
        "message": error.message,
        "type": error.type,
        "code": error.code,
        "param": error.param,
    }
    if isinstance(error, BudgetExceededError):
        told |= {"budget": error.budget, "resets_at": error.resets_at.isoformat()}
    elif isinstance(error, AllProvidersFailedError):
        told["providers"] = [
            {"provider": o.provider, "model": o.model, "kind": o.kind, "message": o.message} for o in error.outcomes
        ]
    return {"error": told}


def headers_of(error: FusewireError) -> dict[str, str]:
    """`Retry-After` (whole seconds, rounded up) and `x-should-retry`, which both vendors' SDKs obey; and a key that
    has to wait is told its minute."""
    headers = limit_headers(error.minute) if error.status == 429 else {}
    should_retry = error.should_retry
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, -int(-error.retry_after // 1)))
    elif isinstance(error, AllProvidersFailedError):
        should_retry = False
    if should_retry is not None:
        headers["x-should-retry"] = "true" if should_retry else "false"
    return headers


def from_validation(error: ValidationError) -> InvalidRequestError:
    """A refused body's most telling problem: the field as the caller knows it, what is wrong, what is allowed."""
    problems = error.errors(include_url=False)
    # A union reports every member's complaint: the one about an unknown field, or else the deepest, is the telling one;
    # and of two, the one about a value that had the right type.
    problem = max(
        problems,
        key=lambda p: (
            p["type"] in ("extra_forbidden", UNSUPPORTED),
            len(p["loc"]),
            not p["type"].endswith("_type"),
        ),
    )
    param = _param(problem)
    if problem["type"] == UNSUPPORTED:
        return UnsupportedParameterError(f"{param}: {problem['msg']}.", param=param)
    if problem["type"] == "json_invalid":
        return InvalidRequestError(f"The body isn't valid JSON: {problem['msg'].removeprefix('Invalid JSON: ')}.")
    if problem["type"] == "extra_forbidden":
        if problem["loc"][-1] in _UNSUPPORTED_FIELDS:
            return UnsupportedParameterError(f"{param} isn't supported by this gateway. Leave it out.", param=param)
        return InvalidRequestError(f"Unknown field {param}. Leave it out, or check its spelling.", param=param)
    if problem["type"] in ("missing", "union_tag_not_found"):
        return InvalidRequestError(f"The field {param} is missing.", param=param)
    if problem["type"] == "union_tag_invalid":
        allowed = problem["ctx"]["expected_tags"]
        return InvalidRequestError(f"{param} must be one of {allowed}{_shown(problem['ctx']['tag'])}.", param=param)
    what = problem["msg"].removeprefix("Value error, ")
    shown = _shown(problem["input"])
    told = f"{param}: {what}{shown}." if param else f"{what}."
    return InvalidRequestError(told, param=param or None)


def _param(problem: ErrorDetails) -> str:
    loc = problem["loc"]
    if problem["type"] == "extra_forbidden":
        # The caller made up the last part, so it is no tag of ours, and as long as it likes.
        path, name = _path(loc, len(loc) - 1), str(loc[-1])
    elif problem["type"].startswith("union_tag_"):
        path, name = _path(loc, len(loc)), problem["ctx"]["discriminator"].strip("'")
    else:
        path, name = _path(loc, len(loc)), ""
    return (f"{path}.{name}" if path and name else path or name)[:_LONGEST_PARAM]


def _path(loc: Sequence[int | str], end: int) -> str:
    """`('messages', 0, 'user', 'content', 'str')`, up to `end`, as `messages[0].content`: without pydantic's tags."""
    path = ""
    for place, part in enumerate(loc[:end]):
        if isinstance(part, int):
            path += f"[{part}]"
        elif not _is_tag(loc, place):
            path += f".{part}" if path else part
    return path


def _is_tag(loc: Sequence[int | str], place: int) -> bool:
    """Whether a part of a location is pydantic's name for a union's member rather than a field."""
    part, before = loc[place], loc[place - 1] if place else None
    if not isinstance(part, str) or before is None:
        return False
    if isinstance(before, int):
        # A location ends with the field itself, unless what is there should have been a plain value.
        return part in _MEMBER_TAGS and (place < len(loc) - 1 or part in ("str", "int"))
    return not part.isidentifier() or (before in _UNION_FIELDS and part in _VALUE_TAGS)


def _shown(value: Any) -> str:  # noqa: ANN401 - whatever JSON held
    if isinstance(value, bool | int | float | str) and len(shown := repr(value)) <= _LONGEST_SHOWN:
        return f" (got {shown})"
    return ""
