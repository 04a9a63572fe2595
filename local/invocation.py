"""One event on its way through a function, from the gateway that waits to the worker that answers."""

import asyncio


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
    """An event and its answer. The answer is kept until it is read, so that a slow client never holds a worker."""

    __slots__ = ("_parts", "id", "payload", "streamed")

    def __init__(self, request_id: str, payload: bytes) -> None:
        self.id = request_id
        self.payload = payload
        self.streamed = False
        """Whether the answer comes in Lambda's streaming response mode: a prelude, then the body's bytes."""
        self._parts: asyncio.Queue[bytes | InvocationError | None] = asyncio.Queue()

    def write(self, data: bytes) -> None:
        """Pass on a part of the answer."""
        self._parts.put_nowait(data)

    def finish(self) -> None:
        """The answer is whole."""
        self._parts.put_nowait(None)

    def fail(self, error: InvocationError) -> None:
        """There is no answer, or no more of it."""
        self._parts.put_nowait(error)

    async def part(self) -> bytes | None:
        """The next part of the answer; None after the last.

        :raises InvocationError: when the function can't finish it
        """
        part = await self._parts.get()
        if isinstance(part, InvocationError):
            raise part
        return part
