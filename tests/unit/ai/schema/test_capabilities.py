"""What a request asks of a provider, and what one may be sent: derived from the marks in the schema."""

import json
from typing import Annotated

import pytest

from fusewire.ai.schema import CAPABILITIES, ChatRequest, EmbeddingRequest, features, hints, selection
from fusewire.ai.schema.base import RequestModel
from fusewire.ai.schema.capabilities import SENT, Hint, Meaning


def request(**fields: object) -> ChatRequest:
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}], **fields}
    return ChatRequest.model_validate_json(json.dumps(body))


TOOL = {"type": "function", "function": {"name": "f"}}
STRICT = {"type": "function", "function": {"name": "f", "strict": True}}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
HISTORY = [
    {"role": "assistant", "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "c", "content": "x"},
]
IMAGE = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,x"}}]}]


@pytest.mark.parametrize(
    ("fields", "asked"),
    [
        ({}, {}),
        ({"n": 1, "stop": [], "logprobs": False, "parallel_tool_calls": True}, {}),
        ({"temperature": 1, "top_p": 1.0, "stop": "", "tool_choice": None, "reasoning_effort": None}, {}),
        ({"temperature": 0}, {"temperature": "temperature"}),
        ({"tools": [TOOL]}, {"tools": "tools"}),
        ({"tools": [TOOL], "tool_choice": "auto"}, {"tools": "tools"}),
        ({"tools": [TOOL], "tool_choice": "none"}, {"tools": "tools", "tool_choice_none": "tool_choice"}),
        ({"tool_choice": "none"}, {}),
        ({"tools": [TOOL], "tool_choice": "required"}, {"tools": "tools", "tool_choice_required": "tool_choice"}),
        (
            {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "f"}}},
            {"tools": "tools", "tool_choice_named": "tool_choice"},
        ),
        ({"parallel_tool_calls": False, "tools": [TOOL]}, {"tools": "tools"}),
        ({"messages": IMAGE}, {"images": "messages"}),
        ({"response_format": {"type": "text"}}, {}),
        ({"response_format": {"type": "json_object"}}, {"json_object": "response_format"}),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "n"}}},
            {"json_schema": "response_format"},
        ),
        ({"n": 2}, {"n": "n"}),
        ({"stop": "."}, {"stop": "stop"}),
        ({"logprobs": True}, {"logprobs": "logprobs"}),
        ({"logprobs": True, "top_logprobs": 2}, {"logprobs": "logprobs"}),
        ({"reasoning_effort": "low"}, {"reasoning_effort": "reasoning_effort"}),
        ({"messages": HISTORY}, {"tools": "messages"}),
        ({"messages": HISTORY, "tools": [TOOL]}, {"tools": "tools"}),
        ({"tools": [STRICT]}, {"tools": "tools", "strict_tools": "tools"}),
    ],
)
def test_the_features_that_change_the_meaning(fields: dict[str, object], asked: dict[str, str]) -> None:
    assert dict(features(request(**fields))) == asked


MARK = {"cache_control": {"type": "ephemeral"}}


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({}, set()),
        ({"user": "", "metadata": {}, "presence_penalty": 0, "verbosity": "medium", "logit_bias": {}}, set()),
        ({"user": "u", "seed": 0}, {"user", "seed"}),
        ({"tools": [{**TOOL, **MARK}]}, {"cache_control"}),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "x", **MARK}]}]}, {"cache_control"}),
        ({"messages": [{"role": "user", "content": "x", "name": "ann"}]}, {"messages.name"}),
        ({"messages": [{"role": "assistant", "reasoning_content": "hm"}]}, {"reasoning_content"}),
        ({"messages": [{"role": "assistant", "tool_calls": [{**CALL, "extra_content": {"a": 1}}]}]}, {"extra_content"}),
        ({"messages": [{"role": "assistant", "tool_calls": [{**CALL, "extra_content": {}}]}]}, set()),
    ],
)
def test_hints(fields: dict[str, object], names: set[str]) -> None:
    assert hints(request(**fields)) == names


@pytest.mark.parametrize(
    ("given", "needed"),
    [
        ("text", {}),
        (["text"], {}),
        ([1, 2], {"token_ids": "input"}),
        ([[1], [2]], {"token_ids": "input"}),
    ],
)
def test_token_ids_are_a_feature_of_embeddings(given: object, needed: dict[str, str]) -> None:
    body = json.dumps({"model": "m", "input": given, "encoding_format": "float"})
    assert features(EmbeddingRequest.model_validate_json(body)) == needed


def test_an_optional_field_without_a_mark_stops_the_import() -> None:
    with pytest.raises(TypeError, match=r"Forgetful\.top_k must be marked once"):

        class Forgetful(RequestModel):
            top_k: int | None = None


def test_and_so_does_one_with_two_marks() -> None:
    with pytest.raises(TypeError, match=r"Doubtful\.top_k must be marked once"):

        class Doubtful(RequestModel):
            top_k: Annotated[int | None, Meaning(), Hint()] = None


def test_a_selection_holds_what_is_declared_and_the_structure() -> None:
    class Inner(RequestModel):
        text: str
        mark: Annotated[str | None, Hint()] = None

    class Outer(RequestModel):
        inner: list[Inner]
        note: Annotated[str | None, SENT] = None
        top_k: Annotated[int | None, Meaning()] = None

    assert selection((Outer,), frozenset()) == {"inner": {"__all__": {"text": True}}, "note": True}
    assert selection((Outer,), frozenset({"mark", "top_k"})) == {
        "inner": {"__all__": {"text": True, "mark": True}},
        "note": True,
        "top_k": True,
    }


def test_the_capabilities_are_those_of_both_requests() -> None:
    assert {"tools", "tool_choice_named", "messages.name", "cache_control", "dimensions"} <= CAPABILITIES
