"""What the state machine of `test_reference.py` drives: the ledger, as its callers use it, and the rules, alike."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Final
from uuid import UUID, uuid4

from hypothesis.stateful import MultipleResults, RuleBasedStateMachine, multiple

from fusewire.budget.adjustments import Adjustments
from fusewire.budget.admission import Waiting
from fusewire.budget.ledger import Ledger
from fusewire.budget.limits import AuditedLimits
from fusewire.budget.nodes import Nodes
from fusewire.budget.price_history import PriceHistory
from fusewire.budget.price_table import NO_PRICES, PriceTable, StalePricesError
from fusewire.budget.reservation import AllowanceRaisedError, Candidate, Fit, Reservation, Settlement
from fusewire.budget.wire import SettlementMode
from fusewire.errors import (
    AuthenticationError,
    BudgetExceededError,
    BudgetReservedError,
    FusewireError,
    InvalidRequestError,
    RateLimitedError,
)
from tests.integration.budget.books import Books, Clock, Events, a_call, at_bound, candidate, released, settled
from tests.integration.budget.keys import Keys
from tests.integration.budget.reference import Ended, Reference, Refusal
from tests.integration.budget.reference_records import KnownPrice, Window
from tests.integration.budget.wire import Break, Wire

Made = MultipleResults[Reservation] | Reservation

UNSET_PRICE: Final = Decimal(1)
"""What a token costs while no administrator says otherwise."""
_USED: Final = 30
"""Tokens of every actual settlement: see `books.settled`."""
_MAX_REFUSALS: Final = 2
"""For what a caller didn't know: other prices, a raised allowance. Nothing changes meanwhile."""
_WAIT_SECONDS: Final = 20
_MAX_WAITING: Final = 2
_OUTPUT_TOKEN: Final = Decimal("0.00001")
"""USD, where a token of the prompt costs 1."""


@dataclass(frozen=True)
class Ending:
    """How an attempt ends."""

    mode: SettlementMode
    share: Decimal | None = None
    """Of the bound, that is billed or may be; None at the bound for the whole of it."""
    more: int | None = None
    """By how many tokens its usage raises the allowance."""
    size: int | None = None
    """Of its answer, in tokens."""


@dataclass(frozen=True)
class Caller:
    """Who calls, and what for."""

    amount: Decimal
    tokens: int = 0
    key_id: str | None = None
    user: str | None = None
    cap: int | None = None
    """The output cap that comes on top of the amount, and may be fitted; None for a call that has none."""
    waits: bool = False


class PausedError(Exception):
    """The call waits: it asks again when the test has it ask."""


class Paused(Waiting):
    """A wait in which the test is the clock."""

    def __init__(self) -> None:
        super().__init__(_WAIT_SECONDS, _MAX_WAITING)

    def pause(self, rest: Callable[[float], object] = time.sleep) -> None:
        self._since_seconds = 0
        raise PausedError

    def goes_on(self, part: Decimal) -> None:
        """
        :param part: of its time, that is over now; the whole: it asks for the last time
        """
        self.waited_seconds = float(max(Decimal(self.waited_seconds), part * _WAIT_SECONDS))
        self._asks_last = self.waited_seconds >= _WAIT_SECONDS


@dataclass(frozen=True)
class Waiter:
    """A call that has a ticket."""

    caller: Caller
    waiting: Paused
    attempt: int


@dataclass
class Process:
    """An execution environment under one limit, and what it knows."""

    ledger: Ledger
    adjustments: Adjustments
    limits: AuditedLimits
    history: PriceHistory
    nodes: Nodes
    known: KnownPrice
    table: PriceTable = NO_PRICES
    allowance: int = 0

    @property
    def price(self) -> Decimal:
        entry = self.table.entries.get("openai/gpt")
        return UNSET_PRICE if entry is None else Decimal(str(entry["input_mtok"]))


class LedgerBesideReference(RuleBasedStateMachine):
    """Makes the same call to both, and compares what they say."""

    books: Books
    clock: Clock
    events: Events
    keys: Keys
    wire: Wire
    start: Callable[[str], Process]
    """A process under this limit, which no call has come to yet."""
    unit: Decimal
    """What the amounts are multiplied by, so that they suit the parts that slots are allocated."""
    counts_minutes: bool
    """Whether keys may be limited by the minute. Where each budget has slots, only those that are so are counted."""
    met: Counter[str]
    """How often what must not be missing from the steps was met."""

    limit: str
    processes: dict[str, Process]
    reference: Reference
    waiters: list[Waiter]
    may_lack: bool
    highest: dict[str, Decimal | None]
    """The highest limit that each budget has had, None for none."""
    overbilled: Decimal
    """USD billed beyond bounds, which nobody could have refused."""

    @property
    def process(self) -> Process:
        return self.processes[self.limit]

    @contextmanager
    def losing(self, statement: str, lost: tuple[Break, ...]) -> Iterator[None]:
        """The connection breaks at this statement, and again where it is sent anew."""
        self.wire.break_at(*[statement] * len(lost), when=lost)
        yield
        assert self.wire.all_broken
        self.wire.drop_late()
        self.may_lack = True

    def set_clock(self, now: datetime) -> None:
        self.clock.set(now)
        self.reference.now = now

    def end_with(self, reservation: Reservation, ending: Ending, *, heard: bool = True) -> None:
        """:param heard: whether the ledger hears of it at all"""
        settlement, ended = self._ended(reservation, ending)
        slot = self.would_end_in_slot(reservation.id, settlement.cost, settlement.allowance)
        late = self.process.ledger.may_settle_late(settlement)
        is_open = self.reference.entries[reservation.id].status == "reserved"
        booked = self.process.ledger.settle(settlement, late=late)
        if not heard:
            return
        if late and is_open:
            self.met["settled late"] += 1
            assert (settlement.foreseen.cost, settlement.foreseen.basis) == (booked.cost, booked.basis)
        expected = self.reference.end(*ended, slot=slot, size=settlement.size)
        if booked.budget is not None:  # else it wasn't heard, and what it says is what the caller knows
            assert booked.cost == expected.cost
            assert (booked.basis is None) == (expected.status == "released")

    def offer(self, caller: Caller) -> Candidate:
        """At the prices and the allowance that the process knows."""
        price = self.process.price
        bound, tokens, fit = caller.amount * self.unit * price, caller.tokens, None
        if caller.cap is not None:
            fit = Fit(bound, _OUTPUT_TOKEN * price, caller.cap, min(caller.cap, 256), 2048, tokens, n=1)
            bound, tokens = bound + caller.cap * fit.per_token, tokens + caller.cap
        return replace(candidate(bound, tokens=tokens), allowance=self.process.allowance, fit=fit)

    def reserve_one(
        self,
        caller: Caller,
        after: tuple[Reservation, Ending] | None = None,
        *,
        waiting: Paused | None = None,
        attempt: int = 1,
    ) -> Made:
        """As a caller does, who is told by a refusal what it didn't know, and asks again.

        :param waiting: of a call that has a ticket
        """
        process = self.process
        previous, ended = (None, None) if after is None else self._ended(*after)
        attempt = attempt if after is None else 2
        waiting = waiting or (Paused() if caller.waits else None)
        held = waiting is not None and waiting.holds_ticket
        for _ in range(1 + _MAX_REFUSALS):
            offered = self.offer(caller)
            by_the_rules = partial(
                self.reference.reserve,
                bound=offered.bound,
                tokens=offered.tokens,
                key_id=caller.key_id,
                after=ended,
                price=process.known,
                allowance=process.allowance,
                user=caller.user,
                fit=offered.fit,
                wait=None if waiting is None else waiting.argument(),
                is_first=attempt == 1,
            )
            call = a_call(key_id=caller.key_id, user=caller.user, sees_budgets=True)
            try:
                made = process.ledger.reserve(
                    call, [offered], attempt=attempt, after=previous, prices=process.table.stamp, waiting=waiting
                )
            except PausedError:
                assert waiting is not None
                refused = by_the_rules(waiting.entry_id)
                assert refused is not None and refused[0] == "waits"
                self.waiters.append(Waiter(caller, waiting, attempt))
                self.met["waits"] += 1
                return multiple()
            except StalePricesError as error:
                assert by_the_rules(uuid4() if waiting is None else waiting.entry_id) == ("stale", "global")
                process.table, process.known = error.table, self.reference.know_the_price()
                self.met["stale"] += 1
            except AllowanceRaisedError as error:
                assert by_the_rules(uuid4() if waiting is None else waiting.entry_id) == ("allowance", "global")
                process.allowance = error.tokens
                self.met["allowance raised"] += 1
            except FusewireError as error:
                refused = by_the_rules(uuid4() if waiting is None else waiting.entry_id)
                assert refused is not None
                assert refused[0] == _refusal(error)
                if isinstance(error, BudgetExceededError):
                    by = "user" if refused[1].startswith("user:") else refused[1]
                    assert by == error.budget
                self.met["refused by a node"] += refused[1].startswith("bud_")
                self.met["waited in vain"] += held
                return multiple()
            else:
                assert by_the_rules(made.id, in_slot=self.is_in_slot(made.id)) is None
                self._agree(made)
                self._agrees_on_the_cap(made, offered)
                self.met["waited"] += held
                return made
        raise AssertionError("it is refused again for what it was told")

    def would_end_in_slot(self, entry_id: UUID, cost: Decimal | None = None, raised: int | None = None) -> int:
        """The slot where it was reserved, where it ends there, too, at this cost, None for its bound; else 0."""
        found = (
            self.books.rows(
                """
                SELECT l.slot FROM ledger l JOIN budget_slot s USING (window_id, slot)
                WHERE l.id = %s AND l.status = 'reserved' AND s.allocated > 0 AND s.epoch = l.slot_epoch
                      AND COALESCE(%s::numeric, l.bound) <= l.bound
                """,
                entry_id,
                cost,
            )
            if raised is None
            else []
        )
        self.met["ended in a slot"] += bool(found)
        return found[0]["slot"] if found else 0

    def is_in_slot(self, entry_id: UUID) -> bool:
        in_slot = bool(self.books.rows("SELECT FROM ledger WHERE id = %s AND slot IS NOT NULL", entry_id))
        self.met["reserved in a slot"] += in_slot
        return in_slot

    def raise_highest(self, budget: str) -> None:
        now = self.reference.cap(budget)
        was = self.highest.setdefault(budget, now)
        self.highest[budget] = None if was is None or now is None else max(was, now)

    def _ended(self, reservation: Reservation, ending: Ending) -> tuple[Settlement, Ended]:
        """The settlement, and the same for the rules; the process knows at once what it raises."""
        bound = reservation.candidate.bound
        cost = None if ending.mode == "release" or ending.share is None else bound * ending.share
        raised = None if ending.more is None else (reservation.candidate.allowance or 0) + ending.more
        self.process.allowance = max(self.process.allowance, raised or 0)
        self.overbilled += max((cost or Decimal(0)) - bound, Decimal(0))
        self.met["at a part of its bound"] += ending.mode == "bound" and cost is not None
        make = {"actual": partial(settled, cost=cost), "bound": partial(at_bound, cost=cost), "release": released}
        size = ending.size if ending.mode == "actual" else None
        settlement = replace(make[ending.mode](reservation), allowance=raised, size=size)
        return settlement, (reservation.id, ending.mode, cost, _USED, raised)

    def _agree(self, made: Reservation) -> None:
        if made.ample and self.books.entry(made.id)["slot"] is None:  # one whose answer was lost never is
            assert self.reference.is_ample(made.id)
            self.met["ample"] += 1
        price = self.reference.know_the_price().amount
        assert self.process.price == (UNSET_PRICE if price is None else price)
        window = self.reference.windows["global"][-1]
        assert (made.budget.window.spent, made.budget.window.reserved) == (window.spent, window.reserved)
        assert made.budget.limit == self.reference.limit_of(window)
        if made.call.key_id is not None:
            own = self.reference.windows[made.call.key_id][-1]
            assert made.key is not None
            assert (made.key.window.spent, made.key.window.reserved) == (own.spent, own.reserved)
            assert (made.key.state, made.key.limit) == (self.reference.state(own), self.reference.limit_of(own))

    def _agrees_on_the_cap(self, made: Reservation, offered: Candidate) -> None:
        """What is reserved is the worst case of the cap that is sent."""
        entry, row, fit = self.reference.entries[made.id], self.books.entry(made.id), offered.fit
        assert made.cap == entry.cap
        assert (row["bound"], row["tokens_bound"]) == (entry.bound, entry.tokens)
        assert (made.candidate.bound, made.candidate.tokens) == (entry.bound, entry.tokens)
        if fit is not None:
            sent = fit.cap if made.cap is None else made.cap
            assert sent <= fit.cap
            assert row["bound"] == fit.fixed + sent * fit.per_token
        self.met["fitted"] += made.cap is not None


def _refusal(error: FusewireError) -> Refusal:
    match error:
        case BudgetExceededError():
            return "exceeded"
        case BudgetReservedError():
            return "reserved"
        case RateLimitedError():
            return "requests" if error.limit == "requests" else "tokens"
        case InvalidRequestError():
            return "no_user" if error.param == "user" else "too_large"
        case AuthenticationError():
            return "revoked"
    raise error


def row_of(window: Window) -> tuple[object, ...]:
    """As its row in `budget_window` says it, but for its sums."""
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
        window.audited,
    )
