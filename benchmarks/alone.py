"""Where benchmarks keep what they install and start, and that only one of them runs at a time."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from benchmarks import BenchmarkError
from benchmarks.peers import ROOT

WORK: Final = ROOT / ".fusewire-bench"


@contextmanager
def alone() -> Iterator[None]:
    """Two runs at once would measure each other.

    :raises BenchmarkError: when there is another
    """
    WORK.mkdir(exist_ok=True)
    with (WORK / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BenchmarkError("Another run is under way: wait for its end.") from None
        yield
