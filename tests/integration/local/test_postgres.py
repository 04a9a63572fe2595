"""The embedded Postgres: what it keeps, what it refuses, and that it never stays behind."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from local import StartError
from local.postgres import embedded_postgres
from local.postgres_server import PostgresServer
from tests.integration.local.processes import arguments, mentioning, wait_until_none_mentions
from tests.support.gateway import PROJECT
from tests.support.patience import PATIENCE_SECONDS


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder in which a server has run, with one table; copied by those who change it."""
    folder = tmp_path_factory.mktemp("pg") / "postgres"
    with embedded_postgres(folder, connections=10) as url, psycopg.connect(url, autocommit=True) as connection:
        assert connection.info.dbname == "fusewire"
        connection.execute("CREATE TABLE kept AS SELECT 'here' AS word")
    wait_until_none_mentions(str(folder))
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of it."""
    copy = tmp_path / "postgres"
    shutil.copytree(made, copy, ignore=shutil.ignore_patterns(".s.*", "log"))
    for path in (copy, *copy.rglob("*")):
        original = made / path.relative_to(copy)
        os.chown(path, original.stat().st_uid, original.stat().st_gid)
    yield copy
    wait_until_none_mentions(str(copy))


def words(url: str) -> list[Any]:
    with psycopg.connect(url) as connection:
        return connection.execute("SELECT word FROM kept").fetchall()


def starts(folder: Path) -> int:
    """How often the server was started, by its log."""
    return (folder / "log").read_text().count("database system is ready to accept connections")


def test_data_stays(folder: Path) -> None:
    for _ in range(2):
        with embedded_postgres(folder, connections=10) as url:
            assert words(url) == [("here",)]
        wait_until_none_mentions(str(folder))


def test_it_listens_on_no_network_address(folder: Path) -> None:
    with embedded_postgres(folder, connections=10) as url, psycopg.connect(url) as connection:
        assert connection.info.host.startswith("/")
        row = connection.execute("SELECT current_setting('listen_addresses')").fetchone()
        assert row == ("",)


def test_connections_are_raised_once(folder: Path) -> None:
    for expected in (2, 3):  # a second start for the new limit, and none when it is there
        with embedded_postgres(folder, connections=200) as url, psycopg.connect(url) as connection:
            assert connection.execute("SELECT current_setting('max_connections')").fetchone() == ("220",)
            assert words(url) == [("here",)]
        assert starts(folder) == expected
    with embedded_postgres(folder, connections=10) as url, psycopg.connect(url) as connection:
        assert connection.execute("SELECT current_setting('max_connections')").fetchone() == ("220",)


def test_too_little_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=20 * 1024**2))
    with (
        pytest.raises(StartError, match=r"has 20 MB left and Postgres needs 150 MB: free some, or set FUSEWIRE_HOME"),
        embedded_postgres(tmp_path / "postgres", connections=10),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("broken", "content", "row"),
    [
        ("global/pg_control", b"", "could not read"),
        ("PG_VERSION", b"9.6\n", "database files are incompatible"),
        ("postgresql.conf", b"max_connections = many\n", "configuration file"),
    ],
)
def test_a_folder_that_cannot_be_used(folder: Path, broken: str, content: bytes, row: str) -> None:
    (folder / broken).write_bytes(content)
    before = _fingerprint(folder)
    with pytest.raises(StartError) as caught, embedded_postgres(folder, connections=10):
        pass
    message = str(caught.value)
    assert message.startswith(f"Postgres doesn't start in {folder}: ")
    assert row in message
    assert "FUSEWIRE_HOME" in message
    assert "\n" not in message
    assert _fingerprint(folder) == before


def _fingerprint(folder: Path) -> dict[str, bytes]:
    """The files of the data, without what a start writes in any case."""
    passing = {"log", "postmaster.pid", "postmaster.opts"}
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in passing
    }


def test_a_user_of_the_server_that_was_killed_does_not_keep_it_up(folder: Path) -> None:
    with _another(folder) as (other, _), embedded_postgres(folder, connections=10) as url:
        other.kill()
        other.wait()
        assert words(url) == [("here",)]
    wait_until_none_mentions(str(folder))


def test_a_server_that_was_killed_starts_again(folder: Path) -> None:
    with embedded_postgres(folder, connections=10) as url:
        assert words(url) == [("here",)]
        for pid in mentioning(str(folder)):
            os.kill(pid, signal.SIGKILL)
    with embedded_postgres(folder, connections=10) as url:
        assert words(url) == [("here",)]


@contextmanager
def _another(folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Another process that uses the server until its standard input ends, and the URL that it has."""
    program = (
        "import sys; from pathlib import Path; from local.postgres import embedded_postgres\n"
        "with embedded_postgres(Path(sys.argv[1]), 10) as url: print(url, flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(  # noqa: S603 - our own words
        [sys.executable, "-c", program, str(folder)],
        cwd=PROJECT,
        env={**os.environ, "PYTHONPATH": str(PROJECT / "layers/core/python")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with other:
        assert other.stdout is not None
        yield other, other.stdout.readline().strip()


def test_another_user_keeps_it_up(folder: Path) -> None:
    with _another(folder) as (other, url):
        with embedded_postgres(folder, connections=10) as joined:
            assert joined == url
        assert words(url) == [("here",)]
        assert starts(folder) == 1
        other.communicate(timeout=PATIENCE_SECONDS)
    assert other.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_it_starts_leaves_nothing_behind(
    folder: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    start = PostgresServer.start

    def interrupted(server: PostgresServer) -> None:
        start(server)
        os.kill(os.getpid(), number)

    before = signal.signal(number, signal.default_int_handler)
    try:
        with (
            monkeypatch.context() as patched,
            pytest.raises(KeyboardInterrupt),
        ):
            patched.setattr(PostgresServer, "start", interrupted)
            with embedded_postgres(folder, connections=10):
                raise AssertionError("the signal was lost")
    finally:
        signal.signal(number, before)
    wait_until_none_mentions(str(folder))
    assert number not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_a_server_hears_signals_though_they_waited_while_it_started(folder: Path) -> None:
    with embedded_postgres(folder, connections=10):
        (postmaster,) = [pid for pid in mentioning(str(folder)) if "-D" in arguments(pid)]
        blocked = re.search(r"^SigBlk:\t([0-9a-f]+)$", Path(f"/proc/{postmaster}/status").read_text(), re.MULTILINE)
        assert blocked is not None
        assert int(blocked[1], 16) & (1 << (signal.SIGINT - 1) | 1 << (signal.SIGTERM - 1)) == 0
