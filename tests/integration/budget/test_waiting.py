"""Calls that lack room for the moment wait for it, in fair order, and hold nothing while they wait."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest

from fusewire.budget.admission import Waiting
from fusewire.errors import BudgetExceededError, BudgetReservedError
from tests.integration.budget.books import Books, a_call, candidate, released, settled, wait_for_tickets
from tests.integration.budget.conftest import OpenLedger
from tests.integration.budget.keys import Keys

SOON = 5


def test_a_call_waits_until_the_call_in_flight_ends(open_ledger: OpenLedger, books: Books) -> None:
    ledger, other = open_ledger(), open_ledger()
    held = ledger.reserve(a_call(), [candidate("0.6")])
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(other.reserve, a_call("request-2"), [candidate("0.5")], waiting=Waiting(SOON, 100))
        wait_for_tickets(books, 1)
        ledger.settle(settled(held, "0.1"))
        reservation = waiting.result(SOON)
    assert 0 < reservation.waited_seconds < SOON
    assert books.rows("SELECT * FROM admission_wait") == []
    assert books.only_window(limit=Decimal(1)).reserved == Decimal("0.5")
    assert books.rows("SELECT * FROM refused_call") == []
