"""The mapping of a request's fields, one by one: in its place, refused by its name, or told as dropped."""

from hashlib import sha256
from typing import Any

import pytest

from tests.unit.ai.providers.anthropic.requests import (
    NEW,
    OLD,
    PARAMETERS,
    USER,
    WEATHER,
    asks,
    body,
    call,
    refused,
    request,
    result,
    text,
)

CLOSED = {**PARAMETERS, "additionalProperties": False}

# --- what stays, and what goes elsewhere ---


def test_the_least_that_a_request_is() -> None:
    assert body(request()) == {
        "model": "claude-opus-5",
        "max_tokens": 64,
        "messages": [{"role": "user", "content": [text("Hello")]}],
    }


@pytest.mark.parametrize(
    ("fields", "row"),
    [
        ({"stop": "."}, {"stop_sequences": ["."]}),
        ({"stop": [".", "\nEnd"]}, {"stop_sequences": [".", "\nEnd"]}),
        ({"stop": []}, {}),
        ({"max_tokens": 9, "stream": True, "n": 1}, {}),
        ({"temperature": 1}, {}),
        ({"temperature": 1.0, "top_p": 1}, {}),
        ({"seed": 1, "presence_penalty": 1, "frequency_penalty": -1, "logit_bias": {"1": 2}}, {}),
        ({"prompt_cache_key": "p", "metadata": {"a": "b"}, "verbosity": "low"}, {}),
        ({"user": "u@example.org"}, {"metadata": {"user_id": sha256(b"u@example.org").hexdigest()}}),
        ({"safety_identifier": "s"}, {"metadata": {"user_id": sha256(b"s").hexdigest()}}),
        ({"safety_identifier": "s", "user": "u"}, {"metadata": {"user_id": sha256(b"s").hexdigest()}}),
        ({"response_format": {"type": "text"}}, {}),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "city", "schema": PARAMETERS}}},
            {"output_config": {"format": {"type": "json_schema", "schema": CLOSED}}},
        ),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "city", "description": "A city.", "strict": True, "schema": PARAMETERS},
                },
                "reasoning_effort": "low",
            },
            {
                "output_config": {
                    "effort": "low",
                    "format": {"type": "json_schema", "schema": {"description": "A city.", **CLOSED}},
                }
            },
        ),
    ],
)
def test_a_field_finds_its_place(fields: dict[str, Any], row: dict[str, Any]) -> None:
    assert body(request(**fields)) == body(request()) | row


def test_a_schemas_own_description_holds() -> None:
    schema = PARAMETERS | {"description": "Its own."}
    asked = {"type": "json_schema", "json_schema": {"name": "x", "description": "The other.", "schema": schema}}
    assert body(request(response_format=asked))["output_config"]["format"]["schema"] == CLOSED | {
        "description": "Its own."
    }


@pytest.mark.parametrize(
    ("model", "fields", "row"),
    [
        (OLD, {"temperature": 0}, {"temperature": 0}),
        (OLD, {"temperature": 0.7, "top_p": 1}, {"temperature": 0.7}),
        (OLD, {"top_p": 0.9, "temperature": 1}, {"top_p": 0.9}),
        ("claude-opus-4-6", {"temperature": 0.2}, {"temperature": 0.2}),
        ("qwen3", {"temperature": 1}, {"temperature": 1}),
    ],
)
def test_sampling_where_a_model_still_has_it(model: str, fields: dict[str, Any], row: dict[str, Any]) -> None:
    assert body(request(**fields), model) == body(request(), model) | row


@pytest.mark.parametrize(
    ("model", "effort", "row"),
    [
        ("claude-opus-4-5", "high", {"output_config": {"effort": "high"}}),
        ("claude-opus-4-6", "max", {"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}}),
        ("claude-opus-4-8", "low", {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}),
        ("claude-opus-5", "xhigh", {"output_config": {"effort": "xhigh"}}),
        (NEW, "medium", {"output_config": {"effort": "medium"}}),
        ("claude-haiku-4-5", "none", {}),
        ("claude-opus-4-8", "none", {}),
        ("claude-opus-5", "none", {"thinking": {"type": "disabled"}}),
        ("claude-haiku-5-5", "none", {"thinking": {"type": "disabled"}}),
        ("claude-sonnet-5-5", "none", {"thinking": {"type": "between_tools"}}),
        ("qwen3", "none", {"thinking": {"type": "disabled"}}),
    ],
)
def test_reasoning_effort(model: str, effort: str, row: dict[str, Any]) -> None:
    assert body(request(reasoning_effort=effort), model) == body(request(), model) | row


# --- what is refused ---


@pytest.mark.parametrize(
    ("model", "fields", "param"),
    [
        (OLD, {"temperature": 1.2}, "temperature"),
        (OLD, {"temperature": 0.2, "top_p": 0.9}, "top_p"),
        (NEW, {"temperature": 0}, "temperature"),
        (NEW, {"temperature": 2}, "temperature"),
        (NEW, {"top_p": 0.9}, "top_p"),
        ("our-claude-deployment", {"top_p": 0.9}, "top_p"),
        ("qwen3", {"temperature": 1.5}, "temperature"),
        ("claude-opus-4-6", {"temperature": 0.2, "reasoning_effort": "low"}, "temperature"),
        ("claude-haiku-4-5", {"reasoning_effort": "low"}, "reasoning_effort"),
        ("claude-opus-4-6", {"reasoning_effort": "xhigh"}, "reasoning_effort"),
        ("claude-opus-5", {"reasoning_effort": "minimal"}, "reasoning_effort"),
        (NEW, {"reasoning_effort": "none"}, "reasoning_effort"),
        ("claude-fable-5", {"reasoning_effort": "none"}, "reasoning_effort"),
        (NEW, {"stop": " \n"}, "stop"),
        (NEW, {"stop": [".", ""]}, "stop"),
        (NEW, {"tools": [WEATHER], "tool_choice": "required"}, "tool_choice"),
        (
            "claude-sonnet-5-5",
            {"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "weather"}}},
            "tool_choice",
        ),
        (NEW, {"tools": [{"type": "function", "function": {"name": "a.b"}}]}, "tools"),
        (
            NEW,
            {"tools": [{"type": "function", "function": {"name": "a", "parameters": {"anyOf": [{"type": "null"}]}}}]},
            "tools",
        ),
        (NEW, {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, "response_format"),
        (NEW, {"messages": [{"role": "system", "content": "Be brief."}]}, "messages"),
        (NEW, {"messages": [{"role": "user", "content": ""}]}, "messages"),
        (NEW, {"messages": [{"role": "user", "content": []}]}, "messages"),
        (NEW, {"messages": [{"role": "user", "content": [text(" "), text("\n")]}]}, "messages"),
        (NEW, {"messages": [USER, {"role": "assistant", "content": "Once upon"}]}, "messages"),
        (
            NEW,
            {"messages": [USER, {"role": "assistant", "content": "a"}, {"role": "system", "content": "b"}]},
            "messages",
        ),
        (NEW, {"messages": [USER, asks(call(arguments="[1]")), result()]}, "messages"),
        (NEW, {"messages": [USER, asks(call(arguments='{"a": NaN}')), result()]}, "messages"),
        (NEW, {"messages": [USER, asks(call(arguments='{"a": 1e999}')), result()]}, "messages"),
        (NEW, {"messages": [USER, asks(call(arguments='{"city":')), result()]}, "messages"),
        (NEW, {"messages": [USER, asks(call(name="a b")), result()]}, "messages"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_its_name(model: str, fields: dict[str, Any], param: str) -> None:
    assert refused(request(**fields), model) == param


# --- tools ---


@pytest.mark.parametrize(
    ("function", "row"),
    [
        ({"name": "f"}, {"name": "f", "input_schema": {"type": "object", "properties": {}}}),
        (
            {"name": "f", "description": "Does it.", "parameters": PARAMETERS, "strict": True},
            {"name": "f", "description": "Does it.", "input_schema": CLOSED, "strict": True},
        ),
        (
            {"name": "f", "parameters": {}, "strict": False},
            {"name": "f", "input_schema": {"type": "object", "properties": {}}},
        ),
        (
            {"name": "f", "parameters": {"properties": {"a": {}}}},
            {"name": "f", "input_schema": {"type": "object", "properties": {"a": {}}}},
        ),
    ],
)
def test_tools(function: dict[str, Any], row: dict[str, Any]) -> None:
    assert body(request(tools=[{"type": "function", "function": function}]))["tools"] == [row]


NAMED = {"type": "function", "function": {"name": "weather"}}


@pytest.mark.parametrize(
    ("choice", "parallel", "row"),
    [
        (None, None, None),
        (None, True, None),
        ("auto", None, None),
        (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
        ("auto", False, {"type": "auto", "disable_parallel_tool_use": True}),
        ("required", None, {"type": "any"}),
        ("required", False, {"type": "any", "disable_parallel_tool_use": True}),
        (NAMED, True, {"type": "tool", "name": "weather"}),
        (NAMED, False, {"type": "tool", "name": "weather", "disable_parallel_tool_use": True}),
        ("none", None, {"type": "none"}),
        ("none", False, {"type": "none"}),
    ],
)
def test_tool_choice(choice: object, parallel: bool | None, row: dict[str, Any] | None) -> None:
    fields = {"tool_choice": choice, "parallel_tool_calls": parallel}
    sent = body(request(tools=[WEATHER], **{name: value for name, value in fields.items() if value is not None}))
    assert sent.get("tool_choice") == row
    assert [tool["name"] for tool in sent["tools"]] == ["weather"]


def test_without_tools_there_is_nothing_to_choose() -> None:
    assert body(request(tool_choice="none", parallel_tool_calls=False)) == body(request())
