"""Backups of a real server: what is in them, whom they are of, and what nobody may see meanwhile."""

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.integration.local.ledgers import a_home, environment, run, running
from tests.integration.local.processes import arguments, descendants, mentioning, wait_until_none_mentions
from tests.support.gateway import eventually
from tests.support.patience import PATIENCE_SECONDS

_PASSWORD = "sentinel-4711"  # noqa: S105 - looked for where it must not be


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return a_home(tmp_path_factory.mktemp("home"))


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
                [sys.executable, "-m", "local.backup"],
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
                out, err = process.communicate(timeout=PATIENCE_SECONDS)
        assert (process.returncode, err) == (0, b"")
        assert _PASSWORD.encode() not in out


@pytest.mark.parametrize(
    ("url", "row"),
    [
        (f"postgresql://u:{_PASSWORD} x@localhost/db", "(ProgrammingError): check DATABASE_URL."),
        (_PASSWORD, "(ProgrammingError): check DATABASE_URL."),
        (f"postgresql://u:{_PASSWORD}@127.0.0.1:1/db", "(OperationalError): check DATABASE_URL."),
    ],
)
def test_a_database_that_cannot_be_reached(tmp_path: Path, url: str, row: str) -> None:
    refused = run("backup", tmp_path, DATABASE_URL=url)
    assert refused.returncode != 0
    assert row in refused.stderr.decode()
    assert _PASSWORD not in refused.stderr.decode()
    assert b"Traceback" not in refused.stderr
    assert refused.stdout == b""


def test_there_is_nothing_to_back_up_yet(tmp_path: Path) -> None:
    refused = run("backup", tmp_path, FUSEWIRE_HOME=str(tmp_path / "none"))
    assert refused.returncode == 1
    assert "There is no ledger" in refused.stderr.decode()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_told_to_stop_it_leaves_no_server(home: Path, tmp_path: Path, number: signal.Signals) -> None:
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)  # nobody reads it, so pg_dump can't end
    process = subprocess.Popen(
        [sys.executable, "-m", "local.backup"],
        cwd=tmp_path,
        env=environment(FUSEWIRE_HOME=str(home)),
        stdout=write,
        stderr=subprocess.PIPE,
    )
    os.close(write)
    with process:
        eventually(lambda: any("pg_dump" in arguments(pid)[0] for pid in descendants(process.pid)))
        process.send_signal(number)
        _, err = process.communicate(timeout=PATIENCE_SECONDS)
    os.close(read)
    assert (process.returncode, err) == (130, b"")
    wait_until_none_mentions(str(home))
