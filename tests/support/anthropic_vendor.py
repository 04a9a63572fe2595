"""A vendor for tests: Anthropic's Messages API over real HTTP, which checks requests, bills, and fails when told to.

It counts tokens as bytes of UTF-8 text, which is the most that any tokenizer makes of them. `anthropic_rules` says what
it refuses.
"""

import json
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.support.anthropic_rules import complaint

_TOOL_PROMPT = 804
"""Tokens that come with tools, unseen: the most that Anthropic's documentation lists."""

Reply = Callable[["Handler", dict[str, Any]], None]


@dataclass
class Vendor:
    """What the server did. `script` holds replies for the next requests; when it is empty, it answers properly."""

    words: list[str] = field(default_factory=lambda: ["Pa", "ris", "."])
    thoughts: list[str] = field(default_factory=list)
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    """Tools that it calls when it may: (name, input)."""
    cached: int = 0
    written: int = 0
    written_for_an_hour: int = 0
    """Input tokens that are read from the cache, or written to it for 5 minutes and for an hour, on each request."""
    port: int = 0
    requests: list[dict[str, Any]] = field(default_factory=list)
    paths: Counter[str] = field(default_factory=Counter)
    headers: list[dict[str, str]] = field(default_factory=list)
    script: deque[Reply] = field(default_factory=deque)
    billed: list[dict[str, Any]] = field(default_factory=list)
    """The usage of every answer that was served whole."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    vendor: Vendor

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
    def vendor(self) -> Vendor:
        return self.server.vendor

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        headers = {k.lower(): v for k, v in self.headers.items()}
        with self.vendor.lock:
            self.vendor.paths[self.path] += 1
            self.vendor.requests.append(body)
            self.vendor.headers.append(headers)
            scripted = self.vendor.script.popleft() if self.vendor.script else None
        if scripted is not None:
            scripted(self, body)
        elif self.path == "/v1/messages/count_tokens":
            count(self, body)
        elif self.path != "/v1/messages":
            status(404, "not_found_error")(self, body)
        elif wrong := complaint(body, headers.get("anthropic-version", "")):
            status(400, "invalid_request_error", message=wrong)(self, body)
        elif body.get("stream"):
            stream(self, body)
        else:
            answer(self, body)

    def reply(self, code: int, body: object, headers: dict[str, str] | None = None) -> None:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(code)
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

    def event(self, kind: str, **data: object) -> None:
        raw = f"event: {kind}\ndata: {json.dumps({'type': kind, **data})}\n\n".encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(raw), raw))
        self.wfile.flush()

    def end_events(self) -> None:
        self.wfile.write(b"0\r\n\r\n")

    def cut(self) -> None:
        """Break the connection without ending the answer."""
        self.wfile.flush()
        self.close_connection = True
        self.connection.shutdown(2)


# --- answers -----------------------------------------------------------------------------------------------------


def _content(vendor: Vendor, body: dict[str, Any]) -> tuple[list[dict[str, Any]], str]:
    """(blocks, stop reason)."""
    blocks: list[dict[str, Any]] = []
    if vendor.thoughts:
        blocks.append({"type": "thinking", "thinking": "".join(vendor.thoughts), "signature": "c2ln"})
    choice = body.get("tool_choice", {"type": "auto"})["type"]
    calls = list(vendor.calls)
    if not calls and choice in ("any", "tool"):
        calls = [(body["tool_choice"].get("name", body["tools"][0]["name"]), {})]
    if body.get("tools") and choice != "none" and calls:
        for number, (name, given) in enumerate(calls, 1):
            blocks.append({"type": "tool_use", "id": f"toolu_{number}", "name": name, "input": given})
        return blocks, "tool_use"
    text = "".join(vendor.words[: body["max_tokens"]])
    blocks.append({"type": "text", "text": text})
    return blocks, "max_tokens" if body["max_tokens"] < len(vendor.words) else "end_turn"


def _text_bytes(value: object) -> int:
    """Of every text that a model would be shown; what is in an image is not text."""
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, dict):
        return sum(_text_bytes(v) for k, v in value.items() if k not in ("type", "role", "source", "cache_control"))
    return sum(map(_text_bytes, value)) if isinstance(value, list) else 0


def usage(vendor: Vendor, body: dict[str, Any]) -> dict[str, Any]:
    """As the real one tells it: what was cached apart from the input, and the output at last."""
    made = len(vendor.thoughts) + (len(vendor.calls) or min(len(vendor.words), body["max_tokens"]))
    return {
        "input_tokens": _text_bytes([body["messages"], body.get("system"), body.get("tools")])
        + (_TOOL_PROMPT if body.get("tools") else 0),
        "cache_creation_input_tokens": vendor.written + vendor.written_for_an_hour,
        "cache_read_input_tokens": vendor.cached,
        "cache_creation": {
            "ephemeral_5m_input_tokens": vendor.written,
            "ephemeral_1h_input_tokens": vendor.written_for_an_hour,
        },
        "output_tokens": made,
        "output_tokens_details": {"thinking_tokens": len(vendor.thoughts)},
        "service_tier": "standard",
    }


def message(vendor: Vendor, body: dict[str, Any]) -> dict[str, Any]:
    """A whole answer."""
    blocks, reason = _content(vendor, body)
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": blocks,
        "stop_reason": reason,
        "stop_sequence": None,
        "usage": usage(vendor, body),
    }


def answer(handler: Handler, body: dict[str, Any]) -> None:
    """A whole answer, billed."""
    result = message(handler.vendor, body)
    with handler.vendor.lock:
        handler.vendor.billed.append(result["usage"])
    handler.reply(200, result)


def begin(handler: Handler, body: dict[str, Any]) -> None:
    """A stream's first events: the input's counts, and an output count that is no total yet."""
    result = message(handler.vendor, body)
    first = result["usage"] | {"output_tokens": 1}
    handler.begin_events()
    handler.event("message_start", message=result | {"content": [], "stop_reason": None, "usage": first})
    handler.event("ping")


def _pieces(vendor: Vendor, block: dict[str, Any]) -> Iterator[dict[str, Any]]:
    match block["type"]:
        case "thinking":
            yield from ({"type": "thinking_delta", "thinking": thought} for thought in vendor.thoughts)
            yield {"type": "signature_delta", "signature": block["signature"]}
        case "text":
            yield from ({"type": "text_delta", "text": word} for word in vendor.words if word in block["text"])
        case "tool_use" if block["input"]:
            text = json.dumps(block["input"])
            yield {"type": "input_json_delta", "partial_json": ""}
            yield {"type": "input_json_delta", "partial_json": text[: len(text) // 2]}
            yield {"type": "input_json_delta", "partial_json": text[len(text) // 2 :]}


def stream(handler: Handler, body: dict[str, Any]) -> None:
    """A whole stream, billed."""
    vendor = handler.vendor
    result = message(vendor, body)
    with vendor.lock:
        vendor.billed.append(result["usage"])
    begin(handler, body)
    for index, block in enumerate(result["content"]):
        empty = {"text": {"text": ""}, "thinking": {"thinking": "", "signature": ""}, "tool_use": {"input": {}}}
        handler.event("content_block_start", index=index, content_block=block | empty[block["type"]])
        for piece in _pieces(vendor, block):
            handler.event("content_block_delta", index=index, delta=piece)
        handler.event("content_block_stop", index=index)
    end(handler, result["stop_reason"], result["usage"])


def says(*blocks: dict[str, Any]) -> Reply:
    """An answer of these blocks, whole or streamed, billed; refused where the request is wrong, as ever."""

    def reply(handler: Handler, body: dict[str, Any]) -> None:
        wrong = complaint(body, handler.headers.get("anthropic-version", ""))
        if wrong:
            status(400, "invalid_request_error", message=wrong)(handler, body)
            return
        reason = "tool_use" if any(block["type"] == "tool_use" for block in blocks) else "end_turn"
        counts = usage(handler.vendor, body) | {"output_tokens": 3 * len(blocks)}
        whole: dict[str, Any] = {"id": f"msg_{len(handler.vendor.requests)}", "type": "message", "role": "assistant"}
        whole |= {"model": body["model"], "stop_sequence": None}
        with handler.vendor.lock:
            handler.vendor.billed.append(counts)
        if not body.get("stream"):
            handler.reply(200, whole | {"content": list(blocks), "stop_reason": reason, "usage": counts})
            return
        first = whole | {"content": [], "stop_reason": None, "usage": counts | {"output_tokens": 1}}
        handler.begin_events()
        handler.event("message_start", message=first)
        for index, block in enumerate(blocks):
            empty, deltas = _in_pieces(block)
            handler.event("content_block_start", index=index, content_block=empty)
            for delta in deltas:
                handler.event("content_block_delta", index=index, delta=delta)
            handler.event("content_block_stop", index=index)
        end(handler, reason, counts)

    return reply


def _in_pieces(block: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """How a stream has a block: as it begins, and its deltas."""
    match block["type"]:
        case "text":
            return block | {"text": ""}, [{"type": "text_delta", "text": block["text"]}]
        case "thinking":
            said = [{"type": "thinking_delta", "thinking": block["thinking"]}] if block["thinking"] else []
            signed = {"type": "signature_delta", "signature": block["signature"]}
            return block | {"thinking": "", "signature": ""}, [*said, signed]
        case "tool_use":
            return block | {"input": {}}, [{"type": "input_json_delta", "partial_json": json.dumps(block["input"])}]
    return block, []


def count(handler: Handler, body: dict[str, Any]) -> None:
    """The vendor's own count, which it doesn't bill."""
    known = {"model", "messages", "system", "tools", "tool_choice", "thinking", "output_config"}
    if strange := body.keys() - known:
        status(400, "invalid_request_error", message=f"{min(strange)}: Extra inputs are not permitted")(handler, body)
        return
    counted = usage(handler.vendor, body | {"max_tokens": 1})["input_tokens"]
    handler.reply(200, {"input_tokens": counted})


def end(handler: Handler, reason: str, counts: dict[str, Any] | None, **more: object) -> None:
    """A stream's last events. The real one's last usage has no `cache_creation`: what it told at first holds."""
    last = None if counts is None else {name: n for name, n in counts.items() if name != "cache_creation"}
    delta = {"stop_reason": reason, "stop_sequence": None, **more}
    handler.event("message_delta", delta=delta, **({} if last is None else {"usage": last}))
    handler.event("message_stop")
    handler.end_events()


# --- failures ----------------------------------------------------------------------------------------------------


def status(
    code: int,
    kind: str = "api_error",
    headers: dict[str, str] | None = None,
    message: str | None = None,
    error_code: str | None = None,
) -> Reply:
    """An error as Anthropic sends it."""
    error: dict[str, Any] = {"type": kind, "message": f"told {code}" if message is None else message}
    if error_code:
        error["details"] = {"error_code": error_code}
    result = {"type": "error", "error": error, "request_id": "req_1"}
    return lambda handler, body: handler.reply(code, result, headers)


def raw(data: bytes, code: int = 200) -> Reply:
    """Whatever is no answer."""
    return lambda handler, body: handler.reply(code, data)


def hang(seconds: float) -> Reply:
    """Nothing, for so long."""

    def reply(handler: Handler, body: dict[str, Any]) -> None:
        time.sleep(seconds)
        handler.cut()

    return reply


def cut_before_answer(handler: Handler, body: dict[str, Any]) -> None:
    """The connection breaks before a byte of the answer."""
    handler.cut()


def _begin_text(handler: Handler, body: dict[str, Any], words: int) -> None:
    begin(handler, body)
    handler.event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    for word in handler.vendor.words[:words]:
        handler.event("content_block_delta", index=0, delta={"type": "text_delta", "text": word})


def cut_stream(after: int) -> Reply:
    """A stream that breaks after so many words."""

    def reply(handler: Handler, body: dict[str, Any]) -> None:
        _begin_text(handler, body, after)
        handler.cut()

    return reply


def end_stream_early(after: int) -> Reply:
    """A stream that ends cleanly on the wire, but without `message_stop`."""

    def reply(handler: Handler, body: dict[str, Any]) -> None:
        _begin_text(handler, body, after)
        handler.end_events()

    return reply


def stall(after: int, seconds: float, *, pings: bool = False) -> Reply:
    """A stream that goes silent after so many words, or says nothing but that it is still there."""

    def reply(handler: Handler, body: dict[str, Any]) -> None:
        _begin_text(handler, body, after)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(0.05)
            if pings:
                handler.event("ping")
        handler.cut()

    return reply


def error_in_stream(after: int | None, kind: str = "overloaded_error", message: str = "Overloaded") -> Reply:
    """A stream with an error event after so many words, or (None) as its very first event."""

    def reply(handler: Handler, body: dict[str, Any]) -> None:
        if after is None:
            handler.begin_events()
        else:
            _begin_text(handler, body, after)
        handler.event("error", error={"type": kind, "message": message})
        handler.end_events()

    return reply


def with_usage(counts: dict[str, Any] | None) -> Reply:
    """ "Paris.", whole or as a stream and whatever was asked, with this usage: None for nothing at all."""

    def reply(handler: Handler, body: dict[str, Any]) -> None:
        result = message(handler.vendor, {"messages": body["messages"], "model": body["model"], "max_tokens": 9})
        if not body.get("stream"):
            result.pop("usage")
            handler.reply(200, result if counts is None else result | {"usage": counts})
            return
        handler.begin_events()
        first = {} if counts is None else {"usage": counts | {"output_tokens": 1}}
        result.pop("usage")
        handler.event("message_start", message=result | {"content": [], "stop_reason": None} | first)
        handler.event("content_block_start", index=0, content_block={"type": "text", "text": ""})
        handler.event("content_block_delta", index=0, delta={"type": "text_delta", "text": "Paris."})
        handler.event("content_block_stop", index=0)
        end(handler, "end_turn", counts if counts and "output_tokens" in counts else None)

    return reply


def refusal(explanation: str | None, words: int = 0) -> Reply:
    """Anthropic's classifiers decline: HTTP 200 with its own stop reason, after so many words."""
    details = {"type": "refusal", "category": "cyber", "explanation": explanation}

    def reply(handler: Handler, body: dict[str, Any]) -> None:
        vendor = handler.vendor
        counts = usage(vendor, body) | {"output_tokens": words}
        with vendor.lock:
            vendor.billed.append(counts)
        if body.get("stream"):
            _begin_text(handler, body, words)
            end(handler, "refusal", counts, stop_details=details)
            return
        content = [{"type": "text", "text": "".join(vendor.words[:words])}] if words else []
        result = message(vendor, body) | {"content": content, "usage": counts}
        handler.reply(200, result | {"stop_reason": "refusal", "stop_details": details})

    return reply


@contextmanager
def running_vendor() -> Iterator[Vendor]:
    """Serve on a free port of 127.0.0.1 until the block ends."""
    server = _Server(("127.0.0.1", 0), Handler)
    vendor = server.vendor = Vendor(port=server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield vendor
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
