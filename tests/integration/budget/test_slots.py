"""Slots: many rows instead of one hot one, and the cap as hard as before."""

import random
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from threading import Barrier

import psycopg
import pytest

from fusewire.budget.ledger import Ledger
from fusewire.budget.reservation import Call
from fusewire.budget.wire import sql_settings
from fusewire.errors import BudgetExceededError, BudgetReservedError
from fusewire.json import dumps
from tests.conftest import CoreFactory
from tests.integration.budget.books import (
    ZERO,
    Books,
    Clock,
    Events,
    a_call,
    at_bound,
    candidate,
    released,
    settled,
    wait_for_a_lock,
)
from tests.integration.budget.conftest import OpenLedger
from tests.support.patience import PATIENCE_SECONDS

LIMIT = Decimal(1)
SLOTS = 4


@pytest.fixture
def ledger(open_ledger: OpenLedger) -> Ledger:
    """Introduced and allocated: its next calls go to a slot."""
    made = open_ledger(AI_LEDGER_SLOTS=str(SLOTS))
    made.settle(released(made.reserve(a_call("first"), [candidate("0.001")])))
    made.settle(released(made.reserve(a_call("second"), [candidate("0.001")])))
    return made


def in_slots(books: Books) -> int:
    return len(books.rows("SELECT FROM ledger WHERE slot IS NOT NULL"))


def allocated(books: Books) -> Decimal:
    [row] = books.rows("SELECT COALESCE(sum(allocated), 0) AS sum FROM budget_slot")
    return Decimal(row["sum"])


def test_a_call_that_fits_its_slot_leaves_the_windows_row_alone(ledger: Ledger, books: Books) -> None:
    before = books.rows("SELECT xmin::text, ctid::text FROM budget_window")
    held = ledger.reserve(a_call(), [candidate("0.01")])
    booked = ledger.settle(settled(held, "0.004"))
    assert books.rows("SELECT xmin::text, ctid::text FROM budget_window") == before
    assert booked.budget is not None
    assert (booked.budget.window.spent, booked.budget.remaining) == (Decimal("0.004"), Decimal("0.996"))
    assert books.only_window(limit=LIMIT).spent == Decimal("0.004")
    assert books.entry(held.id)["slot"] is not None


def test_what_is_allocated_stays_below_the_alert_threshold(ledger: Ledger, books: Books) -> None:
    for _ in range(60):
        try:
            ledger.settle(settled(ledger.reserve(a_call(), [candidate("0.01")]), "0.01"))
        except BudgetExceededError:
            break
        [window] = books.rows("SELECT spent + reserved AS taken FROM budget_window WHERE closed_at IS NULL")
        assert allocated(books) == 0 or allocated(books) + window["taken"] < Decimal("0.8")


def test_the_last_cent_is_served_though_no_slot_has_room_for_it(ledger: Ledger, books: Books) -> None:
    held = [ledger.reserve(a_call(), [candidate("0.05")]) for _ in range(20)]
    assert books.only_window(limit=LIMIT).reserved == 1
    with pytest.raises(BudgetReservedError):
        ledger.reserve(a_call(), [candidate("0.05")])
    for reservation in held:
        ledger.settle(released(reservation))
    assert ledger.reserve(a_call(), [candidate("1")]).budget.remaining == 0


def test_a_settlement_above_its_bound_is_booked_by_the_window(ledger: Ledger, books: Books, events: Events) -> None:
    held = ledger.reserve(a_call(), [candidate("0.001")])
    assert books.entry(held.id)["slot"] is not None
    ledger.settle(settled(held, "0.9"))
    assert books.only_window().spent == Decimal("0.9")
    assert events.count() == {"circuit_breaker.alert": 1}


def test_a_reset_takes_the_slots_back_and_late_ends_find_their_window(ledger: Ledger, books: Books) -> None:
    held = [ledger.reserve(a_call(), [candidate("0.01")]) for _ in range(3)]
    closed, _ = ledger.reset(actor="admin", source_ip=None, request_id="reset", reason=None)
    assert closed.reserved == Decimal("0.03")
    assert allocated(books) == 0
    fresh = ledger.reserve(a_call(), [candidate("0.01")])
    ledger.settle(settled(held[0], "0.005"))
    ledger.settle(at_bound(held[1]))
    ledger.settle(released(held[2]))
    ledger.settle(settled(fresh, "0.002"))
    old, new = books.check(limit=LIMIT)
    assert (old.spent, old.reserved, new.spent, new.reserved) == (Decimal("0.015"), ZERO, Decimal("0.002"), ZERO)


def test_a_reservation_of_an_earlier_allocation_ends_in_the_window(ledger: Ledger, books: Books) -> None:
    early = ledger.reserve(a_call(), [candidate("0.01")])
    ledger.budget()  # takes the slots back
    ledger.settle(released(ledger.reserve(a_call(), [candidate("0.001")])))  # and this call has them allocated anew
    late = ledger.reserve(a_call(), [candidate("0.1")])
    of_early, of_late = books.entry(early.id), books.entry(late.id)
    assert of_early["slot"] == of_late["slot"]
    assert of_early["slot_epoch"] < of_late["slot_epoch"]
    ledger.settle(settled(early, "0.004"))
    [slot] = books.rows("SELECT spent, reserved FROM budget_slot WHERE allocated > 0 AND spent + reserved > 0")
    assert (slot["spent"], slot["reserved"]) == (0, Decimal("0.1"))
    ledger.settle(settled(late, "0.05"))
    assert books.only_window(limit=LIMIT).spent == Decimal("0.054")


@pytest.mark.parametrize("beside", [False, True], ids=["alone in its slot", "beside another"])
def test_a_settlement_that_is_sent_twice_at_once_is_booked_once(
    ledger: Ledger, core: CoreFactory, books: Books, database_url: str, beside: bool
) -> None:
    held = ledger.reserve(a_call(), [candidate("0.01")])
    assert books.entry(held.id)["slot"] is not None
    if beside:
        ledger.reserve(a_call(), [candidate("0.1")])
    settings = sql_settings(core.settings(AI_LEDGER_SLOTS=str(SLOTS), AI_MONTHLY_BUDGET_USD="1"))
    settlement = settled(held, "0.004")
    with psycopg.connect(database_url) as twin, ThreadPoolExecutor(1) as pool:
        twin.execute(
            "SELECT ledger_settle(%s::jsonb)", (dumps({"settings": settings, "settlement": settlement.argument()}),)
        )
        waiting = pool.submit(ledger.settle, settlement)
        wait_for_a_lock(books)
        twin.commit()
        booked = waiting.result(timeout=PATIENCE_SECONDS)
    assert booked.cost == Decimal("0.004")
    assert booked.budget is not None  # Postgres said so
    window = books.only_window(limit=LIMIT)
    assert (window.spent, window.reserved) == (Decimal("0.004"), Decimal("0.1") if beside else 0)


def test_the_months_end_closes_a_window_whose_slots_are_in_use(
    clock: Clock, open_ledger: OpenLedger, books: Books, events: Events
) -> None:
    ledger = open_ledger(AI_LEDGER_SLOTS="4")
    for _ in range(2):
        ledger.settle(released(ledger.reserve(a_call(), [candidate("0.001")])))
    held = ledger.reserve(a_call(), [candidate("0.1")])
    assert books.entry(held.id)["slot"] is not None
    clock.advance(seconds=timedelta(days=20).total_seconds())
    ledger.reserve(a_call(), [candidate("0.2")])
    ledger.settle(settled(held, "0.05"))
    old, new = books.check(limit=LIMIT)
    assert (old.spent, new.reserved) == (Decimal("0.1"), Decimal("0.2")) or old.spent == Decimal("0.05")
    assert events.count()["circuit_breaker.monthly_reset"] == 1


def test_a_crashed_call_in_a_slot_is_settled_at_its_bound(
    clock: Clock, open_ledger: OpenLedger, books: Books, events: Events
) -> None:
    ledger = open_ledger(AI_LEDGER_SLOTS="4")
    for _ in range(2):
        ledger.settle(released(ledger.reserve(a_call(), [candidate("0.001")])))
    held = ledger.reserve(a_call(), [candidate("0.1")])
    assert books.entry(held.id)["slot"] is not None
    clock.advance(seconds=3600)
    assert ledger.budget()[0].window.spent == Decimal("0.1")
    assert events.count()["ledger.settled_at_bound"] == 1
    ledger.settle(settled(held, "0.03"))
    assert books.only_window(limit=LIMIT).spent == Decimal("0.03")


def test_under_a_lowered_limit_no_slot_of_the_old_one_serves(
    ledger: Ledger, open_ledger: OpenLedger, books: Books
) -> None:
    lower = open_ledger(AI_LEDGER_SLOTS=str(SLOTS), AI_MONTHLY_BUDGET_USD="0.1")
    held = [lower.reserve(a_call(), [candidate("0.02")]) for _ in range(5)]
    with pytest.raises(BudgetReservedError):
        lower.reserve(a_call(), [candidate("0.001")])
    assert books.only_window(limit=Decimal("0.1")).reserved == Decimal("0.1")
    assert len(held) == 5


def test_a_slot_of_one_limit_serves_nobody_under_another(open_ledger: OpenLedger, books: Books) -> None:
    """Two processes that have both called before, when the limit is lowered: the slots are the first one's."""
    lower, higher = (open_ledger(AI_LEDGER_SLOTS=str(SLOTS), AI_MONTHLY_BUDGET_USD=limit) for limit in ("0.1", "1"))
    for ledger in (lower, higher):
        ledger.settle(released(ledger.reserve(a_call(), [candidate("0.001")])))
    assert allocated(books) > Decimal("0.1")
    for _ in range(5):
        lower.reserve(a_call(), [candidate("0.02")])
    with pytest.raises(BudgetReservedError):
        lower.reserve(a_call(), [candidate("0.001")])
    assert books.only_window(limit=Decimal("0.1")).reserved == Decimal("0.1")


def test_a_key_is_held_to_its_budget_in_every_slot(
    ledger: Ledger, books: Books, database_url: str, events: Events
) -> None:
    with psycopg.connect(database_url) as owner:
        owner.execute(
            "INSERT INTO api_key (id, name, scopes, limit_usd, created_at, created_by)"
            " VALUES ('key_a', 'a', '{complete}', 0.01, now(), 'test')"
        )
    call = Call("request-1", "chat", "sota", "key_a")
    for _ in range(9):
        ledger.settle(settled(ledger.reserve(call, [candidate("0.001")]), "0.001"))
    assert in_slots(books) > 5
    with pytest.raises(BudgetExceededError) as refused:
        ledger.reserve(call, [candidate("0.002")])
    assert refused.value.budget == "key_a"
    books.check(limit=LIMIT, keys={"key_a": Decimal("0.01")})
    assert events.count()["circuit_breaker.alert"] == 1


def test_sixteen_sessions_spend_the_whole_budget_and_not_a_cent_more(
    open_ledger: OpenLedger, books: Books, events: Events
) -> None:
    ledgers = [open_ledger(AI_LEDGER_SLOTS=str(SLOTS)) for _ in range(16)]
    start = Barrier(len(ledgers))

    def work(number: int) -> Decimal:
        made, ledger = random.Random(number), ledgers[number]  # noqa: S311 - the same calls in every run
        start.wait(timeout=PATIENCE_SECONDS)
        spent = Decimal(0)
        for _ in range(60):
            bound = Decimal(made.randint(1, 40)).scaleb(-4)
            try:
                held = ledger.reserve(a_call(f"caller-{number}"), [candidate(bound)])
            except (BudgetExceededError, BudgetReservedError):
                continue
            cost = (bound * made.randint(500, 1000)).scaleb(-3)
            settlement = made.choice((settled(held, cost), settled(held, cost), at_bound(held), released(held)))
            spent += {"actual": cost, "bound": bound}.get(settlement.mode, Decimal(0))
            ledger.settle(settlement)
        return spent

    with ThreadPoolExecutor(len(ledgers)) as pool:
        working = [pool.submit(work, number) for number in range(len(ledgers))]
        while not all(job.done() for job in working):
            books.check(limit=LIMIT)
        result = sum((job.result() for job in working), Decimal(0))

    window = books.only_window(limit=LIMIT)
    assert (window.spent, window.reserved) == (result, ZERO)
    assert window.spent > Decimal("0.9")
    assert in_slots(books) > 100
    assert books.threshold_events() == ["HALF_OPEN", "OPEN"]
    assert events.count()["circuit_breaker.alert"] == events.count()["circuit_breaker.opened"] == 1


def test_a_reservation_takes_a_slot_that_nobody_holds(ledger: Ledger, books: Books, database_url: str) -> None:
    first = ledger.reserve(a_call(), [candidate("0.01")])
    own = books.entry(first.id)["slot"]
    with psycopg.connect(database_url) as other:
        other.execute("SELECT FROM budget_slot WHERE slot = %s FOR UPDATE", (own,))
        second = ledger.reserve(a_call(), [candidate("0.01")])
    assert books.entry(second.id)["slot"] not in (own, None)
    # The settlement goes to the slot that it was reserved in, in whichever session.
    ledger.settle(settled(second, "0.004"))
    ledger.settle(settled(first, "0.003"))
    assert books.only_window(limit=LIMIT).spent == Decimal("0.007")


def test_one_slots_room_is_used_before_any_is_reclaimed(ledger: Ledger, books: Books) -> None:
    held = [ledger.reserve(a_call(), [candidate("0.15")]) for _ in range(4)]
    assert len({books.entry(one.id)["slot"] for one in held} - {None}) == 4


# --- the number follows from the load ---


def slots_of(books: Books) -> int:
    [row] = books.rows("SELECT slots FROM budget_window WHERE closed_at IS NULL")
    return int(row["slots"])


def test_where_nobody_waits_one_row_does(open_ledger: OpenLedger, books: Books) -> None:
    ledger = open_ledger(AI_LEDGER_SLOTS="")
    for _ in range(12):
        ledger.settle(settled(ledger.reserve(a_call(), [candidate("0.001")]), "0.001"))
    assert (slots_of(books), books.rows("SELECT FROM budget_slot")) == (1, [])


def test_reservations_that_wait_for_each_other_get_more_rows_and_lose_them_when_they_dont(
    clock: Clock, open_ledger: OpenLedger, books: Books, database_url: str
) -> None:
    ledger = open_ledger(AI_LEDGER_SLOTS="")
    ledger.settle(released(ledger.reserve(a_call(), [candidate("0.001")])))
    with psycopg.connect(database_url) as other, ThreadPoolExecutor(1) as pool:
        for _ in range(7):
            assert slots_of(books) == 1
            other.execute("SELECT ledger_join_queue(NULL)")
            waiting = pool.submit(ledger.reserve, a_call(), [candidate("0.001")])
            wait_for_a_lock(books)
            other.rollback()
            ledger.settle(released(waiting.result()))
    assert slots_of(books) == 2
    ledger.settle(released(ledger.reserve(a_call(), [candidate("0.001")])))  # has the room allocated
    held = ledger.reserve(a_call(), [candidate("0.01")])
    assert books.entry(held.id)["slot"] is not None
    with psycopg.connect(database_url) as owner:
        owner.execute("UPDATE budget_slot SET lock_waits = 8")
    assert books.entry(ledger.reserve(a_call(), [candidate("0.001")]).id)["slot"] is None
    assert slots_of(books) == 4
    ledger.settle(settled(held, "0.004"))
    for slots in (4, 2, 1, 1):
        ledger.budget()  # reclaims them
        ledger.settle(released(ledger.reserve(a_call(), [candidate("0.001")])))
        assert slots_of(books) == slots
        clock.advance(seconds=61)
    assert books.only_window(limit=LIMIT).spent == Decimal("0.004")


def test_there_are_16_at_most(open_ledger: OpenLedger, books: Books, database_url: str) -> None:
    ledger = open_ledger(AI_LEDGER_SLOTS="")
    ledger.settle(released(ledger.reserve(a_call(), [candidate("0.001")])))
    with psycopg.connect(database_url) as owner:
        owner.execute("UPDATE budget_window SET slots = 16, lock_waits = 10")
    ledger.settle(released(ledger.reserve(a_call(), [candidate("0.001")])))
    assert slots_of(books) == 16
    assert len(books.rows("SELECT FROM budget_slot WHERE allocated > 0")) == 16
