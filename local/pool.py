"""The execution environments of one function: started on demand, one event at a time each, replaced when they die."""

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from local.invocation import FunctionNotStartedError, Invocation, TooManyRequestsError
from local.worker import Worker

_QUEUE_SECONDS: Final = 29.0  # what API Gateway waits for an integration by default
_FIRST_BACKOFF_SECONDS: Final = 1.0
_LONGEST_BACKOFF_SECONDS: Final = 30.0


class Pool:
    """Hands events to idle workers, first come first served. All calls are made on the event loop's thread."""

    def __init__(self, workers: Sequence[Worker]) -> None:
        self._workers = tuple(workers)
        self._stopped = list(reversed(workers))
        self._idle: list[Worker] = []
        # In the order of their arrival, each with the timer that gives it up.
        self._waiting: dict[Invocation, asyncio.TimerHandle] = {}
        self._starting = 0
        self._failures = 0
        self._retry_at = 0.0
        self._why_not = ""
        self._closed = False
        for worker in workers:
            worker.on_ready = self._ready
            worker.on_exit = self._exited

    def invoke(self, invocation: Invocation) -> None:
        """Have it handled by the next worker that is free."""
        if self._idle:
            # The one that worked last: its caches are warm, and the others may rest.
            self._idle.pop().handle(invocation)
            return
        timer = asyncio.get_running_loop().call_later(_QUEUE_SECONDS, self._give_up, invocation)
        self._waiting[invocation] = timer
        self._grow()

    async def close(self) -> None:
        """Start nothing any more, and end what runs."""
        self._closed = True
        while self._waiting:
            self._next().fail(TooManyRequestsError("The gateway is stopping."))
        await asyncio.gather(*(worker.stop() for worker in self._workers))

    def _grow(self) -> None:
        if time.monotonic() < self._retry_at:
            self._refuse_waiting()
            return
        while self._stopped and self._starting < len(self._waiting) and not self._closed:
            self._starting += 1
            self._stopped.pop().start()

    def _ready(self, worker: Worker, first: bool) -> None:
        if first:
            self._starting -= 1
            self._failures = 0
        if self._waiting:
            worker.handle(self._next())
        else:
            self._idle.append(worker)

    def _exited(self, worker: Worker, why_not: str | None) -> None:
        """A worker is gone; `why_not` says why it never got ready, None when it did."""
        self._stopped.append(worker)
        if worker in self._idle:
            self._idle.remove(worker)
        if why_not is not None:
            self._starting -= 1
            self._back_off(why_not)
        self._grow()

    def _back_off(self, why_not: str) -> None:
        """Start nothing for a while. Workers that were started together and fail together count once."""
        self._why_not = why_not
        now = time.monotonic()
        if now >= self._retry_at:
            self._retry_at = now + min(_FIRST_BACKOFF_SECONDS * 2**self._failures, _LONGEST_BACKOFF_SECONDS)
            self._failures += 1

    def _refuse_waiting(self) -> None:
        """Nobody is left to serve those who wait: they get the reason now, not a time-out later."""
        while self._waiting and len(self._stopped) == len(self._workers):
            self._next().fail(FunctionNotStartedError(self._why_not))

    def _next(self) -> Invocation:
        """Take the one that waits the longest."""
        invocation = next(iter(self._waiting))
        self._waiting.pop(invocation).cancel()
        return invocation

    def _give_up(self, invocation: Invocation) -> None:
        del self._waiting[invocation]
        invocation.fail(TooManyRequestsError("Every worker of this function is busy. Retry in a moment."))
