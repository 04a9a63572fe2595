"""Who is let in: `state != OPEN and spent + reserved + bound <= limit`, and what the refused are told."""

from collections.abc import Callable
from decimal import Decimal

import pytest

from fusewire.budget.ledger import Ledger
from fusewire.budget.reservation import Reservation
from fusewire.errors import BudgetExceededError, BudgetReservedError
from tests.integration.budget.books import ZERO, Books, Events, a_call, candidate, settled
from tests.integration.budget.conftest import OpenLedger

A_MICRO_CENT = Decimal("0.00000001")


@pytest.fixture
def ledger(open_ledger: OpenLedger) -> Ledger:
    return open_ledger()


@pytest.fixture
def spend(ledger: Ledger) -> Callable[[str], None]:
    def of(amount: str) -> None:
        ledger.settle(settled(ledger.reserve(a_call(), [candidate(amount)]), amount))

    return of


def reserve(ledger: Ledger, bound: Decimal | str) -> Reservation:
    return ledger.reserve(a_call(), [candidate(bound)])


def test_the_last_cent_can_be_reserved_and_not_one_micro_cent_more(ledger: Ledger, books: Books) -> None:
    reserve(ledger, "0.25")
    with pytest.raises(BudgetReservedError):
        reserve(ledger, Decimal("0.75") + A_MICRO_CENT)

    exact = reserve(ledger, "0.75")

    assert exact.budget.remaining == 0
    assert books.only_window(limit=Decimal(1)).reserved == 1
    with pytest.raises(BudgetReservedError):
        reserve(ledger, A_MICRO_CENT)


def test_exceeded_when_nothing_but_a_reset_can_help_reserved_when_waiting_can(
    ledger: Ledger, spend: Callable[[str], None], events: Events
) -> None:
    spend("0.5")
    held = reserve(ledger, "0.3")

    with pytest.raises(BudgetReservedError) as waiting:
        reserve(ledger, "0.5")
    with pytest.raises(BudgetExceededError) as stopped:
        reserve(ledger, Decimal("0.5") + A_MICRO_CENT)

    assert (waiting.value.status, waiting.value.retry_after) == (429, 1)
    assert (stopped.value.status, stopped.value.budget) == (402, "global")
    assert stopped.value.resets_at == held.budget.window.resets_at
    assert held.budget.window.resets_at is not None
    assert held.budget.window.resets_at.isoformat() in stopped.value.message
    blocked = events.of("circuit_breaker.blocked")
    assert [(fields["code"], fields["cost_usd"]) for fields in blocked] == [
        ("budget_reserved", Decimal("0.5")),
        ("budget_exceeded", Decimal("0.5") + A_MICRO_CENT),
    ]
    assert all(fields["usage_ratio"] == Decimal("0.5") for fields in blocked)
    assert all(fields["window_id"] == held.budget.window.id for fields in blocked)
    # What was held comes back, and the one that had to wait gets in.
    ledger.settle(settled(held, "0"))
    reserve(ledger, "0.5")


def test_a_refusal_leaves_no_trace_in_the_books(ledger: Ledger, books: Books) -> None:
    with pytest.raises(BudgetExceededError):
        reserve(ledger, "1.1")
    assert books.rows("SELECT FROM ledger") == []
    assert (books.only_window().reserved, books.only_window().spent) == (ZERO, ZERO)


def test_an_open_breaker_refuses_what_would_still_fit(
    ledger: Ledger, spend: Callable[[str], None], events: Events
) -> None:
    spend("0.94")
    reserve(ledger, "0.005")
    spend("0.01")

    with pytest.raises(BudgetExceededError):
        reserve(ledger, "0.001")

    assert ledger.budget()[0].state == "OPEN"
    assert events.count()["circuit_breaker.opened"] == 1


def test_half_open_warns_and_serves(ledger: Ledger, spend: Callable[[str], None]) -> None:
    spend("0.8")
    assert reserve(ledger, "0.1").budget.state == "HALF_OPEN"


def test_what_is_free_is_never_held_up_by_the_budget(
    ledger: Ledger, spend: Callable[[str], None], books: Books
) -> None:
    held = reserve(ledger, "1")
    free = [reserve(ledger, "0")]
    ledger.settle(settled(held, "1"))
    free.append(reserve(ledger, "0"))

    for reservation in free:
        assert ledger.settle(settled(reservation, "0")).cost == 0

    window = books.only_window(limit=Decimal(1))
    assert (window.spent, window.reserved, window.calls) == (Decimal(1), ZERO, 3)


def test_a_budget_of_nothing_serves_only_what_is_free(open_ledger: OpenLedger) -> None:
    ledger = open_ledger(AI_MONTHLY_BUDGET_USD="0")
    with pytest.raises(BudgetExceededError):
        reserve(ledger, Decimal("1e-12"))
    assert reserve(ledger, "0").budget.state == "OPEN"
    assert ledger.budget()[0].usage_ratio == 1


def test_a_settlement_frees_what_it_did_not_use(ledger: Ledger) -> None:
    first = reserve(ledger, "0.9")
    with pytest.raises(BudgetReservedError):
        reserve(ledger, "0.2")

    booked = ledger.settle(settled(first, "0.3"))

    assert booked.budget is not None
    assert booked.budget.remaining == Decimal("0.7")
    reserve(ledger, "0.7")


def test_a_failover_may_use_what_the_failed_attempt_held(ledger: Ledger, books: Books) -> None:
    """Ended and reserved in one statement: nobody can take the headroom between the two."""
    first = reserve(ledger, "0.9")
    second = ledger.reserve(a_call(), [candidate("0.9", "azure")], attempt=2, after=settled(first, "0.05"))
    assert books.only_window(limit=Decimal(1)).reserved == Decimal("0.9")
    with pytest.raises(BudgetExceededError):
        ledger.reserve(a_call(), [candidate("0.99")], attempt=3, after=settled(second, "0.05"))
    # Refused, and yet the attempt before it is booked.
    window = books.only_window()
    assert (window.spent, window.reserved) == (Decimal("0.1"), ZERO)


def test_a_bill_above_the_bound_is_booked_as_billed(ledger: Ledger, books: Books) -> None:
    ledger.settle(settled(reserve(ledger, "0.5"), "1.5"))
    assert books.only_window().spent == Decimal("1.5")
    budget, *_ = ledger.budget()
    assert (budget.state, budget.remaining, budget.usage_ratio) == ("OPEN", ZERO, Decimal("1.5"))
