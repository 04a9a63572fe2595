"""The company's limit at run time: what an administrator set stands in the setting's place, and is audited.

Postgres holds it in the open window's row, and decides by it under the window's lock (`store/functions/limits.sql`).
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, Literal, NotRequired, TypedDict

from fusewire import metrics
from fusewire.budget.audit_context import AuditContext, AuditContextArgument
from fusewire.budget.breaker import Budget, announce
from fusewire.budget.wire import BudgetRow, LimitsRow, Seen, SettingsArgument, sql_settings
from fusewire.config import Settings
from fusewire.errors import InvalidRequestError, usd
from fusewire.ids import time_ordered_id
from fusewire.store.db import Database, Statement


class SetLimitArgument(TypedDict):
    """For `ledger_set_limit`."""

    settings: SettingsArgument
    id: str
    amount: Decimal | None
    """USD; None takes back what was set."""
    until: Literal["window"] | None
    reason: str
    audit_context: AuditContextArgument


class Written(TypedDict):
    """What the audit has of a change."""

    before: dict[str, Any]
    after: dict[str, Any]


class SetLimitResult(Seen):
    """What `ledger_set_limit` returns."""

    budget: BudgetRow
    limits: LimitsRow
    written: NotRequired[Written | None]
    """None when it was set before, and sent again."""


_SET: Final = Statement[SetLimitArgument, SetLimitResult]("SELECT ledger_set_limit($1::jsonb)")


@dataclass(frozen=True, slots=True)
class AuditedLimit:
    """A limit that an administrator set, and that stands."""

    id: str
    amount: Decimal
    """USD, as it was set; the deploy's maximum may be lower by now."""
    until: Literal["window"] | None
    """Until the open window ends, or None for good."""
    set_at: datetime
    reason: str
    actor: str


@dataclass(frozen=True, slots=True)
class Limits:
    """Which limit is in force, and where it comes from; amounts in USD."""

    in_force: Decimal
    setting: Decimal
    maximum: Decimal | None
    """That no audited limit passes; None without one."""
    next_window: Decimal
    """What the next window will have."""
    audited: AuditedLimit | None
    """None while the setting is in force."""

    @classmethod
    def read(cls, row: LimitsRow) -> "Limits":
        """From `ledger_limits_json`."""
        audited, maximum = row["audited"], row["maximum"]
        return cls(
            in_force=Decimal(row["in_force"]),
            setting=Decimal(row["setting"]),
            maximum=None if maximum is None else Decimal(maximum),
            next_window=Decimal(row["next_window"]),
            audited=None
            if audited is None
            else AuditedLimit(
                audited["id"],
                Decimal(audited["amount"]),
                audited["until"],
                datetime.fromisoformat(audited["set_at"]),
                audited["reason"],
                audited["actor"],
            ),
        )


class AuditedLimits:
    """Sets the limit of the company's budget. A key's is a field of the key."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = sql_settings(settings)
        self._maximum = settings.ai_monthly_budget_max_usd

    def change(
        self, amount: Decimal | None, until: Literal["window"] | None, reason: str, audit_context: AuditContext
    ) -> tuple[Budget, Limits]:
        """Set the limit, or take back what was set; audited in the same transaction.

        :param amount: USD; None takes back every audited limit, so that the setting is in force
        :param until: `window`: it ends with the open window, and a limit for good is in force again in the next one;
            None: for good, in place of any other
        :return: the open window's budget under it, and where its limit comes from
        :raises InvalidRequestError: it is above AI_MONTHLY_BUDGET_MAX_USD
        :raises LedgerUnavailableError: whether it is set is unknown; `Ledger.budget` tells
        """
        if amount is not None and self._maximum is not None and amount > self._maximum:
            raise InvalidRequestError(
                f"monthly_limit_usd {usd(amount)} is above the maximum of this deployment, "
                f"AI_MONTHLY_BUDGET_MAX_USD={usd(self._maximum)}: only a deployment raises that.",
                param="monthly_limit_usd",
            )
        argument: SetLimitArgument = {
            "settings": self._settings,
            "id": str(time_ordered_id()),
            "amount": amount,
            "until": until,
            "reason": reason,
            "audit_context": audit_context.argument(),
        }
        result = self._database.call(_SET, argument)
        announce(result)
        budget = Budget.read(result["budget"])
        metrics.budget(lambda: budget.usage_ratio, budget.window.reserved)
        written = result.get("written")
        audit_context.log(
            "budget.limit_changed",
            reason=reason,
            window_id=budget.window.id,
            before=written and written["before"],
            after=written and written["after"],
        )
        return budget, Limits.read(result["limits"])
