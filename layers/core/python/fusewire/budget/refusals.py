"""Why the ledger refuses a call: from what `ledger_refusal` (in the migrations) tells to the error that is raised."""

import logging
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from fusewire import logs
from fusewire.budget.breaker import Budget, KeyBudget, ratio
from fusewire.errors import (
    AuthenticationError,
    BudgetExceededError,
    BudgetReservedError,
    FusewireError,
    InvalidRequestError,
    RateLimitedError,
)


def refusal(told: Mapping[str, Any], budget: Budget, key_id: str | None) -> FusewireError:
    """The error for a refused reservation, after its log line. No message holds an amount of the company's."""
    error = _error(told, budget)
    key = KeyBudget.read(told["key"])
    error.minute = key.minute if key else None
    if error.code in (BudgetExceededError.code, BudgetReservedError.code):
        by_key = told["by"] != "global"
        window, limit = (key.window, key.limit or Decimal(0)) if by_key and key else (budget.window, budget.limit)
        logs.event(
            "circuit_breaker.blocked",
            logging.WARNING,
            code=error.code,
            cost_usd=Decimal(told["bound"]),
            cost_basis="bound",
            key_id=key_id,
            reason=f"budget {told['by']}",
            usage_ratio=ratio(window.spent, limit),
            window_id=window.id,
        )
    return error


def _error(told: Mapping[str, Any], budget: Budget) -> FusewireError:
    match told["refused"]:
        case "exceeded":
            return _exceeded(told, budget)
        case "reserved":
            whose = "the month's budget" if told["by"] == "global" else "this key's budget"
            return BudgetReservedError(
                f"Calls in flight hold the rest of {whose}. Retry in a second: they usually cost less than what they "
                "reserve."
            )
        case "rate_limited":
            what = told["limit"]
            return RateLimitedError(
                f"This key's limit of {what} per minute is used up. Retry when the minute is over.",
                limit=what,
                retry_after=max(told["retry_after"], 0),
            )
        case "too_large":
            return InvalidRequestError(
                f"This call may use {told['tokens']:,} tokens and this key may use {told['limit']:,} a minute, so it "
                "can never be served: ask for a smaller max_tokens or send a shorter prompt.",
                param="max_tokens",
            )
        case "revoked":
            return AuthenticationError("This API key isn't valid: it is unknown, revoked or expired.")
    raise ValueError(f"unknown refusal {told['refused']!r}")


def _exceeded(told: Mapping[str, Any], budget: Budget) -> BudgetExceededError:
    key = KeyBudget.read(told["key"])
    if told["by"] == "global" or key is None:
        name, whose, resets = "global", "The month's budget", budget.window.resets_at
    else:
        name, whose, resets = key.window.budget, "This key's budget", key.window.resets_at
    return BudgetExceededError(
        f"{whose} can't take this call: its worst case doesn't fit what is left, or the circuit breaker is open. The "
        f"{'global' if name == 'global' else 'key'} budget resets at {resets.isoformat()}; a smaller max_tokens or the "
        "cost_effective tier may still fit, or an admin resets or raises the budget.",
        budget=name,
        resets_at=resets,
    )
