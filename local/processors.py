"""How busy this machine's processors are, so that no more is put to work than helps."""

import os
import time
from typing import Final

import psutil  # type: ignore[import-untyped] # has no types of its own

_SATURATED: Final = 0.9
_READING_SECONDS: Final = 0.1
"""Between two readings: the system counts in hundredths, so what a shorter time says is coarse."""


class Processors:
    """Answer by the system's own counters, of everything that runs here."""

    def __init__(self) -> None:
        self.count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        """Of those that this process may use."""
        self._read_at = time.monotonic()
        self._busy, self._total = _seconds()
        self._share = 0.0

    def have_room(self) -> bool:
        """Whether some of their time was left over between the last two readings."""
        now = time.monotonic()
        if now - self._read_at >= _READING_SECONDS:
            busy, total = _seconds()
            if total > self._total:
                self._share = (busy - self._busy) / (total - self._total)
            self._read_at, self._busy, self._total = now, busy, total
        return self._share < _SATURATED


def _seconds() -> tuple[float, float]:
    """Of all processors together since the machine was started: busy, and altogether."""
    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    # Linux counts a guest's time as its user's as well.
    total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    return total - idle, total
