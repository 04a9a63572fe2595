"""One event on its way through a function, from the gateway that waits to the worker that answers."""

import asyncio
from collections.abc import Callable
from typing import ClassVar, Final

from local.asgi import DisconnectedError

_MAX_WAITING_BYTES: Final = 32 * 1024 * 1024
"""Of an answer, for its client. Beyond it no more is read of the function's process."""
_MAX_WAITING_IN_ALL: Final = 256 * 1024 * 1024
"""Of all answers. Beyond it no more is read of any that has something waiting already."""
_LITTLE: Final = 64 * 1024


class InvocationError(Exception):
    """The platform, not the function, has to answer; `code` is for the caller, `str()` tells what happened."""

    status = 502
    code = "function_failed"

    def __init__(self, message: str, reason: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        """What the function itself said, for the gateway alone."""


class FunctionCrashedError(InvocationError):
    code = "function_crashed"


class FunctionNotStartedError(InvocationError):
    code = "function_not_started"


class DeadlineExceededError(InvocationError):
    status = 504
    code = "deadline_exceeded"


class TooManyRequestsError(InvocationError):
    """All workers were busy for too long."""

    status = 503
    code = "function_busy"


class Invocation:
    """An event and its answer.

    Some of the answer is kept until it is read, so that a slow client doesn't hold a worker; of a long one the worker
    has to wait, so that a client that reads nothing doesn't take the gateway's memory.
    """

    waiting_in_all: ClassVar[int] = 0
    """Bytes."""

    __slots__ = (
        "_is_full", "_parts", "_unwanted", "_waiting", "id", "on_full", "on_left", "on_room", "payload", "streamed",
    )  # fmt: skip

    def __init__(self, request_id: str, payload: bytes) -> None:
        self.id = request_id
        self.payload = payload
        """The event, until a process has it."""
        self.streamed = False
        """Whether the answer comes in Lambda's streaming response mode: a prelude, then the body's bytes."""
        self.on_full: Callable[[], None] = lambda: None
        """Called when no more should be written for now."""
        self.on_room: Callable[[], None] = lambda: None
        """Called when more may be written."""
        self.on_left: Callable[[], None] = lambda: None
        """Called when the caller has hung up, and nothing of the answer has come yet."""
        self._parts: asyncio.Queue[bytes | InvocationError | DisconnectedError | None] = asyncio.Queue()
        self._waiting = 0
        self._is_full = False
        self._unwanted = False

    def write(self, data: bytes) -> None:
        """Pass on a part of the answer."""
        if self._unwanted:
            return
        self._waiting += len(data)
        Invocation.waiting_in_all += len(data)
        self._parts.put_nowait(data)
        if self._waiting > self._most() and not self._is_full:
            self._is_full = True
            self.on_full()

    def finish(self) -> None:
        """The answer is whole."""
        self._parts.put_nowait(None)

    def fail(self, error: InvocationError | DisconnectedError) -> None:
        """There is no answer, or no more of it; or nobody left to have it."""
        self._parts.put_nowait(error)

    def discard(self) -> None:
        """Nobody reads the answer any more. The function goes on: the ledger settles inside it."""
        self._unwanted = True
        while not self._parts.empty():
            self._parts.get_nowait()
        self._make_room(self._waiting)

    async def part(self) -> bytes | None:
        """The next part of the answer; None after the last.

        :raises InvocationError: when the function can't finish it
        :raises DisconnectedError: when its caller hung up before it was begun
        """
        part = await self._parts.get()
        if isinstance(part, Exception):
            raise part
        if part is not None:
            self._make_room(len(part))
        return part

    def _make_room(self, taken: int) -> None:
        self._waiting -= taken
        Invocation.waiting_in_all -= taken
        if self._is_full and self._waiting <= self._most() // 2:
            self._is_full = False
            self.on_room()

    @staticmethod
    def _most() -> int:
        return _MAX_WAITING_BYTES if Invocation.waiting_in_all <= _MAX_WAITING_IN_ALL else _LITTLE
