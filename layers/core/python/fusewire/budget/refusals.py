"""Why the ledger refuses a call: from what `ledger_refusal` (`store/functions/reserve.sql`) returns to an error."""

import logging
from dataclasses import dataclass
from decimal import Decimal
from math import ceil
from typing import Final

from fusewire import logs
from fusewire.budget.admission import Waiting
from fusewire.budget.breaker import USER, Budget, KeyBudget, Window, ratio
from fusewire.budget.reservation import Call
from fusewire.budget.wire import ReserveResult
from fusewire.errors import (
    AuthenticationError,
    BudgetExceededError,
    BudgetReservedError,
    FusewireError,
    InvalidRequestError,
    RateLimitedError,
    RepeatedRefusalError,
)

_MAX_WAIT_SECONDS: Final = 30
"""OpenAI's and Anthropic's SDKs obey a `Retry-After` of up to 60."""


def refusal(
    result: ReserveResult, budget: Budget, call: Call, call_seconds: float | None, waiting: Waiting
) -> FusewireError:
    """The error for a refused reservation, after its log line. No message holds an amount of the company's.

    :param call_seconds: how long calls take, None where nobody knows
    :param waiting: how long it waited before it was refused
    """
    refusing = _refusing(result, budget, call)
    error = _error(result, refusing, call_seconds)
    error.recorded = True
    key = KeyBudget.read(result["key"])
    error.rate_limit = key.rate_limit if key else None
    if error.code in (BudgetExceededError.code, BudgetReservedError.code):
        logs.event(
            "circuit_breaker.blocked",
            logging.WARNING,
            code=error.code,
            cost_usd=Decimal(result["bound"] or 0),
            cost_basis="bound",
            key_id=call.key_id,
            budget_id=refusing.budget_id,
            reason=f"budget {result['by']}",
            usage_ratio=ratio(refusing.window.spent, refusing.limit),
            window_id=refusing.window.id,
            waited_ms=waiting.waited_ms,
        )
    return error


@dataclass(frozen=True, slots=True)
class _Refusing:
    """The budget that refuses a call, and what its caller is told of it."""

    window: Window
    limit: Decimal
    named: str
    """As the error's body names it."""
    whose: str
    kind: str
    """Which budget it is, as the word before `budget`."""
    budget_id: str | None = None
    """For the log, where it is neither the company's nor the key's."""


def _refusing(result: ReserveResult, budget: Budget, call: Call) -> _Refusing:
    key, by = KeyBudget.read(result["key"]), result.get("by", "global")
    if (row := result.get("refused_by")) is not None:
        between = Budget.read(row)
        if by.startswith(USER):
            name, whose, kind = "user", "This user's budget on this key", "user's"
        elif call.sees_budgets:
            name, whose, kind = by, f"The budget {row['name']!r} ({by})", "tree's"
        else:
            name, whose, kind = "above", "A budget above this key's", "upper"
        return _Refusing(between.window, between.limit, name, whose, kind, by)
    if by == "global" or key is None:
        return _Refusing(budget.window, budget.limit, "global", "The month's budget", "global")
    return _Refusing(key.window, key.limit or Decimal(0), key.window.budget, "This key's budget", "key")


def _error(result: ReserveResult, refusing: _Refusing, call_seconds: float | None) -> FusewireError:
    match result["refused"]:
        case "exceeded":
            return _exceeded(refusing)
        case "reserved":
            whose = refusing.whose[0].lower() + refusing.whose[1:]
            # On average a call in flight is halfway.
            wait = ceil(min(max((call_seconds or 0) / 2, 1), _MAX_WAIT_SECONDS))
            return BudgetReservedError(
                f"Calls in flight hold the rest of {whose}. Retry in {wait} s: they usually cost less than what they "
                "reserve.",
                retry_after=wait,
            )
        case "rate_limited":
            return rate_limited(str(result["limit"]), max(result["retry_after"], 0))
        case "too_large":
            return InvalidRequestError(
                f"This call may use {result['tokens']:,} tokens and this key may use {result['limit']:,} a minute, so "
                "it can never be served: ask for a smaller max_tokens or send a shorter prompt.",
                param="max_tokens",
            )
        case "repeated":
            return RepeatedRefusalError(
                result["provider"], result["model"], result["refusals"], max(result["retry_after"], 1)
            )
        case "no_user":
            return InvalidRequestError(
                "This key has a budget for each user, so each request names its user: send a stable id of whom it is "
                "for, which is kept as a hash.",
                param="user",
            )
        case "revoked":
            return AuthenticationError("This API key isn't valid: it is unknown, revoked or expired.")
    raise ValueError(f"unknown refusal {result['refused']!r}")


def rate_limited(what: str, retry_after: int) -> RateLimitedError:
    """
    :param what: `requests` or `tokens`
    :param retry_after: seconds
    """
    return RateLimitedError(
        f"This key's limit of {what} per minute is used up. Retry when the minute is over.",
        limit=what,
        retry_after=retry_after,
    )


def _exceeded(refusing: _Refusing) -> BudgetExceededError:
    resets_at = refusing.window.resets_at
    resets = f"resets at {resets_at.isoformat()}" if resets_at else "has no end"
    return BudgetExceededError(
        f"{refusing.whose} can't take this call: its worst case doesn't fit what is left, or the circuit breaker is "
        f"open. The {refusing.kind} budget {resets}; a smaller max_tokens or the cost_effective tier may still fit, or "
        "an admin resets or raises the budget.",
        budget=refusing.named,
        resets_at=resets_at,
    )
