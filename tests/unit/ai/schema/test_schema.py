"""The vocabulary: everything of OpenAI's is accepted or refused by name; nothing crashes, nothing is silent."""

import json
import math
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import chat as openai_chat
from openai.types import embedding_create_params
from openai.types.chat import completion_create_params
from pydantic import BaseModel, ValidationError

from fusewire.ai.bounds import chat_input_bound
from fusewire.ai.schema import (
    AssistantMessage,
    ChatRequest,
    ChatResponse,
    EmbeddingRequest,
    EmbeddingResponse,
    ImagePart,
    StreamChunk,
    SystemMessage,
    TextPart,
    Tool,
    ToolMessage,
    Usage,
    UserMessage,
)
from fusewire.errors import InvalidRequestError, UnsupportedParameterError
from fusewire.http.errors import from_validation

FUNCTION = {"type": "function", "function": {"name": "look_up"}}


def body(**fields: object) -> dict[str, Any]:
    return {"model": "sota", "messages": [{"role": "user", "content": "x"}], **fields}


def chat(text: str) -> ChatRequest:
    return ChatRequest.model_validate_json(text)


def refusal(text: str, model: type[ChatRequest] | type[EmbeddingRequest] = ChatRequest) -> InvalidRequestError:
    """The error that a caller gets for this body."""
    with pytest.raises(ValidationError) as caught:
        model.model_validate_json(text)
    error = from_validation(caught.value)
    assert error.status == 400
    return error


SDK_CHAT_FIELDS = sorted({*completion_create_params.CompletionCreateParamsBase.__annotations__, "stream"})


@pytest.mark.parametrize("field", SDK_CHAT_FIELDS)
def test_every_chat_field_of_openais_sdk_is_accepted_or_refused_as_unsupported(field: str) -> None:
    if field in ChatRequest.model_fields:
        return
    error = refusal(json.dumps(body(**{field: {}})))
    assert isinstance(error, UnsupportedParameterError)
    assert (error.param, error.code) == (field, "unsupported_parameter")


def test_every_embedding_field_of_openais_sdk_is_accepted() -> None:
    assert set(embedding_create_params.EmbeddingCreateParams.__annotations__) == set(EmbeddingRequest.model_fields)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (openai_chat.ChatCompletionSystemMessageParam, SystemMessage),
        (openai_chat.ChatCompletionDeveloperMessageParam, SystemMessage),
        (openai_chat.ChatCompletionUserMessageParam, UserMessage),
        (openai_chat.ChatCompletionAssistantMessageParam, AssistantMessage),
        (openai_chat.ChatCompletionToolMessageParam, ToolMessage),
        (openai_chat.ChatCompletionFunctionToolParam, Tool),
    ],
)
def test_a_message_has_every_field_of_openais_sdk(theirs: type, ours: type[BaseModel]) -> None:
    assert set(theirs.__annotations__) <= set(ours.model_fields)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (openai_chat.ChatCompletionContentPartTextParam, TextPart),
        (openai_chat.ChatCompletionContentPartImageParam, ImagePart),
    ],
)
def test_a_content_parts_field_of_openais_sdk_is_accepted_or_unsupported(theirs: type, ours: type[BaseModel]) -> None:
    for field in set(theirs.__annotations__) - set(ours.model_fields):
        parts = [{"type": "text", "text": "x", field: {}}]
        error = refusal(json.dumps(body(messages=[{"role": "user", "content": parts}])))
        assert isinstance(error, UnsupportedParameterError)
        assert error.param == f"messages[0].content[0].{field}"


def test_an_answer_of_openais_sdk_can_be_sent_back_as_a_message() -> None:
    message = openai_chat.ChatCompletionMessage(role="assistant", content="Paris.")
    chat(json.dumps(body(messages=[message.model_dump(), {"role": "user", "content": "Why?"}])))


NOT_NUMBERS = ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"]


@pytest.mark.parametrize("number", NOT_NUMBERS)
@pytest.mark.parametrize(
    ("template", "param"),
    [
        ('"tools": [{"type": "function", "function": {"name": "f", "parameters": {"a": [{"b": %s}]}}}]', "tools[0]."),
        ('"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"a": %s}}}', "response_f"),
        ('"temperature": %s', "temperature"),
        ('"logit_bias": {"1": %s}', "logit_bias"),
        ('"presence_penalty": %s', "presence_penalty"),
    ],
)
def test_numbers_that_json_lacks_are_the_callers_mistake(template: str, param: str, number: str) -> None:
    text = json.dumps(body())[:-1] + ", " + template % number + "}"
    error = refusal(text)
    assert error.param is not None
    assert error.param.startswith(param)


def test_a_schema_keeps_its_nulls() -> None:
    schema = {"default": None, "enum": [None, 1], "properties": {"a": {"const": None}}}
    tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
    request = chat(json.dumps(body(tools=[tool])))
    dumped = request.model_dump(mode="json", exclude_none=True, exclude_unset=True)
    assert dumped["tools"] == [tool]


def test_a_json_schema_goes_by_its_own_name() -> None:
    result = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True}}
    request = chat(json.dumps(body(response_format=result)))
    assert request.model_dump(mode="json", exclude_none=True)["response_format"] == result


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": 3}, "model"),
        ({"model": ""}, "model"),
        ({"model": "x" * 300}, "model"),
        ({"model": "ollama/\x00"}, "model"),
        ({"model": "a\nx-evil: 1"}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": "x"}, "messages"),
        ({"messages": ["x"]}, "messages[0]"),
        ({"messages": [{"content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 3}]}, "messages[0].content"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": "x", "x-y": 1}]}, "messages[0].x-y"),
        ({"messages": [{"role": "user", "content": "x", "user": 1}]}, "messages[0].user"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": 3}]}]}, "messages[0].content[0].text"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "messages[0].content[0].type"),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "u", "detail": 1}}]}
                ]
            },
            "messages[0].content[0].image_url.detail",
        ),
        ({"messages": [{"role": "system", "content": [{"type": "image_url"}]}]}, "messages[0].content[0].type"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "n"}}]}]},
            "messages[0].tool_calls[0].function.arguments",
        ),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": "12"}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_tokens": 10**4000}, "max_tokens"),
        ({"max_completion_tokens": -1}, "max_completion_tokens"),
        ({"n": 0}, "n"),
        ({"n": 129}, "n"),
        ({"seed": 2**63}, "seed"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": "0.5"}, "temperature"),
        ({"stream": "yes"}, "stream"),
        ({"stream": 1}, "stream"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"stop": [3]}, "stop[0]"),
        ({"logit_bias": {"1": 200}}, "logit_bias"),
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
        ({"tools": [{"type": "custom", "custom": {}}]}, "tools[0].custom"),
        ({"tools": [FUNCTION], "tool_choice": "any"}, "tool_choice"),
        ({"tools": [FUNCTION], "tool_choice": {"type": "allowed_tools"}}, "tool_choice.type"),
        ({"tools": [FUNCTION], "tool_choice": {"type": "function", "function": {"z": 1}}}, "tool_choice.function.z"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format.json_schema.name"),
        ({"reasoning_effort": "extreme"}, "reasoning_effort"),
        ({"frobnicate": 1}, "frobnicate"),
        ({"x-y": 1}, "x-y"),
    ],
)
def test_a_wrong_field_is_named_as_the_caller_knows_it(fields: dict[str, object], param: str) -> None:
    error = refusal(json.dumps(body(**fields)))
    assert error.param == param
    assert param in error.message


@pytest.mark.parametrize(
    ("fields", "row"),
    [
        ({"stop": ["a"] * 5}, "at most 4"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "must be one of 'system', 'developer', 'user'"),
        ({"messages": [{"content": "x"}]}, "messages[0].role is missing"),
        ({"tool_choice": "required"}, "tool_choice needs tools"),
        ({"max_tokens": 1, "max_completion_tokens": 2}, "max_tokens and max_completion_tokens differ"),
        ({"functions": [{"name": "f"}], "tools": [FUNCTION]}, "functions is the old form of tools"),
        ({"top_logprobs": 2}, "top_logprobs needs logprobs"),
        ({"n": 0}, "(got 0)"),
    ],
)
def test_the_message_says_what_is_allowed(fields: dict[str, object], row: str) -> None:
    assert row in refusal(json.dumps(body(**fields))).message


@pytest.mark.parametrize("text", ["", "{", "[]", '"x"', "null", "{'a': 1}", '{"model": "\\ud800"}', "9" * 5000])
def test_what_is_no_object_is_refused_without_a_param(text: str) -> None:
    assert refusal(text).param is None


def test_nesting_without_end_is_refused() -> None:
    deep = '{"a":' * 5000 + "1" + "}" * 5000
    assert "JSON" in refusal(json.dumps(body())[:-1] + f', "metadata": {deep}}}').message


@pytest.mark.parametrize("field", ["z" * 100_000, "metadata"])
def test_an_error_never_quotes_more_than_a_line(field: str) -> None:
    error = refusal(json.dumps(body(**{field: {"k" * 100_000: 1}})))
    assert len(error.message) < 400
    assert error.param is not None
    assert len(error.param) < 200


def test_absent_and_null_mean_the_same() -> None:
    nulls = {name: None for name in ChatRequest.model_fields if name not in ("model", "messages")}
    assert chat(json.dumps(body(**nulls))).model_dump() == chat(json.dumps(body())).model_dump()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
field_names = st.sampled_from(SDK_CHAT_FIELDS) | st.text(max_size=12)


@given(fields=st.dictionaries(field_names, json_values, max_size=3))
def test_any_body_is_either_good_or_a_400_that_can_be_told(fields: dict[str, Any]) -> None:
    try:
        request = chat(json.dumps(body(**fields)))
    except ValidationError as error:
        assert from_validation(error).message
        return
    assert chat_input_bound(request) > 0
    json.dumps(request.model_dump(mode="json"), allow_nan=False)


# --- answers -----------------------------------------------------------------------------------------------------


def answer(**fields: object) -> str:
    choice = {"index": 0, "message": {"role": "assistant", "content": "Paris"}, "finish_reason": "stop"}
    return json.dumps(
        {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], **fields}
    )


def test_a_vendors_extras_are_left_out_of_the_answer() -> None:
    response = ChatResponse.model_validate_json(answer(provider="x", prompt_filter_results=[]))
    assert set(response.model_dump(exclude_unset=True)) == {"id", "object", "created", "model", "choices"}


@pytest.mark.parametrize(("named", "read"), [("priority", "priority"), (None, None), (7, None), ({"a": 1}, None)])
def test_a_service_tier_that_is_no_name_costs_no_answer(named: object, read: str | None) -> None:
    assert ChatResponse.model_validate_json(answer(service_tier=named)).service_tier == read


@pytest.mark.parametrize(
    "usage",
    [{"prompt_tokens": -1}, {"prompt_tokens": 2**60}, {"prompt_tokens": None}, {"prompt_tokens": 1.5}, "many", []],
)
def test_counts_that_cannot_be_are_for_the_readers_to_leave_out(usage: object) -> None:
    with pytest.raises(ValidationError):
        ChatResponse.model_validate_json(answer(usage=usage))


def test_a_usage_knows_what_it_was_told_and_callers_get_numbers() -> None:
    usage = Usage.model_validate({"prompt_tokens": 0})
    assert (usage.has_input, usage.has_output) == (True, False)
    usage.book(Decimal("0.5"), output=True)
    counted = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0, "cost": Decimal("0.5")}
    assert usage.model_dump(exclude_unset=True) == counted
    usage = Usage.model_validate({})
    usage.book(Decimal(0), output=False)
    assert usage.model_dump(exclude_unset=True).keys() == {"prompt_tokens", "total_tokens", "cost"}


def test_an_answer_with_numbers_that_json_lacks_is_malformed() -> None:
    with pytest.raises(ValidationError):
        EmbeddingResponse.model_validate_json('{"data": [{"index": 0, "embedding": [NaN]}], "model": "m"}')
    choice: dict[str, Any] = {
        "index": 0,
        "message": {},
        "finish_reason": "stop",
        "logprobs": {"content": [{"logprob": -math.inf}]},
    }
    with pytest.raises(ValidationError):
        ChatResponse.model_validate_json(answer(choices=[choice]))


def test_azures_first_chunk_and_its_filters_annotations_are_chunks() -> None:
    first = StreamChunk.model_validate(
        {"choices": [], "created": 0, "id": "", "model": "", "object": "", "prompt_filter_results": []}
    )
    assert first.object == "chat.completion.chunk"
    for delta in ({}, {"delta": None}):
        choice: dict[str, Any] = {"index": 0, "finish_reason": None, "content_filter_results": {}, **delta}
        annotated = StreamChunk.model_validate({"choices": [choice], "created": 0, "id": "", "model": "", "object": ""})
        assert not annotated.choices[0].delta.has_content


# --- embeddings --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "count"),
    [("a", 1), (["a"], 1), (["a", "b"], 2), ([1, 2, 3], 1), ([[1], [2, 3]], 2)],
)
def test_embedding_inputs_are_counted_as_the_vectors_that_they_ask_for(value: object, count: int) -> None:
    assert EmbeddingRequest.model_validate_json(json.dumps({"model": "m", "input": value})).count == count


@pytest.mark.parametrize("value", ["", [], ["a", ""], [1, "a"], [[1], ["a"]], [-1], 5, [True], [1.5], [[]], None])
def test_what_cannot_be_embedded_is_refused(value: object) -> None:
    refusal(json.dumps({"model": "m", "input": value}), EmbeddingRequest)


def test_usage_needs_no_details() -> None:
    assert Usage.model_validate({"prompt_tokens": 3, "total_tokens": 3}).completion_tokens == 0
