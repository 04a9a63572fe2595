"""Every field of a request in Converse's words, or refused by name; botocore's own validation is the judge."""

import json
from itertools import pairwise
from typing import Any

import botocore.session  # type: ignore[import-untyped]
import pytest
from botocore.validate import validate_parameters  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from fusewire.ai.bounds import chat_input_bound
from fusewire.ai.failures import UnsupportedField
from fusewire.ai.providers.bedrock.provider import AwsProvider
from fusewire.ai.providers.bedrock.request import converse_parameters
from fusewire.ai.schema import ChatRequest
from fusewire.config import load_settings

MODEL = "eu.amazon.nova-lite-v1:0"
CLAUDE = "eu.anthropic.claude-haiku-4-5-20251001-v1:0"
NEW_CLAUDE = "eu.anthropic.claude-opus-5-5"
HELLO = [{"role": "user", "content": "Hello"}]
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Paris"}'}}
PNG = "data:image/png;base64,iVBORw0KGgo="
PNG_BYTES = b"\x89PNG\r\n\x1a\n"
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
CLOSED = {**SCHEMA, "additionalProperties": False}


@pytest.fixture(scope="module")
def shape() -> Any:  # noqa: ANN401 - botocore has no types
    model = botocore.session.get_session().get_service_model("bedrock-runtime")
    return model.operation_model("Converse").input_shape


def asked(**fields: object) -> ChatRequest:
    return ChatRequest.model_validate_json(json.dumps({"model": "sota", "messages": HELLO, **fields}))


def said(model: str = MODEL, **fields: object) -> dict[str, Any]:
    return converse_parameters(asked(**fields), model, 64)


def test_the_least_request(shape: Any) -> None:  # noqa: ANN401
    parameters = said()
    assert parameters == {
        "modelId": MODEL,
        "messages": [{"role": "user", "content": [{"text": "Hello"}]}],
        "inferenceConfig": {"maxTokens": 64},
        "serviceTier": {"type": "default"},
    }
    validate_parameters(parameters, shape)


@pytest.mark.parametrize(
    ("asked", "sent"), [("auto", "default"), ("default", "default"), ("flex", "flex"), ("fast", "priority")]
)
def test_the_service_tier(shape: Any, asked: str, sent: str) -> None:  # noqa: ANN401
    parameters = said(service_tier=asked)
    assert parameters["serviceTier"] == {"type": sent}
    validate_parameters(parameters, shape)


JSON_SCHEMA = {
    "type": "json_schema",
    "json_schema": {"name": "city", "description": "A city.", "schema": SCHEMA, "strict": True},
}
IN_A_STRING = {
    "type": "json_schema",
    "structure": {
        "jsonSchema": {
            "schema": json.dumps(CLOSED, separators=(",", ":")),
            "name": "city",
            "description": "A city.",
        }
    },
}
SAYS = {"name": "w", "description": "Says."}
BARE = {"type": "function", "function": {"name": "w"}}
DESCRIBED = {"type": "function", "function": {**SAYS, "parameters": SCHEMA, "strict": True}}
NAMED = {"type": "function", "function": {"name": "weather"}}


def in_json(schema: object) -> dict[str, Any]:
    return {"inputSchema": {"json": schema}}


# (fields of the request, where in the parameters, what stands there)
MAPPED: list[tuple[dict[str, Any], str, Any]] = [
    ({"max_tokens": 9}, "inferenceConfig", {"maxTokens": 64}),
    ({"temperature": 0.5}, "inferenceConfig.temperature", 0.5),
    ({"temperature": 0}, "inferenceConfig.temperature", 0),
    ({"top_p": 0.9}, "inferenceConfig.topP", 0.9),
    ({"temperature": 0.5, "top_p": 0.9}, "inferenceConfig", {"maxTokens": 64, "temperature": 0.5, "topP": 0.9}),
    ({"stop": "END"}, "inferenceConfig.stopSequences", ["END"]),
    ({"stop": ["a", "b"]}, "inferenceConfig.stopSequences", ["a", "b"]),
    ({"n": 1}, "inferenceConfig", {"maxTokens": 64}),
    ({"stream": True}, "inferenceConfig", {"maxTokens": 64}),
    ({"tools": [TOOL]}, "toolConfig", {"tools": [{"toolSpec": {"name": "weather", **in_json({"type": "object"})}}]}),
    ({"tools": [BARE]}, "toolConfig.tools.0.toolSpec", {"name": "w", **in_json({"type": "object", "properties": {}})}),
    ({"tools": [DESCRIBED]}, "toolConfig.tools.0.toolSpec", {**SAYS, **in_json(CLOSED), "strict": True}),
    ({"tools": [TOOL], "tool_choice": "auto"}, "toolConfig.toolChoice", None),
    ({"tools": [TOOL], "tool_choice": "required"}, "toolConfig.toolChoice", {"any": {}}),
    ({"tools": [TOOL], "tool_choice": NAMED}, "toolConfig.toolChoice", {"tool": {"name": "weather"}}),
    ({"tools": [TOOL], "tool_choice": "none"}, "toolConfig", None),
    ({"tool_choice": "none"}, "toolConfig", None),
    ({"tools": [TOOL], "parallel_tool_calls": True}, "toolConfig.toolChoice", None),
    ({"response_format": {"type": "text"}}, "outputConfig", None),
    ({"response_format": JSON_SCHEMA}, "outputConfig.textFormat", IN_A_STRING),
    ({"reasoning_effort": "xhigh"}, "outputConfig.effort", "xhigh"),
    ({"seed": 7, "user": "u", "logit_bias": {"1": 2.0}, "metadata": {"a": "b"}}, "inferenceConfig", {"maxTokens": 64}),
]


@pytest.mark.parametrize(("fields", "path", "value"), MAPPED)
def test_a_field_is_said_in_converses_words(shape: Any, fields: dict[str, Any], path: str, value: object) -> None:  # noqa: ANN401
    parameters = said(**fields)
    validate_parameters(parameters, shape)
    found: Any = parameters
    for name in path.split("."):
        found = found[int(name)] if name.isdigit() else (found or {}).get(name)
    assert found == value


def image(url: str, **more: object) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url, **more}}]}]


def history(arguments: str) -> list[dict[str, Any]]:
    call = {"id": "c", "type": "function", "function": {"name": "weather", "arguments": arguments}}
    return [*HELLO, {"role": "assistant", "tool_calls": [call]}, {"role": "tool", "tool_call_id": "c", "content": "x"}]


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    (MODEL, {"temperature": 1.5}, "temperature"),
    (MODEL, {"stop": [""]}, "stop"),
    (CLAUDE, {"stop": [" "]}, "stop"),
    (CLAUDE, {"temperature": 0.5, "top_p": 0.5}, "top_p"),
    (NEW_CLAUDE, {"temperature": 0.5}, "temperature"),
    (NEW_CLAUDE, {"top_p": 0.5}, "top_p"),
    (NEW_CLAUDE, {"tools": [TOOL], "tool_choice": "required"}, "tool_choice"),
    (NEW_CLAUDE, {"tools": [TOOL], "tool_choice": NAMED}, "tool_choice"),
    (CLAUDE, {"reasoning_effort": "high"}, "reasoning_effort"),
    (NEW_CLAUDE, {"reasoning_effort": "none"}, "reasoning_effort"),
    (MODEL, {"reasoning_effort": "minimal"}, "reasoning_effort"),
    (MODEL, {"reasoning_effort": "none"}, "reasoning_effort"),
    (MODEL, {"tools": [{"type": "function", "function": {"name": "a.b"}}]}, "tools"),
    (MODEL, {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, "response_format"),
    (MODEL, {"messages": image("https://example.invalid/cat.png")}, "messages"),
    (MODEL, {"messages": image("http://169.254.169.254/latest/meta-data")}, "messages"),
    (MODEL, {"messages": image("gs://bucket/cat.png")}, "messages"),
    (MODEL, {"messages": image("data:image/svg+xml;base64,PHN2Zz4=")}, "messages"),
    (MODEL, {"messages": image("data:image/png,raw")}, "messages"),
    (MODEL, {"messages": image("data:image/png;base64,")}, "messages"),
    (MODEL, {"messages": image("data:image/png;base64,!!!!")}, "messages"),
    (MODEL, {"messages": history("[1]"), "tools": [TOOL]}, "messages"),
    (MODEL, {"messages": history("{"), "tools": [TOOL]}, "messages"),
    (MODEL, {"messages": history('{"x": NaN}'), "tools": [TOOL]}, "messages"),
    (MODEL, {"messages": [{"role": "system", "content": "Be brief."}]}, "messages"),
    (MODEL, {"messages": [*HELLO, {"role": "assistant", "content": "Hi"}]}, "messages"),
    (MODEL, {"messages": [{"role": "user", "content": " "}]}, "messages"),
]  # fmt: skip


@pytest.mark.parametrize(("model", "fields", "param"), REFUSED)
def test_what_converse_or_the_model_cannot_do_is_refused_by_name(
    model: str, fields: dict[str, Any], param: str
) -> None:
    with pytest.raises(UnsupportedField) as caught:
        said(model, **fields)
    assert caught.value.param == param
    assert "169.254" not in caught.value.message


def test_a_claudes_own_default_is_left_out() -> None:
    for field in ("temperature", "top_p"):
        assert said(NEW_CLAUDE, **{field: 1})["inferenceConfig"] == {"maxTokens": 64}
    assert said(CLAUDE, temperature=1, top_p=0.5)["inferenceConfig"] == {"maxTokens": 64, "topP": 0.5}
    assert "outputConfig" not in said(CLAUDE, reasoning_effort="none"), "it doesn't think unless it is told to"


def test_system_and_developer_messages_stand_apart_in_their_order() -> None:
    parameters = said(
        messages=[
            {"role": "system", "content": "One."},
            {"role": "user", "content": "Hello"},
            {"role": "developer", "content": [{"type": "text", "text": "Two."}, {"type": "text", "text": " "}]},
        ]
    )
    assert parameters["system"] == [{"text": "One."}, {"text": "Two."}]
    assert parameters["messages"] == [{"role": "user", "content": [{"text": "Hello"}]}]


def test_neighbours_of_one_role_become_one_turn() -> None:
    turns = said(
        messages=[
            {"role": "user", "content": "a"},
            {"role": "user", "content": [{"type": "text", "text": "b"}]},
            {"role": "assistant", "content": "c", "refusal": "d"},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "e"}]},
            {"role": "user", "content": "f"},
        ]
    )["messages"]
    assert turns == [
        {"role": "user", "content": [{"text": "a"}, {"text": "b"}]},
        {"role": "assistant", "content": [{"text": "c"}, {"text": "d"}, {"text": "e"}]},
        {"role": "user", "content": [{"text": "f"}]},
    ]


@pytest.mark.parametrize(
    ("kind", "format_"), [("png", "png"), ("jpeg", "jpeg"), ("jpg", "jpeg"), ("GIF", "gif"), ("webp", "webp")]
)
def test_images_travel_as_bytes(shape: Any, kind: str, format_: str) -> None:  # noqa: ANN401
    parameters = said(
        messages=[
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is it?"},
                    {"type": "image_url", "image_url": {"url": PNG.replace("png", kind, 1)}},
                ],
            }
        ]
    )
    validate_parameters(parameters, shape)
    text, picture = parameters["messages"][0]["content"]
    assert text == {"text": "What is it?"}
    assert picture == {"image": {"format": format_, "source": {"bytes": PNG_BYTES}}}


TEXT_21 = {"type": "text", "text": "21"}
CONVERSATION = [
    {"role": "user", "content": "Weather?"},
    {"role": "assistant", "content": None, "tool_calls": [CALL, {**CALL, "id": "call_2"}]},
    {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
    {"role": "tool", "tool_call_id": "call_2", "content": [TEXT_21, {"type": "text", "text": "C"}]},
    {"role": "user", "content": "And tomorrow?"},
]


def test_tool_calls_and_their_results_in_order(shape: Any) -> None:  # noqa: ANN401
    parameters = said(messages=CONVERSATION, tools=[TOOL])
    validate_parameters(parameters, shape)
    _, assistant, user = parameters["messages"]
    assert assistant["content"] == [
        {"toolUse": {"toolUseId": each, "name": "weather", "input": {"city": "Paris"}}} for each in ("call_1", "call_2")
    ]
    assert user == {
        "role": "user",
        "content": [
            {"toolResult": {"toolUseId": "call_1", "content": [{"text": "sunny"}]}},
            {"toolResult": {"toolUseId": "call_2", "content": [{"text": "21"}, {"text": "C"}]}},
            {"text": "And tomorrow?"},
        ],
    }


@pytest.mark.parametrize("fields", [{}, {"tools": [TOOL], "tool_choice": "none"}], ids=["no tools", "none of them"])
def test_earlier_calls_are_told_as_text_where_no_tool_may_be_called(shape: Any, fields: dict[str, Any]) -> None:  # noqa: ANN401
    parameters = said(messages=CONVERSATION, **fields)
    validate_parameters(parameters, shape)
    assert "toolConfig" not in parameters, "Converse has no `none`"
    _, assistant, user = parameters["messages"]
    assert assistant["content"] == [
        {"text": '[call_1] weather({"city":"Paris"})'},
        {"text": '[call_2] weather({"city":"Paris"})'},
    ]
    assert user["content"] == [
        {"text": "[call_1] sunny"},
        {"text": "[call_2] 21"},
        {"text": "C"},
        {"text": "And tomorrow?"},
    ]


def test_what_bedrock_takes_no_blank_for() -> None:
    call = {**CALL, "function": {"name": "weather", "arguments": ""}}
    quiet = [
        *HELLO,
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": ""},
    ]
    _, assistant, user = said(messages=quiet, tools=[TOOL])["messages"]
    assert assistant["content"] == [{"toolUse": {"toolUseId": "call_1", "name": "weather", "input": {}}}]
    assert user["content"] == [{"toolResult": {"toolUseId": "call_1", "content": [{"text": "(empty)"}]}}]


def test_ids_are_made_to_fit_and_told_apart(shape: Any) -> None:  # noqa: ANN401
    ids = ["call 1", "call_1", "é" * 80, "ü" * 80, ""]
    messages: list[dict[str, Any]] = [*HELLO]
    for each in [*ids, "call_1"]:  # some servers give each answer's first call the same id
        messages.append({"role": "assistant", "tool_calls": [{**CALL, "id": each}]})
        messages.append({"role": "tool", "tool_call_id": each, "content": each or "-"})
    parameters = said(messages=messages, tools=[TOOL])
    validate_parameters(parameters, shape)
    blocks = [block for turn in parameters["messages"] for block in turn["content"]]
    used = [block["toolUse"]["toolUseId"] for block in blocks if "toolUse" in block]
    answered = [block["toolResult"]["toolUseId"] for block in blocks if "toolResult" in block]
    assert used == answered
    assert len(set(used)) == len(used)
    assert all(0 < len(each) <= 64 and each.isascii() for each in used)


def test_hints_without_a_place_are_named_and_not_sent() -> None:
    request = asked(
        messages=[
            {**image(PNG, detail="low")[0], "name": "ann"},
            {"role": "assistant", "content": "a", "reasoning_content": "b"},
            {"role": "user", "content": "c"},
        ]
    )
    assert dropped(request, MODEL) == ("messages.image_url.detail", "messages.name", "reasoning_content")
    assert dropped(asked(), MODEL) == ()
    assert "reasoningContent" not in json.dumps(converse_parameters(request, MODEL, 1), default=str)


def dropped(request: ChatRequest, model: str) -> tuple[str, ...]:
    return AwsProvider(load_settings({})).dropped(request, model)


def marked(ttl: str | None = None) -> dict[str, Any]:
    return {"cache_control": {"type": "ephemeral", **({"ttl": ttl} if ttl else {})}}


def test_cache_marks_are_cache_points(shape: Any) -> None:  # noqa: ANN401
    fields: dict[str, Any] = {
        "tools": [{**TOOL, **marked()}],
        "messages": [
            {"role": "system", "content": [{"type": "text", "text": "Long.", **marked("1h")}]},
            {"role": "user", "content": [{**image(PNG)[0]["content"][0], **marked()}, {"type": "text", "text": "a"}]},
            {"role": "assistant", "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "b", **marked("5m")}]},
        ],
    }
    parameters = said(CLAUDE, **fields)
    validate_parameters(parameters, shape)
    point = {"cachePoint": {"type": "default"}}
    assert parameters["toolConfig"]["tools"][1:] == [point]
    assert parameters["system"] == [{"text": "Long."}, {"cachePoint": {"type": "default", "ttl": "1h"}}]
    first, _, last = parameters["messages"]
    assert first["content"][1:] == [point, {"text": "a"}]
    assert last["content"] == [
        {"toolResult": {"toolUseId": "call_1", "content": [{"text": "b"}]}},
        {"cachePoint": {"type": "default", "ttl": "5m"}},
    ]
    assert dropped(asked(**fields), CLAUDE) == ()


def test_a_model_without_a_cache_gets_no_cache_points() -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": "a", **marked()}]}]
    llama = "us.meta.llama3-3-70b-instruct-v1:0"
    assert said(llama, messages=messages)["messages"] == [{"role": "user", "content": [{"text": "a"}]}]
    assert dropped(asked(messages=messages), llama) == ("cache_control",)


texts = st.text(max_size=8)
parts = st.lists(st.builds(lambda text: {"type": "text", "text": text}, texts), max_size=3)
calls = st.lists(
    st.builds(
        lambda id_, arguments: {"id": id_, "function": {"name": "weather", "arguments": json.dumps(arguments)}},
        texts,
        st.dictionaries(texts, st.integers() | texts, max_size=2),
    ),
    max_size=2,
)
messages = st.lists(
    st.one_of(
        st.builds(lambda c: {"role": "user", "content": c}, texts | parts),
        st.builds(lambda c: {"role": "system", "content": c}, texts | parts),
        st.builds(lambda c, t: {"role": "assistant", "content": c, "tool_calls": t}, texts | parts, calls),
        st.builds(lambda c, i: {"role": "tool", "content": c, "tool_call_id": i}, texts | parts, texts),
    ),
    min_size=1,
    max_size=6,
)


def written(row: object) -> int:
    """Bytes of all that a model may read of this: texts, ids, names and arguments."""
    if isinstance(row, dict):
        return sum(map(written, row.values()))
    if isinstance(row, list):
        return sum(map(written, row))
    return 0 if row in ("user", "assistant") else len(str(row).encode())


@given(messages=messages, tools=st.sampled_from([None, [TOOL]]), choice=st.sampled_from([None, "none"]))
def test_whatever_is_said_fits_the_service_model_or_is_refused(
    shape: Any,  # noqa: ANN401
    messages: list[Any],
    tools: list[Any] | None,
    choice: str | None,
) -> None:
    fields: dict[str, Any] = {"messages": messages, "tools": tools, "tool_choice": choice}
    request = ChatRequest.model_validate_json(json.dumps({"model": "sota", **fields}))
    try:
        parameters = converse_parameters(request, MODEL, 64)
    except UnsupportedField as refused:
        assert refused.param == "messages"
        return
    validate_parameters(parameters, shape)
    roles = [turn["role"] for turn in parameters["messages"]]
    assert all(one != other for one, other in pairwise(roles))
    assert roles[-1] == "user"
    assert not any(block.get("text", "x").strip() == "" for turn in parameters["messages"] for block in turn["content"])
    assert sum(map(written, [*parameters["messages"], *parameters.get("system", [])])) <= chat_input_bound(request)
    has_blocks = any({"toolUse", "toolResult"} & b.keys() for turn in parameters["messages"] for b in turn["content"])
    assert not has_blocks or "toolConfig" in parameters, "Converse refuses tool blocks without tools"
