"""The ledger: every attempt is reserved before it is sent, and ends exactly once.

The rules are the contract's section 5; the decisions are made in Postgres, one round trip each (`migrations/`, 0004 to
0008, 0011 and 0012). A crash between any two lines here leaves a reservation that expires and is settled at its bound.
"""

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, Literal
from uuid import UUID

from fusewire import logs, metrics
from fusewire.budget.breaker import Budget, KeyBudget, Window, announce, announce_reset, ratio, sql_settings
from fusewire.budget.forecast import DailySpend
from fusewire.budget.pricing import TokenCounts
from fusewire.budget.refusals import refusal
from fusewire.config import Settings
from fusewire.db import Database, StatementRefusedError
from fusewire.errors import LedgerUnavailableError
from fusewire.ids import time_ordered_id
from fusewire.json import written

Operation = Literal["chat", "embedding", "probe"]
How = Literal["actual", "bound", "release"]

_PROBE_SECONDS: Final = 30
_KEPT_ENDINGS: Final = 100


@dataclass(frozen=True, slots=True)
class Candidate:
    """A provider's model that may serve a call, with the call's worst case there in USD."""

    provider: str
    model: str
    bound: Decimal
    tokens: int = 0
    """The same in tokens, for keys with a limit per minute."""


@dataclass(frozen=True, slots=True)
class Call:
    """What all attempts of one call share."""

    request_id: str
    operation: Operation
    tier: str | None
    key_id: str | None = None


@dataclass(frozen=True, slots=True)
class Reservation:
    """Money set aside for one attempt."""

    id: UUID
    call: Call
    attempt: int
    candidate: Candidate
    budget: Budget
    passed_over: tuple["Cooling", ...] = ()
    """The candidates before this one, which are cooling down."""
    key: KeyBudget | None = None
    """The budget of the caller's key, if it has one."""
    downgraded: bool = False
    """Whether the candidate is one of those that take over from the alert threshold on."""


@dataclass(frozen=True, slots=True)
class Downgrade:
    """The tier, and its candidates, that take over a call while a budget is HALF_OPEN."""

    tier: str
    candidates: Sequence[Candidate]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an attempt's end says of its provider.

    `ok`: it answered. `count`: one more failure in a row, which from the `threshold`th on opens a cooldown of
    `seconds`, doubling up to `max_seconds`. `now`: cool down for `seconds` at once. `note`: only remember the failure.
    """

    provider: str
    verdict: Literal["ok", "count", "now", "note"]
    kind: str | None = None
    message: str | None = None
    seconds: float = 0
    threshold: int = 0
    max_seconds: float = 0

    def argument(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Ending:
    """How one reservation ends: at its actual cost (USD), at its bound, or released."""

    reservation: Reservation
    how: How
    outcome: str
    cost: Decimal | None = None
    counts: TokenCounts | None = None
    reasoning_tokens: int = 0
    verdict: Verdict | None = None

    def argument(self) -> dict[str, object]:
        counts = self.counts or TokenCounts(0, 0)
        return {
            "id": str(self.reservation.id),
            "how": self.how,
            "outcome": self.outcome,
            "cost": self.cost,
            "input_tokens": counts.input_tokens,
            "output_tokens": counts.output_tokens,
            "cached_input_tokens": counts.cached_input_tokens,
            "cache_write_tokens": counts.cache_write_tokens,
            "reasoning_tokens": self.reasoning_tokens,
        }


@dataclass(frozen=True, slots=True)
class Cooling:
    """A candidate that was passed over, and until when."""

    candidate: Candidate
    until: datetime
    kind: str | None


class AllCoolingError(Exception):
    """No candidate may be called now; nothing was reserved."""

    def __init__(self, cooling: Sequence[Cooling]) -> None:
        super().__init__("every candidate is cooling down")
        self.cooling = tuple(cooling)


@dataclass(frozen=True, slots=True)
class Booked:
    """What a settlement cost (USD), and the budget after it."""

    cost: Decimal
    basis: Literal["actual", "bound"] | None
    budget: Budget | None
    """None when the ledger couldn't be reached: the settlement is kept and sent with the next call."""
    key: KeyBudget | None = None


class Ledger:
    """The ledger as one execution environment sees it."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = written(sql_settings(settings))
        self._limit = settings.ai_monthly_budget_usd
        self._introduction: dict[str, object] | None = settings.public()
        self._unsent: list[dict[str, object]] = []

    def reserve(
        self,
        call: Call,
        candidates: Sequence[Candidate],
        *,
        attempt: int = 1,
        after: Ending | None = None,
        downgrade: Downgrade | None = None,
    ) -> Reservation:
        """Reserve the worst case of the first candidate that isn't cooling down, in one round trip.

        :param after: the failed attempt before this one, ended in the same statement
        :param downgrade: who is asked instead while the company's or the key's budget is HALF_OPEN
        :raises BudgetExceededError: it can't fit what is left of the window, the company's or the key's
        :raises BudgetReservedError: it would fit, but calls in flight hold the headroom
        :raises RateLimitedError: the key's minute is used up
        :raises InvalidRequestError: it is more than the key may use in any minute
        :raises AuthenticationError: the key was revoked or has expired since it was checked
        :raises AllCoolingError: every candidate is cooling down
        :raises LedgerUnavailableError: Postgres can't be reached; nothing is reserved for sure, so nothing may be sent
        """
        entry_id = time_ordered_id()
        argument: dict[str, object] = {
            "settings": self._settings,
            "entry": {
                "id": str(entry_id),
                "request_id": call.request_id,
                "attempt": attempt,
                "operation": call.operation,
                "tier": call.tier,
                "key_id": call.key_id,
            },
            "candidates": _arguments(candidates),
            "probe_seconds": _PROBE_SECONDS,
        }
        if downgrade is not None:
            argument["downgrade"] = {"tier": downgrade.tier, "candidates": _arguments(downgrade.candidates)}
        if self._introduction is not None:
            argument["introduce"] = self._introduction
        ending = {} if after is None else _ending_arguments(after)
        unsent = [ending] if ending else []
        try:
            self._send_kept()
            # Should the answer be lost, a reservation may stand that nothing will be sent on.
            unsent.append({"ending": {"id": str(entry_id), "how": "release", "outcome": "not_sent"}})
            told = self._database.call("SELECT ledger_reserve($1::jsonb)", argument | ending)
        except LedgerUnavailableError:
            self._keep(*unsent)
            raise
        self._introduction = None
        _log_cooldown(ending, told)
        announce(told)
        downgraded = bool(told.get("downgraded"))
        if downgraded and downgrade is not None:
            call, candidates = replace(call, tier=downgrade.tier), downgrade.candidates
        budget = self._seen(told["budget"])
        if refused := told.get("refused"):
            if refused == "cooling_down":
                raise AllCoolingError(_cooling(told, candidates))
            raise refusal(told, budget, call.key_id)
        return Reservation(
            entry_id,
            call,
            attempt,
            candidates[told["candidate"]],
            budget,
            _cooling(told, candidates),
            KeyBudget.read(told["key"]),
            downgraded,
        )

    def end(self, ending: Ending) -> Booked:
        """End a reservation for good, in one round trip; sending it twice books it once.

        When Postgres can't be reached the ending is kept and sent before this environment's next reservation; should
        the environment die before that, the reservation expires and is settled at its bound.
        """
        arguments = _ending_arguments(ending)
        try:
            return self._end(arguments)
        except LedgerUnavailableError as error:
            refused = isinstance(error, StatementRefusedError)
            logs.event(
                "ledger.unavailable",
                logging.ERROR,
                reason=str(error.__cause__ and type(error.__cause__).__name__),
                provider=ending.reservation.candidate.provider,
                model=ending.reservation.candidate.model,
                attempt=ending.reservation.attempt,
                cost_usd=ending.cost,
                message="refused: it is settled at its bound when it expires"
                if refused
                else "kept: it is settled with this environment's next call, or at its bound when it expires",
            )
            if not refused:
                self._keep(arguments)
            cost = {"actual": ending.cost, "bound": ending.reservation.candidate.bound}.get(ending.how)
            return Booked(cost or Decimal(0), None if ending.how == "release" else ending.how, None)

    def budget(self) -> tuple[Budget, dict[str, Decimal], dict[str, Decimal], DailySpend]:
        """The open window, its spend in USD by provider and by `provider/model`, and what a forecast is made of.

        Settles what has expired.
        """
        self._send_kept()
        argument = {"settings": self._settings, "id": str(time_ordered_id())}
        told = self._database.call("SELECT ledger_budget($1::jsonb)", argument)
        announce(told)
        return (
            self._seen(told["budget"]),
            {name: Decimal(cost) for name, cost in told["by_provider"].items()},
            {name: Decimal(cost) for name, cost in told["by_model"].items()},
            DailySpend.read(told["days"]),
        )

    def reset(
        self, *, actor: str, source_ip: str | None, request_id: str, reason: str | None, budget: str = "global"
    ) -> tuple[Window, Window]:
        """Close the open window and open the next; audited in the same transaction.

        :param budget: the company's, or a key's by its id
        :return: the closed and the opened window
        """
        self._send_kept()
        told = self._reset(
            "admin", budget=budget, actor=actor, source_ip=source_ip, request_id=request_id, reason=reason
        )
        announce_reset("circuit_breaker.manual_reset", told, actor=actor, source_ip=source_ip, reason=reason)
        return Window.read(told["closed"]), Window.read(told["opened"])

    def scheduled_reset(self, *, due: datetime, request_id: str) -> Window | None:
        """The schedule's reset, idempotent: a window opened since it was `due`, or by a run within the minute, stays.

        :return: the window that was closed, None when there was nothing to do
        """
        told = self._reset("schedule", at=due.isoformat(), actor="schedule", request_id=request_id)
        if told["closed"] is None:
            return Window.read(told["turned"]["closed"]) if told["turned"] else None
        announce_reset("circuit_breaker.monthly_reset", told, actor="schedule")
        return Window.read(told["closed"])

    # --- below: the round trips ---

    def _reset(self, why: str, **arguments: object) -> Mapping[str, Any]:
        told: Mapping[str, Any] = self._database.call(
            "SELECT ledger_reset($1::jsonb)",
            {"settings": self._settings, "id": str(time_ordered_id()), "why": why, **arguments},
        )
        announce(told)
        opened = Window.read(told["opened"])
        if opened.budget == "global":
            metrics.budget(lambda: ratio(opened.spent, self._limit), opened.reserved)
        return told

    def _seen(self, told: Mapping[str, Any]) -> Budget:
        budget = Budget.read(told, self._limit)
        if budget.window.closed_at is None:  # a call may settle in a window that was closed meanwhile
            metrics.budget(lambda: budget.usage_ratio, budget.window.reserved)
        return budget

    def _end(self, arguments: Mapping[str, object]) -> Booked:
        told = self._database.call("SELECT ledger_end($1::jsonb)", {"settings": self._settings, **arguments})
        _log_cooldown(arguments, told)
        announce(told)
        if told["status"] is None:  # the database was swapped or restored meanwhile: there is nothing to end
            return Booked(Decimal(0), None, None)
        budget = self._seen(told["budget"])
        return Booked(Decimal(told["cost"] or 0), told["cost_basis"], budget, KeyBudget.read(told["key"]))

    def _keep(self, *endings: dict[str, object]) -> None:
        # Bounded: through a long outage the oldest are left to expire at their bounds.
        self._unsent = [*self._unsent, *endings][-_KEPT_ENDINGS:]

    def _send_kept(self) -> None:
        while self._unsent:
            # One that is refused is left to expire at its bound: it must not hold up this environment's calls for good.
            with suppress(StatementRefusedError):
                self._end({**self._unsent[0], "resent": True})
            del self._unsent[0]


def _arguments(candidates: Sequence[Candidate]) -> list[dict[str, object]]:
    return [{"provider": c.provider, "model": c.model, "bound": c.bound, "tokens": c.tokens} for c in candidates]


def _cooling(told: Mapping[str, Any], candidates: Sequence[Candidate]) -> tuple[Cooling, ...]:
    return tuple(
        Cooling(candidates[c["candidate"]], datetime.fromisoformat(c["until"]), c["kind"])
        for c in told.get("cooling") or ()
    )


def _ending_arguments(ending: Ending) -> dict[str, object]:
    arguments: dict[str, object] = {"ending": ending.argument()}
    if ending.verdict is not None:
        arguments["health"] = ending.verdict.argument()
    return arguments


def _log_cooldown(arguments: Mapping[str, Any], told: Mapping[str, Any]) -> None:
    if until := told.get("cooldown_until"):
        health = arguments["health"]
        logs.event(
            "provider.cooldown",
            logging.WARNING,
            provider=health["provider"],
            kind=health["kind"],
            cooldown_until=until,
        )
