"""What a failed attempt says of its provider, and what its caller is told."""

import time
from typing import Final

from fusewire.ai.failures import CONSEQUENCES, REPEATABLE, FailureKind, Health, ProviderFailure
from fusewire.budget.reservation import Cooling, HealthUpdate, Refusal
from fusewire.errors import (
    ContentPolicyError,
    FusewireError,
    InvalidRequestError,
    ProviderOutcome,
    RequestTooLargeError,
)

_FAILURES_BEFORE_COOLDOWN: Final = 5
_COOLDOWN_SECONDS: Final = 15
_MAX_COOLDOWN_SECONDS: Final = 300
_CREDENTIAL_COOLDOWN_SECONDS: Final = 60
_MAX_RETRY_AFTER_SECONDS: Final = 3600
_REFUSALS_BEFORE_PAUSE: Final = 3
_REFUSAL_PAUSE_SECONDS: Final = 60

_MAX_SAID: Final = 1000
_MAX_PARAM: Final = 120

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
        is_passing=any(kind == cooling.kind for kind, what in CONSEQUENCES.items() if what.health is Health.COUNT),
    )


def health_update_of(provider: str, failure: ProviderFailure) -> HealthUpdate | None:
    """What the ledger notes of the provider's health; None where the failure says nothing of it."""
    kind, message = failure.kind.value, failure.message
    health = failure.consequence.health
    if failure.retry_after is not None and failure.kind in _SAYS_WHEN:
        wait = min(failure.retry_after, _MAX_RETRY_AFTER_SECONDS)
        return HealthUpdate(provider, "now", kind, message, seconds=wait)
    if health is Health.NOW:
        return HealthUpdate(provider, "now", kind, message, seconds=_CREDENTIAL_COOLDOWN_SECONDS)
    if health is Health.COUNT:
        return HealthUpdate(
            provider,
            "count",
            kind,
            message,
            seconds=_COOLDOWN_SECONDS,
            threshold=_FAILURES_BEFORE_COOLDOWN,
            max_seconds=_MAX_COOLDOWN_SECONDS,
        )
    return HealthUpdate(provider, "note", kind, message) if health is Health.NOTE else None


def refusal_of(failure: ProviderFailure) -> Refusal | None:
    """What the ledger counts of the failure by key and model; None where it isn't counted."""
    return Refusal(_REFUSALS_BEFORE_PAUSE, _REFUSAL_PAUSE_SECONDS) if failure.kind in REPEATABLE else None


def caller_error(failure: ProviderFailure) -> FusewireError:
    """The error for a failure that is the caller's own doing."""
    said = failure.message if failure.caller_message is None else printable(failure.caller_message, _MAX_SAID)
    param = None if failure.param is None else printable(failure.param, _MAX_PARAM)
    error = InvalidRequestError(said, param=param)
    if failure.kind is FailureKind.TOO_LARGE:
        error = RequestTooLargeError(said, param=param)
    elif failure.kind in (FailureKind.CONTENT_POLICY, FailureKind.PROMPT_REFUSED):
        error = ContentPolicyError(said, param=param)
    error.counted = True
    return error


def printable(text: str, longest: int) -> str:
    """A vendor's words for a caller's screen: one line of printable characters, and no more than so many.

    What is no printable character becomes a space, and several spaces become one.
    """
    # Four times as much is looked at, so that a megabyte isn't, and a line of control characters leaves some text.
    shown = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * longest]).split())
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"
