"""One attempt's time, held against every byte that boto3 reads.

botocore's limits are a client's, and its read limit is one read's: a server that sends a byte now and then passes it
for ever. So each client's HTTP session is wrapped: it learns from `Exchange` how much time this attempt has, and
leaves there how far the attempt came, which is what its failure is judged by.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

_CHUNK = 65_536


class Exchange:
    """Until when the answer may take, by `time.monotonic()`, and what has happened so far."""

    def __init__(self, seconds: float) -> None:
        self.until = time.monotonic() + seconds
        self.sent = False
        """Whether the request was handed to the network."""
        self.status: int | None = None
        self.headers: Mapping[str, str] = {}

    def left(self) -> float:
        """Seconds."""
        return self.until - time.monotonic()


class TimeIsOver(Exception):
    """The exchange took longer than it may."""


class AnswerCut(Exception):
    """The answer ended before the length that it had announced."""


_current: ContextVar[Exchange] = ContextVar("exchange")


@contextmanager
def using(exchange: Exchange) -> Iterator[None]:
    """The calls made within the block are this exchange's."""
    token = _current.set(exchange)
    try:
        yield
    finally:
        _current.reset(token)


class _Session(Protocol):
    def send(self, request: Any) -> Any: ...  # noqa: ANN401 - botocore has no types

    def close(self) -> None: ...


class TimedSession:
    """botocore's HTTP session, each of whose exchanges keeps to its time."""

    def __init__(self, session: _Session) -> None:
        self._session = session

    def send(self, request: Any) -> Any:  # noqa: ANN401 - botocore has no types
        """An `AWSResponse` whose body is still unread."""
        exchange = _current.get()
        if (left := exchange.left()) <= 0:  # credentials were all that it had time for
            raise TimeIsOver
        request.context = {**(request.context or {}), "read_timeout": left}
        request.stream_output = True  # else the session reads the body itself, with no eye on the time
        exchange.sent = True
        response = self._session.send(request)
        exchange.status, exchange.headers = response.status_code, response.headers
        response.raw = _TimedBody(response.raw, exchange)
        return response

    def close(self) -> None:
        self._session.close()


class _Raw(Protocol):
    length_remaining: int | None

    def read1(self, amt: int) -> bytes: ...

    def close(self) -> None: ...


class _TimedBody:
    """The part of urllib3's response that botocore uses."""

    def __init__(self, raw: _Raw, exchange: Exchange) -> None:
        self._raw = raw
        self._exchange = exchange

    def stream(self, amt: int = _CHUNK) -> Iterator[bytes]:
        # `read1` returns what one look at the socket brings; `read` would wait until it has all that was asked for.
        while part := self._raw.read1(amt):
            if self._exchange.left() < 0:
                self.close()
                raise TimeIsOver
            yield part
        if self._raw.length_remaining:
            raise AnswerCut

    def read(self, amt: int | None = None) -> bytes:
        return b"".join(self.stream()) if amt is None else next(self.stream(amt), b"")

    def close(self) -> None:
        self._raw.close()
