"""Amounts come back as they went in, to the last digit."""

from decimal import Decimal, localcontext

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fusewire.budget.ledger import Ledger
from fusewire.budget.price import TokenCounts
from fusewire.budget.pricing import PriceBook
from fusewire.errors import BudgetReservedError
from fusewire.price_overrides import PriceOverride
from tests.integration.budget.books import Books, a_call, candidate, settled
from tests.integration.budget.conftest import OpenLedger

# Together up to 100 USD, each with up to 30 decimals: more digits than a float, or Python's default context, holds.
amounts = st.lists(st.decimals(0, 10, places=30) | st.decimals(0, 1, places=2), min_size=1, max_size=6)


@pytest.fixture
def ledger(open_ledger: OpenLedger) -> Ledger:
    return open_ledger(AI_MONTHLY_BUDGET_USD="100")


def test_any_amounts_add_up_to_the_last_digit(ledger: Ledger, books: Books) -> None:
    @settings(
        max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(amounts)
    def add_up(costs: list[Decimal]) -> None:
        ledger.reset(actor="test", source_ip=None, request_id="reset", reason=None)
        with localcontext(prec=100):
            total = sum(costs, Decimal(0))
            reservations = [ledger.reserve(a_call(), [candidate(cost)]) for cost in costs]
            assert reservations[-1].budget.window.reserved == total
            assert reservations[-1].budget.remaining == 100 - total
            booked = [ledger.settle(settled(r, cost)).cost for r, cost in zip(reservations, costs, strict=True)]
            assert booked == costs
            assert books.check()[-1].spent == total
            budget, by_provider, by_model, *_ = ledger.budget()
            assert budget.window.spent == by_provider["openai"] == by_model["openai/gpt"] == total

    add_up()


def test_a_tenth_and_two_tenths_are_three_tenths(open_ledger: OpenLedger, books: Books) -> None:
    """In floats they are 0.30000000000000004, and wouldn't fit."""
    ledger = open_ledger(AI_MONTHLY_BUDGET_USD="0.3")
    first = ledger.reserve(a_call(), [candidate("0.1")])
    second = ledger.reserve(a_call(), [candidate("0.2")])
    ledger.settle(settled(first, "0.1"))
    ledger.settle(settled(second, "0.2"))
    assert books.only_window(limit=Decimal("0.3")).spent == Decimal("0.3")
    budget, *_ = ledger.budget()
    assert (budget.remaining, budget.usage_ratio) == (Decimal(0), Decimal(1))


def test_tokens_at_a_trillionth_of_a_dollar(ledger: Ledger, books: Books) -> None:
    override = PriceOverride(input_mtok=Decimal("0.000001"), output_mtok=Decimal("0.000000001"))
    price = PriceBook(overrides={"vllm/*": override}, aliases={}, local_providers=()).price("vllm", "m")
    cost = price.cost(TokenCounts(1, 1))
    assert cost == Decimal("0.000000000001001")
    for _ in range(3):
        ledger.settle(settled(ledger.reserve(a_call(), [candidate(cost)]), cost))
    assert books.only_window().spent == 3 * cost


def test_the_last_of_thirty_digits_decides(ledger: Ledger) -> None:
    hair = Decimal("1e-30")
    with localcontext(prec=100):
        ledger.reserve(a_call(), [candidate(60 + hair)])
        with pytest.raises(BudgetReservedError):
            ledger.reserve(a_call(), [candidate(Decimal(40))])
        assert ledger.reserve(a_call(), [candidate(40 - hair)]).budget.remaining == 0
