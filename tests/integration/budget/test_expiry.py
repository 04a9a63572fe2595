"""A crash never loses a cent: what nobody ended in time is settled at its bound, by whoever comes next."""

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from fusewire.budget.ledger import Ledger
from fusewire.errors import BudgetReservedError
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
)
from tests.integration.budget.conftest import OpenLedger

TTL_SECONDS = 180


@pytest.fixture
def ledger(clock: Clock, open_ledger: OpenLedger) -> Ledger:
    return open_ledger(AI_RESERVATION_TTL_SECONDS=str(TTL_SECONDS))


def reset(ledger: Ledger) -> None:
    ledger.reset(actor="admin", source_ip=None, request_id="reset-1", reason=None)


def schedule(ledger: Ledger) -> None:
    ledger.scheduled_reset(due=datetime(2026, 1, 1, tzinfo=UTC), request_id="schedule")


def reserve(ledger: Ledger) -> None:
    ledger.reserve(a_call("next"), [candidate("0.2")])


def budget(ledger: Ledger) -> None:
    ledger.budget()


def test_what_expires_right_after_a_sweep_is_settled_by_the_next_reserve(
    ledger: Ledger, clock: Clock, books: Books
) -> None:
    first = ledger.reserve(a_call("first"), [candidate("0.2")])
    clock.advance(seconds=2)
    second = ledger.reserve(a_call("second"), [candidate("0.5")])
    clock.advance(seconds=TTL_SECONDS - 2)
    ledger.reserve(a_call("sweeps the first"), [candidate("0.1")])
    assert [books.entry(each.id)["status"] for each in (first, second)] == ["settled", "reserved"]
    clock.advance(seconds=2)
    ledger.reserve(a_call("next"), [candidate("0.1")])
    assert books.entry(second.id)["outcome"] == "expired"
    books.check()


@pytest.mark.parametrize("sweep", [reserve, budget, reset, schedule])
def test_an_expired_reservation_is_settled_at_its_bound(
    ledger: Ledger, clock: Clock, books: Books, events: Events, sweep: Callable[[Ledger], None]
) -> None:
    crashed = ledger.reserve(a_call("crashed"), [candidate("0.8", "azure", "gpt")])
    clock.advance(seconds=TTL_SECONDS)

    sweep(ledger)

    entry = books.entry(crashed.id)
    assert (entry["status"], entry["cost"], entry["cost_basis"]) == ("settled", Decimal("0.8"), "bound")
    assert entry["outcome"] == "expired"
    first, *_ = books.check()
    assert (first.spent, first.calls) == (Decimal("0.8"), 1)
    [result] = events.of("ledger.settled_at_bound")
    assert result == {
        "request_id": "crashed",
        "provider": "azure",
        "model": "gpt",
        "tier": "sota",
        "attempt": 1,
        "cost_usd": Decimal("0.8"),
        "cost_basis": "bound",
        "kind": "expired",
    }
    # Its bound takes the window to the first threshold, and nobody settled it but time.
    assert events.count()["circuit_breaker.alert"] == 1


def test_a_sweep_makes_no_room_before_its_time(ledger: Ledger, clock: Clock, books: Books) -> None:
    ledger.reserve(a_call(), [candidate("0.8")])
    clock.advance(seconds=TTL_SECONDS - 0.001)

    with pytest.raises(BudgetReservedError):
        ledger.reserve(a_call(), [candidate("0.3")])
    ledger.budget()

    assert books.only_window().reserved == Decimal("0.8")


def test_every_expired_reservation_is_settled_and_logged_once(
    ledger: Ledger, clock: Clock, books: Books, events: Events
) -> None:
    for number in range(5):
        ledger.reserve(a_call(f"crashed-{number}"), [candidate("0.1")])
    clock.advance(seconds=TTL_SECONDS)

    for _ in range(3):
        ledger.budget()
    reset(ledger)

    logged = sorted(fields["request_id"] for fields in events.of("ledger.settled_at_bound"))
    assert logged == [f"crashed-{number}" for number in range(5)]
    assert books.check()[0].spent == Decimal("0.5")


@pytest.mark.parametrize("actual", ["0.03", "0.1", "0.14"])
def test_a_late_actual_settlement_corrects_the_bound(
    ledger: Ledger, clock: Clock, books: Books, events: Events, actual: str
) -> None:
    late = ledger.reserve(a_call(), [candidate("0.1")])
    clock.advance(seconds=TTL_SECONDS)
    ledger.budget()
    clock.advance(seconds=86_400)

    for _ in range(2):
        booked = ledger.settle(settled(late, actual))

    assert (booked.cost, booked.basis) == (Decimal(actual), "actual")
    window = books.only_window()
    assert (window.spent, window.reserved, window.calls) == (Decimal(actual), ZERO, 1)
    entry = books.entry(late.id)
    assert (entry["outcome"], entry["cost_basis"], entry["output_tokens"]) == ("success", "actual", 20)
    assert events.count() == {"ledger.settled_at_bound": 1}


def test_a_late_release_gives_the_bound_back(ledger: Ledger, clock: Clock, books: Books) -> None:
    late = ledger.reserve(a_call(), [candidate("0.1")])
    clock.advance(seconds=TTL_SECONDS)
    ledger.budget()

    booked = ledger.settle(released(late))

    assert (booked.cost, booked.basis) == (ZERO, None)
    assert (books.only_window().spent, books.only_window().calls) == (ZERO, 0)


def test_a_late_end_at_the_bound_says_why(ledger: Ledger, clock: Clock, books: Books) -> None:
    late = ledger.reserve(a_call(), [candidate("0.1")])
    clock.advance(seconds=TTL_SECONDS)
    ledger.budget()

    ledger.settle(at_bound(late))

    assert books.entry(late.id)["outcome"] == "read_timeout"
    assert (books.only_window().spent, books.only_window().calls) == (Decimal("0.1"), 1)


def test_a_correction_settles_in_the_window_that_it_was_reserved_in(ledger: Ledger, clock: Clock, books: Books) -> None:
    late = ledger.reserve(a_call(), [candidate("0.1")])
    clock.advance(seconds=TTL_SECONDS)
    reset(ledger)
    reserve(ledger)

    ledger.settle(settled(late, "0.03"))

    old, new = books.check()
    assert (old.spent, old.reserved) == (Decimal("0.03"), ZERO)
    assert (new.spent, new.reserved) == (ZERO, Decimal("0.2"))


def test_an_end_in_time_leaves_nothing_to_expire(ledger: Ledger, clock: Clock, books: Books, events: Events) -> None:
    ledger.settle(settled(ledger.reserve(a_call(), [candidate("0.1")]), "0.03"))
    clock.advance(seconds=10 * TTL_SECONDS)

    ledger.budget()

    assert books.only_window().spent == Decimal("0.03")
    assert events.logged == []
