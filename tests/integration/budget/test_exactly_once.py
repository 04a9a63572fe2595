"""A statement whose answer is lost is sent again, and books once."""

import socket
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import product
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg.rows import TupleRow

from fusewire.budget.ledger import Ledger
from fusewire.budget.reservation import Call, HealthUpdate, Reservation, Settlement
from fusewire.budget.wire import sql_settings
from fusewire.errors import BudgetExceededError, LedgerUnavailableError
from fusewire.json import dumps
from tests.conftest import CoreFactory
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
    wait_for_a_lock,
)
from tests.integration.budget.conftest import OpenLedger
from tests.integration.budget.wire import Break, Wire
from tests.support.database import ask
from tests.support.patience import PATIENCE_SECONDS

FAILED = HealthUpdate("openai", "count", "server_error", "HTTP 500", seconds=60, threshold=2, max_seconds=600)


@pytest.fixture
def wire(database_url: str) -> Iterator[Wire]:
    made = Wire(database_url)
    yield made
    made.close()


@pytest.fixture
def ledger(open_ledger: OpenLedger, wire: Wire) -> Ledger:
    """Over the wire, and connected."""
    made = open_ledger(wire.url)
    made.budget()
    return made


def reserved(ledger: Ledger, bound: str = "0.1", *, request_id: str = "request-1") -> Reservation:
    return ledger.reserve(a_call(request_id), [candidate(bound)])


def test_a_reservation_that_its_twin_overtook_stands(ledger: Ledger, core: CoreFactory, books: Books) -> None:
    """What is sent again may come first: the first one, which doesn't say so of itself, finds it there."""
    argument = {
        "settings": sql_settings(core.settings(AI_MONTHLY_BUDGET_USD="1")),
        "entry": {"id": str(uuid4()), "request_id": "once", "attempt": 1, "operation": "chat", "tier": None},
        "candidates": [{"provider": "openai", "model": "gpt", "bound": Decimal("0.1")}],
        "probe_seconds": 30,
    }
    database = core().database
    row = [ask(database, "SELECT ledger_reserve($1::jsonb)", argument | which) for which in ({"resent": True}, {}, {})]
    assert [each["candidate"] for each in row] == [0, 0, 0]
    assert books.only_window().reserved == Decimal("0.1")


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_reserve_whose_answer_is_lost_reserves_once(ledger: Ledger, wire: Wire, books: Books, when: Break) -> None:
    wire.break_at("ledger_reserve", when=when)

    reservation = reserved(ledger)

    assert wire.all_broken
    assert books.only_window().reserved == Decimal("0.1")
    ledger.settle(settled(reservation, "0.04"))
    assert books.only_window().spent == Decimal("0.04")


def test_a_reserve_that_arrives_after_its_own_copy_reserves_once(ledger: Ledger, wire: Wire, books: Books) -> None:
    wire.break_at("ledger_reserve", when="before")
    reservation = reserved(ledger)

    wire.deliver_late()
    assert books.only_window().reserved == Decimal("0.1")
    ledger.settle(settled(reservation, "0.04"))

    assert books.only_window().reserved == 0


def test_a_resent_reserve_names_the_same_candidate(ledger: Ledger, wire: Wire) -> None:
    cold = HealthUpdate("openai", "now", "rate_limited", "HTTP 429", seconds=600)
    ledger.settle(released(reserved(ledger), health_update=cold))
    wire.break_at("ledger_reserve", when="after")

    choices = [candidate("0.1"), candidate("0.2", "ollama", "smol"), candidate("0.3", "vllm", "big")]
    reservation = ledger.reserve(a_call(), choices)

    assert reservation.candidate == choices[1]


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_end_whose_answer_is_lost_books_once(
    ledger: Ledger, wire: Wire, books: Books, events: Events, when: Break
) -> None:
    reservation = reserved(ledger, "0.9")
    wire.break_at("ledger_settle", when=when)

    booked = ledger.settle(settled(reservation, "0.85", health_update=FAILED))

    assert (booked.cost, booked.basis) == (Decimal("0.85"), "actual")
    assert booked.budget is not None
    assert booked.budget.state == "HALF_OPEN"
    window = books.only_window()
    assert (window.spent, window.reserved, window.calls) == (Decimal("0.85"), ZERO, 1)
    # The first answer returned the threshold event, and nobody heard it.
    assert events.count()["circuit_breaker.alert"] == 1
    assert books.threshold_events() == ["HALF_OPEN"]
    [health] = books.rows("SELECT consecutive_failures FROM provider_health")
    assert health["consecutive_failures"] == 1


def test_an_end_that_arrives_after_its_own_copy_books_once(ledger: Ledger, wire: Wire, books: Books) -> None:
    reservation = reserved(ledger)
    wire.break_at("ledger_settle", when="before")
    ledger.settle(settled(reservation, "0.04", health_update=FAILED))

    wire.deliver_late()

    window = books.only_window()
    assert (window.spent, window.calls) == (Decimal("0.04"), 1)
    assert books.rows("SELECT consecutive_failures FROM provider_health")[0]["consecutive_failures"] == 1


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_failover_whose_answer_is_lost_ends_and_reserves_once(
    ledger: Ledger, wire: Wire, books: Books, events: Events, when: Break
) -> None:
    first = reserved(ledger, "0.96")
    wire.break_at("ledger_reserve", when=when)

    second = ledger.reserve(a_call(), [candidate("0")], attempt=2, after=at_bound(first, health_update=FAILED))

    window = books.only_window()
    assert (window.spent, window.reserved, window.calls) == (Decimal("0.96"), ZERO, 1)
    assert books.entry(second.id)["status"] == "reserved"
    assert len(books.rows("SELECT FROM ledger")) == 2
    assert events.count() == {"circuit_breaker.alert": 1, "circuit_breaker.opened": 1}
    assert books.rows("SELECT consecutive_failures FROM provider_health")[0]["consecutive_failures"] == 1


def test_a_refused_failover_whose_answer_is_lost_counts_its_failure_once(
    ledger: Ledger, wire: Wire, books: Books
) -> None:
    first = reserved(ledger)
    wire.break_at("ledger_reserve", when="after")

    with pytest.raises(BudgetExceededError):
        ledger.reserve(a_call(), [candidate("2")], attempt=2, after=at_bound(first, health_update=FAILED))

    assert books.only_window().spent == Decimal("0.1")
    assert books.rows("SELECT consecutive_failures FROM provider_health")[0]["consecutive_failures"] == 1


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_reset_whose_answer_is_lost_resets_once(
    ledger: Ledger, wire: Wire, books: Books, events: Events, when: Break
) -> None:
    ledger.settle(settled(reserved(ledger), "0.04"))
    wire.break_at("ledger_reset", when=when)

    closed, opened = ledger.reset(actor="admin", source_ip=None, request_id="reset-1", reason=None)

    assert (closed.spent, opened.spent) == (Decimal("0.04"), ZERO)
    assert [window.id for window in books.check()] == [closed.id, opened.id]
    assert len(books.rows("SELECT FROM audit")) == 1
    assert events.count() == {"circuit_breaker.manual_reset": 1, "audit": 1}


def test_a_scheduled_reset_whose_answer_is_lost_is_still_told(
    ledger: Ledger, wire: Wire, books: Books, events: Events
) -> None:
    ledger.settle(settled(reserved(ledger), "0.04"))
    wire.break_at("ledger_reset", when="after")

    closed = ledger.scheduled_reset(due=datetime.now(UTC) + timedelta(seconds=1), request_id="schedule")

    assert closed is not None
    assert closed.spent == Decimal("0.04")
    assert len(books.check()) == 2
    assert events.count() == {"circuit_breaker.monthly_reset": 1, "audit": 1}


class TestASweepThatCrosses:
    """Whoever comes next settles what a crash left behind, and that crosses a threshold: told once, by them."""

    @pytest.fixture
    def late(self, clock: Clock, open_ledger: OpenLedger, wire: Wire) -> Ledger:
        """The same ledger over the wire, with 0.85 of 1 USD that have just expired."""
        made = open_ledger(wire.url, AI_RESERVATION_TTL_SECONDS="60")
        reserved(made, "0.85", request_id="crashed")
        clock.advance(seconds=60)
        return made

    @pytest.mark.parametrize("when", ["before", "after"])
    @pytest.mark.parametrize(
        ("marker", "sweep"),
        [
            ("ledger_reserve", lambda ledger: reserved(ledger)),
            ("ledger_budget", lambda ledger: ledger.budget()),
            ("ledger_reset", lambda ledger: ledger.reset(actor="a", source_ip=None, request_id="r", reason=None)),
        ],
        ids=["reserve", "budget", "reset"],
    )
    def test_is_told_though_the_first_answer_was_lost(
        self, late: Ledger, wire: Wire, events: Events, marker: str, sweep: Callable[[Ledger], object], when: Break
    ) -> None:
        wire.break_at(marker, when=when)
        sweep(late)
        late.budget()
        assert wire.all_broken
        assert events.count()["circuit_breaker.alert"] == 1

    @pytest.mark.parametrize("bound", ["0.1", "0.2"], ids=["reserved", "refused"])
    def test_is_told_though_the_call_was_given_up(self, late: Ledger, wire: Wire, events: Events, bound: str) -> None:
        wire.break_at("ledger_reserve", "ledger_reserve", when="after")
        with pytest.raises(LedgerUnavailableError):
            reserved(late, bound)
        late.budget()
        assert wire.all_broken
        assert events.count()["circuit_breaker.alert"] == 1

    def test_is_told_beside_the_threshold_event_of_the_attempt_that_the_same_statement_ends(
        self, clock: Clock, open_ledger: OpenLedger, wire: Wire, books: Books, events: Events
    ) -> None:
        ledger = open_ledger(wire.url, AI_RESERVATION_TTL_SECONDS="60")
        reserved(ledger, "0.15", request_id="crashed")
        clock.advance(seconds=30)
        first = reserved(ledger, "0.82")
        clock.advance(seconds=30)
        wire.break_at("ledger_reserve", when="after")
        ledger.reserve(a_call(), [candidate("0")], attempt=2, after=at_bound(first))
        assert books.rows(
            "SELECT state, entry_id = %s AS ended, statement_id IS NULL AS alone FROM budget_threshold_event",
            first.id,
        ) == [
            {"state": "HALF_OPEN", "ended": True, "alone": True},
            {"state": "OPEN", "ended": None, "alone": False},
        ]
        assert events.count() == {"circuit_breaker.alert": 1, "circuit_breaker.opened": 1}

    def test_isnt_told_again_by_the_end_of_the_call_that_met_it(self, late: Ledger, wire: Wire, events: Events) -> None:
        call = reserved(late, "0.1")
        wire.break_at("ledger_settle", "ledger_settle", when="after")
        late.settle(settled(call, "0.1"))
        late.budget()
        assert wire.all_broken
        assert events.count()["circuit_breaker.alert"] == 1
        assert events.count()["circuit_breaker.opened"] == 1


def test_a_backend_killed_while_it_waits_books_once(
    open_ledger: OpenLedger, database_url: str, books: Books, events: Events
) -> None:
    """`pg_terminate_backend` between the statement and its answer: it is rolled back, sent again, and booked."""
    ledger = open_ledger()
    reservation = reserved(ledger)
    booked = []
    with psycopg.connect(database_url) as holder, psycopg.connect(database_url, autocommit=True) as killer:
        holder.execute("SELECT FROM budget_window FOR UPDATE")
        caller = threading.Thread(target=lambda: booked.append(ledger.settle(settled(reservation, "0.04"))))
        caller.start()
        _kill_waiting_backend(killer)
        holder.rollback()
        caller.join(timeout=PATIENCE_SECONDS)
    assert [b.cost for b in booked] == [Decimal("0.04")]
    window = books.only_window()
    assert (window.spent, window.reserved, window.calls) == (Decimal("0.04"), ZERO, 1)
    assert events.count()["ledger.unavailable"] == 0


def _waiting_backend(connection: psycopg.Connection[TupleRow]) -> int | None:
    row = connection.execute("""
        SELECT pid FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'fusewire' AND wait_event_type = 'Lock'
    """).fetchone()
    return row[0] if row else None


def _kill_waiting_backend(connection: psycopg.Connection[TupleRow]) -> None:
    deadline = datetime.now(UTC) + timedelta(seconds=10)
    while (pid := _waiting_backend(connection)) is None:
        assert datetime.now(UTC) < deadline, "nobody waits for the window's lock"
    connection.execute("SELECT pg_terminate_backend(%s, 10000)", (pid,))  # returns when it is gone


def test_the_first_end_counts(open_ledger: OpenLedger, books: Books) -> None:
    ledger = open_ledger()
    makes: list[Callable[[Reservation], Settlement]] = [lambda r: settled(r, "0.04"), at_bound, released]
    for first, second in product(makes, makes):
        reservation = reserved(ledger)
        result = ledger.settle(first(reservation))

        again = ledger.settle(second(reservation))

        assert (again.cost, again.basis) == (result.cost, result.basis)
        ledger.reset(actor="test", source_ip=None, request_id="reset", reason=None)
    assert [window.spent for window in books.check()] == [
        Decimal(s) for s in "0.04 0.04 0.04 0.1 0.1 0.1 0 0 0 0".split()
    ]


def test_two_calls_of_one_request_are_two_entries(open_ledger: OpenLedger, books: Books) -> None:
    """Ids are the ledger's own: a caller who sends a request id twice doesn't get the second call for nothing."""
    ledger = open_ledger()
    for _ in range(2):
        ledger.settle(settled(ledger.reserve(Call("same", "chat", None), [candidate("0.1")]), "0.04"))
    assert books.only_window().spent == Decimal("0.08")


class TestOutage:
    """What becomes of settlements while Postgres can't be reached."""

    def test_a_kept_settlement_is_sent_with_the_next_call(
        self, ledger: Ledger, wire: Wire, books: Books, events: Events
    ) -> None:
        reservation = reserved(ledger)
        wire.break_at("ledger_settle", "ledger_settle", when="before")

        booked = ledger.settle(settled(reservation, "0.04"))

        assert (booked.cost, booked.basis, booked.budget) == (Decimal("0.04"), "actual", None)
        assert books.only_window().reserved == Decimal("0.1")
        [lost] = events.of("ledger.unavailable")
        assert lost["cost_usd"] == Decimal("0.04")
        reserved(ledger, "0.2")
        window = books.only_window()
        assert (window.spent, window.reserved) == (Decimal("0.04"), Decimal("0.2"))

    def test_a_failover_that_cannot_be_sent_keeps_the_failed_attempts_end(
        self, ledger: Ledger, wire: Wire, books: Books
    ) -> None:
        first = reserved(ledger)
        other = reserved(ledger, "0.2")
        wire.break_at(*["ledger_settle"] * 3, when="before")
        ledger.settle(settled(other, "0.15"))

        # The kept settlement goes first, and fails again: this attempt's own end must not get lost behind it.
        with pytest.raises(LedgerUnavailableError):
            ledger.reserve(a_call(), [candidate("0.1")], attempt=2, after=released(first))

        ledger.budget()
        window = books.only_window()
        assert (window.spent, window.reserved) == (Decimal("0.15"), ZERO)

    def test_a_reservation_that_nothing_was_sent_on_is_released(self, ledger: Ledger, wire: Wire, books: Books) -> None:
        wire.break_at("ledger_reserve", "ledger_reserve", when="after")
        with pytest.raises(LedgerUnavailableError):
            reserved(ledger)
        assert books.only_window().reserved == Decimal("0.1")

        ledger.budget()

        window = books.only_window()
        assert (window.spent, window.reserved, window.calls) == (ZERO, ZERO, 0)
        assert books.rows("SELECT outcome FROM ledger") == [{"outcome": "not_sent"}]

    def test_where_nothing_was_sent_nothing_is_kept(self, open_ledger: OpenLedger, database_url: str) -> None:
        """There is no reservation that would have to be released."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        nobody = open_ledger(make_conninfo(database_url, host="127.0.0.1", port=port))
        with pytest.raises(LedgerUnavailableError) as raised:
            reserved(nobody)
        assert not raised.value.may_be_done
        assert len(nobody._unsent) == 0

    @pytest.mark.parametrize("slots", [1, 4])
    def test_a_release_waits_for_the_reservation_that_is_not_committed_yet(
        self, core: CoreFactory, database_url: str, books: Books, slots: int
    ) -> None:
        """Its session may wait for a lost standby (`store/test_failover.py`) when the caller has given up already.

        On the company's row the release comes after it in any case. A reservation in a slot has no lock that the
        release would meet.
        """
        entry_id = str(uuid4())
        settings = sql_settings(core.settings(AI_MONTHLY_BUDGET_USD="10", AI_LEDGER_SLOTS=str(slots)))
        reserve: dict[str, Any] = {
            "settings": settings,
            "entry": {"id": entry_id, "request_id": "once", "attempt": 1, "operation": "chat", "tier": None},
            "candidates": [{"provider": "openai", "model": "gpt", "bound": Decimal("0.1")}],
            "probe_seconds": 30,
        }
        release = {
            "settings": settings,
            "settlement": {"id": entry_id, "mode": "release", "outcome": "not_sent"},
            "resent": True,
        }
        database = core().database
        # Allocates the slots' parts.
        first = reserve | {"entry": reserve["entry"] | {"id": str(uuid4())}}
        ask(database, "SELECT ledger_reserve($1::jsonb)", first)
        statuses: list[str | None] = []
        with psycopg.connect(database_url) as held:
            held.execute("SELECT ledger_reserve(%s::jsonb)", [dumps(reserve)])
            later = threading.Thread(
                target=lambda: statuses.append(ask(database, "SELECT ledger_settle($1::jsonb)", release)["status"])
            )
            later.start()
            wait_for_a_lock(books)
        later.join(PATIENCE_SECONDS)

        assert statuses == ["released"]
        assert books.only_window().reserved == Decimal("0.1")
        in_slot = slots > 1
        assert books.rows("SELECT status, slot IS NOT NULL AS in_slot FROM ledger WHERE id = %s", UUID(entry_id)) == [
            {"status": "released", "in_slot": in_slot}
        ]

    def test_a_release_of_what_never_came_leaves_nothing(self, ledger: Ledger, wire: Wire, books: Books) -> None:
        wire.break_at("ledger_reserve", "ledger_reserve", when="before")
        with pytest.raises(LedgerUnavailableError):
            reserved(ledger)
        ledger.budget()
        assert books.rows("SELECT id FROM ledger") == []

    def test_a_settlement_that_postgres_refuses_holds_up_no_later_call(
        self, clock: Clock, open_ledger: OpenLedger, books: Books, events: Events
    ) -> None:
        """A vendor that reports 10^30 tokens: no column holds them, so the call is settled at its bound in time."""
        ledger = open_ledger(AI_RESERVATION_TTL_SECONDS="60")
        reservation = reserved(ledger)
        settlement = settled(reservation, "0.04")
        assert settlement.counts is not None
        absurd = Settlement(reservation, "actual", "success", settlement.cost, counts=None, reasoning_tokens=10**30)

        ledger.settle(absurd)
        clock.advance(seconds=60)
        second = reserved(ledger, "0.2")

        assert second.candidate.bound == Decimal("0.2")
        assert events.count()["ledger.unavailable"] == 1
        assert books.entry(reservation.id)["cost_basis"] == "bound"
        assert books.only_window().spent == Decimal("0.1")

    def test_a_kept_settlement_that_postgres_refuses_holds_up_no_later_call(
        self, ledger: Ledger, wire: Wire, books: Books
    ) -> None:
        reservation = reserved(ledger)
        wire.break_at("ledger_settle", "ledger_settle", when="before")
        ledger.settle(Settlement(reservation, "actual", "success", Decimal("0.04"), reasoning_tokens=10**30))

        reserved(ledger, "0.2")

        assert books.only_window().reserved == Decimal("0.3")

    def test_who_holds_the_windows_row_forever_costs_a_503_not_the_calls_time(
        self, open_ledger: OpenLedger, database_url: str, books: Books
    ) -> None:
        ledger = open_ledger()
        first = reserved(ledger)
        functions = books.rows(
            "SELECT proconfig[1] AS first FROM pg_proc WHERE proname ~ '^ledger_(reserve|settle|budget|reset)$'"
        )
        assert functions == [{"first": "lock_timeout=5s"}] * 4
        with psycopg.connect(database_url, autocommit=True) as owner:
            for name in ("ledger_settle", "ledger_reserve"):
                owner.execute(
                    sql.SQL("ALTER FUNCTION {}(jsonb) SET lock_timeout = '50ms'").format(sql.Identifier(name))
                )
        with psycopg.connect(database_url) as forgotten:
            forgotten.execute("SELECT FROM budget_window FOR UPDATE")
            with pytest.raises(LedgerUnavailableError, match="LockNotAvailable"):
                reserved(ledger)
            assert ledger.settle(settled(first, "0.04")).budget is None
        ledger.budget()
        assert books.only_window().spent == Decimal("0.04")
