"""The ledger behind a pooler of transactions: many callers share a few of the server's sessions."""

import random
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from threading import Barrier

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from fusewire.budget.ledger import Ledger
from fusewire.errors import BudgetExceededError, BudgetReservedError
from fusewire.store.migrate import available, functions, migrate
from tests.integration.budget.books import ZERO, Books, a_call, at_bound, candidate, released, settled
from tests.integration.budget.conftest import OpenLedger
from tests.support.pgbouncer import PGBOUNCER, transaction_pooling

CALLERS = 16
SESSIONS = 4
LIMIT = Decimal(1)

pytestmark = pytest.mark.skipif(PGBOUNCER is None, reason="no pgbouncer (apt-get install pgbouncer)")


@pytest.mark.parametrize("slots", ["1", "8"])
def test_books_are_exact_and_the_limit_holds(
    open_ledger: OpenLedger, database_url: str, books: Books, slots: str
) -> None:
    app = make_conninfo(database_url, user="fusewire_app")
    with psycopg.connect(database_url, autocommit=True) as owner:
        owner.execute("ALTER ROLE fusewire_app LOGIN")
    begun = Barrier(CALLERS)

    def work(number: int, ledger: Ledger) -> Decimal:
        made, spent = random.Random(number), ZERO  # noqa: S311 - repeatable, no secret
        begun.wait()
        for _ in range(25):
            bound = Decimal(made.randint(1, 90)) / 10_000
            try:
                held = ledger.reserve(a_call(), [candidate(str(bound))])
            except (BudgetExceededError, BudgetReservedError):
                continue
            cost = bound * made.randint(0, 10) / 10
            settlement = made.choice((settled(held, str(cost)), at_bound(held), released(held)))
            ledger.settle(settlement)
            spent += {"actual": cost, "bound": bound}.get(settlement.mode, ZERO)
        return spent

    with transaction_pooling(app, SESSIONS) as pooled, ThreadPoolExecutor(CALLERS) as pool:
        ledgers = [open_ledger(pooled, AI_LEDGER_SLOTS=slots) for _ in range(CALLERS)]
        working = [pool.submit(work, number, ledger) for number, ledger in enumerate(ledgers)]
        sessions = set()
        while not all(job.done() for job in working):
            books.check(limit=LIMIT)
            for row in books.rows("SELECT pid FROM pg_stat_activity WHERE usename = 'fusewire_app'"):
                sessions.add(row["pid"])
        spent = sum((job.result() for job in working), ZERO)
    window = books.only_window(limit=LIMIT)
    assert (window.spent, window.reserved) == (spent, ZERO)
    assert window.spent > Decimal("0.9")
    assert 1 < len(sessions) <= SESSIONS
    if slots != "1":
        assert len(books.rows("SELECT FROM budget_slot WHERE spent > 0 OR epoch > 1")) == int(slots)


def test_two_that_migrate_at_once_by_way_of_it(postgres: str, database_url: str) -> None:
    name = "fusewire_pooled"
    with psycopg.connect(database_url, autocommit=True) as owner:
        owner.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
        owner.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            with transaction_pooling(make_conninfo(postgres, dbname=name), 2) as pooled, ThreadPoolExecutor(2) as pool:
                done = [name for applied in pool.map(migrate, [pooled, pooled]) for name in applied]
            assert sorted(done) == sorted([*(name for name, _ in available()), f"functions {functions().version}"])
        finally:
            owner.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
