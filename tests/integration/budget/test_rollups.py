"""What a statement costs follows days and models, never calls: pages touched, counted by Postgres itself."""

from collections.abc import Iterator
from decimal import Decimal
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import TupleRow

from fusewire.budget.wire import SettingsArgument, sql_settings
from fusewire.json import dumps
from tests.conftest import CoreFactory
from tests.integration.budget.books import ZERO, Books, a_call, candidate, released, settled
from tests.integration.budget.conftest import OpenLedger

CALLS = 50_000
A_HANDFUL = 20
"""Pages by which a taller index may differ; reading the calls of one minute would take more."""


@pytest.fixture
def session(database_url: str) -> Iterator[psycopg.Connection[TupleRow]]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


class Cost:
    def __init__(self, session: psycopg.Connection[TupleRow], settings: SettingsArgument) -> None:
        self._session = session
        self._settings = settings

    def of(self, function: str, **argument: object) -> int:
        """Pages that a warm call of the function touches."""
        return min(self._pages(function, argument) for _ in range(3))

    def of_reserving(self) -> int:
        entry = {"request_id": "r", "attempt": 1, "operation": "chat", "tier": None, "key_id": None}
        choices = [{"provider": "openai", "model": "gpt", "bound": Decimal("0.01")}]
        return min(
            self._pages(
                "ledger_reserve",
                {"entry": entry | {"id": str(uuid4())}, "candidates": choices, "probe_seconds": 30},
            )
            for _ in range(3)
        )

    def _pages(self, function: str, argument: dict[str, object]) -> int:
        statement = sql.SQL("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT {}(%s::jsonb)").format(
            sql.Identifier(function)
        )
        row = self._session.execute(statement, (dumps({"settings": self._settings} | argument),)).fetchone()
        assert row is not None
        plan = row[0][0]["Plan"]
        return int(plan["Shared Hit Blocks"]) + int(plan["Shared Read Blocks"])


def a_month_of_calls(session: psycopg.Connection[TupleRow]) -> None:
    """Reserved and then settled, as calls are: what the reservations' index keeps of them is dead, and not vacuumed."""
    session.execute("ALTER TABLE ledger SET (autovacuum_enabled = false)")
    session.execute(
        """
        INSERT INTO ledger (id, window_id, request_id, attempt, operation, provider, model, tier, status, bound,
                            reserved_at, expires_at)
        SELECT gen_random_uuid(), w.id, 'r' || n, 1, 'chat', 'openai', 'gpt', 'sota', 'reserved', 0.00002,
               now() - interval '1 day' + n * interval '1 ms', now() - interval '1 day' + n * interval '1 ms'
        FROM generate_series(1, %s) n, budget_window w
        """,
        (CALLS,),
    )
    session.execute("""
        WITH booked AS (
            UPDATE ledger SET status = 'settled', cost = bound, cost_basis = 'actual', outcome = 'success',
                              ended_at = now(), day = expires_at::date
            WHERE status = 'reserved' AND expires_at < now() RETURNING *),
        rolled AS (
            INSERT INTO usage_rollup (window_id, day, provider, model, tier, key_id, cost, requests)
            SELECT window_id, day, provider, model, tier, '', sum(cost), count(*) FROM booked GROUP BY 1, 2, 3, 4, 5)
        UPDATE budget_window SET spent = spent + (SELECT sum(cost) FROM booked),
                                 request_count = request_count + (SELECT count(*) FROM booked)
    """)
    session.execute("ANALYZE")


def test_neither_the_budget_nor_a_call_costs_more_after_50_000_calls(
    open_ledger: OpenLedger, core: CoreFactory, session: psycopg.Connection[TupleRow], books: Books
) -> None:
    ledger = open_ledger(AI_MONTHLY_BUDGET_USD="1000")
    for _ in range(10):
        ledger.settle(settled(ledger.reserve(a_call(), [candidate("0.1")]), "0.1"))
    cost = Cost(session, sql_settings(core.settings(AI_MONTHLY_BUDGET_USD="1000")))
    cheap = {"budget": cost.of("ledger_budget"), "reserve": cost.of_reserving()}

    a_month_of_calls(session)

    assert cost.of("ledger_budget") <= cheap["budget"] + A_HANDFUL
    assert cost.of_reserving() <= cheap["reserve"] + A_HANDFUL
    budget, by_provider, by_model, *_ = ledger.budget()
    assert budget.window.request_count == CALLS + 10
    assert by_provider == {"openai": Decimal(2)}
    assert by_model == {"openai/gpt": Decimal(2)}
    books.check()


def test_the_sums_of_the_budget_are_the_ledgers(open_ledger: OpenLedger, books: Books) -> None:
    ledger = open_ledger()
    spent = {("azure", "gpt"): "0.1", ("azure", "mini"): "0.02", ("ollama", "smol"): "0", ("vllm", "smol"): "0.003"}
    for (provider, model), cost in spent.items():
        for _ in range(2):
            ledger.settle(settled(ledger.reserve(a_call(), [candidate("0.2", provider, model)]), cost))
        ledger.settle(released(ledger.reserve(a_call(), [candidate("0.2", provider, model)])))

    _, by_provider, by_model, *_ = ledger.budget()

    assert by_provider == {"azure": Decimal("0.24"), "ollama": ZERO, "vllm": Decimal("0.006")}
    assert by_model == {f"{p}/{m}": 2 * Decimal(cost) for (p, m), cost in spent.items()}
    rolled = books.rows("SELECT sum(requests) AS r, sum(input_tokens) AS i, sum(output_tokens) AS o FROM usage_rollup")
    assert rolled == [{"r": 8, "i": 80, "o": 160}]


def test_a_closed_windows_sums_are_not_the_open_ones(open_ledger: OpenLedger) -> None:
    ledger = open_ledger()
    ledger.settle(settled(ledger.reserve(a_call(), [candidate("0.1")]), "0.1"))
    ledger.reset(actor="admin", source_ip=None, request_id="reset-1", reason=None)
    assert ledger.budget()[1:3] == ({}, {})
