"""Many calls of one environment over a few connections: what a call has is its own, and it has a connection only for
its statements."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest

from fusewire.budget.admission import Waiting
from fusewire.budget.ledger import Ledger
from fusewire.budget.wire import PRICE_TABLE, SETTLE
from fusewire.errors import LedgerUnavailableError
from tests.integration.budget.books import Books, a_call, candidate, released, settled, wait_for_tickets
from tests.integration.budget.conftest import OpenLedger
from tests.support.patience import PATIENCE_SECONDS


def sessions(books: Books) -> int:
    [row] = books.rows(
        "SELECT count(*) AS open FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = 'fusewire'"
    )
    return int(row["open"])


def test_the_books_are_equal_and_the_connections_few(open_ledger: OpenLedger, books: Books, patience: None) -> None:
    ledger = open_ledger(AI_MONTHLY_BUDGET_USD="1000", AWS_LAMBDA_MAX_CONCURRENCY="64")
    begin = threading.Barrier(24)

    def calls(caller: int) -> None:
        begin.wait(PATIENCE_SECONDS)
        for number in range(4):
            reservation = ledger.reserve(a_call(f"request-{caller}-{number}"), [candidate("1")])
            assert reservation.call.request_id == f"request-{caller}-{number}"
            if number == 2:
                ledger.give_back(reservation, Decimal("0.5"), 10)
            ledger.settle(settled(reservation, f"0.{caller + 1:03}"))

    with ThreadPoolExecutor(24) as pool:
        for each in [pool.submit(calls, caller) for caller in range(24)]:
            each.result(PATIENCE_SECONDS)
    assert sessions(books) == 4
    entries = books.rows("SELECT request_id, status, cost FROM ledger")
    assert len(entries) == 96
    for entry in entries:
        caller = int(entry["request_id"].split("-")[1])
        assert (entry["status"], entry["cost"]) == ("settled", Decimal(f"0.{caller + 1:03}"))
    [held] = books.rows(
        "SELECT (SELECT sum(spent) FROM budget_window) + (SELECT coalesce(sum(spent), 0) FROM budget_slot) AS spent,"
        " (SELECT sum(reserved) FROM budget_window) + (SELECT coalesce(sum(reserved), 0) FROM budget_slot) AS reserved"
    )
    assert (held["spent"], held["reserved"]) == (sum(4 * Decimal(f"0.{n + 1:03}") for n in range(24)), 0)


def test_calls_that_wait_for_room_leave_the_connections_to_those_that_free_it(
    open_ledger: OpenLedger, books: Books
) -> None:
    ledger = open_ledger(AWS_LAMBDA_MAX_CONCURRENCY="2")
    held = ledger.reserve(a_call("held"), [candidate("0.9")])
    with ThreadPoolExecutor(6) as pool:
        waiting = [
            pool.submit(ledger.reserve, a_call(f"request-{n}"), [candidate("0.15")], waiting=Waiting(20, 100))
            for n in range(6)
        ]
        wait_for_tickets(books, 6)
        ledger.settle(released(held))
        assert all(each.result(PATIENCE_SECONDS).waited_seconds < 20 for each in waiting)
    assert sessions(books) == 3, "one of them listened"


def test_without_a_free_connection_a_statement_waits_and_then_says_so(open_ledger: OpenLedger) -> None:
    database = open_ledger(AWS_LAMBDA_MAX_CONCURRENCY="2")._database
    with database._link(1) as one, database._link(1) as other:
        assert one is not other, "the answer of one call would be taken for another's"
        began = time.monotonic()
        with pytest.raises(LedgerUnavailableError):
            database.call(PRICE_TABLE, {}, seconds=0.2)
        assert 0.2 <= time.monotonic() - began < PATIENCE_SECONDS
    assert database.call(PRICE_TABLE, {})["version"] == 0


def test_what_is_kept_while_another_call_sends_is_sent_too(
    open_ledger: OpenLedger, books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = open_ledger(AWS_LAMBDA_MAX_CONCURRENCY="8")
    first, second = (ledger.reserve(a_call(f"request-{n}"), [candidate("0.4")]) for n in range(2))
    call, fails, at_it, go_on = ledger._database.call, [True], threading.Event(), threading.Event()

    def failing(statement: object, *arguments: object, **more: object) -> object:
        if statement is SETTLE and fails:
            if threading.current_thread() is not threading.main_thread():
                at_it.set()
                assert go_on.wait(PATIENCE_SECONDS)
            raise LedgerUnavailableError("down")
        return call(statement, *arguments, **more)  # type: ignore[arg-type,type-var]

    monkeypatch.setattr(ledger._database, "call", failing)
    ledger.settle(settled(first, "0.1"))
    other = threading.Thread(target=_reserve_in_vain, args=[ledger])
    other.start()
    assert at_it.wait(PATIENCE_SECONDS)
    ledger.settle(settled(second, "0.2"))
    go_on.set()
    other.join(PATIENCE_SECONDS)
    fails.clear()
    ledger.reserve(a_call("request-3"), [candidate("0.4")])
    assert [row["cost"] for row in books.rows("SELECT cost FROM ledger ORDER BY reserved_at LIMIT 2")] == [
        Decimal("0.1"),
        Decimal("0.2"),
    ]


def _reserve_in_vain(ledger: Ledger) -> None:
    with pytest.raises(LedgerUnavailableError):
        ledger.reserve(a_call("request-2"), [candidate("0.1")])
