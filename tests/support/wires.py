"""The vendors' protocols behind one face: run one, tell it what to answer next, and read what was sent to it."""

import json
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from tests.support import anthropic_vendor, bedrock_vendor, upstream
from tests.support.anthropic_vendor import Vendor, running_vendor
from tests.support.bedrock_vendor import Bedrock, running_bedrock
from tests.support.broken import ANTHROPIC, BEDROCK, OPENAI, Way
from tests.support.google_tokens import running_token_server, service_account_file
from tests.support.upstream import Upstream, chunk, running_upstream

AWS_KEY_ID = "AKIDEXAMPLE"


@dataclass(frozen=True)
class Answer:
    """One answer, to be said in each vendor's own words."""

    pieces: tuple[str, ...] = ("Pa", "ris", ".")
    """Of the text, or of the arguments of the call."""
    call: str | None = None
    finish: Literal["stop", "length", "tool_calls", "content_filter"] = "stop"
    metered: bool = True
    """False: it says nothing of its usage."""
    prompt: int = 9
    cached: int = 0
    completion: int = 4
    reasoning: int = 0
    tier: str | None = None
    """The service tier that it names."""

    @property
    def whole(self) -> str:
        return "".join(self.pieces)


CALL = Answer(('{"city"', ': "Paris"}'), call="weather", finish="tool_calls")
CALL_ID = "call_1"


class Wire(ABC):
    """One vendor that runs, speaking its own protocol."""

    environment: dict[str, str]
    """Where its SDK finds credentials, and nothing of the machine's own."""

    @classmethod
    @abstractmethod
    def running(cls) -> AbstractContextManager[Self]:
        """Serve until the block ends."""

    @property
    @abstractmethod
    def server(self) -> Upstream | Vendor | Bedrock: ...

    @property
    def url(self) -> str:
        """Its root, without the version."""
        return self.server.url.removesuffix("/v1")

    @property
    def requests(self) -> list[dict[str, Any]]:
        return self.server.requests

    @property
    def headers(self) -> list[dict[str, str]]:
        return self.server.headers

    def reset(self) -> None:
        """Forget what was asked, and what was told to be answered."""
        for kept in ("requests", "paths", "headers", "script", "billed"):
            getattr(self.server, kept).clear()

    @abstractmethod
    def bills(self) -> list[tuple[int, int]]:
        """(input, output) tokens of what it answered by itself."""

    @abstractmethod
    def will_answer(self, answer: Answer) -> None:
        """The next request gets this, whole or as a stream."""

    @abstractmethod
    def will_fail(self, status: int, headers: dict[str, str] | None = None) -> None:
        """The next request gets this status, in the vendor's words."""

    def will_refuse(self, status: int, body: dict[str, Any]) -> None:
        """The next request gets this error, whose body is in the vendor's format."""
        self.server.script.append(lambda handler, asked: handler.reply(status, body))

    @abstractmethod
    def will_break(self, way: Way) -> None:
        """The next request gets an answer that breaks in this way."""

    def will_embed(self) -> None:  # noqa: B027 - most vendors do by themselves
        """The next request gets `[0.5, -0.25]` for each text, for a token a byte."""

    @abstractmethod
    def model(self, number: int) -> str:
        """Which model a request named."""

    @abstractmethod
    def cap(self, number: int) -> int | None:
        """The most output tokens that a request allowed."""

    @abstractmethod
    def streams(self, number: int) -> bool:
        """Whether a request asked for a stream."""


class OpenAIWire(Wire):
    """OpenAI's Chat Completions."""

    def __init__(self, server: Upstream, environment: dict[str, str]) -> None:
        self._server = server
        self.environment = environment

    @classmethod
    @contextmanager
    def running(cls) -> Iterator[Self]:
        with running_upstream() as server:
            yield cls(server, {})

    @property
    def server(self) -> Upstream:
        return self._server

    def bills(self) -> list[tuple[int, int]]:
        return self._server.billed

    def will_answer(self, answer: Answer) -> None:
        self._server.script.append(lambda handler, body: _openai_answer(handler, body, answer))

    def will_fail(self, status: int, headers: dict[str, str] | None = None) -> None:
        self._server.script.append(upstream.status(status, headers=headers))

    def will_break(self, way: Way) -> None:
        self._server.script.append(OPENAI[way])

    def model(self, number: int) -> str:
        return str(self.requests[number]["model"])

    def cap(self, number: int) -> int | None:
        sent = self.requests[number]
        (cap,) = (sent[name] for name in sent if name.startswith("max_"))
        return int(cap)

    def streams(self, number: int) -> bool:
        return bool(self.requests[number].get("stream"))


def _openai_answer(handler: upstream.Handler, body: dict[str, Any], answer: Answer) -> None:
    usage = {
        "prompt_tokens": answer.prompt,
        "completion_tokens": answer.completion,
        "total_tokens": answer.prompt + answer.completion,
        "prompt_tokens_details": {"cached_tokens": answer.cached, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": answer.reasoning},
    }
    named = {"id": CALL_ID, "type": "function"}
    tier = {} if answer.tier is None else {"service_tier": answer.tier}
    if not body.get("stream"):
        call = named | {"function": {"name": answer.call, "arguments": answer.whole}}
        said = {"content": None, "tool_calls": [call]} if answer.call else {"content": answer.whole}
        choice = {"index": 0, "message": {"role": "assistant", **said}, "finish_reason": answer.finish}
        result = {"id": "c", "object": "chat.completion", "created": 1, "model": body["model"], "choices": [choice]}
        handler.reply(200, result | tier | ({"usage": usage} if answer.metered else {}))
        return
    handler.begin_events()
    handler.event(chunk(body["model"], {"role": "assistant", "content": None if answer.call else ""}) | tier)
    if answer.call:
        begun = {"index": 0, **named, "function": {"name": answer.call, "arguments": ""}}
        handler.event(chunk(body["model"], {"tool_calls": [begun]}))
    for piece in answer.pieces:
        called = {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}
        handler.event(chunk(body["model"], called if answer.call else {"content": piece}))
    handler.event(chunk(body["model"], {}, answer.finish))
    if answer.metered:
        handler.event(chunk(body["model"], {}) | {"choices": [], "usage": usage})
    handler.event("[DONE]")
    handler.end_events()


class VertexWire(OpenAIWire):
    """Vertex AI: OpenAI's protocol for chat, `:predict` for embeddings, and tokens from Google's token endpoint."""

    @classmethod
    @contextmanager
    def running(cls) -> Iterator[Self]:
        with running_upstream() as server, running_token_server() as tokens, tempfile.TemporaryDirectory() as folder:
            file = service_account_file(Path(folder), tokens.url)
            yield cls(server, {"GOOGLE_APPLICATION_CREDENTIALS": str(file), "NO_GCE_CHECK": "true"})

    def will_embed(self) -> None:
        self._server.script.append(_predict)

    def model(self, number: int) -> str:
        return super().model(number).removeprefix("google/")


def _predict(handler: upstream.Handler, body: dict[str, Any]) -> None:
    result = [
        {"embeddings": {"values": [0.5, -0.25], "statistics": {"token_count": len(instance["content"].encode())}}}
        for instance in body["instances"]
    ]
    handler.reply(200, {"predictions": result})


class AnthropicWire(Wire):
    """Anthropic's Messages."""

    def __init__(self, server: Vendor) -> None:
        self._server = server
        self.environment = {}

    @classmethod
    @contextmanager
    def running(cls) -> Iterator[Self]:
        with running_vendor() as server:
            yield cls(server)

    @property
    def server(self) -> Vendor:
        return self._server

    def bills(self) -> list[tuple[int, int]]:
        return [(usage["input_tokens"], usage["output_tokens"]) for usage in self._server.billed]

    def will_answer(self, answer: Answer) -> None:
        self._server.script.append(lambda handler, body: _anthropic_answer(handler, body, answer))

    def will_fail(self, status: int, headers: dict[str, str] | None = None) -> None:
        self._server.script.append(anthropic_vendor.status(status, headers=headers))

    def will_break(self, way: Way) -> None:
        self._server.script.append(ANTHROPIC[way])

    def model(self, number: int) -> str:
        return str(self.requests[number]["model"])

    def cap(self, number: int) -> int | None:
        return int(self.requests[number]["max_tokens"])

    def streams(self, number: int) -> bool:
        return bool(self.requests[number].get("stream"))


_ANTHROPIC_REASONS = {
    "stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal",
}  # fmt: skip


def _anthropic_answer(handler: anthropic_vendor.Handler, body: dict[str, Any], answer: Answer) -> None:
    usage = {
        "input_tokens": answer.prompt - answer.cached,
        "cache_read_input_tokens": answer.cached,
        "output_tokens": answer.completion,
        "output_tokens_details": {"thinking_tokens": answer.reasoning},
        **({} if answer.tier is None else {"service_tier": answer.tier}),
    }
    empty: dict[str, Any] = {"type": "text", "text": ""}
    full: dict[str, Any] = {"type": "text", "text": answer.whole}
    if answer.call:
        empty = {"type": "tool_use", "id": CALL_ID, "name": answer.call, "input": {}}
        full = empty | {"input": json.loads(answer.whole)}
    reason = _ANTHROPIC_REASONS[answer.finish]
    result = {"id": "msg_1", "type": "message", "role": "assistant", "model": body["model"], "stop_sequence": None}
    if not body.get("stream"):
        counts = {"usage": usage} if answer.metered else {}
        handler.reply(200, result | {"content": [full], "stop_reason": reason} | counts)
        return
    handler.begin_events()
    first = {"usage": usage | {"output_tokens": 1}} if answer.metered else {}
    handler.event("message_start", message=result | {"content": [], "stop_reason": None} | first)
    handler.event("content_block_start", index=0, content_block=empty)
    for piece in answer.pieces:
        called = {"type": "input_json_delta", "partial_json": piece}
        handler.event(
            "content_block_delta", index=0, delta=called if answer.call else {"type": "text_delta", "text": piece}
        )
    handler.event("content_block_stop", index=0)
    anthropic_vendor.end(handler, reason, usage if answer.metered else None)


class BedrockWire(Wire):
    """Bedrock's Converse and InvokeModel."""

    _ERRORS: ClassVar[dict[int, str]] = {
        400: "ValidationException", 401: "UnrecognizedClientException", 403: "AccessDeniedException",
        404: "ResourceNotFoundException", 408: "ModelTimeoutException", 413: "RequestEntityTooLargeException",
        422: "UnprocessableEntityException", 429: "ThrottlingException", 500: "InternalServerException",
        502: "BadGateway", 503: "ServiceUnavailableException", 524: "Timeout", 529: "Overloaded",
    }  # fmt: skip

    def __init__(self, server: Bedrock, environment: dict[str, str]) -> None:
        self._server = server
        self.environment = environment

    @classmethod
    @contextmanager
    def running(cls) -> Iterator[Self]:
        with running_bedrock() as server, tempfile.TemporaryDirectory() as folder:
            yield cls(
                server,
                {
                    "AWS_ACCESS_KEY_ID": AWS_KEY_ID,
                    "AWS_SECRET_ACCESS_KEY": "sentinel-secret-5a0c",
                    "AWS_CONFIG_FILE": str(Path(folder) / "config"),
                    "AWS_SHARED_CREDENTIALS_FILE": str(Path(folder) / "credentials"),
                    "AWS_EC2_METADATA_DISABLED": "true",
                },
            )

    @property
    def server(self) -> Bedrock:
        return self._server

    def bills(self) -> list[tuple[int, int]]:
        return self._server.billed

    def will_answer(self, answer: Answer) -> None:
        self._server.script.append(lambda handler, body: _bedrock_answer(handler, answer))

    def will_fail(self, status: int, headers: dict[str, str] | None = None) -> None:
        self._server.script.append(bedrock_vendor.error(status, self._ERRORS[status], headers=headers))

    def will_break(self, way: Way) -> None:
        self._server.script.append(BEDROCK[way])

    def model(self, number: int) -> str:
        return self._server.paths[number].split("/")[2]

    def cap(self, number: int) -> int | None:
        return int(self.requests[number]["inferenceConfig"]["maxTokens"])

    def streams(self, number: int) -> bool:
        return self._server.paths[number].endswith("/converse-stream")


def _bedrock_answer(handler: bedrock_vendor.Handler, answer: Answer) -> None:
    usage = {
        "inputTokens": answer.prompt - answer.cached,
        "outputTokens": answer.completion,
        "totalTokens": answer.prompt + answer.completion,
        "cacheReadInputTokens": answer.cached,
    }
    named = {"toolUseId": CALL_ID, "name": answer.call}
    tier = {} if answer.tier is None else {"serviceTier": {"type": answer.tier}}
    reason = (_ANTHROPIC_REASONS | {"content_filter": "content_filtered"})[answer.finish]
    if handler.action[1] == "converse":
        full = {"toolUse": named | {"input": json.loads(answer.whole)}} if answer.call else {"text": answer.whole}
        handler.reply(200, bedrock_vendor.whole([full], reason, usage if answer.metered else None) | tier)
        return
    handler.begin_events()
    handler.event("messageStart", {"role": "assistant"})
    if answer.call:
        handler.event("contentBlockStart", {"start": {"toolUse": named}, "contentBlockIndex": 0})
    for piece in answer.pieces:
        delta = {"toolUse": {"input": piece}} if answer.call else {"text": piece}
        handler.event("contentBlockDelta", {"delta": delta, "contentBlockIndex": 0})
    handler.event("contentBlockStop", {"contentBlockIndex": 0})
    handler.event("messageStop", {"stopReason": reason})
    handler.event("metadata", {"metrics": {"latencyMs": 7}} | tier | ({"usage": usage} if answer.metered else {}))
    handler.end_events()
