"""Calls that lack room for the moment wait for it, in fair order, and hold nothing while they wait."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from decimal import Decimal
from itertools import count
from typing import Any, cast
from uuid import uuid4

import psycopg
import pytest

from fusewire.budget.admission import Waiting
from fusewire.budget.audit_context import AuditContext
from fusewire.budget.ledger import Ledger
from fusewire.budget.limits import AuditedLimits
from fusewire.budget.reservation import Call, Reservation
from fusewire.budget.wire import RESERVE, sql_settings
from fusewire.errors import BudgetExceededError, BudgetReservedError, CallerLeftError, LedgerUnavailableError
from fusewire.json import dumps
from fusewire.store.db import Database
from tests.conftest import CoreFactory
from tests.integration.budget.books import (
    Books,
    Events,
    a_call,
    at_bound,
    candidate,
    released,
    settled,
    wait_for_a_lock,
    wait_for_tickets,
)
from tests.integration.budget.conftest import OpenLedger
from tests.integration.budget.keys import Keys
from tests.support.database import ask

SOON = 10

_numbers = count(2)

Wait = Callable[..., "Future[Reservation]"]


@pytest.fixture
def ledger(open_ledger: OpenLedger) -> Ledger:
    return open_ledger()


@pytest.fixture
def wait(open_ledger: OpenLedger) -> Iterator[Wait]:
    """A call of a ledger of its own, which waits for room."""
    pool = ThreadPoolExecutor(32)

    def begin(bound: str, *, seconds: float = SOON, most: int = 100, key_id: str | None = None) -> Future[Reservation]:
        waiting = Waiting(seconds, most)
        call = a_call(f"request-{next(_numbers)}", key_id=key_id)
        return pool.submit(open_ledger().reserve, call, [candidate(bound)], waiting=waiting)

    yield begin
    pool.shutdown()


def test_a_call_waits_until_the_call_in_flight_ends(ledger: Ledger, wait: Wait, books: Books) -> None:
    held = ledger.reserve(a_call(), [candidate("0.6")])
    waiting = wait("0.5")
    wait_for_tickets(books, 1)
    assert books.only_window(limit=Decimal(1)).reserved == Decimal("0.6")
    ledger.settle(settled(held, "0.1"))
    assert 0 < waiting.result(SOON).waited_seconds < SOON
    assert books.rows("SELECT * FROM admission_wait") == []
    assert books.only_window(limit=Decimal(1)).reserved == Decimal("0.5")
    assert books.rows("SELECT * FROM refused_call") == []


def test_what_ends_the_wait_too_late_is_a_refusal_that_is_counted_once(
    ledger: Ledger, wait: Wait, books: Books, events: Events
) -> None:
    ledger.reserve(a_call(), [candidate("0.6")])
    began = time.monotonic()
    with pytest.raises(BudgetReservedError) as caught:
        wait("0.5", seconds=0.4).result(SOON)
    assert 0.4 <= time.monotonic() - began < 3
    assert (caught.value.status, caught.value.retry_after) == (429, 1)
    assert books.rows("SELECT * FROM admission_wait") == []
    assert [row["calls"] for row in books.rows("SELECT * FROM refused_call")] == [1]
    [blocked] = events.of("circuit_breaker.blocked")
    assert 400 <= blocked["waited_ms"] < 3000


def test_a_call_that_can_never_fit_doesnt_wait(ledger: Ledger, wait: Wait, books: Books) -> None:
    ledger.settle(settled(ledger.reserve(a_call(), [candidate("0.6")]), "0.6"))
    with pytest.raises(BudgetExceededError):
        wait("0.5").result(1)
    assert books.rows("SELECT * FROM admission_wait") == []


def test_what_is_spent_meanwhile_turns_the_wait_into_a_stop(ledger: Ledger, wait: Wait, books: Books) -> None:
    held = ledger.reserve(a_call(), [candidate("0.6")])
    waiting = wait("0.5")
    wait_for_tickets(books, 1)
    ledger.settle(settled(held, "0.6"))
    with pytest.raises(BudgetExceededError):
        waiting.result(SOON)
    assert books.rows("SELECT * FROM admission_wait") == []


def test_a_free_call_waits_for_nobody(ledger: Ledger, wait: Wait, books: Books) -> None:
    ledger.reserve(a_call(), [candidate("1")])
    wait("0.5")
    wait_for_tickets(books, 1)
    assert ledger.reserve(a_call("request-free"), [candidate("0")]).waited_seconds == 0
    with psycopg.connect(books.database_url) as reset:
        reset.execute("DELETE FROM admission_wait")
    ledger.reset(actor="a", source_ip=None, request_id="r", reason=None)


def test_first_come_first_served(ledger: Ledger, wait: Wait, books: Books) -> None:
    held = [ledger.reserve(a_call(f"held-{n}"), [candidate("0.25")]) for n in range(4)]
    waiting = []
    for n in range(4):
        waiting.append(wait("0.25"))
        wait_for_tickets(books, n + 1)
    for n, each in enumerate(held):
        ledger.settle(settled(each, "0"))
        waiting[n].result(SOON)
        assert not any(later.done() for later in waiting[n + 1 :])
        wait_for_tickets(books, 3 - n)


def test_a_small_call_doesnt_pass_a_large_one_that_came_before_it(ledger: Ledger, wait: Wait, books: Books) -> None:
    held = [ledger.reserve(a_call(f"held-{n}"), [candidate("0.4")]) for n in range(2)]
    large = wait("0.7")
    wait_for_tickets(books, 1)
    with pytest.raises(BudgetReservedError):  # though there is room for it: 0.2
        ledger.reserve(a_call("small"), [candidate("0.1")])
    small = wait("0.1")
    wait_for_tickets(books, 2)
    ledger.settle(released(held[0]))  # 0.6: room for the small one, not for both
    time.sleep(0.6)
    assert not large.done() and not small.done()
    ledger.settle(released(held[1]))
    large.result(SOON)
    small.result(SOON)
    assert books.only_window(limit=Decimal(1)).reserved == Decimal("0.8")


def test_a_call_passes_those_before_it_where_there_is_room_for_all(
    ledger: Ledger, books: Books, open_ledger: OpenLedger
) -> None:
    ledger.reserve(a_call("held"), [candidate("0.3")])
    ticket(books, blocked_by="global", bound="0.4", seconds_ago=1)
    with pytest.raises(BudgetReservedError):
        ledger.reserve(a_call("request-2"), [candidate("0.31")])
    assert ledger.reserve(a_call("request-3"), [candidate("0.3")]).waited_seconds == 0


def test_no_slot_has_room_for_those_who_come_later(open_ledger: OpenLedger, books: Books) -> None:
    ledger = open_ledger(AI_LEDGER_SLOTS="4")
    held = [ledger.reserve(a_call(f"held-{n}"), [candidate("0.01")]) for n in range(2)]
    assert books.entry(held[1].id)["slot"] is not None
    ticket(books, blocked_by="global", bound="0.9", seconds_ago=1)
    with pytest.raises(BudgetReservedError):
        ledger.reserve(a_call("request-2"), [candidate("0.1")])
    assert ledger.reserve(a_call("request-3"), [candidate("0.01")]).waited_seconds == 0
    with psycopg.connect(books.database_url, autocommit=True) as owner:  # as if its caller had died long ago
        owner.execute("UPDATE admission_wait SET alive_until = now() - interval '1 second'")
    assert books.entry(ledger.reserve(a_call("request-4"), [candidate("0.01")]).id)["slot"] is not None


def test_a_slot_that_was_waited_for_has_no_room_for_those_who_come_later(
    open_ledger: OpenLedger, core: CoreFactory, books: Books
) -> None:
    """While it waits for a slot's lock, the slots are reclaimed, a ticket is drawn, and they are allocated anew."""
    ledger = open_ledger(AI_LEDGER_SLOTS="4")
    for _ in range(2):
        ledger.settle(released(ledger.reserve(a_call(), [candidate("0.001")])))
    ledger.reserve(a_call("held"), [candidate("0.15")])
    settings = sql_settings(core.settings(AI_LEDGER_SLOTS="4", AI_MONTHLY_BUDGET_USD="1"))
    wait = {"max_per_key": 100, "lease_seconds": 60, "waited_percent": 0}

    def draws_a_ticket(session: psycopg.Connection, bound: str) -> bool:
        entry = {"id": str(uuid4()), "request_id": "r", "attempt": 1, "operation": "chat", "tier": None, "key_id": None}
        candidates = [{"provider": "openai", "model": "m", "bound": Decimal(bound), "tokens": 1}]
        argument = {"settings": settings, "entry": entry, "candidates": candidates, "probe_seconds": 30, "wait": wait}
        [(result,)] = session.execute("SELECT ledger_reserve(%s::jsonb)", (dumps(argument),)).fetchall()
        return "ticket" in result

    with psycopg.connect(books.database_url) as other, ThreadPoolExecutor(1) as pool:
        assert draws_a_ticket(other, "0.9")
        assert not draws_a_ticket(other, "0")  # waits for nobody, and has the room allocated
        later = pool.submit(ledger.reserve, a_call("later"), [candidate("0.01")])
        wait_for_a_lock(books)
        assert books.rows("SELECT * FROM admission_wait") == []
        # Before the commit, after which the other takes them back.
        assert other.execute("SELECT FROM budget_slot WHERE allocated - spent - reserved > 0.01").fetchall() != []
        other.commit()
        with pytest.raises(BudgetReservedError):
            later.result(SOON)


def test_after_five_seconds_calls_of_less_than_an_eighth_pass_a_large_one(ledger: Ledger, books: Books) -> None:
    ledger.reserve(a_call("held"), [candidate("0.3")])
    ticket(books, blocked_by="global", bound="0.8", seconds_ago=4)
    with pytest.raises(BudgetReservedError):
        ledger.reserve(a_call("request-2"), [candidate("0.09")])
    with psycopg.connect(books.database_url, autocommit=True) as owner:
        owner.execute("UPDATE admission_wait SET since = since - interval '2 seconds'")
    with pytest.raises(BudgetReservedError):
        ledger.reserve(a_call("request-3"), [candidate("0.1")])
    assert admits(ledger, "0.09")


def test_who_waits_for_another_budget_holds_up_nobody(ledger: Ledger, wait: Wait, books: Books, keys: Keys) -> None:
    poor, rich = keys.make("poor", budget="0.3"), keys.make("rich")
    held = ledger.reserve(a_call("held", key_id=poor), [candidate("0.3")])
    blocked = wait("0.2", key_id=poor)
    wait_for_tickets(books, 1)
    assert admits(ledger, "0.65", rich)
    with pytest.raises(BudgetReservedError):  # the same key: behind it
        ledger.reserve(a_call("poor", key_id=poor), [candidate("0.01")])
    ledger.settle(settled(held, "0.01"))
    blocked.result(SOON)


def test_a_key_has_only_so_many_waiting(ledger: Ledger, wait: Wait, books: Books, keys: Keys, events: Events) -> None:
    greedy, other = keys.make("greedy"), keys.make("other")
    held = ledger.reserve(a_call("held"), [candidate("1")])
    first = [wait("0.1", most=2, key_id=greedy) for _ in range(2)]
    wait_for_tickets(books, 2)
    with pytest.raises(BudgetReservedError):
        wait("0.1", most=2, seconds=2, key_id=greedy).result(SOON)
    assert "waited_ms" not in events.of("circuit_breaker.blocked")[-1]
    allowed = wait("0.1", most=2, key_id=other)
    wait_for_tickets(books, 3)
    ledger.settle(released(held))
    for each in (*first, allowed):
        each.result(SOON)


def test_a_ticket_whose_answer_was_lost_is_given_up_where_there_is_room_when_it_is_sent_again(
    ledger: Ledger, core: CoreFactory, books: Books
) -> None:
    held = ledger.reserve(a_call(), [candidate("0.9")])
    settings = core.settings(AI_MONTHLY_BUDGET_USD="1")
    asked: dict[str, Any] = {
        "settings": sql_settings(settings),
        "entry": {"id": str(uuid4()), "request_id": "r", "attempt": 1, "operation": "chat", "tier": None},
        "candidates": [{"provider": "openai", "model": "gpt", "bound": Decimal("0.6"), "tokens": 1}],
        "probe_seconds": 30,
        "wait": {"max_per_key": 9, "lease_seconds": 60, "waited_percent": 0},
    }
    database = core().database
    assert "ticket" in ask(database, "SELECT ledger_reserve($1::jsonb)", asked)
    ledger.settle(released(held))
    assert "candidate" in ask(database, "SELECT ledger_reserve($1::jsonb)", asked | {"resent": True})
    assert books.rows("SELECT * FROM admission_wait") == []
    ledger.reserve(a_call(), [candidate("0.3")])


def test_a_dead_callers_ticket_holds_up_nobody_for_long(ledger: Ledger, books: Books) -> None:
    ledger.reserve(a_call("held"), [candidate("0.3")])
    ticket(books, blocked_by="global", bound="0.6", seconds_ago=1, lease=0.5)
    with pytest.raises(BudgetReservedError):
        ledger.reserve(a_call("request-2"), [candidate("0.2")])
    time.sleep(0.6)
    assert admits(ledger, "0.2")


def test_a_dead_callers_ticket_is_deleted_by_a_later_one(ledger: Ledger, wait: Wait, books: Books) -> None:
    held = ledger.reserve(a_call("held"), [candidate("1")])
    ticket(books, blocked_by="global", bound="0.6", seconds_ago=120, lease=-70)
    later = wait("0.2")
    deadline = time.monotonic() + SOON
    while [row["bound"] for row in books.rows("SELECT bound FROM admission_wait")] != [Decimal("0.2")]:
        assert time.monotonic() < deadline
    ledger.settle(released(held))
    later.result(SOON)


@pytest.mark.parametrize("helps", ["reset", "a raised limit", "an expired reservation"])
def test_what_makes_room_ends_the_wait(
    helps: str, core: CoreFactory, open_ledger: OpenLedger, wait: Wait, books: Books, database_url: str
) -> None:
    ledger = open_ledger(AI_RESERVATION_TTL_SECONDS="1.5" if helps == "an expired reservation" else "960")
    ledger.reserve(a_call("held"), [candidate("0.55")])
    waiting = wait("0.5" if helps != "an expired reservation" else "0.46")
    if helps == "an expired reservation":
        with pytest.raises(BudgetExceededError):  # it is booked at its bound: now it can't fit any more
            waiting.result(SOON)
        return
    wait_for_tickets(books, 1)
    if helps == "reset":
        ledger.reset(actor="a", source_ip=None, request_id="r", reason=None)
    else:
        database = Database(core.settings(DATABASE_URL=database_url).database_url)
        limits = AuditedLimits(database, core.settings(DATABASE_URL=database_url, AI_MONTHLY_BUDGET_USD="1"))
        limits.change(Decimal(2), None, "more", AuditContext("a", None, "r"))
        database.close()
    waiting.result(SOON)
    assert books.rows("SELECT * FROM admission_wait") == []


def test_a_waiting_call_holds_no_lock_and_no_transaction(ledger: Ledger, wait: Wait, books: Books) -> None:
    held = ledger.reserve(a_call("held"), [candidate("1")])
    waiting = wait("0.5")
    wait_for_tickets(books, 1)
    idle = 0
    for _ in range(50):
        [row] = books.rows(
            "SELECT count(*) AS open FROM pg_stat_activity WHERE datname = current_database() "
            "AND state = 'idle in transaction'"
        )
        assert row["open"] == 0
        idle += 1
    ledger.settle(released(held))
    waiting.result(SOON)
    assert idle == 50


def test_a_failed_attempts_end_is_booked_once_while_its_successor_waits(
    ledger: Ledger, open_ledger: OpenLedger, books: Books
) -> None:
    other = open_ledger()
    failed = other.reserve(a_call("failed-over"), [candidate("0.2")])
    held = ledger.reserve(a_call("held"), [candidate("0.5")])
    with ThreadPoolExecutor() as pool:
        successor = pool.submit(
            other.reserve, a_call("failed-over"), [candidate("0.4", "azure")], attempt=2,
            after=at_bound(failed, "0.15"), waiting=Waiting(SOON, 100),
        )  # fmt: skip
        wait_for_tickets(books, 1)
        assert books.entry(failed.id)["cost"] == Decimal("0.15")
        ledger.settle(released(held))
        reservation = successor.result(SOON)
    assert reservation.attempt == 2
    totals = books.only_window(limit=Decimal(1))
    assert (totals.spent, totals.reserved, totals.calls) == (Decimal("0.15"), Decimal("0.4"), 1)


def test_a_successors_wait_counts_as_no_further_request_of_its_key(
    ledger: Ledger, open_ledger: OpenLedger, books: Books, keys: Keys
) -> None:
    key = keys.make(requests=1)
    other = open_ledger()
    failed = other.reserve(a_call("failed-over", key_id=key), [candidate("0.2")])
    held = ledger.reserve(a_call("held"), [candidate("0.6")])
    with ThreadPoolExecutor() as pool:
        successor = pool.submit(
            other.reserve, a_call("failed-over", key_id=key), [candidate("0.5", "azure")], attempt=2,
            after=released(failed), waiting=Waiting(SOON, 100),
        )  # fmt: skip
        wait_for_tickets(books, 1)
        ledger.settle(released(held))
        successor.result(SOON)


def test_a_dead_postgres_ends_the_wait_and_leaves_nothing(
    ledger: Ledger, wait: Wait, books: Books, database_url: str
) -> None:
    ledger.reserve(a_call("held"), [candidate("1")])
    waiting = wait("0.5", seconds=30)
    wait_for_tickets(books, 1)
    with psycopg.connect(database_url, autocommit=True) as owner:
        owner.execute("ALTER FUNCTION ledger_reserve(jsonb) RENAME TO ledger_reserve_gone")
        with pytest.raises(LedgerUnavailableError):
            waiting.result(SOON)
        owner.execute("ALTER FUNCTION ledger_reserve_gone(jsonb) RENAME TO ledger_reserve")
    assert books.only_window(limit=Decimal(1)).reserved == 1


def test_whose_caller_has_left_gives_up_its_place(
    ledger: Ledger, open_ledger: OpenLedger, wait: Wait, books: Books, events: Events
) -> None:
    ledger.reserve(a_call("held"), [candidate("0.6")])
    has_left = threading.Event()
    waiting = Waiting(SOON, 100, has_left.is_set)
    with ThreadPoolExecutor() as pool:
        left = pool.submit(open_ledger().reserve, a_call("left"), [candidate("0.5")], waiting=waiting)
        wait_for_tickets(books, 1)
        behind = wait("0.3")
        wait_for_tickets(books, 2)
        has_left.set()
        assert isinstance(left.exception(2 * SOON), CallerLeftError)
    behind.result(SOON)
    assert books.rows("SELECT * FROM admission_wait") == books.rows("SELECT * FROM refused_call") == []
    assert books.rows("SELECT bound FROM ledger ORDER BY reserved_at") == [
        {"bound": Decimal(b)} for b in ("0.6", "0.3")
    ]
    [line] = events.of("admission.caller_left")
    assert line["waited_ms"] > 0


def test_a_broken_connection_while_waiting_keeps_the_place(ledger: Ledger, wait: Wait, books: Books) -> None:
    held = ledger.reserve(a_call("held"), [candidate("1")])
    waiting = wait("0.5")
    wait_for_tickets(books, 1)
    [before] = books.rows("SELECT ticket FROM admission_wait")
    with psycopg.connect(books.database_url, autocommit=True) as owner:
        owner.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'fusewire' "
            "AND datname = current_database()"
        )
    time.sleep(0.5)
    assert books.rows("SELECT ticket FROM admission_wait") == [before]
    ledger.settle(released(held))
    waiting.result(SOON)
    assert books.only_window(limit=Decimal(1)).reserved == Decimal("0.5")


@pytest.mark.parametrize("slots", ["1", "4"])
def test_64_callers_under_two_ledgers_settings_all_get_their_turn(
    slots: str, open_ledger: OpenLedger, books: Books, keys: Keys
) -> None:
    """Each holds a tenth of the limit for a moment: at most ten at once, and none is refused."""
    some_keys = [keys.make(f"key-{n}", budget="0.6") for n in range(4)]
    errors: list[BaseException] = []

    def serve(number: int) -> None:
        ledger = open_ledger(AI_LEDGER_SLOTS=slots)
        try:
            held = ledger.reserve(
                Call(f"r-{number}", "chat", None, some_keys[number % 4]), [candidate("0.1")], waiting=Waiting(60, 100)
            )
            time.sleep(0.02)
            ledger.settle(settled(held, "0.001"))
        except Exception as error:  # noqa: BLE001 - whatever it is, the test fails by it
            errors.append(error)

    threads = [threading.Thread(target=serve, args=(number,)) for number in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    totals = books.check(limit=Decimal(1), keys=dict.fromkeys(some_keys, Decimal("0.6")))
    assert totals[0].spent == Decimal("0.064")
    assert books.rows("SELECT * FROM admission_wait") == []


def test_the_budget_says_how_many_wait(ledger: Ledger, books: Books) -> None:
    assert ledger.budget()[0].line.calls == 0
    ticket(books, blocked_by="global", bound="0.6", seconds_ago=3)
    ticket(books, blocked_by="global", bound="0.6", seconds_ago=9, lease=-1)
    line = ledger.budget()[0].line
    assert line.calls == 1
    assert 3 <= line.longest_seconds < 5


def ticket(books: Books, *, blocked_by: str, bound: str, seconds_ago: float, lease: float = 60) -> None:
    """A ticket of somebody who doesn't ask again."""
    with psycopg.connect(books.database_url, autocommit=True) as owner:
        owner.execute(
            "INSERT INTO admission_wait (entry_id, key_id, blocked_by, bound, since, asked_at, alive_until) VALUES "
            "(gen_random_uuid(), '', %s, %s, now() - make_interval(secs => %s), now(), "
            "now() + make_interval(secs => %s))",
            (blocked_by, Decimal(bound), seconds_ago, lease),
        )


def admits(ledger: Ledger, bound: str, key_id: str | None = None) -> bool:
    """Whether a call that doesn't wait is let in."""
    try:
        ledger.reserve(a_call(f"request-{next(_numbers)}", key_id=key_id), [candidate(bound)])
    except BudgetReservedError:
        return False
    return True


def test_only_what_changes_nothing_but_tickets_may_be_lost_with_the_server(
    ledger: Ledger, books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit that waits for the disk keeps others from the company's lock, and many ask in vain."""
    asked: list[dict[str, object]] = []
    call = Database.call

    def recorded(database: Database, statement: object, argument: dict[str, object], **options: float) -> object:
        if statement is RESERVE:
            asked.append(argument | {})
        return call(database, statement, argument, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Database, "call", recorded)

    def waits_for_the_disk(argument: dict[str, object]) -> bool:
        with psycopg.connect(books.database_url) as session:
            session.execute("SELECT ledger_reserve(%s::jsonb)", [dumps(argument)])
            [(value,)] = session.execute("SHOW synchronous_commit").fetchall()
            session.rollback()
        return bool(value == "on")

    held = ledger.reserve(a_call(), [candidate("0.5")])
    ledger.reserve(a_call(), [candidate("0.4")])
    del asked[1:]
    with pytest.raises(BudgetReservedError):
        ledger.reserve(a_call("waits"), [candidate("0.5")], waiting=Waiting(0.1, 9))
    first, *again, last = asked[1:]
    assert "settings_snapshot" in asked[0]
    assert [waits_for_the_disk(each) for each in (first, *again, last)] == [False] * len(asked[1:])
    assert "last" in cast(dict[str, object], last["wait"])
    assert waits_for_the_disk(first | {"settings_snapshot": asked[0]["settings_snapshot"]}), "the audit has them"
    with pytest.raises(BudgetReservedError):
        ledger.reserve(a_call("next"), [candidate("0.6")], attempt=2, after=settled(held, "0.1"))
    assert waits_for_the_disk(asked[-1]), "it ends the attempt before it"
    ledger.reserve(a_call("fits"), [candidate("0.1")])
    assert waits_for_the_disk(asked[-1])
