"""The budgets by the rules: the company's, keys', users' and the tree's, their windows, states and limits."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final, Literal
from zoneinfo import ZoneInfo

from fusewire.budget.wire import Period, State
from tests.integration.budget.reference_records import Key, Node, RateLimitState, Window

Event = tuple[str, str | None]
"""A log event's name and the budget that it is about, None for the company's."""
Unchanged = Literal["no_parent", "cycle", "thresholds", "children", "keys"]
"""Why a node isn't changed."""

NAMES: Final = ("sota", "gpt", "openai/gpt", "openai/*")
"""By which a node's `models` may name what every call goes to."""
ALERT: Final = Decimal("0.8")
OPEN: Final = Decimal("0.95")
MINUTE: Final = timedelta(minutes=1)
_SEVERITY: Final[tuple[State, ...]] = ("CLOSED", "HALF_OPEN", "OPEN")
_TOLD: Final = {"HALF_OPEN": "circuit_breaker.alert", "OPEN": "circuit_breaker.opened"}


class Budgets:
    def __init__(self, now: datetime, limit: Decimal, zone: str) -> None:
        self.now = now
        self.limit = limit
        """The setting of the process that asks; `maximum`, too."""
        self.maximum: Decimal | None = None
        self.for_good: Decimal | None = None
        """The audited limit of every window from now on, but for one that has its own."""
        self.keys: dict[str, Key] = {}
        self.nodes: dict[str, Node] = {}
        """Those that there are, by id."""
        self.user_budget: Callable[[str, str], str] = lambda key_id, user: f"user:{key_id}:{user}"
        """How a user's budget on a key is named."""
        self.windows: dict[str, list[Window]] = {"global": []}
        self.events: Counter[Event] = Counter()
        self._zone = ZoneInfo(zone)

    def cap(self, budget: str) -> Decimal | None:
        if budget != "global":
            return self._own_limit(budget)
        windows = self.windows.get(budget)
        return self.limit_of(windows[-1]) if windows else self.limit

    def limit_of(self, window: Window) -> Decimal | None:
        if window.budget != "global":
            return self._own_limit(window.budget)
        if window.audited is None:
            return self.limit
        return window.audited if self.maximum is None else min(window.audited, self.maximum)

    def state(self, window: Window) -> State:
        cap = self.limit_of(window)
        if cap is None:
            return "CLOSED"
        node = self.nodes.get(window.budget, Node())
        if window.spent >= cap * (OPEN if node.open_threshold is None else node.open_threshold):
            return "OPEN"
        return "HALF_OPEN" if window.spent >= cap * (node.alert_threshold or ALERT) else "CLOSED"

    def current(self, budget: str) -> Window | None:
        """Its open window, None where it has none that isn't over."""
        window = self.windows[budget][-1] if self.windows.get(budget) else None
        return None if window is None or window.closed_at is not None or self._is_over(window) else window

    def make_node(self, node_id: str, node: Node) -> None:
        self.open_window("global")
        self.nodes[node_id] = node
        self.events["audit", node_id] += 1

    def change_node(self, node_id: str, **changes: Any) -> Unchanged | None:  # noqa: ANN401 - as the admin API has them
        self.open_window("global")
        was = self.nodes[node_id]
        node = replace(was, **changes)
        if node.parent_id is not None and node.parent_id not in self.nodes:
            return "no_parent"
        if node_id in self.above(node.parent_id):
            return "cycle"
        if (node.alert_threshold or ALERT) >= (node.open_threshold or OPEN):
            return "thresholds"
        if node != was:
            self.nodes[node_id] = node
            self.events["audit", node_id] += 1
            window = self.current(node_id)
            if node.period != was.period and window is not None:
                end = self._period_end(node.period, window.opened_at)
                window.resets_at = None if end is None else max(end, self.now)
        return None

    def delete_node(self, node_id: str) -> Unchanged | None:
        self.open_window("global")
        if any(node.parent_id == node_id for node in self.nodes.values()):
            return "children"
        if any(key.node == node_id and not key.revoked for key in self.keys.values()):
            return "keys"
        for window in self.windows.get(node_id, []):
            if window.closed_at is None:
                window.closed_at = self.now if window.resets_at is None else min(self.now, window.resets_at)
        del self.nodes[node_id]
        self.events["audit", node_id] += 1
        return None

    def above(self, node_id: str | None) -> list[str]:
        """A node and those above it, from below."""
        return [] if node_id is None else [node_id, *self.above(self.nodes[node_id].parent_id)]

    def path(self, key_id: str, user: str | None, names: Sequence[str]) -> list[str]:
        """The budgets between a key's and the company's that count a call, from the key up."""
        key = self.keys[key_id]
        users = [self.user_budget(key_id, user)] if key.per_user is not None and user is not None else []
        return users + [node for node in self.above(key.node) if self.nodes[node].counts(names)]

    def open_windows(self, key_id: str | None, user: str) -> list[Window]:
        """Those of the budgets on a call's way that there are, and that aren't over."""
        names = ["global"] if key_id is None else [key_id, *self.path(key_id, user, NAMES), "global"]
        return [window for window in map(self.current, names) if window is not None]

    def open_window(self, budget: str) -> Window:
        windows = self.windows.setdefault(budget, [])
        if not windows:
            windows.append(self._opened(budget, "use"))
        window = windows[-1]
        if self._is_over(window):
            assert window.resets_at is not None
            window = self.roll_over(window, "period_end", window.resets_at, "circuit_breaker.monthly_reset")
        return window

    def roll_over(self, old: Window, opened_by: str, at: datetime, event: str) -> Window:
        old.closed_at = at
        fresh = self._opened(old.budget, opened_by)
        fresh.minute = old.minute
        fresh.audited = self.for_good if old.budget == "global" else None
        self.windows[old.budget].append(fresh)
        about = None if old.budget == "global" else old.budget
        self.events.update([(event, about), ("audit", about)])
        return fresh

    def record(self, window: Window) -> None:
        """Tell the thresholds that it has passed since its state was recorded last."""
        if window.closed_at is not None:
            return
        was, now = _SEVERITY.index(window.recorded), _SEVERITY.index(self.state(window))
        about = None if window.budget == "global" else window.budget
        self.events.update((_TOLD[state], about) for state in _SEVERITY[was + 1 : now + 1])
        window.recorded = _SEVERITY[now]

    def minute_of(self, own: Window | None) -> RateLimitState:
        """The minute that is under way, or a new one."""
        if own is None or own.minute.began is None or own.minute.began <= self.now - MINUTE:
            return RateLimitState(self.now)
        return own.minute

    def rooms(self, windows: list[Window]) -> Iterator[tuple[str, Decimal, Decimal]]:
        """Of each that has a limit: its budget, what it leaves, and what it would leave with nothing in flight."""
        for window in windows:
            if (limit := self.limit_of(window)) is not None:
                yield window.budget, limit - window.spent - window.reserved, limit - window.spent

    def _own_limit(self, budget: str) -> Decimal | None:
        if budget.startswith("user:"):
            return self.keys[budget.split(":")[1]].per_user
        return self.nodes[budget].limit_usd if budget in self.nodes else self.keys.get(budget, Key()).budget

    def _is_over(self, window: Window) -> bool:
        return window.resets_at is not None and window.resets_at <= self.now

    def _opened(self, budget: str, opened_by: str) -> Window:
        period = self.nodes[budget].period if budget in self.nodes else "month"
        return Window(budget, self.now, opened_by, self._period_end(period, self.now))

    def _period_end(self, period: Period, at: datetime) -> datetime | None:
        day = at.astimezone(self._zone).date()
        match period:
            case "none":
                return None
            case "day":
                end = day + timedelta(days=1)
            case "week":
                end = day + timedelta(days=7 - day.weekday())
            case "month":
                end = (day.replace(day=1) + timedelta(days=32)).replace(day=1)
        return datetime.combine(end, time(), self._zone)
