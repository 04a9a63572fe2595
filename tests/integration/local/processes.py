"""Which processes are there, read from /proc."""

from pathlib import Path

from tests.support.gateway import alive, eventually


def mentioning(text: str) -> list[int]:
    """Processes with this text in their command line."""
    return [pid for pid in _all() if text.encode() in _read(pid, "cmdline") and alive(pid)]


def wait_until_none_mentions(text: str) -> None:
    """Postgres removes its pid file just before its process ends, and `pg_ctl stop` waits for the file alone.

    :raises AssertionError: when one stays behind
    """
    eventually(lambda: mentioning(text) == [])


def descendants(parent: int) -> list[int]:
    """A process's children, their children, and so on."""
    parents = {pid: _parent(pid) for pid in _all()}
    found, look_at = [], [parent]
    while look_at:
        children = [pid for pid, of in parents.items() if of == look_at[0]]
        found += children
        look_at = [*look_at[1:], *children]
    return [pid for pid in found if alive(pid)]


def arguments(pid: int) -> list[str]:
    return _read(pid, "cmdline").decode().split("\0")


def _all() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]


def _parent(pid: int) -> int:
    fields = _read(pid, "stat").decode().rpartition(")")[2].split()
    return int(fields[1]) if fields else 0


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""  # it is gone
