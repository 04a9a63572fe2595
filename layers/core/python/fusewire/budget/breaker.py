"""The circuit breaker: CLOSED below 80 %, HALF_OPEN from there, OPEN from 95 % (the thresholds are settings).

Postgres decides, under the window's row lock (`ledger_state` in `store/functions/windows.sql`). This module is what
Python needs of it: the budget as the statements return it, and one log event for each thing that they say happened.
"""

import logging
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Final, Self

from fusewire import logs
from fusewire.budget.admission import NOBODY, Line
from fusewire.budget.wire import BudgetRow, KeyBudgetRow, RolloverRow, Seen, State, WindowRow
from fusewire.rate_limit import RateLimitState

NODE: Final = "bud_"
"""What the ids of the tree's nodes begin with."""
USER: Final = "user:"
"""What the names of users' budgets begin with; the key's id follows, then the user's hash."""
_EXACT: Final = Context(prec=1000, rounding=ROUND_HALF_UP)
"""Python's usual 28 digits would round a sum that Postgres keeps whole."""


@dataclass(frozen=True, slots=True)
class Window:
    """A budget window; amounts in USD."""

    id: int
    opened_at: datetime
    opened_by: str
    resets_at: datetime | None
    """None where the budget's period never ends."""
    closed_at: datetime | None
    spent: Decimal
    reserved: Decimal
    request_count: int
    budget: str = "global"
    """Whose: `global`, or as `WindowRow` says."""

    @classmethod
    def read(cls, row: WindowRow) -> "Window":
        """From `ledger_window_json`."""
        return cls(
            id=row["id"],
            opened_at=datetime.fromisoformat(row["opened_at"]),
            opened_by=row["opened_by"],
            resets_at=datetime.fromisoformat(row["resets_at"]) if row["resets_at"] else None,
            closed_at=datetime.fromisoformat(row["closed_at"]) if row["closed_at"] else None,
            spent=Decimal(row["spent"]),
            reserved=Decimal(row["reserved"]),
            request_count=row["request_count"],
            budget=row["budget"],
        )

    def settled(self, bound: Decimal, cost: Decimal) -> "Window":
        """The same after one of its reservations is settled, in USD."""
        spent, reserved = _EXACT.add(self.spent, cost), _EXACT.subtract(self.reserved, bound)
        return replace(self, spent=spent, reserved=reserved, request_count=self.request_count + 1)

    def public(self) -> dict[str, object]:
        """As the admin API and the audit show it."""
        return {
            "id": self.id,
            "opened_at": self.opened_at.isoformat(),
            "resets_at": self.resets_at.isoformat() if self.resets_at else None,
            "closed_at": self.closed_at.isoformat() if self.closed_at else None,
            "spent_usd": self.spent,
            "reserved_usd": self.reserved,
            "request_count": self.request_count,
        }


@dataclass(frozen=True, slots=True)
class Budget:
    """The state of a window under the limit in force."""

    window: Window
    state: State
    limit: Decimal
    line: Line = NOBODY
    """The calls that wait for room, in whichever budget, where that was asked."""

    @classmethod
    def read(cls, row: BudgetRow) -> "Budget":
        """From `ledger_budget_json` of the company's budget, which always has a limit."""
        return cls(window=Window.read(row), state=row["state"], limit=Decimal(row["limit"] or 0))

    def settled(self, bound: Decimal, cost: Decimal) -> Self:
        """As `Window.settled`."""
        return replace(self, window=self.window.settled(bound, cost))

    @property
    def remaining(self) -> Decimal:
        """USD that the window can still take, reservations counted; never below zero."""
        return _left_of(self.limit, self.window)

    @property
    def usage_ratio(self) -> Decimal:
        """spent / limit to six digits; with a limit of zero, the window counts as used up."""
        return ratio(self.window.spent, self.limit)


@dataclass(frozen=True, slots=True)
class KeyBudget:
    """A key's own window, by the same rules as the company's."""

    window: Window
    state: State
    limit: Decimal | None
    """USD; None for a key without a budget of its own."""
    rate_limit: RateLimitState

    @classmethod
    def read(cls, row: KeyBudgetRow | None) -> "KeyBudget | None":
        """From `ledger_key_json`; None for a call without a key."""
        if row is None:
            return None
        limit = None if row["limit"] is None else Decimal(row["limit"])
        return cls(Window.read(row), row["state"], limit, _rate_limit(row))

    def settled(self, bound: Decimal, cost: Decimal) -> Self:
        """As `Window.settled`."""
        return replace(self, window=self.window.settled(bound, cost))

    @property
    def remaining(self) -> Decimal | None:
        """As the company's; None without a limit."""
        return None if self.limit is None else _left_of(self.limit, self.window)


def _rate_limit(row: KeyBudgetRow) -> RateLimitState:
    return RateLimitState(
        requests=row["requests_per_minute"],
        requests_left=row["requests_left"],
        tokens=row["tokens_per_minute"],
        tokens_left=row["tokens_left"],
        ends_in_seconds=max(row["rate_window_ends_in"], 0),
    )


def _left_of(limit: Decimal, window: Window) -> Decimal:
    taken = _EXACT.add(window.spent, window.reserved)
    return max(_EXACT.subtract(limit, taken), Decimal(0))


def ratio(spent: Decimal, limit: Decimal) -> Decimal:
    """As `Budget.usage_ratio`."""
    if limit == 0:
        return Decimal(1)
    return _EXACT.divide(spent, limit).quantize(Decimal("0.000001"), context=_EXACT)


def announce(seen: Seen) -> None:
    """Log what a ledger statement saw first: a period's end, expired reservations, thresholds that were crossed."""
    others = seen.get("path_rolled_over") or ()
    for rollover in filter(None, (seen.get("rolled_over"), seen.get("key_rolled_over"), *others)):
        announce_reset("circuit_breaker.monthly_reset", rollover)
    for entry in seen.get("expired") or ():
        logs.event(
            "ledger.settled_at_bound",
            logging.WARNING,
            request_id=entry["request_id"],
            provider=entry["provider"],
            model=entry["model"],
            tier=entry["tier"],
            key_id=entry["key_id"],
            attempt=entry["attempt"],
            cost_usd=Decimal(entry["cost"]),
            cost_basis="bound",
            kind="expired",
        )
    for event in seen.get("threshold_events") or ():
        opened = event["state"] == "OPEN"
        logs.event(
            "circuit_breaker.opened" if opened else "circuit_breaker.alert",
            logging.ERROR if opened else logging.WARNING,
            window_id=event["window_id"],
            key_id=_key_of(event["budget"]),
            budget_id=_between(event["budget"]),
            usage_ratio=ratio(Decimal(event["spent"]), Decimal(event["limit"])),
        )


def _key_of(budget: str) -> str | None:
    """The key whose budget it is, or one of whose users'; None for the company's and a node's."""
    if budget == "global" or budget.startswith(NODE):
        return None
    return budget.split(":")[1] if budget.startswith(USER) else budget


def _between(budget: str) -> str | None:
    """A budget between the company's and a key's, a user's by its hash; None for any other."""
    return budget if budget.startswith((NODE, USER)) else None


def announce_reset(
    event: str,
    rollover: RolloverRow,
    *,
    actor: str = "system",
    source_ip: str | None = None,
    reason: str | None = None,
) -> None:
    """Log a reset and its audit line."""
    closed, opened = Window.read(rollover["closed"]), Window.read(rollover["opened"])
    key_id, budget_id = _key_of(opened.budget), _between(opened.budget)
    before, after = closed.public(), opened.public()
    logs.event(event, window_id=opened.id, key_id=key_id, budget_id=budget_id, before=before, after=after)
    logs.event(
        "audit",
        action="budget.reset",
        key_id=key_id,
        budget_id=budget_id,
        actor=actor,
        source_ip=source_ip,
        reason=reason,
        before=before,
        after=after,
    )
