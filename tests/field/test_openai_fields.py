"""Reports of fields that ask for nothing, or only for a hint, and that a server refused all the same."""

import json
from typing import Any

import pytest

from tests.field.conftest import (
    ABSENT,
    BEDROCK_CLAUDE,
    CLAUDE,
    GEMINI,
    GPT,
    GPT5,
    LLAMA,
    NOVA,
    OLD_CLAUDE,
    QWEN,
    Field,
    Report,
    check,
)
from tests.support import anthropic_vendor, bedrock_vendor, upstream

TOOL: dict[str, Any] = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
CLOCK: dict[str, Any] = {"type": "function", "function": {"name": "clock", "parameters": {"type": "object"}}}
FUNCTION = TOOL["function"]
HELLO = {"role": "user", "content": "Hello"}
NOTHING: dict[str, Any] = dict.fromkeys(
    ("max_tokens", "temperature", "top_p", "n", "stop", "tools", "tool_choice", "response_format", "user", "seed",
     "logit_bias", "stream_options", "metadata", "store", "service_tier", "functions", "function_call", "audio",
     "modalities", "prediction", "reasoning_effort", "parallel_tool_calls", "logprobs", "top_logprobs")
)  # fmt: skip


def parts(**more: object) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "text", "text": "Hello", **more}]}]


def two_calls(handler: upstream.Handler, body: dict[str, Any]) -> None:
    """An answer that calls two tools at once, whole or streamed."""
    calls = [
        {"index": n, "id": f"call_{n}", "type": "function", "function": {"name": name, "arguments": "{}"}}
        for n, name in enumerate(("weather", "clock"))
    ]
    usage = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
    if body.get("stream"):
        handler.begin_events()
        for call in calls:
            handler.event(upstream.chunk(body["model"], {"tool_calls": [call]}))
        handler.event(upstream.chunk(body["model"], {}, "tool_calls"))
        handler.event(upstream.chunk(body["model"], {}) | {"choices": [], "usage": usage})
        handler.event("[DONE]")
        handler.end_events()
        return
    message = {"role": "assistant", "content": None, "tool_calls": calls}
    choices = [{"index": 0, "message": message, "finish_reason": "tool_calls"}]
    answer = {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": choices, "usage": usage}
    handler.reply(200, answer)


def calling(name: str) -> upstream.Reply:
    def reply(handler: upstream.Handler, body: dict[str, Any]) -> None:
        upstream.answer(handler, body | {"tool_choice": {"type": "function", "function": {"name": name}}})

    return reply


def two_bedrock_calls(handler: bedrock_vendor.Handler, body: dict[str, Any]) -> None:
    blocks = [
        {"toolUse": {"toolUseId": f"t{n}", "name": name, "input": {}}} for n, name in enumerate(("weather", "clock"))
    ]
    handler.reply(
        200, bedrock_vendor.whole(blocks, "tool_use", {"inputTokens": 9, "outputTokens": 4, "totalTokens": 13})
    )


ONE_CALL = {"choices.0.message.tool_calls.0.function.name": "weather", "choices.0.message.tool_calls.1": ABSENT}
BOTH: dict[str, Any] = {"tools": [TOOL, CLOCK], "parallel_tool_calls": False}
OLD: dict[str, Any] = {"functions": [FUNCTION], "function_call": {"name": "weather"}}
OLD_ANSWER = {
    "choices.0.message.function_call.name": "weather",
    "choices.0.message.tool_calls": ABSENT,
    "choices.0.finish_reason": "function_call",
}
OLD_CONVERSATION = [
    HELLO,
    {"role": "assistant", "content": None, "function_call": {"name": "weather", "arguments": '{"city":"Rome"}'}},
    {"role": "function", "name": "weather", "content": "sunny"},
]

REPORTS = [
    # `store: false` keeps an answer out of OpenAI's logs, and means nothing elsewhere.
    Report("experientiallabs/experiential#761", GPT, {"store": False}, upstream={"store": False}),
    Report("BerriAI/litellm#21195", CLAUDE, {"store": False}, upstream={"store": ABSENT}),
    Report("huggingface/huggingface.js#2268", QWEN, {"store": False}, upstream={"store": ABSENT}),
    Report("openclaw/openclaw#47100", GEMINI, {"store": False}, upstream={"store": ABSENT}),
    Report("BerriAI/litellm#33195", GPT, {"store": True}, 400, answer={"error.param": "store"}),
    # An empty list of tools offers none.
    Report("QwenLM/qwen-code#2054", QWEN, {"tools": []}, upstream={"tools": ABSENT}),
    Report("earendil-works/pi#3649", GPT, {"tools": []}, upstream={"tools": ABSENT}),
    Report("vllm-project/vllm#39741", LLAMA, {"tools": []}, upstream={"tools": ABSENT}),
    Report("runebookai/tome#87", NOVA, {"tools": []}, upstream={"toolConfig": ABSENT}),
    Report("leookun/cursor-byok#361", CLAUDE, {"tools": []}, upstream={"tools": ABSENT}),
    *(
        Report(
            "local-inference-lab/vllm#193", QWEN, {"tools": [], "tool_choice": choice}, upstream={"tool_choice": ABSENT}
        )
        for choice in ("auto", "none", None)
    ),
    Report("local-inference-lab/vllm#193", QWEN, {"tools": [], "tool_choice": "required"}, 400),
    # Where OpenAI's cache is told what to do, others have no such field, and its newest models refuse one of them.
    Report(
        "router-for-me/CLIProxyAPI#2466",
        QWEN,
        {"prompt_cache_key": "k", "prompt_cache_retention": "24h"},
        dropped=("prompt_cache_key", "prompt_cache_retention"),
    ),
    Report(
        "NousResearch/hermes-agent#91164",
        GPT,
        {"prompt_cache_key": "k", "prompt_cache_retention": "24h"},
        upstream={"prompt_cache_key": "k"},
        dropped=("prompt_cache_retention",),
    ),
    Report("lidge-jun/opencodex#2092", GPT, {"prompt_cache_retention": "in_memory"}),
    Report(
        "router-for-me/CLIProxyAPI#5068",
        GPT,
        {"prompt_cache_options": {"ttl": "30m"}, "messages": parts(prompt_cache_breakpoint={"mode": "explicit"})},
        dropped=("prompt_cache_breakpoint", "prompt_cache_options"),
    ),
    Report("zed-industries/zed#36215", LLAMA, {"prompt_cache_key": "k"}, dropped=("prompt_cache_key",)),
    # A tier that has no price here, or that the vendor doesn't sell, is left out, and the caller is told.
    Report(
        "BerriAI/litellm#17911",
        NOVA,
        {"service_tier": "priority"},
        dropped=("service_tier",),
        upstream={"serviceTier.type": "default"},
    ),
    Report(
        "can1357/oh-my-pi#6451",
        GPT,
        {"service_tier": "flex"},
        dropped=("service_tier",),
        upstream={"service_tier": "default"},
    ),
    Report("azerozero/grob#388", QWEN, {"service_tier": "priority"}, dropped=("service_tier",)),
    Report("experientiallabs/experiential#728", CLAUDE, {"service_tier": "fast"}, dropped=("service_tier",)),
    Report("BerriAI/litellm#18091", BEDROCK_CLAUDE, {"service_tier": "auto"}),
    Report("BerriAI/litellm#18091", GPT, {"service_tier": "default"}),
    # One tool call at a time, asked of vendors that have no such field.
    Report("RooCodeInc/Roo-Code#10553", NOVA, BOTH, answer=ONE_CALL, script=(two_bedrock_calls,)),
    Report(
        "RooCodeInc/Roo-Code#10553",
        GEMINI,
        BOTH,
        answer=ONE_CALL,
        script=(two_calls,),
        upstream={"parallel_tool_calls": ABSENT},
    ),
    Report("RooCodeInc/Roo-Code#10553", LLAMA, BOTH, answer=ONE_CALL, script=(two_calls,)),
    Report("RooCodeInc/Roo-Code#10553", CLAUDE, BOTH, upstream={"tool_choice.disable_parallel_tool_use": True}),
    Report("defog-ai/defog#171", "openai/o3-mini", BOTH, answer=ONE_CALL, script=(two_calls,)),
    Report("QuantumNous/new-api#1110", GPT, BOTH, upstream={"parallel_tool_calls": False}),
    Report(
        "dphnAI/sonar#1143",
        GPT,
        {"parallel_tool_calls": False, "tool_choice": "auto"},
        upstream={"parallel_tool_calls": ABSENT, "tool_choice": ABSENT},
    ),
    # OpenAI's newest models take no effort beside tools in Chat Completions, and some only `none`.
    *(
        Report(
            source,
            f"openai/{model}",
            {"tools": [TOOL], "reasoning_effort": "high"},
            dropped=("reasoning_effort",),
            upstream={"reasoning_effort": sent, "tools.0.function.name": "weather"},
        )
        for source, model, sent in (
            ("openai/openai-openapi#541", "gpt-5.4", ABSENT),
            ("dotnet/extensions#7407", "gpt-5.4-mini", ABSENT),
            ("charmbracelet/crush#2913", "gpt-5.5", "none"),
            ("GEMISIS/leviath#333", "gpt-5.6-terra", "none"),
            ("onyx-dot-app/onyx#15008", "gpt-6-sol", "none"),
        )
    ),
    Report(
        "pipecat-ai/pipecat#4043",
        "azure/gpt-5.4",
        {"tools": [TOOL], "reasoning_effort": "low"},
        dropped=("reasoning_effort",),
        upstream={"reasoning_effort": ABSENT},
    ),
    Report(
        "danny-avila/LibreChat#14355", "openai/gpt-5.6-sol", {"tools": [TOOL]}, upstream={"reasoning_effort": "none"}
    ),
    Report("jeffdafoe/llm-memory-api#178", "openai/gpt-5.5", {"tools": [TOOL]}, upstream={"reasoning_effort": "none"}),
    Report(
        "BerriAI/litellm#34569",
        "openai/gpt-5.6",
        {"tools": [TOOL], "reasoning_effort": "none"},
        upstream={"reasoning_effort": "none"},
    ),
    Report(
        "fazer-ai/agents#66", "openai/gpt-5.6-luna", {"reasoning_effort": "low"}, upstream={"reasoning_effort": "low"}
    ),
    Report(
        "BerriAI/litellm#34569",
        "openai/gpt-5.4",
        {"tools": [TOOL], "reasoning_effort": "none"},
        upstream={"reasoning_effort": "none"},
    ),
    Report(
        "bolna-ai/bolna#1019",
        "openai/gpt-6-astra",
        {"tools": [TOOL], "reasoning_effort": "low"},
        status=400,
        answer={"error.code": "unsupported_parameter", "error.param": "tools"},
    ),
    # The form that tools had before.
    Report(
        "Continuum-AI-Corp/OrcaRouter-Lite#131",
        GPT,
        OLD,
        answer=OLD_ANSWER,
        script=(calling("weather"),),
        upstream={"tools.0.function.name": "weather", "tool_choice.function.name": "weather", "functions": ABSENT},
    ),
    Report(
        "BerriAI/litellm#4544",
        OLD_CLAUDE,
        OLD,
        answer=OLD_ANSWER,
        upstream={"tools.0.name": "weather", "tool_choice.name": "weather"},
    ),
    Report(
        "RichardAtCT/claude-code-openai-wrapper#7",
        CLAUDE,
        {"functions": [FUNCTION], "function_call": "auto", "messages": OLD_CONVERSATION},
        upstream={"messages.1.content.0.input": {"city": "Rome"}, "messages.2.content.0.type": "tool_result"},
    ),
    Report(
        "RichardAtCT/claude-code-openai-wrapper#7",
        QWEN,
        {"functions": [FUNCTION], "messages": OLD_CONVERSATION},
        upstream={"messages.2.role": "tool", "messages.1.function_call": ABSENT},
    ),
    # Options of a stream that isn't one; caps and whatever else that are null.
    Report(
        "sgl-project/sglang#16068",
        GPT,
        {"stream": False, "stream_options": {"include_usage": True}},
        upstream={"stream_options": ABSENT},
    ),
    Report("BerriAI/litellm#5803", CLAUDE, {"stream_options": {"include_usage": True}}),
    Report("openai/openai-openapi#28", GPT, NOTHING),
    Report("openai/openai-openapi#28", NOVA, NOTHING),
    # A role within a part; what a model of OpenAI's says of search.
    Report("strands-agents/harness-sdk#155", GPT, {"messages": parts(role="user")}),
    Report(
        "strands-agents/harness-sdk#155",
        QWEN,
        {"messages": parts(role="user")},
        upstream={"messages.0.content": "Hello"},
    ),
    Report(
        "openai/openai-agents-python#3275",
        GPT,
        {"modalities": ["text"], "web_search_options": {}},
        dropped=("web_search_options",),
    ),
    # Caps are sent under each vendor's own name.
    Report("maximhq/bifrost#6132", LLAMA, {"max_tokens": 5}, upstream={"max_tokens": 5}),
    Report(
        "tailcallhq/forgecode#1081",
        GPT5,
        {"max_tokens": 5},
        upstream={"max_completion_tokens": 5, "max_tokens": ABSENT},
    ),
]


@pytest.mark.parametrize("report", REPORTS, ids=[f"{r.source}-{r.to}-{n}" for n, r in enumerate(REPORTS)])
def test_a_report_does_not_happen_here(field: Field, report: Report) -> None:
    check(field, report)


@pytest.mark.parametrize("model", [LLAMA, GEMINI])
def test_a_stream_holds_one_tool_call_where_one_was_asked_for(field: Field, model: str) -> None:
    """RooCodeInc/Roo-Code#10553, which streams."""
    field.servers[model.partition("/")[0]].script.append(two_calls)  # type: ignore[arg-type]
    body = field.chat(model, stream=True, **BOTH)["body"]
    chunks = [json.loads(line.removeprefix("data: ")) for line in body.split("\n\n") if line.startswith("data: {")]
    calls = [
        call for chunk in chunks for choice in chunk["choices"] for call in choice["delta"].get("tool_calls") or ()
    ]
    assert [call["function"]["name"] for call in calls] == ["weather"]
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_a_stream_answers_the_old_form_in_kind(field: Field) -> None:
    """Continuum-AI-Corp/OrcaRouter-Lite#131, streamed."""
    vendor = field.servers["anthropic"]
    assert isinstance(vendor, anthropic_vendor.Vendor)
    body = field.chat(OLD_CLAUDE, stream=True, **OLD)["body"]
    assert '"function_call":{"name":"weather"' in body.replace(" ", "")
    assert '"finish_reason":"function_call"' in body.replace(" ", "")
    assert "tool_calls" not in body
