"""`/admin/budget`: the month's budget, its limit, and its early end."""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema, model_validator

from fusewire.budget.adjustments import AdjustmentRow, Adjustments
from fusewire.budget.audit_context import AuditContext
from fusewire.budget.breaker import Budget, Window
from fusewire.budget.forecast import DailySpend, Forecast, forecast
from fusewire.budget.ledger import Ledger
from fusewire.budget.limits import AuditedLimit, AuditedLimits, Limits
from fusewire.budget.wire import State
from fusewire.config import Settings
from fusewire.http.admin.query import Page
from fusewire.http.schema import Money, RequestModel, ResponseModel, Time


class ResetRequest(BaseModel):
    """`POST /admin/budget/reset`."""

    model_config = ConfigDict(extra="forbid", defer_build=True)

    reason: Annotated[str, Field(max_length=500)] | None = None


def _not_zero(amount: Decimal) -> Decimal:
    if not amount:
        raise ValueError("it must not be 0")
    return amount


AdjustedAmount = Annotated[
    Decimal, Field(ge=-(10**9), le=10**9, max_digits=22, decimal_places=12), AfterValidator(_not_zero)
]
WindowId = Annotated[int, Field(ge=1, lt=2**63)]


class AdjustmentRequest(RequestModel):
    """`POST /admin/budget/adjustments`."""

    model_config = ConfigDict(defer_build=True)

    amount_usd: AdjustedAmount
    """USD, exact; negative where it takes back what was booked."""
    reason: Annotated[str, Field(min_length=1, max_length=500, pattern=r"\S")]
    window_id: WindowId | None = None
    """A window of the company; by default the open one."""


class LimitRequest(RequestModel):
    """`PATCH /admin/budget`."""

    model_config = ConfigDict(defer_build=True)

    monthly_limit_usd: Annotated[Decimal, Field(ge=0, le=10**12, max_digits=24, decimal_places=12)] | None
    """USD, exact; null takes back what was set, so that the setting is in force."""
    until: Literal["window"] | None = None
    """`window`: until the open window ends; null: for good."""
    reason: Annotated[str, Field(min_length=1, max_length=500, pattern=r"\S")]

    @model_validator(mode="after")
    def _ends_something(self) -> "LimitRequest":
        if self.monthly_limit_usd is None and self.until is not None:
            raise ValueError("until goes with an amount: null takes back every limit that was set")
        return self


class AdjustmentsQuery(Page):
    """The query string of `GET /admin/budget/adjustments`."""

    window_id: WindowId | None = None
    cursor: UUID | None = None


class AdjustmentResponse(ResponseModel):
    """What was booked by hand, by whom and why; negative where it takes back what was booked."""

    id: Annotated[str, WithJsonSchema({"type": "string", "format": "uuid"})]
    window_id: int
    at: Time
    amount_usd: Money
    reason: str
    actor: str
    request_id: str

    @classmethod
    def of(cls, row: AdjustmentRow) -> "AdjustmentResponse":
        return cls(
            id=row["id"],
            window_id=row["window_id"],
            at=row["at"],
            amount_usd=Decimal(row["amount"]),
            reason=row["reason"],
            actor=row["actor"],
            request_id=row["request_id"],
        )


class AdjustmentPage(ResponseModel):
    """Adjustments, the newest first."""

    rows: list[AdjustmentResponse]
    next_cursor: str | None


class WindowResponse(ResponseModel):
    """A budget's window."""

    id: int
    opened_at: Time
    resets_at: Annotated[Time | None, Field(json_schema_extra={"description": "Null where the period never ends"})]

    @classmethod
    def of(cls, window: Window) -> "WindowResponse":
        return cls(id=window.id, opened_at=window.opened_at.isoformat(), resets_at=_time(window.resets_at))


class WindowTotals(WindowResponse):
    """A window with what was booked in it; `closed_at` is null while it is open."""

    closed_at: Time | None
    spent_usd: Money
    reserved_usd: Money
    request_count: int

    @classmethod
    def of(cls, window: Window) -> "WindowTotals":
        return cls(
            id=window.id,
            opened_at=window.opened_at.isoformat(),
            resets_at=_time(window.resets_at),
            closed_at=_time(window.closed_at),
            spent_usd=window.spent,
            reserved_usd=window.reserved,
            request_count=window.request_count,
        )


class AdjustedResponse(ResponseModel):
    """An adjustment, and its window after it."""

    adjustment: AdjustmentResponse
    state: State
    window: WindowTotals


class ResetResponse(ResponseModel):
    """The window that was closed, and the one that follows it."""

    closed: WindowTotals
    opened: WindowTotals


class ForecastResponse(ResponseModel):
    """Where the spending leads; nulls while there is too little data."""

    month_end_usd: Money | None
    exhausted_at: Time | None

    @classmethod
    def of(cls, ahead: Forecast) -> "ForecastResponse":
        exhausted_at = ahead.exhausted_at.isoformat(timespec="seconds") if ahead.exhausted_at else None
        return cls(month_end_usd=ahead.month_end_usd, exhausted_at=exhausted_at)


class AuditedLimitResponse(ResponseModel):
    """A limit that an administrator set. It counts as the maximum where that is lower by now."""

    id: Annotated[str, WithJsonSchema({"type": "string", "format": "uuid"})]
    amount_usd: Money
    until: Annotated[
        Literal["window"] | None,
        Field(json_schema_extra={"description": "`window`: until the open window ends; null: for good"}),
    ]
    set_at: Time
    actor: str
    reason: str

    @classmethod
    def of(cls, audited: AuditedLimit) -> "AuditedLimitResponse":
        return cls(
            id=audited.id,
            amount_usd=audited.amount,
            until=audited.until,
            set_at=audited.set_at.isoformat(),
            actor=audited.actor,
            reason=audited.reason,
        )


class LimitResponse(ResponseModel):
    """Which limit is in force, and where it comes from."""

    in_force_usd: Money
    setting_usd: Annotated[Money, Field(json_schema_extra={"description": "AI_MONTHLY_BUDGET_USD"})]
    maximum_usd: Annotated[Money | None, Field(json_schema_extra={"description": "AI_MONTHLY_BUDGET_MAX_USD"})]
    next_window_usd: Annotated[Money, Field(json_schema_extra={"description": "What the next window will have"})]
    audited: AuditedLimitResponse | None
    """Null while the setting is in force."""

    @classmethod
    def of(cls, limits: Limits) -> "LimitResponse":
        return cls(
            in_force_usd=limits.in_force,
            setting_usd=limits.setting,
            maximum_usd=limits.maximum,
            next_window_usd=limits.next_window,
            audited=None if limits.audited is None else AuditedLimitResponse.of(limits.audited),
        )


class ChangedLimitResponse(ResponseModel):
    """The limit, and the open window under it."""

    state: State
    monthly_limit_usd: Money
    remaining_usd: Money
    limit: LimitResponse
    window: WindowTotals


Share = Annotated[Decimal, WithJsonSchema({"type": "number", "description": "A share of the limit, exact"})]


class BudgetResponse(ResponseModel):
    """`GET /admin/budget`. `monthly_limit_usd` is the limit in force."""

    state: State
    monthly_limit_usd: Money
    limit: LimitResponse
    alert_threshold: Share
    """`AI_BUDGET_ALERT_THRESHOLD`: the share of the limit from which on it is HALF_OPEN."""
    open_threshold: Share
    """`AI_CIRCUIT_BREAKER_THRESHOLD`: the share from which on it is OPEN. Both are those of keys, and of nodes without
    their own."""
    current_spend_usd: Money
    reserved_usd: Money
    remaining_usd: Money
    usage_ratio: Annotated[Money, Field(json_schema_extra={"description": "Spent of the limit, to six digits"})]
    request_count: int
    waiting: Annotated[int, Field(json_schema_extra={"description": "Calls that wait for room, in whichever budget"})]
    longest_wait_seconds: Annotated[Money, Field(json_schema_extra={"description": "Of those that wait now"})]
    by_provider: Mapping[str, Money]
    by_model: Mapping[str, Money]
    window: WindowResponse
    forecast: ForecastResponse


def budget_response(
    settings: Settings,
    budget: Budget,
    by_provider: Mapping[str, Decimal],
    by_model: Mapping[str, Decimal],
    history: DailySpend,
    limits: Limits,
) -> BudgetResponse:
    """The company's budget, from what `Ledger.budget` returns."""
    window = budget.window
    return BudgetResponse(
        state=budget.state,
        monthly_limit_usd=budget.limit,
        limit=LimitResponse.of(limits),
        alert_threshold=settings.ai_budget_alert_threshold,
        open_threshold=settings.ai_circuit_breaker_threshold,
        current_spend_usd=window.spent,
        reserved_usd=window.reserved,
        remaining_usd=budget.remaining,
        usage_ratio=budget.usage_ratio,
        request_count=window.request_count,
        waiting=budget.line.calls,
        longest_wait_seconds=budget.line.longest_seconds,
        by_provider=by_provider,
        by_model=by_model,
        window=WindowResponse.of(window),
        forecast=ForecastResponse.of(forecast_of(settings, window, budget.limit, history)),
    )


def changed_limit_response(
    limits: AuditedLimits, audit_context: AuditContext, request: LimitRequest
) -> ChangedLimitResponse:
    """Set the company's limit, or take back what was set."""
    budget, found = limits.change(request.monthly_limit_usd, request.until, request.reason, audit_context)
    return ChangedLimitResponse(
        state=budget.state,
        monthly_limit_usd=budget.limit,
        remaining_usd=budget.remaining,
        limit=LimitResponse.of(found),
        window=WindowTotals.of(budget.window),
    )


def reset_response(
    ledger: Ledger, audit_context: AuditContext, request: ResetRequest, budget: str = "global"
) -> ResetResponse:
    """Close a budget's open window and open the next.

    :param budget: the company's, or a key's or a node's by its id
    """
    closed, opened = ledger.reset(
        actor=audit_context.actor,
        source_ip=audit_context.source_ip,
        request_id=audit_context.request_id,
        reason=request.reason,
        budget=budget,
    )
    return ResetResponse(closed=WindowTotals.of(closed), opened=WindowTotals.of(opened))


def adjusted_response(
    adjustments: Adjustments, audit_context: AuditContext, request: AdjustmentRequest
) -> AdjustedResponse:
    """Book an adjustment."""
    done = adjustments.book(request.amount_usd, request.reason, request.window_id, audit_context)
    return AdjustedResponse(
        adjustment=AdjustmentResponse.of(done.adjustment),
        state=done.budget.state,
        window=WindowTotals.of(done.budget.window),
    )


def adjustment_page(adjustments: Adjustments, query: AdjustmentsQuery) -> AdjustmentPage:
    """A page of adjustments."""
    rows = adjustments.list(before=query.cursor, limit=query.limit + 1, window_id=query.window_id)
    shown = [AdjustmentResponse.of(row) for row in rows[: query.limit]]
    return AdjustmentPage(rows=shown, next_cursor=shown[-1].id if len(rows) > query.limit else None)


def forecast_of(
    settings: Settings, window: Window, limit: Decimal | None, history: DailySpend, opens_at: Decimal | None = None
) -> Forecast:
    """The forecast of a budget as of now.

    :param limit: USD; None for a key or a node without a limit of its own
    :param opens_at: the budget's own threshold; None for the settings'
    """
    return forecast(
        window,
        limit,
        history,
        opens_at=settings.ai_circuit_breaker_threshold if opens_at is None else opens_at,
        zone=settings.ai_budget_timezone,
        now=datetime.now(UTC),
    )


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
