"""Calls, clocks, limits, prices and lost connections at random: after every step the ledger holds what the rules say.

Calls wait for room, go out with fitted caps, and are in a tree of budgets that is made, moved, changed and deleted
while they are in flight.

The rules are those of `reference.py`. `make prove` runs more and longer sequences of the same steps. With slots
(decision 7) a window's sums are its row's and its slots' together, and what is booked in a slot alone leaves expired
reservations, and the state under a changed limit, to the next statement that takes the window's lock. Which way a
statement went is read from the books; that it was right to be admitted that way is checked like everything else.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import astuple, replace
from datetime import UTC, datetime, timedelta
from decimal import ROUND_DOWN, Decimal
from typing import Final, cast
from uuid import UUID, uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, settings
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
from psycopg import sql
from pydantic import SecretStr

from fusewire.budget.adjustments import Adjustments
from fusewire.budget.audit_context import AuditContext
from fusewire.budget.ledger import Ledger
from fusewire.budget.limits import AuditedLimits
from fusewire.budget.nodes import Nodes
from fusewire.budget.price_history import PriceHistory
from fusewire.budget.reservation import Reservation
from fusewire.errors import InvalidRequestError, LedgerUnavailableError
from fusewire.store.db import GROUP, Argument, Database, Result, Statement
from fusewire.store.groups import Groups
from tests.conftest import CoreFactory
from tests.integration.budget.books import Books, Clock, Events, a_call
from tests.integration.budget.conftest import SLOTS_OF_EACH, make_every_budget_busy
from tests.integration.budget.keys import Keys
from tests.integration.budget.machine import Caller, Ending, Made, Process, row_of
from tests.integration.budget.machine_steps import (
    KEYS,
    TTL,
    amounts,
    callers,
    corrections,
    delays,
    endings,
    key_ids,
    losses,
    moments,
    places,
    prices,
    steps,
)
from tests.integration.budget.machine_tree import TreeBesideReference
from tests.integration.budget.reference import Reference
from tests.integration.budget.reference_records import Key, KnownPrice, SetPrice
from tests.integration.budget.wire import Break, Wire
from tests.support.database import ask

Listed = tuple[UUID, SetPrice]

ZONE = "Europe/Berlin"
START = datetime(2026, 10, 20, 8, tzinfo=UTC)
LIMITS = {"1": "3", "0.3": "0.6", "2.5": "3"}
"""Settings, and the maximum that goes with each."""
FIRST: Final = "1"
SLOTS: Final = 4
IN_GROUPS: Final = "1, in groups"
ADMIN: Final = AuditContext("key_boss", "192.0.2.7", "request-of-the-admin")
LONG: Final = bool(os.environ.get("FUSEWIRE_PROVE"))


class LedgerAndReference(TreeBesideReference):
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
        self.reference.user_budget = self.user_budget
        self.waiters = []
        self.may_lack = False
        self.staged: Listed | None = None
        self.highest = {budget: self.reference.cap(budget) for budget in ("global", *KEYS)}
        self.overbilled = Decimal(0)

    @initialize(target=reservations, caller=callers, has_tree=st.booleans())
    def first(self, caller: Caller, has_tree: bool) -> Made:
        if has_tree:
            self.plant()
        return self.reserve_one(caller)

    @rule(target=reservations, caller=callers)
    def reserve(self, caller: Caller) -> Made:
        return self.reserve_one(caller)

    @rule(calls=st.lists(st.tuples(amounts, key_ids, endings), min_size=2, max_size=5))
    def a_few_calls(self, calls: list[tuple[Decimal, str | None, Ending]]) -> None:
        """One after another, each from its reservation to its end."""
        for amount, key_id, ending in calls:
            made = self.reserve_one(Caller(amount, key_id=key_id, user="alice"))
            if isinstance(made, Reservation):
                self.end_with(made, ending)

    @rule(key_id=key_ids, size=st.sampled_from([100, 400, 5_000]))
    def many_answers(self, key_id: str | None, size: int) -> None:
        """As so many settlements count them."""
        row = ("openai", "gpt", key_id or "", size, 30)
        self.keys.execute("SELECT output_size_count(%s, %s, %s, 0::smallint, %s) FROM generate_series(1, %s)", *row)
        for _ in range(30):
            self.reference.answers.count(key_id or "", size)

    @precondition(lambda self: self.waiters)
    @rule(
        target=reservations,
        place=places,
        waited=st.sampled_from(["0", "0.05", "0.1", "0.5", "1"]).map(Decimal),
        lost=st.sampled_from([None, None, None, "before", "after"]),
    )
    def ask_again(self, place: int, waited: Decimal, lost: Break | None) -> Made:
        """A waiting call, of whose time so much is over."""
        waiter = self.waiters.pop(place % len(self.waiters))
        waiter.waiting.goes_on(waited)
        with nullcontext() if lost is None else self.losing("ledger_reserve", (lost,)):
            return self.reserve_one(waiter.caller, waiting=waiter.waiting, attempt=waiter.attempt)

    @rule(
        target=reservations,
        key_id=key_ids,
        part=st.sampled_from(["0.55", "0.7", "0.9"]).map(Decimal),
        ending=endings,
        waited=st.sampled_from(["0", "0.5", "1"]).map(Decimal),
        frees=st.sampled_from([True, True, False]),
    )
    def wait_for_another(self, key_id: str | None, part: Decimal, ending: Ending, waited: Decimal, frees: bool) -> Made:
        """A call that takes most of the room, and one like it, which asks again when the first has ended, or hasn't."""
        windows = self.reference.open_windows(key_id, "alice")
        room = min((room for _, room, _ in self.reference.rooms(windows)), default=Decimal(0))
        # With few digits, as amounts have them: a quotient has 28, and sums of those are no longer exact in Python.
        amount = (max(room * part, Decimal(0)) / self.unit / self.process.price).quantize(Decimal("1e-12"), ROUND_DOWN)
        caller = Caller(amount, key_id=key_id, user="alice")
        first = self.reserve_one(caller)
        others = len(self.waiters)
        self.reserve_one(replace(caller, waits=True))
        if isinstance(first, Reservation) and frees:
            self.end_with(first, ending)
        if len(self.waiters) > others:
            return self.ask_again(len(self.waiters) - 1, waited, None)
        return multiple()

    @precondition(lambda self: self.waiters)
    @rule(place=places)
    def die_while_waiting(self, place: int) -> None:
        """Its place counts until its lease is over."""
        self.waiters.pop(place % len(self.waiters))

    @rule(target=ended, reservation=consumes(reservations), ending=endings)
    def end(self, reservation: Reservation, ending: Ending) -> Reservation:
        self.end_with(reservation, ending)
        return reservation

    @rule(reservation=ended, ending=endings)
    def end_again(self, reservation: Reservation, ending: Ending) -> None:
        self.end_with(reservation, ending)

    @rule(target=reservations, reservation=consumes(reservations), ending=endings, caller=callers)
    def fail_over(self, reservation: Reservation, ending: Ending, caller: Caller) -> Made:
        return self.reserve_one(_same_caller(caller, reservation), (reservation, ending))

    @rule(reservation=consumes(reservations))
    def die_in_mid_call(self, reservation: Reservation) -> None:
        """The process is killed: nobody will end it."""

    @rule(
        target=reservations,
        reservation=consumes(reservations),
        ending=endings,
        caller=callers,
        lost=moments,
    )
    def fail_over_and_lose_the_connection(
        self, reservation: Reservation, ending: Ending, caller: Caller, lost: Break
    ) -> Made:
        with self.losing("ledger_reserve", (lost,)):
            return self.reserve_one(_same_caller(caller, reservation), (reservation, ending))

    @rule(reservation=consumes(reservations), ending=endings, lost=losses.filter(lambda lost: len(lost) == 2))
    def end_unheard_and_die(self, reservation: Reservation, ending: Ending, lost: tuple[Break, ...]) -> None:
        """The process is killed before it could send again what nobody has answered."""
        with self.losing("ledger_settle", lost):
            self.end_with(reservation, ending, heard="after" in lost)
        self.events.logged = [line for line in self.events.logged if line[0] != "ledger.unavailable"]
        self.processes[self.limit] = self.start(self.limit)

    @rule(target=reservations, caller=callers, lost=losses)
    def reserve_and_lose_the_connection(self, caller: Caller, lost: tuple[Break, ...]) -> Made:
        if len(lost) == 1:
            with self.losing("ledger_reserve", lost):
                return self.reserve_one(caller)
        process, offered = self.process, self.offer(caller)
        call = a_call(key_id=caller.key_id, user=caller.user)
        with self.losing("ledger_reserve", lost):
            with pytest.raises(LedgerUnavailableError):
                process.ledger.reserve(call, [offered], prices=process.table.stamp)
        if "after" in lost:  # it stands, and nobody sent anything on it: it is released with the next statement
            unknown = self._unknown_entry()
            refused = self.reference.reserve(
                unknown,
                offered.bound,
                offered.tokens,
                caller.key_id,
                in_slot=self.is_in_slot(unknown),
                price=process.known,
                allowance=process.allowance,
                user=caller.user,
                fit=offered.fit,
            )
            if refused is None:
                self.reference.end(unknown, "release", None, slot=self.would_end_in_slot(unknown))
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
        if not self.counts_minutes:
            requests = tokens = None
        revoked_at = START if revoked else None
        self.keys.change(key_id, requests_per_minute=requests, tokens_per_minute=tokens, revoked_at=revoked_at)
        key = self.reference.keys[key_id]
        key.requests, key.tokens, key.revoked = requests, tokens, revoked

    @rule(key_id=st.sampled_from(KEYS), limit=st.sampled_from([None, "0.1", "0.4"]))
    def change_what_each_user_has(self, key_id: str, limit: str | None) -> None:
        self.keys.change(key_id, per_user_limit_usd=limit)
        self.reference.keys[key_id].per_user = None if limit is None else Decimal(limit)
        for budget in self.reference.windows:
            if budget.startswith(f"user:{key_id}:"):
                self.raise_highest(budget)

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
        self.set_clock(max(self.clock.now, self._months_end() - early))

    @rule()
    def read_the_budget(self) -> None:
        budget, by_provider, by_model, *_ = self.process.ledger.budget()
        window = self.reference.budget()
        assert (budget.window.spent, budget.window.reserved) == (window.spent, window.reserved)
        assert budget.window.resets_at == window.resets_at
        assert (budget.state, budget.limit) == (self.reference.state(window), self.reference.limit_of(window))
        assert sum(by_provider.values()) == sum(by_model.values()) == window.spent

    @rule(place=places)
    def reset_any(self, place: int) -> None:
        budgets = ["global", *KEYS, *self.reference.nodes]
        self.reset(budgets[place % len(budgets)])

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
            if budget not in self.highest:
                self.raise_highest(budget)
            limit = self.highest[budget]
            for window, expected in zip([w for w in found if w.budget == budget], windows, strict=True):
                by_hand = sum((a for a in expected.adjustments if a > 0), Decimal(0))
                assert limit is None or window.spent + window.reserved <= limit + self.overbilled + by_hand

    @invariant()
    def both_agree(self) -> None:
        found = self.books.check()
        rows = self.books.rows("""
            SELECT budget, opened_by, opened_at, NULLIF(resets_at, 'infinity') AS resets_at, closed_at, state,
                   rate_window_started_at, rate_requests, rate_tokens, limit_usd
            FROM budget_window ORDER BY id
        """)
        assert {row["budget"] for row in rows} == {b for b, windows in self.reference.windows.items() if windows}
        for budget, expected in self.reference.windows.items():
            assert [(w.spent, w.reserved, w.calls) for w in found if w.budget == budget] == [
                (w.spent, w.reserved, w.calls) for w in expected
            ]
            of_windows = [tuple(row.values())[1:] for row in rows if row["budget"] == budget]
            by_the_rules = list(map(row_of, expected))
            if not self.counts_minutes:
                of_windows, by_the_rules = (
                    [without_the_minute(row) for row in each] for each in (of_windows, by_the_rules)
                )
            assert of_windows == by_the_rules
        response = Counter(
            (name, fields.get("budget_id") or fields.get("key_id")) for name, fields in self.events.logged
        )
        if self.may_lack:
            # What a sweep saw first is told once; where that answer was lost, it is only in the books.
            assert response <= self.reference.events, response - self.reference.events
            self.reference.events = response
            self.may_lack = False
        assert response == self.reference.events, (response - self.reference.events, self.reference.events - response)

    @invariant()
    def the_raised_allowance_is_the_largest_that_was_shown(self) -> None:
        raised = [row["tokens"] for row in self.books.rows("SELECT tokens FROM input_allowance")]
        assert raised == [self.reference.allowance] * bool(self.reference.allowance)

    @invariant()
    def the_same_calls_wait(self) -> None:
        rows = self.books.rows("""
            SELECT entry_id, key_id, blocked_by, bound, since, asked_at, alive_until
            FROM admission_wait ORDER BY ticket
        """)
        assert [tuple(row.values()) for row in rows] == [astuple(ticket) for ticket in self.reference.line.tickets]

    def _months_end(self) -> datetime:
        end = self.reference.windows["global"][-1].resets_at
        assert end is not None
        return end.astimezone(UTC)

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


def _same_caller(caller: Caller, reservation: Reservation) -> Caller:
    return replace(caller, key_id=reservation.call.key_id, user=reservation.call.user)


def without_the_minute(row: tuple[object, ...]) -> tuple[object, ...]:
    return (*row[:5], *row[8:])


class InGroups(Database):
    """Sends whatever a group takes in one of its own, but for what is lost on the way."""

    def __init__(self, url: SecretStr | None, wire: Wire, met: Counter[str]) -> None:
        super().__init__(url)
        self._takes = Groups(self._alone, self._together, connections=1, connect_seconds=0).takes
        self._wire = wire
        self._met = met

    def call(
        self, statement: Statement[Argument, Result], argument: Argument, *, seconds: float | None = None
    ) -> Result:
        if not (statement.in_group and self._takes(statement, argument) and self._wire.all_broken):
            return super().call(statement, argument, seconds=seconds)
        own = {name: value for name, value in argument.items() if name != "settings"}
        group = {"settings": argument["settings"], "calls": [{statement.in_group: own}]}
        [result] = super().call(GROUP, group, seconds=seconds)["results"]
        self._met[f"{statement.in_group} in a group"] += result is not None
        if result is None:
            return super().call(statement, argument, seconds=seconds)
        return cast(Result, result)


@pytest.fixture(params=["1", IN_GROUPS, str(SLOTS), SLOTS_OF_EACH])
def setting(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def slots(setting: str, database_url: str) -> int:
    if setting == SLOTS_OF_EACH:
        make_every_budget_busy(database_url)
    return int(setting[0])


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
    setting: str,
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
                "budget_node",
                "admission_wait",
                "output_size",
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
    url = limited[FIRST].database_url
    connected = InGroups(url, wire, met) if setting == IN_GROUPS else Database(url)

    def start(limit: str) -> Process:
        ask(connected, "SELECT ledger_ping($1::jsonb)", {})  # so that a statement that is lost is sent again
        made = limited[limit]
        return Process(
            Ledger(connected, made),
            Adjustments(connected, made),
            AuditedLimits(connected, made),
            PriceHistory(connected, made),
            Nodes(connected, made),
            KnownPrice(None, START, 0),
        )

    bound = {"books": books, "clock": clock, "events": events, "keys": keys, "wire": wire, "met": met}
    bound |= {"unit": Decimal(1) if slots == 1 else Decimal("0.1")}
    bound |= {"counts_minutes": setting != SLOTS_OF_EACH}
    bound |= {"start": staticmethod(start), "clear": staticmethod(clear)}
    yield type("Bound", (LedgerAndReference,), bound)
    connected.close()
    wire.close()


def wanted(slots: int, setting: str) -> list[str]:
    """What must be among the steps."""
    in_groups = ["reserve in a group", "settle in a group"] if setting == IN_GROUPS else []
    in_slots = ["reserved in a slot", "ended in a slot"] if slots > 1 else []
    on_the_row = ["ample"] if slots == 1 else []
    of_the_tree = ["refused by a node", "node moved", "node changed", "deleted with calls in flight"]
    waiting = ["waits", "waited", "waited in vain", "fitted"]
    return [
        *("stale", "allowance raised", "adjusted", "limit set", "at a part of its bound", "settled late"),
        *of_the_tree,
        *waiting,
        *on_the_row,
        *in_slots,
        *in_groups,
    ]


def test_one_of_each_agrees(machine: type[LedgerAndReference], met: Counter[str], slots: int, setting: str) -> None:
    """A short run at random may lack what is rare."""
    both = machine()

    def agree(made: Made) -> Reservation:
        both.both_agree()
        both.the_raised_allowance_is_the_largest_that_was_shown()
        assert isinstance(made, Reservation)
        return made

    cent, small = Caller(Decimal("0.01")), Caller(Decimal("0.001"))
    agree(both.first(cent, has_tree=True))
    both.set_a_price(Decimal("0.5"), timedelta(0))
    at_a_part = agree(both.reserve(replace(cent, tokens=10)))
    both.end(at_a_part, Ending("bound", Decimal("0.5")))
    raises = agree(both.reserve(replace(cent, tokens=10)))
    both.end(raises, Ending("actual", Decimal("0.5"), 200))
    both.change_the_limit("2.5")
    knows_neither = agree(both.reserve(replace(cent, tokens=10)))
    both.adjust(Decimal("0.1"), None, None)
    both.set_the_limit("2", False, None)
    both.set_the_limit("0.9", True, "after")
    agree(knows_neither)
    for _ in range(4):
        both.end(agree(both.reserve(small)), Ending("actual", Decimal("0.5")))
        both.both_agree()
    agree(both.reserve(replace(cent, cap=60_000)))
    both.change_a_node(1, {"limit_usd": Decimal("0.3") * both.unit}, None)
    of_the_key = replace(cent, amount=Decimal("0.5"), key_id=KEYS[0], waits=True)  # at 0.5 USD a token
    first = agree(both.reserve(of_the_key))
    for _ in range(2):
        both.reserve(of_the_key)
    both.ask_again(0, Decimal(1), None)
    both.end(first, Ending("release"))
    agree(both.ask_again(0, Decimal("0.1"), None))
    both.the_same_calls_wait()
    both.reserve(replace(of_the_key, amount=Decimal(1)))
    both.move_a_node(1, None)
    both.delete_a_node(1, emptied=True)
    both.both_agree()
    assert [name for name in wanted(slots, setting) if not met[name]] == []


def test_the_ledger_agrees_with_the_rules(
    machine: type[LedgerAndReference], met: Counter[str], slots: int, setting: str
) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=250 if LONG else 18,
            stateful_step_count=60 if LONG else 40,
            deadline=None,
            derandomize=not LONG,
            database=None,
            phases=[Phase.generate],
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )
    if LONG:
        # One is rare even here; the test above has it.
        assert {name for name in wanted(slots, setting) if not met[name]} <= {"deleted with calls in flight"}, (
            "never met"
        )
