"""`make books`: what the ledger holds, table by table, and whether its sums agree. Equal books print equal text.

Which database was read goes to standard error first, so that standard output stays comparable.

For before and after: a restore, an upgrade, a failover. Each table is one line with its rows, its sums in USD and a
SHA-256 over all that it holds, however it is stored; one snapshot, so calls may go on meanwhile.
"""

import hashlib
import signal
import sys
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Final, LiteralString

import psycopg
from psycopg import sql

from fusewire.errors import usd
from local import StartError
from local.ledger import ledger_session, place

_SUMS: Final[dict[LiteralString, LiteralString]] = {
    "budget_window": "sum(spent) AS spent, sum(reserved) AS reserved",
    "budget_slot": "sum(spent) AS spent, sum(reserved) AS reserved",
    "budget_threshold_event": "",
    "ledger": "sum(cost) FILTER (WHERE status = 'settled') AS settled, "
    "sum(bound) FILTER (WHERE status = 'reserved') AS reserved",
    "budget_adjustment": "sum(amount) AS adjusted",
    "budget_limit": "",
    "budget_node": "",
    "price": "",
    "usage_rollup": "sum(cost) AS booked",
    "api_key": "",
    "api_key_secret": "",
    "user_hash_secret": "",
    "audit": "",
}
"""The tables that are books, and what is added up of each."""
_WIDTH: Final = max(map(len, _SUMS))

# What every server writes alike, whatever its own settings and its order of letters are.
_ALIKE: Final = "SET LOCAL TimeZone = 'UTC'; SET LOCAL DateStyle = 'ISO'; SET LOCAL bytea_output = 'hex'"
_ROWS: Final = sql.SQL('COPY (SELECT t::text FROM {} t ORDER BY t::text COLLATE "C") TO STDOUT')

# A window of the company against the usage that is rolled up from it, and against its attempts until they are archived;
# then each key's windows together against its usage.
_BY_USAGE: Final[LiteralString] = """
    WITH w AS (
        SELECT id, budget, archived_at IS NULL AS has_attempts, spent + COALESCE(s.slots_spent, 0) AS spent,
               reserved + COALESCE(s.slots_reserved, 0) AS reserved
        FROM budget_window
        LEFT JOIN (SELECT window_id, sum(spent) AS slots_spent, sum(reserved) AS slots_reserved
                   FROM budget_slot GROUP BY 1) s ON s.window_id = id),
    r AS (SELECT window_id, sum(cost) AS cost FROM usage_rollup GROUP BY 1),
    l AS (SELECT window_id, COALESCE(sum(cost) FILTER (WHERE status = 'settled'), 0) AS cost,
                 COALESCE(sum(bound) FILTER (WHERE status = 'reserved'), 0) AS held FROM ledger GROUP BY 1)
    SELECT 'window ' || id, spent, COALESCE(r.cost, 0), COALESCE(l.cost, 0), reserved, COALESCE(l.held, 0)
    FROM w LEFT JOIN r ON r.window_id = id LEFT JOIN l ON l.window_id = id
    WHERE budget = 'global' AND (spent <> COALESCE(r.cost, 0)
        OR has_attempts AND (spent, reserved) <> (COALESCE(l.cost, 0), COALESCE(l.held, 0)))
    UNION ALL
    SELECT k.id, COALESCE(k.spent, 0), COALESCE(u.cost, 0), 0, 0, 0
    FROM (SELECT api_key.id, sum(w.spent) AS spent FROM api_key LEFT JOIN w ON w.budget = api_key.id GROUP BY 1) k
    LEFT JOIN (SELECT key_id, sum(cost) AS cost FROM usage_rollup GROUP BY 1) u ON u.key_id = k.id
    WHERE COALESCE(k.spent, 0) <> COALESCE(u.cost, 0)
    ORDER BY 1
"""

# Each window of a node or a user against the attempts that were booked in it. Usage has neither. A window that was open
# beside one of the company's whose attempts are archived may lack some of them, and isn't looked at: `local.archive`
# looked before. The minute: a call at a window's very end may be the first in a node's next one.
_BY_ATTEMPTS: Final[LiteralString] = """
    SELECT 'window ' || b.id, b.spent, NULL, COALESCE(e.cost, 0), b.reserved, COALESCE(e.held, 0)
    FROM (SELECT w.id, w.budget, w.opened_at, w.closed_at, w.spent + COALESCE(sum(s.spent), 0) AS spent,
                 w.reserved + COALESCE(sum(s.reserved), 0) AS reserved
          FROM budget_window w LEFT JOIN budget_slot s ON s.window_id = w.id GROUP BY w.id) b LEFT JOIN (
        SELECT p.id, COALESCE(sum(cost) FILTER (WHERE status = 'settled'), 0) AS cost,
               COALESCE(sum(bound) FILTER (WHERE status = 'reserved'), 0) AS held
        FROM ledger, unnest(path_window_ids) p (id) GROUP BY 1) e ON e.id = b.id
    WHERE (starts_with(b.budget, 'bud_') OR starts_with(b.budget, 'user:'))
          AND NOT EXISTS (
              SELECT FROM budget_window a WHERE a.archived_at IS NOT NULL
              AND b.opened_at < a.closed_at + interval '1 minute' AND COALESCE(b.closed_at, 'infinity') >= a.opened_at)
          AND (b.spent, b.reserved) <> (COALESCE(e.cost, 0), COALESCE(e.held, 0))
    ORDER BY 1
"""

Session = psycopg.Connection[Any]


def books(connection: Session) -> Iterator[str]:
    """One line for each table, then one for each sum that isn't what it is made of.

    :param connection: in autocommit
    """
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        connection.execute(_ALIKE)
        for table, sums in _SUMS.items():
            yield _line(connection, table, sums)
        yield from _broken(connection, _BY_USAGE)
        yield from _broken(connection, _BY_ATTEMPTS)


def broken_paths(connection: Session) -> list[str]:
    """One line for each window of a node or a user whose sums aren't those of the attempts that were booked in it."""
    return list(_broken(connection, _BY_ATTEMPTS))


def _broken(connection: Session, disagreeing: LiteralString) -> Iterator[str]:
    for what, spent, used, attempts, reserved, held in connection.execute(disagreeing):
        usage = "" if used is None else f"its usage is {usd(used)}, "
        yield (
            f"BROKEN: {what} has {usd(spent)} spent and {usd(reserved)} reserved; {usage}its attempts "
            f"{'are ' if used is None else ''}{usd(attempts)} and {usd(held)}"
        )


def _line(connection: Session, table: LiteralString, sums: LiteralString) -> str:
    digest, rows = hashlib.sha256(), 0
    with connection.cursor() as cursor, cursor.copy(_ROWS.format(sql.Identifier(table))) as copy:
        for block in copy:
            digest.update(block)
            rows += bytes(block).count(b"\n")
    line = f"{table:<{_WIDTH}} {rows:>8} rows  sha256 {digest.hexdigest()[:16]}"
    if not sums:
        return line
    found = connection.execute(sql.SQL("SELECT {} FROM {}").format(sql.SQL(sums), sql.Identifier(table)))
    names = [column.name for column in found.description or ()]
    [values] = found
    return f"{line}  " + ", ".join(
        f"{usd(value or Decimal(0))} {name}" for name, value in zip(names, values, strict=True)
    )


def main() -> int:
    """:return: 0 when the sums agree, 1 when they don't, 2 when it can't be told"""
    broken = False
    try:
        with ledger_session() as (connection, _):
            sys.stderr.write(f"The books of {place(connection)}:\n")
            sys.stderr.flush()
            for line in books(connection):
                broken = broken or line.startswith("BROKEN")
                sys.stdout.write(f"{line}\n")
    except KeyboardInterrupt:
        return 130
    except (StartError, psycopg.Error) as error:
        reason = error if isinstance(error, StartError) else f"{type(error).__name__}."
        sys.stderr.write(f"The books can't be read. {reason}\n")
        return 2
    if not broken:
        sys.stdout.write("The sums agree.\n")
    return int(broken)


if __name__ == "__main__":
    # So that a server that was started for this is stopped again.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
