"""What is reserved for an attempt at a provider, and how that ends."""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Literal
from uuid import UUID

from fusewire.budget.breaker import Budget, KeyBudget
from fusewire.budget.price import TokenCounts
from fusewire.budget.wire import (
    FitArgument,
    HealthEffect,
    HealthUpdateArgument,
    RefusalArgument,
    SettlementArgument,
    SettlementMode,
)

Operation = Literal["chat", "embedding", "probe"]


@dataclass(frozen=True, slots=True)
class Fit:
    """How a candidate's worst case follows from its output cap, so that the ledger may reserve a smaller one.

    bound = fixed + cap x per_token (USD), tokens = fixed_tokens + n x cap.
    """

    fixed: Decimal
    per_token: Decimal
    cap: int
    """The caller's, in tokens of each of `n` answers."""
    min_cap: int
    """The smallest of use."""
    first_cap: int
    """What is sent while too few answers of the model are known."""
    fixed_tokens: int
    n: int = 1

    def argument(self) -> FitArgument:
        return {
            "fixed": self.fixed,
            "per_token": self.per_token,
            "cap": self.cap,
            "min_cap": self.min_cap,
            "first_cap": self.first_cap,
            "fixed_tokens": self.fixed_tokens,
            "n": self.n,
        }


@dataclass(frozen=True, slots=True)
class Candidate:
    """A provider's model that may serve a call, with the call's worst case there in USD."""

    provider: str
    model: str
    bound: Decimal
    tokens: int = 0
    """The same in tokens, for keys with a limit per minute."""
    allowance: int | None = None
    """The tokens within it for what the server adds; None: whatever was found to be needed isn't asked for."""
    fit: Fit | None = None
    """How it may be reserved with a smaller output cap; None: it may not."""

    def fitted(self, cap: int | None) -> "Candidate":
        """The same with this output cap; with its own for None."""
        if cap is None or self.fit is None:
            return self
        bound = self.fit.fixed + cap * self.fit.per_token
        return replace(self, bound=bound, tokens=self.fit.fixed_tokens + self.fit.n * cap)


@dataclass(frozen=True, slots=True)
class Call:
    """What all attempts of one call share."""

    request_id: str
    operation: Operation
    tier: str | None
    key_id: str | None = None
    user: str | None = field(default=None, repr=False)
    """Whom the key's request is for, as the caller names them; it goes no further than `user_digest`."""
    sees_budgets: bool = False
    """Whether a refusal may name a budget above the caller's key."""

    @property
    def user_digest(self) -> str | None:
        """What the ledger gets of the user, in hex; None without a key or a user."""
        if self.key_id is None or not self.user:
            return None
        # A caller's field may hold anything, half a surrogate pair included.
        named = f"{self.key_id}\0{self.user}".encode(errors="surrogatepass")
        return hashlib.sha256(named).hexdigest()


@dataclass(frozen=True, slots=True)
class Reservation:
    """Money set aside for one attempt."""

    id: UUID
    call: Call
    attempt: int
    candidate: Candidate
    """As it is reserved."""
    budget: Budget
    skipped: tuple["Cooling", ...] = ()
    """The candidates before this one, which are cooling down."""
    key: KeyBudget | None = None
    """The budget of the caller's key, if it has one."""
    downgraded: bool = False
    """Whether the candidate is one of those that take over from the alert threshold on."""
    place: int = 0
    """The candidate's index among those that were offered."""
    cap: int | None = None
    """The output cap that it is reserved with, where that is smaller than the one that was offered."""
    waited_seconds: float = 0
    """For which it waited until there was room."""
    ample: bool = False
    """Whether nobody misses the room that it holds while it isn't settled."""
    made_at_seconds: float = field(default_factory=time.monotonic, compare=False)
    """By `time.monotonic()`."""

    def lowered(self, bound: Decimal, tokens: int) -> "Reservation":
        """The same with a smaller bound, in USD and in tokens."""
        return replace(self, candidate=replace(self.candidate, bound=bound, tokens=tokens))


@dataclass(frozen=True, slots=True)
class Downgrade:
    """The tier, and its candidates, that take over a call while a budget is HALF_OPEN."""

    tier: str
    candidates: Sequence[Candidate]


@dataclass(frozen=True, slots=True)
class HealthUpdate:
    """What an attempt's end says of its provider.

    `ok`: it answered. `count`: one more failure in a row, which from the `threshold`th on opens a cooldown of
    `seconds`, doubling up to `max_seconds`. `now`: cool down for `seconds` at once. `note`: only remember the failure.
    """

    provider: str
    effect: HealthEffect
    kind: str | None = None
    message: str | None = None
    seconds: float = 0
    threshold: int = 0
    max_seconds: float = 0

    def argument(self) -> HealthUpdateArgument:
        return {
            "provider": self.provider,
            "effect": self.effect,
            "kind": self.kind,
            "message": self.message,
            "seconds": self.seconds,
            "threshold": self.threshold,
            "max_seconds": self.max_seconds,
        }


@dataclass(frozen=True, slots=True)
class Refusal:
    """A vendor's refusal that is counted by key and model.

    From the `threshold`th on without an answer between, the key's calls to the model are refused for `seconds`.
    """

    threshold: int
    seconds: float

    def argument(self) -> RefusalArgument:
        return {"threshold": self.threshold, "seconds": self.seconds}


@dataclass(frozen=True, slots=True)
class Settlement:
    """How one reservation ends: at its actual cost (USD), at its bound, or released.

    At its bound, `cost` is the part of it that may be billed, where that is known: a prompt that was refused has no
    output, and what a partial usage told isn't at its bound. None for the whole.
    """

    reservation: Reservation
    mode: SettlementMode
    outcome: str
    cost: Decimal | None = None
    counts: TokenCounts | None = None
    reasoning_tokens: int = 0
    health_update: HealthUpdate | None = None
    refusal: Refusal | None = None
    allowance: int | None = None
    """The tokens that its model must be allowed from now on, where its usage is more than the bound allowed for."""
    size: int | None = None
    """The tokens of an answer, one more than its cap where that cut it off; None where nobody knows."""

    @property
    def booked(self) -> Decimal:
        """What it books, in USD."""
        if self.mode == "release":
            return Decimal(0)
        return self.reservation.candidate.bound if self.cost is None else self.cost

    @property
    def foreseen(self) -> "Booked":
        """What it is going to book where the reservation stands and the cost is within it: that cost, and the budgets
        as the reservation saw them, with this."""
        reservation, cost = self.reservation, self.booked
        bound = reservation.candidate.bound
        return Booked(
            cost,
            None if self.mode == "release" else self.mode,
            reservation.budget.settled(bound, cost),
            None if reservation.key is None else reservation.key.settled(bound, cost),
        )

    def argument(self) -> SettlementArgument:
        counts = self.counts or TokenCounts(0, 0)
        argument: SettlementArgument = {
            "id": str(self.reservation.id),
            "mode": self.mode,
            "outcome": self.outcome,
            "cost": self.cost,
            "input_tokens": counts.input_tokens,
            "output_tokens": counts.output_tokens,
            "cached_input_tokens": counts.cached_input_tokens,
            "cache_write_tokens": counts.cache_write_tokens,
            "reasoning_tokens": self.reasoning_tokens,
        }
        if self.refusal is not None:
            argument["refusal"] = self.refusal.argument()
        if self.allowance is not None:
            argument["allowance"] = self.allowance
        if self.size is not None:
            argument["size"] = self.size
        return argument


@dataclass(frozen=True, slots=True)
class Cooling:
    """A candidate that was skipped, and until when it cools down."""

    candidate: Candidate
    until: datetime
    kind: str | None


class AllCoolingError(Exception):
    """No candidate may be called now; nothing was reserved."""

    def __init__(self, cooling: Sequence[Cooling]) -> None:
        super().__init__("every candidate is cooling down")
        self.cooling = tuple(cooling)


class AllowanceRaisedError(Exception):
    """A candidate's bound has a smaller allowance than the recorded one; nothing was reserved. Bound it anew."""

    def __init__(self, provider: str, model: str, tokens: int) -> None:
        super().__init__(f"{provider}/{model} is allowed {tokens} tokens now")
        self.provider = provider
        self.model = model
        self.tokens = tokens


@dataclass(frozen=True, slots=True)
class Booked:
    """What a settlement cost (USD), and the budget after it."""

    cost: Decimal
    basis: Literal["actual", "bound"] | None
    budget: Budget | None
    """None when the ledger couldn't be reached: the settlement is kept and sent with the next call."""
    key: KeyBudget | None = None
