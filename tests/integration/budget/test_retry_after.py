"""When a call is to come again that calls in flight keep out: by how long calls take here."""

import time
from dataclasses import replace

import pytest

from fusewire.budget.ledger import Ledger
from fusewire.errors import BudgetReservedError
from tests.integration.budget.books import a_call, candidate, settled
from tests.integration.budget.conftest import OpenLedger


@pytest.fixture
def ledger(open_ledger: OpenLedger) -> Ledger:
    return open_ledger()


def wait(ledger: Ledger) -> float | None:
    """What a call is told that doesn't fit beside what is in flight."""
    held = ledger.reserve(a_call("held"), [candidate("0.7")])
    with pytest.raises(BudgetReservedError) as refused:
        ledger.reserve(a_call("refused"), [candidate("0.4")])
    assert f"Retry in {refused.value.retry_after} s" in refused.value.message
    held = replace(held, made_at_seconds=time.monotonic())
    ledger.settle(settled(held, "0"))
    return refused.value.retry_after


def took(ledger: Ledger, *seconds: float) -> None:
    """Calls that took so long."""
    for each in seconds:
        reservation = ledger.reserve(a_call(), [candidate("0.1")])
        ledger.settle(settled(replace(reservation, made_at_seconds=time.monotonic() - each), "0"))


def test_it_is_half_of_what_calls_take(ledger: Ledger) -> None:
    assert wait(ledger) == 1
    took(ledger, *[20] * 20)
    assert wait(ledger) == 10


def test_the_last_calls_count_most(ledger: Ledger) -> None:
    took(ledger, *[20] * 9, *[4] * 12)
    assert wait(ledger) == 3


@pytest.mark.parametrize(("seconds", "expected"), [(0.01, 1), (1.5, 1), (59, 30), (900, 30)])
def test_it_has_its_bounds(ledger: Ledger, seconds: float, expected: int) -> None:
    took(ledger, seconds)
    assert wait(ledger) == expected
