"""What is booked by hand: one more entry of the ledger, in every sum, under the window's lock."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from itertools import count
from uuid import UUID

import pytest

from fusewire.budget.adjustments import Adjustments
from fusewire.budget.audit_context import AuditContext
from fusewire.budget.ledger import Ledger
from fusewire.errors import BudgetExceededError, InvalidRequestError
from fusewire.store.db import Database
from tests.conftest import CoreFactory
from tests.integration.budget.books import Books, Clock, Events, a_call, candidate, settled
from tests.integration.budget.conftest import OpenLedger
from tests.integration.budget.keys import Keys

ADMIN = AuditContext("key_boss", "192.0.2.7", "request-of-the-admin")
_calls = count(1)


OpenAdjustments = Callable[[str], Adjustments]


@pytest.fixture
def open_adjustments(core: CoreFactory) -> Iterator[OpenAdjustments]:
    databases: list[Database] = []

    def make(budget: str) -> Adjustments:
        settings = core.settings(AI_MONTHLY_BUDGET_USD=budget, DATABASE_URL=core.database_url)
        databases.append(Database(settings.database_url))
        return Adjustments(databases[-1], settings)

    yield make
    for database in databases:
        database.close()


@pytest.fixture
def adjustments(open_adjustments: OpenAdjustments) -> Adjustments:
    """Of a budget of 1 USD; for every session opened after a clock, name the clock first."""
    return open_adjustments("1")


def spend(ledger: Ledger, amount: str) -> None:
    reservation = ledger.reserve(a_call(f"request-{next(_calls)}"), [candidate(amount)])
    ledger.settle(settled(reservation, amount))


def test_an_adjustment_is_in_every_sum_and_is_no_request(
    open_ledger: OpenLedger, adjustments: Adjustments, books: Books
) -> None:
    ledger = open_ledger()
    spend(ledger, "0.1")
    done = adjustments.book(Decimal("0.200000000003"), "invoice 4711", None, ADMIN)
    assert done.budget.window.spent == Decimal("0.300000000003")
    assert done.budget.window.request_count == 1
    assert books.only_window().spent == Decimal("0.300000000003")
    _, by_provider, by_model, *_ = ledger.budget()
    assert by_provider == {"openai": Decimal("0.1"), "adjustment": Decimal("0.200000000003")}
    assert by_model["adjustment/adjustment"] == Decimal("0.200000000003")
    [row] = adjustments.list(before=None, limit=10)
    assert row == done.adjustment
    assert (row["amount"], row["reason"], row["actor"]) == (Decimal("0.200000000003"), "invoice 4711", "key_boss")


def test_it_is_audited_in_its_own_transaction(adjustments: Adjustments, books: Books, events: Events) -> None:
    done = adjustments.book(Decimal("0.5"), "restored from Tuesday", None, ADMIN)
    [entry] = books.rows("SELECT * FROM audit")
    assert (entry["actor"], entry["action"], entry["source_ip"]) == ("key_boss", "budget.adjusted", "192.0.2.7")
    assert (entry["before"]["spent"], entry["after"]["spent"]) == (0, 0.5)
    assert entry["after"]["adjustment"]["id"] == done.adjustment["id"]
    assert entry["after"]["adjustment"]["reason"] == "restored from Tuesday"
    [line] = events.of("audit")
    assert (line["action"], line["cost_usd"]) == ("budget.adjusted", Decimal("0.5"))


def test_sent_twice_it_books_once_and_tells_its_threshold_again(adjustments: Adjustments, books: Books) -> None:
    from fusewire.budget import adjustments as module

    argument: module.AdjustArgument = {
        "settings": adjustments._settings,
        "id": "01939f00-0000-7000-8000-000000000001",
        "amount": Decimal("0.8"),
        "reason": "invoice",
        "window_id": None,
        "audit_context": ADMIN.argument(),
    }
    first = adjustments._database.call(module._ADJUST, argument)
    again = adjustments._database.call(module._ADJUST, argument)
    assert first == again
    assert [event["state"] for event in again["threshold_events"] or ()] == ["HALF_OPEN"]
    assert books.only_window().spent == Decimal("0.8")
    assert len(books.rows("SELECT FROM audit")) == 1


def test_it_opens_the_breaker_once_and_one_that_takes_back_closes_it(
    open_ledger: OpenLedger, adjustments: Adjustments, books: Books, events: Events
) -> None:
    ledger = open_ledger()
    assert adjustments.book(Decimal("0.96"), "invoice", None, ADMIN).budget.state == "OPEN"
    assert events.count()["circuit_breaker.opened"] == 1
    with pytest.raises(BudgetExceededError):
        ledger.reserve(a_call(), [candidate("0.01")])
    assert adjustments.book(Decimal("-0.9"), "a credit note", None, ADMIN).budget.state == "CLOSED"
    spend(ledger, "0.01")
    assert events.count()["circuit_breaker.opened"] == 1
    assert books.threshold_events() == ["HALF_OPEN", "OPEN"]
    assert books.only_window().spent == Decimal("0.07")


def test_it_may_book_beyond_the_limit_because_the_money_is_spent(adjustments: Adjustments, books: Books) -> None:
    assert adjustments.book(Decimal("7"), "invoice", None, ADMIN).budget.state == "OPEN"
    assert books.only_window().spent == 7


def test_it_takes_back_what_is_spent_and_no_more(
    open_ledger: OpenLedger, adjustments: Adjustments, books: Books
) -> None:
    spend(open_ledger(), "0.3")
    with pytest.raises(InvalidRequestError, match=r"0\.3 USD are spent") as refused:
        adjustments.book(Decimal("-0.300000000001"), "too much", None, ADMIN)
    assert refused.value.param == "amount_usd"
    assert adjustments.list(before=None, limit=10) == []
    adjustments.book(Decimal("-0.3"), "all of it", None, ADMIN)
    assert books.only_window().spent == 0


def test_a_closed_window_is_adjusted_by_its_id_and_crosses_nothing(
    open_ledger: OpenLedger, adjustments: Adjustments, books: Books
) -> None:
    ledger = open_ledger()
    spend(ledger, "0.1")
    closed, opened = ledger.reset(actor="test", source_ip=None, request_id="reset", reason=None)
    done = adjustments.book(Decimal("0.9"), "October's invoice", closed.id, ADMIN)
    assert (done.budget.window.id, done.budget.window.spent) == (closed.id, Decimal(1))
    assert books.threshold_events() == []
    assert [w.spent for w in books.check()] == [1, 0]
    assert ledger.budget()[0].window.id == opened.id
    [row] = adjustments.list(before=None, limit=1, window_id=closed.id)
    assert adjustments.list(before=UUID(row["id"]), limit=1) == []
    assert adjustments.list(before=None, limit=1, window_id=opened.id) == []


def test_a_keys_window_and_one_that_is_not_there_are_refused_by_name(
    open_ledger: OpenLedger, adjustments: Adjustments, keys: Keys, books: Books
) -> None:
    key = keys.make(budget="1")
    ledger = open_ledger()
    ledger.settle(settled(ledger.reserve(a_call(key_id=key), [candidate("0.1")]), "0.1"))
    [of_key] = [w.id for w in books.check() if w.budget == key]
    for id in (of_key, 4711):
        with pytest.raises(InvalidRequestError, match=f"no window {id}") as refused:
            adjustments.book(Decimal(1), "invoice", id, ADMIN)
        assert refused.value.param == "window_id"
    adjustments.book(Decimal("0.5"), "invoice", None, ADMIN)
    assert [(w.budget, w.spent) for w in books.check()] == [("global", Decimal("0.6")), (key, Decimal("0.1"))]


def test_an_archived_window_is_refused(
    open_ledger: OpenLedger, adjustments: Adjustments, database_url: str, books: Books
) -> None:
    ledger = open_ledger()
    spend(ledger, "0.1")
    closed, _ = ledger.reset(actor="test", source_ip=None, request_id="reset", reason=None)
    books.rows("UPDATE budget_window SET archived_at = now() WHERE id = %s RETURNING id", closed.id)
    with pytest.raises(InvalidRequestError, match="archived"):
        adjustments.book(Decimal(1), "invoice", closed.id, ADMIN)


def test_what_slots_hold_counts_as_spent(open_ledger: OpenLedger, adjustments: Adjustments, books: Books) -> None:
    ledger = open_ledger(AI_MONTHLY_BUDGET_USD="100", AI_LEDGER_SLOTS="4")
    for _ in range(5):
        spend(ledger, "0.01")
    assert books.rows("SELECT FROM budget_slot WHERE spent > 0")
    adjustments.book(Decimal("-0.05"), "a credit note", None, ADMIN)
    assert books.only_window().spent == 0


def test_the_forecast_takes_it_as_spent_and_not_as_a_days_habit(
    clock: Clock, open_ledger: OpenLedger, open_adjustments: OpenAdjustments
) -> None:
    adjustments = open_adjustments("1000")
    ledger = open_ledger(AI_MONTHLY_BUDGET_USD="1000")
    spend(ledger, "1")
    clock.advance(seconds=timedelta(days=2).total_seconds())
    adjustments.book(Decimal(100), "invoice", None, ADMIN)
    budget, _, _, days, _ = ledger.budget()
    assert budget.window.spent == 101
    assert days.days == {clock.now.date() - timedelta(days=2): 1}


def test_a_late_correction_of_what_was_taken_back_by_hand_leaves_the_books_equal(
    clock: Clock, open_ledger: OpenLedger, adjustments: Adjustments, books: Books
) -> None:
    """It expired, was booked at its bound, and an invoice took all of it back before its caller came to settle it."""
    ledger = open_ledger(AI_RESERVATION_TTL_SECONDS="10")
    reservation = ledger.reserve(a_call(), [candidate("0.5")])
    clock.advance(seconds=11)
    assert ledger.budget()[0].window.spent == Decimal("0.5")
    adjustments.book(Decimal("-0.5"), "the vendor billed nothing", None, ADMIN)
    assert ledger.settle(settled(reservation, "0.2")).cost == Decimal("0.5")
    assert books.only_window().spent == 0


@pytest.mark.usefixtures("patience")
def test_beside_settlements_no_cent_is_lost_and_each_threshold_is_told_once(
    open_ledger: OpenLedger, open_adjustments: OpenAdjustments, books: Books, events: Events
) -> None:
    """8 callers settle 20 calls each while 4 administrators book, up and down."""
    ledgers = [open_ledger(AI_MONTHLY_BUDGET_USD="10") for _ in range(8)]
    admins = [open_adjustments("10") for _ in range(4)]

    def call(ledger: Ledger) -> None:
        for _ in range(20):
            spend(ledger, "0.01")

    def adjust(admin: Adjustments) -> None:
        for amount in ("0.9", "-0.3", "-0.1") * 3:
            admin.book(Decimal(amount), "at once", None, ADMIN)

    with ThreadPoolExecutor(12) as pool:
        done = [pool.submit(adjust, admin) for admin in admins]
        done += [pool.submit(call, ledger) for ledger in ledgers]
        for each in done:
            each.result()
    assert books.only_window().spent == Decimal("7.6")  # 8 x 20 x 0.01 and 4 x 3 x 0.5
    assert events.count()["circuit_breaker.alert"] == len(books.threshold_events())
