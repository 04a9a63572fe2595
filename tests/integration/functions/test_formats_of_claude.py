"""Anthropic's format at both ends: what Claude was asked, answered and counted comes through as it was."""

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from tests.integration.ai.observing import Books
from tests.integration.functions.conftest import Functions
from tests.integration.functions.test_formats import asked, events, read
from tests.support.anthropic_vendor import Vendor, running_vendor

CLAUDE = "claude-opus-4-6"
PRICES = {"anthropic/*": {"input_mtok": 10, "cached_input_mtok": 1, "cache_write_mtok": 12.5, "output_mtok": 50}}
EPHEMERAL = {"type": "ephemeral"}
TOOL = {"name": "weather", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}


@pytest.fixture
def claude(functions: Functions) -> Iterator[Vendor]:
    with running_vendor() as vendor:
        functions.set(
            AI_FALLBACK_CHAIN="anthropic",
            ANTHROPIC_BASE_URL=vendor.url,
            ANTHROPIC_API_KEY="sentinel-anthropic-key",
            ANTHROPIC_SOTA_MODEL=CLAUDE,
            AI_PRICE_OVERRIDES=json.dumps(PRICES),
        )
        yield vendor


_PIECES = ("text", "thinking", "signature", "partial_json")


def last_message(body: str) -> dict[str, Any]:
    """A streamed message, put together as Anthropic's reference says."""
    lines = events(body)
    message: dict[str, Any] = lines[0]["message"]
    for event in lines:
        if event["type"] == "content_block_start":
            assert event["index"] == len(message["content"])
            message["content"].append(event["content_block"] | {"json": ""})
        elif event["type"] == "content_block_delta":
            block, delta = message["content"][event["index"]], event["delta"]
            kind, text = next((name, delta[name]) for name in _PIECES if name in delta)
            block["json" if kind == "partial_json" else kind] += text
        elif event["type"] == "message_delta":
            message |= event["delta"] | {"usage": event["usage"]}
    for block in message["content"]:
        given = block.pop("json")
        if block["type"] == "tool_use":
            block["input"] = json.loads(given or "{}")
    return message


@pytest.mark.parametrize("streamed", [False, True])
def test_what_claude_says_and_counts_comes_back_as_it_was(
    functions: Functions, claude: Vendor, books: Books, streamed: bool
) -> None:
    claude.thoughts = ["I ", "look."]
    claude.calls = [("weather", {"city": "Zürich"}), ("weather", {})]
    claude.cached, claude.written, claude.written_for_an_hour = 40, 20, 10
    answer = functions("complete", asked("messages", model=CLAUDE, stream=streamed, tools=[TOOL]))
    assert answer["statusCode"] == 200, answer["body"]
    message = last_message(answer["body"]) if streamed else read(answer)
    assert message["content"] == [
        {"type": "thinking", "thinking": "I look.", "signature": "c2ln"},
        {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Zürich"}},
        {"type": "tool_use", "id": "toolu_2", "name": "weather", "input": {}},
    ]
    assert (message["stop_reason"], message["model"]) == ("tool_use", CLAUDE)
    [billed] = claude.billed
    assert {name: message["usage"][name] for name in billed if name != "service_tier"} == {
        name: count for name, count in billed.items() if name != "service_tier"
    }
    [entry] = books.entries()
    assert entry["cost_basis"] == "actual"
    assert message["usage"]["cost"] == entry["cost"] >= Decimal("0")
    books.check()


def test_what_claude_is_asked_arrives_as_it_was_said(functions: Functions, claude: Vendor) -> None:
    conversation = [
        {"role": "user", "content": [{"type": "text", "text": "How is Paris?"}]},
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Paris"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "toolu_1",
                    "content": [{"type": "text", "text": "sunny"}],
                    "cache_control": EPHEMERAL,
                },
                {"type": "text", "text": "So?", "cache_control": EPHEMERAL | {"ttl": "1h"}},
            ],
        },
    ]
    fields: dict[str, Any] = {
        "system": [{"type": "text", "text": "Be brief.", "cache_control": EPHEMERAL}],
        "messages": conversation,
        "tools": [TOOL | {"description": "d", "cache_control": EPHEMERAL}],
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
        "stop_sequences": ["X"],
        "output_config": {"effort": "low"},
    }
    answer = functions("complete", asked("messages", **fields))
    assert answer["statusCode"] == 200, answer["body"]
    assert "x-fusewire-dropped" not in answer["headers"]
    [sent] = claude.requests
    assert {name: sent[name] for name in fields} == fields
    assert (sent["model"], sent["max_tokens"]) == (CLAUDE, 64)
