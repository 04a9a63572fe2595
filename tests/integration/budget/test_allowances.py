"""A raised allowance and the reservations that meet it: whoever reserves after its commit reserves with it."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier

import psycopg
import pytest

from fusewire.budget import raised_allowances
from fusewire.budget.audit_context import AuditContext
from fusewire.budget.ledger import Ledger
from fusewire.budget.price_table import StalePricesError
from fusewire.budget.raised_allowances import RaisedAllowances
from fusewire.budget.reservation import AllowanceRaisedError, Candidate, Reservation, Settlement
from fusewire.errors import AllowanceNotFoundError
from fusewire.store.db import Database
from tests.conftest import CoreFactory, as_app_role
from tests.integration.budget.books import Books, a_call, candidate, released, settled, wait_for_a_lock
from tests.integration.budget.conftest import OpenLedger

ADMIN = AuditContext("key_boss", "192.0.2.7", "request-of-the-admin")
SLOTS = pytest.mark.parametrize("slots", ["1", "4"])


@pytest.fixture
def allowances(core: CoreFactory, database_url: str) -> Iterator[RaisedAllowances]:
    settings = core.settings(DATABASE_URL=as_app_role(database_url))
    database = Database(settings.database_url)
    yield RaisedAllowances(database, settings)
    database.close()


def allowing(tokens: int, model: str = "gpt") -> Candidate:
    return replace(candidate("0.001", model=model), allowance=tokens)


def reserve(ledger: Ledger, tokens: int, model: str = "gpt") -> Reservation:
    return ledger.reserve(a_call(), [allowing(tokens, model)])


def raising(reservation: Reservation, tokens: int) -> Settlement:
    return replace(settled(reservation, "0.0005"), allowance=tokens)


@SLOTS
def test_it_holds_for_every_session_and_never_gets_smaller(open_ledger: OpenLedger, books: Books, slots: str) -> None:
    one, other = open_ledger(AI_LEDGER_SLOTS=slots), open_ledger(AI_LEDGER_SLOTS=slots)
    held = [reserve(one, 96) for _ in range(3)]
    one.settle(raising(held[0], 300))
    with pytest.raises(AllowanceRaisedError) as caught:
        reserve(other, 299)
    assert (caught.value.provider, caught.value.model, caught.value.tokens) == ("openai", "gpt", 300)
    one.settle(raising(held[1], 200))
    one.settle(raising(held[2], 301))
    for tokens in (96, 300):
        with pytest.raises(AllowanceRaisedError):
            reserve(other, tokens)
    other.settle(released(reserve(other, 301)))
    other.settle(released(reserve(other, 96, "another")))
    with pytest.raises(AllowanceRaisedError):
        reserve(other, 300)
    assert books.only_window().reserved == 0


def test_the_functions_role_may_raise_it(open_ledger: OpenLedger, database_url: str) -> None:
    ledger = open_ledger(as_app_role(database_url))
    ledger.settle(raising(reserve(ledger, 96), 300))
    with pytest.raises(AllowanceRaisedError):
        reserve(ledger, 96)


def test_a_models_name_is_the_same_in_any_letters(open_ledger: OpenLedger) -> None:
    ledger = open_ledger()
    ledger.settle(raising(reserve(ledger, 96, "GPT-x"), 300))
    with pytest.raises(AllowanceRaisedError) as caught:
        reserve(ledger, 96, "gpt-X")
    assert caught.value.model == "gpt-X"


def test_a_release_that_tells_no_allowance_reserves_as_before(open_ledger: OpenLedger) -> None:
    ledger = open_ledger()
    ledger.settle(raising(reserve(ledger, 96), 300))
    ledger.settle(released(ledger.reserve(a_call(), [candidate("0.001")])))


def test_a_refusal_for_it_ends_the_attempt_before_it_once(open_ledger: OpenLedger, books: Books) -> None:
    ledger = open_ledger()
    ledger.settle(raising(reserve(ledger, 96, "gpt"), 300))
    failed = released(reserve(ledger, 96, "another"))
    with pytest.raises(AllowanceRaisedError):
        ledger.reserve(a_call(), [allowing(96)], attempt=2, after=failed)
    assert books.entry(failed.reservation.id)["status"] == "released"
    again = ledger.reserve(a_call(), [allowing(300)], attempt=2, after=failed)
    ledger.settle(settled(again, "0.0001"))
    assert books.only_window().reserved == 0


def test_a_failed_attempts_usage_raises_it_too(open_ledger: OpenLedger) -> None:
    ledger = open_ledger()
    failed = raising(reserve(ledger, 96), 300)
    ledger.settle(released(ledger.reserve(a_call(), [allowing(96, "another")], attempt=2, after=failed)))
    with pytest.raises(AllowanceRaisedError):
        reserve(ledger, 96)


def test_a_reservation_that_waits_behind_the_settlement_meets_what_it_raised(
    open_ledger: OpenLedger, books: Books, database_url: str
) -> None:
    one, other = open_ledger(), open_ledger()
    held = reserve(one, 96)
    with psycopg.connect(database_url) as holder, ThreadPoolExecutor(2) as pool:
        holder.execute("SELECT FROM budget_window FOR UPDATE")
        settling = pool.submit(one.settle, raising(held, 300))
        wait_for_a_lock(books)
        reserving = pool.submit(reserve, other, 96)
        wait_for_a_lock(books, waiting=2)
        holder.commit()
        settling.result()
        with pytest.raises(AllowanceRaisedError):
            reserving.result()


@SLOTS
def test_among_many_no_reservation_after_the_commit_has_the_old_allowance(
    open_ledger: OpenLedger, books: Books, slots: str
) -> None:
    """Eight environments reserve and settle; one of them raises the allowance in their midst."""
    ledgers = [open_ledger(AI_LEDGER_SLOTS=slots, AI_MONTHLY_BUDGET_USD="1000") for _ in range(8)]
    begin = Barrier(len(ledgers))

    def environment(number: int) -> None:
        known = 96
        begin.wait()
        for turn in range(30):
            try:
                reservation = reserve(ledgers[number], known)
            except AllowanceRaisedError as error:
                assert error.tokens > known
                known = error.tokens
                reservation = reserve(ledgers[number], known)
            ending = settled(reservation, "0.0001")
            if number == 0 and turn == 10:
                known = 300
                ending = replace(ending, allowance=known)
            # The allowance that it was reserved with, in a column of the ledger that the test can read.
            ledgers[number].settle(replace(ending, reasoning_tokens=reservation.candidate.allowance or 0))

    with ThreadPoolExecutor(len(ledgers)) as pool:
        list(pool.map(environment, range(len(ledgers))))
    [raised] = books.rows("SELECT e.ended_at, a.tokens FROM input_allowance a JOIN ledger e ON e.id = a.entry_id")
    assert raised["tokens"] == 300
    # Both times are taken under the lock of the window, or of a slot that the settlement takes too.
    [late] = books.rows(
        "SELECT count(*) FILTER (WHERE reasoning_tokens < 300) AS less, count(*) AS calls FROM ledger"
        " WHERE reserved_at > %s",
        raised["ended_at"],
    )
    assert late["less"] == 0
    assert late["calls"] > len(ledgers)
    books.check()


# --- taken back by an administrator ---


@SLOTS
def test_once_taken_back_no_environment_goes_on_with_what_it_knows(
    open_ledger: OpenLedger, allowances: RaisedAllowances, slots: str
) -> None:
    """A reservation at the prices of before is refused, and who is told other prices begins with the settings."""
    ledger = open_ledger(AI_LEDGER_SLOTS=slots)
    raised = reserve(ledger, 96)
    ledger.settle(raising(raised, 300))
    ledger.settle(released(reserve(ledger, 300)))
    [row] = allowances.list(after=None, limit=10)
    assert (row["id"], row["tokens"], row["request_id"]) == ("openai/gpt", 300, raised.call.request_id)
    assert allowances.remove("OpenAI/GPT", ADMIN).items() >= row.items()
    assert allowances.list(after=None, limit=10) == []
    with pytest.raises(StalePricesError) as refusal:
        reserve(ledger, 300)
    ledger.settle(released(ledger.reserve(a_call(), [allowing(96)], prices=refusal.value.table.stamp)))


def test_it_is_taken_back_once_and_told_again_to_whom_the_answer_was_lost(
    open_ledger: OpenLedger, allowances: RaisedAllowances, books: Books
) -> None:
    ledger = open_ledger()
    ledger.settle(raising(reserve(ledger, 96), 300))
    argument: raised_allowances.RemoveArgument = {
        "settings": allowances._settings,
        "id": "openai/gpt",
        "audit_context": ADMIN.argument(),
    }
    first = allowances._database.call(raised_allowances._REMOVE, argument)
    resent = {**argument, "resent": True}
    again = allowances._database.call(raised_allowances._REMOVE, resent)  # type: ignore[misc]
    assert first is not None and again is not None
    assert again == first | {"written": None}
    assert [entry["action"] for entry in books.rows("SELECT action FROM audit")] == ["allowance.removed"]
    with pytest.raises(AllowanceNotFoundError):
        allowances.remove("openai/gpt", ADMIN)


def test_a_usage_beyond_its_bound_raises_it_again(open_ledger: OpenLedger, allowances: RaisedAllowances) -> None:
    ledger = open_ledger()
    ledger.settle(raising(reserve(ledger, 96), 300))
    held = reserve(ledger, 300)
    allowances.remove("openai/gpt", ADMIN)
    ledger.settle(raising(held, 250))
    [row] = allowances.list(after=None, limit=10)
    assert row["tokens"] == 250
