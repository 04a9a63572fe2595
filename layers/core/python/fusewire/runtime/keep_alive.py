"""A comment into every stream of events that falls silent: API Gateway cuts one after 5 minutes, proxies sooner.

Before a stream's first byte there is nothing to comment on, for its status isn't known; that byte, or a whole answer,
comes before API Gateway gives up (`Settings.max_silence_seconds`).

The handler's iterator blocks on its provider, so another thread has to write meanwhile. Each loop has one for the life
of the process, started by its first stream (after a snapshot, never in one) and asleep between streams. It isn't
shared: a client that reads nothing holds up who writes to it. A signal's
handler could do without it, but would interrupt the main thread within a chunk that it is writing, and system calls of
libraries that don't expect it. The thread isn't woken for a chunk, nor for a stream while it waits on another's: it
looks at when the stream was written to last.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from fusewire.runtime.api import ResponseStream

_COMMENT: Final = b": still here\n\n"
SECONDS: Final = 15.0


class KeepAlive:
    """Writes into one stream at a time: a loop has no more."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._changed = threading.Condition()
        self._stream: ResponseStream | None = None
        self._thread: threading.Thread | None = None
        self._asleep = False

    @contextmanager
    def during(self, stream: ResponseStream) -> Iterator[None]:
        """Keep `stream` from being silent for longer than the interval, until the block ends."""
        with self._changed:
            self._stream = stream
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="keep-alive", daemon=True)
                self._thread.start()
            elif self._asleep:
                self._changed.notify()
        try:
            yield
        finally:
            with self._changed:  # not while a comment is written
                self._stream = None

    def _run(self) -> None:
        with self._changed:
            while True:
                stream = self._stream
                self._asleep = stream is None
                if stream is None:
                    self._changed.wait()
                elif (due := stream.written_at + self._seconds - time.monotonic()) > 0:
                    self._changed.wait(due)
                else:
                    stream.write(_COMMENT)
