"""Requests to map to Anthropic's words, and the two ways that ends: a body that is taken, or a refusal by name."""

import json
from typing import Any

import pytest

from fusewire.ai.failures import UnsupportedField
from fusewire.ai.providers.anthropic.request import message_body
from fusewire.ai.schema import ChatRequest
from tests.support.anthropic_rules import complaint

OLD, NEW = "claude-haiku-4-5", "claude-opus-5-5"
NEW_VERSION, OLD_VERSION = "2026-10-21", "2023-06-01"
USER = {"role": "user", "content": "Hello"}
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": PARAMETERS}}
PNG = "data:image/png;base64,iVBORw0KGgo="


def request(**fields: object) -> ChatRequest:
    body: dict[str, Any] = {"model": "sota", "messages": [USER], **fields}
    return ChatRequest.model_validate_json(json.dumps(body))


def body(asked: ChatRequest, model: str = "claude-opus-5", *, remote_images: bool = True) -> dict[str, Any]:
    actual = message_body(asked, model, 64, remote_images=remote_images)
    version = OLD_VERSION if {"temperature", "top_p"} & actual.keys() else NEW_VERSION
    assert complaint(actual, version) is None
    return actual


def refused(asked: ChatRequest, model: str = "claude-opus-5", *, remote_images: bool = True) -> str:
    with pytest.raises(UnsupportedField) as caught:
        message_body(asked, model, 64, remote_images=remote_images)
    assert caught.value.message
    return caught.value.param


def text(words: str, **more: object) -> dict[str, Any]:
    return {"type": "text", "text": words, **more}


def call(call_id: str = "call_1", name: str = "weather", arguments: str = '{"city":"Paris"}') -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def result(call_id: str = "call_1", content: object = "sunny") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def asks(*calls: dict[str, Any], content: object = None) -> dict[str, Any]:
    return {"role": "assistant", "content": content, "tool_calls": list(calls)}
