"""`make lost`: what a log says was booked since a time and the ledger doesn't have, to be booked as an adjustment.

After a restore, or a failover to a server that lacked the last seconds, the money is spent and the books don't know.
The log's lines are read from standard input. An attempt that the ledger has, in whatever state, isn't lost: one that is
still reserved is booked at its bound when it expires. One of an archived month is looked for in the archive.
"""

import argparse
import csv
import gzip
import hashlib
import json
import signal
import sys
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import psycopg

from fusewire.errors import usd
from local import StartError
from local.ledger import ledger_session, place

_BOOKING: Final = ("router.success", "router.provider_failed")
_AT_BOUND: Final = ("expired", "abandoned")
"""The kinds of `ledger.settled_at_bound` whose cost is in no other line."""

_ARCHIVES: Final = """
    SELECT after->>'file', after->>'sha256' FROM audit
    WHERE action = 'ledger.archived' AND after->>'month' >= %s ORDER BY n
"""
_ZONES: Final = timedelta(days=1)
"""A month begins this much earlier or later, at most, in the budget's time zone."""

Attempt = tuple[str, int]
"""A request's id, and the number of its attempt."""

_KNOWN: Final = """
    SELECT l.request_id, l.attempt FROM ledger l
    JOIN unnest(%s::text[], %s::integer[]) AS asked (request_id, attempt) USING (request_id, attempt)
"""


def booked(lines: Iterable[str], since: datetime) -> dict[Attempt, tuple[str, Decimal]]:
    """By attempt, the month in UTC (YYYY-MM) and the USD that the log says were booked from a time on.

    A later line about an attempt is the one that counts: it corrects the earlier one. Lines that aren't the log's are
    skipped.
    """
    found: dict[Attempt, tuple[str, Decimal]] = {}
    for line in lines:
        row = _row(line)
        if row is None or not _books(row) or not row.get("cost_usd"):
            continue
        at = datetime.fromisoformat(row["timestamp"])
        if at >= since:
            found[row["request_id"], int(row["attempt"])] = row["timestamp"][:7], Decimal(row["cost_usd"])
    return found


def archived(connection: psycopg.Connection[Any], since: datetime, folder: Path) -> set[Attempt]:
    """The attempts from a time on that are in archives and no longer in the ledger.

    :param folder: where `make archive` puts its files
    :raises StartError: when one of the archives isn't there as it was written
    """
    found: set[Attempt] = set()
    for name, digest in connection.execute(_ARCHIVES, (f"{since - _ZONES:%Y-%m}",)):
        file = folder / name
        if not file.is_file():
            raise StartError(f"What was booked then is in an archive, and {file} isn't there.")
        with file.open("rb") as raw:
            if hashlib.file_digest(raw, "sha256").hexdigest() != digest:
                raise StartError(f"{file} isn't the archive that was written: its SHA-256 is another.")
        with gzip.open(file, "rt", encoding="utf-8", newline="") as text:
            found.update((row["request_id"], int(row["attempt"])) for row in csv.DictReader(text))
    return found


def lost(
    connection: psycopg.Connection[Any],
    said: Mapping[Attempt, tuple[str, Decimal]],
    elsewhere: frozenset[Attempt] | set[Attempt] = frozenset(),
) -> dict[str, Decimal]:
    """By month, the USD of those attempts that the ledger doesn't have.

    :param elsewhere: those that are in archives
    """
    requests, attempts = [each[0] for each in said], [each[1] for each in said]
    known = {(row[0], row[1]) for row in connection.execute(_KNOWN, (requests, attempts))} | elsewhere
    sums: dict[str, Decimal] = {}
    for attempt, (month, cost) in said.items():
        if attempt not in known:
            sums[month] = sums.get(month, Decimal(0)) + cost
    return sums


def _row(line: str) -> dict[str, Any] | None:
    try:
        # `aws logs tail` writes the time before each.
        row = json.loads(line[max(line.find("{"), 0) :], parse_float=Decimal)
    except ValueError:
        return None
    return row if isinstance(row, dict) and row.get("request_id") and "timestamp" in row and "attempt" in row else None


def _books(row: Mapping[str, Any]) -> bool:
    event = row.get("event")
    return event in _BOOKING or (event == "ledger.settled_at_bound" and row.get("kind") in _AT_BOUND)


def _moment(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise argparse.ArgumentTypeError(f"{text} has no offset: write 2026-11-25T03:00:00Z")
    return at


def main() -> int:
    """:return: 0 when nothing is lost, 1 when something is, 2 when it can't be told"""
    parser = argparse.ArgumentParser(prog="make lost", description=__doc__)
    parser.add_argument("--since", type=_moment, required=True, help="ISO 8601 with an offset")
    since = parser.parse_args().since
    said = booked(sys.stdin, since)
    try:
        with ledger_session() as (connection, environment):
            sys.stderr.write(f"The log beside the ledger of {place(connection)}:\n")
            sums = lost(connection, said, archived(connection, since, environment.home / "archive"))
    except KeyboardInterrupt:
        return 130
    except (StartError, OSError, psycopg.Error) as error:
        reason = error if isinstance(error, StartError) else f"{type(error).__name__}."
        sys.stderr.write(f"It can't be told. {reason}\n")
        return 2
    if not sums:
        sys.stdout.write(f"The ledger has all {len(said)} attempts that the log says were booked.\n")
        return 0
    for month, amount in sorted(sums.items()):
        sys.stdout.write(f"{month}: {usd(amount)} USD are in the log and not in the ledger.\n")
    return 1


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
