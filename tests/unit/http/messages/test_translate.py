"""A request in Anthropic's format, field by field, as a `ChatRequest`."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from fusewire.ai.registry import Registry
from fusewire.ai.schema import ChatRequest
from fusewire.config import load_settings
from fusewire.http.errors import from_validation
from fusewire.http.messages.request import MessagesRequest
from fusewire.http.messages.translate import chat_request

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
    result = request.model_dump(mode="json", exclude_none=True)
    return result, dropped


def messages(*turns: dict[str, Any], **fields: object) -> tuple[list[Any], tuple[str, ...]]:
    result, dropped = asked(messages=list(turns), **fields)
    return result["messages"], dropped


def test_the_least_request() -> None:
    result, dropped = asked()
    assert result == {"model": "sota", "messages": [USER], "max_completion_tokens": 10}
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
    ({"service_tier": "standard_only"}, {}, ()),
    ({"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}}, {}, ("context_management",)),
    ({"mcp_servers": [], "container": None}, {}, ()),
    # thinking and effort
    ({"output_config": {"effort": "max"}}, {"reasoning_effort": "max", "thinking": {"effort": "max"}}, ()),
    ({"thinking": {"type": "adaptive"}}, {"thinking": {"type": "adaptive"}}, ()),
    (
        {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}},
        {"reasoning_effort": "low", "thinking": {"type": "adaptive", "effort": "low"}},
        (),
    ),
    (
        {"thinking": {"type": "adaptive", "display": "summarized"}, "output_config": {"effort": "high"}},
        {
            "reasoning_effort": "high",
            "thinking": {"type": "adaptive", "display": "summarized", "effort": "high"},
        },
        (),
    ),
    (
        {"thinking": {"type": "adaptive", "display": "updates", "block_binding": {"x": 1}}},
        {"thinking": {"type": "adaptive"}},
        ("thinking.block_binding", "thinking.display"),
    ),
    ({"thinking": {"type": "disabled"}}, {"reasoning_effort": "none", "thinking": {"type": "disabled"}}, ()),
    ({"thinking": {"type": "between_tools"}}, {"reasoning_effort": "none", "thinking": {"type": "disabled"}}, ()),
    (
        {"thinking": {"type": "disabled"}, "output_config": {"effort": "low", "task_budget": {"total": 9}}},
        {"reasoning_effort": "none", "thinking": {"type": "disabled", "effort": "low"}},
        ("output_config.task_budget",),
    ),
    (
        {
            "messages": [
                USER,
                {"role": "system", "output_config": {"effort": "low"}},
                {"role": "assistant", "content": "x"},
                USER,
            ],
            "output_config": {"effort": "high"},
        },
        {
            "messages": [USER, {"role": "assistant", "content": "x"}, USER],
            "reasoning_effort": "low",
            "thinking": {"effort": "low"},
        },
        (),
    ),
    *[
        (
            {"max_tokens": 40_000, "thinking": {"type": "enabled", "budget_tokens": budget}},
            {
                "max_completion_tokens": 40_000,
                "reasoning_effort": effort,
                "thinking": {"type": "enabled", "budget_tokens": budget},
            },
            (),
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
    (
        {"output_format": {"type": "json_schema", "schema": {"type": "object"}}},
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "output", "schema": {"type": "object"}, "strict": True},
            }
        },
        (),
    ),
    # what asks for nothing, and hints
    ({"speed": "fast", "inference_geo": "global"}, {}, ("speed",)),
    ({"metadata": {"user_id": "u-1", "trace": "x"}}, {"user": "u-1"}, ("metadata",)),
    (
        {"betas": ["a"], "anthropic_beta": ["b"], "anthropic_version": "v"},
        {},
        ("betas", "anthropic_beta", "anthropic_version"),
    ),
    ({"betas": [], "anthropic_beta": [], "diagnostics": None, "fallbacks": []}, {}, ()),
    ({"safeguards": [{"type": "dangerous_tool_use"}]}, {}, ("safeguards",)),
    ({"diagnostics": {"previous_message_id": "msg_1"}, "fallbacks": "auto"}, {}, ("diagnostics", "fallbacks")),
    (
        {"fallback_credit_token": "x", "billing_policy": {"a": 1}, "user_profile_id": "u", "workspace_id": "w"},
        {},
        ("fallback_credit_token", "billing_policy", "user_profile_id", "workspace_id"),
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
    result, named = asked(**fields)
    assert result == {"model": "sota", "messages": [USER], "max_completion_tokens": 10} | expected
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
    result, dropped = asked(tools=[CUSTOM], tool_choice=choice)
    assert result["tool_choice"] == expected
    assert result.get("parallel_tool_calls") is parallel
    assert dropped == ()


# --- the conversation ---


def test_a_system_prompt_as_text_and_as_blocks() -> None:
    assert messages(USER, system="be brief")[0][0] == {"role": "system", "content": "be brief"}
    plain = [{"type": "text", "text": "be brief"}]
    assert messages(USER, system=plain)[0][0] == {"role": "system", "content": "be brief"}
    billed = [{"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1.177.01c; cch=36ee5;"}, *plain]
    assert messages(USER, system=billed) == (
        [{"role": "system", "content": "be brief"}, USER],
        ("system.x-anthropic-billing-header",),
    )
    marked = [{"type": "text", "text": "a"}, {"type": "text", "text": "b", "cache_control": HOUR}]
    assert messages(USER, system=marked)[0][0] == {"role": "system", "content": marked}
    assert messages(USER, system=[])[0] == [USER]
    assert messages(USER, system="")[0] == [USER]


def test_a_system_turn_stays_in_its_place() -> None:
    turn = {"role": "system", "content": "from here on, in French"}
    assert messages(USER, turn, USER)[0] == [USER, turn, USER]


def test_a_conversation_with_tools() -> None:
    result, dropped = messages(
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
    assert result == [
        {"role": "user", "content": "How is Paris?"},
        {
            "role": "assistant",
            "content": "Let me look.",
            "reasoning_content": "I look",
            "thinking_blocks": [{"type": "thinking", "thinking": "I look", "signature": "", "place": 0}],
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
    actual, _ = messages(
        USER, answer, {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", **result}]}
    )
    assert actual[2:] == [{"role": "tool", "tool_call_id": "toolu_1", "content": content}]
    assert "content" not in actual[1], "nothing but the call was said"


def test_images() -> None:
    remote = {
        "type": "image",
        "source": {"type": "url", "url": "https://example.com/a.png"},
        "cache_control": EPHEMERAL,
    }
    result, _ = messages({"role": "user", "content": [PIXEL, remote, {"type": "text", "text": "what?"}]})
    assert result[0]["content"] == [
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
        result, _ = messages(USER, answer, {"role": "user", "content": [*results, *said]})
        assert [message["role"] for message in result] == ["user", "assistant", "tool", "tool", "user"]
        assert result[2]["content"][0] == {"type": "text", "text": "a file"}
        assert "image" in result[2]["content"][1]["text"]
        assert result[3]["content"] == "done"
        assert [part["type"] for part in result[4]["content"]] == ["image_url", *(["text"] if said else [])]


def test_signed_thoughts_keep_their_places() -> None:
    result, dropped = messages(
        USER,
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "EqQB"},
                {"type": "redacted_thinking", "data": "Eqz"},
                {"type": "text", "text": "Well."},
                {"type": "thinking", "thinking": "", "signature": "Era"},
                CALL | {"cache_control": EPHEMERAL},
            ],
        },
        USER,
    )
    assert result[1]["thinking_blocks"] == [
        {"type": "thinking", "thinking": "hm", "signature": "EqQB", "place": 0},
        {"type": "redacted_thinking", "data": "Eqz", "place": 1},
        {"type": "thinking", "thinking": "", "signature": "Era", "place": 3},
    ]
    assert (result[1]["content"], result[1]["reasoning_content"]) == ("Well.", "hm")
    assert dropped == ("messages.tool_use.cache_control",)


def test_what_anthropics_server_did_in_an_earlier_answer_is_left_out_by_name() -> None:
    result, dropped = messages(
        USER,
        {
            "role": "assistant",
            "content": [
                {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "x"}},
                {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []},
                {"type": "text", "text": "Found.", "citations": [{"type": "web_search_result_location"}]},
                {"type": "compaction", "content": "They said hi.", "encrypted_content": "x"},
                {"type": "a b c"},
            ],
        },
        USER,
    )
    said = [{"type": "text", "text": "Found."}, {"type": "text", "text": "They said hi."}]
    assert result[1] == {"role": "assistant", "content": said}
    assert dropped == (
        "messages.server_tool_use", "messages.web_search_tool_result", "messages", "messages.citations",
    )  # fmt: skip


def test_a_cache_mark_for_the_whole_request_goes_to_its_last_block() -> None:
    marked = {"type": "text", "text": "hi", "cache_control": HOUR}
    assert messages(USER, cache_control=HOUR)[0] == [{"role": "user", "content": [marked]}]
    actual, _ = messages(USER, {"role": "assistant", "content": "x"}, USER, cache_control=HOUR)
    assert actual[0] == USER
    assert actual[2]["content"] == [marked]
    result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "hi"}]}
    actual, _ = messages(USER, {"role": "assistant", "content": [CALL]}, result, cache_control=HOUR)
    assert actual[2]["content"] == [marked]
    own = {"role": "user", "content": [{"type": "text", "text": "hi", "cache_control": EPHEMERAL}]}
    assert messages(own, cache_control=HOUR)[0] == [own], "its own mark is nearer"
    image = {"role": "user", "content": [{"type": "text", "text": "hi"}, PIXEL]}
    assert messages(image, cache_control=HOUR)[0][0]["content"][1]["cache_control"] == HOUR
