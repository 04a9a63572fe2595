"""A request in the format of OpenAI's Responses, field by field, as a `ChatRequest`; and what is refused."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from fusewire.errors import InvalidRequestError
from fusewire.http.errors import from_validation
from fusewire.http.responses.request import ResponsesRequest
from fusewire.http.responses.tools import FunctionTable
from fusewire.http.responses.translate import chat_request, dropped_fields

USER = {"role": "user", "content": "hi"}
WEATHER = {"type": "function", "name": "weather", "parameters": {"type": "object"}}
CALL = {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": '{"city":"Paris"}'}
OUTPUT = {"type": "function_call_output", "call_id": "call_1", "output": "sunny"}
SAID_CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"city":"Paris"}'},
}


def asked(**fields: object) -> tuple[dict[str, Any], tuple[str, ...]]:
    try:
        request = ResponsesRequest.model_validate_json(json.dumps({"model": "sota", "input": "hi", **fields}))
    except ValidationError as error:
        raise from_validation(error) from None
    chat = chat_request(request, FunctionTable(request))
    return chat.model_dump(mode="json", exclude_none=True), dropped_fields(request)


def messages(*items: dict[str, Any], **fields: object) -> list[Any]:
    result, dropped = asked(input=list(items), **fields)
    assert dropped == ()
    made: list[Any] = result["messages"]
    return made


FIELDS: list[tuple[dict[str, Any], dict[str, Any], tuple[str, ...]]] = [
    ({"stream": True, "stream_options": {"include_obfuscation": False}},
     {"stream": True, "stream_options": {"include_obfuscation": False}}, ()),
    ({"max_output_tokens": 5}, {"max_completion_tokens": 5}, ()),
    ({"temperature": 1.5, "top_p": 0.1}, {"temperature": 1.5, "top_p": 0.1}, ()),
    ({"user": "u", "safety_identifier": "s", "prompt_cache_key": "k"},
     {"user": "u", "safety_identifier": "s", "prompt_cache_key": "k"}, ()),
    ({"metadata": {"a": "b"}}, {}, ()),  # it is for what is stored: the answer has it, a vendor doesn't
    ({"reasoning": {"effort": "minimal"}}, {"reasoning_effort": "minimal"}, ()),
    ({"reasoning": {"summary": "auto", "generate_summary": "auto", "mode": "standard", "context": "auto"}}, {},
     ("reasoning.summary", "reasoning.generate_summary")),
    ({"reasoning": {"context": "all_turns", "summary": "none", "effort": None}}, {}, ("reasoning.context",)),
    ({"text": {"verbosity": "low"}}, {"verbosity": "low"}, ()),
    ({"text": {"format": {"type": "text"}}}, {}, ()),
    ({"text": {"format": {"type": "json_object"}}}, {"response_format": {"type": "json_object"}}, ()),
    ({"text": {"format": {"type": "json_schema", "name": "n", "schema": {"a": 1}, "description": "d", "strict": True}}},
     {"response_format": {"type": "json_schema",
                          "json_schema": {"name": "n", "schema": {"a": 1}, "description": "d", "strict": True}}}, ()),
    ({"tools": [WEATHER | {"description": "d", "strict": True, "defer_loading": False}], "parallel_tool_calls": False},
     {"tools": [{"type": "function", "function": {"name": "weather", "description": "d",
                                                  "parameters": {"type": "object"}, "strict": True}}],
      "parallel_tool_calls": False}, ()),
    ({"tools": [], "tool_choice": "auto", "parallel_tool_calls": True}, {}, ()),
    ({"tool_choice": "none"}, {}, ()),
    ({"store": False, "background": False, "truncation": "disabled", "include": [], "service_tier": "auto"}, {}, ()),
    ({"store": True, "truncation": "auto"}, {}, ("truncation", "store")),
    ({"include": ["reasoning.encrypted_content", "web_search_call.action.sources"]}, {}, ("include",)),
    ({"service_tier": "default"}, {}, ()),
    ({"service_tier": "flex"}, {"service_tier": "flex"}, ()),
    ({"service_tier": "fast"}, {"service_tier": "fast"}, ()),
    ({"store": None, "previous_response_id": None, "conversation": None, "background": None, "top_logprobs": 0},
     {}, ()),
    ({"client_metadata": {"x-codex-installation-id": "i"}, "max_tool_calls": 3},
     {}, ("client_metadata", "max_tool_calls")),
    ({"prompt_cache_retention": "24h", "prompt_cache_options": {"ttl": "30m"},
      "context_management": [{"type": "compaction", "compact_threshold": 9}]},
     {}, ("prompt_cache_retention", "prompt_cache_options", "context_management")),
    ({"client_metadata": {}, "service_tier": None, "max_tool_calls": None, "prompt_cache_options": None,
      "moderation": None, "prompt": None, "image": None, "access_programs": None, "background_options": None}, {}, ()),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "expected", "dropped"), FIELDS, ids=lambda value: str(value)[:60])
def test_a_field_becomes(fields: dict[str, Any], expected: dict[str, Any], dropped: tuple[str, ...]) -> None:
    result, named = asked(**fields)
    assert result == {"model": "sota", "messages": [USER]} | expected
    assert named == dropped


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("auto", "auto"),
        ("required", "required"),
        ("none", "none"),
        ({"type": "function", "name": "weather"}, {"type": "function", "function": {"name": "weather"}}),
    ],
)
def test_tool_choice(choice: object, expected: object) -> None:
    assert asked(tools=[WEATHER], tool_choice=choice)[0]["tool_choice"] == expected


# --- the conversation ---


def test_instructions_come_first() -> None:
    assert messages(USER, instructions="be brief") == [{"role": "system", "content": "be brief"}, USER]
    assert asked(instructions="")[0]["messages"] == [USER]


def test_instructions_take_the_role_that_the_conversation_uses() -> None:
    later = {"role": "developer", "content": "in French"}
    assert messages(USER, later, instructions="be brief") == [{"role": "developer", "content": "be brief"}, USER, later]


def test_messages_with_and_without_a_type() -> None:
    parts = [{"type": "input_text", "text": "hi"}]
    result = messages(
        {"type": "message", "role": "system", "content": parts},
        {"role": "developer", "content": [*parts, *parts]},
        {"role": "user", "content": parts, "id": "msg_1", "status": "completed"},
        {"role": "assistant", "content": "ho"},
        {"role": "user", "content": "hi"},
    )
    two = [{"type": "text", "text": "hi"}] * 2
    assert result == [
        {"role": "system", "content": "hi"},
        {"role": "developer", "content": two},
        USER,
        {"role": "assistant", "content": "ho"},
        USER,
    ]


def test_images() -> None:
    image = {"type": "input_image", "image_url": "https://example.com/a.png", "detail": "low", "file_id": None}
    [result] = messages({"role": "user", "content": [image, {"type": "input_text", "text": "what?"}]})
    assert result["content"] == [
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "low"}},
        {"type": "text", "text": "what?"},
    ]


def test_what_the_assistant_did_in_one_go_is_one_message() -> None:
    text = {"type": "output_text", "text": "I look.", "annotations": [], "logprobs": []}
    result = messages(
        USER,
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
        {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [text]},
        CALL | {"id": "fc_1", "status": "completed", "caller": None},
        CALL | {"call_id": "call_2", "extra_content": {"google": 1}},
        OUTPUT | {"id": "fco_1"},
        OUTPUT | {"call_id": "call_2", "output": [{"type": "input_text", "text": "rain"}]},
        USER,
    )
    assert result == [
        USER,
        {
            "role": "assistant",
            "content": "I look.",
            "reasoning_content": "hm",
            "tool_calls": [SAID_CALL, SAID_CALL | {"id": "call_2", "extra_content": {"google": 1}}],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
        {"role": "tool", "tool_call_id": "call_2", "content": "rain"},
        USER,
    ]


def test_what_openais_sdk_adds_to_an_answer_is_no_matter() -> None:
    # OpenAI's SDK for TypeScript leaves what it parsed in the answer, which goes back as it is.
    text: dict[str, Any] = {"type": "output_text", "text": "I look.", "annotations": [], "parsed": None}
    said, called = {"role": "assistant", "content": [text]}, CALL | {"parsed_arguments": {"city": "Paris"}}
    assert len(messages(USER, said, called, OUTPUT)) == 3


def test_results_follow_their_calls_whatever_was_said_between() -> None:
    result = messages(USER, CALL, {"role": "assistant", "content": "wait"}, OUTPUT, CALL, OUTPUT)
    assert [message["role"] for message in result] == ["user", "assistant", "tool", "assistant", "tool"]
    assert result[1] == {"role": "assistant", "content": "wait", "tool_calls": [SAID_CALL]}
    assert "content" not in result[3]


def test_two_answers_in_a_row_are_two_messages() -> None:
    answer = {"role": "assistant", "content": "ho"}
    assert messages(USER, answer, answer, USER) == [USER, answer, answer, USER]


def test_a_refusal_goes_back_as_one() -> None:
    part = {"type": "refusal", "refusal": "I can't."}
    assert messages(USER, {"role": "assistant", "content": [part]}, USER)[1]["content"] == [part]


def test_an_image_among_results_follows_them_in_a_users_message() -> None:
    image = {"type": "input_image", "image_url": "data:image/png;base64,AA=="}
    shown = OUTPUT | {"output": [{"type": "input_text", "text": "a file"}, image]}
    calls = (CALL, CALL | {"call_id": "call_2"}, shown, OUTPUT | {"call_id": "call_2"})
    for rest, roles in [
        ((), ["user"]),
        ((USER,), ["user"]),
        (({"role": "developer", "content": "x"},), ["user", "developer"]),
        ((CALL, OUTPUT), ["user", "assistant", "tool"]),
        (({"role": "assistant", "content": "x"}, USER), ["user", "assistant", "user"]),
    ]:
        result = messages(USER, *calls, *rest)
        assert [message["role"] for message in result] == ["user", "assistant", "tool", "tool", *roles]
        assert result[2]["content"] == "a file\n(An image of this result follows in the user's message.)"
        assert result[4]["content"][0]["type"] == "image_url"
    assert messages(USER, *calls, USER)[4]["content"][1] == {"type": "text", "text": "hi"}


def test_what_only_openai_could_read_again_is_named() -> None:
    _, dropped = asked(
        input=[
            USER,
            {
                "type": "reasoning",
                "id": "rs_1",
                "summary": [{"type": "summary_text", "text": "s"}],
                "encrypted_content": "gAAA",
            },
            {"role": "assistant", "content": "x", "phase": "commentary"},
            USER,
        ]
    )
    assert dropped == ("input.reasoning.summary", "input.reasoning.encrypted_content", "input.phase")


DROPPED: list[tuple[dict[str, Any], str]] = [
    ({"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search"}},
     "input.web_search_call"),
    ({"type": "mcp_list_tools", "id": "m_1", "server_label": "x", "tools": []}, "input.mcp_list_tools"),
    ({"type": "tool_search_call", "id": "t", "call_id": None, "execution": "server", "arguments": {}},
     "input.tool_search_call"),
    ({"role": "assistant", "content": [{"type": "output_text", "text": "ho", "annotations": [{"type": "file_path"}]}]},
     "input.annotations"),
    ({"role": "user", "content": [{"type": "input_text", "text": "x", "prompt_cache_breakpoint": {"mode": "all"}}]},
     "input.prompt_cache_breakpoint"),
    ({"role": "user", "content": [{"type": "input_image", "image_url": "data:x", "detail": "original"}]},
     "input.detail"),
    (CALL | {"async": True}, "input.async"),
]  # fmt: skip


@pytest.mark.parametrize(("item", "name"), DROPPED, ids=[name for _, name in DROPPED])
def test_what_changes_no_meaning_is_dropped_by_name(item: dict[str, Any], name: str) -> None:
    assert asked(input=[USER, item])[1] == (name,)


def test_the_cure_of_a_reference_is_named() -> None:
    with pytest.raises(InvalidRequestError) as raised:
        asked(input=[USER, {"type": "item_reference", "id": "msg_1"}])
    assert raised.value.code == "unsupported_parameter"
    assert "store: false" in raised.value.message
    with pytest.raises(InvalidRequestError, match="store: false"):
        asked(previous_response_id="resp_1")


# --- refusals ---

STORED = ["previous_response_id", "conversation", "background", "prompt"]
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"previous_response_id": "resp_1"}, "previous_response_id"),
    ({"conversation": "conv_1"}, "conversation"),
    ({"conversation": {"id": "conv_1"}}, "conversation"),
    ({"background": True}, "background"),
    ({"prompt": {"id": "pmpt_1"}}, "prompt"),
    ({"background_options": {"completion_window": "2h"}}, "background_options"),
    ({"include": ["message.output_text.logprobs"]}, "include[0]"),
    ({"include": ["reasoning.encrypted_content", "message.output_text.logprobs"]}, "include[1]"),
    ({"service_tier": "ultrafast"}, "service_tier"),
    ({"top_logprobs": 3}, "top_logprobs"),
    ({"access_programs": {"cyber": "standard"}}, "access_programs"),
    ({"image": {"context_compression": "auto"}}, "image"),
    ({"moderation": {"model": "m"}}, "moderation"),
    ({"reasoning": {"mode": "pro"}}, "reasoning.mode"),
    ({"reasoning": {"effort": "huge"}}, "reasoning.effort"),
    ({"text": {"format": {"type": "grammar"}}}, "text.format.type"),
    ({"text": {"format": {"type": "json_schema", "schema": {}}}}, "text.format.name"),
    ({"metadata": {"a": 1}}, "metadata.a"),
    ({"tools": [WEATHER | {"frobnicate": 1}]}, "tools[0].frobnicate"),
    ({"tools": [{"type": "frobnicate"}]}, "tools[0].type"),
    ({"tools": [{"type": "namespace", "name": "n", "tools": [{"type": "web_search"}]}]}, "tools[0].tools[0].type"),
    ({"tools": [{"type": "custom", "name": "n", "format": {"type": "grammar", "syntax": "bnf", "definition": "x"}}]},
     "tools[0].format.syntax"),
    ({"tools": [WEATHER], "tool_choice": {"type": "web_search"}}, "tool_choice"),
    ({"tools": [WEATHER], "tool_choice": {"type": "mcp", "server_label": "x"}}, "tool_choice"),
    ({"tools": [{"type": "web_search"}], "tool_choice": "required"}, "tool_choice"),
    ({"tools": [WEATHER], "tool_choice": {"type": "allowed_tools", "mode": "required", "tools": []}}, "tool_choice"),
    ({"tools": [WEATHER], "tool_choice": {"type": "function"}}, "tool_choice.name"),
    ({"temperature": 3}, "temperature"),
    ({"frobnicate": 1}, "frobnicate"),
    ({"input": []}, "input"),
    ({"input": None}, "input"),
    ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0].type"),
    ({"input": [USER, {"id": "msg_1"}]}, "input[1].type"),
    ({"input": [{"type": "compaction", "encrypted_content": "gAAA"}]}, "input[0].type"),
    ({"input": [{"type": "computer_call"}]}, "input[0].type"),
    ({"input": [USER, {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_file"}]}]},
     "input[1].output[0].type"),
    ({"input": [{"role": "user"}]}, "input[0].content"),
    ({"input": [{"role": "tool", "content": "x"}]}, "input[0].role"),
    ({"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]}, "input[0].content[0].type"),
    ({"input": [{"role": "user", "content": [{"type": "input_text"}]}]}, "input[0].content[0].text"),
    ({"input": [{"role": "user", "content": [{"type": "output_text", "text": "x"}]}]}, "input[0].content[0].type"),
    ({"input": [{"role": "system", "content": [{"type": "input_image"}]}]}, "input[0].content[0].type"),
    ({"input": [{"role": "assistant", "content": [{"type": "input_image"}]}]}, "input[0].content[0].type"),
    ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content[0].image_url"),
    ({"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]},
     "input[0].content[0].file_id"),
    ({"input": [CALL | {"arguments": {}}]}, "input[0].arguments"),
    ({"input": [OUTPUT | {"output": [{"type": "input_file"}]}]}, "input[0].output[0].type"),
    ({"input": [OUTPUT | {"output": [{"type": "input_image"}]}]}, "input[0].output.image_url"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "param"), REFUSED, ids=[param for _, param in REFUSED])
def test_it_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequestError) as raised:
        asked(**fields)
    assert (raised.value.status, raised.value.param) == (400, param)
    if param in STORED:
        assert raised.value.code == "unsupported_parameter"
        assert raised.value.message.startswith(f"{param}: nothing is stored here")


def test_every_field_has_a_row() -> None:
    rows = {name for fields, *_ in FIELDS for name in fields} | {name for fields, _ in REFUSED for name in fields}
    assert set(ResponsesRequest.model_fields) <= rows | {"model", "input", "instructions"}
