"""`python -m benchmarks.calls_per_worker`: what `make run` takes and gives with one call in a worker, and with many.

For each number of calls in a worker (`LOCAL_CALLS_PER_WORKER`) a gateway of its own with 8 workers, in turn, some four
minutes altogether. Of a vendor that answers at once it says how many calls a second are served, which the processors
bound; of one that takes half a second also how many processes of `complete` there are, and what they take.
"""

import argparse
import json
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import uvloop

from benchmarks import BenchmarkError, peers, upstream
from benchmarks.alone import WORK, alone
from benchmarks.comparison import empty
from benchmarks.load import LoadError, Timings, offer
from benchmarks.memory import serves_complete

_CALLS_PER_WORKER: Final = (1, 4, 8, 16, 32)
_WORKERS: Final = 8
_CALLERS: Final = (1, 16, 64)
_WARM_UP_SECONDS: Final = 3.0


@dataclass(frozen=True, slots=True)
class Found:
    """What one gateway did."""

    calls_per_worker: int
    at_once: tuple[float, ...]
    """Calls a second of a vendor that answers at once, by `_CALLERS`."""
    slow: float
    """The same of one that takes `upstream.SLOW_SECONDS`, for the most callers."""
    processes: int
    """Of `complete`, meanwhile."""
    megabytes: float
    """Of memory that they take, shared pages once altogether."""

    @property
    def calls(self) -> int:
        """That they have at once."""
        return min(_CALLERS[-1], _WORKERS * self.calls_per_worker)


def measure(calls_per_worker: int, seconds: float) -> Found:
    """
    :param seconds: of load, for each number of callers
    :raises BenchmarkError: when a gateway doesn't start, or a call isn't answered
    """
    with peers.vendor() as vendor:
        own = {"LOCAL_CALLS_PER_WORKER": str(calls_per_worker), "LOCAL_CONCURRENCY": str(_WORKERS)}
        fast = peers.fusewire(vendor, empty(WORK / "calls-per-worker"), own)
        fast.start()
        try:
            _load(fast, _CALLERS[-1], _WARM_UP_SECONDS)
            rates = tuple(_rate(_load(fast, callers, seconds)) for callers in _CALLERS)
        finally:
            fast.stop()
        price = {f"openai/{upstream.SLOW_MODEL}": {"input_mtok": 3, "output_mtok": 15}}
        own |= {"OPENAI_SOTA_MODEL": upstream.SLOW_MODEL, "AI_PRICE_OVERRIDES": json.dumps(price)}
        slow = peers.fusewire(vendor, empty(WORK / "calls-per-worker"), own)
        slow.start()
        try:
            _load(slow, _CALLERS[-1], _WARM_UP_SECONDS)
            looked: list[tuple[int, float]] = []
            timer = threading.Timer(seconds / 2, lambda: looked.append(_taken(slow)))
            timer.start()
            rate = _rate(_load(slow, _CALLERS[-1], seconds))
            timer.join()
        finally:
            slow.stop()
    return Found(calls_per_worker, rates, rate, *looked[0])


def _load(server: peers.Server, callers: int, seconds: float) -> Timings:
    return uvloop.run(offer(server.target, callers=callers, stream=False, seconds=seconds))


def _rate(timings: Timings) -> float:
    return timings.calls / (timings.elapsed / 1e9)


def _taken(server: peers.Server) -> tuple[int, float]:
    """The processes of `complete`, and their megabytes."""
    sizes = [process.memory_full_info().pss for process in server.processes() if serves_complete(process)]
    return len(sizes), round(sum(sizes) / 1e6, 1)


def table(found: Sequence[Found]) -> str:
    """One row a number of calls in a worker."""
    most = _CALLERS[-1]
    rows = [
        (
            "calls in a worker", *(f"calls/s, {callers} caller{'s' * (callers > 1)}" for callers in _CALLERS),
            f"a vendor that takes {upstream.SLOW_SECONDS:g} s, {most} callers: calls/s", "calls at once", "processes",
            "MB", "MB a call",
        )
    ]  # fmt: skip
    rows.append(tuple("---:" for _ in rows[0]))
    for one in found:
        rates = (f"{rate:.0f}" for rate in (*one.at_once, one.slow))
        taken = (str(one.calls), str(one.processes), f"{one.megabytes:.0f}", f"{one.megabytes / one.calls:.1f}")
        rows.append((str(one.calls_per_worker), *rates, *taken))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> int:
    """:return: the exit status"""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.calls_per_worker", description="One call in a worker beside many."
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="of load, for each number of callers (default: 5)")
    options = parser.parse_args()
    try:
        with alone():
            found = [measure(calls, options.seconds) for calls in _CALLS_PER_WORKER]
    except (BenchmarkError, LoadError) as error:
        sys.stderr.write(f"The benchmark is void. {error}\n")
        return 1
    sys.stdout.write(f"{table(found)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
