"""What Anthropic refuses with a 400, as far as its documentation and its users' reports tell.

Unknown fields, sampling under the newer API version, blank text, turns that don't alternate, tools and their results.
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
    tools = {tool.get("name") for tool in body.get("tools", ())}
    for tool in body.get("tools", ()):
        if not _NAME.fullmatch(tool["name"]) or tool["input_schema"].get("type") != "object":
            return "tools.0.custom: invalid"
    choice = body.get("tool_choice", {"type": "auto"})
    if choice["type"] == "tool" and choice["name"] not in tools:
        return f"Tool '{choice['name']}' not found in provided tools"
    if choice["type"] == "none" and choice.keys() > {"type"}:
        return "tool_choice.none: Extra inputs are not permitted"
    return _blank(body.get("system", ())) or _turns(body["messages"], bool(tools))


def _turns(messages: list[dict[str, Any]], has_tools: bool) -> str | None:
    roles = [message["role"] for message in messages]
    if not roles or roles[-1] != "user" or any(a == b for a, b in pairwise(roles)):
        return "messages: roles must alternate and end with the user"
    open_calls: list[str] = []
    seen: set[str] = set()
    for message in messages:
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
