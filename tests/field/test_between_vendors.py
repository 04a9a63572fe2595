"""Reports of conversations that one vendor began and another refused, and of schemas and ids that only some take."""

import json
from typing import Any

import pytest

from tests.field import vendors
from tests.field.conftest import (
    ABSENT,
    BEDROCK_CLAUDE,
    CLAUDE,
    GEMINI,
    GPT,
    LLAMA,
    NOVA,
    OLD_CLAUDE,
    OWN,
    QWEN,
    Field,
    Report,
    check,
)
from tests.support.upstream import Upstream

HELLO = {"role": "user", "content": "Hello"}
TOOL: dict[str, Any] = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def asks(call_id: str = "call_1", arguments: object = "{}", **more: object) -> dict[str, Any]:
    call = {"id": call_id, "type": "function", "function": {"name": "f", "arguments": arguments}}
    return {"role": "assistant", "content": None, "tool_calls": [call], **more}


def result(call_id: str = "call_1", content: object = "42") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def after(*messages: dict[str, Any], tools: bool = True) -> dict[str, Any]:
    """A conversation with these messages after the first."""
    return {"messages": [HELLO, *messages]} | ({"tools": [TOOL]} if tools else {})


def tool(parameters: object, **more: object) -> dict[str, Any]:
    return {"tools": [{"type": "function", "function": {"name": "f", "parameters": parameters, **more}}]}


def form(schema: object) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}}


LONG = "toolu_01A09q90qw90lq917835lq9-fc_68301b6d9c2c8191"
LONGER = "cursor-pi-bridge-run-c2417032-9686-40f2-bd3c-a763fbaa7693-tool-10|fc_1"
STRANGE = "functions.lookup:0 (überall)"
CALLED = "messages.1.tool_calls.0.id"

LIMITED = {
    "type": "object",
    "properties": {
        "score": {"type": "integer", "minimum": 1, "maximum": 10},
        "summary": {"type": "string", "minLength": 1, "maxLength": 280, "description": "Short."},
        "tags": {"type": "array", "items": {"type": "string"}, "minItems": 2},
    },
    "required": ["score"],
}
NOTION = {
    "type": "object",
    "anyOf": [
        {"type": "object", "properties": {"content": {"type": "string"}}, "required": ["content"]},
        {"type": "object", "properties": {"source_url": {"type": "string"}}, "required": ["source_url"]},
    ],
}
HIGGSFIELD = {
    "type": "object",
    "properties": {"video_input_id": {"type": "string"}, "youtube_url": {"type": "string"}},
    "oneOf": [{"required": ["video_input_id"]}, {"required": ["youtube_url"]}],
}
DEFINED = {
    "$defs": {"A": {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}},
    "allOf": [{"$ref": "#/$defs/A"}],
}
SCHEMA, FORMAT = "tools.0.input_schema", "output_config.format.schema"
BEDROCK_SCHEMA = "toolConfig.tools.0.toolSpec.inputSchema.json"

REPORTS = [
    # Ids of calls.
    Report("vercel/ai#5171", GPT, after(asks(LONG), result(LONG))),
    Report("HKUDS/nanobot#1637", OWN, after(asks(LONGER), result(LONGER))),
    Report("fitchmultz/pi-cursor-sdk#237", NOVA, after(asks(LONGER), result(LONGER))),
    Report("experientiallabs/experiential#801", CLAUDE, after(asks(STRANGE), result(STRANGE))),
    Report("leookun/cursor-byok#364", OLD_CLAUDE, after(asks(LONGER), result(LONGER))),
    Report(
        "lbjlaq/Antigravity-Manager#710",
        CLAUDE,
        after(asks(), result()),
        upstream={"messages.1.content.0.id": "call_1"},
    ),
    Report("lbjlaq/Antigravity-Manager#710", GPT, after(asks(), result()), upstream={CALLED: "call_1"}),
    # Calls that are none, or that have no arguments.
    Report(
        "openai/openai-node#1341",
        GPT,
        after({"role": "assistant", "content": "Hi", "tool_calls": []}, HELLO),
        upstream={"messages.1.tool_calls": ABSENT},
    ),
    Report(
        "NousResearch/hermes-agent#58755",
        QWEN,
        after({"role": "assistant", "content": "Hi", "tool_calls": []}, HELLO),
        upstream={"messages.1.tool_calls": ABSENT},
    ),
    Report(
        "BerriAI/litellm#5063", CLAUDE, after(asks(arguments=""), result()), upstream={"messages.1.content.0.input": {}}
    ),
    Report(
        "bigduu/Bamboo-agent#351",
        OLD_CLAUDE,
        after(asks(arguments=" "), result()),
        upstream={"messages.1.content.0.input": {}},
    ),
    Report(
        "langroid/langroid#988",
        GEMINI,
        after(asks(arguments="null"), result()),
        upstream={"messages.1.tool_calls.0.function.arguments": "{}"},
    ),
    Report(
        "agno-agi/agno#10260",
        LLAMA,
        after(asks(arguments=None), result()),
        upstream={"messages.1.tool_calls.0.function.arguments": "{}"},
    ),
    Report(
        "Lexus2016/hermes-agent-evolution#1170",
        NOVA,
        after(asks(arguments="null"), result()),
        upstream={"messages.1.content.0.toolUse.input": {}},
    ),
    # One system's message, at the beginning.
    Report(
        "vllm-project/vllm#41114",
        QWEN,
        after({"role": "assistant", "content": "a"}, {"role": "system", "content": "Sum it up."}, HELLO, tools=False),
        upstream={"messages.0": {"role": "system", "content": "Sum it up."}, "messages.4": ABSENT},
    ),
    Report(
        "can1357/oh-my-pi#958",
        QWEN,
        {"messages": [{"role": "system", "content": "One."}, {"role": "developer", "content": "Two."}, HELLO]},
        upstream={"messages.0": {"role": "system", "content": "One.\n\nTwo."}},
    ),
    Report(
        "suitenumerique/conversations#197",
        LLAMA,
        {"messages": [{"role": "system", "content": "One."}, {"role": "system", "content": "Two."}, HELLO]},
        upstream={"messages.1.role": "user"},
    ),
    Report(
        "BerriAI/litellm#39852",
        OWN,
        after({"role": "developer", "content": "One word."}, HELLO, tools=False),
        upstream={"messages.0.role": "system"},
    ),
    Report(
        "1CatAI/1Cat-vLLM#493",
        QWEN,
        {"messages": [{"role": "developer", "content": "Brief."}, HELLO]},
        upstream={"messages.0.role": "system"},
    ),
    Report(
        "vllm-project/vllm#43590",
        GPT,
        {"messages": [{"role": "developer", "content": "Brief."}, HELLO]},
        upstream={"messages.0.role": "developer"},
    ),
    # Content that is null, missing, empty or in parts.
    Report("pydantic/pydantic-ai#5206", LLAMA, after(asks(), result()), upstream={"messages.1.content": ""}),
    Report("pydantic/pydantic-ai#5287", OWN, after(asks(), result()), upstream={"messages.1.content": ""}),
    Report("pydantic/pydantic-ai#2641", GPT, after(asks(), result()), upstream={"messages.1.content": None}),
    Report("mistralai/mistral-common#324", CLAUDE, after(asks(), result()), upstream={"messages.1.content.1": ABSENT}),
    Report(
        "abetlen/llama-cpp-python#1805",
        LLAMA,
        after({key: value for key, value in asks().items() if key != "content"}, result()),
    ),
    Report(
        "vercel/ai#13505", BEDROCK_CLAUDE, after(asks(content=""), result()), upstream={"messages.1.content.1": ABSENT}
    ),
    Report(
        "strands-agents/harness-sdk#1696",
        QWEN,
        after(asks(), result(content=[{"type": "text", "text": "2026"}, {"type": "text", "text": "-02"}])),
        upstream={"messages.2.content": "2026\n-02"},
    ),
    Report(
        "strands-agents/harness-sdk#215", BEDROCK_CLAUDE, after(asks(), result(content=[{"type": "text", "text": "4"}]))
    ),
    Report("Portkey-AI/gateway#1099", BEDROCK_CLAUDE, after(asks(), result(content=""))),
    Report("earendil-works/pi#3443", NOVA, after(asks(), result(content=[{"type": "text", "text": ""}]))),
    Report("anomalyco/opencode#17381", BEDROCK_CLAUDE, after({"role": "assistant", "content": ""}, HELLO, tools=False)),
    Report("agentjido/jido_ai#215", CLAUDE, after(asks(content="  "), result())),
    Report(
        "shogo-labs/shogo-ai#841",
        CLAUDE,
        after(asks(content=None), result()),
        upstream={"messages.2.content.0.tool_use_id": "call_1"},
    ),
    # What a tool's parameters may be.
    Report(
        "earendil-works/pi#8279",
        BEDROCK_CLAUDE,
        tool({"properties": {"a": {"type": "string"}}}),
        upstream={f"{BEDROCK_SCHEMA}.type": "object"},
    ),
    Report(
        "aaif-goose/goose#5064",
        NOVA,
        {"tools": [{"type": "function", "function": {"name": "todo"}}]},
        upstream={BEDROCK_SCHEMA: {"type": "object", "properties": {}}},
    ),
    Report("earendil-works/pi#8804", BEDROCK_CLAUDE, tool({}), upstream={f"{BEDROCK_SCHEMA}.type": "object"}),
    Report(
        "QuantumNous/new-api#6859",
        CLAUDE,
        {"tools": [{"type": "function", "function": {"name": "now"}}]},
        upstream={"tools.0.name": "now", "tools.0.input_schema.type": "object"},
    ),
    Report(
        "langchain-ai/langchain#39271",
        CLAUDE,
        tool(NOTION),
        upstream={
            f"{SCHEMA}.anyOf": ABSENT,
            f"{SCHEMA}.required": ABSENT,
            f"{SCHEMA}.properties.source_url.type": "string",
        },
    ),
    Report(
        "MoonshotAI/kimi-code#2328",
        OLD_CLAUDE,
        tool(HIGGSFIELD),
        upstream={f"{SCHEMA}.oneOf": ABSENT, f"{SCHEMA}.properties.youtube_url.type": "string"},
    ),
    Report(
        "anomalyco/opencode#46628",
        BEDROCK_CLAUDE,
        tool(NOTION),
        upstream={f"{BEDROCK_SCHEMA}.anyOf": ABSENT, f"{BEDROCK_SCHEMA}.properties.content.type": "string"},
    ),
    Report(
        "anthropics/claude-code#95504",
        CLAUDE,
        tool(DEFINED),
        upstream={f"{SCHEMA}.allOf": ABSENT, f"{SCHEMA}.required": ["a"], f"{SCHEMA}.properties.a.type": "string"},
    ),
    Report("anthropics/claude-code#40075", GPT, tool(NOTION), upstream={"tools.0.function.parameters": NOTION}),
    Report(
        "BerriAI/litellm#34388",
        BEDROCK_CLAUDE,
        tool(LIMITED, strict=True),
        upstream={
            f"{BEDROCK_SCHEMA}.properties.score.minimum": ABSENT,
            f"{BEDROCK_SCHEMA}.additionalProperties": False,
        },
    ),
    # What a form for the answer may be.
    Report(
        "BerriAI/litellm#20813",
        CLAUDE,
        form(LIMITED),
        upstream={f"{FORMAT}.properties.score": {"type": "integer", "description": "{minimum: 1, maximum: 10}"}},
    ),
    Report(
        "laravel/ai#715",
        OLD_CLAUDE,
        form(LIMITED),
        upstream={
            f"{FORMAT}.properties.summary.description": "Short.\n\n{minLength: 1, maxLength: 280}",
            f"{FORMAT}.properties.tags.minItems": ABSENT,
        },
    ),
    Report(
        "veryfront/veryfront-code#3918",
        CLAUDE,
        form({"type": "object", "properties": {"a": {"type": "object"}}}),
        upstream={f"{FORMAT}.properties.a.additionalProperties": False, f"{FORMAT}.additionalProperties": False},
    ),
    Report(
        "BerriAI/litellm#35811",
        CLAUDE,
        form({"type": "object", "properties": {}, "additionalProperties": True}),
        upstream={f"{FORMAT}.additionalProperties": False},
    ),
    Report("BerriAI/litellm#21045", GPT, form(LIMITED), upstream={"response_format.json_schema.schema": LIMITED}),
    # What a model has but one value for, and nobody else is there to take.
    Report("tmc/langchaingo#1355", "openai/gpt-5", {"temperature": 0}, dropped=("temperature",)),
    Report(
        "QwenLM/qwen-code#921", "openai/gpt-5-mini", {"temperature": 0, "top_p": 0.5}, dropped=("temperature", "top_p")
    ),
    Report("chatboxai/chatbox#2564", "openai/gpt-5", {"temperature": 1}),
    Report("QuantaAlpha/RepoMaster#8", "openai/gpt-5-chat-latest", {"temperature": 0.1}, upstream={"temperature": 0.1}),
    Report(
        "aws-samples/bedrock-access-gateway#191",
        "aws/eu.anthropic.claude-haiku-4-5-20251001-v1:0",
        {"temperature": 0.2, "top_p": 0.9},
        dropped=("top_p",),
        upstream={"inferenceConfig.temperature": 0.2},
    ),
    Report("BerriAI/litellm#15097", OLD_CLAUDE, {"temperature": 0.2, "top_p": 0.9}, dropped=("top_p",)),
    Report("langfuse/langfuse#9882", OLD_CLAUDE, {"top_p": 0.9}, upstream={"top_p": 0.9, "temperature": ABSENT}),
    Report(
        "aws-samples/bedrock-chat#1102", CLAUDE, {"temperature": 0.2, "top_p": 0.9}, dropped=("temperature", "top_p")
    ),
    Report(
        "BerriAI/litellm#11085",
        "aws/us.anthropic.claude-sonnet-4-20250514-v1:0",
        {"reasoning_effort": "low"},
        dropped=("reasoning_effort",),
    ),
    Report("evilsocket/nerve#50", BEDROCK_CLAUDE, {"tools": [TOOL], "tool_choice": "auto"}),
    # A model's ARN.
    Report(
        "RooCodeInc/Roo-Code#1937",
        "aws/arn:aws:bedrock:eu-central-1:123456789012:inference-profile/eu.anthropic.claude-haiku-4-5-20251001-v1:0",
        {"temperature": 0.2, "top_p": 0.9},
        dropped=("top_p",),
    ),
    Report(
        "Portkey-AI/gateway#1118",
        "aws/arn:aws:bedrock:us-east-1::foundation-model/anthropic.claude-3-haiku-20240307-v1:0",
        {},
    ),
    Report(
        "anthropics/claude-code-action#1005",
        "aws/arn:aws:bedrock:us-east-1:1:application-inference-profile/unknown",
        {},
        400,
        answer={"error.code": "model_not_priced"},
    ),
]


@pytest.mark.parametrize("report", REPORTS, ids=[f"{r.source}-{r.to}-{n}" for n, r in enumerate(REPORTS)])
def test_a_report_does_not_happen_here(field: Field, report: Report) -> None:
    check(field, report)


@pytest.mark.parametrize("source", ["jackmpcollins/magentic#276", "avante-corp/avante.nvim#2951"])
def test_mistrals_models_get_ids_of_nine_letters_and_digits(field: Field, source: str) -> None:
    server = field.servers["vllm"]
    assert isinstance(server, Upstream)
    server.script.append(vendors.judging(vendors.mistral))
    fields = after(asks("38f04d9ea185424a8dc6ed9a88da5"), result("38f04d9ea185424a8dc6ed9a88da5"))
    assert field.chat("vllm/mistralai/Devstral-Small", **fields)["statusCode"] == 200, source
    first, second = field.requests("vllm")[-1]["messages"][1:]
    assert first["tool_calls"][0]["id"] == second["tool_call_id"]


def test_an_application_inference_profile_is_the_model_that_its_price_is_of(field: Field) -> None:
    """RooCodeInc/Roo-Code#1937: its ARN names no model."""
    arn = "arn:aws:bedrock:ap-northeast-1:123456789012:application-inference-profile/xyz123"
    field.functions.set(AI_PRICE_ALIASES=json.dumps({f"aws/{arn}": "anthropic.claude-haiku-4-5-20251001-v1:0"}))
    try:
        check(
            field,
            Report("RooCodeInc/Roo-Code#1937", f"aws/{arn}", {"temperature": 0.2, "top_p": 0.9}, dropped=("top_p",)),
        )
        marked = [{"role": "user", "content": [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}]}]
        check(field, Report("RooCodeInc/Roo-Code#1937", f"aws/{arn}", {"messages": marked},
                            upstream={"messages.0.content.1.cachePoint.type": "default"}))  # fmt: skip
    finally:
        field.functions.set(AI_PRICE_ALIASES="{}")
