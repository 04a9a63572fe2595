"""One attempt's time, held against every byte that boto3 reads.

botocore's limits are a client's, and its read limit is one read's: a server that sends a byte now and then passes it
for ever. So each client's HTTP session is wrapped: it learns from `Exchange` how much time this attempt has, and
leaves there how far the attempt came, which is what its failure is judged by.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from math import inf
from typing import Any, Protocol

from fusewire.ai.providers.answer_limits import ERROR, STREAMED, AnswerLimits, AnswerSize, AnswerTooLarge
from fusewire.ai.providers.time_limit import TimeLimit

_CHUNK = 65_536


class Exchange(TimeLimit):
    """How long the answer may take, and what has happened so far."""

    def __init__(
        self, seconds: float, limits: AnswerLimits = STREAMED, *, total: float | None = None, silence: float = inf
    ) -> None:
        """:param limits: of the answer; botocore itself limits each event of a stream, to 24 MB"""
        super().__init__(seconds, total=total, silence=silence)
        self.limits = limits
        self.sent = False
        """Whether the request was handed to the network."""
        self.status: int | None = None
        self.headers: Mapping[str, str] = {}
        self.body: bytes | None = None
        """Of a whole answer that came with a status of success."""


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


def note_body(response_dict: Mapping[str, Any], **_: object) -> None:
    """botocore's `before-parse`: keep the body of an answer, which its parser may give up on."""
    if response_dict["status_code"] < 300 and isinstance(response_dict["body"], bytes):
        _current.get().body = response_dict["body"]


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
        self._size = AnswerSize(ERROR if (exchange.status or 0) >= 300 else exchange.limits)

    def stream(self, amt: int = _CHUNK) -> Iterator[bytes]:
        # `read1` returns what one look at the socket brings; `read` would wait until it has all that was asked for.
        while part := self._read1(amt):
            if self._exchange.left() < 0:
                self.close()
                raise TimeIsOver
            try:
                self._size.add(part)
            except AnswerTooLarge:
                self.close()
                raise
            yield part
        if self._raw.length_remaining:
            raise AnswerCut

    def _read1(self, amt: int) -> bytes:
        # urllib3 sets a read's time-out once, for the client; the socket has what this read may wait.
        if (socket := _socket_of(self._raw)) is not None:
            socket.settimeout(self._exchange.next_wait())
        return self._raw.read1(amt)

    def read(self, amt: int | None = None) -> bytes:
        return b"".join(self.stream()) if amt is None else next(self.stream(amt), b"")

    def close(self) -> None:
        self._raw.close()


def _socket_of(raw: _Raw) -> Any:  # noqa: ANN401 - whichever kind of socket
    """The socket below urllib3's response and the standard library's; None once all of it was read."""
    found: Any = raw
    for name in ("_fp", "fp", "raw", "_sock"):
        found = getattr(found, name, None)
    return found
