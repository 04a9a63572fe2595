"""What the state machine of `test_reference.py` drives: the ledger, as its callers use it, and the rules, alike."""

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
from fusewire.budget.ledger import Ledger
from fusewire.budget.limits import AuditedLimits
from fusewire.budget.price_history import PriceHistory
from fusewire.budget.price_table import NO_PRICES, PriceTable, StalePricesError
from fusewire.budget.reservation import AllowanceRaisedError, Candidate, Reservation, Settlement
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
from tests.integration.budget.reference import Ended, KnownPrice, Reference, Refusal, Window
from tests.integration.budget.wire import Break, Wire

Made = MultipleResults[Reservation] | Reservation

UNSET_PRICE: Final = Decimal(1)
"""What a token costs while no administrator says otherwise."""
_USED: Final = 30
"""Tokens of every actual settlement: see `books.settled`."""
_MAX_REFUSALS: Final = 2
"""For what a caller didn't know: other prices, a raised allowance. Nothing changes meanwhile."""


@dataclass(frozen=True)
class Ending:
    """How an attempt ends."""

    mode: SettlementMode
    share: Decimal | None = None
    """Of the bound, that is billed or may be; None at the bound for the whole of it."""
    more: int | None = None
    """By how many tokens its usage raises the allowance."""


@dataclass
class Process:
    """An execution environment under one limit, and what it knows."""

    ledger: Ledger
    adjustments: Adjustments
    limits: AuditedLimits
    history: PriceHistory
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
    met: Counter[str]
    """How often what must not be missing from the steps was met."""

    limit: str
    processes: dict[str, Process]
    reference: Reference
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
        in_slot = self.would_end_in_slot(reservation.id, settlement.cost, settlement.allowance)
        late = self.process.ledger.may_settle_late(settlement)
        is_open = self.reference.entries[reservation.id].status == "reserved"
        booked = self.process.ledger.settle(settlement, late=late)
        if not heard:
            return
        if late and is_open:
            self.met["settled late"] += 1
            assert (settlement.foreseen.cost, settlement.foreseen.basis) == (booked.cost, booked.basis)
        expected = self.reference.end(*ended, in_slot=in_slot)
        if booked.budget is not None:  # else it wasn't heard, and what it says is what the caller knows
            assert booked.cost == expected.cost
            assert (booked.basis is None) == (expected.status == "released")

    def offer(self, amount: Decimal, tokens: int) -> Candidate:
        """At the prices and the allowance that the process knows."""
        bound = amount * self.unit * self.process.price
        return replace(candidate(bound, tokens=tokens), allowance=self.process.allowance)

    def reserve_one(
        self, amount: Decimal, tokens: int, key_id: str | None, after: tuple[Reservation, Ending] | None = None
    ) -> Made:
        """As a caller does, who is told by a refusal what it didn't know, and asks again."""
        process = self.process
        previous, ended = (None, None) if after is None else self._ended(*after)
        for _ in range(1 + _MAX_REFUSALS):
            offered = self.offer(amount, tokens)
            by_the_rules = partial(
                self.reference.reserve,
                bound=offered.bound,
                tokens=tokens,
                key_id=key_id,
                after=ended,
                price=process.known,
                allowance=process.allowance,
            )
            try:
                made = process.ledger.reserve(
                    a_call(key_id=key_id), [offered], after=previous, prices=process.table.stamp
                )
            except StalePricesError as error:
                assert by_the_rules(uuid4()) == ("stale", "global")
                process.table, process.known = error.table, self.reference.know_the_price()
                self.met["stale"] += 1
            except AllowanceRaisedError as error:
                assert by_the_rules(uuid4()) == ("allowance", "global")
                process.allowance = error.tokens
                self.met["allowance raised"] += 1
            except FusewireError as error:
                refused = by_the_rules(uuid4())
                assert refused is not None
                assert refused[0] == _refusal(error)
                if isinstance(error, BudgetExceededError):
                    assert refused[1] == error.budget
                return multiple()
            else:
                assert by_the_rules(made.id, in_slot=self.is_in_slot(made.id)) is None
                self._agree(made)
                return made
        raise AssertionError("it is refused again for what it was told")

    def would_end_in_slot(self, entry_id: UUID, cost: Decimal | None = None, raised: int | None = None) -> bool:
        """Whether it is still in the slot where it was reserved, and ends there at this cost, None for its bound."""
        in_slot = raised is None and bool(
            self.books.rows(
                """
                SELECT FROM ledger l JOIN budget_slot s USING (window_id, slot)
                WHERE l.id = %s AND l.status = 'reserved' AND s.allocated > 0 AND s.epoch = l.slot_epoch
                      AND COALESCE(%s::numeric, l.bound) <= l.bound
                """,
                entry_id,
                cost,
            )
        )
        self.met["ended in a slot"] += in_slot
        return in_slot

    def is_in_slot(self, entry_id: UUID) -> bool:
        in_slot = bool(self.books.rows("SELECT FROM ledger WHERE id = %s AND slot IS NOT NULL", entry_id))
        self.met["reserved in a slot"] += in_slot
        return in_slot

    def raise_highest(self, budget: str) -> None:
        was, now = self.highest[budget], self.reference.cap(budget)
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
        settlement = replace(make[ending.mode](reservation), allowance=raised)
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
