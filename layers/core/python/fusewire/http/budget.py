"""The admin API's bodies for the budget."""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from fusewire.budget.breaker import Budget, Window
from fusewire.budget.forecast import DailySpend, Forecast, forecast
from fusewire.config import Settings


class ResetRequest(BaseModel):
    """`POST /admin/budget/reset`."""

    model_config = ConfigDict(extra="forbid")

    reason: Annotated[str, Field(max_length=500)] | None = None


def budget_body(
    settings: Settings,
    budget: Budget,
    by_provider: Mapping[str, Decimal],
    by_model: Mapping[str, Decimal],
    history: DailySpend,
) -> dict[str, object]:
    """`GET /admin/budget`; amounts in USD."""
    window = budget.window
    return {
        "state": budget.state,
        "monthly_limit_usd": budget.limit,
        "current_spend_usd": window.spent,
        "reserved_usd": window.reserved,
        "remaining_usd": budget.remaining,
        "usage_ratio": budget.usage_ratio,
        "request_count": window.request_count,
        "by_provider": by_provider,
        "by_model": by_model,
        "window": {
            "id": window.id,
            "opened_at": window.opened_at.isoformat(),
            "resets_at": window.resets_at.isoformat(),
        },
        "forecast": forecast_body(settings, window, budget.limit, history),
    }


def forecast_body(settings: Settings, window: Window, limit: Decimal | None, history: DailySpend) -> dict[str, object]:
    """`forecast` of the company's budget, or of a key's (`limit` None: it has none of its own)."""
    ahead = forecast(
        window,
        limit,
        history,
        opens_at=settings.ai_circuit_breaker_threshold,
        zone=settings.ai_budget_timezone,
        now=datetime.now(UTC),
    )
    return forecast_told(ahead)


def forecast_told(ahead: Forecast) -> dict[str, object]:
    """A forecast as the admin API shows it."""
    return {
        "month_end_usd": ahead.month_end_usd,
        "exhausted_at": ahead.exhausted_at.isoformat(timespec="seconds") if ahead.exhausted_at else None,
    }
