"""The circuit breaker: CLOSED below 80 %, HALF_OPEN from there, OPEN from 95 % (the thresholds are settings).

Postgres decides, under the window's row lock (`ledger_state` in the migrations). This module is what Python needs of
it: the settings as the statements want them, the budget as they return it, and one log event for each thing that they
say happened.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Any, Final, Literal

from fusewire import logs
from fusewire.config import Settings

State = Literal["CLOSED", "HALF_OPEN", "OPEN"]

_EXACT: Final = Context(prec=1000, rounding=ROUND_HALF_UP)
"""Python's usual 28 digits would round a sum that Postgres keeps whole."""


def sql_settings(settings: Settings) -> dict[str, object]:
    """The `settings` argument of every ledger function: the limit in USD, thresholds as shares of it."""
    return {
        "limit": settings.ai_monthly_budget_usd,
        "alert": settings.ai_budget_alert_threshold,
        "open": settings.ai_circuit_breaker_threshold,
        "timezone": settings.ai_budget_timezone,
        "ttl_seconds": settings.ai_reservation_ttl_seconds,
        "slots": settings.ai_ledger_slots,
    }


@dataclass(frozen=True, slots=True)
class Window:
    """A budget window; amounts in USD."""

    id: int
    opened_at: datetime
    opened_by: str
    resets_at: datetime
    closed_at: datetime | None
    spent: Decimal
    reserved: Decimal
    request_count: int
    budget: str = "global"
    """Whose: the company's, or a key's by its id."""

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> "Window":
        """From `ledger_window_json`."""
        return cls(
            id=told["id"],
            opened_at=datetime.fromisoformat(told["opened_at"]),
            opened_by=told["opened_by"],
            resets_at=datetime.fromisoformat(told["resets_at"]),
            closed_at=datetime.fromisoformat(told["closed_at"]) if told["closed_at"] else None,
            spent=Decimal(told["spent"]),
            reserved=Decimal(told["reserved"]),
            request_count=told["request_count"],
            budget=told["budget"],
        )

    def public(self) -> dict[str, object]:
        """As the admin API and the audit show it."""
        return {
            "id": self.id,
            "opened_at": self.opened_at.isoformat(),
            "resets_at": self.resets_at.isoformat(),
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

    @classmethod
    def read(cls, told: Mapping[str, Any], limit: Decimal) -> "Budget":
        """From `ledger_budget_json`."""
        return cls(window=Window.read(told), state=told["state"], limit=limit)

    @property
    def remaining(self) -> Decimal:
        """USD that the window can still take, reservations counted; never below zero."""
        return _left_of(self.limit, self.window)

    @property
    def usage_ratio(self) -> Decimal:
        """spent / limit to six digits; with a limit of zero, the window counts as used up."""
        return ratio(self.window.spent, self.limit)


@dataclass(frozen=True, slots=True)
class Minute:
    """A key's limits per minute, each None where it has none, and what is left of them."""

    requests: int | None
    requests_left: int | None
    tokens: int | None
    tokens_left: int | None
    ends_in_seconds: int

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> "Minute":
        """From `ledger_key_json`."""
        return cls(
            requests=told["requests_per_minute"],
            requests_left=told["requests_left"],
            tokens=told["tokens_per_minute"],
            tokens_left=told["tokens_left"],
            ends_in_seconds=max(told["minute_ends_in"], 0),
        )


@dataclass(frozen=True, slots=True)
class KeyBudget:
    """A key's own window, by the same rules as the company's."""

    window: Window
    state: State
    limit: Decimal | None
    """USD; None for a key without a budget of its own."""
    minute: Minute

    @classmethod
    def read(cls, told: Mapping[str, Any] | None) -> "KeyBudget | None":
        """From `ledger_key_json`; None for a call without a key."""
        if told is None:
            return None
        limit = None if told["limit"] is None else Decimal(told["limit"])
        return cls(Window.read(told), told["state"], limit, Minute.read(told))

    @property
    def remaining(self) -> Decimal | None:
        """As the company's; None without a limit."""
        return None if self.limit is None else _left_of(self.limit, self.window)


def _left_of(limit: Decimal, window: Window) -> Decimal:
    taken = _EXACT.add(window.spent, window.reserved)
    return max(_EXACT.subtract(limit, taken), Decimal(0))


def ratio(spent: Decimal, limit: Decimal) -> Decimal:
    """As `Budget.usage_ratio`."""
    if limit == 0:
        return Decimal(1)
    return _EXACT.divide(spent, limit).quantize(Decimal("0.000001"), context=_EXACT)


def announce(told: Mapping[str, Any]) -> None:
    """Log what a ledger statement saw first: a month's end, expired reservations, crossings of the thresholds."""
    for turned in filter(None, (told.get("turned"), told.get("key_turned"))):
        announce_reset("circuit_breaker.monthly_reset", turned)
    for entry in told.get("expired") or ():
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
    for crossing in told.get("crossings") or ():
        opened = crossing["state"] == "OPEN"
        logs.event(
            "circuit_breaker.opened" if opened else "circuit_breaker.alert",
            logging.ERROR if opened else logging.WARNING,
            window_id=crossing["window_id"],
            key_id=_key_of(crossing["budget"]),
            usage_ratio=ratio(Decimal(crossing["spent"]), Decimal(crossing["limit"])),
        )


def _key_of(budget: str) -> str | None:
    return None if budget == "global" else budget


def announce_reset(
    event: str,
    told: Mapping[str, Any],
    *,
    actor: str = "system",
    source_ip: str | None = None,
    reason: str | None = None,
) -> None:
    """Log a reset and its audit line; `told` holds `closed` and `opened` windows as the ledger returns them."""
    closed, opened = Window.read(told["closed"]), Window.read(told["opened"])
    key_id = _key_of(opened.budget)
    logs.event(event, window_id=opened.id, key_id=key_id, before=closed.public(), after=opened.public())
    logs.event(
        "audit",
        action="budget.reset",
        key_id=key_id,
        actor=actor,
        source_ip=source_ip,
        reason=reason,
        before=closed.public(),
        after=opened.public(),
    )
