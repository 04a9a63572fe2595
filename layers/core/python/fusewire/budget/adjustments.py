"""Audited adjustments of a window: what a restore lost of the books, or what a vendor's invoice says beside them.

Each is an entry of the ledger, so that `window.spent = sum(ledger)` holds (`store/functions/adjust.sql`).
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal, NotRequired, TypedDict
from uuid import UUID

from fusewire import metrics
from fusewire.budget.audit_context import AuditContext, AuditContextArgument
from fusewire.budget.breaker import Budget, announce
from fusewire.budget.wire import Amount, BudgetRow, Seen, SettingsArgument, WindowRow, sql_settings
from fusewire.config import Settings
from fusewire.errors import InvalidRequestError, usd
from fusewire.ids import time_ordered_id
from fusewire.store.db import Database, Statement


class AdjustArgument(TypedDict):
    """For `ledger_adjust`."""

    settings: SettingsArgument
    id: str
    amount: Decimal
    """USD; negative where it takes back what was booked."""
    reason: str
    window_id: int | None
    """None for the open window."""
    audit_context: AuditContextArgument


class AdjustmentRow(TypedDict):
    """`ledger_adjustment_json`."""

    id: str
    window_id: int
    at: str
    amount: Amount
    reason: str
    actor: str
    request_id: str


class AdjustResult(Seen):
    """What `ledger_adjust` returns; with `refused`, nothing was booked."""

    adjustment: NotRequired[AdjustmentRow]
    budget: NotRequired[BudgetRow]
    refused: NotRequired[Literal["no_window", "archived", "below_zero"]]
    window: NotRequired[WindowRow]


class ListArgument(TypedDict):
    """For `ledger_adjustments`."""

    limit: int
    before: NotRequired[str]
    window_id: NotRequired[int]


_ADJUST: Final = Statement[AdjustArgument, AdjustResult]("SELECT ledger_adjust($1::jsonb)")
_LIST: Final = Statement[ListArgument, list[AdjustmentRow]]("SELECT ledger_adjustments($1::jsonb)")


@dataclass(frozen=True, slots=True)
class Adjusted:
    """An adjustment, and the window's budget after it."""

    adjustment: AdjustmentRow
    budget: Budget


class Adjustments:
    """The adjustments of the company's windows. A key's window has none: its limit, or its reset, is its remedy."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = sql_settings(settings)

    def book(self, amount: Decimal, reason: str, window_id: int | None, audit_context: AuditContext) -> Adjusted:
        """Book an amount in the open window, or in the one that is named; audited in the same transaction.

        :param amount: USD; negative where it takes back what was booked
        :raises InvalidRequestError: there is no such window of the company, it is archived, or less than that is spent
        :raises LedgerUnavailableError: whether it is booked is unknown; `list` tells
        """
        argument: AdjustArgument = {
            "settings": self._settings,
            "id": str(time_ordered_id()),
            "amount": amount,
            "reason": reason,
            "window_id": window_id,
            "audit_context": audit_context.argument(),
        }
        result = self._database.call(_ADJUST, argument)
        announce(result)
        if "adjustment" not in result or "budget" not in result:
            raise _refusal(result, amount, window_id)
        made, budget = result["adjustment"], Budget.read(result["budget"])
        if budget.window.closed_at is None:
            metrics.budget(lambda: budget.usage_ratio, budget.window.reserved)
        audit_context.log("budget.adjusted", reason=reason, window_id=made["window_id"], cost_usd=amount)
        return Adjusted(made, budget)

    def list(self, *, before: UUID | None, limit: int, window_id: int | None = None) -> list[AdjustmentRow]:
        """The newest first.

        :param before: the last one of the page before
        :param window_id: None for every window's
        :raises LedgerUnavailableError: when Postgres can't be reached
        """
        argument: ListArgument = {"limit": limit}
        if before is not None:
            argument["before"] = str(before)
        if window_id is not None:
            argument["window_id"] = window_id
        return self._database.call(_LIST, argument)


def _refusal(result: AdjustResult, amount: Decimal, window_id: int | None) -> InvalidRequestError:
    refused, window = result.get("refused"), result.get("window")
    if refused == "below_zero" and window is not None:
        return InvalidRequestError(
            f"amount_usd {usd(amount)} would take window {window['id']} below 0: {usd(Decimal(window['spent']))} USD "
            "are spent in it. Book what is beyond that in the window in which it was spent.",
            param="amount_usd",
        )
    if refused == "archived":
        return InvalidRequestError(
            f"Window {window_id} is archived, and its entries are in a file: book it in a window that isn't.",
            param="window_id",
        )
    return InvalidRequestError(
        f"The company's budget has no window {window_id}. GET /api/v1/admin/usage?month=YYYY-MM lists a month's "
        "windows; a key's window can't be adjusted.",
        param="window_id",
    )
