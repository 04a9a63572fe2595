"""An answer that told a part of its usage: that part at its price, the rest at its bound, on the basis `bound`."""

from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest

from fusewire.budget.ledger import Ledger
from fusewire.budget.price import TokenCounts
from fusewire.budget.reservation import Reservation, Settlement
from tests.integration.budget.books import ZERO, Books, Clock, a_call, at_bound, candidate
from tests.integration.budget.conftest import OpenLedger

PART = Decimal("0.003")
CALLS = 40


def part(reservation: Reservation, cost: Decimal = PART) -> Settlement:
    return Settlement(reservation, "bound", "success", cost=cost, counts=TokenCounts(7, 0))


@pytest.mark.parametrize("slots", ["1", "4"], ids=["row", "slots"])
def test_the_part_is_booked_and_the_rest_is_free_again(open_ledger: OpenLedger, books: Books, slots: str) -> None:
    ledger = open_ledger(AI_LEDGER_SLOTS=slots)
    for _ in range(3):
        reservation = ledger.reserve(a_call("part"), [candidate("0.01")])
        booked = ledger.settle(part(reservation))
        assert (booked.cost, booked.basis) == (PART, "bound")
        entry = books.entry(reservation.id)
        assert (entry["cost"], entry["cost_basis"], entry["bound"]) == (PART, "bound", Decimal("0.01"))
        assert (entry["input_tokens"], entry["output_tokens"]) == (7, 0)
    whole = ledger.reserve(a_call("whole"), [candidate("0.01")])
    assert ledger.settle(at_bound(whole)).cost == Decimal("0.01")
    assert bool(books.rows("SELECT FROM ledger WHERE slot IS NOT NULL")) is (slots != "1")
    totals = books.only_window(limit=Decimal(1))
    assert (totals.spent, totals.reserved, totals.calls) == (3 * PART + Decimal("0.01"), ZERO, 4)


def test_more_than_the_bound_is_booked_as_it_is(open_ledger: OpenLedger, books: Books) -> None:
    ledger = open_ledger(AI_LEDGER_SLOTS="4")
    reservation = ledger.reserve(a_call("more"), [candidate("0.01")])
    assert ledger.settle(part(reservation, Decimal("0.02"))).cost == Decimal("0.02")
    assert books.only_window().spent == Decimal("0.02")


def test_a_late_part_corrects_what_had_expired(open_ledger: OpenLedger, clock: Clock, books: Books) -> None:
    ledger = open_ledger()
    late = ledger.reserve(a_call("late"), [candidate("0.5")])
    clock.advance(seconds=86_400)
    ledger.budget()
    assert books.entry(late.id)["outcome"] == "expired"
    ledger.settle(part(late))
    assert (books.entry(late.id)["cost"], books.entry(late.id)["cost_basis"]) == (PART, "bound")
    books.check()


@pytest.mark.parametrize("slots", ["1", "4"], ids=["row", "slots"])
def test_many_at_once_add_up(open_ledger: OpenLedger, books: Books, slots: str) -> None:
    ledgers = [open_ledger(AI_LEDGER_SLOTS=slots) for _ in range(4)]

    def work(ledger: Ledger) -> Decimal:
        spent = Decimal(0)
        for number in range(CALLS // 4):
            reservation = ledger.reserve(a_call("many"), [candidate("0.01")])
            end = part(reservation) if number % 2 else at_bound(reservation)
            spent += ledger.settle(end).cost
        return spent

    with ThreadPoolExecutor(4) as threads:
        spent = sum(threads.map(work, ledgers), Decimal(0))
    totals = books.only_window(limit=Decimal(1))
    assert totals.spent == spent == CALLS // 2 * (PART + Decimal("0.01"))
    assert (totals.reserved, totals.calls) == (ZERO, CALLS)
