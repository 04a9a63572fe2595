"""The schema: migrations by number, then the functions as they are now.

A migration changes tables. It is applied once, in a transaction of its own, and is never edited once released. The
functions are applied whole, in one transaction, whenever the database holds another set of them. `functions/README.md`
says how a function is changed and dropped while old and new code run side by side.
"""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final, LiteralString

import psycopg

_MIGRATION: Final = re.compile(r"(\d{4})_\w+\.sql")
_FOLDER: Final = files("fusewire.store")

_CREATE_TABLE: Final = """
    CREATE TABLE IF NOT EXISTS schema_migration (
        name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT clock_timestamp())
"""
_RECORD_FUNCTIONS: Final = """
    INSERT INTO schema_functions (version, hash, applied_at) VALUES (%s, %s, clock_timestamp())
    ON CONFLICT (single) DO UPDATE SET
        version = EXCLUDED.version, hash = EXCLUDED.hash, applied_at = EXCLUDED.applied_at
"""


class IncompatibleSchemaError(Exception):
    """The database was migrated by other files than these; `str()` is one line for the operator."""


@dataclass(frozen=True, slots=True)
class Functions:
    """A whole set of the database's functions."""

    version: int
    """Grows with every change of their text, whatever the branch's releases are called."""
    sql: LiteralString

    @property
    def hash(self) -> str:
        """SHA-256 over the text, in hex."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def available() -> Iterator[tuple[str, LiteralString]]:
    """Every migration as (file name, SQL), in the order of their numbers."""
    for name in sorted(entry.name for entry in (_FOLDER / "migrations").iterdir() if _MIGRATION.fullmatch(entry.name)):
        # Our own files, shipped beside this module, are as literal as SQL gets.
        yield name, _FOLDER.joinpath("migrations", name).read_text(encoding="utf-8")


def functions() -> Functions:
    """The functions of this release; `dropped.sql` comes first, the other files in the order of their names."""
    folder = _FOLDER / "functions"
    names = sorted((entry.name for entry in folder.iterdir()), key=lambda name: (name != "dropped.sql", name))
    texts = [folder.joinpath(name).read_text(encoding="utf-8") for name in names if name.endswith(".sql")]
    return Functions(int(folder.joinpath("VERSION").read_text(encoding="utf-8").split()[0]), "\n".join(texts))


def migrate(database_url: str) -> list[str]:
    """Bring tables, functions and the rights of the functions' role up to date.

    Safe to run twice at once: the second run waits, then finds nothing to do. Safe while calls run: replacing a
    function locks no table, and a call under way finishes with the body that it began with.

    :param database_url: a libpq connection string whose role may create tables
    :return: what this run applied, in order: migrations by name, then `functions <version>`
    :raises psycopg.Error: when the database can't be reached or refuses a statement; what was applied before stays
    :raises IncompatibleSchemaError: when other files made its schema; nothing was changed
    """
    applied = []
    # psycopg prepares a statement that comes again and again; a pooler's next transaction may be in another session.
    with psycopg.connect(database_url, autocommit=True, connect_timeout=10, prepare_threshold=None) as connection:
        with _alone(connection):
            connection.execute(_CREATE_TABLE)
            done = _done(connection)
        _refuse_incompatible(done)
        for name, sql in available():
            with _alone(connection):
                if name in _done(connection):
                    continue
                connection.execute(sql)
                connection.execute("INSERT INTO schema_migration (name) VALUES (%s)", (name,))
            applied.append(name)
        wanted = functions()
        with _alone(connection):
            if _apply_functions(connection, wanted):
                applied.append(f"functions {wanted.version}")
            # A release that was rolled back to doesn't know all tables of a newer schema. It would take them from the
            # newer functions, which still serve.
            if _done(connection) <= {name for name, _ in available()}:
                connection.execute(grants())
    return applied


@contextmanager
def _alone(connection: psycopg.Connection[tuple[Any, ...]]) -> Iterator[None]:
    """A transaction that no other run has at the same time. The lock is the transaction's, since a pooler may give each
    transaction another session of the server."""
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(hashtext('fusewire.migrate'))")
        yield


def _done(connection: psycopg.Connection[tuple[Any, ...]]) -> set[str]:
    """The migrations that were applied, by name."""
    return {name for (name,) in connection.execute("SELECT name FROM schema_migration")}


def _refuse_incompatible(done: set[str]) -> None:
    ours = {name for name, _ in available()}
    last = max(map(_number, ours))
    # Numbers above our last are those of a newer release, from which this one may have been rolled back to.
    unknown = sorted(name for name in done - ours if _number(name) <= last)
    if unknown:
        raise IncompatibleSchemaError(
            f"its schema was made by another version of fusewire ({unknown[0]} was applied), and no migration leads "
            "from there to this version, so start with an empty database"
        )


def grants() -> LiteralString:
    """The SQL that gives the functions' role its rights anew, which a restore drops with the tables it replaces, and
    has the server end what its client has given up."""
    return _FOLDER.joinpath("grants.sql").read_text(encoding="utf-8")


def _number(name: str) -> int:
    numbered = _MIGRATION.fullmatch(name)
    return int(numbered[1]) if numbered else 0


def _apply_functions(connection: psycopg.Connection[tuple[Any, ...]], wanted: Functions) -> bool:
    found = connection.execute("SELECT version, hash FROM schema_functions").fetchone()
    if found is not None and (found[0] > wanted.version or found[1] == wanted.hash):
        return False
    # Functions call each other, in whatever order their files come. A test has Postgres check each body.
    connection.execute("SET LOCAL check_function_bodies = off")
    connection.execute(wanted.sql)
    connection.execute(_RECORD_FUNCTIONS, (wanted.version, wanted.hash))
    return True
