"""What the ledger's tests share: the books read from outside, a clock that can be set, the events that were logged."""

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from time import sleep
from typing import Any, LiteralString
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.rows import DictRow, dict_row

from fusewire import logs
from fusewire.budget.price import TokenCounts
from fusewire.budget.reservation import Call, Candidate, HealthUpdate, Reservation, Settlement
from fusewire.budget.wire import SettlementMode

ZERO = Decimal(0)

_WINDOWS = """
    SELECT w.id, w.budget, w.spent + COALESCE(s.spent, 0) AS spent, w.reserved + COALESCE(s.reserved, 0) AS reserved,
           w.request_count + COALESCE(s.calls, 0) AS calls,
           COALESCE(l.spent, 0) AS ledger_spent, COALESCE(l.reserved, 0) AS ledger_reserved,
           COALESCE(l.calls, 0) AS ledger_calls
    FROM budget_window w
    LEFT JOIN (SELECT of_budget.id, COALESCE(sum(cost) FILTER (WHERE status = 'settled'), 0) AS spent,
                      COALESCE(sum(bound) FILTER (WHERE status = 'reserved'), 0) AS reserved,
                      count(*) FILTER (WHERE status = 'settled' AND operation <> 'adjustment') AS calls
               FROM ledger, LATERAL unnest(ARRAY[window_id, key_window_id] || path_window_ids) of_budget (id)
               GROUP BY of_budget.id) l ON l.id = w.id
    LEFT JOIN (SELECT window_id, sum(spent) AS spent, sum(reserved) AS reserved, sum(request_count) AS calls
               FROM budget_slot GROUP BY window_id) s ON s.window_id = w.id
    ORDER BY w.id
"""

_ROLLED = """
    SELECT budget, cost, requests FROM (
        SELECT 'global' AS budget, window_id, sum(cost) AS cost, sum(requests) AS requests
        FROM usage_rollup GROUP BY window_id
        UNION ALL
        SELECT key_id, 0, sum(cost), sum(requests) FROM usage_rollup
        WHERE EXISTS (SELECT FROM api_key k WHERE k.id = key_id) GROUP BY key_id) r
    FULL JOIN (
        SELECT budget, CASE budget WHEN 'global' THEN id ELSE 0 END AS window_id,
               sum(b.spent + COALESCE(s.spent, 0)) AS spent, sum(b.request_count + COALESCE(s.calls, 0)) AS calls
        FROM budget_window b
        LEFT JOIN (SELECT window_id, sum(spent) AS spent, sum(request_count) AS calls
                   FROM budget_slot GROUP BY window_id) s ON s.window_id = b.id
        WHERE budget !~ '^(bud_|user:)' -- the rollups are by key
        GROUP BY 1, 2) w USING (budget, window_id)
    WHERE (COALESCE(r.cost, 0), COALESCE(r.requests, 0)) <> (COALESCE(w.spent, 0), COALESCE(w.calls, 0))
"""

_GROUPS_THAT_DIFFER = """
    SELECT *
    FROM (SELECT window_id, day, provider, model, COALESCE(tier, '') AS tier, COALESCE(key_id, '') AS key_id,
                 sum(cost) AS cost, count(*) FILTER (WHERE operation <> 'adjustment') AS requests,
                 sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens
          FROM ledger WHERE status = 'settled' GROUP BY 1, 2, 3, 4, 5, 6) l
    FULL JOIN (SELECT window_id, day, provider, model, tier, key_id, sum(cost) AS cost, sum(requests) AS requests,
                      sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens
               FROM usage_rollup GROUP BY 1, 2, 3, 4, 5, 6) r
        USING (window_id, day, provider, model, tier, key_id)
    WHERE (COALESCE(l.cost, 0), COALESCE(l.requests, 0), COALESCE(l.input_tokens, 0), COALESCE(l.output_tokens, 0))
          IS DISTINCT FROM
          (COALESCE(r.cost, 0), COALESCE(r.requests, 0), COALESCE(r.input_tokens, 0), COALESCE(r.output_tokens, 0))
"""


@dataclass(frozen=True, slots=True)
class Totals:
    """A window's own sums, in USD, and its count of settled calls."""

    id: int
    spent: Decimal
    reserved: Decimal
    calls: int
    budget: str = "global"


class Books:
    """The ledger's tables through a connection of their own, each check in one snapshot; or within its transaction."""

    def __init__(self, database_url: str) -> None:
        self.database_url = database_url
        self.connection: psycopg.Connection[DictRow] = psycopg.connect(database_url, row_factory=dict_row)
        self.connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ

    def close(self) -> None:
        self.connection.close()

    def rows(self, statement: LiteralString, *parameters: object) -> list[DictRow]:
        with self.connection.transaction():
            return self.connection.execute(statement, parameters).fetchall()

    def check(self, *, limit: Decimal | None = None, keys: Mapping[str, Decimal] | None = None) -> list[Totals]:
        """Every window, the oldest first: its sums equal the ledger's and the rollups', and none passes its limit.

        :param limit: of the company's windows
        :param keys: the limits of the keys', nodes' and users' by their budgets' names
        """
        with self.connection.transaction():
            windows = self.connection.execute(_WINDOWS).fetchall()
            groups = self.connection.execute(_GROUPS_THAT_DIFFER).fetchall()
            rolled = self.connection.execute(_ROLLED).fetchall()
        assert groups == []
        assert rolled == []
        limits = {**(keys or {}), **({} if limit is None else {"global": limit})}
        for w in windows:
            assert (w["spent"], w["reserved"], w["calls"]) == (
                w["ledger_spent"],
                w["ledger_reserved"],
                w["ledger_calls"],
            )
            assert w["spent"] + w["reserved"] <= limits.get(w["budget"], w["spent"] + w["reserved"])
        return [Totals(w["id"], w["spent"], w["reserved"], w["calls"], w["budget"]) for w in windows]

    def only_window(self, *, limit: Decimal | None = None) -> Totals:
        [totals] = self.check(limit=limit)
        return totals

    def entry(self, entry_id: UUID) -> DictRow:
        [row] = self.rows("SELECT * FROM ledger WHERE id = %s", entry_id)
        return row

    def threshold_events(self) -> list[str]:
        return [
            row["state"] for row in self.rows("SELECT state FROM budget_threshold_event ORDER BY crossed_at, state")
        ]


class Clock:
    """Stands before Postgres' own `clock_timestamp()` for every session that a database opens from now on."""

    def __init__(self, database_url: str, now: datetime) -> None:
        self._connection = psycopg.connect(database_url, autocommit=True)
        self._connection.execute("CREATE SCHEMA test_clock")
        self._connection.execute("CREATE TABLE test_clock.reading (at timestamptz NOT NULL)")
        self._connection.execute("INSERT INTO test_clock.reading VALUES (%s)", (now,))
        self._connection.execute("GRANT USAGE ON SCHEMA test_clock TO PUBLIC")
        self._connection.execute("GRANT SELECT ON test_clock.reading TO PUBLIC")
        self._connection.execute("""
            CREATE FUNCTION test_clock.clock_timestamp() RETURNS timestamptz
            LANGUAGE sql VOLATILE AS 'SELECT at FROM test_clock.reading'
        """)
        self._connection.execute(
            sql.SQL("ALTER DATABASE {} SET search_path = test_clock, public, pg_catalog").format(
                sql.Identifier(self._connection.info.dbname)
            )
        )
        self.now = now

    def set(self, now: datetime) -> None:
        self._connection.execute("UPDATE test_clock.reading SET at = %s", (now,))
        self.now = now

    def advance(self, *, seconds: float) -> None:
        self.set(self.now + timedelta(seconds=seconds))

    def close(self) -> None:
        self._connection.close()


class Events(logging.Handler):
    """Every event that was logged, in order, by name and fields."""

    def __init__(self) -> None:
        super().__init__()
        self.logged: list[tuple[str, Mapping[str, Any]]] = []

    def emit(self, record: logging.LogRecord) -> None:
        passed_as = {name: logs._PASSED_AS.get(name, name) for name in ("request_id", *logs._FIELDS)}
        fields = {name: getattr(record, key) for name, key in passed_as.items() if hasattr(record, key)}
        self.logged.append((record.getMessage(), fields))

    def count(self) -> Counter[str]:
        return Counter(name for name, _ in self.logged)

    def of(self, name: str) -> list[Mapping[str, Any]]:
        return [fields for logged, fields in self.logged if logged == name]


def a_call(
    request_id: str = "request-1",
    *,
    tier: str | None = "sota",
    key_id: str | None = None,
    user: str | None = None,
    sees_budgets: bool = False,
) -> Call:
    return Call(request_id, "chat", tier, key_id, user, sees_budgets=sees_budgets)


def candidate(bound: str | Decimal, provider: str = "openai", model: str = "gpt", *, tokens: int = 0) -> Candidate:
    return Candidate(provider, model, Decimal(bound), tokens)


def _ended(
    mode: SettlementMode,
    outcome: str,
    reservation: Reservation,
    cost: str | Decimal | None = None,
    *,
    health_update: HealthUpdate | None = None,
) -> Settlement:
    counts = TokenCounts(10, 20) if mode == "actual" else None
    paid = None if cost is None else Decimal(cost)
    return Settlement(reservation, mode, outcome, cost=paid, counts=counts, health_update=health_update)


settled = partial(_ended, "actual", "success")
at_bound = partial(_ended, "bound", "read_timeout")
released = partial(_ended, "release", "connect_failed")


def wait_for_a_lock(books: Books, *, waiting: int = 1) -> None:
    """Return once so many sessions wait for a lock."""
    deadline = datetime.now(UTC) + timedelta(seconds=10)
    while waiting > len(
        books.rows("SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()")
    ):
        assert datetime.now(UTC) < deadline, "nobody waits for a lock"


def wait_for_tickets(books: Books, tickets: int) -> None:
    """Return once so many calls wait for room."""
    deadline = datetime.now(UTC) + timedelta(seconds=10)
    while books.rows("SELECT count(*) AS calls FROM admission_wait")[0]["calls"] != tickets:
        assert datetime.now(UTC) < deadline
        sleep(0.01)
