"""The allowances for what servers add to prompts, as usages raised them: shown, and taken back (`allowances.sql`)."""

from typing import Final, NotRequired, TypedDict

from fusewire.budget.audit_context import AuditContext, AuditContextArgument
from fusewire.budget.breaker import announce
from fusewire.budget.wire import Seen, SettingsArgument, sql_settings
from fusewire.config import Settings
from fusewire.errors import AllowanceNotFoundError
from fusewire.store.db import Database, Statement


class AllowanceRow(TypedDict):
    """`input_allowance_json`."""

    id: str
    """`provider/model`, the model in small letters."""
    provider: str
    model: str
    tokens: int
    raised_at: str
    request_id: str | None


class WrittenRow(TypedDict):
    """What the change wrote into the audit."""

    before: dict[str, object]
    after: dict[str, object]


class RemovedRow(AllowanceRow, Seen):
    """What `input_allowance_remove` returns."""

    written: WrittenRow | None


class ListArgument(TypedDict):
    """For `input_allowances`."""

    limit: int
    after: NotRequired[str]


class RemoveArgument(TypedDict):
    """For `input_allowance_remove`."""

    settings: SettingsArgument
    id: str
    audit_context: AuditContextArgument


_LIST: Final = Statement[ListArgument, list[AllowanceRow]]("SELECT input_allowances($1::jsonb)")
_REMOVE: Final = Statement[RemoveArgument, RemovedRow | None]("SELECT input_allowance_remove($1::jsonb)")


class RaisedAllowances:
    """What models' servers add to a prompt beyond the settings, as calls have shown."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = sql_settings(settings)

    def list(self, *, after: str | None, limit: int) -> list[AllowanceRow]:
        """By provider and model.

        :param after: the id of the last one of the page before
        :raises LedgerUnavailableError: when Postgres can't be reached
        """
        argument: ListArgument = {"limit": limit}
        if after is not None:
            argument["after"] = after
        return self._database.call(_LIST, argument)

    def remove(self, id: str, audit_context: AuditContext) -> AllowanceRow:
        """Take one back, in every environment from its next reservation on; audited in the same transaction.

        :param id: `provider/model`
        :return: as it was
        :raises AllowanceNotFoundError: there is none of that model
        :raises LedgerUnavailableError: whether it is taken back is unknown; `list` tells
        """
        argument: RemoveArgument = {"settings": self._settings, "id": id, "audit_context": audit_context.argument()}
        row = self._database.call(_REMOVE, argument)
        if row is None:
            raise AllowanceNotFoundError(
                "No usage has raised the allowance of such a model. GET /api/v1/admin/allowances lists those that are "
                "raised."
            )
        announce(row)
        if (written := row["written"]) is not None:
            audit_context.log("allowance.removed", provider=row["provider"], model=row["model"], **written)
        return row
