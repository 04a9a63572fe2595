"""The ledger that `make run` uses, for commands beside it: DATABASE_URL, or the embedded Postgres."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from local import StartError
from local.environment import Environment, read_environment
from local.postgres import embedded_postgres


@contextmanager
def _ledger_url() -> Iterator[tuple[str, Environment]]:
    """The database's URL, and what else is set; joins a server that runs, or starts it for as long as this takes.

    :raises StartError: where there is no ledger yet
    """
    environment = read_environment(os.environ, Path(".env"))
    url = environment.migration_database_url
    if url is not None:
        yield url, environment
        return
    if not (environment.home / "postgres" / "PG_VERSION").is_file():
        raise StartError(f"There is no ledger in {environment.home} yet: `make run` makes it.")
    with embedded_postgres(environment.home / "postgres", connections=0) as url:
        yield url, environment


@contextmanager
def ledger_session() -> Iterator[tuple[psycopg.Connection[tuple[object, ...]], Environment]]:
    """A session with the ledger, in autocommit.

    :raises StartError: when it can't be reached; the text holds neither address nor password
    """
    with _ledger_url() as (url, environment):
        try:
            connection = psycopg.connect(url, autocommit=True, connect_timeout=10, application_name="fusewire")
        except psycopg.Error as error:  # its text quotes the URL
            raise StartError(f"The ledger can't be reached ({type(error).__name__}): check DATABASE_URL.") from None
        with connection:
            yield connection, environment


def place(connection: psycopg.Connection[Any]) -> str:
    """Which database a session is with: host or socket folder, port and name, for people."""
    info = connection.info
    where = "socket folder" if info.host.startswith("/") else "host"
    return f"{where} {info.host}, port {info.port}, database {info.dbname}"
