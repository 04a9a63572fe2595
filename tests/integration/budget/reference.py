"""The rules about money, written down a second time: plainly, in one thread, without SQL."""

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final, Literal
from uuid import UUID
from zoneinfo import ZoneInfo

from fusewire.budget.wire import SettlementMode, State

Refusal = Literal["exceeded", "reserved", "requests", "tokens", "too_large", "revoked", "stale", "allowance"]
Refused = tuple[Refusal, str]
"""Why, and by whose budget or limit: `global` or a key's id."""
Ended = tuple[UUID, SettlementMode, Decimal | None, int] | tuple[UUID, SettlementMode, Decimal | None, int, int | None]
"""The arguments of `Reference.end`."""
Event = tuple[str, str | None]
"""A log event's name and the key that it is about."""

ALERT: Final = Decimal("0.8")
OPEN: Final = Decimal("0.95")
MINUTE: Final = timedelta(minutes=1)
_SEVERITY: Final[tuple[State, ...]] = ("CLOSED", "HALF_OPEN", "OPEN")
_TOLD: Final = {"HALF_OPEN": "circuit_breaker.alert", "OPEN": "circuit_breaker.opened"}


@dataclass
class Entry:
    window: "Window"
    key_window: "Window | None"
    bound: Decimal
    tokens: int
    reserved_at: datetime
    expires_at: datetime
    status: Literal["reserved", "settled", "released"] = "reserved"
    cost: Decimal = Decimal(0)
    expired: bool = False

    def settle(self, cost: Decimal) -> None:
        self.status, self.cost = "settled", cost

    def release(self) -> None:
        self.status, self.cost = "released", Decimal(0)

    @property
    def windows(self) -> "list[Window]":
        return [self.window] if self.key_window is None else [self.window, self.key_window]


@dataclass
class Key:
    """What an operator can change of a key; None is no limit."""

    budget: Decimal | None = None
    requests: int | None = None
    tokens: int | None = None
    revoked: bool = False


@dataclass(eq=False)
class SetPrice:
    """A price that an administrator set; `starts` is None while it is staged."""

    amount: Decimal
    starts: datetime | None
    removed: bool = False


@dataclass(frozen=True)
class KnownPrice:
    """What an environment knows: the price that was in force when it asked, or None, and after how many changes."""

    amount: Decimal | None
    asked_at: datetime
    changes: int


@dataclass(frozen=True)
class RateLimitState:
    began: datetime | None = None
    requests: int = 0
    tokens: int = 0


@dataclass(eq=False)
class Window:
    budget: str
    opened_at: datetime
    opened_by: str
    resets_at: datetime
    closed_at: datetime | None = None
    recorded: State = "CLOSED"
    minute: RateLimitState = RateLimitState()
    audited: Decimal | None = None
    """The limit that an administrator set, as it was set."""
    entries: list[Entry] = field(default_factory=list)
    adjustments: list[Decimal] = field(default_factory=list)

    @property
    def spent(self) -> Decimal:
        return sum((e.cost for e in self.entries if e.status == "settled"), sum(self.adjustments, Decimal(0)))

    @property
    def reserved(self) -> Decimal:
        return sum((e.bound for e in self.entries if e.status == "reserved"), Decimal(0))

    @property
    def calls(self) -> int:
        return sum(e.status == "settled" for e in self.entries)


class Reference:
    """What the ledger should hold after the same calls at the same times."""

    def __init__(self, now: datetime, limit: Decimal, zone: str, ttl: timedelta) -> None:
        self.now = now
        self.limit = limit
        """The setting of the process that asks; `maximum`, too."""
        self.maximum: Decimal | None = None
        self.for_good: Decimal | None = None
        """The audited limit of every window from now on, but for one that has its own."""
        self.keys: dict[str, Key] = {}
        self.windows: dict[str, list[Window]] = {"global": []}
        self.entries: dict[UUID, Entry] = {}
        self.events: Counter[Event] = Counter()
        self.prices: list[SetPrice] = []
        """In the order in which they were made."""
        self.allowance = 0
        """In tokens, that a usage has shown to be needed."""
        self._price_changes = 0
        self._zone = ZoneInfo(zone)
        self._ttl = ttl

    def cap(self, budget: str) -> Decimal | None:
        if budget != "global":
            return self.keys[budget].budget
        windows = self.windows.get(budget)
        return self.limit_of(windows[-1]) if windows else self.limit

    def limit_of(self, window: Window) -> Decimal | None:
        if window.budget != "global":
            return self.keys[window.budget].budget
        if window.audited is None:
            return self.limit
        return window.audited if self.maximum is None else min(window.audited, self.maximum)

    def state(self, window: Window) -> State:
        cap = self.limit_of(window)
        if cap is None:
            return "CLOSED"
        if window.spent >= cap * OPEN:
            return "OPEN"
        return "HALF_OPEN" if window.spent >= cap * ALERT else "CLOSED"

    def reserve(
        self,
        entry_id: UUID,
        bound: Decimal,
        tokens: int = 0,
        key_id: str | None = None,
        after: Ended | None = None,
        *,
        in_slot: bool = False,
        price: KnownPrice | None = None,
        allowance: int | None = None,
    ) -> Refused | None:
        """
        :param after: the arguments of `end` for the failed attempt before this one
        :param price: with which the bound was computed; None where no administrator sets any
        :param allowance: the tokens of the bound for what the server adds; None where it isn't told
        :param in_slot: it was admitted without the window's lock: what has expired is left to those who take it
        """
        window = self._open_window("global")
        if price is not None and self.is_stale(price):
            return "stale", "global"  # nothing is done: the failed attempt is ended when it is sent again
        allowed = self.allowance  # until the statement's end: the attempt that it ends may raise it
        if after is not None:
            self.end(*after)
        own = None if key_id is None else self._open_window(key_id)
        if not in_slot:
            self._expire(window)
            for each in filter(None, (window, own)):
                self._record(each)
        minute = self._minute(own)
        refused = self._refused_for_the_caller(own, allowance, allowed)
        refused = refused or self._refused_by_a_budget(window, own, bound, tokens, minute, after is None)
        if refused is not None:
            if refused[0] in ("exceeded", "reserved"):
                self.events["circuit_breaker.blocked", key_id] += 1
            return refused
        entry = Entry(window, own, bound, tokens, self.now, self.now + self._ttl)
        for each in entry.windows:
            each.entries.append(entry)
        if own is not None:
            own.minute = RateLimitState(minute.began, minute.requests + (after is None), minute.tokens + tokens)
        self.entries[entry_id] = entry
        return None

    def is_ample(self, entry_id: UUID) -> bool:
        """Whether the reservation, which was just made on the window's row, may be settled after its answer."""
        entry = self.entries[entry_id]
        limits = [(each, self.limit_of(each)) for each in entry.windows]
        if entry.key_window is not None and self.keys[entry.key_window.budget].tokens is not None:
            return False
        return all(limit is None or w.spent + 2 * w.reserved < limit * ALERT for w, limit in limits)

    def end(
        self,
        entry_id: UUID,
        mode: SettlementMode,
        cost: Decimal | None,
        tokens: int = 0,
        raises: int | None = None,
        *,
        in_slot: bool = False,
    ) -> Entry:
        """
        :param cost: at the bound, the part of it that may be billed; None for the whole of it
        :param tokens: what an `actual` settlement says was used
        :param raises: the allowance that its usage has shown to be needed
        :param in_slot: it was booked without the window's lock: a state that another limit changed is left as recorded
        """
        entry = self.entries[entry_id]
        self.allowance = max(self.allowance, raises or 0)
        books = Decimal(0) if mode == "release" else entry.bound if cost is None else cost
        # What expired may be corrected, unless an adjustment has taken it back already.
        if entry.status == "reserved" or (entry.expired and entry.window.spent - entry.cost + books >= 0):
            entry.expired = False
            if mode == "release":
                entry.release()
            else:
                entry.settle(books)
            used = {"actual": tokens, "bound": entry.tokens, "release": 0}[mode]
            if entry.key_window is not None:
                minute = entry.key_window.minute
                if minute.began is not None and entry.reserved_at >= minute.began:
                    entry.key_window.minute = replace(minute, tokens=minute.tokens + used - entry.tokens)
            for window in entry.windows:
                if window is not entry.window or not in_slot:
                    self._record(window)
        return entry

    def budget(self) -> Window:
        self._expire_all()
        window = self._open_window("global")
        self._record(window)
        return window

    def admin_reset(self, budget: str = "global") -> tuple[Window, Window]:
        self._expire_all()
        closed = self._open_window(budget)
        return closed, self._roll_over(closed, "admin", self.now, "circuit_breaker.manual_reset")

    def scheduled_reset(self, due: datetime) -> Window | None:
        self._expire_all()
        before = self.windows["global"][-1] if self.windows["global"] else None
        window = self._open_window("global")
        if before is not None and window is not before:
            return before
        twice = window.opened_by == "schedule" and window.opened_at > self.now - timedelta(minutes=1)
        if twice or window.opened_at >= due:
            return None
        self._roll_over(window, "schedule", self.now, "circuit_breaker.monthly_reset")
        return window

    def adjust(self, amount: Decimal, window: Window | None) -> Window | None:
        """
        :param window: one of the company's, None for the open one
        :return: None where less than that is spent in it
        """
        window = self._open_window("global") if window is None else window
        if window.spent + amount < 0:
            return None
        window.adjustments.append(amount)
        self._record(window)
        self.events["audit", None] += 1
        return window

    def set_limit(self, amount: Decimal | None, *, for_window: bool) -> Window | None:
        """
        :param amount: None takes back both
        :return: the open window; None where it is above the maximum, and nothing is done
        """
        if amount is not None and self.maximum is not None and amount > self.maximum:
            return None
        window = self._open_window("global")
        window.audited = amount
        if not for_window:
            self.for_good = amount
        self._record(window)
        self.events["audit", None] += 1
        return window

    def know_the_price(self) -> KnownPrice:
        """What an environment knows that asks now."""
        begun = [(p.starts, place, p.amount) for place, p in enumerate(self.prices) if self._has_begun(p)]
        return KnownPrice(max(begun)[2] if begun else None, self.now, self._price_changes)

    def is_stale(self, known: KnownPrice) -> bool:
        """Whether prices were changed since, or a scheduled one has begun."""
        return known.changes != self._price_changes or any(
            self._has_begun(p) and p.starts is not None and p.starts > known.asked_at for p in self.prices
        )

    def set_a_price(self, amount: Decimal, starts: datetime | None) -> SetPrice:
        """:param starts: None for one that is only staged, which nobody is priced by"""
        made = SetPrice(amount, starts)
        if starts is None:
            for staged in self.prices:
                staged.removed |= staged.starts is None
            self.events["audit", None] += 1
        else:
            self._change_prices()
        self.prices.append(made)
        return made

    def apply_a_price(self, staged: SetPrice, starts: datetime) -> None:
        self._change_prices()
        staged.starts = starts

    def remove_a_price(self, price: SetPrice) -> None:
        self._change_prices()
        price.removed = True

    def _has_begun(self, price: SetPrice) -> bool:
        return not price.removed and price.starts is not None and price.starts <= self.now

    def _change_prices(self) -> None:
        self._open_window("global")
        self._price_changes += 1
        self.events["audit", None] += 1

    def _refused_for_the_caller(self, own: Window | None, allowance: int | None, allowed: int) -> Refused | None:
        if own is not None and self.keys[own.budget].revoked:
            return "revoked", own.budget
        return ("allowance", "global") if allowance is not None and allowance < allowed else None

    def _refused_by_a_budget(
        self, window: Window, own: Window | None, bound: Decimal, tokens: int, minute: RateLimitState, first: bool
    ) -> Refused | None:
        refused = self._refusal(window, own, bound, tokens, minute, first)
        if own is not None and refused == ("reserved", own.budget):
            for closed in self.windows["global"][:-1]:
                self._expire(closed)
            refused = self._refusal(window, own, bound, tokens, minute, first)
        return refused

    def _refusal(
        self, window: Window, own: Window | None, bound: Decimal, tokens: int, minute: RateLimitState, first: bool
    ) -> Refused | None:
        key = Key() if own is None else self.keys[own.budget]
        by = "global" if own is None else own.budget
        limited = [w for w in (window, own) if w is not None and bound > 0 and self.limit_of(w) is not None]
        for each in limited:
            if self.state(each) == "OPEN" or each.spent + bound > (self.limit_of(each) or 0):
                return "exceeded", each.budget
        if first and key.requests is not None and minute.requests >= key.requests:
            return "requests", by
        if key.tokens is not None and tokens > key.tokens:
            return "too_large", by
        if key.tokens is not None and minute.tokens + tokens > key.tokens:
            return "tokens", by
        for each in limited:
            if each.spent + each.reserved + bound > (self.limit_of(each) or 0):
                return "reserved", each.budget
        return None

    def _minute(self, own: Window | None) -> RateLimitState:
        """The minute that is under way, or a new one."""
        if own is None or own.minute.began is None or own.minute.began <= self.now - MINUTE:
            return RateLimitState(self.now)
        return own.minute

    def _open_window(self, budget: str) -> Window:
        windows = self.windows.setdefault(budget, [])
        if not windows:
            windows.append(self._opened(budget, "use"))
        window = windows[-1]
        if window.resets_at <= self.now:
            window = self._roll_over(window, "period_end", window.resets_at, "circuit_breaker.monthly_reset")
        return window

    def _roll_over(self, old: Window, opened_by: str, at: datetime, event: str) -> Window:
        old.closed_at = at
        fresh = self._opened(old.budget, opened_by)
        fresh.minute = old.minute
        fresh.audited = self.for_good if old.budget == "global" else None
        self.windows[old.budget].append(fresh)
        about = None if old.budget == "global" else old.budget
        self.events.update([(event, about), ("audit", about)])
        return fresh

    def _opened(self, budget: str, opened_by: str) -> Window:
        local = self.now.astimezone(self._zone)
        year, month = (local.year + 1, 1) if local.month == 12 else (local.year, local.month + 1)
        return Window(budget, self.now, opened_by, datetime(year, month, 1, tzinfo=self._zone))

    def _expire_all(self) -> None:
        for window in self.windows["global"]:
            self._expire(window)
            self._record(window)

    def _expire(self, window: Window) -> None:
        """:param window: one of the company's"""
        for entry in window.entries:
            if entry.status == "reserved" and entry.expires_at <= self.now:
                entry.settle(entry.bound)
                entry.expired = True
                own = entry.key_window
                self.events["ledger.settled_at_bound", own.budget if own else None] += 1
                if own is not None:
                    self._record(own)

    def _record(self, window: Window) -> None:
        if window.closed_at is not None:
            return
        was, now = _SEVERITY.index(window.recorded), _SEVERITY.index(self.state(window))
        about = None if window.budget == "global" else window.budget
        self.events.update((_TOLD[state], about) for state in _SEVERITY[was + 1 : now + 1])
        window.recorded = _SEVERITY[now]
