"""`make audit-verify`: is every audit entry there, and as it was written?

Postgres chains them by hash as it writes (`audit_append`); here the chain is computed again, in Python, from what the
rows hold. Whoever owns the database can write a new chain, too: `SEEN=<n>:<hash>`, from an earlier result that was
kept elsewhere, shows that.
"""

import hashlib
import json
import os
import re
import signal
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import psycopg

from local import StartError
from local.ledger import ledger_session

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SEEN: Final = re.compile(r"(\d+):([0-9a-f]{64})")
_ENTRIES: Final = """
    SELECT n, hash, at, actor, action, source_ip, request_id, before::text, after::text FROM audit ORDER BY n
"""


@dataclass(frozen=True, slots=True)
class Seen:
    """The end of the chain as an earlier run printed it."""

    n: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class Verification:
    """The result; `str()` is one line."""

    problem: str | None
    entries: int
    last: bytes = b""

    def __str__(self) -> str:
        if self.problem is not None:
            return f"audit: BROKEN. {self.problem}"
        if self.entries == 0:
            return "audit: whole, and empty."
        return f"audit: whole. {self.entries} entries, the last is {self.entries}:{self.last.hex()}"


def verify(connection: psycopg.Connection[Any], seen: Seen | None = None) -> Verification:
    """Walk the whole chain in one snapshot; stops at the first thing that is wrong.

    :param seen: the end of an earlier chain, which this one must contain
    """
    with connection.transaction(), connection.cursor() as settings:
        settings.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        heads = settings.execute("SELECT n, hash FROM audit_head").fetchall()
        with connection.cursor(name="entries") as entries:
            entries.itersize = 5_000
            entries.execute(_ENTRIES)
            return _walk(entries, heads, seen)


def _walk(entries: Iterable[Sequence[Any]], heads: Sequence[Sequence[Any]], seen: Seen | None) -> Verification:
    place, link = 0, b""
    for n, written, *fields in entries:
        place += 1
        if n != place:
            more = f", and all up to {n - 1}" if n > place + 1 else ""
            return _broken(place - 1, f"Entry {place} is missing{more}.")
        link = hashlib.sha256(link + _canonical(n, *fields)).digest()
        if link != written:
            return _broken(place, f"Entry {n} isn't as it was written, or was put in later.")
        if seen is not None and seen.n == n and seen.hash != link:
            return _broken(place, f"Entry {n} isn't the one that was seen: the chain was written anew.")
    if [tuple(head) for head in heads] != [(place, link)]:
        head = heads[0][0] if heads else None
        if head is not None and head > place:
            lost = f"Entry {head} is" if head == place + 1 else f"Entries {place + 1} to {head} are"
            return _broken(place, f"{lost} missing at the end.")
        return _broken(place, f"The head of the chain is {head or 'missing'}, its last entry {place}.")
    if seen is not None and seen.n > place:
        return _broken(place, f"Entry {seen.n} was seen, and the chain ends at {place}.")
    return Verification(None, place, link)


def _broken(entries: int, problem: str) -> Verification:
    return Verification(problem, entries)


def _canonical(
    n: int,
    at: datetime,
    actor: str,
    action: str,
    source_ip: str | None,
    request_id: str | None,
    before: str | None,
    after: str | None,
) -> bytes:
    """The bytes that an entry's hash is over: a jsonb array's own text. `before` and `after` come as such texts."""
    seconds, micro = divmod((at - _EPOCH) // timedelta(microseconds=1), 1_000_000)
    texts = (f"{seconds}.{micro:06}", actor, action, source_ip, request_id)
    parts = [str(n), *(json.dumps(text, ensure_ascii=False) for text in texts), before or "null", after or "null"]
    return f"[{', '.join(parts)}]".encode()


def _seen(text: str) -> Seen | None:
    """:raises StartError: for what isn't the end of a result"""
    if not text:
        return None
    found = _SEEN.fullmatch(text)
    if found is None:
        raise StartError("SEEN is <n>:<hash>, the end of an earlier result.")
    return Seen(int(found[1]), bytes.fromhex(found[2]))


def main() -> int:
    """:return: 0 for a whole chain, 1 for a broken one, 2 when it can't be verified"""
    try:
        with ledger_session() as (connection, _):
            result = verify(connection, _seen(os.environ.get("SEEN", "").strip()))
    except KeyboardInterrupt:
        return 130
    except (StartError, psycopg.Error) as error:
        reason = error if isinstance(error, StartError) else f"{type(error).__name__}."
        sys.stderr.write(f"The audit can't be verified. {reason}\n")
        return 2
    sys.stdout.write(f"{result}\n")
    return 0 if result.problem is None else 1


if __name__ == "__main__":
    # So that a server that was started for this is stopped again.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
