"""What completions and embeddings share on the way in and out: who asks, and the `x-fusewire-*` headers."""

from collections.abc import Mapping
from typing import Final

from fusewire.ai.router import Caller, Served, Streaming
from fusewire.ai.tiers import classification_of
from fusewire.budget.breaker import Budget, KeyBudget
from fusewire.errors import usd
from fusewire.http.limits import limit_headers
from fusewire.http.resolver import Resolver

_OWN_NAMES: Final[Mapping[str, str]] = {}


def caller_of(app: Resolver, dropped: tuple[str, ...] = ()) -> Caller:
    """
    :raises InvalidRequestError: for an unknown classification
    :raises PermissionDeniedError: for one that the caller's key may not use
    """
    identity = app.identity
    return Caller(
        request_id=app.request_id,
        remaining_seconds=app.lambda_context.get_remaining_time_in_millis() / 1000,
        classification=classification_of(app.header("x-fusewire-classification"), identity.allowance),
        key_id=identity.key_id,
        allowance=identity.allowance,
        dropped=dropped,
    )


def served_headers(served: Served, app: Resolver, names: Mapping[str, str] = _OWN_NAMES) -> dict[str, str]:
    """Who answered, at what cost, and how the budget stands after it.

    :param names: what the caller's format calls the vocabulary's fields, where that differs
    """
    headers = _answered_by(served, names)
    headers["x-fusewire-cost-usd"] = usd(served.booked.cost)
    return headers | _budget_headers(served.budget, served.key, app)


def stream_headers(streaming: Streaming, app: Resolver, names: Mapping[str, str] = _OWN_NAMES) -> dict[str, str]:
    """The same before the cost is known; the budget is as it stood at the reservation."""
    headers = _answered_by(streaming, names)
    return headers | _budget_headers(streaming.budget, streaming.key, app)


def _answered_by(answered: Served | Streaming, names: Mapping[str, str]) -> dict[str, str]:
    headers = {
        "x-fusewire-provider": answered.provider,
        "x-fusewire-model": _printable(answered.model),
        "x-fusewire-attempts": str(answered.attempts),
    }
    if answered.downgraded_from:
        headers["x-fusewire-downgraded-from"] = answered.downgraded_from
    if answered.dropped:
        headers["x-fusewire-dropped"] = ", ".join(dict.fromkeys(names.get(name, name) for name in answered.dropped))
    return headers


def _budget_headers(budget: Budget, key: KeyBudget | None, app: Resolver) -> dict[str, str]:
    """How the budgets stand that may refuse this caller, and amounts only of those that are the caller's to know."""
    headers: dict[str, str] = {"x-fusewire-budget-state": budget.state}
    if app.identity.is_admin:
        headers["x-fusewire-budget-remaining-usd"] = usd(budget.remaining)
    elif key is not None and key.remaining is not None:
        # Alphabetical order happens to be the order of severity: CLOSED < HALF_OPEN < OPEN.
        headers["x-fusewire-budget-state"] = max(budget.state, key.state)
        headers["x-fusewire-budget-remaining-usd"] = usd(key.remaining)
    return headers | limit_headers(key.minute if key else None)


def _printable(text: str) -> str:
    """A model's name comes from the caller: nothing but printable ASCII may reach a header."""
    return "".join(c if " " <= c <= "~" else "?" for c in text)
