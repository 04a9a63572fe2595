"""What Anthropic refuses with a 400, as far as its documentation and its users' reports tell.

Unknown fields, sampling under the newer API version, blank text, turns that don't alternate, tools and their results,
thinking by model, thoughts that aren't signed or stand last.
"""

import re
from itertools import pairwise
from typing import Any

_FIELDS = {
    "model", "max_tokens", "messages", "system", "stop_sequences", "stream", "tools", "tool_choice", "thinking",
    "output_config", "metadata", "cache_control", "service_tier",
}  # fmt: skip
_SAMPLING = {"temperature", "top_p", "top_k"}
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")


def complaint(body: dict[str, Any], version: str) -> str | None:
    """What is wrong with a request; None when nothing is."""
    known = _FIELDS | (_SAMPLING if version == "2023-06-01" else set())
    for name in body:
        if name not in known:
            return f"{name}: Extra inputs are not permitted"
    if {"temperature", "top_p"} <= body.keys():
        return "`temperature` and `top_p` cannot both be specified for this model."
    if not 0 <= body.get("temperature", 1) <= 1:
        return "temperature: range: 0..1"
    if any(not sequence.strip() for sequence in body.get("stop_sequences", ())):
        return "stop_sequences: each stop sequence must contain non-whitespace"
    if wrong := _tools(body):
        return wrong
    if wrong := _open_or_limited(body.get("output_config", {}).get("format", {}).get("schema")):
        return f"output_config.format.schema: {wrong}"
    if wrong := _thinking(body):
        return wrong
    return _blank(body.get("system", ())) or _turns(body["messages"], bool(body.get("tools")))


_VERSION = re.compile(r"claude-[a-z]+-(\d)(?:-(\d{1,2}))?(?!\d)")
_THOUGHTS = ("thinking", "redacted_thinking")


def _thinking(body: dict[str, Any]) -> str | None:
    found = _VERSION.search(body.get("model", ""))
    version = (int(found[1]), int(found[2] or 0)) if found else (9, 9)
    thinking, effort = body.get("thinking", {}), body.get("output_config", {}).get("effort")
    if effort and version < (4, 6) and "opus-4-5" not in body["model"]:
        return "This model does not support the effort parameter."
    kind = thinking.get("type")
    if kind == "enabled":
        if version >= (4, 7):
            return '"thinking.type.enabled" is not supported for this model. Use "thinking.type.adaptive".'
        if not 1024 <= thinking["budget_tokens"] < body["max_tokens"]:
            return "`max_tokens` must be greater than `thinking.budget_tokens`."
        before, last = [{"role": "", "content": []}, *body["messages"]][-2:]
        if last["content"][0]["type"] == "tool_result" and before["content"][0]["type"] not in _THOUGHTS:
            return "messages.1.content.0.type: Expected `thinking` or `redacted_thinking`, but found `tool_use`."
    if kind == "adaptive" and version < (4, 6):
        return "adaptive thinking is not supported on this model"
    return None


def _tools(body: dict[str, Any]) -> str | None:
    tools = {tool.get("name") for tool in body.get("tools", ())}
    for tool in body.get("tools", ()):
        if not _NAME.fullmatch(tool["name"]) or tool["input_schema"].get("type") != "object":
            return "tools.0.custom: invalid"
        if {"anyOf", "oneOf", "allOf"} & tool["input_schema"].keys():
            return "tools.0.custom.input_schema: input_schema does not support oneOf, allOf, or anyOf at the top level"
        if tool.get("strict") and (wrong := _open_or_limited(tool["input_schema"])):
            return f"tools.0.custom: {wrong}"
    choice = body.get("tool_choice", {"type": "auto"})
    if choice["type"] == "tool" and choice["name"] not in tools:
        return f"Tool '{choice['name']}' not found in provided tools"
    if choice["type"] == "none" and choice.keys() > {"type"}:
        return "tool_choice.none: Extra inputs are not permitted"
    return None


_LIMITS = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength",
           "pattern", "maxItems", "oneOf"}  # fmt: skip


def _open_or_limited(schema: object) -> str | None:
    """What a schema for an answer may not have: https://platform.claude.com/docs/en/build-with-claude/structured-outputs"""
    if isinstance(schema, list):
        return next((wrong for each in schema if (wrong := _open_or_limited(each))), None)
    if not isinstance(schema, dict):
        return None
    if schema.get("type") == "object" and schema.get("additionalProperties") is not False:
        return "For 'object' type, 'additionalProperties' must be explicitly set to false"
    if schema.get("minItems", 0) > 1:
        return "For 'array' type, 'minItems' values other than 0 or 1 are not supported"
    if limits := _LIMITS & schema.keys():
        return f"property '{min(limits)}' is not supported"
    within = [*schema.get("properties", {}).values(), *schema.get("$defs", {}).values(), schema.get("items")]
    return _open_or_limited([*within, *schema.get("anyOf", ()), *schema.get("allOf", ())])


def _turns(messages: list[dict[str, Any]], has_tools: bool) -> str | None:
    roles = [message["role"] for message in messages]
    if any(a != "user" and b == "system" for a, b in pairwise(["", *roles])):
        return "messages: role 'system' must follow a user turn"
    roles = [role for role in roles if role != "system"]
    if not roles or roles[-1] != "user" or any(a == b for a, b in pairwise(roles)):
        return "messages: roles must alternate and end with the user"
    open_calls: list[str] = []
    seen: set[str] = set()
    for message in (each for each in messages if each["role"] != "system"):
        if wrong := _thoughts(message):
            return wrong
        results = [block["tool_use_id"] for block in message["content"] if block["type"] == "tool_result"]
        if sorted(results) != sorted(open_calls):
            return "messages: each tool_use must have its tool_result in the next message"
        if results and [b["type"] for b in message["content"]][: len(results)] != ["tool_result"] * len(results):
            return "messages: tool_result blocks come first"
        open_calls = [block["id"] for block in message["content"] if block["type"] == "tool_use"]
        if len(set(open_calls)) < len(open_calls) or seen & set(open_calls):
            return "messages: `tool_use` ids must be unique"
        seen |= set(open_calls)
        if any(not re.fullmatch(r"[a-zA-Z0-9_-]+", call) for call in open_calls):
            return "messages: tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'"
        if wrong := _blank(message["content"]):
            return wrong
    return "Requests which have `tool_use` blocks in messages must define tools." if seen and not has_tools else None


def _thoughts(message: dict[str, Any]) -> str | None:
    thoughts = [block for block in message["content"] if block["type"] in _THOUGHTS]
    if any(not (block.get("signature") or block.get("data")) for block in thoughts):
        return "messages.1.content.0: Invalid `signature` in `thinking` block"
    if thoughts and message["content"][-1] in thoughts:
        return "messages.1: The final block in an assistant message cannot be `thinking`."
    return None


def _blank(blocks: list[dict[str, Any]]) -> str | None:
    for block in blocks:
        if block["type"] == "text" and not block["text"].strip():
            return "messages: text content blocks must contain non-whitespace text"
        if block["type"] == "tool_result":
            within = block.get("content", [])
            if any("cache_control" in part for part in within):
                return "messages: cache_control belongs to the tool_result"
            if wrong := _blank(within):
                return wrong
    return None
