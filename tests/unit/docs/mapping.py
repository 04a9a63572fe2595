"""Requests with one field set, and what a provider does with it: the truth that docs/providers.md is held against."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from fusewire.ai.provider import AIProvider
from fusewire.ai.providers.anthropic import AnthropicProvider
from fusewire.ai.providers.aws_converse import converse_parameters
from fusewire.ai.providers.openai_compatible import OpenAICompatibleProvider
from fusewire.ai.registry import Registry
from fusewire.ai.vocabulary import ChatRequest
from fusewire.config import load_settings

CAP: Final = 321
MODELS: Final = {
    "azure": "our-deployment",
    "aws": "amazon.nova-2-lite-v1:0",
    "gcp": "gemini-3.8-flash",
    "openai": "gpt-5",
    "anthropic": "claude-sonnet-4-6",
    "ollama": "smollm2",
    "vllm": "our-model",
}
"""The model of a cell that names none."""

_FUNCTION: Final = {"name": "weather", "description": "Of a place", "parameters": {"type": "object", "properties": {}}}
_TOOLS: Final = [
    {"type": "function", "function": _FUNCTION},
    {"type": "function", "function": {"name": "clock", "parameters": {"type": "object", "properties": {}}}},
]
_ASKED: Final = {"role": "user", "content": "What is it like outside?"}
_CALL: Final = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"place":"Bonn"}'}}
_CALLED: Final = {"role": "assistant", "content": None, "tool_calls": [_CALL]}
_RESULT: Final = {"role": "tool", "tool_call_id": "call_1", "content": "sunny"}
_MARK: Final = {"cache_control": {"type": "ephemeral"}}
_SCHEMA: Final = {"type": "object", "properties": {"sky": {"type": "string"}}, "required": ["sky"]}
_PIXEL: Final = "data:image/png;base64,iVBORw0KGgo="


@dataclass(frozen=True)
class Field:
    """A row: the request that sets the field, the same without it, and the `param` or name that stands for it."""

    given: Mapping[str, Any]
    without: Mapping[str, Any]
    name: str


def _said(*messages: Mapping[str, Any]) -> dict[str, Any]:
    return {"messages": [*messages]}


def _field(name: str, value: object, beside: Mapping[str, Any] | None = None) -> Field:
    base = {**_said(_ASKED), **(beside or {})}
    return Field(base | {name: value}, base, name)


def _messages(name: str, given: Mapping[str, Any], without: Mapping[str, Any] | None = None) -> Field:
    return Field(given, without or _said(_ASKED), name)


def _image(**image: str) -> dict[str, Any]:
    return _said(
        {"role": "user", "content": [{"type": "text", "text": "?"}, {"type": "image_url", "image_url": image}]}
    )


_WITH_TOOLS: Final = {"tools": _TOOLS}
_CONVERSATION: Final = _said(_ASKED, _CALLED, _RESULT) | _WITH_TOOLS
_SIGNED: Final = {**_CALLED, "tool_calls": [{**_CALL, "extra_content": {"google": {"thought_signature": "sig"}}}]}

FIELDS: Final[Mapping[str, Field]] = {
    "max_tokens": _field("max_tokens", CAP),
    "max_completion_tokens": _field("max_completion_tokens", CAP),
    "messages.role: system": _messages("messages", _said({"role": "system", "content": "Be brief."}, _ASKED)),
    "messages.role: developer": _messages("messages", _said({"role": "developer", "content": "Be brief."}, _ASKED)),
    "messages.content": _messages(
        "messages",
        _said({"role": "user", "content": [{"type": "text", "text": "One"}, {"type": "text", "text": "two"}]}),
    ),
    "messages.content.image_url: data": _messages("messages", _image(url=_PIXEL)),
    "messages.content.image_url: https": _messages("messages", _image(url="https://example.com/sky.png")),
    "messages.content.image_url.detail": _messages(
        "messages.image_url.detail", _image(url=_PIXEL, detail="low"), _image(url=_PIXEL)
    ),
    "messages.name": _messages("messages.name", _said({**_ASKED, "name": "ann"})),
    "messages.refusal": _messages("messages", _said(_ASKED, {"role": "assistant", "refusal": "I won't."}, _ASKED)),
    "messages.tool_calls": _messages("messages", _CONVERSATION, _said(_ASKED) | _WITH_TOOLS),
    "messages.tool_call_id": _messages("messages", _CONVERSATION, _said(_ASKED) | _WITH_TOOLS),
    "messages.tool_calls.extra_content": _messages(
        "extra_content", _said(_ASKED, _SIGNED, _RESULT) | _WITH_TOOLS, _CONVERSATION
    ),
    "messages.reasoning_content": _messages(
        "reasoning_content",
        _said(_ASKED, {"role": "assistant", "content": "Fine.", "reasoning_content": "Hm."}, _ASKED),
        _said(_ASKED, {"role": "assistant", "content": "Fine."}, _ASKED),
    ),
    "cache_control": _messages(
        "cache_control",
        _said({"role": "user", "content": [{"type": "text", "text": "Long", **_MARK}]}),
        _said({"role": "user", "content": [{"type": "text", "text": "Long"}]}),
    ),
    "tools": _field("tools", _TOOLS),
    "tools.function.strict": Field(
        _said(_ASKED) | {"tools": [{"type": "function", "function": {**_FUNCTION, "strict": True}}]},
        _said(_ASKED) | {"tools": [{"type": "function", "function": _FUNCTION}]},
        "tools",
    ),
    "tool_choice: none": _field("tool_choice", "none", _WITH_TOOLS),
    "tool_choice: required": _field("tool_choice", "required", _WITH_TOOLS),
    "tool_choice: a function": _field(
        "tool_choice", {"type": "function", "function": {"name": "weather"}}, _WITH_TOOLS
    ),
    "parallel_tool_calls: false": _field("parallel_tool_calls", False, _WITH_TOOLS),
    "response_format: json_schema": _field(
        "response_format", {"type": "json_schema", "json_schema": {"name": "answer", "schema": _SCHEMA}}
    ),
    "response_format: json_object": _field("response_format", {"type": "json_object"}),
    "stop": _field("stop", ["END"]),
    "temperature": _field("temperature", 0.25),
    "top_p": _field("top_p", 0.75),
    "seed": _field("seed", 7),
    "presence_penalty": _field("presence_penalty", 0.5),
    "frequency_penalty": _field("frequency_penalty", 0.5),
    "logit_bias": _field("logit_bias", {"17": 1}),
    "logprobs": _field("logprobs", True),
    "top_logprobs": Field(
        _said(_ASKED) | {"logprobs": True, "top_logprobs": 2}, _said(_ASKED) | {"logprobs": True}, "logprobs"
    ),
    "n": _field("n", 2),
    "reasoning_effort": _field("reasoning_effort", "high"),
    "user": _field("user", "ann"),
    "safety_identifier": _field("safety_identifier", "ann"),
    "prompt_cache_key": _field("prompt_cache_key", "key"),
    "metadata": _field("metadata", {"team": "sky"}),
    "verbosity": _field("verbosity", "low"),
}


_SETTINGS: Final = {
    "AZURE_AI_API_VERSION": "2024-10-21",
    "OPENAI_BASE_URL": "http://server.invalid/v1",
    "ANTHROPIC_BASE_URL": "http://server.invalid",
}
"""What a cell may name that it holds under."""


@cache
def provider(name: str, setting: str | None = None) -> AIProvider:
    return Registry(load_settings({setting: _SETTINGS[setting]} if setting else {})).get(name)


def request(fields: Mapping[str, Any]) -> ChatRequest:
    return ChatRequest.model_validate_json(json.dumps({"model": "sota", **fields}))


def body(asked: AIProvider, fields: Mapping[str, Any], model: str) -> dict[str, Any]:
    """What would be sent."""
    if isinstance(asked, OpenAICompatibleProvider | AnthropicProvider):
        return asked.body(request(fields), model, CAP)
    assert asked.id == "aws", f"{asked.id} makes its bodies in a way that isn't known here"
    return converse_parameters(request(fields), model, CAP)


def verdict(asked: AIProvider, field: Field, model: str) -> str:
    """`mapped`, `refused` or `dropped`: by what is said of the field, and by what is sent."""
    said = asked.unsupported(request(field.given), model)
    if said:
        assert said == (field.name.partition(".")[0],), f"{asked.id} names {said}"
        return "refused"
    sent, without = (body(asked, fields, model) for fields in (field.given, field.without))
    if field.name in asked.dropped(request(field.given), model):
        assert sent == without, f"{asked.id} says that {field.name} was dropped, and sends something else"
        return "dropped"
    assert asked.dropped(request(field.given), model) == ()
    # The output cap is always sent.
    assert sent != without or field.name in ("max_tokens", "max_completion_tokens"), f"{asked.id}: {field.name}"
    return "mapped"


def names(value: object, path: str = "") -> Iterator[str]:
    """Every key of a body, by itself and as a path; every word among its values. Lists are passed through."""
    if isinstance(value, dict):
        for key, within in value.items():
            yield key
            yield f"{path}{key}"
            yield from names(within, f"{path}{key}.")
    elif isinstance(value, list):
        for within in value:
            yield from names(within, path)
    elif isinstance(value, str):
        yield value
        yield f"{path}{value}"
