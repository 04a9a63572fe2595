"""Windows open by use, and end with the month, by the schedule, or by an admin; each once."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from zoneinfo import ZoneInfo

import psycopg
import pytest

from fusewire.errors import BudgetExceededError, LedgerUnavailableError
from tests.integration.budget.books import ZERO, Books, Clock, Events, a_call, candidate, settled
from tests.integration.budget.conftest import OpenLedger


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_the_first_use_opens_a_window_until_the_months_end(
    clock: Clock, open_ledger: OpenLedger, books: Books, events: Events
) -> None:
    assert books.check() == []

    window = open_ledger().reserve(a_call(), [candidate("0.1")]).budget.window

    assert (window.opened_by, window.opened_at, window.closed_at) == ("use", clock.now, None)
    assert window.resets_at == utc("2026-12-01T00:00")
    assert events.logged == []


@pytest.mark.usefixtures("patience")
def test_32_first_uses_open_one_window(open_ledger: OpenLedger, books: Books) -> None:
    ledgers = [open_ledger() for _ in range(32)]
    with ThreadPoolExecutor(len(ledgers)) as pool:
        list(pool.map(lambda ledger: ledger.reserve(a_call(), [candidate("0.01")]), ledgers))
    assert books.only_window().reserved == Decimal("0.32")


MONTH_ENDS = [
    ("UTC", "2026-11-30T23:59:59.999999", "2026-12-01T00:00"),
    ("UTC", "2026-12-01T00:00", "2027-01-01T00:00"),
    ("Asia/Tokyo", "2026-11-30T14:59:59", "2026-11-30T15:00"),
    ("Asia/Tokyo", "2026-11-30T15:00", "2026-12-31T15:00"),
    ("America/New_York", "2026-11-15T12:00", "2026-12-01T05:00"),
    # Summer time begins (29 March) and ends (25 October) within these months in Berlin.
    ("Europe/Berlin", "2026-03-01T12:00", "2026-03-31T22:00"),
    ("Europe/Berlin", "2026-03-31T21:59:59", "2026-03-31T22:00"),
    ("Europe/Berlin", "2026-03-31T22:00", "2026-04-30T22:00"),
    ("Europe/Berlin", "2026-10-15T12:00", "2026-10-31T23:00"),
    ("Europe/Berlin", "2026-02-15T12:00", "2026-02-28T23:00"),
    ("Europe/Berlin", "2028-02-15T12:00", "2028-02-29T23:00"),
    ("Asia/Kathmandu", "2026-11-15T12:00", "2026-11-30T18:15"),
    ("Pacific/Kiritimati", "2026-11-30T09:59:59", "2026-11-30T10:00"),
    ("Pacific/Pago_Pago", "2026-12-01T10:59:59", "2026-12-01T11:00"),
    # The first midnight of November 2015 came twice in Havana: the month ends with the second.
    ("America/Havana", "2015-10-15T12:00", "2015-11-01T05:00"),
    # October 2017 had no midnight on its first day in Asuncion: the clocks went from 23:59 to 01:00.
    ("America/Asuncion", "2017-09-15T12:00", "2017-10-01T04:00"),
]


def test_the_month_ends_in_the_budgets_time_zone(books: Books) -> None:
    for zone, now, end in MONTH_ENDS:
        [row] = books.rows("SELECT ledger_period_end('month', %s, %s) AS at", utc(now), zone)
        assert row["at"] == utc(end), zone
        local = utc(end).astimezone(ZoneInfo(zone))
        assert (local.day, local.minute) == (1, 0), zone


@pytest.mark.parametrize(
    ("zone", "end"),
    [("UTC", "2026-11-01T00:00"), ("Europe/Berlin", "2026-10-31T23:00"), ("America/New_York", "2026-11-01T04:00")],
)
def test_reserved_before_the_months_end_and_settled_after_it(
    clock: Clock, open_ledger: OpenLedger, books: Books, events: Events, zone: str, end: str
) -> None:
    clock.set(utc(end) - timedelta(microseconds=1))
    ledger = open_ledger(AI_BUDGET_TIMEZONE=zone)
    old = ledger.reserve(a_call("old"), [candidate("0.9")])
    clock.set(utc(end))

    # The new window has the whole budget, and the old one's reservation stays with the old one.
    new = ledger.reserve(a_call("new"), [candidate("0.9")])
    ledger.settle(settled(old, "0.85"))
    ledger.settle(settled(new, "0.2"))

    before, after = books.check(limit=Decimal(1))
    assert (before.spent, before.reserved, before.calls) == (Decimal("0.85"), ZERO, 1)
    assert (after.spent, after.reserved, after.calls) == (Decimal("0.2"), ZERO, 1)
    assert new.budget.window.opened_by == "period_end"
    [reset] = events.of("circuit_breaker.monthly_reset")
    assert reset["before"]["closed_at"] == utc(end).isoformat()
    # 0.85 was spent in a window that is over: its threshold alarms nobody.
    assert events.count() == {"circuit_breaker.monthly_reset": 1, "audit": 1}
    # Late money is counted on its own month's last day, so that a month's days add up to the month's windows.
    first = utc(end).astimezone(ZoneInfo(zone)).date()
    days = books.rows("SELECT window_id, day FROM usage_rollup ORDER BY day")
    assert [(row["window_id"], row["day"]) for row in days] == [
        (before.id, first - timedelta(days=1)),
        (after.id, first),
    ]


def test_a_failover_over_the_months_end_books_each_attempt_in_its_own_window(
    clock: Clock, open_ledger: OpenLedger, books: Books
) -> None:
    ledger = open_ledger()
    first = ledger.reserve(a_call(), [candidate("0.9")])
    clock.set(utc("2026-12-01T00:00"))

    second = ledger.reserve(a_call(), [candidate("0.8", "ollama")], attempt=2, after=settled(first, "0.5"))

    old, new = books.check()
    assert (old.spent, new.reserved) == (Decimal("0.5"), Decimal("0.8"))
    assert second.budget.window.id == new.id


def test_months_without_use_leave_one_window(clock: Clock, open_ledger: OpenLedger, books: Books) -> None:
    ledger = open_ledger()
    ledger.budget()
    clock.set(utc("2027-03-10T08:00"))

    budget, *_ = ledger.budget()

    assert budget.window.opened_at == clock.now
    assert budget.window.resets_at == utc("2027-04-01T00:00")
    old = books.rows("SELECT closed_at FROM budget_window ORDER BY id")[0]
    assert old["closed_at"] == utc("2026-12-01T00:00")
    assert len(books.check()) == 2


@pytest.mark.usefixtures("patience")
def test_32_calls_at_the_months_end_turn_the_window_once(
    clock: Clock, open_ledger: OpenLedger, books: Books, events: Events
) -> None:
    ledgers = [open_ledger() for _ in range(32)]
    ledgers[0].budget()
    clock.set(utc("2026-12-01T00:00"))
    with ThreadPoolExecutor(len(ledgers)) as pool:
        list(pool.map(lambda ledger: ledger.reserve(a_call(), [candidate("0.01")]), ledgers))

    assert [window.reserved for window in books.check()] == [ZERO, Decimal("0.32")]
    assert events.count() == {"circuit_breaker.monthly_reset": 1, "audit": 1}


class TestSchedule:
    def test_twice_in_a_minute_resets_once(
        self, clock: Clock, open_ledger: OpenLedger, books: Books, events: Events
    ) -> None:
        ledger = open_ledger()
        ledger.settle(settled(ledger.reserve(a_call(), [candidate("0.1")]), "0.04"))
        clock.advance(seconds=1)
        closed = ledger.scheduled_reset(due=clock.now, request_id="schedule-1")
        clock.advance(seconds=59)

        # Delivered again, and by a trigger that carries no time of its own.
        again = [
            ledger.scheduled_reset(due=clock.now - timedelta(seconds=59), request_id="schedule-1"),
            ledger.scheduled_reset(due=clock.now, request_id="schedule-2"),
        ]

        assert closed is not None
        assert closed.spent == Decimal("0.04")
        assert again == [None, None]
        assert len(books.check()) == 2
        assert events.count() == {"circuit_breaker.monthly_reset": 1, "audit": 1}

    def test_a_month_later_it_resets_again(self, clock: Clock, open_ledger: OpenLedger, books: Books) -> None:
        ledger = open_ledger()
        ledger.budget()
        for month_end in ("2026-12-01T00:00", "2027-01-01T00:00", "2027-02-01T00:00"):
            clock.set(utc(month_end) + timedelta(seconds=2))
            assert ledger.scheduled_reset(due=utc(month_end), request_id="schedule") is not None
        assert len(books.check()) == 4

    @pytest.mark.parametrize("late_by_seconds", [1, 300, 86_400])
    def test_a_window_that_a_call_has_rolled_over_stays(
        self, clock: Clock, open_ledger: OpenLedger, books: Books, late_by_seconds: int
    ) -> None:
        ledger = open_ledger()
        ledger.budget()
        clock.set(utc("2026-12-01T00:00"))
        reservation = ledger.reserve(a_call(), [candidate("0.1")])
        clock.advance(seconds=late_by_seconds)

        assert ledger.scheduled_reset(due=utc("2026-12-01T00:00"), request_id="schedule") is None

        assert [window.id for window in books.check()][-1] == reservation.budget.window.id

    def test_it_leaves_alone_what_an_admin_has_just_reset(
        self, clock: Clock, open_ledger: OpenLedger, books: Books
    ) -> None:
        ledger = open_ledger()
        due = clock.now
        clock.advance(seconds=5)
        ledger.reset(actor="admin", source_ip=None, request_id="reset-1", reason=None)

        assert ledger.scheduled_reset(due=due, request_id="schedule") is None

        assert len(books.check()) == 2

    def test_it_closes_the_month_itself_when_no_call_has(
        self, clock: Clock, open_ledger: OpenLedger, books: Books, events: Events
    ) -> None:
        ledger = open_ledger()
        ledger.budget()
        clock.set(utc("2026-12-01T00:00:01"))

        closed = ledger.scheduled_reset(due=utc("2026-12-01T00:00"), request_id="schedule")

        assert closed is not None
        assert closed.closed_at == utc("2026-12-01T00:00")
        assert len(books.check()) == 2
        assert events.count() == {"circuit_breaker.monthly_reset": 1, "audit": 1}

    @pytest.mark.usefixtures("patience")
    def test_32_deliveries_at_once_reset_once(self, open_ledger: OpenLedger, books: Books, events: Events) -> None:
        ledgers = [open_ledger() for _ in range(32)]
        ledgers[0].budget()
        due = datetime.now(UTC)
        with ThreadPoolExecutor(len(ledgers)) as pool:
            closed = list(pool.map(lambda ledger: ledger.scheduled_reset(due=due, request_id="s"), ledgers))
        assert sum(window is not None for window in closed) == 1
        assert len(books.check()) == 2
        assert events.count() == {"circuit_breaker.monthly_reset": 1, "audit": 1}


class TestAdminReset:
    def test_it_is_audited_with_before_and_after(
        self, clock: Clock, open_ledger: OpenLedger, books: Books, events: Events
    ) -> None:
        ledger = open_ledger()
        ledger.settle(settled(ledger.reserve(a_call(), [candidate("0.96")]), "0.955"))
        with pytest.raises(BudgetExceededError):
            ledger.reserve(a_call(), [candidate("0.01")])

        closed, opened = ledger.reset(actor="key-1", source_ip="192.0.2.7", request_id="reset-1", reason="new contract")

        assert (closed.spent, closed.request_count, closed.closed_at) == (Decimal("0.955"), 1, clock.now)
        assert (opened.spent, opened.opened_by, opened.closed_at) == (ZERO, "admin", None)
        [row] = books.rows("""
            SELECT *, (before->>'id')::int AS closed, before->>'spent' AS spent_before,
                   (after->>'id')::int AS opened, after->>'spent' AS spent_after, after->>'reason' AS reason
            FROM audit
        """)
        assert (row["actor"], row["action"], row["source_ip"], row["request_id"]) == (
            "key-1",
            "budget.reset",
            "192.0.2.7",
            "reset-1",
        )
        assert (row["closed"], row["spent_before"]) == (closed.id, "0.955")
        assert (row["opened"], row["spent_after"], row["reason"]) == (opened.id, "0", "new contract")
        [line] = events.of("audit")
        assert (line["actor"], line["source_ip"], line["reason"]) == ("key-1", "192.0.2.7", "new contract")
        assert (line["before"]["spent_usd"], line["after"]["spent_usd"]) == (Decimal("0.955"), ZERO)
        assert events.count()["circuit_breaker.manual_reset"] == 1
        ledger.reserve(a_call(), [candidate("0.9")])

    def test_what_cannot_be_audited_is_not_done(self, open_ledger: OpenLedger, books: Books, database_url: str) -> None:
        ledger = open_ledger()
        ledger.settle(settled(ledger.reserve(a_call(), [candidate("0.1")]), "0.04"))
        with psycopg.connect(database_url, autocommit=True) as owner:
            owner.execute("ALTER TABLE audit ADD CHECK (actor <> 'nobody')")

        with pytest.raises(LedgerUnavailableError):
            ledger.reset(actor="nobody", source_ip=None, request_id="reset-1", reason=None)

        assert books.only_window().spent == Decimal("0.04")
        assert books.rows("SELECT FROM budget_window WHERE closed_at IS NULL") == [{}]

    def test_resets_at_once_each_open_a_window_and_audit_it(self, open_ledger: OpenLedger, books: Books) -> None:
        ledgers = [open_ledger() for _ in range(8)]
        with ThreadPoolExecutor(len(ledgers)) as pool:
            resets = list(
                pool.map(lambda ledger: ledger.reset(actor="a", source_ip=None, request_id="r", reason=None), ledgers)
            )
        windows = [window.id for window in books.check()]
        assert sorted(closed.id for closed, _ in resets) == windows[:-1]
        assert sorted(opened.id for _, opened in resets) == windows[1:]
        audited = books.rows("SELECT (before->>'id')::int AS closed, (after->>'id')::int AS opened FROM audit")
        assert sorted((row["closed"], row["opened"]) for row in audited) == list(pairwise(windows))
        assert len(books.rows("SELECT FROM budget_window WHERE closed_at IS NULL")) == 1
