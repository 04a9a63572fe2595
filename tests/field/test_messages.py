"""Reports of what Anthropic's clients send and a gateway or its vendor refused: Claude Code, the SDKs, and others."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.field import vendors
from tests.field.conftest import ABSENT, BEDROCK_CLAUDE, CLAUDE, GPT, OLD_CLAUDE, QWEN, Field, at
from tests.integration.functions.conftest import sample
from tests.support.anthropic_vendor import says, status
from tests.support.bedrock_vendor import Bedrock
from tests.support.claude_code import pdf

HELLO: dict[str, Any] = {"role": "user", "content": "Hello"}
TOOL: dict[str, Any] = {"name": "f", "input_schema": {"type": "object"}}
CALL: dict[str, Any] = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}
SIGNED = {"type": "thinking", "thinking": "Hm.", "signature": "c2lnbmVk"}
OMITTED = {"type": "thinking", "thinking": "", "signature": "b21pdA=="}
UNSIGNED = {"type": "thinking", "thinking": "Hm.", "signature": ""}
REDACTED = {"type": "redacted_thinking", "data": "RXF6"}
PDF = {"type": "base64", "media_type": "application/pdf", "data": base64.b64encode(pdf(2)).decode()}
DOCUMENT = {"type": "document", "source": PDF}
SONNET, OPUS_47, OPUS_45 = "anthropic/claude-sonnet-4-6", "anthropic/claude-opus-4-7", "anthropic/claude-opus-4-5"
SONNET_55 = "anthropic/claude-sonnet-5-5"


@dataclass(frozen=True)
class Report:
    """One public report, of a request in Anthropic's format."""

    source: str
    to: str
    sent: Mapping[str, Any]
    status: int = 200
    upstream: Mapping[str, Any] = field(default_factory=dict)
    """What the vendor gets, by dotted paths."""
    answer: Mapping[str, Any] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()
    script: tuple[Any, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)


def answered(*blocks: dict[str, Any], then: Any = "And?") -> list[dict[str, Any]]:  # noqa: ANN401 - content
    return [HELLO, {"role": "assistant", "content": list(blocks)}, {"role": "user", "content": then}]


def result(content: object = "42") -> list[dict[str, Any]]:
    return [{"type": "tool_result", "tool_use_id": "toolu_1", "content": content}]


ADAPTIVE = {"type": "adaptive"}
BUDGET = {"type": "enabled", "budget_tokens": 2048}
BASH = {"type": "bash_20250124", "name": "bash"}
SEARCH = {"type": "web_search_20250305", "name": "web_search", "max_uses": 8}

REPORTS = [
    # Effort and thinking.
    Report(
        "anthropics/claude-code#30795",
        OLD_CLAUDE,
        {"output_config": {"effort": "high"}},
        upstream={"output_config": ABSENT, "thinking": ABSENT},
        dropped=("output_config.effort or thinking",),
    ),
    Report(
        "oratis/LISA#218",
        "anthropic/claude-haiku-4-5",
        {"output_config": {"effort": "low"}},
        upstream={"output_config": ABSENT},
        dropped=("output_config.effort or thinking",),
    ),
    Report(
        "BerriAI/litellm#23971",
        SONNET,
        {"output_config": {"effort": "max"}},
        upstream={"output_config": {"effort": "max"}, "thinking": ABSENT},
    ),
    Report(
        "BerriAI/litellm#23971",
        OPUS_45,
        {"output_config": {"effort": "low"}},
        upstream={"output_config": {"effort": "low"}, "thinking": ABSENT},
    ),
    Report(
        "anthropics/claude-code#32672",
        BEDROCK_CLAUDE,
        {"output_config": {"effort": "high"}},
        upstream={"outputConfig": ABSENT, "additionalModelRequestFields": ABSENT},
        dropped=("output_config.effort or thinking",),
    ),
    Report(
        "icebear0828/codex-proxy#739", GPT, {"output_config": {"effort": "low"}}, upstream={"reasoning_effort": "low"}
    ),
    Report(
        "memberjunction: UsesAdaptiveThinking",
        CLAUDE,
        {"thinking": BUDGET},
        upstream={"thinking": ADAPTIVE, "output_config": ABSENT},
        dropped=("thinking.budget_tokens",),
    ),
    Report(
        "memberjunction: UsesAdaptiveThinking",
        OPUS_47,
        {"thinking": BUDGET | {"display": "summarized"}},
        upstream={"thinking": ADAPTIVE | {"display": "summarized"}},
        dropped=("thinking.budget_tokens",),
    ),
    Report("memberjunction: UsesAdaptiveThinking", OLD_CLAUDE, {"thinking": BUDGET}, upstream={"thinking": BUDGET}),
    Report(
        "Anthropic, Adaptive thinking",
        OLD_CLAUDE,
        {"thinking": ADAPTIVE},
        upstream={"thinking": ABSENT},
        dropped=("thinking",),
    ),
    Report(
        "anthropics/claude-code#32672",
        SONNET,
        {"thinking": ADAPTIVE, "output_config": {"effort": "high"}},
        upstream={"thinking": ADAPTIVE, "output_config": {"effort": "high"}},
    ),
    Report(
        "Anthropic, Thinking",
        CLAUDE,
        {"thinking": {"type": "disabled"}, "output_config": {"effort": "low"}},
        upstream={"thinking": ABSENT, "output_config": {"effort": "low"}},
        dropped=("thinking",),
    ),
    Report(
        "Anthropic, Thinking",
        SONNET_55,
        {"thinking": {"type": "disabled"}, "output_config": {"effort": "low"}},
        upstream={"thinking": {"type": "between_tools"}, "output_config": {"effort": "low"}},
    ),
    Report(
        "Anthropic, Thinking",
        BEDROCK_CLAUDE,
        {"thinking": BUDGET},
        upstream={"additionalModelRequestFields": {"thinking": BUDGET}},
    ),
    Report(
        "anomalyco/opencode#3077",
        OLD_CLAUDE,
        {"thinking": BUDGET, "messages": answered(CALL, then=result()), "tools": [TOOL]},
        upstream={"thinking": ABSENT},
        dropped=("thinking",),
    ),
    Report(
        "mastra-ai/mastra#7799",
        OLD_CLAUDE,
        {"thinking": BUDGET, "messages": answered(SIGNED, CALL, then=result()), "tools": [TOOL]},
        upstream={"thinking": BUDGET, "messages.1.content": [SIGNED, CALL]},
    ),
    # Thoughts, there and back.
    Report(
        "router-for-me/CLIProxyAPI#2172",
        CLAUDE,
        {"messages": answered(SIGNED, {"type": "text", "text": "Hi"})},
        upstream={"messages.1.content.0": SIGNED},
    ),
    Report(
        "router-for-me/CLIProxyAPI#3624",
        CLAUDE,
        {
            "messages": answered(SIGNED, {"type": "text", "text": "Hi"}, REDACTED, OMITTED, CALL, then=result()),
            "tools": [TOOL],
        },
        upstream={"messages.1.content": [SIGNED, {"type": "text", "text": "Hi"}, REDACTED, OMITTED, CALL]},
    ),
    Report(
        "headroomlabs-ai/headroom#2251",
        CLAUDE,
        {"messages": answered({**SIGNED, "thinking": "é\u200b\n  <b>"}, {"type": "text", "text": "Hi"})},
        upstream={"messages.1.content.0.thinking": "é\u200b\n  <b>"},
    ),
    Report(
        "router-for-me/CLIProxyAPI#570",
        CLAUDE,
        {"messages": answered(UNSIGNED, {"type": "text", "text": "Hi"})},
        upstream={"messages.1.content": [{"type": "text", "text": "Hi"}]},
        dropped=("messages.thinking",),
    ),
    Report(
        "james-6-23/codex2api#613",
        CLAUDE,
        {"messages": answered(SIGNED, {"type": "text", "text": "Hi"})},
        script=(
            status(
                400, "invalid_request_error", message="messages.1.content.0: Invalid `signature` in `thinking` block"
            ),
        ),
        upstream={"messages.1.content": [{"type": "text", "text": "Hi"}]},
        dropped=("messages.thinking",),
    ),
    Report(
        "lbjlaq/Antigravity-Manager#777",
        CLAUDE,
        {"messages": answered(SIGNED)},
        upstream={
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "Hello"}, {"type": "text", "text": "And?"}]}
            ]
        },
    ),
    Report(
        "run-llama/llama_index#18834",
        BEDROCK_CLAUDE,
        {"messages": answered(SIGNED, REDACTED, CALL, then=result()), "tools": [TOOL]},
        upstream={
            "messages.1.content.0.reasoningContent.reasoningText": {"text": "Hm.", "signature": "c2lnbmVk"},
            "messages.1.content.1.reasoningContent.redactedContent": "RXF6",
            "messages.1.content.2.toolUse.name": "f",
        },
    ),
    Report(
        "badrisnarayanan/antigravity-claude-proxy#298",
        GPT,
        {"messages": answered(SIGNED, REDACTED, CALL, then=result()), "tools": [TOOL]},
        upstream={"messages.1.reasoning_content": ABSENT, "messages.1.thinking_blocks": ABSENT},
        dropped=("messages.thinking",),
    ),
    Report(
        "badrisnarayanan/antigravity-claude-proxy#298",
        QWEN,
        {"messages": answered(SIGNED, {"type": "text", "text": "x"})},
        upstream={"messages.1.reasoning_content": "Hm."},
        dropped=("messages.thinking",),
    ),
    # The system's messages and Claude Code's line for the bill.
    Report(
        "QwenLM/Qwen#2244",
        QWEN,
        {"messages": [HELLO, {"role": "system", "content": "In French."}]},
        upstream={"messages.0": {"role": "system", "content": "In French."}, "messages.1.role": "user"},
    ),
    Report(
        "simonw/llm-anthropic#73",
        CLAUDE,
        {"messages": [HELLO, {"role": "system", "content": "In French."}]},
        upstream={
            "system": ABSENT,
            "messages.1": {"role": "system", "content": [{"type": "text", "text": "In French."}]},
        },
    ),
    Report(
        "simonw/llm-anthropic#73",
        OPUS_47,
        {"messages": [HELLO, {"role": "system", "content": "In French."}]},
        upstream={"system": [{"type": "text", "text": "In French."}]},
    ),
    Report(
        "anthropics/claude-code#68900",
        GPT,
        {
            "system": [
                {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1.177.01c; cch=36ee5;"},
                {"type": "text", "text": "Be brief."},
            ]
        },
        upstream={"messages.0": {"role": "system", "content": "Be brief."}},
        dropped=("system.x-anthropic-billing-header",),
    ),
    # What Claude Code always sends.
    Report(
        "BerriAI/litellm#26240",
        CLAUDE,
        {"context_management": {"edits": [{"type": "clear_thinking_20251015"}]}},
        dropped=("context_management",),
    ),
    Report("caozhiyuan/copilot-api#305", GPT, {"context_management": {"edits": []}}, dropped=("context_management",)),
    Report(
        "BerriAI/litellm#20021",
        BEDROCK_CLAUDE,
        {},
        headers={"anthropic-beta": "claude-code-20250219,a-new-one"},
        dropped=("anthropic-beta",),
    ),
    Report(
        "router-for-me/CLIProxyAPI#2172",
        CLAUDE,
        {"system": [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral", "scope": "global"}}]},
        upstream={"system.0.cache_control": {"type": "ephemeral"}},
    ),
    Report(
        "anthropics/claude-code#31033",
        CLAUDE,
        {"tools": [TOOL, TOOL | {"name": "g", "defer_loading": True}]},
        upstream={"tools.0.name": "f", "tools.1": ABSENT},
    ),
    Report(
        "router-for-me/CLIProxyAPI#1725", GPT, {"tools": [TOOL | {"defer_loading": True}]}, upstream={"tools": ABSENT}
    ),
    Report(
        "caigee-cmd/cli2api#152",
        GPT,
        {
            "tools": [TOOL, TOOL | {"name": "TaskStop", "defer_loading": True}],
            "messages": answered(CALL, then=result([{"type": "tool_reference", "tool_name": "TaskStop"}])),
        },
        upstream={"tools.1.function.name": "TaskStop", "messages.2.content": "Ready to be called: TaskStop."},
    ),
    Report(
        "Anthropic, Tool search tool",
        CLAUDE,
        {
            "tools": [
                {"type": "tool_search_tool_regex_20251119", "name": "tool_search_tool_regex"},
                TOOL | {"defer_loading": True},
            ]
        },
        upstream={"tools.0.name": "f"},
        dropped=("tools.tool_search_tool_regex",),
    ),
    Report(
        "Anthropic, Tool use",
        GPT,
        {"tools": [TOOL | {"name": f"f{number}"} for number in range(200)]},
        upstream={"tools.199.function.name": "f199"},
    ),
    Report(
        "anthropics/claude-code#16425",
        CLAUDE,
        {"tools": [TOOL | {"name": "mcp__" + "x" * 90}]},
        upstream={"tools.0.name": "mcp__" + "x" * 90},
    ),
    # Tools that Anthropic names.
    Report(
        "8monkey-ai/hebo-platform#451",
        BEDROCK_CLAUDE,
        {"tools": [SEARCH]},
        upstream={
            "toolConfig": ABSENT,
            "system.0.text": "Not available here: web_search. Say that it isn't, and "
            "don't answer as if you had used it.",
        },
        dropped=("tools.web_search",),
    ),
    Report(
        "BerriAI/litellm#25477",
        GPT,
        {"tools": [SEARCH], "tool_choice": {"type": "tool", "name": "web_search"}},
        upstream={"tools": ABSENT, "tool_choice": ABSENT},
        dropped=("tools.web_search", "tool_choice"),
    ),
    Report(
        "BerriAI/litellm#25477",
        CLAUDE,
        {"tools": [TOOL, SEARCH], "tool_choice": {"type": "auto"}},
        upstream={"tools.0.name": "f", "tools.1": ABSENT, "system": ABSENT},
        dropped=("tools.web_search",),
    ),
    Report(
        "vercel/ai#3457",
        GPT,
        {
            "tools": [
                BASH,
                {"type": "text_editor_20250728", "name": "str_replace_based_edit_tool"},
                {"type": "memory_20250818", "name": "memory"},
                {"type": "computer_20251124", "name": "computer", "display_width_px": 800, "display_height_px": 600},
            ]
        },
        upstream={
            "tools.0.function.parameters.properties.command.type": "string",
            "tools.1.function.parameters.required": ["command", "path"],
            "tools.2.function.name": "memory",
            "tools.3.function.parameters.required": ["action"],
        },
    ),
    Report(
        "vercel/ai#3457",
        CLAUDE,
        {"tools": [BASH | {"cache_control": {"type": "ephemeral"}}]},
        upstream={"tools.0.name": "bash", "tools.0.cache_control": {"type": "ephemeral"}},
    ),
    # Conversations that began elsewhere.
    Report(
        "farion1231/cc-switch#5085",
        QWEN,
        {
            "messages": answered(
                {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}},
                {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []},
                {"type": "text", "text": "Found.", "citations": [{"type": "web_search_result_location"}]},
            )
        },
        upstream={"messages.1.content": "Found."},
        dropped=("messages.server_tool_use", "messages.web_search_tool_result", "messages.citations"),
    ),
    # Documents.
    Report(
        "Anthropic, PDF support",
        CLAUDE,
        {"messages": [{"role": "user", "content": [DOCUMENT]}]},
        upstream={"messages.0.content.0": DOCUMENT},
    ),
    Report(
        "Claude Code 2.1, Read of a PDF",
        CLAUDE,
        {"messages": answered(CALL, then=result([DOCUMENT])), "tools": [TOOL]},
        upstream={"messages.2.content.1": DOCUMENT},
    ),
    Report(
        "Claude Code 2.1, Read of a PDF",
        GPT,
        {"messages": answered(CALL, then=result([DOCUMENT])), "tools": [TOOL]},
        upstream={"messages.3.content.0.type": "text"},
        dropped=("messages.document",),
    ),
    Report(
        "Anthropic, PDF support",
        GPT,
        {"messages": [{"role": "user", "content": [DOCUMENT]}]},
        status=400,
        answer={"type": "error", "error.type": "invalid_request_error", "error.details.param": "messages"},
    ),
    Report(
        "Anthropic, PDF support",
        GPT,
        {"messages": [{"role": "user", "content": [DOCUMENT]}, {"role": "assistant", "content": "x"}, HELLO]},
        upstream={"messages.0.content.0.type": "text"},
        dropped=("messages.document",),
    ),
    Report(
        "Anthropic, PDF support",
        GPT,
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {
                            "type": "document",
                            "title": "T",
                            "source": {"type": "text", "media_type": "text/plain", "data": "abc"},
                        }
                    ],
                }
            ]
        },
        upstream={"messages.0.content": "T\n\nabc"},
    ),
    Report(
        "Anthropic, PDF support",
        CLAUDE,
        {
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "document", "source": {"type": "url", "url": "https://example.com/a.pdf"}}],
                }
            ]
        },
        status=400,
        answer={"error.type": "invalid_request_error"},
    ),
    Report(
        "Anthropic, PDF support",
        CLAUDE,
        {
            "messages": answered(
                CALL, then=result([{"type": "document", "source": {"type": "url", "url": "https://example.com/a.pdf"}}])
            ),
            "tools": [TOOL],
        },
        upstream={"messages.2.content.1.type": "text"},
        dropped=("messages.document",),
    ),
    # Forms of refusal.
    Report(
        "anthropic-sdk-python: tool_runner",
        CLAUDE,
        {"thread": {"type": "create"}},
        status=400,
        answer={"error.details.error_code": "thread_unsupported_request", "error.type": "invalid_request_error"},
    ),
    Report(
        "anthropics/claude-code#31033",
        CLAUDE,
        {"a_new_beta": 1},
        status=400,
        answer={"error.message": "a_new_beta: Extra inputs are not permitted."},
    ),
    Report(
        "anthropics/anthropic-sdk-python#1083",
        CLAUDE,
        {"output_format": {"type": "json_schema", "schema": {"type": "object"}}},
        upstream={"output_config.format.type": "json_schema"},
    ),
]


def send(field: Field, to: str, sent: Mapping[str, Any], headers: Mapping[str, str], path: str = "") -> dict[str, Any]:
    body = {"model": to, "messages": [HELLO], **({} if path else {"max_tokens": 4096}), **sent}
    event = sample("complete", body)
    route = f"/api/v1/messages{path}"
    event |= {"path": route, "resource": route, "headers": {**event["headers"], **headers}}
    return field.call("complete", event)


@pytest.mark.parametrize("report", REPORTS, ids=lambda report: f"{report.source} {report.to}")
def test_a_report(field: Field, report: Report) -> None:
    provider = report.to.partition("/")[0]
    server = field.servers[provider]
    server.script.extend(report.script)
    if isinstance(server, Bedrock) and not report.script:
        server.script.append(vendors.judging_converse)
    answer = send(field, report.to, report.sent, report.headers)
    body = json.loads(answer["body"])
    assert answer["statusCode"] == report.status, body
    for path, value in report.answer.items():
        assert at(body, path) == value, (path, body)
    if report.status == 200:
        sent = field.requests(provider)[-1]
        for path, value in report.upstream.items():
            assert at(sent, path) == value, (path, sent)
        dropped = answer["headers"].get("x-fusewire-dropped", "")
        assert sorted(filter(None, dropped.split(", "))) == sorted(report.dropped)


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_what_claude_thought_goes_there_and_back_as_it_was(field: Field, streamed: bool) -> None:
    """router-for-me/CLIProxyAPI#3624: in order, with signatures, and with thoughts that nobody may read."""
    blocks = [SIGNED, {"type": "text", "text": "One."}, REDACTED, OMITTED, {"type": "text", "text": "Two."}, CALL]
    script(field, says(*blocks))
    sent = {"tools": [TOOL], "thinking": ADAPTIVE | {"display": "omitted"}}
    answer = send(field, CLAUDE, sent | ({"stream": True} if streamed else {}), {})
    got = _of_stream(answer["body"]) if streamed else json.loads(answer["body"])["content"]
    assert got == blocks
    send(field, CLAUDE, sent | {"messages": answered(*got, then=result())}, {})
    assert field.requests("anthropic")[-1]["messages"][1]["content"] == blocks


def script(field: Field, *replies: Any) -> None:  # noqa: ANN401 - a vendor's
    server: Any = field.servers["anthropic"]
    server.script.extend(replies)


def _of_stream(body: str) -> list[dict[str, Any]]:
    """The blocks of a stream, as an SDK puts them together."""
    blocks: list[dict[str, Any]] = []
    for line in body.splitlines():
        event = json.loads(line.removeprefix("data: ")) if line.startswith("data: ") else {}
        if event.get("type") == "content_block_start":
            blocks.append(dict(event["content_block"]))
        elif event.get("type") == "content_block_delta":
            delta, block = event["delta"], blocks[event["index"]]
            for name in ("text", "thinking", "signature"):
                block[name] = block[name] + delta[name] if name in delta else block.get(name, "")
            block["json"] = block.get("json", "") + delta.get("partial_json", "")
    for block in blocks:
        given = block.pop("json", "")
        if block["type"] == "tool_use":
            block["input"] = json.loads(given or "{}")
        names = {"text": ("text",), "thinking": ("thinking", "signature")}.get(block["type"], ())
        for name in {"text", "thinking", "signature"} - {*names}:
            block.pop(name, None)
    return blocks


COUNTED = [
    ("musistudio/claude-code-router#1252", CLAUDE, "vendor"),
    ("router-for-me/CLIProxyAPI#679", GPT, "bound"),
    ("decolua/9router#2337", QWEN, "bound"),
    ("pydantic/pydantic-ai#4001", BEDROCK_CLAUDE, "vendor"),
]


@pytest.mark.parametrize(("source", "to", "whose"), COUNTED, ids=[source for source, *_ in COUNTED])
def test_tokens_are_counted_with_all_that_is_sent(field: Field, source: str, to: str, whose: str) -> None:
    short = {"messages": [HELLO]}
    long = {
        "system": "x" * 1000,
        "tools": [TOOL | {"description": "y" * 1000}],
        "messages": answered(SIGNED, CALL, then=result("z" * 1000)),
    }
    counts = []
    for sent in (short, long):
        answer = send(field, to, sent, {}, "/count_tokens")
        assert answer["statusCode"] == 200, answer["body"]
        assert answer["headers"]["x-fusewire-token-count"] == whose
        counts.append(json.loads(answer["body"])["input_tokens"])
    assert counts[1] - counts[0] >= 3000


def test_a_count_that_fails_is_the_bound(field: Field) -> None:
    script(field, status(500))
    answer = send(field, CLAUDE, {}, {}, "/count_tokens")
    assert (answer["statusCode"], answer["headers"]["x-fusewire-token-count"]) == (200, "bound")


def test_a_count_is_refused_where_a_call_would_be(field: Field) -> None:
    assert send(field, "anthropic/", {}, {}, "/count_tokens")["statusCode"] == 404
    confidential = send(field, CLAUDE, {}, {"x-fusewire-classification": "confidential"}, "/count_tokens")
    assert confidential["statusCode"] == 503
    assert send(field, CLAUDE, {"max_tokens": 5}, {}, "/count_tokens")["statusCode"] == 400
    assert not field.requests("anthropic")
