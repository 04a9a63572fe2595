"""What the rules of `reference.py` keep: budgets, their windows, and what is booked in them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Literal
from uuid import UUID

from fusewire.budget.wire import Period, State


@dataclass
class Entry:
    window: "Window"
    key_window: "Window | None"
    path: "list[Window]"
    """Of the budgets between the key's and the company's, when it was reserved."""
    bound: Decimal
    tokens: int
    reserved_at: datetime
    expires_at: datetime
    cap: int | None = None
    """The output cap that was fitted."""
    status: Literal["reserved", "settled", "released"] = "reserved"
    cost: Decimal = Decimal(0)
    expired: bool = False

    def settle(self, cost: Decimal) -> None:
        self.status, self.cost = "settled", cost

    def release(self) -> None:
        self.status, self.cost = "released", Decimal(0)

    @property
    def windows(self) -> "list[Window]":
        return [self.window, *([] if self.key_window is None else [self.key_window]), *self.path]


@dataclass
class Key:
    """What an operator can change of a key; None is no limit."""

    budget: Decimal | None = None
    requests: int | None = None
    tokens: int | None = None
    revoked: bool = False
    node: str | None = None
    """Under which it hangs."""
    per_user: Decimal | None = None

    @property
    def has_path(self) -> bool:
        return self.node is not None or self.per_user is not None

    def lacks(self, user: str | None) -> bool:
        return self.per_user is not None and user is None


@dataclass
class Node:
    """A budget of the tree, by the fields that the admin API calls so; None is no limit, no parent, all models."""

    limit_usd: Decimal | None = None
    parent_id: str | None = None
    period: Period = "month"
    alert_threshold: Decimal | None = None
    open_threshold: Decimal | None = None
    models: list[str] | None = None

    def counts(self, names: Sequence[str]) -> bool:
        """
        :param names: of the model that is called: its tier, its name and so on
        """
        return self.models is None or any(name in self.models for name in names)


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
    resets_at: datetime | None
    """None: its period never ends."""
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


@dataclass
class Ticket:
    """A call's place in the line."""

    entry_id: UUID
    key_id: str
    blocked_by: str
    bound: Decimal
    since: datetime
    asked_at: datetime
    alive_until: datetime
