"""A request for each row of the table of requests: with one field set, and the same without it."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from fusewire.ai.schema import ChatRequest, needs
from fusewire.ai.schema.capabilities import Structure

CAP: Final = 321
_FUNCTION: Final = {"name": "weather", "description": "Of a place", "parameters": {"type": "object", "properties": {}}}
_CLOSED: Final = {
    **_FUNCTION, "parameters": {"type": "object", "properties": {}, "additionalProperties": False}
}  # fmt: skip
_TOOLS: Final = [
    {"type": "function", "function": _FUNCTION},
    {"type": "function", "function": {"name": "clock", "parameters": {"type": "object", "properties": {}}}},
]
_QUESTION: Final = {"role": "user", "content": "What is it like outside?"}
_CALL: Final = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
_CALLING: Final = {"role": "assistant", "content": None, "tool_calls": [_CALL]}
_RESULT: Final = {"role": "tool", "tool_call_id": "call_1", "content": "sunny"}
_MARK: Final = {"cache_control": {"type": "ephemeral"}}
_BREAKPOINT: Final = {"prompt_cache_breakpoint": {"mode": "explicit"}}
_SCHEMA: Final = {"type": "object", "properties": {"sky": {"type": "string"}}, "required": ["sky"]}
_THOUGHT: Final = {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"}
_PDF: Final = "data:application/pdf;base64,JVBERi0xLjQKL1R5cGUvUGFnZSA="
"""One page, as far as anybody counts."""
_PIXEL: Final = "data:image/png;base64,iVBORw0KGgo="
_SIGNED: Final = {**_CALLING, "tool_calls": [{**_CALL, "extra_content": {"google": {"thought_signature": "sig"}}}]}

_VALUES: Final = (True, False, 0.25, 2, "low", "END", {"team": "sky"}, {"17": 1})
"""A field without an example of its own gets the first of these that it takes and that isn't neutral."""


@dataclass(frozen=True)
class Example:
    """A row: its label, the request's fields, and those without what the row is about."""

    label: str
    fields: Mapping[str, Any]
    without: Mapping[str, Any]
    note: str = ""
    """What stands behind the label in the table."""
    always_sent: bool = False
    """Whether an upstream request has it though the caller doesn't set it."""

    def request(self) -> ChatRequest:
        return request(self.fields)


def request(fields: Mapping[str, Any]) -> ChatRequest:
    return ChatRequest.model_validate_json(json.dumps({"model": "sota", **fields}))


def examples() -> list[Example]:
    """A row for whatever a request may hold, those of the messages first."""
    return [*_WITHIN_MESSAGES, *(example for name in ChatRequest.model_fields for example in _of_field(name))]


def _of_field(name: str) -> Iterator[Example]:
    [mark] = [rule.mark for rule in ChatRequest.capability_rules if rule.name == name]
    if name in _OF_FIELDS:
        yield from _OF_FIELDS[name]
    elif not isinstance(mark, Structure):
        yield next(_tried(name))


def _tried(name: str) -> Iterator[Example]:
    for value in _VALUES:
        example = _field(name, value)
        try:
            asks = any(True for _ in needs(example.request()))
        except ValidationError:
            continue
        if asks:
            yield example
    raise LookupError(f"{name} takes none of the usual values: give it an example in {__name__}")


def _messages(*messages: Mapping[str, Any]) -> dict[str, Any]:
    return {"messages": [*messages]}


def _field(name: str, value: object, beside: Mapping[str, Any] | None = None, label: str | None = None) -> Example:
    without = {**_messages(_QUESTION), **(beside or {})}
    return Example(label or name, without | {name: value}, without)


def _within(
    label: str, fields: Mapping[str, Any], without: Mapping[str, Any] | None = None, *, note: str = ""
) -> Example:
    return Example(label, fields, without or _messages(_QUESTION), note)


def _image(**image: str) -> dict[str, Any]:
    return _messages(
        {"role": "user", "content": [{"type": "text", "text": "?"}, {"type": "image_url", "image_url": image}]}
    )


_WITH_TOOLS: Final = {"tools": _TOOLS}
_CONVERSATION: Final = _messages(_QUESTION, _CALLING, _RESULT) | _WITH_TOOLS

_WITHIN_MESSAGES: Final = (
    Example(
        "max_completion_tokens",
        {**_messages(_QUESTION), "max_completion_tokens": CAP},
        _messages(_QUESTION),
        note=", or `max_tokens`, or else the largest that it can have",
        always_sent=True,
    ),
    _within("messages.role: system", _messages({"role": "system", "content": "Be brief."}, _QUESTION)),
    _within("messages.role: developer", _messages({"role": "developer", "content": "Be brief."}, _QUESTION)),
    _within(
        "messages.content",
        _messages({"role": "user", "content": [{"type": "text", "text": "One"}, {"type": "text", "text": "two"}]}),
        note=" in parts",
    ),
    _within("messages.content.image_url: data", _image(url=_PIXEL)),
    _within(
        "messages.content.image_url: https",
        _image(url="https://example.com/sky.png"),
        note=" ([rule](#images-by-address))",
    ),
    _within("messages.content.image_url.detail", _image(url=_PIXEL, detail="low"), _image(url=_PIXEL)),
    _within("messages.name", _messages({**_QUESTION, "name": "ann"})),
    _within(
        "messages.refusal",
        _messages(_QUESTION, {"role": "assistant", "refusal": "I won't."}, _QUESTION),
        note=", and parts of that type",
    ),
    _within(
        "messages.tool_calls",
        _messages(_QUESTION, _CALLING, _QUESTION) | _WITH_TOOLS,
        _messages(_QUESTION, _QUESTION) | _WITH_TOOLS,
    ),
    _within(
        "messages.tool_call_id",
        _CONVERSATION,
        _messages(_QUESTION, _CALLING, _QUESTION) | _WITH_TOOLS,
        note=": results, in order",
    ),
    _within("messages.tool_calls.extra_content", _messages(_QUESTION, _SIGNED, _RESULT) | _WITH_TOOLS, _CONVERSATION),
    _within(
        "messages.reasoning_content",
        _messages(_QUESTION, {"role": "assistant", "content": "Fine.", "reasoning_content": "Hm."}, _QUESTION),
        _messages(_QUESTION, {"role": "assistant", "content": "Fine."}, _QUESTION),
    ),
    _within(
        "messages.thinking_blocks",
        _messages(_QUESTION, {"role": "assistant", "content": "Fine.", "thinking_blocks": [_THOUGHT]}, _QUESTION),
        _messages(_QUESTION, {"role": "assistant", "content": "Fine."}, _QUESTION),
    ),
    _within(
        "messages.content.file",
        _messages(
            {"role": "user", "content": [{"type": "text", "text": "?"}, {"type": "file", "file": {"file_data": _PDF}}]}
        ),
        note=": a PDF",
    ),
    _within(
        "cache_control",
        _messages({"role": "user", "content": [{"type": "text", "text": "Long", **_MARK}]}),
        _messages({"role": "user", "content": [{"type": "text", "text": "Long"}]}),
        note=" of a part or a tool, with its ttl",
    ),
    _within(
        "prompt_cache_breakpoint",
        _messages({"role": "user", "content": [{"type": "text", "text": "Long", **_BREAKPOINT}]}),
        _messages({"role": "user", "content": [{"type": "text", "text": "Long"}]}),
        note=" of a part",
    ),
)

_OF_FIELDS: Final[Mapping[str, tuple[Example, ...]]] = {
    "logprobs": (_field("logprobs", True), _field("top_logprobs", 2, {"logprobs": True})),
    "top_logprobs": (),  # beside the one that it needs
    "store": (),  # true is refused by all, and false asks for nothing
    "prompt_cache_retention": (_field("prompt_cache_retention", "24h"),),
    "prompt_cache_options": (_field("prompt_cache_options", {"ttl": "30m"}),),
    "prediction": (_field("prediction", {"type": "content", "content": "sky"}),),
    "web_search_options": (_field("web_search_options", {"search_context_size": "low"}),),
    "tools": (
        _field("tools", _TOOLS),
        Example(
            "tools.function.strict",
            _messages(_QUESTION) | {"tools": [{"type": "function", "function": {**_CLOSED, "strict": True}}]},
            _messages(_QUESTION) | {"tools": [{"type": "function", "function": _CLOSED}]},
        ),
    ),
    "tool_choice": (
        _field("tool_choice", "none", _WITH_TOOLS, "tool_choice: none"),
        _field("tool_choice", "required", _WITH_TOOLS, "tool_choice: required"),
        _field(
            "tool_choice",
            {"type": "function", "function": {"name": "weather"}},
            _WITH_TOOLS,
            "tool_choice: a function",
        ),
    ),
    "parallel_tool_calls": (_field("parallel_tool_calls", False, _WITH_TOOLS, "parallel_tool_calls: false"),),
    "response_format": (
        _field(
            "response_format",
            {"type": "json_schema", "json_schema": {"name": "answer", "schema": _SCHEMA}},
            label="response_format: json_schema",
        ),
        _field("response_format", {"type": "json_object"}, label="response_format: json_object"),
    ),
    "reasoning_effort": (_field("reasoning_effort", "high"),),
    "thinking": (_field("thinking", {"type": "adaptive", "display": "omitted"}),),
    "service_tier": (
        _field("service_tier", "flex", label="service_tier: flex"),
        _field("service_tier", "priority", label="service_tier: priority"),
    ),
}
