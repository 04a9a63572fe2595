"""The load: callers in a closed loop over raw keep-alive connections, each call timed to the microsecond.

Not httpx or urllib3: they take 0.3 to 0.5 ms of CPU for a call that the subject answers in a few, on the same cores,
and at 16 callers the load itself would be what is measured. Here a call costs about 20 microseconds: a prepared
request is written, httptools (C) parses the answer, and both times are taken inside the event loop's callbacks, with
no task or thread to wake in between. Every answer is still checked: status, content and end of stream.
"""

import asyncio
import json
import re
from dataclasses import dataclass, field
from time import perf_counter_ns
from typing import Final, cast
from urllib.parse import urlsplit

import httptools

_GRACE_SECONDS: Final = 60.0
_SHOWN_OF_A_BAD_ANSWER: Final = 300
_FIRST_TOKEN: Final = re.compile(rb'"content":\s*"The')
"""What a subject may have written anew: the vendor's first chunk carries a role and no word."""


class LoadError(Exception):
    """A call was not answered properly: a measurement with such a call in it says nothing."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where calls go, and what they carry."""

    url: str
    """Of the chat completions route."""
    key: str
    model: str
    headers: tuple[tuple[str, str], ...] = ()
    """What the subject wants besides."""
    streams: bool = True
    """Whether it answers in streams as well."""

    def request(self, *, stream: bool) -> bytes:
        """The whole HTTP request; the same body for every subject but for the model's name."""
        fields: dict[str, object] = {
            "model": self.model,
            "messages": [
                {"role": "system", "content": "You answer questions of geography in one short sentence."},
                {"role": "user", "content": "What is the capital of France?"},
            ],
            "max_tokens": 64,
            "temperature": 0.2,
        }
        if stream:
            fields |= {"stream": True, "stream_options": {"include_usage": True}}
        body = json.dumps(fields).encode()
        parts = urlsplit(self.url)
        more = "".join(f"{name}: {value}\r\n" for name, value in self.headers)
        head = (
            f"POST {parts.path} HTTP/1.1\r\nhost: {parts.netloc}\r\nauthorization: Bearer {self.key}\r\n{more}"
            f"content-type: application/json\r\naccept: */*\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


@dataclass(slots=True)
class Timings:
    """What a round of calls took; times in nanoseconds."""

    latencies: list[int] = field(default_factory=list)
    """From writing the request to the end of the answer."""
    first_tokens: list[int] = field(default_factory=list)
    """From writing the request to the first word of the answer; of a whole answer, to its end."""
    elapsed: int = 0
    """From the first request to the last answer."""

    @property
    def calls(self) -> int:
        return len(self.latencies)


class _Round:
    """What the callers of one round share: how long they go on, and where they note what it took."""

    def __init__(self, request: bytes, *, stream: bool) -> None:
        self.request = request
        self.marks = (b"Paris", b"data: [DONE]") if stream else (b"Paris",)
        self.timings = Timings()
        self.until = 0
        self.max_calls = 0
        self.started = 0
        self.callers = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def begins_another(self, now: int) -> bool:
        if self.done.done() or now >= self.until or self.started >= self.max_calls:
            return False
        self.started += 1
        return True

    def caller_ends(self) -> None:
        self.callers -= 1
        if self.callers == 0 and not self.done.done():
            self.done.set_result(None)

    def fail(self, why: str) -> None:
        if not self.done.done():
            self.done.set_exception(LoadError(why))


class _Caller(asyncio.Protocol):
    """One connection that sends its next call when the last one is answered."""

    def __init__(self, shared: _Round) -> None:
        self._round = shared
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.WriteTransport | None = None
        self._sent = self._first = 0
        self._body = b""
        self._calling = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are of no asyncio class.
        self._transport = cast("asyncio.WriteTransport", transport)

    def call(self) -> None:
        """Send a request, unless the round is over."""
        now = perf_counter_ns()
        if self._transport is None or not self._round.begins_another(now):
            self._round.caller_ends()
            return
        self._calling, self._body, self._first = True, b"", 0
        self._sent = perf_counter_ns()
        self._transport.write(self._round.request)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._round.fail(f"not an HTTP answer: {error}")

    def on_body(self, body: bytes) -> None:
        self._body += body
        if not self._first and _FIRST_TOKEN.search(self._body):
            self._first = perf_counter_ns()

    def on_message_complete(self) -> None:
        now = perf_counter_ns()
        self._calling = False
        status = self._parser.get_status_code()
        if status != 200 or not self._first or not all(mark in self._body for mark in self._round.marks):
            shown = self._body[:_SHOWN_OF_A_BAD_ANSWER].decode(errors="replace")
            self._round.fail(f"HTTP {status}: {shown}")
            return
        if not self._parser.should_keep_alive():
            self._round.fail("the server doesn't keep its connections alive")
            return
        timings = self._round.timings
        timings.latencies.append(now - self._sent)
        timings.first_tokens.append(self._first - self._sent)
        self.call()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._calling:
            self._round.fail(f"the connection was lost in mid-call: {exc or 'closed by the server'}")

    def close(self) -> None:
        self._calling = False
        if self._transport is not None:
            self._transport.close()


async def offer(target: Target, *, callers: int, stream: bool, seconds: float, max_calls: int = 1 << 40) -> Timings:
    """Have `callers` call `target` for `seconds`, or `max_calls` altogether, whichever ends first.

    Connections are opened beforehand. A call that has begun is finished, and counts.
    :raises LoadError: when a call isn't answered properly
    """
    loop = asyncio.get_running_loop()
    shared = _Round(target.request(stream=stream), stream=stream)
    parts = urlsplit(target.url)
    host, port = parts.hostname or "", parts.port or 80
    opened: list[_Caller] = []
    try:
        for _ in range(callers):
            _, caller = await loop.create_connection(lambda: _Caller(shared), host, port)
            opened.append(caller)
        shared.callers, shared.max_calls = callers, max_calls
        began = perf_counter_ns()
        shared.until = began + round(seconds * 1e9)
        for caller in opened:
            caller.call()
        async with asyncio.timeout(seconds + _GRACE_SECONDS):
            await shared.done
        shared.timings.elapsed = perf_counter_ns() - began
    except TimeoutError:
        raise LoadError(f"no end within {_GRACE_SECONDS:.0f} s after the round's time") from None
    except OSError as error:
        raise LoadError(f"can't connect: {error}") from error
    finally:
        for caller in opened:
            caller.close()
    return shared.timings
