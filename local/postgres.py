"""Postgres for a laptop, from a wheel: its data stays in `<home>/postgres`, its socket is for this machine only."""

import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from local import StartError
from local.postgres_server import PostgresServer

_DATABASE: Final = "fusewire"
APP_ROLE: Final = "fusewire_app"
_MIN_FREE_BYTES: Final = 150 * 1024 * 1024
_SPARE_CONNECTIONS: Final = 20  # for psql, pg_dump and Postgres itself


@contextmanager
def embedded_postgres(folder: Path, connections: int) -> Iterator[str]:
    """A running server with the database `fusewire`, for up to so many connections of workers; stopped at the end.

    :return: the database's URL, for its owner
    :raises StartError: when it can't start; what it has stored is not touched
    """
    free = shutil.disk_usage(folder.parent).free
    if free < _MIN_FREE_BYTES:
        raise StartError(
            f"The disk of {folder.parent} has {free // 1024**2} MB left and Postgres needs "
            f"{_MIN_FREE_BYTES // 1024**2} MB: free some, or set FUSEWIRE_HOME to another folder."
        )
    server = PostgresServer(folder)
    try:
        try:
            with _undisturbed():
                server.start()
                if _ensure_connections(server.uri, connections + _SPARE_CONNECTIONS):
                    server.stop()
                    server.start()
            url = _ensure_database(server.uri)
            _ensure_role(url)
        except (OSError, subprocess.SubprocessError, psycopg.Error) as error:
            raise StartError(
                f"Postgres doesn't start in {folder}: {_reason(folder, error)}. What it stores there is untouched; "
                "FUSEWIRE_HOME names another folder."
            ) from error
        yield url
    finally:
        server.stop()


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Signals wait meanwhile: a server whose start is interrupted would stay behind."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


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


def _ensure_role(url: str) -> None:
    """The role that the functions run as may log in; its rights come with the migrations."""
    with psycopg.connect(url, autocommit=True) as connection:
        role = sql.Identifier(APP_ROLE)
        if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (APP_ROLE,)).fetchone():
            connection.execute(sql.SQL("CREATE ROLE {}").format(role))
        connection.execute(sql.SQL("ALTER ROLE {} LOGIN").format(role))


def as_app(url: str) -> str:
    """The same database for the functions: they can neither change the schema nor rewrite what was booked."""
    return make_conninfo(url, user=APP_ROLE)


def _reason(folder: Path, error: Exception) -> str:
    """The last thing that Postgres itself complained of, or else the error's own text."""
    if isinstance(error, subprocess.CalledProcessError):
        log = folder / "log"
        logged = log.read_text(encoding="utf-8", errors="replace").splitlines()[-50:] if log.is_file() else []
        if complaints := [line for line in logged if "FATAL" in line or "PANIC" in line]:
            return f"{complaints[-1].partition('  ')[2]} (its log is {log})"
        said = [line for line in str(error.stderr).splitlines() if line.strip()]
        if said:
            return next((line for line in reversed(said) if " error: " in line), said[-1])
    return str(error).strip().partition("\n")[0] or type(error).__name__
