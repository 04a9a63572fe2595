"""Bedrock for tests: its REST paths over real HTTP, its binary event streams, a bill for what it serves, and failures.

It counts tokens as bytes of UTF-8 text, which is the most that any tokenizer makes of them.
Source of the framing: "Event stream encoding" of AWS' Smithy specification; botocore's parser checks it in the tests.
"""

import base64
import json
import ssl
import struct
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote
from zlib import crc32

Reply = Callable[["Handler", dict[str, Any]], None]


@dataclass
class Bedrock:
    """What the server did. `script` holds replies for the next requests; when it is empty, it answers properly."""

    words: list[str] = field(default_factory=lambda: ["Pa", "ris", "."])
    port: int = 0
    scheme: str = "http"
    requests: list[dict[str, Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    script: deque[Reply] = field(default_factory=deque)
    billed: list[tuple[int, int]] = field(default_factory=list)
    """(input tokens, output tokens) of every answer that was served whole."""
    usage: dict[str, Any] | None = None
    """What its answers say of usage instead of the bill; None: the bill."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    gone: threading.Event = field(default_factory=threading.Event)
    """Set when the server ends, so that no reply outlives its test."""

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def reset(self) -> None:
        """Forget what a test did."""
        self.words, self.usage = ["Pa", "ris", "."], None
        for kept in (self.requests, self.paths, self.headers, self.script, self.billed):
            kept.clear()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256
    bedrock: Bedrock

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that hang up are part of the tests; anything else is a bug here."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: _Server
    disable_nagle_algorithm = True
    wbufsize = -1

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""

    @property
    def bedrock(self) -> Bedrock:
        return self.server.bedrock

    @property
    def action(self) -> tuple[str, str]:
        """(model, converse or converse-stream or invoke)."""
        _, _, model, action = self.path.split("/")
        return unquote(model), action

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with self.bedrock.lock:
            self.bedrock.paths.append(unquote(self.path))
            self.bedrock.requests.append(body)
            self.bedrock.headers.append({k.lower(): v for k, v in self.headers.items()})
            scripted = self.bedrock.script.popleft() if self.bedrock.script else None
        ordinary = {"converse": answer, "converse-stream": stream, "invoke": invoke, "count-tokens": count}[
            self.action[1]
        ]
        (scripted or ordinary)(self, body)

    def reply(self, status: int, body: object, headers: Mapping[str, str] | None = None) -> None:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        given = {"content-type": "application/json", "x-amzn-requestid": "request-7", **(headers or {})}
        for name, value in given.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def begin_events(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "application/vnd.amazon.eventstream")
        self.send_header("x-amzn-requestid", "request-7")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()

    def part(self, raw: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(raw), raw))
        self.wfile.flush()

    def event(self, kind: str, payload: object) -> None:
        self.part(event_message(kind, payload))

    def end_events(self) -> None:
        self.wfile.write(b"0\r\n\r\n")

    def cut(self) -> None:
        """Break the connection without ending the answer."""
        self.wfile.flush()
        self.close_connection = True
        self.connection.shutdown(2)


# --- the event stream's framing ----------------------------------------------------------------------------------


def message(headers: Mapping[str, str], payload: bytes) -> bytes:
    """One message: lengths, their checksum, headers (each a name, type 7 and a string), payload, checksum of all."""
    encoded = b"".join(
        struct.pack("!B", len(name)) + name.encode() + struct.pack("!BH", 7, len(value.encode())) + value.encode()
        for name, value in headers.items()
    )
    lengths = struct.pack("!II", 16 + len(encoded) + len(payload), len(encoded))
    begun = lengths + struct.pack("!I", crc32(lengths)) + encoded + payload
    return begun + struct.pack("!I", crc32(begun))


def event_message(kind: str, payload: object) -> bytes:
    headers = {":event-type": kind, ":content-type": "application/json", ":message-type": "event"}
    return message(headers, payload if isinstance(payload, bytes) else json.dumps(payload).encode())


def exception_message(kind: str, text: str) -> bytes:
    headers = {":exception-type": kind, ":content-type": "application/json", ":message-type": "exception"}
    return message(headers, json.dumps({"message": text}).encode())


# --- ordinary answers --------------------------------------------------------------------------------------------


def _texts(body: dict[str, Any]) -> Iterator[str]:
    blocks = [*body.get("system", []), *(block for turn in body.get("messages", []) for block in turn["content"])]
    for block in blocks:
        yield block.get("text", "")
        yield from (part["text"] for part in block.get("toolResult", {}).get("content", []))
        if "toolUse" in block:
            yield json.dumps(block["toolUse"]["input"])


def _bill(handler: Handler, body: dict[str, Any]) -> dict[str, Any]:
    """The bill of an answer of all the words that the cap allows, and what the answer says of it."""
    bedrock = handler.bedrock
    tokens = sum(len(text.encode()) for text in _texts(body))
    made = min(len(bedrock.words), body["inferenceConfig"]["maxTokens"])
    with bedrock.lock:
        bedrock.billed.append((tokens, made))
    result = {"inputTokens": tokens, "outputTokens": made, "totalTokens": tokens + made}
    return result if bedrock.usage is None else bedrock.usage


def _chosen(body: dict[str, Any]) -> str | None:
    """The tool that the request forces, if it does."""
    config = body.get("toolConfig", {})
    choice = config.get("toolChoice", {})
    if "tool" in choice:
        return str(choice["tool"]["name"])
    return str(config["tools"][0]["toolSpec"]["name"]) if "any" in choice else None


def answer(handler: Handler, body: dict[str, Any]) -> None:
    """A whole answer, billed."""
    usage = _bill(handler, body)
    if name := _chosen(body):
        tool = {"toolUseId": "tooluse_1", "name": name, "input": {"city": "Paris"}}
        handler.reply(200, whole([{"toolUse": tool}], "tool_use", usage))
    else:
        handler.reply(200, whole([{"text": "".join(handler.bedrock.words)}], "end_turn", usage))


def whole(content: list[dict[str, Any]], stop: str, usage: dict[str, Any] | None) -> dict[str, Any]:
    """The body of an answer of `converse`."""
    result = {"output": {"message": {"role": "assistant", "content": content}}, "stopReason": stop}
    return {**result, "metrics": {"latencyMs": 7}, **({} if usage is None else {"usage": usage})}


def stream(handler: Handler, body: dict[str, Any]) -> None:
    """A whole stream, billed."""
    usage = _bill(handler, body)
    handler.begin_events()
    handler.event("messageStart", {"role": "assistant"})
    if name := _chosen(body):
        start = {"toolUse": {"toolUseId": "tooluse_1", "name": name}}
        handler.event("contentBlockStart", {"start": start, "contentBlockIndex": 0})
        for piece in ('{"city"', ': "Paris"}'):
            handler.event("contentBlockDelta", {"delta": {"toolUse": {"input": piece}}, "contentBlockIndex": 0})
    else:
        say(handler, handler.bedrock.words)
    handler.event("contentBlockStop", {"contentBlockIndex": 0})
    handler.event("messageStop", {"stopReason": "tool_use" if name else "end_turn"})
    handler.event("metadata", {"usage": usage, "metrics": {"latencyMs": 7}})
    handler.end_events()


def say(handler: Handler, words: list[str]) -> None:
    """Words of the first block."""
    for word in words:
        handler.event("contentBlockDelta", {"delta": {"text": word}, "contentBlockIndex": 0})


def count(handler: Handler, body: dict[str, Any]) -> None:
    """Of a foundation model's id alone; nothing is billed."""
    if not handler.action[0].startswith("anthropic."):
        error(400, "ValidationException", "The provided model doesn't support counting tokens.")(handler, body)
        return
    handler.reply(200, {"inputTokens": len(json.dumps(body["input"]["converse"]).encode())})


def invoke(handler: Handler, body: dict[str, Any]) -> None:
    """Vectors, billed: Titan's and Cohere's bodies."""
    texts = [body["inputText"]] if "inputText" in body else body["texts"]
    tokens = sum(len(text.encode()) for text in texts)
    with handler.bedrock.lock:
        handler.bedrock.billed.append((tokens, 0))
    headers = {"X-Amzn-Bedrock-Input-Token-Count": str(tokens)}
    if "inputText" in body:
        vector = [0.5, -0.25]
        handler.reply(200, {"embedding": vector, "inputTextTokenCount": tokens, "embeddingsByType": {"float": vector}})
    else:
        vectors = [[float(len(text)), -0.25] for text in texts]
        result = {"id": "e", "response_type": "embeddings_by_type", "embeddings": {"float": vectors}, "texts": texts}
        handler.reply(200, result, headers)


# --- failures ----------------------------------------------------------------------------------------------------


def error(status: int, name: str, text: str = "told", headers: Mapping[str, str] | None = None) -> Reply:
    """An error as Bedrock sends it: its name in a header."""
    named = {"x-amzn-errortype": f"{name}:http://internal.amazon.com/coral/com.amazon.bedrock/"} if name else {}
    return lambda handler, body: handler.reply(status, {"message": text}, {**named, **(headers or {})})


def raw(data: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """Whatever is no answer."""
    return lambda handler, body: handler.reply(status, data, headers)


def events(*messages: bytes, end: bool = True) -> Reply:
    """A stream of just these bytes; without `end` the connection breaks after them."""

    def reply(handler: Handler, body: dict[str, Any]) -> None:
        handler.begin_events()
        for each in messages:
            handler.part(each)
        handler.end_events() if end else handler.cut()

    return reply


def hang(handler: Handler, body: dict[str, Any]) -> None:
    """Nothing, until the test is over."""
    handler.bedrock.gone.wait(20)
    handler.close_connection = True


def stall(*messages: bytes) -> Reply:
    """A stream that stops flowing after these, until the test is over."""

    def reply(handler: Handler, body: dict[str, Any]) -> None:
        handler.begin_events()
        for each in messages:
            handler.part(each)
        hang(handler, body)

    return reply


def beginning(size: int) -> bytes:
    """How an event begins that will have so many bytes."""
    lengths = struct.pack("!II", size, 0)
    return lengths + struct.pack("!I", crc32(lengths))


def drip(piece: bytes, headers: Mapping[str, str], first: bytes = b"") -> Reply:
    """A server that keeps the connection warm, a piece at a time after the first, and never answers."""

    def reply(handler: Handler, body: dict[str, Any]) -> None:
        handler.send_response(200)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        end = time.monotonic() + 20
        try:
            handler.wfile.write(first)
            while time.monotonic() < end and not handler.bedrock.gone.wait(0.05):
                handler.wfile.write(piece)
                handler.wfile.flush()
        except OSError:
            pass  # the other side has hung up, as it should
        handler.close_connection = True

    return reply


def cut_before_answer(handler: Handler, body: dict[str, Any]) -> None:
    """The connection breaks before a byte of the answer."""
    handler.cut()


def short_of_its_length(status: int, data: bytes) -> Reply:
    """An answer that ends before the length that it announced."""

    def reply(handler: Handler, body: dict[str, Any]) -> None:
        handler.send_response(status)
        handler.send_header("content-type", "application/json")
        handler.send_header("content-length", "4000")
        handler.end_headers()
        handler.wfile.write(data)
        handler.cut()

    return reply


def no_http(handler: Handler, body: dict[str, Any]) -> None:
    """Some other service's greeting."""
    handler.wfile.write(b"SSH-2.0-OpenSSH_9.6\r\n")
    handler.cut()


PNG = base64.b64decode("iVBORw0KGgo=")
"""The first bytes of an image."""


@contextmanager
def running_bedrock(tls: ssl.SSLContext | None = None) -> Iterator[Bedrock]:
    """Serve on a free port of 127.0.0.1 until the block ends."""
    server = _Server(("127.0.0.1", 0), Handler)
    bedrock = server.bedrock = Bedrock(port=server.server_address[1], scheme="https" if tls else "http")
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield bedrock
    finally:
        bedrock.gone.set()
        server.shutdown()
        server.server_close()
        thread.join()
