"""The prices that administrators set: shown, added, staged, applied and removed, each audited (`prices.sql`)."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final, Literal, NotRequired, TypedDict
from uuid import UUID

from fusewire.budget.audit_context import AuditContext, AuditContextArgument
from fusewire.budget.breaker import announce
from fusewire.budget.price_table import PriceTable
from fusewire.budget.wire import PRICE_TABLE, Seen, SettingsArgument, sql_settings
from fusewire.config import Settings
from fusewire.errors import InvalidRequestError, PriceNotFoundError
from fusewire.ids import time_ordered_id
from fusewire.store.db import Database, Statement

PriceStatus = Literal["staged", "scheduled", "in_force", "superseded", "removed"]


class PriceRow(TypedDict):
    """`price_json`."""

    id: str
    provider: str
    model: str
    entry: dict[str, object]
    source: str
    status: PriceStatus
    created_at: str
    created_by: str
    effective_from: str | None
    applied_by: str | None
    removed_at: str | None
    removed_by: str | None


class WrittenRow(TypedDict):
    """What a change wrote into the audit."""

    before: dict[str, object] | None
    after: dict[str, object]


class ChangedRow(PriceRow, Seen):
    """What the functions that change a price return; with `refused`, nothing was changed."""

    written: WrittenRow | None
    refused: NotRequired[Literal["past", "removed", "applied"]]


class ChangeArgument(TypedDict):
    """For the functions that change a price; each takes what it needs."""

    settings: SettingsArgument
    id: str
    audit_context: AuditContextArgument
    effective_from: NotRequired[str | None]
    provider: NotRequired[str]
    model: NotRequired[str]
    entry: NotRequired[Mapping[str, object]]
    source: NotRequired[str]
    staged: NotRequired[bool]


class ListArgument(TypedDict):
    """For `price_list`."""

    limit: int
    before: str | None
    status: str | None
    provider: str | None
    model: str | None


class ListResult(TypedDict):
    """What `price_list` returns."""

    version: int
    rows: list[PriceRow]


_Change = Statement[ChangeArgument, ChangedRow | None]
_LIST: Final = Statement[ListArgument, ListResult]("SELECT price_list($1::jsonb)")
_ADD: Final = _Change("SELECT price_add($1::jsonb)")
_APPLY: Final = _Change("SELECT price_apply($1::jsonb)")
_REMOVE: Final = _Change("SELECT price_remove($1::jsonb)")
_REFUSED: Final = {
    "past": "effective_from lies in the past: a price begins now or later, and what is booked stays. An adjustment "
    "(POST /api/v1/admin/budget/adjustments) books what was billed otherwise.",
    "removed": "This price is removed: add another with POST /api/v1/admin/prices.",
    "applied": "This price is applied already.",
}


class PriceHistory:
    """Every price that an administrator ever set."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = sql_settings(settings)

    def table(self) -> PriceTable:
        """The prices in force now. :raises LedgerUnavailableError: when Postgres can't be reached"""
        return PriceTable.read(self._database.call(PRICE_TABLE, {}))

    def list(
        self, *, before: UUID | None, limit: int, status: str | None, provider: str | None, model: str | None
    ) -> tuple[int, list[PriceRow]]:
        """The version in force, and prices, the newest first.

        :param before: the last one of the page before
        """
        argument: ListArgument = {
            "limit": limit,
            "before": str(before) if before else None,
            "status": status,
            "provider": provider,
            "model": model,
        }
        result = self._database.call(_LIST, argument)
        return result["version"], result["rows"]

    def add(
        self,
        provider: str,
        model: str,
        entry: Mapping[str, object],
        *,
        source: str,
        effective_from: datetime | None,
        staged: bool,
        audit_context: AuditContext,
    ) -> PriceRow:
        """Add a price, in force from now or from a time on; or stage it.

        :param model: `*` for each model of the provider that has no price of its own here
        :param entry: as `PriceOverride` says it; it was checked
        :raises InvalidRequestError: it would begin in the past
        """
        argument = self._argument(str(time_ordered_id()), audit_context, effective_from)
        argument |= {"provider": provider, "model": model, "entry": entry, "source": source, "staged": staged}
        return self._change("price.staged" if staged else "price.added", _ADD, argument, audit_context)

    def apply(self, id: UUID, effective_from: datetime | None, audit_context: AuditContext) -> PriceRow:
        """Put a staged price in force, from now or from a time on.

        :raises PriceNotFoundError: there is no such price
        :raises InvalidRequestError: it is applied or removed, or would begin in the past
        """
        argument = self._argument(str(id), audit_context, effective_from)
        return self._change("price.applied", _APPLY, argument, audit_context)

    def remove(self, id: UUID, audit_context: AuditContext) -> PriceRow:
        """End a price: the one before it counts again, or what stands below the table.

        :raises PriceNotFoundError: there is no such price
        """
        return self._change("price.removed", _REMOVE, self._argument(str(id), audit_context, None), audit_context)

    def _argument(self, id: str, audit_context: AuditContext, effective_from: datetime | None) -> ChangeArgument:
        return {
            "settings": self._settings,
            "id": id,
            "audit_context": audit_context.argument(),
            "effective_from": effective_from.isoformat() if effective_from else None,
        }

    def _change(
        self, action: str, statement: _Change, argument: ChangeArgument, audit_context: AuditContext
    ) -> PriceRow:
        row = self._database.call(statement, argument)
        if row is None:
            raise PriceNotFoundError("There is no such price. GET /api/v1/admin/prices lists those that there are.")
        announce(row)
        if refused := row.get("refused"):
            raise InvalidRequestError(_REFUSED[refused], param="effective_from" if refused == "past" else "id")
        if (written := row["written"]) is not None:
            audit_context.log(action, provider=row["provider"], model=row["model"], **written)
        return row
