"""The ledgers of homes, for the tests of the commands that work on them: each runs as it does for a user."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from fusewire.config import load_settings
from fusewire.services import assemble
from fusewire.store.migrate import migrate
from local.postgres import embedded_postgres
from tests.integration.local.serving import LAYER
from tests.support.gateway import PROJECT
from tests.support.patience import PATIENCE_SECONDS


def environment(**variables: str) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "PYTHONPATH": f"{PROJECT}{os.pathsep}{LAYER / 'python'}", **variables}


def run(what: str, folder: Path, dump: bytes = b"", **variables: str) -> subprocess.CompletedProcess[bytes]:
    """`python -m local.<what>`: a command's name and its options."""
    return subprocess.run(  # noqa: S603 - our own words
        [sys.executable, "-m", *f"local.{what}".split()],
        cwd=folder,  # where no .env is
        env=environment(**variables),
        input=dump,
        capture_output=True,
        timeout=PATIENCE_SECONDS,
        start_new_session=True,  # away from the terminal of whoever tests
    )


@contextmanager
def running(home: Path) -> Iterator[str]:
    """The URL of a home's server, for its owner."""
    with embedded_postgres(home / "postgres", connections=10) as url:
        yield url


def a_home(folder: Path) -> Path:
    """A home with a migrated ledger in which something is booked."""
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
    """Every window and audit entry."""
    with psycopg.connect(url) as connection:
        windows = connection.execute("SELECT w::text FROM budget_window w ORDER BY id").fetchall()
        return windows + connection.execute("SELECT a::text FROM audit a ORDER BY id").fetchall()
