"""The rules about money, written down a second time: plainly, in one thread, without SQL."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal
from uuid import UUID

from fusewire.budget.reservation import Fit
from fusewire.budget.wire import SettlementMode, WaitArgument
from tests.integration.budget.reference_budgets import ALERT, NAMES, Budgets
from tests.integration.budget.reference_caps import Answers, fitted, is_small
from tests.integration.budget.reference_line import Line
from tests.integration.budget.reference_records import Entry, Key, KnownPrice, Node, RateLimitState, SetPrice, Window

Refusal = Literal[
    "exceeded", "reserved", "requests", "tokens", "too_large", "revoked", "stale", "allowance", "no_user", "waits"
]
Refused = tuple[Refusal, str]
"""Why, and by whose budget or limit: `global`, a key's id, or a budget's of its path."""
Ended = tuple[UUID, SettlementMode, Decimal | None, int] | tuple[UUID, SettlementMode, Decimal | None, int, int | None]
"""The arguments of `Reference.end`."""


@dataclass
class _Asked:
    """A call in its budgets."""

    entry_id: UUID
    bound: Decimal
    tokens: int
    window: Window
    own: Window | None
    path: list[Window] | None
    """None where its key has neither a node above it nor a limit for users."""
    minute: RateLimitState
    is_first: bool
    fit: Fit | None
    wait: WaitArgument | None
    in_slot: bool
    cap: int | None = None

    @property
    def key_id(self) -> str | None:
        return None if self.own is None else self.own.budget

    @property
    def from_the_key_up(self) -> list[Window]:
        return [*([] if self.own is None else [self.own]), *(self.path or []), self.window]

    @property
    def in_turn(self) -> list[Window]:
        """In the order in which they are asked."""
        if self.path is None:
            return [self.window, *([] if self.own is None else [self.own])]
        return self.from_the_key_up


class Reference(Budgets):
    """What the ledger should hold after the same calls at the same times."""

    def __init__(self, now: datetime, limit: Decimal, zone: str, ttl: timedelta) -> None:
        super().__init__(now, limit, zone)
        self.entries: dict[UUID, Entry] = {}
        self.prices: list[SetPrice] = []
        """In the order in which they were made."""
        self.allowance = 0
        """In tokens, that a usage has shown to be needed."""
        self.line = Line()
        self.answers = Answers()
        self._price_changes = 0
        self._ttl = ttl

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
        user: str | None = None,
        fit: Fit | None = None,
        wait: WaitArgument | None = None,
        is_first: bool = True,
        looks: bool = True,
    ) -> Refused | None:
        """
        :param after: the arguments of `end` for the failed attempt before this one
        :param price: with which the bound was computed; None where no administrator sets any
        :param allowance: the tokens of the bound for what the server adds; None where it isn't told
        :param in_slot: it was admitted without the window's lock: what has expired is left to those who take it
        :param fit: how it may be reserved with a smaller output cap
        :param wait: that it waits, where it only lacks room: then it is refused with `waits`
        :param is_first: whether it counts as a request of its key
        :param looks: without a lock first, where it has waited already
        """
        if looks and wait is not None and self._goes_on_waiting(entry_id, wait):
            return "waits", ""
        window = self.open_window("global")
        if price is not None and self.is_stale(price):
            return "stale", "global"  # nothing is done: the failed attempt is ended when it is sent again
        allowed = self.allowance  # until the statement's end: the attempt that it ends may raise it
        if after is not None:
            self.end(*after)
        own = None if key_id is None else self.open_window(key_id)
        if not in_slot:
            self._expire(window)
            for each in filter(None, (window, own)):
                self.record(each)
        asked = _Asked(
            entry_id, bound, tokens, window, own, self._open_path(key_id, user), self.minute_of(own),
            is_first and after is None, fit, wait, in_slot,
        )  # fmt: skip
        refused = self._refused_for_the_caller(key_id, user, allowance, allowed) or self._refused_by_a_budget(asked)
        if refused is None:
            self.line.leave(entry_id, wait)
            self._book(asked)
            return None
        if refused[0] == "reserved" and self.line.take(entry_id, key_id, refused[1], asked.bound, wait, self.now):
            return "waits", refused[1]
        self.line.leave(entry_id, wait)
        if refused[0] in ("exceeded", "reserved"):
            between = refused[1].startswith(("bud_", "user:"))
            self.events["circuit_breaker.blocked", refused[1] if between else key_id] += 1
        return refused

    def is_ample(self, entry_id: UUID) -> bool:
        """Whether the reservation, which was just made on the window's row, may be settled after its answer."""
        entry = self.entries[entry_id]
        if entry.key_window is not None and self.keys[entry.key_window.budget].tokens is not None:
            return False
        for window in entry.windows:
            limit, node = self.limit_of(window), self.nodes.get(window.budget, Node())
            alert = ALERT if node.alert_threshold is None else node.alert_threshold
            if limit is not None and window.spent + 2 * window.reserved >= limit * alert:
                return False
        return True

    def end(
        self,
        entry_id: UUID,
        mode: SettlementMode,
        cost: Decimal | None,
        tokens: int = 0,
        raises: int | None = None,
        *,
        slot: int = 0,
        size: int | None = None,
    ) -> Entry:
        """
        :param cost: at the bound, the part of it that may be billed; None for the whole of it
        :param tokens: what an `actual` settlement says was used
        :param raises: the allowance that its usage has shown to be needed
        :param slot: where it was booked without the window's lock: a state that another limit changed is left as
            recorded; 0 where it wasn't
        :param size: of its answer, in tokens
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
                if window is not entry.window or not slot:
                    self.record(window)
            if size is not None and mode == "actual":
                self.answers.add(entry.key_window.budget if entry.key_window else None, size, slot)
        return entry

    def budget(self) -> Window:
        self._expire_all()
        window = self.open_window("global")
        self.record(window)
        return window

    def admin_reset(self, budget: str = "global") -> tuple[Window, Window]:
        self._expire_all()
        closed = self.open_window(budget)
        return closed, self.roll_over(closed, "admin", self.now, "circuit_breaker.manual_reset")

    def scheduled_reset(self, due: datetime) -> Window | None:
        self._expire_all()
        before = self.windows["global"][-1] if self.windows["global"] else None
        window = self.open_window("global")
        if before is not None and window is not before:
            return before
        twice = window.opened_by == "schedule" and window.opened_at > self.now - timedelta(minutes=1)
        if twice or window.opened_at >= due:
            return None
        self.roll_over(window, "schedule", self.now, "circuit_breaker.monthly_reset")
        return window

    def adjust(self, amount: Decimal, window: Window | None) -> Window | None:
        """
        :param window: one of the company's, None for the open one
        :return: None where less than that is spent in it
        """
        window = self.open_window("global") if window is None else window
        if window.spent + amount < 0:
            return None
        window.adjustments.append(amount)
        self.record(window)
        self.events["audit", None] += 1
        return window

    def set_limit(self, amount: Decimal | None, *, for_window: bool) -> Window | None:
        """
        :param amount: None takes back both
        :return: the open window; None where it is above the maximum, and nothing is done
        """
        if amount is not None and self.maximum is not None and amount > self.maximum:
            return None
        window = self.open_window("global")
        window.audited = amount
        if not for_window:
            self.for_good = amount
        self.record(window)
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

    # --- below: who is refused, what is booked, and what expires ---

    def _open_path(self, key_id: str | None, user: str | None) -> list[Window] | None:
        key = self._key(key_id)
        if key_id is None or not key.has_path or key.lacks(user):
            return None
        path = [self.open_window(budget) for budget in self.path(key_id, user, NAMES)]
        for each in path:
            self.record(each)
        return path

    def _book(self, asked: _Asked) -> None:
        expires_at = self.now + self._ttl
        entry = Entry(
            asked.window, asked.own, asked.path or [], asked.bound, asked.tokens, self.now, expires_at, asked.cap
        )
        for each in entry.windows:
            each.entries.append(entry)
        if asked.own is not None:
            was = asked.minute
            asked.own.minute = RateLimitState(was.began, was.requests + asked.is_first, was.tokens + asked.tokens)
        self.entries[asked.entry_id] = entry

    def _key(self, key_id: str | None) -> Key:
        return Key() if key_id is None else self.keys[key_id]

    def _has_begun(self, price: SetPrice) -> bool:
        return not price.removed and price.starts is not None and price.starts <= self.now

    def _change_prices(self) -> None:
        self.open_window("global")
        self._price_changes += 1
        self.events["audit", None] += 1

    def _goes_on_waiting(self, entry_id: UUID, wait: WaitArgument) -> bool:
        """Whether it is plain without a lock that there is no room yet; then its ticket is renewed."""
        ticket = self.line.of(entry_id)
        if not wait.get("holds") or wait.get("last") or ticket is None:
            return False
        claimed = self.line.claimed(ticket.blocked_by, entry_id, ticket.bound, self.now)
        if claimed == 0 and ticket.asked_at < self.now - timedelta(seconds=1):
            return False
        window = self.current(ticket.blocked_by)
        room = None if window is None else next((room for _, room, _ in self.rooms([window])), None)
        if room is None or ticket.bound + claimed <= room:
            return False
        lease = timedelta(seconds=wait["lease_seconds"])
        if ticket.alive_until < self.now + lease / 2:
            ticket.alive_until = self.now + lease
        return True

    def _refused_for_the_caller(
        self, key_id: str | None, user: str | None, allowance: int | None, allowed: int
    ) -> Refused | None:
        if self._key(key_id).revoked:
            return "revoked", key_id or ""
        if self._key(key_id).lacks(user):
            return "no_user", key_id or ""
        return ("allowance", "global") if allowance is not None and allowance < allowed else None

    def _refused_by_a_budget(self, asked: _Asked) -> Refused | None:
        whole = asked.bound, asked.tokens
        self._fit(asked)
        refused = self._refusal(asked)
        if refused is not None and refused[0] == "reserved" and refused[1] != "global":
            for closed in self.windows["global"][:-1]:
                self._expire(closed)
            asked.bound, asked.tokens = whole
            self._fit(asked)
            refused = self._refusal(asked)
        return refused

    def _fit(self, asked: _Asked) -> None:
        """Has it ask for less, where its whole cap would take too much of the room."""
        asked.cap = None
        if asked.fit is None:
            return
        rooms = list(self.rooms(asked.from_the_key_up))
        if asked.in_slot:
            assert all(is_small(asked.bound, room) for budget, room, _ in rooms if budget != "global")
            return
        claims = [
            self.line.claimed(budget, asked.entry_id, asked.bound, self.now) if asked.bound else Decimal(0)
            for budget, *_ in rooms
        ]
        key = self._key(asked.key_id)
        asked.cap = fitted(
            asked.fit,
            self.answers,
            asked.key_id,
            room=min(room - claim for (_, room, _), claim in zip(rooms, claims, strict=True)),
            left=min(left for *_, left in rooms),
            tokens_left=None if key.tokens is None else key.tokens - asked.minute.tokens,
            waited=None if asked.wait is None else Decimal(asked.wait["waited_percent"]) / 100,
        )
        if asked.cap is not None:
            asked.bound = asked.fit.fixed + asked.cap * asked.fit.per_token
            asked.tokens = asked.fit.fixed_tokens + asked.fit.n * asked.cap

    def _refusal(self, asked: _Asked) -> Refused | None:
        bound, tokens, minute = asked.bound, asked.tokens, asked.minute
        key = self._key(asked.key_id)
        limited = [w for w in asked.in_turn if bound > 0 and self.limit_of(w) is not None]
        for each in limited:
            if self.state(each) == "OPEN" or each.spent + bound > (self.limit_of(each) or 0):
                return "exceeded", each.budget
        by = asked.key_id or "global"
        if asked.is_first and key.requests is not None and minute.requests >= key.requests:
            return "requests", by
        if key.tokens is not None and tokens > key.tokens:
            return "too_large", by
        if key.tokens is not None and minute.tokens + tokens > key.tokens:
            return "tokens", by
        for each in limited:
            if each.spent + each.reserved + bound > (self.limit_of(each) or 0):
                return "reserved", each.budget
        calls_before = bound > 0 and self.line.somebody_waits(self.now)
        assert not (asked.in_slot and calls_before), "it is admitted in a slot while others wait"
        for budget, room, _ in self.rooms(asked.from_the_key_up):
            if bound > 0 and bound > room - self.line.claimed(budget, asked.entry_id, bound, self.now):
                return "reserved", budget
        return None

    def _expire_all(self) -> None:
        for window in self.windows["global"]:
            self._expire(window)
            self.record(window)

    def _expire(self, window: Window) -> None:
        """:param window: one of the company's"""
        for entry in window.entries:
            if entry.status == "reserved" and entry.expires_at <= self.now:
                entry.settle(entry.bound)
                entry.expired = True
                own = entry.key_window
                self.events["ledger.settled_at_bound", own.budget if own else None] += 1
                for each in entry.windows[1:]:
                    self.record(each)
