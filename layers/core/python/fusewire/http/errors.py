"""The error tree as HTTP: OpenAI's body, so that its SDKs raise their own typed exceptions, and the headers.

Anthropic's body is made in `fusewire.http.messages.errors`; nothing else makes any.
"""

from collections.abc import Sequence, Set
from typing import Any, Final, NotRequired

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from typing_extensions import TypedDict

from fusewire.ai.schema.capabilities import UNSUPPORTED
from fusewire.errors import (
    AllProvidersFailedError,
    BudgetExceededError,
    FusewireError,
    InvalidRequestError,
    UnsupportedParameterError,
)
from fusewire.http.headers import error_headers

_BUDGET_WORDS: Final = ' Don\'t retry: insufficient credits ("code":402).'
"""aider tries a 402 again for a minute, unless its message has `insufficient credits` and `"code":402`, as OpenRouter's
has. No field and no header decides it. Source: Aider-AI/aider, `aider/exceptions.py`, `get_ex_info`."""
_MAX_PARAM: Final = 120
_MAX_SHOWN: Final = 60

# How pydantic names the members of our unions in an error's location.
_MEMBER_TAGS: Final = {
    "system", "developer", "user", "assistant", "tool", "text", "image_url", "file", "refusal", "str", "int",
    "image", "tool_use", "tool_result", "thinking", "redacted_thinking",
    "message", "function_call", "function_call_output", "reasoning", "input_text", "input_image", "output_text",
    "custom_tool_call", "custom_tool_call_output", "additional_tools", "tool_search_call", "tool_search_output",
    "item_reference", "compaction", "compaction_trigger", "input_file",
}  # fmt: skip
_RESPONSES_TAGS: Final = _MEMBER_TAGS | {"function", "custom", "namespace", "tool_search"}
"""Those of Responses' tools too. Chat completions' tools have a field that is called `function`."""
_MESSAGES_TAGS: Final = _MEMBER_TAGS | {
    "custom", "client", "server", "unknown", "other", "document", "search_result", "tool_reference", "tool_addition",
    "tool_removal",
}  # fmt: skip
_TAGS: Final = {
    "ResponsesRequest": _RESPONSES_TAGS,
    "MessagesRequest": _MESSAGES_TAGS,
    "PromptRequest": _MESSAGES_TAGS,
}
"""By the model of the body."""
_UNION_FIELDS: Final = {
    "content", "stop", "input", "response_format", "tool_choice", "system", "source", "output", "format",
}  # fmt: skip
_VALUE_TAGS: Final = {
    "str", "int", "none", "text", "json_object", "json_schema", "NamedToolChoice", "base64", "url", "grammar",
}  # fmt: skip


class FailedProvider(TypedDict):
    """How one provider's attempt ended."""

    provider: str
    model: str
    kind: str
    message: str


class ErrorDetail(TypedDict):
    """What happened, and what to do next."""

    message: str
    type: str
    code: str | None
    param: str | None
    budget: NotRequired[str]
    """Which budget refused: `global`, a key's or a node's id, `user`, or `above` where the caller may not know."""
    resets_at: NotRequired[str | int]
    """ISO 8601; for Codex seconds since 1970."""
    providers: NotRequired[list[FailedProvider]]


class Error(TypedDict):
    """OpenAI's body of an error."""

    error: ErrorDetail


def openai_error(message: str, *, type: str, code: str, param: str | None = None) -> Error:
    """OpenAI's body of an error, wherever one is made."""
    return {"error": {"message": message, "type": type, "code": code, "param": param}}


def in_both_formats(body: Error) -> dict[str, object]:
    """An error's body of OpenAI's that is Anthropic's too, for where nobody knows yet which client it is."""
    return {"type": "error", **body}


def error_body(error: FusewireError) -> Error:
    """`{"error": {...}}`, with which budget refused, or how each provider failed."""
    body = openai_error(error.message, type=error.type, code=error.code, param=error.param)
    if isinstance(error, BudgetExceededError):
        body["error"]["budget"] = error.budget
        if error.resets_at is not None:
            body["error"]["resets_at"] = error.resets_at.isoformat()
    elif isinstance(error, AllProvidersFailedError):
        body["error"]["providers"] = [
            {"provider": o.provider, "model": o.model, "kind": o.kind, "message": o.message} for o in error.outcomes
        ]
    return body


def render_error(error: FusewireError, request_id: str) -> tuple[Error, dict[str, str]]:
    """The body and the headers of an error, for routes in OpenAI's format."""
    body = error_body(error)
    if isinstance(error, BudgetExceededError):
        body["error"]["message"] += _BUDGET_WORDS
    return body, error_headers(error)


def from_validation(error: ValidationError) -> InvalidRequestError:
    """A refused body's most telling problem: the field as the caller knows it, what is wrong, what is allowed."""
    problems = error.errors(include_url=False)
    # A union reports every member's complaint: the one about an unknown field or a list that is too long, or else the
    # deepest, is the telling one; and of two, the one about a value that had the right type.
    problem = max(
        problems,
        key=lambda p: (
            p["type"] in ("extra_forbidden", "too_long", UNSUPPORTED),
            len(p["loc"]),
            not p["type"].endswith("_type"),
        ),
    )
    param = _param(problem, _TAGS.get(error.title, _MEMBER_TAGS))
    if problem["type"] == UNSUPPORTED:
        return UnsupportedParameterError(f"{param}: {problem['msg']}.", param=param)
    if problem["type"] == "json_invalid":
        return InvalidRequestError(f"The body isn't valid JSON: {problem['msg'].removeprefix('Invalid JSON: ')}.")
    if problem["type"] == "extra_forbidden" and _TAGS.get(error.title) is _MESSAGES_TAGS:
        # Anthropic's words: its clients leave a beta's field out when they read them.
        return InvalidRequestError(f"{param}: Extra inputs are not permitted.", param=param)
    if problem["type"] == "extra_forbidden":
        return InvalidRequestError(f"Unknown field {param}. Leave it out, or check its spelling.", param=param)
    if problem["type"] in ("missing", "union_tag_not_found"):
        return InvalidRequestError(f"The field {param} is missing.", param=param)
    if problem["type"] == "union_tag_invalid":
        allowed = problem["ctx"]["expected_tags"]
        return InvalidRequestError(f"{param} must be one of {allowed}{_shown(problem['ctx']['tag'])}.", param=param)
    what = problem["msg"].removeprefix("Value error, ")
    shown = _shown(problem["input"])
    message = f"{param}: {what}{shown}." if param else f"{what}."
    return InvalidRequestError(message, param=param or None)


def _param(problem: ErrorDetails, tags: Set[str]) -> str:
    loc = problem["loc"]
    if problem["type"] == "extra_forbidden":
        # The caller made up the last part, so it is no tag of ours, and as long as it likes.
        path, name = _path(loc, len(loc) - 1, tags), str(loc[-1])
    elif problem["type"].startswith("union_tag_"):
        path, name = _path(loc, len(loc), tags), problem["ctx"]["discriminator"].strip("'")
    else:
        path, name = _path(loc, len(loc), tags), ""
    return (f"{path}.{name}" if path and name else path or name)[:_MAX_PARAM]


def _path(loc: Sequence[int | str], end: int, tags: Set[str]) -> str:
    """`('messages', 0, 'user', 'content', 'str')`, up to `end`, as `messages[0].content`: without pydantic's tags."""
    path = ""
    for place, part in enumerate(loc[:end]):
        if isinstance(part, int):
            path += f"[{part}]"
        elif not _is_tag(loc, place, tags):
            path += f".{part}" if path else part
    return path


def _is_tag(loc: Sequence[int | str], place: int, tags: Set[str]) -> bool:
    """Whether a part of a location is pydantic's name for a union's member rather than a field."""
    part, before = loc[place], loc[place - 1] if place else None
    if not isinstance(part, str) or before is None:
        return False
    if isinstance(before, int):
        # A location ends with the field itself, unless what is there should have been a plain value.
        return part in tags and (place < len(loc) - 1 or part in ("str", "int"))
    return not part.isidentifier() or (before in _UNION_FIELDS and part in _VALUE_TAGS)


def _shown(value: Any) -> str:  # noqa: ANN401 - whatever JSON held
    if isinstance(value, bool | int | float | str) and len(shown := repr(value)) <= _MAX_SHOWN:
        return f" (got {shown})"
    return ""
