"""`make archive MONTH=2026-10`: a closed month's attempts into a file, and out of the ledger.

The file is written, read back from the disk and compared with the rollups and the windows, to the last digit; windows
of nodes and users, which no rollup has, are compared with the attempts. Only then are the rows deleted, in one
transaction with an audit entry that holds the file's SHA-256. The month's sums, in windows and rollups, stay; but
windows of users go with the last of their attempts, since a key may have a thousand users a day. The functions' role
may not delete what was booked: this takes the owner's.
"""

import csv
import gzip
import hashlib
import os
import re
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from fusewire.errors import usd
from local import StartError
from local.books import broken_paths
from local.environment import Environment
from local.ledger import ledger_session

_MONTH: Final = re.compile(r"20\d\d-(0[1-9]|1[0-2])")
_REST: Final = "7 days"
"""So long after a month's last window was closed nobody settles late any more: a reservation lives a day at most."""

_WINDOWS: Final = """
    SELECT w.id, w.spent, w.reserved, w.request_count, w.archived_at IS NOT NULL,
           COALESCE(w.closed_at < clock_timestamp() - %s::interval, false)
    FROM usage_windows(%s, (%s::date + interval '1 month - 1 day')::date, %s) w
"""
_ROLLUPS: Final = """
    SELECT window_id, day::text, provider, model, tier, key_id, sum(cost), sum(requests), sum(input_tokens),
           sum(output_tokens)
    FROM usage_rollup WHERE window_id = ANY(%s) GROUP BY 1, 2, 3, 4, 5, 6
    HAVING sum(requests) > 0 OR provider = 'adjustment'
"""
_MARK: Final = """
    WITH locked AS (SELECT id FROM budget_window WHERE id = ANY(%s) ORDER BY id FOR NO KEY UPDATE)
    UPDATE budget_window w SET archived_at = clock_timestamp() FROM locked WHERE w.id = locked.id
"""
_DELETE: Final = """
    WITH gone AS (DELETE FROM ledger WHERE window_id = ANY(%s) RETURNING status, cost)
    SELECT count(*), COALESCE(sum(cost), 0) FROM gone
"""
_FORGOTTEN_USERS: Final = """
    SELECT w.id FROM budget_window w
    WHERE starts_with(w.budget, 'user:') AND w.reserved = 0
          AND least(w.resets_at, w.closed_at) < clock_timestamp() - %s::interval
          AND w.id NOT IN (SELECT unnest(l.path_window_ids) FROM ledger l WHERE l.path_window_ids IS NOT NULL)
"""
_FORGET: Final = """
    WITH events AS (DELETE FROM budget_threshold_event WHERE window_id = ANY(%(ids)s)),
    slots AS (DELETE FROM budget_slot WHERE window_id = ANY(%(ids)s))
    DELETE FROM budget_window WHERE id = ANY(%(ids)s)
"""
_AUDIT: Final = "SELECT audit_append(clock_timestamp(), 'system', 'ledger.archived', NULL, NULL, NULL, %s)"

Group = tuple[str, ...]
Sums = tuple[Decimal, int, int, int]


@dataclass(frozen=True, slots=True)
class Archived:
    """What is in the file and no longer in the ledger."""

    file: Path
    entries: int
    cost: Decimal
    """USD."""
    sha256: str


def archive(connection: psycopg.Connection[Any], month: date, zone: str, file: Path) -> Archived:
    """Move a month's attempts into `file` (CSV, gzip); all of them or none.

    :param connection: of the owner, in autocommit
    :param month: its first day
    :param zone: the budget's time zone, in which the month begins and ends
    :raises StartError: when the month isn't over, or what was written isn't what was booked; nothing was deleted
    """
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = file.with_name(f"{file.name}.part")
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        windows = _finished(connection, month, zone)
        _write(connection, list(windows), part)
        rollups = connection.execute(_ROLLUPS, (list(windows),)).fetchall()
        broken = broken_paths(connection)  # the last time that they can be compared
    expected = {tuple(map(str, row[:6])): (row[6], *map(int, row[7:])) for row in rollups}
    archived = _verified(part, file, expected, windows)
    if broken:
        raise StartError(f"The books don't agree; nothing was deleted. {broken[0]}")
    part.replace(file)  # what an interrupted run left there holds the same
    _sync(file.parent)
    with connection.transaction():
        connection.execute(_MARK, (list(windows),))  # first: as everywhere, windows are locked before entries
        gone = connection.execute(_DELETE, (list(windows),)).fetchone()
        if gone != (archived.entries, archived.cost):
            raise StartError("The month's entries changed meanwhile; nothing was deleted. Run it again.")
        entry = {"month": f"{month:%Y-%m}", "file": file.name, "sha256": archived.sha256, "entries": archived.entries}
        connection.execute(_AUDIT, (Jsonb(entry | {"cost_usd": usd(archived.cost)}),))
    _forget_users(connection)
    connection.execute("VACUUM (ANALYZE) ledger")  # the months to come take the room
    return archived


def _forget_users(connection: psycopg.Connection[Any]) -> None:
    """Delete users' windows that ended long ago and that no attempt in the ledger is of. No new one can be: the next
    call of such a user opens a window."""
    windows = [row[0] for row in connection.execute(_FORGOTTEN_USERS, (_REST,))]
    if windows:
        with connection.transaction():
            connection.execute("SELECT ledger_lock_out_paths()")  # whoever opens a user's window waits
            connection.execute(_FORGET, {"ids": windows})


def _finished(connection: psycopg.Connection[Any], month: date, zone: str) -> dict[int, tuple[Decimal, int]]:
    """Spent (USD) and calls of each of the month's windows.

    :raises StartError: when there are none, or one isn't finished
    """
    found = connection.execute(_WINDOWS, (_REST, month, month, zone)).fetchall()
    if not found:
        raise StartError(f"{month:%Y-%m} has no budget window in {zone}.")
    for number, _, reserved, _, is_archived, is_at_rest in found:
        if is_archived:
            raise StartError(f"{month:%Y-%m} is archived already.")
        if not is_at_rest:
            raise StartError(f"{month:%Y-%m} can be archived {_REST} after its window {number} was closed.")
        if reserved:
            raise StartError(f"Window {number} still holds reservations: ask for GET /api/v1/admin/budget first.")
    return {number: (spent, calls) for number, spent, _, calls, *_ in found}


def _write(connection: psycopg.Connection[Any], windows: Sequence[int], part: Path) -> None:
    statement = sql.SQL(
        "COPY (SELECT * FROM ledger WHERE window_id = ANY({}) ORDER BY id) TO STDOUT (FORMAT csv, HEADER)"
    )
    with open(part, "wb", opener=_private) as raw, gzip.open(raw, "wb", compresslevel=6) as packed:
        with connection.cursor() as cursor, cursor.copy(statement.format(sql.Literal(list(windows)))) as copy:
            for block in copy:
                packed.write(block)
    with part.open("rb") as written:
        os.fsync(written.fileno())


def _private(path: str, flags: int) -> int:
    descriptor = os.open(path, flags, 0o600)
    os.fchmod(descriptor, 0o600)  # what an earlier run left, which was broken off, may be open to others
    return descriptor


def _verified(
    part: Path, file: Path, expected: Mapping[Group, Sums], windows: Mapping[int, tuple[Decimal, int]]
) -> Archived:
    """What a file holds, read back from the disk.

    :raises StartError: when its sums aren't those of the rollups and of the windows
    """
    found: dict[Group, Sums] = {}
    entries = 0
    with localcontext(prec=1000):  # a sum keeps every digit
        for row in _rows(part):
            entries += 1
            if row["status"] == "settled":
                group = tuple(row[name] for name in ("window_id", "day", "provider", "model", "tier", "key_id"))
                cost, calls, put_in, got_out = found.get(group, (Decimal(0), 0, 0, 0))
                found[group] = (
                    cost + Decimal(row["cost"]),
                    calls + (row["operation"] != "adjustment"),
                    put_in + int(row["input_tokens"]),
                    got_out + int(row["output_tokens"]),
                )
        total = sum((cost for cost, *_ in found.values()), Decimal(0))
        by_window = dict.fromkeys(windows, (Decimal(0), 0))
        for (number, *_), (cost, calls, *_) in found.items():
            spent, count = by_window[int(number)]
            by_window[int(number)] = (spent + cost, count + calls)
    if found != expected or by_window != windows:
        raise StartError(f"What was written to {part} isn't what was booked; nothing was deleted.")
    with part.open("rb") as written:
        return Archived(file, entries, total, hashlib.file_digest(written, "sha256").hexdigest())


def _rows(part: Path) -> Iterator[dict[str, str]]:
    with gzip.open(part, "rt", encoding="utf-8", newline="") as text:
        yield from csv.DictReader(text)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def _asked(environment: Environment) -> tuple[date, str, Path]:
    """:raises StartError: without a month"""
    month = os.environ.get("MONTH", "")
    if not _MONTH.fullmatch(month):
        raise StartError("Say which month: make archive MONTH=2026-10")
    zone = environment.variables.get("AI_BUDGET_TIMEZONE", "UTC")
    return date.fromisoformat(f"{month}-01"), zone, environment.home / "archive" / f"ledger-{month}.csv.gz"


def main() -> int:
    """:return: the exit status"""
    try:
        with ledger_session() as (connection, environment):
            done = archive(connection, *_asked(environment))
    except KeyboardInterrupt:
        return 130
    except (StartError, OSError, psycopg.Error) as error:
        reason = error if isinstance(error, StartError) else f"{type(error).__name__}; nothing was deleted."
        sys.stderr.write(f"archive isn't possible. {reason}\n")
        return 1
    sys.stdout.write(f"{done.file}: {done.entries} entries, {usd(done.cost)} USD, sha256 {done.sha256}\n")
    return 0


if __name__ == "__main__":
    # So that a server that was started for this is stopped again.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
