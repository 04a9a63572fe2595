"""How much memory this process has taken at its peak, read from /proc."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_PROCESS = Path("/proc/self")


@contextmanager
def growing_by_less_than(megabytes: int) -> Iterator[None]:
    """The block's peak may be so much above what the process held before it."""
    if not (_PROCESS / "clear_refs").exists():
        pytest.skip("this system has no /proc")
    gc.collect()
    (_PROCESS / "clear_refs").write_text("5")  # the peak is counted from here on (proc(5))
    before = _kilobytes("VmRSS")
    yield
    grown = (_kilobytes("VmHWM") - before) // 1024
    assert grown < megabytes, f"{grown} MB"


def _kilobytes(name: str) -> int:
    lines = (_PROCESS / "status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(f"{name}:")))
