"""OpenAI's protocol over real HTTP: a vendor that bills for what it serves and fails when a test or benchmark says so.

It counts tokens as bytes of UTF-8 text, which is the most that any tokenizer makes of them, and an image as a thousand.
"""

import json
import re
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.support.patience import PATIENCE_SECONDS

Reply = Callable[["Handler", dict[str, Any]], None]

_MAX_WAIT_SECONDS = PATIENCE_SECONDS
_IMAGE_DATA = re.compile(r"data:image/[^'\"]*")
_IMAGE_TOKENS = 1000


@dataclass
class Upstream:
    """What the server did. `script` holds replies for the next requests; when it is empty, `otherwise` is the reply."""

    words: list[str] = field(default_factory=lambda: ["Pa", "ris", "."])
    delay: float = 0.0
    input_mtok: float = 0.0
    port: int = 0
    requests: list[dict[str, Any]] = field(default_factory=list)
    paths: Counter[str] = field(default_factory=Counter)
    headers: list[dict[str, str]] = field(default_factory=list)
    script: deque[Reply] = field(default_factory=deque)
    otherwise: Reply = field(default_factory=lambda: properly)
    usage: Callable[["Upstream", dict[str, Any]], dict[str, int]] = field(default_factory=lambda: _usage)
    """What the answer to a chat request is billed."""
    billed: list[tuple[int, int]] = field(default_factory=list)
    """(input tokens, output tokens) of every answer that was served whole."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    going_on: threading.Event = field(default_factory=threading.Event)
    """While it is cleared, answers wait before their first byte and streams after their first word."""

    def __post_init__(self) -> None:
        self.going_on.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256
    upstream: Upstream

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hung up, or a test that is over, is nothing to print."""
        if not isinstance(sys.exc_info()[1], OSError | ValueError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    disable_nagle_algorithm = True
    wbufsize = -1

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""

    @property
    def upstream(self) -> Upstream:
        return self.server.upstream

    def do_GET(self) -> None:
        self.upstream.paths[self.path] += 1
        self.reply(200, {"object": "list", "data": []})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with self.upstream.lock:
            self.upstream.paths[self.path.partition("?")[0]] += 1
            self.upstream.requests.append(body)
            self.upstream.headers.append({k.lower(): v for k, v in self.headers.items()})
            scripted = self.upstream.script.popleft() if self.upstream.script else None
        (scripted or self.upstream.otherwise)(self, body)

    def reply(self, status: int, body: object, headers: dict[str, str] | None = None) -> None:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(raw)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(raw)

    def begin_events(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()

    def event(self, data: object) -> None:
        text = data if isinstance(data, str) else json.dumps(data)
        raw = f"data: {text}\n\n".encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(raw), raw))
        self.wfile.flush()

    def end_events(self) -> None:
        self.wfile.write(b"0\r\n\r\n")

    def cut(self) -> None:
        """Break the connection without ending the answer."""
        self.wfile.flush()
        self.close_connection = True
        self.connection.shutdown(2)


def _usage(upstream: Upstream, body: dict[str, Any]) -> dict[str, int]:
    texts = (str(message.get("content") or "") for message in body["messages"])
    prompt = sum(len(_IMAGE_DATA.sub("x" * _IMAGE_TOKENS, text).encode()) for text in texts)
    cap = body.get("max_completion_tokens") or body.get("max_tokens") or 10**9
    made = min(len(upstream.words), cap) * (body.get("n") or 1)
    return {"prompt_tokens": prompt, "completion_tokens": made, "total_tokens": prompt + made}


def _bill(upstream: Upstream, usage: dict[str, int]) -> None:
    with upstream.lock:
        upstream.billed.append((usage["prompt_tokens"], usage["completion_tokens"]))


def properly(handler: Handler, body: dict[str, Any]) -> None:
    """Vectors, a stream or a whole answer, as it was asked for."""
    if handler.path.partition("?")[0].endswith("/embeddings"):
        embeddings(handler, body)
    elif body.get("stream"):
        stream(handler, body)
    else:
        answer(handler, body)


def answer(handler: Handler, body: dict[str, Any]) -> None:
    """A whole answer, billed."""
    upstream = handler.upstream
    time.sleep(upstream.delay)
    upstream.going_on.wait(_MAX_WAIT_SECONDS)
    usage = upstream.usage(upstream, body)
    _bill(upstream, usage)
    message: dict[str, Any] = {"role": "assistant", "content": "".join(upstream.words)}
    finish = "stop"
    if body.get("tools") and body.get("tool_choice") not in (None, "none", "auto", "validated"):
        name = body["tools"][0]["function"]["name"]
        message |= {
            "content": None,
            "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": name, "arguments": "{}"}}],
        }
        finish = "tool_calls"
    choices = [{"index": i, "message": message, "finish_reason": finish} for i in range(body.get("n") or 1)]
    handler.reply(
        200,
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": body["model"],
            "choices": choices,
            "usage": usage,
        },
    )


def chunk(model: str, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    """One event of a stream."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": model,
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }


def stream(handler: Handler, body: dict[str, Any]) -> None:
    """A whole stream with usage, billed."""
    upstream, model = handler.upstream, body["model"]
    usage = upstream.usage(upstream, body)
    _bill(upstream, usage)
    handler.begin_events()
    handler.event(chunk(model, {"role": "assistant", "content": ""}))
    for word in upstream.words:
        time.sleep(upstream.delay / len(upstream.words))
        handler.event(chunk(model, {"content": word}))
        upstream.going_on.wait(_MAX_WAIT_SECONDS)
    handler.event(chunk(model, {}, "stop"))
    if (body.get("stream_options") or {}).get("include_usage"):
        handler.event(chunk(model, {}) | {"choices": [], "usage": usage})
    handler.event("[DONE]")
    handler.end_events()


def embeddings(handler: Handler, body: dict[str, Any]) -> None:
    """Vectors, billed."""
    inputs = body["input"] if isinstance(body["input"], list) else [body["input"]]
    tokens = sum(len(each) if isinstance(each, list) else len(str(each).encode()) for each in inputs)
    _bill(handler.upstream, {"prompt_tokens": tokens, "completion_tokens": 0})
    data = [{"object": "embedding", "index": i, "embedding": [0.5, -0.25]} for i in range(len(inputs))]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    handler.reply(200, {"object": "list", "data": data, "model": body["model"], "usage": usage})


# --- failures ----------------------------------------------------------------------------------------------------


def status(code: int, headers: dict[str, str] | None = None, error: dict[str, Any] | None = None) -> Reply:
    """An error as vendors send it."""
    result = {"error": {"message": f"told {code}", "type": "x", "code": None, "param": None} | (error or {})}
    return lambda handler, body: handler.reply(code, result, headers)


def raw(data: bytes) -> Reply:
    """200, with whatever is no answer."""
    return lambda handler, body: handler.reply(200, data)


def hang(seconds: float) -> Reply:
    """Nothing, for so long."""

    def reply(handler: Handler, body: dict[str, Any]) -> None:
        time.sleep(seconds)
        handler.cut()

    return reply


def cut_before_answer(handler: Handler, body: dict[str, Any]) -> None:
    """The connection breaks before a byte of the answer."""
    handler.cut()


def cut_stream(after: int) -> Reply:
    """A stream that breaks after so many words."""

    def reply(handler: Handler, body: dict[str, Any]) -> None:
        handler.begin_events()
        handler.event(chunk(body["model"], {"role": "assistant", "content": ""}))
        for word in handler.upstream.words[:after]:
            handler.event(chunk(body["model"], {"content": word}))
        handler.cut()

    return reply


def stall_stream(after: int, seconds: float) -> Reply:
    """A stream that goes silent after so many words."""

    def reply(handler: Handler, body: dict[str, Any]) -> None:
        handler.begin_events()
        handler.event(chunk(body["model"], {"role": "assistant", "content": ""}))
        for word in handler.upstream.words[:after]:
            handler.event(chunk(body["model"], {"content": word}))
        time.sleep(seconds)
        handler.cut()

    return reply


def end_stream_early(after: int) -> Reply:
    """A stream that ends cleanly on the wire, but without a finish reason."""

    def reply(handler: Handler, body: dict[str, Any]) -> None:
        handler.begin_events()
        for word in handler.upstream.words[:after]:
            handler.event(chunk(body["model"], {"content": word}))
        handler.end_events()

    return reply


def error_in_stream(after: int) -> Reply:
    """A stream with an error event after so many words."""

    def reply(handler: Handler, body: dict[str, Any]) -> None:
        handler.begin_events()
        for word in handler.upstream.words[:after]:
            handler.event(chunk(body["model"], {"content": word}))
        handler.event({"error": {"message": "overloaded", "type": "server_error", "code": None}})
        handler.end_events()

    return reply


def without_usage(handler: Handler, body: dict[str, Any]) -> None:
    """A whole answer, or stream, that says nothing of usage."""
    words = "".join(handler.upstream.words)
    if body.get("stream"):
        handler.begin_events()
        handler.event(chunk(body["model"], {"content": words}, "stop"))
        handler.event("[DONE]")
        handler.end_events()
        return
    choices = [{"index": 0, "message": {"role": "assistant", "content": words}, "finish_reason": "stop"}]
    result = {"id": "x", "object": "chat.completion", "created": 1, "model": body["model"], "choices": choices}
    handler.reply(200, result)


@contextmanager
def running_upstream() -> Iterator[Upstream]:
    """Serve on a free port of 127.0.0.1 until the block ends."""
    server = _Server(("127.0.0.1", 0), Handler)
    upstream = server.upstream = Upstream(port=server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield upstream
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
