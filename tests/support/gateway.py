"""The whole product as a process: `python -m local`, reached over HTTP."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import httpx
import psycopg
from openai import OpenAI

from tests.support.patience import PATIENCE_SECONDS

PROJECT: Final = Path(__file__).resolve().parents[2]
PYTHONPATH: Final = f"{PROJECT}{os.pathsep}{PROJECT / 'layers/core/python'}"
# What a developer's shell may hold must not decide a test.
_KEPT: Final = ("PATH", "HOME", "LANG", "TMPDIR", "PYTHONDONTWRITEBYTECODE")


_running: Final[list["Gateway"]] = []


class Gateway:
    """A gateway that serves on a free port of 127.0.0.1."""

    def __init__(self, home: Path, variables: dict[str, str]) -> None:
        self.port = free_port()
        self.variables = variables
        self._clients: list[OpenAI] = []
        self._out = home / "stdout"
        self._err = home / "stderr"
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        environment = kept | {"PYTHONPATH": PYTHONPATH, "PORT": str(self.port), "CONSOLE": "off"}
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "local"],
                cwd=home,  # a developer's `.env` is the project's
                env=environment | {"FUSEWIRE_HOME": str(home / "fusewire"), **variables},
                stdout=out,
                stderr=err,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}/api/v1"

    @property
    def progress(self) -> str:
        return self._err.read_text()

    def settle(self) -> None:
        """Wait until what is answered is settled and logged, which follows an answer: so does the gateway itself before
        a function that isn't `complete` or `embed` gets a request. A gateway that is gone or stuck is left alone."""
        with suppress(httpx.HTTPError):
            httpx.get(f"{self.base}/health", timeout=10)

    def lines(self) -> list[dict[str, Any]]:
        """The functions' log so far; fails when a line isn't JSON."""
        self.settle()
        # Not by splitlines(), to which U+2028 in somebody's text would be the end of a line.
        return [json.loads(line) for line in self._out.read_text().split("\n") if line]

    @property
    def log(self) -> str:
        self.settle()
        return self._out.read_text()

    def events(self, name: str) -> list[dict[str, Any]]:
        return [line for line in self.lines() if line.get("event") == name]  # a runtime's own lines have none

    def openai(self, *, timeout: float = PATIENCE_SECONDS, max_retries: int = 0, key: str = "none") -> OpenAI:
        """OpenAI's own SDK with nothing changed but its base URL."""
        client = OpenAI(base_url=self.base, api_key=key, timeout=timeout, max_retries=max_retries)
        self._clients.append(client)
        return client

    def budget(self) -> dict[str, Any]:
        answer = httpx.get(f"{self.base}/admin/budget", timeout=PATIENCE_SECONDS)
        answer.raise_for_status()
        body: dict[str, Any] = answer.json()
        return body

    def reset(self) -> dict[str, Any]:
        answer = httpx.post(f"{self.base}/admin/budget/reset", timeout=PATIENCE_SECONDS)
        answer.raise_for_status()
        body: dict[str, Any] = answer.json()
        return body

    def workers(self, function: str) -> list[int]:
        """The process ids of a function's workers."""
        return [pid for pid in _children(self.process.pid) if _folder(pid).name == function]

    def wait_until_ready(self) -> None:
        def ready() -> bool:
            if self.process.poll() is not None:
                raise AssertionError(f"it ended with {self.process.returncode}:\n{self.progress}\n{self.log}")
            return "The log follows" in self.progress

        eventually(ready)

    def stop(self, number: int = signal.SIGINT) -> int:
        """Tell it to stop and wait for its exit status."""
        for client in self._clients:
            client.close()
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


@contextmanager
def running_gateway(home: Path, **variables: str) -> Iterator[Gateway]:
    """A gateway that is ready, with its data and logs under `home`, until the block ends."""
    home.mkdir(exist_ok=True)
    gateway = Gateway(home, variables)
    try:
        gateway.wait_until_ready()
        _running.append(gateway)
        yield gateway
    finally:
        if gateway in _running:
            _running.remove(gateway)
        gateway.stop()


def free_port() -> int:
    """A port that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def eventually(holds: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> None:
    """Wait until `holds()`; :raises AssertionError: when it doesn't in time"""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not so after {seconds} s"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie doesn't."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):  # it ended before its file was opened, or read
        return False
    return state != "Z"


def _children(parent: int) -> list[int]:
    """A process's children that have a command line: those that are about to be gone have none."""
    return [
        int(path.name)
        for path in Path("/proc").iterdir()
        if path.name.isdecimal() and _parent(path) == parent and _command(path)
    ]


def _parent(process: Path) -> int | None:
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None  # it is gone


def _command(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""


def _folder(pid: int) -> Path:
    try:
        return Path(os.readlink(f"/proc/{pid}/cwd"))
    except OSError:
        return Path()


class Books:
    """The ledger, read behind the gateway's back, once that has settled what it has answered."""

    def __init__(self, url: str) -> None:
        self.url = url

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        for gateway in _running:
            gateway.settle()
        with psycopg.connect(self.url) as connection:
            return connection.execute(query.encode()).fetchall()

    def one(self, query: str) -> Any:  # noqa: ANN401 - whatever the query asks for
        return self.rows(query)[0][0]

    def balance(self) -> None:
        """The two sums of the contract's rule 6, for every window, and nothing left open."""
        unbalanced = self.rows(
            """
            SELECT w.id, w.spent, coalesce(sum(l.cost), 0), w.reserved,
                   coalesce(sum(l.bound) FILTER (WHERE l.status = 'reserved'), 0)
            FROM budget_window w
            LEFT JOIN ledger l ON w.id IN (l.window_id, l.key_window_id) OR w.id = ANY (l.path_window_ids)
            GROUP BY w.id
            HAVING w.spent <> coalesce(sum(l.cost), 0)
                OR w.reserved <> coalesce(sum(l.bound) FILTER (WHERE l.status = 'reserved'), 0)
            """
        )
        assert unbalanced == []
        assert self.one("SELECT count(*) FROM ledger WHERE status = 'reserved'") == 0
        assert self.one("SELECT coalesce(sum(cost), 0) FROM usage_rollup") == self.one(
            "SELECT coalesce(sum(cost), 0) FROM ledger"
        )

    def forget_health(self) -> None:
        """As if no provider had ever failed."""
        with psycopg.connect(self.url) as connection:
            connection.execute("DELETE FROM provider_health")
