"""Vertex's ways to answer and to fail, for every test of them."""

from typing import Any

import pytest

from fusewire.ai.failures import FailureKind, ProviderFailure
from fusewire.ai.provider import Timeouts
from fusewire.ai.providers.vertex.provider import GcpProvider
from tests.integration.ai.contract import CAP, TIMES, chat, embedding, root
from tests.support.upstream import (
    Handler,
    Reply,
    Upstream,
    chunk,
)

K = FailureKind
MODEL = "gemini-3.8-flash"
PLACE = "/v1/projects/a-project/locations/europe-west4"
CHAT = f"{PLACE}/endpoints/openapi/chat/completions"
BRIEF = Timeouts(connect=5, first=1, total=2)
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
PRICES = {"gcp/*": {"input_mtok": 1000, "output_mtok": 2000, "cached_input_mtok": 100}}


def variables(upstream: Upstream) -> dict[str, str]:
    return {
        "GCP_PROJECT_ID": "a-project",
        "GCP_LOCATION": "europe-west4",
        "GCP_BASE_URL": root(upstream),
        "GCP_SOTA_MODEL": MODEL,
        "GCP_EMBEDDING_MODEL": "gemini-embedding-001",
    }


def bearers(upstream: Upstream) -> list[str]:
    return [headers["authorization"].removeprefix("Bearer ") for headers in upstream.headers]


def failed(gcp: GcpProvider, how: str = "chat", times: Timeouts = TIMES) -> ProviderFailure:
    with pytest.raises(ProviderFailure) as caught:
        if how == "chat":
            gcp.complete(chat(), MODEL, CAP, times)
        elif how == "embed":
            gcp.embed(embedding(), "gemini-embedding-001", times)
        else:
            list(gcp.stream(chat(stream=True), MODEL, CAP, times))
    assert "token-" not in caught.value.message
    return caught.value


def answered(usage: dict[str, Any] | None, *, every: bool = False, **message: object) -> Reply:
    """An answer, whole or streamed, with this usage: in the last chunk, or in every one."""
    result = {"role": "assistant", "content": "Paris.", **message}

    def reply(handler: Handler, body: dict[str, Any]) -> None:
        more = {"usage": usage} if usage else {}
        if not body.get("stream"):
            choice = {"index": 0, "message": result, "finish_reason": "stop"}
            handler.reply(200, {"id": "c", "created": 1, "model": "m", "choices": [choice], **more})
            return
        handler.begin_events()
        handler.event(chunk("m", result) | (more if every else {}))
        handler.event(chunk("m", {}, "stop") | (more if every else {}))
        handler.event(chunk("m", {}) | {"choices": []} | more)
        handler.event("[DONE]")
        handler.end_events()

    return reply


def predicted(*counts: int | None) -> Reply:
    def reply(handler: Handler, body: dict[str, Any]) -> None:
        result = [
            {"embeddings": {"values": [0.5, float(i)], "statistics": {} if n is None else {"token_count": n}}}
            for i, n in enumerate(counts)
        ]
        handler.reply(200, {"predictions": result})

    return reply


def embedded(tokens: int | None) -> Reply:
    usage = {"embedding": {"values": [0.5]}, **({"usageMetadata": {"promptTokenCount": tokens}} if tokens else {})}
    return lambda handler, body: handler.reply(200, usage)


def google(code: int, text: str = "told", *reasons: str, listed: bool = False) -> Reply:
    """An error as Google sends it: alone, or in a list of one."""
    result = {"error": {"code": code, "message": text, "status": "X", "details": [{"reason": r} for r in reasons]}}
    return lambda handler, body: handler.reply(code, [result] if listed else result)
