"""Backups of a real server, restored whole or not at all."""

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from fusewire.config import load_settings
from fusewire.migrations import migrate
from fusewire.services import assemble
from local.postgres import as_app, embedded_postgres
from tests.integration.local.processes import arguments, descendants, mentioning
from tests.integration.local.serving import LAYER
from tests.support.gateway import PROJECT, eventually

_PASSWORD = "sentinel-4711"  # noqa: S105 - looked for where it must not be


def environment(**variables: str) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "PYTHONPATH": f"{PROJECT}{os.pathsep}{LAYER / 'python'}", **variables}


def run(what: str, folder: Path, dump: bytes = b"", **variables: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(  # noqa: S603 - our own words
        [sys.executable, "-m", "local.backup", what],
        cwd=folder,  # where no .env is
        env=environment(**variables),
        input=dump,
        capture_output=True,
        timeout=60,
    )


@contextmanager
def running(home: Path) -> Iterator[str]:
    with embedded_postgres(home / "postgres", connections=10) as url:
        yield url


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a migrated ledger."""
    folder = tmp_path_factory.mktemp("home")
    with running(folder) as url:
        migrate(url)
        reset(url)
    return folder


def reset(url: str) -> None:
    """Book something: close a window and open the next."""
    core = assemble(load_settings({"DATABASE_URL": url, "AUTH_MODE": "open", "AI_MODE": "local"}))
    core.ledger.reset(actor="test", source_ip=None, request_id="r", reason="to have something to keep")
    core.database.close()


def books(url: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url) as connection:
        windows = connection.execute("SELECT w::text FROM budget_window w ORDER BY id").fetchall()
        return windows + connection.execute("SELECT a::text FROM audit a ORDER BY id").fetchall()


def test_a_round_trip(home: Path, tmp_path: Path) -> None:
    with running(home) as url:
        old = books(url)
    assert old
    saved = run("backup", tmp_path, FUSEWIRE_HOME=str(home))  # starts the server for as long as it takes
    assert (saved.returncode, saved.stderr) == (0, b"")
    assert mentioning(str(home)) == []
    with running(home) as url:
        assert run("backup", tmp_path, FUSEWIRE_HOME=str(home)).returncode == 0  # joins the server that runs
        reset(url)
        new = books(url)
        assert len(new) > len(old)
        restored = run("restore", tmp_path, saved.stdout, FUSEWIRE_HOME=str(home))
        assert (restored.returncode, restored.stdout, restored.stderr) == (0, b"", b"")
        assert books(url) == old
        # What came back is a ledger, not only its rows, and open to the functions' role.
        reset(as_app(url))
        assert migrate(url) == []
    restored = run("restore", tmp_path, saved.stdout, FUSEWIRE_HOME=str(home))
    assert restored.returncode == 0
    assert mentioning(str(home)) == []
    with running(home) as url:
        assert books(url) == old


def test_a_dump_that_is_not_whole_changes_nothing(home: Path, tmp_path: Path) -> None:
    with running(home) as url:
        whole = run("backup", tmp_path, FUSEWIRE_HOME=str(home)).stdout
        old = books(url)
        half = whole[: len(whole) // 2]
        for dump in (
            b"",
            b"\n",
            half,
            half[: half.rindex(b"\n\n")],
            whole[: whole.index(b"CREATE TABLE")],
            b"\x00\xff",
        ):
            refused = run("restore", tmp_path, dump, FUSEWIRE_HOME=str(home))
            assert refused.returncode == 1
            assert refused.stderr.decode().splitlines() == [
                "restore isn't possible. Standard input isn't a whole backup; nothing was changed."
            ]
            assert books(url) == old


def test_a_dump_that_fails_changes_nothing(home: Path, tmp_path: Path) -> None:
    with running(home) as url:
        whole = run("backup", tmp_path, FUSEWIRE_HOME=str(home)).stdout
        old = books(url)
        at = whole.index(b"\n-- PostgreSQL database dump complete")
        refused = run("restore", tmp_path, whole[:at] + b"\nSELECT 1/0;\n" + whole[at:], FUSEWIRE_HOME=str(home))
        assert refused.returncode != 0
        assert b"division by zero" in refused.stderr
        assert books(url) == old


def test_the_database_of_database_url(home: Path, tmp_path: Path) -> None:
    with running(home) as url:
        expected = run("backup", tmp_path, FUSEWIRE_HOME=str(home)).stdout
        saved = run("backup", tmp_path, FUSEWIRE_HOME=str(tmp_path / "other"), DATABASE_URL=url)
        assert saved.returncode == 0
        assert _statements(saved.stdout) == _statements(expected)
    assert not (tmp_path / "other").exists()


def _statements(dump: bytes) -> list[bytes]:
    """A dump without the key that each has of its own."""
    return [line for line in dump.splitlines() if not line.startswith((b"\\restrict", b"\\unrestrict"))]


def test_no_password_among_the_arguments(home: Path, tmp_path: Path) -> None:
    with running(home) as url:
        with psycopg.connect(url) as holding:
            holding.execute("LOCK TABLE budget_window IN ACCESS EXCLUSIVE MODE")  # pg_dump waits for it
            process = subprocess.Popen(
                [sys.executable, "-m", "local.backup", "backup"],
                cwd=tmp_path,
                env=environment(DATABASE_URL=make_conninfo(url, password=_PASSWORD)),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            with process:
                dumping: list[int] = []

                def waits() -> bool:
                    dumping[:] = [pid for pid in descendants(process.pid) if "pg_dump" in arguments(pid)[0]]
                    return bool(dumping)

                eventually(waits)
                for pid in [process.pid, *dumping]:
                    assert _PASSWORD not in " ".join(arguments(pid))
                assert mentioning(_PASSWORD) == []
                holding.rollback()
                out, err = process.communicate(timeout=30)
        assert (process.returncode, err) == (0, b"")
        assert _PASSWORD.encode() not in out


@pytest.mark.parametrize(
    ("url", "told"),
    [
        (f"postgresql://u:{_PASSWORD} x@localhost/db", "backup isn't possible. DATABASE_URL can't be used"),
        (_PASSWORD, "backup isn't possible. DATABASE_URL can't be used"),
        (f"postgresql://u:{_PASSWORD}@127.0.0.1:1/db", "Connection refused"),
    ],
)
def test_a_database_that_cannot_be_reached(tmp_path: Path, url: str, told: str) -> None:
    refused = run("backup", tmp_path, DATABASE_URL=url)
    assert refused.returncode != 0
    assert told in refused.stderr.decode()
    assert _PASSWORD not in refused.stderr.decode()
    assert b"Traceback" not in refused.stderr
    assert refused.stdout == b""


def test_there_is_nothing_to_back_up_yet(tmp_path: Path) -> None:
    refused = run("backup", tmp_path, FUSEWIRE_HOME=str(tmp_path / "none"))
    assert refused.returncode == 1
    assert "There is no ledger" in refused.stderr.decode()
    assert list(tmp_path.iterdir()) == []


def test_usage(tmp_path: Path) -> None:
    refused = run("backups", tmp_path)
    assert (refused.returncode, refused.stdout) == (2, b"")
    assert refused.stderr.startswith(b"usage: ")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_told_to_stop_it_leaves_no_server(home: Path, tmp_path: Path, number: signal.Signals) -> None:
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)  # nobody reads it, so pg_dump can't end
    process = subprocess.Popen(
        [sys.executable, "-m", "local.backup", "backup"],
        cwd=tmp_path,
        env=environment(FUSEWIRE_HOME=str(home)),
        stdout=write,
        stderr=subprocess.PIPE,
    )
    os.close(write)
    with process:
        eventually(lambda: any("pg_dump" in arguments(pid)[0] for pid in descendants(process.pid)))
        process.send_signal(number)
        _, err = process.communicate(timeout=20)
    os.close(read)
    assert (process.returncode, err) == (130, b"")
    assert mentioning(str(home)) == []
