"""A vendor that bills and takes its time as the trace says: OpenAI's chat protocol, in the replay's own event loop.

It reads in the prompt which call it is, and ends an answer at the output cap that it is sent, as vendors do.
"""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, cast

import httptools

from benchmarks.admission.trace import Call, number_in

_NOT_FOUND: Final = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"
_CAPS: Final = ("max_completion_tokens", "max_tokens")


@dataclass(slots=True)
class Bill:
    """What the vendor did for one call. Times are of `time.monotonic`."""

    number: int
    cap: int | None
    """The output cap that it was sent."""
    written: int
    """Output tokens."""
    arrived: float
    answered: float | None = None


class Vendor:
    """The bills, and the calls that they are of."""

    def __init__(self, calls: Mapping[int, Call], factor: float) -> None:
        """:param factor: how many times faster than the trace's time goes"""
        self.bills: list[Bill] = []
        self._calls = calls
        self._factor = factor

    def take(self, request: Mapping[str, Any]) -> tuple[Bill, float, bytes]:
        """Bill a request.

        :return: the bill, the seconds until it is answered, and the answer
        """
        call = self._calls[number_in(_text(request["messages"][-1]["content"]))]
        cap = next((int(request[name]) for name in _CAPS if request.get(name) is not None), None)
        bill = Bill(call.number, cap, call.written(cap), time.monotonic())
        self.bills.append(bill)
        is_cut = bill.written < call.output_tokens
        return (
            bill,
            call.seconds(cap) / self._factor,
            _answer(request["model"], call.input_tokens, bill.written, is_cut),
        )


def _text(content: str | list[dict[str, str]]) -> str:
    return content if isinstance(content, str) else content[0]["text"]


def _answer(model: str, read: int, written: int, is_cut: bool) -> bytes:
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": "total"},
        "finish_reason": "length" if is_cut else "stop",
    }
    usage = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
    body = {"id": "chatcmpl-trace", "object": "chat.completion", "created": 1, "model": model}
    content = json.dumps(body | {"choices": [choice], "usage": usage}).encode()
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
    return head.encode() + content


class _Connection(asyncio.Protocol):
    """One connection. Callers never pipeline, so a request is whole before the next begins."""

    def __init__(self, vendor: Vendor) -> None:
        self._vendor = vendor
        self._path = self._body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are of no asyncio class.
        self._transport = cast("asyncio.WriteTransport", transport)
        self._parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self._path += url

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        path, body = self._path, self._body
        self._path = self._body = b""
        if not path.endswith(b"/chat/completions"):  # LiteLLM's proxy asks for the vendor's models
            self._transport.write(_NOT_FOUND)
            return
        bill, seconds, answer = self._vendor.take(json.loads(body))
        asyncio.get_running_loop().call_later(seconds, self._send, bill, answer)

    def _send(self, bill: Bill, answer: bytes) -> None:
        bill.answered = time.monotonic()
        self._transport.write(answer)


@asynccontextmanager
async def serving(vendor: Vendor, listener: socket.socket) -> AsyncIterator[None]:
    """Serve it on a socket that is bound, for as long as the block."""
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(vendor), sock=listener, backlog=256)
    try:
        yield
    finally:
        server.close()
