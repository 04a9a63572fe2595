"""A vendor without delay: OpenAI's chat protocol, answered from memory as fast as Python can.

Every subject is measured against this one, so it must never be what limits them, as the tests' scripted vendor
(`tests/support/upstream.py`) would: one asyncio protocol on uvloop, requests parsed in C by httptools, answers made
beforehand. It runs as a process of its own
(`python -m benchmarks.upstream`), prints its port as one line, and ends when its standard input does.

It bills by credential: `GET /billed` tells how many answers each `Authorization` was given, so that a run can prove
that every call it timed reached the vendor exactly once. A call of `SLOW_MODEL` is billed as it comes, and answered
after `SLOW_SECONDS`: what many callers do meanwhile is what a budget has to survive.
"""

import asyncio
import json
import sys
from collections import Counter
from typing import Any, Final, cast

import httptools
import uvloop

MODEL: Final = "bench-model"
SLOW_MODEL: Final = "bench-model-slow"
SLOW_SECONDS: Final = 0.5
INPUT_TOKENS: Final = 20
WORDS: Final = ("The", " capital", " of", " France", " is", " Paris", ",", " of", " course", ".")
OUTPUT_TOKENS: Final = len(WORDS)
CHARGE: Final = {
    "prompt_tokens": INPUT_TOKENS,
    "completion_tokens": OUTPUT_TOKENS,
    "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS,
}


def _response(status: str, content_type: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _answer() -> bytes:
    message = {"role": "assistant", "content": "".join(WORDS)}
    body = {
        "id": "chatcmpl-bench",
        "object": "chat.completion",
        "created": 1,
        "model": MODEL,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": CHARGE,
    }
    return _response("200 OK", "application/json", json.dumps(body).encode())


def _event(data: str) -> bytes:
    raw = f"data: {data}\n\n".encode()
    return b"%x\r\n%b\r\n" % (len(raw), raw)


def _chunk(choices: list[dict[str, Any]], **more: object) -> bytes:
    head = {"id": "chatcmpl-bench", "object": "chat.completion.chunk", "created": 1, "model": MODEL}
    return _event(json.dumps(head | {"choices": choices} | more))


def _delta(delta: dict[str, Any], finish: str | None = None) -> bytes:
    return _chunk([{"index": 0, "delta": delta, "finish_reason": finish}])


def _events(*, usage: bool) -> tuple[bytes, ...]:
    """A streamed answer; each item leaves in a write of its own, as vendors send them."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    words = [_delta({"content": word}) for word in WORDS]
    last = [_chunk([], usage=CHARGE)] if usage else []
    first = head + _delta({"role": "assistant", "content": ""})
    return (first, *words, _delta({}, "stop"), *last, _event("[DONE]") + b"0\r\n\r\n")


_ANSWER: Final = _answer()
_EVENTS: Final = {usage: _events(usage=usage) for usage in (False, True)}
_NOT_FOUND: Final = _response("404 Not Found", "application/json", b'{"error": {"message": "no such route"}}')


class Vendor(asyncio.Protocol):
    """One connection. Callers never pipeline, so a request is whole before the next begins."""

    def __init__(self, billed: Counter[str]) -> None:
        self._billed = billed
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are of no asyncio class.
        self._transport = cast("asyncio.WriteTransport", transport)
        self._parser = httptools.HttpRequestParser(self)
        self._begin()

    def _begin(self) -> None:
        self._path = b""
        self._credential = ""
        self._body = b""

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.close()

    def on_url(self, url: bytes) -> None:
        self._path += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"authorization":
            self._credential = value.decode("latin-1").removeprefix("Bearer ")

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        path, credential, body = self._path, self._credential, self._body
        self._begin()
        if path.endswith(b"/chat/completions"):
            request = json.loads(body)
            self._billed[credential] += 1
            if request.get("stream"):
                self._send_next(_EVENTS[bool((request.get("stream_options") or {}).get("include_usage"))], 0)
            elif request.get("model") == SLOW_MODEL:
                self._loop.call_later(SLOW_SECONDS, self._transport.write, _ANSWER)
            else:
                self._transport.write(_ANSWER)
        elif path.endswith(b"/billed"):
            self._transport.write(_response("200 OK", "application/json", json.dumps(self._billed).encode()))
        else:
            self._transport.write(_NOT_FOUND)

    def _send_next(self, events: tuple[bytes, ...], number: int) -> None:
        """One event for each turn of the loop: uvloop joins what is written within one."""
        self._transport.write(events[number])
        if number + 1 < len(events):
            self._loop.call_soon(self._send_next, events, number + 1)


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    billed: Counter[str] = Counter()
    server = await loop.create_server(lambda: Vendor(billed), "127.0.0.1", 0, backlog=256)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    async with server:
        # With its parent, however that ends.
        await loop.run_in_executor(None, sys.stdin.buffer.read)


if __name__ == "__main__":
    uvloop.run(_serve())
