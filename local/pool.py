"""The execution environments of one function: started on demand, one event or several at a time each, replaced when
they die.

On Lambda each has processors of its own. Here they share a laptop's few, and where calls keep those busy, more of them
than a few only take each other's caches (docs/decisions/0005-local-gateway.md). So beyond a few, one more is put to
work while the processors have room, as they have when a vendor is waited for, or when somebody has waited long enough.

A process runs on one processor at a time. So where calls go on side by side, a few processes are started for them, and
more are started, and put to work, only while all threads of these are taken.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from local.asgi import DisconnectedError
from local.invocation import FunctionNotStartedError, Invocation, TooManyRequestsError
from local.processors import Processors
from local.worker import Worker

_QUEUE_SECONDS: Final = 29.0  # what API Gateway waits for an integration by default
_FIRST_BACKOFF_SECONDS: Final = 1.0
_MAX_BACKOFF_SECONDS: Final = 30.0
_FEW_A_PROCESSOR: Final = 2
_LOOK_SECONDS: Final = 0.02
_LONG_ENOUGH_SECONDS: Final = 0.5
"""Busy processors may be busy with something else altogether."""
_MAX_SETTLING_SECONDS: Final = 3.0
"""A settlement that takes longer is in trouble."""


class Pool:
    """Hands events to idle workers, first come first served. All calls are made on the event loop's thread."""

    def __init__(self, workers: Sequence[Worker], processors: Processors) -> None:
        self._workers = tuple(workers)
        self._processors = processors
        self._few = _FEW_A_PROCESSOR * processors.count
        # Each worker is stopped, starting, or serves; of those that serve, some may take an event more.
        self._stopped = list(reversed(workers))
        self._starting = 0
        self._idle: list[Worker] = []
        """Those that may; whoever was done last is the last."""
        # In the order of their arrival, each with the timer that gives it up.
        self._waiting: dict[Invocation, asyncio.TimerHandle] = {}
        self._look: asyncio.TimerHandle | None = None
        self._failures = 0
        self._retry_at = 0.0
        self._why_not = ""
        self._closed = False
        for worker in workers:
            worker.on_ready = self._ready
            worker.on_exit = self._exited
            worker.is_held_up = lambda: not processors.have_room()

    def invoke(self, invocation: Invocation) -> None:
        """Have it handled by the next worker that is free."""
        if not self._waiting and self._another_helps() and (worker := self._free()) is not None:
            self._put_to_work(worker, invocation)
            return
        timer = asyncio.get_running_loop().call_later(_QUEUE_SECONDS, self._give_up, invocation)
        self._waiting[invocation] = timer
        self._serve()

    def caller_left(self, invocation: Invocation) -> None:
        """Nobody waits for the answer any more, of which nothing has come. What no worker has begun is not begun."""
        if (timer := self._waiting.pop(invocation, None)) is None:
            invocation.on_left()
            return
        timer.cancel()
        invocation.fail(DisconnectedError())

    @property
    def settles_late(self) -> bool:
        """Whether its function may settle a call after it has answered it."""
        return any(worker.settles_late for worker in self._workers)

    async def settled(self) -> None:
        """Wait until what is answered by now is settled, or it takes too long."""
        settling = [each for worker in self._workers for each in worker.settling]
        if settling:
            await asyncio.wait(settling, timeout=_MAX_SETTLING_SECONDS)

    async def close(self) -> None:
        """Start nothing any more, and end what runs."""
        self._closed = True
        while self._waiting:
            self._next().fail(TooManyRequestsError("The gateway is stopping."))
        await self.settled()
        await asyncio.gather(*(worker.stop() for worker in self._workers))

    def _serve(self) -> None:
        """Put to work and start whoever helps, and look again soon while somebody waits."""
        while self._waiting and self._another_helps() and (worker := self._free()) is not None:
            self._put_to_work(worker, self._next())
        self._grow()
        if self._waiting and self._look is None:
            self._look = asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._look_again)

    def _look_again(self) -> None:
        self._look = None
        self._serve()

    def _another_helps(self) -> bool:
        """Whether one more is handled now. A process that is at work anyway may always have another: what its calls
        send to the ledger goes together, and so costs less."""
        at_work = self._at_work
        few = len(at_work) + self._starting < self._few or any(worker.room for worker in at_work)
        return few or self._processors.have_room() or self._waited_seconds() > _LONG_ENOUGH_SECONDS

    @property
    def _at_work(self) -> list[Worker]:
        """Those that have an event, settling included."""
        return [worker for worker in self._workers if worker.busy]

    def _free(self) -> Worker | None:
        """Who is to have the next event. Where a few processes are at work, one of these, while it takes another. Else,
        or of these, the one with the fewest, and of those the one that worked last: its caches are warm, and the others
        may rest."""
        free = [worker for worker in reversed(self._idle) if worker.room]
        if len(self._at_work) >= self._few:
            free = [worker for worker in free if worker.busy] or free
        return min(free, key=lambda worker: worker.busy, default=None)

    def _put_to_work(self, worker: Worker, invocation: Invocation) -> None:
        worker.handle(invocation)
        if not worker.room:
            self._idle.remove(worker)
        elif worker.busy > 1 and len(self._workers) - len(self._stopped) < self._few and not self._starting:
            self._start_one()  # beside others it has a processor to share

    def _start_one(self) -> None:
        if self._stopped and not self._closed and time.monotonic() >= self._retry_at:
            self._starting += 1
            self._stopped.pop().start()

    def _grow(self) -> None:
        if time.monotonic() < self._retry_at:
            self._refuse_waiting()
            return
        # To start a worker is work as well: not more than a few at a time.
        most = min(-(-len(self._waiting) // self._workers[0].capacity), self._few)
        while self._stopped and self._starting < most and not self._closed and self._another_helps():
            self._start_one()

    def _ready(self, worker: Worker, first: bool) -> None:
        if first:
            self._starting -= 1
            self._failures = 0
        if worker in self._idle:
            self._idle.remove(worker)
        self._idle.append(worker)
        self._serve()

    def _exited(self, worker: Worker, why_not: str | None) -> None:
        """A worker is gone; `why_not` says why it never got ready, None when it did."""
        self._stopped.append(worker)
        if why_not is not None:
            self._starting -= 1
            self._back_off(why_not)
        elif worker in self._idle:
            self._idle.remove(worker)
        self._serve()

    def _back_off(self, why_not: str) -> None:
        """Start nothing for a while. Workers that were started together and fail together count once."""
        self._why_not = why_not
        now = time.monotonic()
        if now >= self._retry_at:
            self._retry_at = now + min(_FIRST_BACKOFF_SECONDS * 2**self._failures, _MAX_BACKOFF_SECONDS)
            self._failures += 1

    def _refuse_waiting(self) -> None:
        """Nobody is left to serve those who wait: they get the reason now, not a time-out later."""
        while self._waiting and len(self._stopped) == len(self._workers):
            self._next().fail(FunctionNotStartedError(self._why_not))

    def _waited_seconds(self) -> float:
        """Of the one that waits the longest."""
        if not self._waiting:
            return 0.0
        gives_up_at = next(iter(self._waiting.values())).when()
        return asyncio.get_running_loop().time() - (gives_up_at - _QUEUE_SECONDS)

    def _next(self) -> Invocation:
        """Take the one that waits the longest."""
        invocation = next(iter(self._waiting))
        self._waiting.pop(invocation).cancel()
        return invocation

    def _give_up(self, invocation: Invocation) -> None:
        if self._starting and not self._at_work:
            # Nobody is busy: a start has a limit of its own, and says why it failed.
            later = asyncio.get_running_loop().call_later
            self._waiting[invocation] = later(_LOOK_SECONDS, self._give_up, invocation)
            return
        del self._waiting[invocation]
        invocation.fail(TooManyRequestsError("Every worker of this function is busy. Retry in a moment."))
