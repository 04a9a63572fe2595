"""Vendors that fail in every way that the router knows, and keep the only true account of what they billed."""

import json
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from benchmarks.trouble import DEAR, SECRETS, Question, number_in, usd

_WORDS: Final = 8
_ANSWER_SECONDS: Final = 0.15
_HANG_SECONDS: Final = 8.0


@dataclass
class Bills:
    """What each provider billed for each call's number, in USD."""

    usd: dict[tuple[str, int], Decimal] = field(default_factory=dict)
    kinds: dict[str, int] = field(default_factory=dict)
    """How often each way of answering was taken."""
    all_well: bool = False
    """Whether the vendors answer as they should from now on."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, provider: str, number: int, cost: Decimal) -> None:
        with self._lock:
            self.usd[provider, number] = self.usd.get((provider, number), Decimal(0)) + cost

    def played(self, kind: str) -> None:
        with self._lock:
            self.kinds[kind] = self.kinds.get(kind, 0) + 1


@contextmanager
def running_vendor(provider: str, bills: Bills, seed: int) -> Iterator[int]:
    """A provider's server until the block ends; its port."""
    server = _Server(provider, bills, random.Random(f"{seed} {provider}"))  # noqa: S311 - the same failures in every run
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, provider: str, bills: Bills, chance: random.Random) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.provider = provider
        self.bills = bills
        self._chance = chance
        self._deck: list[_Kind] = []
        self._lock = threading.Lock()

    def deal(self) -> "_Kind":
        """How to answer the next request. From a shuffled deck, so that each way has its turn in a short run too."""
        if self.bills.all_well:
            return _MATRIX[0]
        with self._lock:
            if not self._deck:
                self._deck = [kind for kind in _MATRIX for _ in range(kind.cards)]
                self._chance.shuffle(self._deck)
            return self._deck.pop()

    def handle_error(self, request: object, client_address: object) -> None:
        """A gateway's worker that was killed is nothing to print."""
        if not isinstance(sys.exc_info()[1], OSError | ValueError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        question = Question(number_in(body["messages"][0]["content"]))
        call = Call(self, body, question)
        kind = self.server.deal()
        if kind.billed:
            cost = usd(question.tokens, DEAR if body["model"] == "dear" else 1)
            self.server.bills.add(self.server.provider, question.number, cost)
        self.server.bills.played(kind.name)
        kind.play(call)


@dataclass(frozen=True, slots=True)
class Call:
    """A request that a vendor has to answer, well or badly."""

    handler: _Handler
    body: dict[str, Any]
    question: Question

    @property
    def streamed(self) -> bool:
        return bool(self.body.get("stream"))

    @property
    def usage(self) -> dict[str, int]:
        inputs, outputs = self.question.tokens
        return {"prompt_tokens": inputs, "completion_tokens": outputs, "total_tokens": inputs + outputs}

    def whole(self, status: int, body: object, **headers: str) -> None:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.handler.send_response(status)
        for name, value in {"content-type": "application/json", "content-length": str(len(raw)), **headers}.items():
            self.handler.send_header(name.replace("_", "-"), value)
        self.handler.end_headers()
        self.handler.wfile.write(raw)

    def answer(self, *, usage: bool = True) -> None:
        """Whole or streamed, as it was asked for."""
        if self.streamed:
            self.events(_WORDS)
            self.event(self._chunk([{"index": 0, "delta": {}, "finish_reason": "stop"}]))
            if usage:
                self.event(self._chunk([]) | {"usage": self.usage})
            self.event("[DONE]")
            self.handler.wfile.write(b"0\r\n\r\n")
            return
        time.sleep(_ANSWER_SECONDS)
        message = {"role": "assistant", "content": SECRETS["answer"]}
        told = self._chunk([{"index": 0, "message": message, "finish_reason": "stop"}]) | {"object": "chat.completion"}
        self.whole(200, told | ({"usage": self.usage} if usage else {}))

    def events(self, words: int) -> None:
        """So many words of a stream."""
        self.handler.send_response(200)
        self.handler.send_header("content-type", "text/event-stream")
        self.handler.send_header("transfer-encoding", "chunked")
        self.handler.end_headers()
        for _ in range(words):
            time.sleep(_ANSWER_SECONDS / _WORDS)
            delta = {"content": f"{SECRETS['answer']} "}
            self.event(self._chunk([{"index": 0, "delta": delta, "finish_reason": None}]))

    def event(self, data: object) -> None:
        text = data if isinstance(data, str) else json.dumps(data)
        raw = f"data: {text}\n\n".encode()
        self.handler.wfile.write(b"%x\r\n%s\r\n" % (len(raw), raw))

    def cut(self) -> None:
        """Break the connection."""
        self.handler.close_connection = True
        self.handler.connection.shutdown(2)

    def _chunk(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        head = {"id": "chatcmpl-chaos", "object": "chat.completion.chunk", "created": 1, "model": self.body["model"]}
        return head | {"choices": choices}


@dataclass(frozen=True, slots=True)
class _Kind:
    """One way of answering."""

    name: str
    cards: int
    """In a deck."""
    billed: bool
    """Whether the vendor did its work, and bills it, whatever became of the answer."""
    play: Callable[[Call], None]


def _status(code: int, **headers: str) -> Callable[[Call], None]:
    return lambda call: call.whole(code, {"error": {"message": "no", "type": "x", "code": None}}, **headers)


def _hang(call: Call) -> None:
    time.sleep(_HANG_SECONDS)
    call.cut()


def _cut_in_the_middle(call: Call) -> None:
    if call.streamed:
        call.events(_WORDS // 2)
    call.cut()


def _end_early(call: Call) -> None:
    if not call.streamed:
        call.cut()
        return
    call.events(_WORDS // 2)
    call.handler.wfile.write(b"0\r\n\r\n")


def _error_in_the_middle(call: Call) -> None:
    if not call.streamed:
        call.cut()
        return
    call.events(_WORDS // 2)
    call.event({"error": {"message": "overloaded", "type": "server_error", "code": None}})
    call.handler.wfile.write(b"0\r\n\r\n")


def _stall(call: Call) -> None:
    if call.streamed:
        call.events(_WORDS // 2)
    _hang(call)


_MATRIX: Final = (
    _Kind("answer", 120, True, lambda call: call.answer()),
    _Kind("answer without usage", 1, True, lambda call: call.answer(usage=False)),
    _Kind("no JSON", 1, True, lambda call: call.whole(200, b"<html>")),
    _Kind("hang", 1, True, _hang),
    _Kind("stall", 1, True, _stall),
    _Kind("cut before the answer", 1, True, lambda call: call.cut()),
    _Kind("cut in the middle", 1, True, _cut_in_the_middle),
    _Kind("end early", 1, True, _end_early),
    _Kind("error in the middle", 1, True, _error_in_the_middle),
    _Kind("408", 1, True, _status(408)),
    _Kind("502", 1, True, _status(502)),
    _Kind("504", 1, True, _status(504)),
    _Kind("409", 1, False, _status(409)),
    _Kind("429", 1, False, _status(429, retry_after="1")),
    _Kind("500", 2, False, _status(500)),
    _Kind("503", 2, False, _status(503)),
)
