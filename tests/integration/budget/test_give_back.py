"""What a call can't cost any more is given back while it goes on: in each of its budgets, and never more than that."""

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from uuid import uuid4

import psycopg
import pytest

from fusewire.budget.admission import Waiting
from fusewire.budget.ledger import Ledger
from fusewire.budget.nodes import Nodes
from fusewire.budget.reservation import Reservation
from fusewire.budget.wire import GIVE_BACK, GiveBackArgument, sql_settings
from fusewire.errors import BudgetExceededError, BudgetReservedError
from fusewire.json import dumps
from fusewire.store.db import Database
from tests.conftest import CoreFactory
from tests.integration.budget.books import (
    ZERO,
    Books,
    Clock,
    a_call,
    at_bound,
    candidate,
    released,
    settled,
    wait_for_a_lock,
    wait_for_tickets,
)
from tests.integration.budget.conftest import OpenLedger
from tests.integration.budget.keys import Keys
from tests.integration.budget.test_concurrency import all_at_once
from tests.integration.budget.test_tree import ADMIN, SLOTS
from tests.support.patience import PATIENCE_SECONDS

LIMIT = Decimal(1)

GiveBack = Callable[[Reservation, str], None]


@pytest.fixture
def give_back(core: CoreFactory) -> Iterator[GiveBack]:
    """Done, and not only sent."""
    settings = core.settings(AI_MONTHLY_BUDGET_USD="1", DATABASE_URL=core.database_url)
    database = Database(settings.database_url)

    def call(reservation: Reservation, bound: str) -> None:
        argument: GiveBackArgument = {
            "settings": sql_settings(settings),
            "id": str(reservation.id),
            "bound": Decimal(bound),
            "tokens": 40,
        }
        database.call(GIVE_BACK, argument)

    yield call
    database.close()


def reserved(books: Books) -> list[Decimal]:
    return [window.reserved for window in books.check(limit=LIMIT)]


def test_a_slot_that_is_reclaimed_meanwhile_holds_up_nobody(
    open_ledger: OpenLedger, core: CoreFactory, books: Books, give_back: GiveBack, database_url: str
) -> None:
    """Who has waited for it has its lock, found or not, and may not keep it while the queue is waited for."""
    ledger, beside = open_ledger(AI_LEDGER_SLOTS="4"), open_ledger(AI_LEDGER_SLOTS="1")
    ledger.settle(released(ledger.reserve(a_call(), [candidate("0.01")])))
    held = ledger.reserve(a_call(), [candidate("0.1", tokens=90)])
    assert books.entry(held.id)["slot"] is not None
    settings = sql_settings(core.settings(AI_LEDGER_SLOTS="1", AI_MONTHLY_BUDGET_USD="1"))
    entry = {"id": str(uuid4()), "request_id": "r", "attempt": 1, "operation": "chat", "tier": None, "key_id": None}
    candidates = [{"provider": "openai", "model": "m", "bound": Decimal("0.01"), "tokens": 1}]
    argument = {"settings": settings, "entry": entry, "candidates": candidates, "probe_seconds": 30}
    with psycopg.connect(database_url) as other, ThreadPoolExecutor(2) as pool:
        other.execute("SELECT ledger_reserve(%s::jsonb)", (dumps(argument),))
        giving = pool.submit(give_back, held, "0.04")
        wait_for_a_lock(books)
        reserving = pool.submit(beside.reserve, a_call(), [candidate("0.01")])
        wait_for_a_lock(books, waiting=2)
        other.execute("UPDATE budget_slot SET allocated = 0.2")  # as if it had allocated them anew
        other.commit()
        giving.result(timeout=PATIENCE_SECONDS)
        reserving.result(timeout=PATIENCE_SECONDS)
    assert books.entry(held.id)["bound"] == Decimal("0.04")
    assert reserved(books) == [Decimal("0.06")]


@SLOTS
def test_it_is_free_in_every_budget_of_the_call(
    open_ledger: OpenLedger, books: Books, keys: Keys, nodes: Nodes, slots: str
) -> None:
    key = keys.make(node=nodes.create({"name": "team", "period": "month"}, ADMIN).id, tokens=100)
    ledger = open_ledger(AI_LEDGER_SLOTS=slots)
    ledger.settle(released(ledger.reserve(a_call(key_id=key), [candidate("0.01")])))  # has its slots allocated
    held = ledger.reserve(a_call(key_id=key), [candidate("0.1", tokens=90)])
    assert (books.entry(held.id)["slot"] is not None) is (slots != "1")
    ledger.give_back(held, Decimal("0.04"), 40)
    ledger.prices()  # takes the answer first
    assert reserved(books) == [Decimal("0.04")] * 3
    assert books.entry(held.id)["bound"] == Decimal("0.04")
    more = ledger.reserve(a_call(key_id=key), [candidate("0.1", tokens=60)])  # of the key's 100 tokens a minute
    for each in (held, more):
        ledger.settle(settled(each, "0.03"))
    assert {(window.spent, window.reserved) for window in books.check(limit=LIMIT)} == {(Decimal("0.06"), ZERO)}


def test_it_never_raises_what_is_held(open_ledger: OpenLedger, books: Books, give_back: GiveBack) -> None:
    held = open_ledger().reserve(a_call(), [candidate("0.5")])
    for bound in ("0.4", "0.4", "0.6"):
        give_back(held, bound)
    assert reserved(books) == [Decimal("0.4")]


def test_what_has_ended_stays_as_it_is(open_ledger: OpenLedger, books: Books, give_back: GiveBack) -> None:
    ledger = open_ledger()
    ledger.reserve(a_call("beside"), [candidate("0.4")])
    for end in (
        settled(ledger.reserve(a_call(), [candidate("0.2")]), "0.1"),
        at_bound(ledger.reserve(a_call(), [candidate("0.2")])),
    ):
        ledger.settle(end)
        give_back(end.reservation, "0.05")
    [window] = books.check(limit=LIMIT)
    assert (window.spent, window.reserved) == (Decimal("0.3"), Decimal("0.4"))


def test_a_caller_that_dies_after_it_costs_what_it_still_held(
    open_ledger: OpenLedger, books: Books, give_back: GiveBack, clock: Clock
) -> None:
    ledger = open_ledger()
    give_back(ledger.reserve(a_call(), [candidate("0.5")]), "0.2")
    clock.advance(seconds=3600)
    ledger.budget()
    [window] = books.check(limit=LIMIT)
    assert (window.spent, window.reserved) == (Decimal("0.2"), ZERO)


def test_a_little_is_given_back_where_somebody_waits_for_it_alone(
    open_ledger: OpenLedger, books: Books, give_back: GiveBack
) -> None:
    ledger = open_ledger()
    small = ledger.reserve(a_call("small"), [candidate("0.006")])
    give_back(small, "0.001")  # less than a hundredth of the room
    assert reserved(books) == [Decimal("0.006")]
    ledger.reserve(a_call("large"), [candidate("0.5")])
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(
            open_ledger().reserve, a_call("waits"), [candidate("0.495")], waiting=Waiting(PATIENCE_SECONDS, 9)
        )
        wait_for_tickets(books, 1)
        give_back(small, "0.001")
        waiting.result(timeout=PATIENCE_SECONDS)
    assert reserved(books) == [Decimal("0.996")]


def test_a_settlement_that_came_meanwhile_books_what_is_held_then(
    open_ledger: OpenLedger, books: Books, database_url: str
) -> None:
    """Of a connection that was given up with the statement still under way in Postgres."""
    ledger, other = open_ledger(AI_LEDGER_SLOTS="2"), open_ledger(AI_LEDGER_SLOTS="2")
    ledger.settle(released(ledger.reserve(a_call(), [candidate("0.01")])))
    held, beside = (ledger.reserve(a_call(), [candidate("0.1")]) for _ in range(2))  # in one slot
    with psycopg.connect(database_url) as holder, ThreadPoolExecutor(1) as pool:
        holder.execute("SELECT 1 FROM budget_slot FOR UPDATE")
        ledger.give_back(held, Decimal("0.04"), 0)
        wait_for_a_lock(books)
        ends = pool.submit(other.settle, settled(held, "0.03"))
        wait_for_a_lock(books, waiting=2)
        holder.rollback()
        assert ends.result(timeout=PATIENCE_SECONDS).cost == Decimal("0.03")
    ledger.settle(released(beside))
    assert books.only_window(limit=LIMIT).spent == Decimal("0.03")


@pytest.mark.usefixtures("patience")
@SLOTS
def test_at_any_moment_the_sums_agree(
    open_ledger: OpenLedger, books: Books, keys: Keys, nodes: Nodes, slots: str
) -> None:
    node = nodes.create({"name": "team", "limit_usd": Decimal("0.7"), "period": "month"}, ADMIN).id
    own = [keys.make(f"key-{number}", node=node, budget="0.5") for number in range(2)]

    def work(ledger: Ledger, seed: int) -> None:
        dice = random.Random(seed)  # noqa: S311 - the same calls in every run
        for number in range(12):
            bound = Decimal(dice.randint(20, 120)).scaleb(-3)
            try:
                held = ledger.reserve(a_call(f"{seed}-{number}", key_id=own[seed % 2]), [candidate(bound)])
            except (BudgetExceededError, BudgetReservedError):
                continue
            ledger.give_back(held, bound / 4, 0)
            ledger.settle(dice.choice((settled(held, bound / 8), at_bound(held), released(held))))

    limits = {node: Decimal("0.7"), **dict.fromkeys(own, Decimal("0.5"))}
    ledgers = [open_ledger(AI_LEDGER_SLOTS=slots) for _ in range(8)]
    observed = all_at_once(
        [lambda ledger=ledger, seed=seed: work(ledger, seed) for seed, ledger in enumerate(ledgers)],  # type: ignore[misc]
        lambda: books.check(limit=LIMIT, keys=limits),
    )
    assert observed > 0
    assert reserved(books) == [0] * 4
