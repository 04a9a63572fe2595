"""A waiting call is notified when there is room for it, where that is possible, and asks by itself everywhere."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from decimal import Decimal
from itertools import count
from threading import Event
from uuid import UUID

import psycopg
import pytest
from psycopg import sql

from fusewire.budget import admission
from fusewire.budget.admission import Waiting
from fusewire.budget.ledger import Ledger
from fusewire.budget.reservation import Reservation
from fusewire.errors import CallerLeftError
from fusewire.store import listener
from fusewire.store.db import Database
from fusewire.store.listener import Subscription
from tests.integration.budget.books import Books, a_call, candidate, released, settled
from tests.integration.budget.conftest import OpenLedger

SOON = 10
"""Far less than the pause after which a call asks again by itself."""
WAIT_SECONDS = 3 * SOON
_numbers = count(1)

Wait = Callable[[str], "Future[Reservation]"]
Connections = dict[str, str]


@pytest.fixture(params=["1", "4"], ids=["one connection", "four connections"])
def connections(request: pytest.FixtureRequest) -> Connections:
    """What the ledgers of waiting calls have: the one listens itself, where there are several another does."""
    return {"AWS_LAMBDA_MAX_CONCURRENCY": request.param}


@pytest.fixture
def ledger(open_ledger: OpenLedger) -> Ledger:
    return open_ledger()


@pytest.fixture
def wait(open_ledger: OpenLedger, connections: Connections) -> Iterator[Wait]:
    """A call of a ledger of its own, which waits for room."""
    pool = ThreadPoolExecutor(4)

    def begin(bound: str) -> "Future[Reservation]":
        call, waiting = a_call(f"waits-{next(_numbers)}"), Waiting(WAIT_SECONDS, 100)
        return pool.submit(open_ledger(**connections).reserve, call, [candidate(bound)], waiting=waiting)

    yield begin
    pool.shutdown()


@pytest.fixture
def long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "_LISTENING_PAUSE_MS", 1000 * WAIT_SECONDS)


def wait_for_listeners(books: Books, calls: int) -> None:
    """Return once so many calls have their sessions listen, and no other call waits."""
    deadline = time.monotonic() + SOON
    while [row["listens"] for row in books.rows("SELECT listens FROM admission_wait")] != [True] * calls:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.usefixtures("long_pauses")
def test_what_ends_wakes_the_first_and_who_is_admitted_the_next(ledger: Ledger, wait: Wait, books: Books) -> None:
    held = ledger.reserve(a_call(), [candidate("0.9")])
    waiting = [wait("0.5"), wait("0.5")]
    wait_for_listeners(books, 2)
    ledger.settle(released(held))
    for each in waiting:
        each.result(SOON)
    assert books.rows("SELECT * FROM admission_wait") == []
    assert books.only_window(limit=Decimal(1)).reserved == 1


@pytest.mark.usefixtures("long_pauses")
def test_what_ends_before_it_is_listened_to_is_seen_all_the_same(
    ledger: Ledger, open_ledger: OpenLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ticket is there, nobody is notified for it yet, and all that held the room ends."""
    held = ledger.reserve(a_call(), [candidate("0.9")])
    subscribe = Database.subscribe

    def late(database: Database, entry_id: UUID) -> Subscription | None:
        ledger.settle(released(held))
        return subscribe(database, entry_id)

    monkeypatch.setattr(Database, "subscribe", late)
    begun = time.monotonic()
    open_ledger(AWS_LAMBDA_MAX_CONCURRENCY="4").reserve(
        a_call("waits"), [candidate("0.5")], waiting=Waiting(WAIT_SECONDS, 9)
    )
    assert time.monotonic() - begun < SOON


@pytest.mark.usefixtures("long_pauses")
def test_whose_caller_has_left_wakes_the_next(
    ledger: Ledger, open_ledger: OpenLedger, connections: Connections, wait: Wait, books: Books
) -> None:
    ledger.reserve(a_call(), [candidate("0.6")])
    has_left = Event()
    waiting = Waiting(WAIT_SECONDS, 100, has_left.is_set)
    with ThreadPoolExecutor() as pool:
        left = pool.submit(open_ledger(**connections).reserve, a_call("left"), [candidate("0.5")], waiting=waiting)
        wait_for_listeners(books, 1)
        behind = wait("0.3")
        wait_for_listeners(books, 2)
        has_left.set()
        with psycopg.connect(books.database_url, autocommit=True) as owner:
            # So that it looks now: whether its caller is there, and whether there is room.
            owner.execute("SELECT pg_notify(%s, '')", (f"fusewire_{waiting.entry_id}",))
        assert isinstance(left.exception(SOON), CallerLeftError)
    wait_for_listeners(books, 0)
    behind.result(SOON)


@pytest.mark.usefixtures("long_pauses")
def test_a_failover_and_what_is_given_back_wake_too(ledger: Ledger, wait: Wait, books: Books) -> None:
    failed = ledger.reserve(a_call(), [candidate("0.9")])
    waiting = wait("0.5")
    wait_for_listeners(books, 1)
    ledger.reserve(a_call(), [candidate("0.01")], attempt=2, after=released(failed))
    waiting.result(SOON)
    streams = ledger.reserve(a_call("streams"), [candidate("0.4")])
    waiting = wait("0.3")
    wait_for_listeners(books, 1)
    ledger.give_back(streams, Decimal("0.1"), 0)
    waiting.result(SOON)


def test_none_is_notified_in_vain(ledger: Ledger, wait: Wait, books: Books, database_url: str) -> None:
    held = [ledger.reserve(a_call(f"held-{n}"), [candidate("0.5")]) for n in range(2)]
    waiting = wait("0.9")
    wait_for_listeners(books, 1)
    [row] = books.rows("SELECT entry_id FROM admission_wait")
    with psycopg.connect(database_url, autocommit=True) as onlooker:
        onlooker.execute(sql.SQL("LISTEN {}").format(sql.Identifier(f"fusewire_{row['entry_id']}")))
        ledger.settle(settled(held[0], "0"))
        assert list(onlooker.notifies(timeout=0.3)) == []
        ledger.settle(settled(held[1], "0"))
        assert list(onlooker.notifies(timeout=SOON, stop_after=1))
        waiting.result(SOON)


def test_where_the_session_is_anothers_it_asks_again_and_listens_to_nothing(
    ledger: Ledger, wait: Wait, books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As behind a pooler that lends connections for a transaction, which tells its clients a process of its own."""
    monkeypatch.setattr(Database, "session", 1)
    monkeypatch.setattr(listener, "_session", lambda connection: 1)
    held = ledger.reserve(a_call(), [candidate("0.9")])
    waiting = wait("0.5")
    time.sleep(0.5)
    assert [row["listens"] for row in books.rows("SELECT listens FROM admission_wait")] == [False]
    ledger.settle(released(held))
    waiting.result(SOON)


@pytest.mark.usefixtures("long_pauses")
def test_a_session_that_is_lost_is_followed_by_one_that_listens(
    ledger: Ledger, wait: Wait, books: Books, database_url: str
) -> None:
    held = ledger.reserve(a_call(), [candidate("0.9")])
    waiting = wait("0.5")
    wait_for_listeners(books, 1)
    with psycopg.connect(database_url, autocommit=True) as owner:
        owner.execute("UPDATE admission_wait SET listens = false")
        owner.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = 'idle' AND pid <> %s"
            " AND query LIKE ANY ('{SELECT ledger_reserve%%,SELECT admission_subscribe%%}')",
            (ledger._database.session,),
        )
    wait_for_listeners(books, 1)
    ledger.settle(released(held))
    waiting.result(SOON)


def _make_room(books: Books, held: Reservation) -> None:
    """Without a word to those who wait."""
    with psycopg.connect(books.database_url, autocommit=True) as freed:
        freed.execute("UPDATE ledger SET bound = 0.1 WHERE id = %s", (held.id,))
        freed.execute("UPDATE budget_window SET reserved = 0.1")


def test_once_it_is_over_a_session_listens_no_more(ledger: Ledger, books: Books) -> None:
    held = ledger.reserve(a_call(), [candidate("0.9")])
    other = Waiting(WAIT_SECONDS, 9)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ledger.reserve, a_call("waits"), [candidate("0.5")], waiting=other)
        wait_for_listeners(books, 1)
        _make_room(books, held)
        waiting.result(SOON)
    connection = ledger._database._free[0]._connection
    assert connection is not None
    assert connection.execute("SELECT * FROM pg_listening_channels()").fetchall() == []
