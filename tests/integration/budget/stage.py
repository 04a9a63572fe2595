"""Sessions on one database that are held where they are.

Everything is put back between two cases by one statement, so that thousands take minutes.
"""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from decimal import Decimal
from typing import Final, LiteralString

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow
from psycopg.types.json import set_json_loads

from fusewire.json import dumps, loads
from tests.integration.budget.books import Books
from tests.integration.budget.conftest import make_every_budget_busy
from tests.integration.budget.keys import Keys
from tests.integration.budget.outcome import (
    BOOKS,
    BROKEN,
    Answer,
    Outcome,
    check_end,
    comparable,
    placed,
    recorded,
)
from tests.integration.budget.statements import CALLS, KEY, LIMIT, NOW, Start, Statement
from tests.support.patience import PATIENCE_SECONDS

Connection = psycopg.Connection[TupleRow]
RequestModel = tuple[int, Statement]
"""Which session asks what."""

Row = tuple[str, str]
"""A table, and what the row holds."""

TABLES: Final[Sequence[LiteralString]] = (
    "api_key",
    "budget_node",
    "admission_wait",
    "output_size",
    "budget_window",
    "budget_threshold_event",
    "budget_slot",
    "ledger",
    "usage_rollup",
    "provider_health",
    "vendor_refusal",
    "input_allowance",
    "audit",
    "audit_head",
    "settings_snapshot",
    "budget_limit",
)

_CLOCKS: Final = """
    CREATE SCHEMA test_clock;
    CREATE FUNCTION test_clock.clock_timestamp() RETURNS timestamptz
    LANGUAGE sql VOLATILE AS $$ SELECT current_setting('test.now')::timestamptz $$
"""


def own_clocks(database_url: str) -> None:
    """Every session that is opened from now on lives at the time that its statements name."""
    with psycopg.connect(database_url, autocommit=True) as owner:
        owner.execute(_CLOCKS)
        owner.execute(
            sql.SQL("ALTER DATABASE {} SET search_path = test_clock, public, pg_catalog").format(
                sql.Identifier(owner.info.dbname)
            )
        )


class Stage:
    """A database in one state, and the sessions that meet there. Sessions are numbered from 1."""

    def __init__(self, database_url: str, start: Start) -> None:
        self.start = start
        self._url = database_url
        own_clocks(database_url)
        if start.is_busy:
            make_every_budget_busy(database_url)
        self._owner = psycopg.connect(database_url, autocommit=True)
        self._keys = Keys(database_url)
        for node_id, parent, limit, period in start.nodes:
            self._keys.make_node(node_id, parent=parent, limit=limit, period=period)
        self._keys.make(KEY, **(start.key or {}))
        self._owner.execute("SET session_replication_role = replica")  # putting back checks no foreign keys
        self._onlooker = psycopg.connect(database_url, autocommit=True)
        set_json_loads(loads, self._onlooker)
        self._books = Books(database_url)
        self._sessions = {number: self._seated(seat) for number, seat in enumerate(start.seats, 1)}
        self._holder = psycopg.connect(database_url)
        self._pool = ThreadPoolExecutor(len(self._sessions))
        self._remember()
        self._restored = 0
        self._before = recorded(self.outcome({}).books["threshold_events"])

    def close(self) -> None:
        self._pool.shutdown()
        self._keys.close()
        self._books.close()
        for connection in (self._owner, self._onlooker, self._holder, *self._sessions.values()):
            connection.close()

    def restore(self) -> None:
        """As it was in the beginning."""
        self._owner.execute("SELECT beginning.put_back()")
        self._restored += 1
        if self._restored % 200 == 0:
            self._owner.execute("VACUUM (TRUNCATE off)")

    def ask(self, number: int, statement: Statement) -> Answer:
        argument = statement.argument(number, self.start.slots[number - 1])
        now = (self.start.now + statement.after).isoformat()
        try:
            row = self._sessions[number].execute(CALLS[statement.function], (now, dumps(argument))).fetchone()
        except psycopg.Error as error:  # a deadlock, or sums that the tables' own checks refuse
            raise AssertionError(f"{statement.name}: {error}") from error
        assert row is not None
        return {} if row[1] is None else row[1]  # no such node

    def asking(self, number: int, statement: Statement) -> "Future[Answer]":
        """The same in the background; returns when it has ended or waits for another session's lock."""
        future = self._pool.submit(self.ask, number, statement)
        pid = self._sessions[number].info.backend_pid
        deadline = time.monotonic() + PATIENCE_SECONDS
        while wait([future], timeout=0.001).not_done and not self._waits(pid):
            assert time.monotonic() < deadline, "it neither ends nor waits for a lock"
        return future

    @contextmanager
    def held(self, number: int) -> Iterator[Connection]:
        """A transaction of this session's, to commit or roll back."""
        session = self._sessions[number]
        session.autocommit = False
        try:
            yield session
        finally:
            session.rollback()
            session.autocommit = True

    @contextmanager
    def locked(self, row: Row) -> Iterator[None]:
        """A row that another session has locked, as everybody locks who changes it."""
        table, content = row
        found = self._holder.execute(
            sql.SQL("SELECT 1 FROM {} r WHERE to_jsonb(r)::text = %s FOR NO KEY UPDATE").format(sql.Identifier(table)),
            (content,),
        ).fetchall()
        assert len(found) == 1
        try:
            yield
        finally:
            self._holder.rollback()

    @contextmanager
    def older_windows_locked(self) -> Iterator[None]:
        self._holder.execute(
            "SELECT 1 FROM budget_window WHERE budget = 'global' AND closed_at IS NOT NULL FOR NO KEY UPDATE"
        )
        try:
            yield
        finally:
            self._holder.rollback()

    def rows(self) -> list[Row]:
        """Every row that a statement may have to wait for, as it is in the beginning."""
        self.restore()
        return [
            (table, content)
            for table in TABLES
            if table not in ("audit", "budget_threshold_event", "settings_snapshot")
            for (content,) in self._onlooker.execute(
                sql.SQL("SELECT to_jsonb(r)::text FROM {} r ORDER BY 1").format(sql.Identifier(table))
            ).fetchall()
        ]

    def outcome(self, row: Mapping[int, Answer]) -> Outcome:
        [(books,)] = self._onlooker.execute(BOOKS).fetchall()
        answers = {
            number: comparable(answer, max(self.start.slots), each=self.start.is_busy) for number, answer in row.items()
        }
        # Where in a window its money lies, and where the next sweep begins, is nobody's business but the ledger's.
        del books["slots"]
        for window in books["windows"] or ():
            del window["expired_until"]
        made = placed(books, books)
        if any("written" in answer for answer in row.values()):
            # The ledger reads keys without a lock: a change may be audited before what was decided by the key that was.
            # By places, not by ids: as text, 1000 comes before 999.
            made["audit"] = sorted(({**entry, "n": None} for entry in made["audit"]), key=dumps)
        return Outcome(placed(answers, books), made)

    def check(self, outcome: Outcome, asked: Sequence[RequestModel]) -> None:
        """The rules that hold whatever happened."""
        overbilled = sum((statement.overbills for _, statement in asked), Decimal(0))
        limits = {budget: limit + overbilled for budget, limit in self.start.limits.items()}
        self._books.check(limit=LIMIT + overbilled, keys=limits)
        broken = self._onlooker.execute(BROKEN).fetchall()
        assert broken == []
        result = outcome.threshold_events()
        crossed = recorded(outcome.books["threshold_events"]) - self._before
        if any(statement.resent for _, statement in asked):
            result = Counter(set(result))
        assert result == crossed, "each threshold event is told once"
        for number, statement in asked:
            check_end(
                statement.fields(number).get("settlement"), outcome.result[number], outcome.books["entries"] or ()
            )

    # --- below: putting back, and making comparable ---

    def _seated(self, seat: int) -> Connection:
        """A session that falls to this one of two slots: which one follows from its process id."""
        skipped = []
        while True:
            session = psycopg.connect(self._url, autocommit=True)
            if 1 + session.info.backend_pid % 2 == seat:
                break
            skipped.append(session)
        for other in skipped:
            other.close()
        set_json_loads(loads, session)
        session.execute("SET deadlock_timeout = '20ms'")
        return session

    def _remember(self) -> None:
        """Let the history happen, and keep what it left."""
        seats = {seat: self._seated(seat) for seat in (1, 2)}
        for step in self.start.history:
            argument = step.statement.argument(0, step.slots)
            seats[step.seat].execute(CALLS[step.statement.function], ((NOW - step.ago).isoformat(), dumps(argument)))
        for session in seats.values():
            session.close()
        if self.start.is_busy:
            in_slots = "SELECT FROM ledger WHERE cardinality(slotted_window_ids) = 3"  # the key's, and the two nodes'
            assert self._owner.execute(in_slots).fetchall(), "nothing was reserved in slots of each"
        self._owner.execute("CREATE SCHEMA beginning")
        statements = []
        for table in TABLES:
            name, kept = sql.Identifier("public", table), sql.Identifier("beginning", table)
            self._owner.execute(sql.SQL("CREATE TABLE {} AS TABLE {}").format(kept, name))
            # It may lock a table to cut it short, and then somebody waits for it.
            self._owner.execute(sql.SQL("ALTER TABLE {} SET (autovacuum_enabled = off)").format(name))
            statements.append(
                sql.SQL("DELETE FROM {}; INSERT INTO {} OVERRIDING SYSTEM VALUE SELECT * FROM {};").format(
                    name, name, kept
                )
            )
        self._owner.execute(
            sql.SQL("CREATE FUNCTION beginning.put_back() RETURNS void LANGUAGE plpgsql AS $$ BEGIN {} END $$").format(
                sql.SQL(" ").join(statements)
            )
        )

    def _waits(self, pid: int) -> bool:
        row = self._onlooker.execute("SELECT cardinality(pg_blocking_pids(%s)) > 0", (pid,)).fetchone()
        return row is not None and bool(row[0])
