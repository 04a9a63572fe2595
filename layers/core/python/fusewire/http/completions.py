"""What completions and embeddings share on the way in and out: who asks, and the `x-fusewire-*` headers."""

from fusewire.ai.router import Caller, Served, Streaming
from fusewire.ai.tiers import classification_of
from fusewire.budget.breaker import Budget
from fusewire.errors import usd
from fusewire.http.resolver import Resolver


def caller_of(app: Resolver) -> Caller:
    """:raises InvalidRequestError: for an unknown classification"""
    return Caller(
        request_id=app.request_id,
        remaining_seconds=app.lambda_context.get_remaining_time_in_millis() / 1000,
        classification=classification_of(app.header("x-fusewire-classification")),
    )


def served_headers(served: Served, app: Resolver) -> dict[str, str]:
    """Who answered, at what cost, and how the budget stands after it."""
    headers = _answered_by(served.provider, served.model, served.attempts, served.dropped)
    headers["x-fusewire-cost-usd"] = usd(served.booked.cost)
    return headers | _budget_headers(served.booked.budget, app)


def stream_headers(streaming: Streaming, app: Resolver) -> dict[str, str]:
    """The same before the cost is known; the budget is as it stood at the reservation."""
    headers = _answered_by(streaming.provider, streaming.model, streaming.attempts, streaming.dropped)
    return headers | _budget_headers(streaming.budget, app)


def _answered_by(provider: str, model: str, attempts: int, dropped: tuple[str, ...]) -> dict[str, str]:
    headers = {
        "x-fusewire-provider": provider,
        "x-fusewire-model": _printable(model),
        "x-fusewire-attempts": str(attempts),
    }
    if dropped:
        headers["x-fusewire-dropped"] = ", ".join(dropped)
    return headers


def _budget_headers(budget: Budget | None, app: Resolver) -> dict[str, str]:
    if budget is None:
        return {}
    headers: dict[str, str] = {"x-fusewire-budget-state": budget.state}
    if app.is_admin:
        headers["x-fusewire-budget-remaining-usd"] = usd(budget.remaining)
    return headers


def _printable(text: str) -> str:
    """A model's name comes from the caller: nothing but printable ASCII may reach a header."""
    return "".join(c if " " <= c <= "~" else "?" for c in text)
