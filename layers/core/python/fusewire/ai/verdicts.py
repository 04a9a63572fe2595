"""What a failed attempt says of its provider, and what its caller is told."""

import time
from typing import Final

from fusewire.ai.failures import FailureKind, Health, ProviderFailure
from fusewire.budget.ledger import Cooling, Verdict
from fusewire.errors import (
    ContentPolicyError,
    FusewireError,
    InvalidRequestError,
    ProviderOutcome,
    RequestTooLargeError,
)

_FAILURES_BEFORE_COOLDOWN: Final = 5
_COOLDOWN_SECONDS: Final = 15
_LONGEST_COOLDOWN_SECONDS: Final = 300
_CREDENTIAL_COOLDOWN_SECONDS: Final = 60
_LONGEST_RETRY_AFTER_SECONDS: Final = 3600

_SAYS_WHEN: Final = {
    FailureKind.RATE_LIMITED,
    FailureKind.OVERLOADED,
    FailureKind.SERVER_ERROR,
    FailureKind.GATEWAY_ERROR,
}


def cooling_down(cooling: Cooling) -> ProviderOutcome:
    """The outcome of a provider that wasn't asked."""
    wait = max(cooling.until.timestamp() - time.time(), 0)
    return ProviderOutcome(
        cooling.candidate.provider,
        cooling.candidate.model,
        "cooling_down",
        f"cooling down for {wait:.0f} s after {cooling.kind}",
        wait if cooling.kind in _SAYS_WHEN else None,
    )


def verdict_on(provider: str, failure: ProviderFailure) -> Verdict | None:
    """What the ledger notes of the provider's health; None where the failure says nothing of it."""
    kind, message = failure.kind.value, failure.message
    health = failure.consequence.health
    if failure.retry_after is not None and failure.kind in _SAYS_WHEN:
        wait = min(failure.retry_after, _LONGEST_RETRY_AFTER_SECONDS)
        return Verdict(provider, "now", kind, message, seconds=wait)
    if health is Health.NOW:
        return Verdict(provider, "now", kind, message, seconds=_CREDENTIAL_COOLDOWN_SECONDS)
    if health is Health.COUNT:
        return Verdict(
            provider,
            "count",
            kind,
            message,
            seconds=_COOLDOWN_SECONDS,
            threshold=_FAILURES_BEFORE_COOLDOWN,
            max_seconds=_LONGEST_COOLDOWN_SECONDS,
        )
    return Verdict(provider, "note", kind, message) if health is Health.NOTE else None


def callers_error(failure: ProviderFailure) -> FusewireError:
    """The error for a failure that is the caller's own doing."""
    said = failure.caller_message or failure.message
    if failure.kind is FailureKind.TOO_LARGE:
        return RequestTooLargeError(said, param=failure.param)
    if failure.kind is FailureKind.CONTENT_POLICY:
        return ContentPolicyError(said, param=failure.param)
    return InvalidRequestError(said, param=failure.param)
