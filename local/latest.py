"""Whether all that a database's books hold is in a backup, too: what was written last is looked up in the dump.

The books only ever grow: an audit entry, a reservation, its end and a budget window stay as they were written. So a
backup has all of a database's books when it has the database's last audit entry (by number and hash, which is over all
entries before it), the attempt that was reserved last, the attempt that ended last, with the time of its end, and the
window that was opened last. Where it lacks one of them, the database is newer, went another way from some point on, or
holds other books altogether. An attempt that the backup has archived counts as lacking.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, BinaryIO, Final, LiteralString

import psycopg
from psycopg import sql

_TABLES: Final = ("budget_window", "ledger", "audit")
_COPY: Final = "COPY public."
_END: Final = b"\\.\n"

_LATEST: Final[LiteralString] = r"""
    SELECT COALESCE(jsonb_agg(to_jsonb(l) ORDER BY l.held, l.moment), '[]') FROM (
        (SELECT 'audit' AS held, 'at' AS moment, at AT TIME ZONE 'UTC' AS utc,
                jsonb_build_object('n', n::text, 'hash', '\\x' || encode(hash, 'hex')) AS fields
         FROM public.audit ORDER BY n DESC LIMIT 1)
        UNION ALL
        (SELECT 'ledger', 'reserved_at', reserved_at AT TIME ZONE 'UTC', jsonb_build_object('id', id::text)
         FROM public.ledger ORDER BY reserved_at DESC, id DESC LIMIT 1)
        UNION ALL
        (SELECT 'ledger', 'ended_at', ended_at AT TIME ZONE 'UTC', jsonb_build_object('id', id::text)
         FROM public.ledger WHERE ended_at IS NOT NULL ORDER BY ended_at DESC, id DESC LIMIT 1)
        UNION ALL
        (SELECT 'budget_window', 'opened_at', opened_at AT TIME ZONE 'UTC', jsonb_build_object('id', id::text)
         FROM public.budget_window ORDER BY opened_at DESC, id DESC LIMIT 1)) l
"""
"""Its fields are written as in a dump."""

_EMPTY: Final[LiteralString] = """
    DO $$ BEGIN
        IF to_regclass('public.budget_window') IS NOT NULL THEN
            RAISE 'the target is no longer empty; nothing was changed';
        END IF;
    END $$
"""
_UNCHANGED: Final[LiteralString] = """
    LOCK TABLE public.budget_window, public.ledger, public.audit IN ACCESS EXCLUSIVE MODE;
    DO $$ BEGIN
        IF ({latest}) <> {seen} THEN
            RAISE 'the target was written to meanwhile; nothing was changed';
        END IF;
    END $$
"""


class ForeignTablesError(Exception):
    """The database has tables of the ledger's names that aren't the ledger's of this version."""


class NoLedgerError(Exception):
    """A dump without the ledger's tables."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that was written last."""

    table: str
    moment: str
    """The column that says when."""
    at: datetime
    fields: Mapping[str, str]
    """What identifies it, by column, as a dump has it."""

    def __str__(self) -> str:
        what = {"at": "an audit entry", "reserved_at": "a call", "ended_at": "the end of a call"}
        return f"{what.get(self.moment, 'a budget window')} of {self.at:%Y-%m-%d %H:%M:%S} UTC"


@dataclass(frozen=True, slots=True)
class Latest:
    """What a database's books hold last; `seen` is the same as the database told it, None without a ledger."""

    entries: tuple[Entry, ...]
    seen: str | None

    def unchanged(self, connection: psycopg.Connection[Any]) -> str:
        """SQL that locks the books, and fails when they are no longer these."""
        if self.seen is None:
            return _EMPTY
        statement = sql.SQL(_UNCHANGED).format(latest=sql.SQL(_LATEST), seen=sql.Literal(self.seen))
        return statement.as_string(connection)


def latest_of(connection: psycopg.Connection[Any]) -> Latest:
    """:raises ForeignTablesError: when the tables aren't a ledger"""
    names = [f"public.{table}" for table in _TABLES]
    [found] = connection.execute("SELECT count(to_regclass(name)) FROM unnest(%s::text[]) name", (names,)).fetchall()
    if found == (0,):
        return Latest((), None)
    try:
        [[row, text]] = connection.execute(
            sql.SQL("SELECT told, told::text FROM ({}) t(told)").format(sql.SQL(_LATEST))
        ).fetchall()
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn, psycopg.errors.UndefinedFunction) as error:
        raise ForeignTablesError from error
    entries = (
        Entry(each["held"], each["moment"], datetime.fromisoformat(each["utc"]).replace(tzinfo=UTC), each["fields"])
        for each in row
    )
    return Latest(tuple(entries), text)


def lacking(dump: BinaryIO, latest: Latest) -> list[Entry]:
    """Those of a database's last entries that a dump doesn't have; none when its books are all in the dump.

    :param dump: what pg_dump wrote as SQL, at its beginning
    :raises NoLedgerError: when it isn't a dump of a ledger
    """
    left, tables = list(latest.entries), set()
    for table, columns, rows in _copies(dump):
        tables.add(table)
        sought = [entry for entry in left if entry.table == table]
        for row in rows:
            for entry in sought:
                if all(value.encode() in row for value in entry.fields.values()) and _is(entry, columns, row):
                    left.remove(entry)
    if not tables.issuperset(_TABLES):
        raise NoLedgerError
    return left


def _copies(dump: BinaryIO) -> Iterator[tuple[str, list[str], Iterator[bytes]]]:
    """Each table's name, columns and rows; the rows must be taken before the next table is."""
    for line in dump:
        if line.startswith(_COPY.encode()) and line.endswith(b" FROM stdin;\n"):
            table, _, columns = line.decode().removeprefix(_COPY).partition(" (")
            yield table, columns.partition(")")[0].split(", "), _rows(dump)


def _rows(dump: BinaryIO) -> Iterator[bytes]:
    for row in dump:
        if row == _END:
            return
        yield row


def _is(entry: Entry, columns: Sequence[str], row: bytes) -> bool:
    fields = dict(zip(columns, row.decode().rstrip("\n").split("\t"), strict=True))
    when = fields[entry.moment]
    return (
        all(fields[name] == value for name, value in entry.fields.items())
        and when != r"\N"
        and datetime.fromisoformat(when) == entry.at
    )
