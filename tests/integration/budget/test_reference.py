"""Calls, clocks and limits at random: after every step the ledger holds what the plainest reading of the rules says."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import uuid4

import psycopg
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)
from hypothesis.strategies import SearchStrategy

from fusewire.budget.ledger import Ending, How, Ledger, Reservation
from fusewire.errors import BudgetExceededError, BudgetReservedError
from tests.integration.budget.books import Books, Clock, Events, a_call, at_bound, candidate, released, settled
from tests.integration.budget.conftest import OpenLedger
from tests.integration.budget.reference import Reference, Refusal

Made = MultipleResults[Reservation] | Reservation

ZONE = "Europe/Berlin"
START = datetime(2026, 10, 20, 8, tzinfo=UTC)
TTL = timedelta(seconds=180)
LIMITS = ("1", "0.3", "2.5")

amounts: SearchStrategy[Decimal] = st.one_of(
    st.sampled_from([Decimal(0), Decimal("0.1"), Decimal("0.2"), Decimal("0.15"), Decimal("0.8"), Decimal("0.95")]),
    st.decimals(0, 1, places=12),
    st.integers(1, 1000).map(lambda n: Decimal(n).scaleb(-3)),
)
endings: SearchStrategy[tuple[How, Decimal]] = st.one_of(
    st.tuples(st.just("actual"), st.decimals(0, 1, places=6)),
    st.tuples(st.just("actual"), st.just(Decimal("1.2"))),  # the vendor bills above the bound
    st.tuples(st.sampled_from(["bound", "release"]), st.just(Decimal(0))),
)
steps = st.sampled_from(
    [timedelta(0), timedelta(microseconds=1), timedelta(seconds=59), TTL, timedelta(days=1), timedelta(days=3)]
)


class LedgerAndReference(RuleBasedStateMachine):
    """Drives both alike."""

    books: Books
    clock: Clock
    events: Events
    ledgers: dict[str, Ledger]
    clear: Callable[[], None]

    reservations: Bundle[Reservation] = Bundle("reservations")
    ended: Bundle[Reservation] = Bundle("ended")

    def __init__(self) -> None:
        super().__init__()
        self.clear()
        self.clock.set(START)
        self.events.logged.clear()
        self.ledger = self.ledgers[LIMITS[0]]
        self.reference = Reference(START, Decimal(LIMITS[0]), ZONE, TTL)

    @initialize(target=reservations, bound=amounts)
    def first(self, bound: Decimal) -> Made:
        return self._reserve(bound)

    @rule(target=reservations, bound=amounts)
    def reserve(self, bound: Decimal) -> Made:
        return self._reserve(bound)

    @rule(target=ended, reservation=consumes(reservations), ending=endings)
    def end(self, reservation: Reservation, ending: tuple[How, Decimal]) -> Reservation:
        self._end(reservation, ending)
        return reservation

    @rule(reservation=ended, ending=endings)
    def end_again(self, reservation: Reservation, ending: tuple[How, Decimal]) -> None:
        self._end(reservation, ending)

    @rule(target=reservations, reservation=consumes(reservations), ending=endings, bound=amounts)
    def fail_over(self, reservation: Reservation, ending: tuple[How, Decimal], bound: Decimal) -> Made:
        return self._reserve(bound, (reservation, ending))

    @rule(step=steps)
    def wait(self, step: timedelta) -> None:
        self._set(self.clock.now + step)

    @precondition(lambda self: self.reference.windows)
    @rule(early=st.sampled_from([timedelta(0), timedelta(microseconds=1), TTL]))
    def wait_for_the_months_end(self, early: timedelta) -> None:
        self._set(max(self.clock.now, self.reference.windows[-1].resets_at.astimezone(UTC) - early))

    @rule()
    def read_the_budget(self) -> None:
        budget, by_provider, by_model, _ = self.ledger.budget()
        window = self.reference.budget()
        assert (budget.window.spent, budget.window.reserved) == (window.spent, window.reserved)
        assert budget.window.resets_at == window.resets_at
        assert budget.state == self.reference.state(window)
        assert sum(by_provider.values()) == sum(by_model.values()) == window.spent

    @rule()
    def reset(self) -> None:
        closed, opened = self.ledger.reset(actor="admin", source_ip=None, request_id="reset", reason=None)
        expected = self.reference.admin_reset()
        assert (closed.spent, closed.reserved) == (expected[0].spent, expected[0].reserved)
        assert opened.resets_at == expected[1].resets_at

    @rule(late=st.sampled_from([timedelta(0), timedelta(seconds=1), timedelta(seconds=90), timedelta(seconds=-30)]))
    def scheduled_reset(self, late: timedelta) -> None:
        closed = self.ledger.scheduled_reset(due=self.clock.now - late, request_id="schedule")
        expected = self.reference.scheduled_reset(self.clock.now - late)
        assert (closed and closed.spent) == (expected and expected.spent)

    @rule(limit=st.sampled_from(LIMITS))
    def change_the_limit(self, limit: str) -> None:
        self.ledger = self.ledgers[limit]
        self.reference.limit = Decimal(limit)

    @invariant()
    def both_agree(self) -> None:
        found = self.books.check()
        assert [(w.spent, w.reserved, w.calls) for w in found] == [
            (w.spent, w.reserved, w.calls) for w in self.reference.windows
        ]
        rows = self.books.rows(
            "SELECT opened_by, opened_at, resets_at, closed_at, state FROM budget_window ORDER BY id"
        )
        assert [tuple(row.values()) for row in rows] == [
            (w.opened_by, w.opened_at, w.resets_at, w.closed_at, w.recorded) for w in self.reference.windows
        ]
        assert self.events.count() == self.reference.events

    def _set(self, now: datetime) -> None:
        self.clock.set(now)
        self.reference.now = now

    def _end(self, reservation: Reservation, ending: tuple[How, Decimal]) -> None:
        how, share = ending
        cost = reservation.candidate.bound * share
        booked = self.ledger.end(_ending(reservation, how, cost))
        expected = self.reference.end(reservation.id, how, cost)
        assert booked.cost == expected.cost
        assert (booked.basis is None) == (expected.status == "released")

    def _reserve(self, bound: Decimal, after: tuple[Reservation, tuple[How, Decimal]] | None = None) -> Made:
        previous = None
        if after is not None:
            reservation, (how, share) = after
            cost = reservation.candidate.bound * share
            previous = _ending(reservation, how, cost)
            self.reference.end(reservation.id, how, cost)
        try:
            made = self.ledger.reserve(a_call(), [candidate(bound)], after=previous)
        except (BudgetExceededError, BudgetReservedError) as error:
            refusal: Refusal = "exceeded" if isinstance(error, BudgetExceededError) else "reserved"
            assert self.reference.reserve(uuid4(), bound) == refusal
            return multiple()
        assert self.reference.reserve(made.id, bound) is None
        window = self.reference.windows[-1]
        assert (made.budget.window.spent, made.budget.window.reserved) == (window.spent, window.reserved)
        return made


def _ending(reservation: Reservation, how: How, cost: Decimal) -> Ending:
    if how == "actual":
        return settled(reservation, cost)
    return at_bound(reservation) if how == "bound" else released(reservation)


def test_the_ledger_agrees_with_the_rules(
    database_url: str, clock: Clock, open_ledger: OpenLedger, books: Books, events: Events
) -> None:
    def clear() -> None:
        with psycopg.connect(database_url) as owner:
            owner.execute(
                "TRUNCATE budget_slot, budget_window, budget_crossing, ledger, usage_rollup, provider_health, audit"
            )

    limited = {
        limit: open_ledger(
            AI_MONTHLY_BUDGET_USD=limit,
            AI_BUDGET_TIMEZONE=ZONE,
            AI_RESERVATION_TTL_SECONDS=str(TTL.total_seconds()),
        )
        for limit in LIMITS
    }
    bound = {"books": books, "clock": clock, "events": events, "ledgers": limited, "clear": staticmethod(clear)}
    run_state_machine_as_test(
        type("Bound", (LedgerAndReference,), bound),
        settings=settings(
            max_examples=60,
            stateful_step_count=40,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
