"""One attempt's deadline, held against every read of the answer's body.

httpx2 limits each read, by a time-out that is fixed when the body begins. A server that sends a blank line or a comment
now and then, as several do while they think, passes every such limit and never ends. A stream may be silent for longer
between its pieces than before the first one, where another provider may still answer.
"""

from collections.abc import Callable, Iterator
from typing import cast
from weakref import WeakMethod

import httpx2

from fusewire.ai.providers.time_limit import TimeLimit


class AttemptDeadline(TimeLimit):
    """The time limit of one response."""

    def watch(self, response: httpx2.Response) -> None:
        """Make `response`, still unread, raise `ReadTimeout` when the limit is over, or for a part that comes later."""
        stream = response.stream
        if isinstance(stream, httpx2.SyncByteStream):
            reads = _reads_of(response)
            if reads is not None:
                reads.limit = self
            response.stream = _Watched(stream, self, reads)


class _Reads:
    """A connection's reads, each with the time-out that holds at its moment; between responses as they were."""

    def __init__(self, read: Callable[..., bytes]) -> None:
        self._read = WeakMethod(read)  # the connection holds this object
        self.limit: TimeLimit | None = None

    def __call__(self, max_bytes: int, timeout: float | None = None) -> bytes:
        read = self._read()
        if read is None:
            raise RuntimeError("a connection is read that is gone")
        return read(max_bytes, timeout=timeout if self.limit is None else self.limit.next_wait())


def _reads_of(response: httpx2.Response) -> _Reads | None:
    """The reads of the connection that a response comes by: httpcore2 gives its stream, and takes no time-out for one
    read, so that the stream's `read` is replaced, once for each connection."""
    connection = response.extensions.get("network_stream")
    if connection is None:
        return None
    own = vars(connection)
    if "read" not in own:
        own["read"] = _Reads(connection.read)
    return cast(_Reads, own["read"])


class _Watched(httpx2.SyncByteStream):
    def __init__(self, stream: httpx2.SyncByteStream, limit: TimeLimit, reads: _Reads | None) -> None:
        self._stream = stream
        self._limit = limit
        self._reads = reads

    def __iter__(self) -> Iterator[bytes]:
        for part in self._stream:
            if self._limit.left() < 0:
                raise httpx2.ReadTimeout("the answer took longer than its deadline")
            yield part

    def close(self) -> None:
        if self._reads is not None:
            self._reads.limit = None
        self._stream.close()
