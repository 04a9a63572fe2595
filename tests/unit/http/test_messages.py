"""A request in Anthropic's format, field by field, in the vocabulary's words."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from fusewire.ai.registry import Registry
from fusewire.ai.vocabulary import ChatRequest
from fusewire.config import load_settings
from fusewire.http.errors import from_validation
from fusewire.http.messages import chat_request
from fusewire.http.messages_request import MessagesRequest

USER = {"role": "user", "content": "hi"}
CUSTOM = {"name": "weather", "input_schema": {"type": "object"}}
EPHEMERAL = {"type": "ephemeral"}
HOUR = {"type": "ephemeral", "ttl": "1h"}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Paris"}}
PIXEL: dict[str, Any] = {
    "type": "image",
    "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="},
}
PIXEL_PART = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}


def registry(**variables: str) -> Registry:
    return Registry(load_settings({"AUTH_MODE": "open", **variables}))


def translate(body: dict[str, Any], known: Registry | None = None) -> tuple[ChatRequest, tuple[str, ...]]:
    try:
        asked = MessagesRequest.model_validate_json(json.dumps(body))
    except ValidationError as error:
        raise from_validation(error) from None
    return chat_request(asked, known or registry())


def asked(**fields: object) -> tuple[dict[str, Any], tuple[str, ...]]:
    request, dropped = translate({"model": "sota", "max_tokens": 10, "messages": [USER], **fields})
    told = request.model_dump(mode="json", exclude_none=True)
    return told, dropped


def messages(*turns: dict[str, Any], **fields: object) -> tuple[list[Any], tuple[str, ...]]:
    told, dropped = asked(messages=list(turns), **fields)
    return told["messages"], dropped


def test_the_least_request() -> None:
    told, dropped = asked()
    assert told == {"model": "sota", "messages": [USER], "max_completion_tokens": 10}
    assert dropped == ()


FIELDS: list[tuple[dict[str, Any], dict[str, Any], tuple[str, ...]]] = [
    ({"stream": True}, {"stream": True}, ()),
    ({"temperature": 0.5, "top_p": 0.9}, {"temperature": 0.5, "top_p": 0.9}, ()),
    ({"stop_sequences": ["a", "b"]}, {"stop": ["a", "b"]}, ()),
    ({"stop_sequences": []}, {}, ()),
    ({"top_k": 5}, {}, ("top_k",)),
    ({"metadata": {"user_id": "u-1"}}, {"user": "u-1"}, ()),
    ({"metadata": {"user_id": None}}, {}, ()),
    (
        {"metadata": {"user_id": "x" * 65}},
        {"user": "9537c5fdf120482f7d58d25e9ed583f52c02b4e304ea814db1633ad565aed7e9"},
        (),
    ),
    ({"service_tier": "auto", "speed": "standard"}, {}, ()),
    ({"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}}, {}, ("context_management",)),
    ({"mcp_servers": [], "container": None}, {}, ()),
    # thinking and effort
    ({"output_config": {"effort": "max"}}, {"reasoning_effort": "max"}, ()),
    ({"thinking": {"type": "adaptive"}}, {}, ("thinking",)),
    ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}, {"reasoning_effort": "low"}, ()),
    (
        {"thinking": {"type": "adaptive", "display": "summarized"}, "output_config": {"effort": "high"}},
        {"reasoning_effort": "high"},
        ("thinking.display",),
    ),
    ({"thinking": {"type": "disabled"}}, {"reasoning_effort": "none"}, ()),
    *[
        (
            {"max_tokens": 40_000, "thinking": {"type": "enabled", "budget_tokens": budget}},
            {"max_completion_tokens": 40_000, "reasoning_effort": effort},
            ("thinking.budget_tokens",),
        )
        for budget, effort in [(1024, "low"), (4095, "low"), (4096, "medium"), (16_383, "medium"), (16_384, "high")]
    ],
    # the answer's form
    (
        {"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}},
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "output", "schema": {"type": "object"}, "strict": True},
            }
        },
        (),
    ),
    # tools
    (
        {"tools": [CUSTOM]},
        {"tools": [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]},
        (),
    ),
    (
        {
            "tools": [
                {
                    **CUSTOM,
                    "type": "custom",
                    "description": "d",
                    "strict": True,
                    "cache_control": HOUR,
                    "eager_input_streaming": True,
                    "defer_loading": False,
                    "allowed_callers": ["direct"],
                    "input_examples": [],
                }
            ]
        },
        {
            "tools": [
                {
                    "type": "function",
                    "function": {
                        "name": "weather",
                        "description": "d",
                        "parameters": {"type": "object"},
                        "strict": True,
                    },
                    "cache_control": HOUR,
                }
            ]
        },
        ("tools.eager_input_streaming",),
    ),
    ({"tools": []}, {}, ()),
    ({"tool_choice": {"type": "none"}}, {}, ()),
    ({"tool_choice": {"type": "auto"}}, {}, ()),
]


@pytest.mark.parametrize(("fields", "expected", "dropped"), FIELDS, ids=lambda value: str(value)[:60])
def test_a_field_becomes(fields: dict[str, Any], expected: dict[str, Any], dropped: tuple[str, ...]) -> None:
    told, named = asked(**fields)
    assert told == {"model": "sota", "messages": [USER], "max_completion_tokens": 10} | expected
    assert named == dropped


@pytest.mark.parametrize(
    ("choice", "expected", "parallel"),
    [
        ({"type": "auto"}, "auto", None),
        ({"type": "any"}, "required", None),
        ({"type": "none"}, "none", None),
        ({"type": "tool", "name": "weather"}, {"type": "function", "function": {"name": "weather"}}, None),
        ({"type": "auto", "disable_parallel_tool_use": True}, "auto", False),
        ({"type": "any", "disable_parallel_tool_use": True}, "required", False),
        ({"type": "auto", "disable_parallel_tool_use": False}, "auto", None),
    ],
)
def test_tool_choice(choice: dict[str, Any], expected: object, parallel: bool | None) -> None:
    told, dropped = asked(tools=[CUSTOM], tool_choice=choice)
    assert told["tool_choice"] == expected
    assert told.get("parallel_tool_calls") is parallel
    assert dropped == ()


# --- the conversation ---


def test_a_system_prompt_as_text_and_as_blocks() -> None:
    assert messages(USER, system="be brief")[0][0] == {"role": "system", "content": "be brief"}
    plain = [{"type": "text", "text": "be brief"}]
    assert messages(USER, system=plain)[0][0] == {"role": "system", "content": "be brief"}
    marked = [{"type": "text", "text": "a"}, {"type": "text", "text": "b", "cache_control": HOUR}]
    assert messages(USER, system=marked)[0][0] == {"role": "system", "content": marked}
    assert messages(USER, system=[])[0] == [USER]
    assert messages(USER, system="")[0] == [USER]


def test_a_system_turn_stays_in_its_place() -> None:
    turn = {"role": "system", "content": "from here on, in French"}
    assert messages(USER, turn, USER)[0] == [USER, turn, USER]


def test_a_conversation_with_tools() -> None:
    told, dropped = messages(
        {"role": "user", "content": [{"type": "text", "text": "How is Paris?"}]},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "I look", "signature": ""},
                {"type": "text", "text": "Let me look.", "citations": None},
                CALL,
                CALL | {"id": "toolu_2", "caller": {"type": "direct"}, "extra_content": {"google": {"s": "x"}}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": "sunny"},
                {"type": "tool_result", "tool_use_id": "toolu_2", "content": [{"type": "text", "text": "rain"}]},
                {"type": "text", "text": "So?"},
            ],
        },
    )
    call = {"type": "function", "function": {"name": "weather", "arguments": '{"city":"Paris"}'}}
    assert told == [
        {"role": "user", "content": "How is Paris?"},
        {
            "role": "assistant",
            "content": "Let me look.",
            "reasoning_content": "I look",
            "tool_calls": [
                {"id": "toolu_1", **call},
                {"id": "toolu_2", **call, "extra_content": {"google": {"s": "x"}}},
            ],
        },
        {"role": "tool", "tool_call_id": "toolu_1", "content": "sunny"},
        {"role": "tool", "tool_call_id": "toolu_2", "content": "rain"},
        {"role": "user", "content": "So?"},
    ]
    assert dropped == ()


@pytest.mark.parametrize(
    ("result", "content"),
    [
        ({}, ""),
        ({"content": None}, ""),
        ({"content": ""}, ""),
        ({"content": []}, ""),
        ({"content": "42", "is_error": False}, "42"),
        ({"content": "no such city", "is_error": True}, "The tool failed: no such city"),
        ({"content": [{"type": "text", "text": "no"}], "is_error": True}, "The tool failed: no"),
        ({"is_error": True}, "The tool failed: no reason was given."),
        (
            {"content": "big", "cache_control": EPHEMERAL},
            [{"type": "text", "text": "big", "cache_control": EPHEMERAL}],
        ),
        (
            {"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
        ),
    ],
)
def test_a_tools_result(result: dict[str, Any], content: object) -> None:
    answer = {"role": "assistant", "content": [CALL]}
    told, _ = messages(
        USER, answer, {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", **result}]}
    )
    assert told[2:] == [{"role": "tool", "tool_call_id": "toolu_1", "content": content}]
    assert "content" not in told[1], "nothing but the call was said"


def test_images() -> None:
    remote = {
        "type": "image",
        "source": {"type": "url", "url": "https://example.com/a.png"},
        "cache_control": EPHEMERAL,
    }
    told, _ = messages({"role": "user", "content": [PIXEL, remote, {"type": "text", "text": "what?"}]})
    assert told[0]["content"] == [
        PIXEL_PART | {"image_url": {"url": "data:image/png;base64,iVBORw0KGgo=", "detail": "auto"}},
        {
            "type": "image_url",
            "image_url": {"url": "https://example.com/a.png", "detail": "auto"},
            "cache_control": EPHEMERAL,
        },
        {"type": "text", "text": "what?"},
    ]


def test_an_image_among_results_follows_them_in_the_users_message() -> None:
    results = [
        {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "a file"}, PIXEL]},
        {"type": "tool_result", "tool_use_id": "toolu_2", "content": "done"},
    ]
    answer = {"role": "assistant", "content": [CALL, CALL | {"id": "toolu_2"}]}
    for said in ([], [{"type": "text", "text": "So?"}]):
        told, _ = messages(USER, answer, {"role": "user", "content": [*results, *said]})
        assert [message["role"] for message in told] == ["user", "assistant", "tool", "tool", "user"]
        assert told[2]["content"][0] == {"type": "text", "text": "a file"}
        assert "image" in told[2]["content"][1]["text"]
        assert told[3]["content"] == "done"
        assert [part["type"] for part in told[4]["content"]] == ["image_url", *(["text"] if said else [])]


def test_what_only_anthropic_could_read_again_is_named() -> None:
    _, dropped = messages(
        USER,
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "EqQB"},
                {"type": "redacted_thinking", "data": "Eqz"},
                {"type": "redacted_thinking", "data": "Era"},
                CALL | {"cache_control": EPHEMERAL},
            ],
        },
        USER,
    )
    assert dropped == ("messages.thinking.signature", "messages.redacted_thinking", "messages.tool_use.cache_control")


def test_a_cache_mark_for_the_whole_request_goes_to_its_last_block() -> None:
    marked = {"type": "text", "text": "hi", "cache_control": HOUR}
    assert messages(USER, cache_control=HOUR)[0] == [{"role": "user", "content": [marked]}]
    told, _ = messages(USER, {"role": "assistant", "content": "x"}, USER, cache_control=HOUR)
    assert told[0] == USER
    assert told[2]["content"] == [marked]
    result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "hi"}]}
    told, _ = messages(USER, {"role": "assistant", "content": [CALL]}, result, cache_control=HOUR)
    assert told[2]["content"] == [marked]
    own = {"role": "user", "content": [{"type": "text", "text": "hi", "cache_control": EPHEMERAL}]}
    assert messages(own, cache_control=HOUR)[0] == [own], "its own mark is nearer"
    image = {"role": "user", "content": [{"type": "text", "text": "hi"}, PIXEL]}
    assert messages(image, cache_control=HOUR)[0][0]["content"][1]["cache_control"] == HOUR
