"""Why the ledger refuses a call: from what `ledger_refusal` (`store/functions/reserve.sql`) returns to an error."""

import logging
from decimal import Decimal
from math import ceil
from typing import Final

from fusewire import logs
from fusewire.budget.admission import Waiting
from fusewire.budget.breaker import Budget, KeyBudget, ratio
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
    result: ReserveResult, budget: Budget, key_id: str | None, call_seconds: float | None, waiting: Waiting
) -> FusewireError:
    """The error for a refused reservation, after its log line. No message holds an amount of the company's.

    :param call_seconds: how long calls take, None where nobody knows
    :param waiting: how long it waited before it was refused
    """
    error = _error(result, budget, call_seconds)
    error.recorded = True
    key = KeyBudget.read(result["key"])
    error.rate_limit = key.rate_limit if key else None
    if error.code in (BudgetExceededError.code, BudgetReservedError.code):
        by_key = result["by"] != "global"
        window, limit = (key.window, key.limit or Decimal(0)) if by_key and key else (budget.window, budget.limit)
        logs.event(
            "circuit_breaker.blocked",
            logging.WARNING,
            code=error.code,
            cost_usd=Decimal(result["bound"] or 0),
            cost_basis="bound",
            key_id=key_id,
            reason=f"budget {result['by']}",
            usage_ratio=ratio(window.spent, limit),
            window_id=window.id,
            waited_ms=waiting.waited_ms,
        )
    return error


def _error(result: ReserveResult, budget: Budget, call_seconds: float | None) -> FusewireError:
    match result["refused"]:
        case "exceeded":
            return _exceeded(result, budget)
        case "reserved":
            whose = "the month's budget" if result["by"] == "global" else "this key's budget"
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


def _exceeded(result: ReserveResult, budget: Budget) -> BudgetExceededError:
    key = KeyBudget.read(result["key"])
    if result["by"] == "global" or key is None:
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
