"""The schema, by number. Files are applied in order, each in a transaction of its own, and never edited once landed."""

import re
from collections.abc import Iterator
from importlib.resources import files
from typing import Any, Final, LiteralString

import psycopg

_FILE_NAME: Final = re.compile(r"(\d{4})_\w+\.sql")

_CREATE_TABLE: Final = """
    CREATE TABLE IF NOT EXISTS schema_migration (
        name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT clock_timestamp())
"""


class ForeignSchemaError(Exception):
    """The database was migrated by other files than these; `str()` is one line for the operator."""


def available() -> Iterator[tuple[str, LiteralString]]:
    """Every migration as (file name, SQL), in the order of their numbers."""
    folder = files(__name__)
    for name in sorted(entry.name for entry in folder.iterdir() if _FILE_NAME.fullmatch(entry.name)):
        # Our own files, shipped beside this module, are as literal as SQL gets.
        yield name, folder.joinpath(name).read_text(encoding="utf-8")


def migrate(database_url: str) -> list[str]:
    """Bring the schema and the functions' role's rights up to date.

    Safe to run twice at once: the second run waits, then finds nothing to do.

    :param database_url: a libpq connection string whose role may create tables
    :return: the names of the migrations that this run applied, in order
    :raises psycopg.Error: when the database can't be reached or refuses a statement; what was applied before stays
    :raises ForeignSchemaError: when it isn't ours to migrate; nothing was changed
    """
    applied = []
    with psycopg.connect(database_url, autocommit=True, connect_timeout=10) as connection:
        # A session lock: it ends with this connection, however that ends.
        connection.execute("SELECT pg_advisory_lock(hashtext('fusewire.migrate'))")
        connection.execute(_CREATE_TABLE)
        done = {name for (name,) in connection.execute("SELECT name FROM schema_migration")}
        _refuse_foreign(done)
        for name, sql in available():
            if name in done:
                continue
            with connection.transaction():
                connection.execute(sql)
                connection.execute("INSERT INTO schema_migration (name) VALUES (%s)", (name,))
            applied.append(name)
        # A release that was gone back to doesn't know all of a newer schema's tables, and would close them to the newer
        # functions, which still serve.
        if done <= {name for name, _ in available()}:
            _grant(connection)
    return applied


def _refuse_foreign(done: set[str]) -> None:
    ours = [name for name, _ in available()]
    # Names above the last of ours are a newer release's, which may have been gone back from.
    foreign = sorted(name for name in done.difference(ours) if name < ours[-1])
    if foreign:
        raise ForeignSchemaError(
            f"its schema isn't this version's ({foreign[0]} was applied): nothing leads from there to here, so start "
            "with an empty database"
        )


def renew_grants(database_url: str) -> None:
    """Give the functions' role its rights anew, which a restore has dropped with the tables that it replaced.

    :raises psycopg.Error: as `migrate`
    """
    with psycopg.connect(database_url, autocommit=True, connect_timeout=10) as connection:
        _grant(connection)


def _grant(connection: psycopg.Connection[tuple[Any, ...]]) -> None:
    with connection.transaction():
        connection.execute(files(__name__).joinpath("grants.sql").read_text(encoding="utf-8"))
