"""Calls, clocks, limits, prices and lost connections at random: after every step the ledger holds what the rules say.

The rules are those of `reference.py`. `make prove` runs more and longer sequences of the same steps. With slots
(decision 7) a window's sums are its row's and its slots' together, and what is booked in a slot alone leaves expired
reservations, and the state under a changed limit, to the next statement that takes the window's lock. Which way a
statement went is read from the books; that it was right to be admitted that way is checked like everything else.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final
from uuid import UUID, uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)
from hypothesis.strategies import SearchStrategy
from psycopg import sql

from fusewire.budget.adjustments import Adjustments
from fusewire.budget.keys import AuditContext
from fusewire.budget.ledger import Ledger
from fusewire.budget.limits import AuditedLimits
from fusewire.budget.price_history import PriceHistory
from fusewire.budget.reservation import Reservation
from fusewire.errors import InvalidRequestError, LedgerUnavailableError
from fusewire.store.db import Database
from tests.conftest import CoreFactory
from tests.integration.budget.books import Books, Clock, Events, a_call
from tests.integration.budget.keys import Keys
from tests.integration.budget.machine import Ending, LedgerBesideReference, Made, Process, row_of
from tests.integration.budget.reference import Key, KnownPrice, Reference, SetPrice
from tests.integration.budget.wire import Break, Wire
from tests.support.database import ask

Listed = tuple[UUID, SetPrice]

ZONE = "Europe/Berlin"
START = datetime(2026, 10, 20, 8, tzinfo=UTC)
TTL = timedelta(seconds=180)
LIMITS = {"1": "3", "0.3": "0.6", "2.5": "3"}
"""Settings, and the maximum that goes with each."""
FIRST: Final = "1"
SLOTS: Final = 4
KEYS: Final = ("key-a", "key-b")
ADMIN: Final = AuditContext("key_boss", "192.0.2.7", "request-of-the-admin")
LONG: Final = bool(os.environ.get("FUSEWIRE_PROVE"))

amounts: SearchStrategy[Decimal] = st.one_of(
    st.sampled_from([Decimal(0), Decimal("0.1"), Decimal("0.2"), Decimal("0.15"), Decimal("0.8"), Decimal("0.95")]),
    st.decimals(0, 1, places=12),
    st.integers(1, 1000).map(lambda n: Decimal(n).scaleb(-3)),
    st.integers(1, 20).map(lambda n: Decimal(n).scaleb(-3)),  # small enough for a slot's part
)
corrections: SearchStrategy[Decimal] = st.tuples(amounts.filter(bool), st.sampled_from([1, -1])).map(
    lambda drawn: drawn[0] * drawn[1]
)
# Above its bound too: the vendor bills more than it was asked for.
shares: SearchStrategy[Decimal] = st.one_of(st.decimals(0, 1, places=6), st.just(Decimal("1.2")))
allowances: SearchStrategy[int | None] = st.sampled_from([None, None, None, 1, 200])
endings: SearchStrategy[Ending] = st.one_of(
    st.builds(Ending, st.just("actual"), shares, allowances),
    st.builds(Ending, st.just("bound"), st.one_of(st.none(), shares), allowances),
    st.just(Ending("release")),
)
steps = st.sampled_from(
    [timedelta(0), timedelta(microseconds=1), timedelta(seconds=59), TTL, timedelta(days=1), timedelta(days=3)]
)
delays = st.sampled_from([timedelta(0), timedelta(0), timedelta(seconds=59), timedelta(days=1)])
callers = st.sampled_from([None, *KEYS])
tokens = st.sampled_from([0, 10, 400, 700, 1001])
prices = st.sampled_from([Decimal(1), Decimal("0.5"), Decimal("1.5")])
moments: SearchStrategy[Break] = st.sampled_from(["before", "after"])
losses: SearchStrategy[tuple[Break, ...]] = st.sampled_from(
    [("before",), ("after",), ("before", "before"), ("before", "after"), ("after", "before"), ("after", "after")]
)


class LedgerAndReference(LedgerBesideReference):
    """Drives both alike."""

    clear: Callable[[], None]

    reservations: Bundle[Reservation] = Bundle("reservations")
    ended: Bundle[Reservation] = Bundle("ended")
    listed: Bundle[Listed] = Bundle("listed")

    def __init__(self) -> None:
        super().__init__()
        self.clear()
        self.clock.set(START)
        self.events.logged.clear()
        self.limit = FIRST
        self.processes = {limit: self.start(limit) for limit in LIMITS}
        self.reference = Reference(START, Decimal(self.limit), ZONE, TTL)
        self.reference.maximum = Decimal(LIMITS[self.limit])
        self.reference.keys = {self.keys.make(key_id): Key() for key_id in KEYS}
        self.may_lack = False
        self.staged: Listed | None = None
        self.highest = {budget: self.reference.cap(budget) for budget in ("global", *KEYS)}
        self.overbilled = Decimal(0)

    @initialize(target=reservations, amount=amounts, key_id=callers)
    def first(self, amount: Decimal, key_id: str | None) -> Made:
        return self.reserve_one(amount, 0, key_id)

    @rule(target=reservations, amount=amounts, tokens=tokens, key_id=callers)
    def reserve(self, amount: Decimal, tokens: int, key_id: str | None) -> Made:
        return self.reserve_one(amount, tokens, key_id)

    @rule(calls=st.lists(st.tuples(amounts, callers, endings), min_size=2, max_size=5))
    def a_few_calls(self, calls: list[tuple[Decimal, str | None, Ending]]) -> None:
        """One after another, each from its reservation to its end."""
        for amount, key_id, ending in calls:
            made = self.reserve_one(amount, 0, key_id)
            if isinstance(made, Reservation):
                self.end_with(made, ending)

    @rule(target=ended, reservation=consumes(reservations), ending=endings)
    def end(self, reservation: Reservation, ending: Ending) -> Reservation:
        self.end_with(reservation, ending)
        return reservation

    @rule(reservation=ended, ending=endings)
    def end_again(self, reservation: Reservation, ending: Ending) -> None:
        self.end_with(reservation, ending)

    @rule(target=reservations, reservation=consumes(reservations), ending=endings, amount=amounts, tokens=tokens)
    def fail_over(self, reservation: Reservation, ending: Ending, amount: Decimal, tokens: int) -> Made:
        return self.reserve_one(amount, tokens, reservation.call.key_id, (reservation, ending))

    @rule(reservation=consumes(reservations))
    def die_in_mid_call(self, reservation: Reservation) -> None:
        """The process is killed: nobody will end it."""

    @rule(
        target=reservations,
        reservation=consumes(reservations),
        ending=endings,
        amount=amounts,
        tokens=tokens,
        lost=moments,
    )
    def fail_over_and_lose_the_connection(
        self, reservation: Reservation, ending: Ending, amount: Decimal, tokens: int, lost: Break
    ) -> Made:
        with self.losing("ledger_reserve", (lost,)):
            return self.reserve_one(amount, tokens, reservation.call.key_id, (reservation, ending))

    @rule(reservation=consumes(reservations), ending=endings, lost=losses.filter(lambda lost: len(lost) == 2))
    def end_unheard_and_die(self, reservation: Reservation, ending: Ending, lost: tuple[Break, ...]) -> None:
        """The process is killed before it could send again what nobody has answered."""
        with self.losing("ledger_settle", lost):
            self.end_with(reservation, ending, heard="after" in lost)
        self.events.logged = [line for line in self.events.logged if line[0] != "ledger.unavailable"]
        self.processes[self.limit] = self.start(self.limit)

    @rule(target=reservations, amount=amounts, tokens=tokens, key_id=callers, lost=losses)
    def reserve_and_lose_the_connection(
        self, amount: Decimal, tokens: int, key_id: str | None, lost: tuple[Break, ...]
    ) -> Made:
        if len(lost) == 1:
            with self.losing("ledger_reserve", lost):
                return self.reserve_one(amount, tokens, key_id)
        process, offered = self.process, self.offer(amount, tokens)
        with self.losing("ledger_reserve", lost):
            with pytest.raises(LedgerUnavailableError):
                process.ledger.reserve(a_call(key_id=key_id), [offered], prices=process.table.stamp)
        if "after" in lost:  # it stands, and nobody sent anything on it: it is released with the next statement
            unknown = self._unknown_entry()
            refused = self.reference.reserve(
                unknown,
                offered.bound,
                tokens,
                key_id,
                in_slot=self.is_in_slot(unknown),
                price=process.known,
                allowance=process.allowance,
            )
            if refused is None:
                self.reference.end(unknown, "release", None, in_slot=self.would_end_in_slot(unknown))
        self.read_the_budget()
        return multiple()

    @rule(target=ended, reservation=consumes(reservations), ending=endings, lost=losses)
    def end_and_lose_the_connection(
        self, reservation: Reservation, ending: Ending, lost: tuple[Break, ...]
    ) -> Reservation:
        with self.losing("ledger_settle", lost):
            self.end_with(reservation, ending)
        if len(lost) == 2:  # kept, and sent with the next statement
            self.events.logged = [line for line in self.events.logged if line[0] != "ledger.unavailable"]
            self.read_the_budget()
        return reservation

    @rule(key_id=st.sampled_from(KEYS), budget=st.sampled_from([None, "0", "0.2", "0.5", "2"]))
    def change_a_keys_budget(self, key_id: str, budget: str | None) -> None:
        self.keys.change(key_id, limit_usd=budget)
        self.reference.keys[key_id].budget = None if budget is None else Decimal(budget)
        self.raise_highest(key_id)

    @rule(
        key_id=st.sampled_from(KEYS),
        requests=st.sampled_from([None, 1, 3]),
        tokens=st.sampled_from([None, 500, 1000]),
        revoked=st.sampled_from([False, False, False, True]),
    )
    def change_a_key(self, key_id: str, requests: int | None, tokens: int | None, revoked: bool) -> None:
        revoked_at = START if revoked else None
        self.keys.change(key_id, requests_per_minute=requests, tokens_per_minute=tokens, revoked_at=revoked_at)
        key = self.reference.keys[key_id]
        key.requests, key.tokens, key.revoked = requests, tokens, revoked

    @rule(target=listed, price=prices, delay=delays)
    def set_a_price(self, price: Decimal, delay: timedelta) -> Listed:
        """What is under way was bound at the old one, and is billed at it."""
        starts = self.clock.now + delay
        return self._add_a_price(price, starts if delay else None), self.reference.set_a_price(price, starts)

    @rule(price=prices)
    def stage_a_price(self, price: Decimal) -> None:
        """Nobody is priced by it, and nobody is stale."""
        self.staged = self._add_a_price(price, None, staged=True), self.reference.set_a_price(price, None)

    @precondition(lambda self: self.staged is not None)
    @rule(target=listed, delay=delays)
    def apply_the_staged_price(self, delay: timedelta) -> Listed:
        assert self.staged is not None
        id, staged = self.staged
        starts = self.clock.now + delay
        self.process.history.apply(id, starts if delay else None, ADMIN)
        self.reference.apply_a_price(staged, starts)
        self.staged = None
        return id, staged

    @rule(price=consumes(listed))
    def remove_a_price(self, price: Listed) -> None:
        self.process.history.remove(price[0], ADMIN)
        self.reference.remove_a_price(price[1])

    @rule(amount=corrections, place=st.sampled_from([None, 0, 1, 2]), lost=st.sampled_from([None, "before", "after"]))
    def adjust(self, amount: Decimal, place: int | None, lost: Break | None) -> None:
        """The company's open window, or one by its place, whatever its state."""
        amount *= self.unit
        windows, chosen, window_id = self.reference.windows["global"], None, None
        if place is not None and windows:
            chosen = windows[place % len(windows)]
            ids = [window.id for window in self.books.check() if window.budget == "global"]
            window_id = ids[place % len(windows)]
        expected = self.reference.adjust(amount, chosen)
        with nullcontext() if lost is None else self.losing("ledger_adjust", (lost,)):
            try:
                done = self.process.adjustments.book(amount, "invoice", window_id, ADMIN)
            except InvalidRequestError:
                assert expected is None, "as much is spent"
                return
        assert expected is not None, "less is spent"
        self.met["adjusted"] += 1
        assert (done.budget.window.spent, done.budget.state) == (expected.spent, self.reference.state(expected))

    @rule(step=steps)
    def wait(self, step: timedelta) -> None:
        self.set_clock(self.clock.now + step)

    @precondition(lambda self: self.reference.windows["global"])
    @rule(early=st.sampled_from([timedelta(0), timedelta(microseconds=1), TTL]))
    def wait_for_the_months_end(self, early: timedelta) -> None:
        self.set_clock(max(self.clock.now, self.reference.windows["global"][-1].resets_at.astimezone(UTC) - early))

    @rule()
    def read_the_budget(self) -> None:
        budget, by_provider, by_model, *_ = self.process.ledger.budget()
        window = self.reference.budget()
        assert (budget.window.spent, budget.window.reserved) == (window.spent, window.reserved)
        assert budget.window.resets_at == window.resets_at
        assert (budget.state, budget.limit) == (self.reference.state(window), self.reference.limit_of(window))
        assert sum(by_provider.values()) == sum(by_model.values()) == window.spent

    @rule(budget=st.sampled_from(["global", *KEYS]))
    def reset(self, budget: str) -> None:
        closed, opened = self.process.ledger.reset(
            actor="admin", source_ip=None, request_id="reset", reason=None, budget=budget
        )
        expected = self.reference.admin_reset(budget)
        assert (closed.spent, closed.reserved) == (expected[0].spent, expected[0].reserved)
        assert opened.resets_at == expected[1].resets_at

    @rule(budget=st.sampled_from(["global", *KEYS]), lost=moments)
    def reset_and_lose_the_connection(self, budget: str, lost: Break) -> None:
        with self.losing("ledger_reset", (lost,)):
            self.reset(budget)

    @rule(late=st.sampled_from([timedelta(0), timedelta(seconds=1), timedelta(seconds=90), timedelta(seconds=-30)]))
    def scheduled_reset(self, late: timedelta) -> None:
        closed = self.process.ledger.scheduled_reset(due=self.clock.now - late, request_id="schedule")
        expected = self.reference.scheduled_reset(self.clock.now - late)
        assert (closed and closed.spent) == (expected and expected.spent)

    @rule(limit=st.sampled_from([*LIMITS]))
    def change_the_limit(self, limit: str) -> None:
        """Another deployment: another setting, and another maximum of what is set at run time."""
        self.limit = limit
        self.reference.limit, self.reference.maximum = Decimal(limit), Decimal(LIMITS[limit])

    @rule(
        limit=st.sampled_from([None, "0.01", "0.3", "0.9", "2", "4"]),
        for_window=st.booleans(),
        lost=st.sampled_from([None, None, "before", "after"]),
    )
    def set_the_limit(self, limit: str | None, for_window: bool, lost: Break | None) -> None:
        """At run time, by an administrator."""
        amount, for_window = None if limit is None else Decimal(limit), for_window and limit is not None
        expected = self.reference.set_limit(amount, for_window=for_window)
        with nullcontext() if lost is None or expected is None else self.losing("ledger_set_limit", (lost,)):
            try:
                budget, found = self.process.limits.change(amount, "window" if for_window else None, "reason", ADMIN)
            except InvalidRequestError:
                assert expected is None, "it isn't above the maximum"
                return
        assert expected is not None, "it is above the maximum"
        self.met["limit set"] += 1
        assert (budget.state, budget.limit) == (self.reference.state(expected), self.reference.limit_of(expected))
        assert (budget.window.spent, budget.window.reserved) == (expected.spent, expected.reserved)
        assert found.in_force == budget.limit
        assert (found.audited and found.audited.amount) == expected.audited

    @invariant()
    def no_window_passes_the_highest_limit_it_had_but_by_what_was_billed_beyond_bounds(self) -> None:
        """Or by what was booked by hand."""
        self.raise_highest("global")
        found = self.books.check()
        for budget, windows in self.reference.windows.items():
            limit = self.highest[budget]
            for window, expected in zip([w for w in found if w.budget == budget], windows, strict=True):
                by_hand = sum((a for a in expected.adjustments if a > 0), Decimal(0))
                assert limit is None or window.spent + window.reserved <= limit + self.overbilled + by_hand

    @invariant()
    def both_agree(self) -> None:
        found = self.books.check()
        rows = self.books.rows("""
            SELECT budget, opened_by, opened_at, resets_at, closed_at, state,
                   rate_window_started_at, rate_requests, rate_tokens, limit_usd
            FROM budget_window ORDER BY id
        """)
        for budget in ("global", *KEYS):
            expected = self.reference.windows.get(budget, [])
            assert [(w.spent, w.reserved, w.calls) for w in found if w.budget == budget] == [
                (w.spent, w.reserved, w.calls) for w in expected
            ]
            assert [tuple(row.values())[1:] for row in rows if row["budget"] == budget] == list(map(row_of, expected))
        response = Counter((name, fields.get("key_id")) for name, fields in self.events.logged)
        if self.may_lack:
            # What a sweep saw first is told once; where that answer was lost, it is only in the books.
            assert response <= self.reference.events
            self.reference.events = response
            self.may_lack = False
        assert response == self.reference.events

    @invariant()
    def the_raised_allowance_is_the_largest_that_was_shown(self) -> None:
        raised = [row["tokens"] for row in self.books.rows("SELECT tokens FROM input_allowance")]
        assert raised == [self.reference.allowance] * bool(self.reference.allowance)

    def _add_a_price(self, price: Decimal, starts: datetime | None, *, staged: bool = False) -> UUID:
        entry, source = {"input_mtok": price}, str(uuid4())
        history = self.process.history
        row = history.add(
            "openai", "gpt", entry, source=source, effective_from=starts, staged=staged, audit_context=ADMIN
        )
        return UUID(row["id"])

    def _unknown_entry(self) -> UUID:
        """The reservation that the ledger has and nobody was told of; an id of none when there is no such thing."""
        found = self.books.rows(
            "SELECT id FROM ledger WHERE NOT id = ANY (%s) AND operation <> 'adjustment'", list(self.reference.entries)
        )
        return found[0]["id"] if found else uuid4()


@pytest.fixture(params=[1, SLOTS])
def slots(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def met() -> Counter[str]:
    return Counter()


@pytest.fixture
def machine(
    database_url: str,
    core: CoreFactory,
    clock: Clock,
    books: Books,
    keys: Keys,
    events: Events,
    slots: int,
    met: Counter[str],
) -> Iterator[type[LedgerAndReference]]:
    def clear() -> None:
        with psycopg.connect(database_url) as owner:
            owner.execute("DELETE FROM ledger")
            for table in (
                "budget_adjustment",
                "budget_limit",
                "budget_threshold_event",
                "usage_rollup",
                "budget_slot",
                "budget_window",
                "api_key",
                "audit",
                "provider_health",
                "vendor_refusal",
                "input_allowance",
                "price",
            ):
                owner.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(table)))
            owner.execute("UPDATE audit_head SET n = 0, hash = ''")
            owner.execute("UPDATE price_version SET version = 0")

    wire = Wire(database_url)
    limited = {
        limit: core.settings(
            DATABASE_URL=wire.url,
            AI_MONTHLY_BUDGET_USD=limit,
            AI_MONTHLY_BUDGET_MAX_USD=LIMITS[limit],
            AI_BUDGET_TIMEZONE=ZONE,
            AI_LEDGER_SLOTS=str(slots),
            AI_REQUEST_TIMEOUT_SECONDS="1",
            AI_RESERVATION_TTL_SECONDS=str(TTL.total_seconds()),
        )
        for limit in LIMITS
    }
    connected = Database(limited[FIRST].database_url)

    def start(limit: str) -> Process:
        ask(connected, "SELECT ledger_ping($1::jsonb)", {})  # so that a statement that is lost is sent again
        made = limited[limit]
        return Process(
            Ledger(connected, made),
            Adjustments(connected, made),
            AuditedLimits(connected, made),
            PriceHistory(connected, made),
            KnownPrice(None, START, 0),
        )

    bound = {"books": books, "clock": clock, "events": events, "keys": keys, "wire": wire, "met": met}
    bound |= {"unit": Decimal(1) if slots == 1 else Decimal("0.1")}
    bound |= {"start": staticmethod(start), "clear": staticmethod(clear)}
    yield type("Bound", (LedgerAndReference,), bound)
    connected.close()
    wire.close()


def wanted(slots: int) -> list[str]:
    """What must be among the steps."""
    in_slots = ["reserved in a slot", "ended in a slot"] if slots > 1 else []
    on_the_row = ["ample"] if slots == 1 else []
    others = ["stale", "allowance raised", "adjusted", "limit set", "at a part of its bound", "settled late"]
    return [*others, *on_the_row, *in_slots]


def test_one_of_each_agrees(machine: type[LedgerAndReference], met: Counter[str], slots: int) -> None:
    """A short run at random may lack what is rare."""
    both = machine()

    def agree(made: Made) -> Reservation:
        both.both_agree()
        both.the_raised_allowance_is_the_largest_that_was_shown()
        assert isinstance(made, Reservation)
        return made

    agree(both.first(Decimal("0.01"), None))
    both.set_a_price(Decimal("0.5"), timedelta(0))
    at_a_part = agree(both.reserve(Decimal("0.01"), 10, None))
    both.end(at_a_part, Ending("bound", Decimal("0.5")))
    raises = agree(both.reserve(Decimal("0.01"), 10, None))
    both.end(raises, Ending("actual", Decimal("0.5"), 200))
    both.change_the_limit("2.5")
    knows_neither = agree(both.reserve(Decimal("0.01"), 10, None))
    both.adjust(Decimal("0.1"), None, None)
    both.set_the_limit("2", False, None)
    both.set_the_limit("0.9", True, "after")
    agree(knows_neither)
    for _ in range(4):
        both.end(agree(both.reserve(Decimal("0.001"), 0, None)), Ending("actual", Decimal("0.5")))
        both.both_agree()
    assert [name for name in wanted(slots) if not met[name]] == []


def test_the_ledger_agrees_with_the_rules(machine: type[LedgerAndReference], met: Counter[str], slots: int) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=300 if LONG else 25,
            stateful_step_count=60 if LONG else 40,
            deadline=None,
            derandomize=not LONG,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    if LONG:
        assert {name: met[name] for name in wanted(slots) if met[name] <= 30} == {}, "hardly ever met"
