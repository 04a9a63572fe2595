"""The rules about money, written down a second time: plainly, in one thread, without SQL."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final, Literal
from uuid import UUID
from zoneinfo import ZoneInfo

from fusewire.budget.breaker import State
from fusewire.budget.ledger import How

Refusal = Literal["exceeded", "reserved"]

ALERT: Final = Decimal("0.8")
OPEN: Final = Decimal("0.95")
_SEVERITY: Final[tuple[State, ...]] = ("CLOSED", "HALF_OPEN", "OPEN")
_TOLD: Final = {"HALF_OPEN": "circuit_breaker.alert", "OPEN": "circuit_breaker.opened"}


@dataclass
class Entry:
    window: "Window"
    bound: Decimal
    expires_at: datetime
    status: Literal["reserved", "settled", "released"] = "reserved"
    cost: Decimal = Decimal(0)
    expired: bool = False

    def settle(self, cost: Decimal) -> None:
        self.status, self.cost = "settled", cost

    def release(self) -> None:
        self.status, self.cost = "released", Decimal(0)


@dataclass(eq=False)
class Window:
    opened_at: datetime
    opened_by: str
    resets_at: datetime
    closed_at: datetime | None = None
    recorded: State = "CLOSED"
    entries: list[Entry] = field(default_factory=list)

    @property
    def spent(self) -> Decimal:
        return sum((e.cost for e in self.entries if e.status == "settled"), Decimal(0))

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
        self.windows: list[Window] = []
        self.entries: dict[UUID, Entry] = {}
        self.events: Counter[str] = Counter()
        self._zone = ZoneInfo(zone)
        self._ttl = ttl

    def state(self, window: Window) -> State:
        if window.spent >= self.limit * OPEN:
            return "OPEN"
        return "HALF_OPEN" if window.spent >= self.limit * ALERT else "CLOSED"

    def reserve(self, entry_id: UUID, bound: Decimal) -> Refusal | None:
        window = self._open_window()
        self._expire(window)
        self._record(window)
        if bound > 0:
            if self.state(window) == "OPEN" or window.spent + bound > self.limit:
                self.events["circuit_breaker.blocked"] += 1
                return "exceeded"
            if window.spent + window.reserved + bound > self.limit:
                self.events["circuit_breaker.blocked"] += 1
                return "reserved"
        entry = Entry(window, bound, self.now + self._ttl)
        window.entries.append(entry)
        self.entries[entry_id] = entry
        return None

    def end(self, entry_id: UUID, how: How, cost: Decimal) -> Entry:
        entry = self.entries[entry_id]
        if entry.status == "reserved" or entry.expired:
            entry.expired = False
            if how == "release":
                entry.release()
            else:
                entry.settle(cost if how == "actual" else entry.bound)
            if entry.window.closed_at is None:
                self._record(entry.window)
        return entry

    def budget(self) -> Window:
        self._expire_all()
        window = self._open_window()
        self._record(window)
        return window

    def admin_reset(self) -> tuple[Window, Window]:
        self._expire_all()
        closed = self._open_window()
        return closed, self._turn(closed, "admin", self.now, "circuit_breaker.manual_reset")

    def scheduled_reset(self, due: datetime) -> Window | None:
        self._expire_all()
        before = self.windows[-1] if self.windows else None
        window = self._open_window()
        if before is not None and window is not before:
            return before
        twice = window.opened_by == "schedule" and window.opened_at > self.now - timedelta(minutes=1)
        if twice or window.opened_at >= due:
            return None
        self._turn(window, "schedule", self.now, "circuit_breaker.monthly_reset")
        return window

    def _open_window(self) -> Window:
        if not self.windows:
            self.windows.append(self._opened("use"))
        window = self.windows[-1]
        if window.resets_at <= self.now:
            window = self._turn(window, "month_end", window.resets_at, "circuit_breaker.monthly_reset")
        return window

    def _turn(self, old: Window, why: str, at: datetime, event: str) -> Window:
        old.closed_at = at
        self.windows.append(self._opened(why))
        self.events.update([event, "audit"])
        return self.windows[-1]

    def _opened(self, why: str) -> Window:
        local = self.now.astimezone(self._zone)
        year, month = (local.year + 1, 1) if local.month == 12 else (local.year, local.month + 1)
        return Window(self.now, why, datetime(year, month, 1, tzinfo=self._zone))

    def _expire_all(self) -> None:
        for window in self.windows:
            self._expire(window)
            if window.closed_at is None:
                self._record(window)

    def _expire(self, window: Window) -> None:
        for entry in window.entries:
            if entry.status == "reserved" and entry.expires_at <= self.now:
                entry.settle(entry.bound)
                entry.expired = True
                self.events["ledger.settled_at_bound"] += 1

    def _record(self, window: Window) -> None:
        was, now = _SEVERITY.index(window.recorded), _SEVERITY.index(self.state(window))
        self.events.update(_TOLD[state] for state in _SEVERITY[was + 1 : now + 1])
        window.recorded = _SEVERITY[now]
