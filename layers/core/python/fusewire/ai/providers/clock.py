"""One attempt's time, held against every byte of the answer.

httpx limits each read. A server that sends a blank line or a comment now and then, as several do while they think,
passes every such limit and never ends.
"""

import time
from collections.abc import Iterator

import httpx2


class Clock:
    """Until when the answer may take, by `time.monotonic()`; a stream that has begun may be given longer."""

    def __init__(self, seconds: float) -> None:
        self.until = time.monotonic() + seconds

    def watch(self, response: httpx2.Response) -> None:
        """Have `response`, still unread, raise `ReadTimeout` for bytes that come too late."""
        stream = response.stream
        if isinstance(stream, httpx2.SyncByteStream):
            response.stream = _Watched(stream, self)


class _Watched(httpx2.SyncByteStream):
    def __init__(self, stream: httpx2.SyncByteStream, clock: Clock) -> None:
        self._stream = stream
        self._clock = clock

    def __iter__(self) -> Iterator[bytes]:
        for part in self._stream:
            if time.monotonic() > self._clock.until:
                raise httpx2.ReadTimeout("the time for this answer is over")
            yield part

    def close(self) -> None:
        self._stream.close()
