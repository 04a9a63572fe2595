"""What can't be honoured in Anthropic's format is refused by name; and Claude's ids under other vendors' names."""

from typing import Any

import pytest

from fusewire.errors import InvalidRequestError, ModelNotFoundError
from fusewire.http.messages.errors import render_error
from fusewire.http.messages.request import MessagesRequest
from tests.unit.http.messages.test_translate import CALL, CUSTOM, FIELDS, PIXEL, USER, asked, registry, translate


def refusal(**fields: object) -> InvalidRequestError:
    with pytest.raises(InvalidRequestError) as raised:
        asked(**fields)
    assert raised.value.status == 400
    return raised.value


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"frobnicate": 1}, "frobnicate"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"temperature": 1.5}, "temperature"),
    ({"stop_sequences": ["a"] * 5}, "stop_sequences"),
    ({"service_tier": "priority"}, "service_tier"),
    ({"speed": "slow"}, "speed"),
    ({"container": "c_1"}, "container"),
    ({"mcp_servers": [{"type": "url"}]}, "mcp_servers"),
    ({"inference_geo": "us"}, "inference_geo"),
    ({"compaction": {"type": "summarize"}}, "compaction"),
    ({"thread": {"type": "create"}}, "thread"),
    ({"thinking": {"type": "often"}}, "thinking.type"),
    ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
    ({"thinking": {"type": "enabled", "budget_tokens": 1000}}, "thinking.budget_tokens"),
    ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "thinking.budget_tokens"),
    ({"thinking": {"type": "adaptive", "budget_tokens": 1024}}, "thinking.budget_tokens"),
    ({"output_config": {"format": {"type": "text"}}}, "output_config.format.type"),
    ({"output_config": {"frobnicate": 1}}, "output_config.frobnicate"),
    ({"tools": [{"type": "telepathy_20270101", "name": "t"}]}, "tools[0].type"),
    ({"tools": [CUSTOM | {"name": "x" * 129}]}, "tools[0].name"),
    ({"tools": [{"name": "x"}]}, "tools[0].input_schema"),
    ({"tool_choice": {"type": "tool"}, "tools": [CUSTOM]}, "tool_choice.name"),
    ({"tool_choice": {"type": "auto", "name": "weather"}, "tools": [CUSTOM]}, "tool_choice.name"),
    ({"tool_choice": {"type": "required"}}, "tool_choice.type"),
    ({"system": [{"type": "text"}]}, "system[0].text"),
    ({"system": [{"type": "text", "text": 1}]}, "system[0].text"),
    ({"messages": []}, "messages"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "user"}]}, "messages[0].content"),
    ({"messages": [USER, {"role": "assistant", "content": "The answer is ("}]}, "messages"),
    *[
        ({"messages": [{"role": "user", "content": [block]}]}, f"messages[0].content[0].{place}")
        for block, place in [
            ({"type": "container_upload", "file_id": "file_1"}, "type"),
            ({"type": "text"}, "text"),
            ({"type": "image", "source": {"type": "file", "file_id": "file_1"}}, "source.type"),
            (PIXEL | {"source": PIXEL["source"] | {"media_type": "image/tiff"}}, "source.media_type"),
            (PIXEL | {"source": PIXEL["source"] | {"data": "a b"}}, "source.data"),
            (PIXEL | {"transformations": {"oversized_image": "error"}}, "transformations"),
            ({"type": "tool_result", "tool_use_id": "t", "content": [{"type": "video"}]}, "content[0].type"),
        ]
    ],
    (
        {"messages": [USER, {"role": "assistant", "content": [CALL | {"input": "x"}]}, USER]},
        "messages[1].content[0].input",
    ),
    (
        {
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "text", "text": "x"}, {"type": "tool_result", "tool_use_id": "t"}],
                }
            ]
        },
        "messages[0].content",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "param"), REFUSED, ids=[param for _, param in REFUSED])
def test_it_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    error = refusal(**fields)
    assert error.param == param
    assert error.message.endswith(".")


def test_every_field_has_a_row_or_is_refused() -> None:
    rows = {name for fields, *_ in FIELDS for name in fields}
    refused = {next(iter(fields)) for fields, *_ in REFUSED}
    elsewhere = {"model", "messages", "system", "tool_choice", "cache_control", "max_tokens"}
    assert set(MessagesRequest.model_fields) == rows | elsewhere | (refused & set(MessagesRequest.model_fields))


def test_an_unknown_tool_is_told_by_its_type() -> None:
    error = refusal(tools=[{"type": "telepathy_20270101", "name": "t"}])
    assert error.code == "unsupported_parameter"
    assert "telepathy_20270101" in error.message


def test_a_thread_is_refused_as_the_sdks_tool_runner_looks_for_it() -> None:
    body: Any = render_error(refusal(thread={"type": "create"}), "r")[0]
    assert body["error"]["type"] == "invalid_request_error"
    assert body["error"]["details"]["error_code"] == "thread_unsupported_request"


def test_a_forced_tool_needs_tools() -> None:
    assert "tool_choice needs tools" in refusal(tool_choice={"type": "tool", "name": "x"}).message
    assert "tool_choice needs tools" in refusal(tool_choice={"type": "any"}).message


# --- Claude's names ---

ON_BEDROCK = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"


@pytest.mark.parametrize(
    ("asked_for", "served", "expected"),
    [
        ("claude-sonnet-4-5", ON_BEDROCK, f"vllm/{ON_BEDROCK}"),
        ("claude-sonnet-4-5-latest", ON_BEDROCK, f"vllm/{ON_BEDROCK}"),
        ("claude-sonnet-4-5-20250929", ON_BEDROCK, f"vllm/{ON_BEDROCK}"),
        ("claude-sonnet-4-5-20250101", ON_BEDROCK, "claude-sonnet-4-5-20250101"),
        ("claude-sonnet-4-5-20250929", "claude-sonnet-4-5", "vllm/claude-sonnet-4-5"),
        ("claude-sonnet-4-5", "claude-sonnet-4-5", "claude-sonnet-4-5"),
        ("claude-sonnet-4", ON_BEDROCK, "claude-sonnet-4"),
        ("claude-sonnet-4-5", "anthropic.claude-sonnet-4-5@20250929", "vllm/anthropic.claude-sonnet-4-5@20250929"),
        ("claude-3-haiku", "anthropic.claude-3-haiku-20240307-v1:0", "vllm/anthropic.claude-3-haiku-20240307-v1:0"),
        ("sota", ON_BEDROCK, "sota"),
        ("gpt-4o", ON_BEDROCK, "gpt-4o"),
        ("vllm/claude-sonnet-4-5", ON_BEDROCK, "vllm/claude-sonnet-4-5"),
    ],
)  # fmt: skip
def test_a_claude_is_found_under_another_vendors_name(asked_for: str, served: str, expected: str) -> None:
    known = registry(VLLM_BASE_URL="http://127.0.0.1:1", VLLM_MODEL=served)
    request, _ = translate({"model": asked_for, "max_tokens": 1, "messages": [USER]}, known)
    assert request.model == expected


def test_a_claude_that_two_providers_have_is_refused_with_both_names() -> None:
    known = registry(
        VLLM_BASE_URL="http://127.0.0.1:1",
        VLLM_MODEL=ON_BEDROCK,
        OLLAMA_BASE_URL="http://127.0.0.1:1",
        OLLAMA_SOTA_MODEL="claude-sonnet-4-5-20250929",
    )
    with pytest.raises(ModelNotFoundError, match=f"ollama/claude-sonnet-4-5-20250929 or vllm/{ON_BEDROCK}"):
        translate({"model": "claude-sonnet-4-5", "max_tokens": 1, "messages": [USER]}, known)
