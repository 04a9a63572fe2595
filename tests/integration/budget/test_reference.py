"""Calls, clocks, limits, prices and lost connections at random: after every step the ledger holds what the rules say.

The rules are those of `reference.py`. `make prove` runs more and longer sequences of the same steps. With slots
(decision 7) a window's sums are its row's and its slots' together, and what is booked in a slot alone leaves expired
reservations, and the state under a changed limit, to the next statement that takes the window's lock. Which way a
statement went is read from the books; that it was right to be admitted that way is checked like everything else.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
from psycopg import sql

from fusewire.budget.ledger import Ending, How, Ledger, Reservation
from fusewire.db import Database
from fusewire.errors import (
    AuthenticationError,
    BudgetExceededError,
    BudgetReservedError,
    FusewireError,
    InvalidRequestError,
    LedgerUnavailableError,
    RateLimitedError,
)
from tests.conftest import CoreFactory
from tests.integration.budget.books import Books, Clock, Events, a_call, at_bound, candidate, released, settled
from tests.integration.budget.keys import Keys
from tests.integration.budget.reference import Key, Reference, Refusal, Window
from tests.integration.budget.wire import Break, Wire

Made = MultipleResults[Reservation] | Reservation

ZONE = "Europe/Berlin"
START = datetime(2026, 10, 20, 8, tzinfo=UTC)
TTL = timedelta(seconds=180)
LIMITS = ("1", "0.3", "2.5")
SLOTS: Final = 4
KEYS: Final = ("key-a", "key-b")
USED: Final = 30
"""Tokens of every actual settlement: see `books.settled`."""
LONG: Final = bool(os.environ.get("FUSEWIRE_PROVE"))

amounts: SearchStrategy[Decimal] = st.one_of(
    st.sampled_from([Decimal(0), Decimal("0.1"), Decimal("0.2"), Decimal("0.15"), Decimal("0.8"), Decimal("0.95")]),
    st.decimals(0, 1, places=12),
    st.integers(1, 1000).map(lambda n: Decimal(n).scaleb(-3)),
    st.integers(1, 20).map(lambda n: Decimal(n).scaleb(-3)),  # small enough for a slot's part
)
endings: SearchStrategy[tuple[How, Decimal]] = st.one_of(
    st.tuples(st.just("actual"), st.decimals(0, 1, places=6)),
    # Above its bound: the vendor bills more than it was asked for.
    st.tuples(st.just("actual"), st.just(Decimal("1.2"))),
    st.tuples(st.sampled_from(["bound", "release"]), st.just(Decimal(0))),
)
steps = st.sampled_from(
    [timedelta(0), timedelta(microseconds=1), timedelta(seconds=59), TTL, timedelta(days=1), timedelta(days=3)]
)
callers = st.sampled_from([None, *KEYS])
tokens = st.sampled_from([0, 10, 400, 700, 1001])
prices = st.sampled_from([Decimal(1), Decimal("0.5"), Decimal("1.5")])
moments: SearchStrategy[Break] = st.sampled_from(["before", "after"])
losses: SearchStrategy[tuple[Break, ...]] = st.sampled_from(
    [("before",), ("after",), ("before", "before"), ("before", "after"), ("after", "before"), ("after", "after")]
)


class LedgerAndReference(RuleBasedStateMachine):
    """Drives both alike."""

    books: Books
    clock: Clock
    events: Events
    keys: Keys
    wire: Wire
    start: Callable[[str], Ledger]
    """A process under this limit, which no call has come to yet."""
    unit: Decimal
    """What the amounts below are multiplied by, so that they suit the parts that slots are granted."""
    clear: Callable[[], None]
    in_slots: Counter[str]
    """How many reservations, and ends, needed no lock of the window."""

    reservations: Bundle[Reservation] = Bundle("reservations")
    ended: Bundle[Reservation] = Bundle("ended")

    def __init__(self) -> None:
        super().__init__()
        self.clear()
        self.clock.set(START)
        self.events.logged.clear()
        self.limit = LIMITS[0]
        self.processes = {limit: self.start(limit) for limit in LIMITS}
        self.reference = Reference(START, Decimal(self.limit), ZONE, TTL)
        self.reference.keys = {self.keys.make(key_id): Key() for key_id in KEYS}
        self.may_lack = False
        self.price = Decimal(1)
        self.amounts: dict[UUID, Decimal] = {}
        """What each reservation's bound was before its price."""
        self.highest = {budget: self.reference.cap(budget) for budget in ("global", *KEYS)}
        """The highest limit that each budget has had, None for none."""
        self.overbilled = Decimal(0)
        """USD billed beyond bounds, which nobody could have refused."""

    @initialize(target=reservations, bound=amounts, key_id=callers)
    def first(self, bound: Decimal, key_id: str | None) -> Made:
        return self._reserve(bound, 0, key_id)

    @rule(target=reservations, bound=amounts, tokens=tokens, key_id=callers)
    def reserve(self, bound: Decimal, tokens: int, key_id: str | None) -> Made:
        return self._reserve(bound, tokens, key_id)

    @rule(calls=st.lists(st.tuples(amounts, callers, endings), min_size=2, max_size=5))
    def a_few_calls(self, calls: list[tuple[Decimal, str | None, tuple[How, Decimal]]]) -> None:
        """One after another, each from its reservation to its end."""
        for bound, key_id, ending in calls:
            made = self._reserve(bound, 0, key_id)
            if isinstance(made, Reservation):
                self._end(made, ending)

    @rule(target=ended, reservation=consumes(reservations), ending=endings)
    def end(self, reservation: Reservation, ending: tuple[How, Decimal]) -> Reservation:
        self._end(reservation, ending)
        return reservation

    @rule(reservation=ended, ending=endings)
    def end_again(self, reservation: Reservation, ending: tuple[How, Decimal]) -> None:
        self._end(reservation, ending)

    @rule(target=reservations, reservation=consumes(reservations), ending=endings, bound=amounts, tokens=tokens)
    def fail_over(self, reservation: Reservation, ending: tuple[How, Decimal], bound: Decimal, tokens: int) -> Made:
        return self._reserve(bound, tokens, reservation.call.key_id, (reservation, ending))

    @rule(reservation=consumes(reservations))
    def die_in_mid_call(self, reservation: Reservation) -> None:
        """The process is killed: nobody will end it."""

    @rule(
        target=reservations,
        reservation=consumes(reservations),
        ending=endings,
        bound=amounts,
        tokens=tokens,
        lost=moments,
    )
    def fail_over_and_lose_the_connection(
        self, reservation: Reservation, ending: tuple[How, Decimal], bound: Decimal, tokens: int, lost: Break
    ) -> Made:
        with self._losing("ledger_reserve", (lost,)):
            return self._reserve(bound, tokens, reservation.call.key_id, (reservation, ending))

    @rule(reservation=consumes(reservations), ending=endings, lost=losses.filter(lambda lost: len(lost) == 2))
    def end_unheard_and_die(
        self, reservation: Reservation, ending: tuple[How, Decimal], lost: tuple[Break, ...]
    ) -> None:
        """The process is killed before it could send again what nobody has answered."""
        with self._losing("ledger_end", lost):
            self._end(reservation, ending, heard="after" in lost)
        self.events.logged = [line for line in self.events.logged if line[0] != "ledger.unavailable"]
        self.processes[self.limit] = self.start(self.limit)

    @rule(target=reservations, bound=amounts, tokens=tokens, key_id=callers, lost=losses)
    def reserve_and_lose_the_connection(
        self, bound: Decimal, tokens: int, key_id: str | None, lost: tuple[Break, ...]
    ) -> Made:
        if len(lost) == 1:
            with self._losing("ledger_reserve", lost):
                return self._reserve(bound, tokens, key_id)
        with self._losing("ledger_reserve", lost):
            try:
                self.processes[self.limit].reserve(
                    a_call(key_id=key_id), [candidate(self._priced(bound), tokens=tokens)]
                )
            except LedgerUnavailableError:
                pass
        if "after" in lost:  # it stands, and nobody sent anything on it: it is released with the next statement
            unknown = self._unknown_entry()
            in_slot = self._in_slot(unknown)
            if self.reference.reserve(unknown, self._priced(bound), tokens, key_id, in_slot=in_slot) is None:
                self.reference.end(unknown, "release", Decimal(0), in_slot=self._would_end_in_slot(unknown))
        self.read_the_budget()
        return multiple()

    @rule(target=ended, reservation=consumes(reservations), ending=endings, lost=losses)
    def end_and_lose_the_connection(
        self, reservation: Reservation, ending: tuple[How, Decimal], lost: tuple[Break, ...]
    ) -> Reservation:
        with self._losing("ledger_end", lost):
            self._end(reservation, ending)
        if len(lost) == 2:  # kept, and sent with the next statement
            self.events.logged = [line for line in self.events.logged if line[0] != "ledger.unavailable"]
            self.read_the_budget()
        return reservation

    @rule(key_id=st.sampled_from(KEYS), budget=st.sampled_from([None, "0", "0.2", "0.5", "2"]))
    def change_a_keys_budget(self, key_id: str, budget: str | None) -> None:
        self.keys.change(key_id, monthly_budget_usd=budget)
        self.reference.keys[key_id].budget = None if budget is None else Decimal(budget)
        self._raise_highest(key_id)

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

    @rule(price=prices)
    def change_the_price(self, price: Decimal) -> None:
        """What is under way was bound at the old one, and is billed at the new one."""
        self.price = price

    @rule(step=steps)
    def wait(self, step: timedelta) -> None:
        self._set(self.clock.now + step)

    @precondition(lambda self: self.reference.windows["global"])
    @rule(early=st.sampled_from([timedelta(0), timedelta(microseconds=1), TTL]))
    def wait_for_the_months_end(self, early: timedelta) -> None:
        self._set(max(self.clock.now, self.reference.windows["global"][-1].resets_at.astimezone(UTC) - early))

    @rule()
    def read_the_budget(self) -> None:
        budget, by_provider, by_model, _ = self.processes[self.limit].budget()
        window = self.reference.budget()
        assert (budget.window.spent, budget.window.reserved) == (window.spent, window.reserved)
        assert budget.window.resets_at == window.resets_at
        assert budget.state == self.reference.state(window)
        assert sum(by_provider.values()) == sum(by_model.values()) == window.spent

    @rule(budget=st.sampled_from(["global", *KEYS]))
    def reset(self, budget: str) -> None:
        closed, opened = self.processes[self.limit].reset(
            actor="admin", source_ip=None, request_id="reset", reason=None, budget=budget
        )
        expected = self.reference.admin_reset(budget)
        assert (closed.spent, closed.reserved) == (expected[0].spent, expected[0].reserved)
        assert opened.resets_at == expected[1].resets_at

    @rule(budget=st.sampled_from(["global", *KEYS]), lost=moments)
    def reset_and_lose_the_connection(self, budget: str, lost: Break) -> None:
        with self._losing("ledger_reset", (lost,)):
            self.reset(budget)

    @rule(late=st.sampled_from([timedelta(0), timedelta(seconds=1), timedelta(seconds=90), timedelta(seconds=-30)]))
    def scheduled_reset(self, late: timedelta) -> None:
        closed = self.processes[self.limit].scheduled_reset(due=self.clock.now - late, request_id="schedule")
        expected = self.reference.scheduled_reset(self.clock.now - late)
        assert (closed and closed.spent) == (expected and expected.spent)

    @rule(limit=st.sampled_from(LIMITS))
    def change_the_limit(self, limit: str) -> None:
        self.limit = limit
        self.reference.limit = Decimal(limit)
        self._raise_highest("global")

    @invariant()
    def no_window_passes_the_highest_limit_it_had_but_by_what_was_billed_beyond_bounds(self) -> None:
        for window in self.books.check():
            limit = self.highest[window.budget]
            assert limit is None or window.spent + window.reserved <= limit + self.overbilled

    @invariant()
    def both_agree(self) -> None:
        found = self.books.check()
        rows = self.books.rows("""
            SELECT budget, opened_by, opened_at, resets_at, closed_at, state, minute_at, minute_requests, minute_tokens
            FROM budget_window ORDER BY id
        """)
        for budget in ("global", *KEYS):
            expected = self.reference.windows.get(budget, [])
            assert [(w.spent, w.reserved, w.calls) for w in found if w.budget == budget] == [
                (w.spent, w.reserved, w.calls) for w in expected
            ]
            assert [tuple(row.values())[1:] for row in rows if row["budget"] == budget] == list(map(_row, expected))
        told = Counter((name, fields.get("key_id")) for name, fields in self.events.logged)
        if self.may_lack:
            # What a sweep saw first is told once; where that answer was lost, it is only in the books.
            assert told <= self.reference.events
            self.reference.events = told
            self.may_lack = False
        assert told == self.reference.events

    @contextmanager
    def _losing(self, statement: str, lost: tuple[Break, ...]) -> Iterator[None]:
        """The connection breaks at this statement, and again where it is sent anew."""
        self.wire.break_at(*[statement] * len(lost), when=lost)
        yield
        assert self.wire.all_broken
        self.wire.drop_late()
        self.may_lack = True

    def _set(self, now: datetime) -> None:
        self.clock.set(now)
        self.reference.now = now

    def _end(self, reservation: Reservation, ending: tuple[How, Decimal], *, heard: bool = True) -> None:
        """:param heard: whether the ledger hears of it at all"""
        how, cost = self._cost(reservation, ending)
        in_slot = self._would_end_in_slot(reservation.id, cost if how == "actual" else None)
        booked = self.processes[self.limit].end(_ending(reservation, how, cost))
        if not heard:
            return
        expected = self.reference.end(reservation.id, how, cost, USED, in_slot=in_slot)
        if booked.budget is not None:  # else it wasn't heard, and what it says is what the caller knows
            assert booked.cost == expected.cost
            assert (booked.basis is None) == (expected.status == "released")

    def _reserve(
        self,
        bound: Decimal,
        tokens: int,
        key_id: str | None,
        after: tuple[Reservation, tuple[How, Decimal]] | None = None,
    ) -> Made:
        previous, ended = None, None
        if after is not None:
            reservation, ending = after
            how, cost = self._cost(reservation, ending)
            previous, ended = _ending(reservation, how, cost), (reservation.id, how, cost, USED)
        call = a_call(key_id=key_id)
        amount, bound = bound, self._priced(bound)
        try:
            made = self.processes[self.limit].reserve(call, [candidate(bound, tokens=tokens)], after=previous)
        except FusewireError as error:
            refused = self.reference.reserve(uuid4(), bound, tokens, key_id, ended)
            assert refused is not None
            assert refused[0] == _refusal(error)
            if isinstance(error, BudgetExceededError):
                assert refused[1] == error.budget
            return multiple()
        in_slot = self._in_slot(made.id)
        assert self.reference.reserve(made.id, bound, tokens, key_id, ended, in_slot=in_slot) is None
        self.amounts[made.id] = amount
        self._agree(made)
        return made

    def _cost(self, reservation: Reservation, ending: tuple[How, Decimal]) -> tuple[How, Decimal]:
        """What it costs at the price of now."""
        how, share = ending
        cost = self._priced(self.amounts[reservation.id]) * share
        if how == "actual":
            self.overbilled += max(cost - reservation.candidate.bound, Decimal(0))
        return how, cost

    def _priced(self, amount: Decimal) -> Decimal:
        return amount * self.unit * self.price

    def _raise_highest(self, budget: str) -> None:
        was, now = self.highest[budget], self.reference.cap(budget)
        self.highest[budget] = None if was is None or now is None else max(was, now)

    def _unknown_entry(self) -> UUID:
        """The reservation that the ledger has and nobody was told of; an id of none when there is no such thing."""
        found = self.books.rows("SELECT id FROM ledger WHERE NOT id = ANY (%s)", list(self.reference.entries))
        return found[0]["id"] if found else uuid4()

    def _in_slot(self, entry_id: UUID) -> bool:
        found = bool(self.books.rows("SELECT FROM ledger WHERE id = %s AND slot IS NOT NULL", entry_id))
        self.in_slots["reserved"] += found
        return found

    def _would_end_in_slot(self, entry_id: UUID, cost: Decimal | None = None) -> bool:
        """Whether it is still in the slot where it was reserved, and ends there at this cost, None for its bound."""
        found = bool(
            self.books.rows(
                """
                SELECT FROM ledger l JOIN budget_slot s USING (window_id, slot)
                WHERE l.id = %s AND l.status = 'reserved' AND s.granted > 0 AND s.epoch = l.slot_epoch
                      AND COALESCE(%s::numeric, l.bound) <= l.bound
                """,
                entry_id,
                cost,
            )
        )
        self.in_slots["ended"] += found
        return found

    def _agree(self, made: Reservation) -> None:
        window = self.reference.windows["global"][-1]
        assert (made.budget.window.spent, made.budget.window.reserved) == (window.spent, window.reserved)
        if made.call.key_id is not None:
            own = self.reference.windows[made.call.key_id][-1]
            assert made.key is not None
            assert (made.key.window.spent, made.key.window.reserved) == (own.spent, own.reserved)
            assert (made.key.state, made.key.limit) == (self.reference.state(own), self.reference.cap(own.budget))


def _refusal(error: FusewireError) -> Refusal:
    match error:
        case BudgetExceededError():
            return "exceeded"
        case BudgetReservedError():
            return "reserved"
        case RateLimitedError():
            return "requests" if error.limit == "requests" else "tokens"
        case InvalidRequestError():
            return "too_large"
        case AuthenticationError():
            return "revoked"
    raise error


def _row(window: Window) -> tuple[object, ...]:
    minute = window.minute
    return (
        window.opened_by,
        window.opened_at,
        window.resets_at,
        window.closed_at,
        window.recorded,
        minute.began,
        minute.requests,
        minute.tokens,
    )


def _ending(reservation: Reservation, how: How, cost: Decimal) -> Ending:
    if how == "actual":
        return settled(reservation, cost)
    return at_bound(reservation) if how == "bound" else released(reservation)


@pytest.mark.parametrize("slots", [1, SLOTS])
def test_the_ledger_agrees_with_the_rules(
    database_url: str,
    core: CoreFactory,
    clock: Clock,
    books: Books,
    keys: Keys,
    events: Events,
    slots: int,
) -> None:
    def clear() -> None:
        with psycopg.connect(database_url) as owner:
            owner.execute("DELETE FROM ledger")
            for table in (
                "budget_crossing",
                "usage_rollup",
                "budget_slot",
                "budget_window",
                "api_key",
                "audit",
                "provider_health",
            ):
                owner.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(table)))
            owner.execute("UPDATE audit_head SET n = 0, hash = ''")

    wire = Wire(database_url)
    limited = {
        limit: core.settings(
            DATABASE_URL=wire.url,
            AI_MONTHLY_BUDGET_USD=limit,
            AI_BUDGET_TIMEZONE=ZONE,
            AI_LEDGER_SLOTS=str(slots),
            AI_RESERVATION_TTL_SECONDS=str(TTL.total_seconds()),
        )
        for limit in LIMITS
    }
    connected = Database(limited[LIMITS[0]].database_url)

    def start(limit: str) -> Ledger:
        connected.call("SELECT ledger_ping($1::jsonb)", {})  # so that a statement that is lost is sent again
        return Ledger(connected, limited[limit])

    bound = {"books": books, "clock": clock, "events": events, "keys": keys, "wire": wire}
    in_slots: Counter[str] = Counter()
    bound |= {"in_slots": in_slots, "unit": Decimal(1) if slots == 1 else Decimal("0.1")}
    bound |= {"start": staticmethod(start), "clear": staticmethod(clear)}
    run_state_machine_as_test(
        type("Bound", (LedgerAndReference,), bound),
        settings=settings(
            max_examples=300 if LONG else 25,
            stateful_step_count=60 if LONG else 40,
            deadline=None,
            derandomize=not LONG,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    connected.close()
    wire.close()
    if slots > 1:
        assert min(in_slots["reserved"], in_slots["ended"]) > 30, "the slots were hardly ever used"
