"""What Anthropic tells: whole messages, and a stream's events, to be read."""

import json
from typing import Any

from fusewire.ai.providers.anthropic.response import StreamReader, whole_response
from fusewire.ai.schema import ChatResponse, StreamChunk

COUNTS = {"input_tokens": 10, "output_tokens": 5}


def message(**fields: object) -> bytes:
    usage: dict[str, Any] = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-opus-5-5",
        "content": [{"type": "text", "text": "Paris.", "citations": None}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": COUNTS,
    }
    return json.dumps(usage | fields).encode()


def answered(raw: bytes) -> ChatResponse:
    return whole_response(raw, "asked")


def read(*events: dict[str, Any]) -> list[StreamChunk]:
    reader = StreamReader("asked")
    return [chunk for event in events for chunk in reader.read(event)]


def begun(usage: dict[str, Any] | None = None) -> dict[str, Any]:
    result: dict[str, Any] = {
        "id": "msg_1",
        "type": "message",
        "model": "claude-opus-5-5",
        "content": [],
        "stop_reason": None,
    }
    return {"type": "message_start", "message": result | ({} if usage is None else {"usage": usage})}


def ended(usage: dict[str, Any] | None, reason: str = "end_turn", **more: object) -> list[dict[str, Any]]:
    delta = {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None, **more}}
    return [delta | ({} if usage is None else {"usage": usage}), {"type": "message_stop"}]
