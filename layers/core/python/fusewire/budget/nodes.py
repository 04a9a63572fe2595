"""The nodes of the tree of budgets below the company's: each limits the calls of the keys that are under it.

Postgres decides, and audits each change in its own transaction. `store/functions/nodes.sql` says what a change in
mid-window means.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal, NotRequired, TypedDict, cast

from fusewire.budget.audit_context import AuditContext, AuditContextArgument
from fusewire.budget.breaker import Budget, announce
from fusewire.budget.forecast import DailySpend
from fusewire.budget.wire import (
    Amount,
    BudgetRow,
    DailySpendRow,
    Period,
    RolloverRow,
    SettingsArgument,
    sql_settings,
)
from fusewire.config import Settings
from fusewire.errors import BudgetNotFoundError, FusewireError, InvalidRequestError, PermissionDeniedError
from fusewire.ids import time_ordered_id
from fusewire.store.db import Database, Statement

Refused = Literal["no_parent", "cycle", "depth", "name", "thresholds", "children", "keys", "own", "beyond"]

_NOT_ALLOWED: Final[Mapping[Refused, str]] = {
    "own": "Your key's scopes are bound to this budget: an administrator of the one above it may change or reset it.",
    "beyond": "Your key's scopes are bound to a budget, and this one would no longer be below it.",
}
_REFUSALS: Final[Mapping[Refused, tuple[str, str | None]]] = {
    "no_parent": ("There is no such budget. GET /api/v1/admin/budgets lists those that there are.", "parent_id"),
    "cycle": ("A budget can't be below itself.", "parent_id"),
    "depth": ("A key may have 8 budgets above it at most, and one of this budget's would have more.", "parent_id"),
    "name": ("The budget above it has another one of this name.", "name"),
    "thresholds": (
        "alert_threshold must be below open_threshold; one that isn't given is the setting's, "
        "AI_BUDGET_ALERT_THRESHOLD or AI_CIRCUIT_BREAKER_THRESHOLD.",
        "alert_threshold",
    ),
    "children": ("There are budgets below this one. Move or delete them first.", None),
    "keys": ("There are keys under this budget. Put them under another one, or revoke them, first.", None),
}


class NodeRow(TypedDict):
    """`budget_node_json`."""

    id: str
    name: str
    parent_id: str | None
    limit_usd: Amount | None
    period: Period
    alert_threshold: Amount | None
    open_threshold: Amount | None
    models: list[str] | None
    created_at: str
    created_by: str


class NodeBudgetRow(NodeRow):
    """`budget_node_show`."""

    budget: BudgetRow | None
    waiting: int
    days: DailySpendRow


class WrittenRow(TypedDict):
    """What a change wrote into the audit."""

    before: NodeRow | None
    after: NodeRow


class ChangedRow(NodeBudgetRow):
    """What the functions that change a node return; with `refused`, nothing else but `rolled_over`."""

    written: WrittenRow | None
    rolled_over: NotRequired[RolloverRow | None]
    refused: NotRequired[Refused]


class NodeArgument(TypedDict):
    """For `budget_node_show`."""

    settings: SettingsArgument
    id: str
    within: NotRequired[str]
    """The node that the caller's scopes are bound to (`scopes.sql`)."""


class ChangeArgument(NodeArgument):
    """For the functions that change a node; each takes what it needs."""

    audit_context: AuditContextArgument
    fields: NotRequired[Mapping[str, object]]
    changes: NotRequired[Mapping[str, object]]


class ListArgument(TypedDict):
    """For `budget_node_list`."""

    settings: SettingsArgument
    after: str | None
    limit: int
    within: NotRequired[str]


_Change = Statement[ChangeArgument, ChangedRow | None]
_SHOW: Final = Statement[NodeArgument, NodeBudgetRow | None]("SELECT budget_node_show($1::jsonb)")
_LIST: Final = Statement[ListArgument, list[NodeBudgetRow]]("SELECT budget_node_list($1::jsonb)")
_CREATE: Final = _Change("SELECT budget_node_create($1::jsonb)")
_UPDATE: Final = _Change("SELECT budget_node_update($1::jsonb)")
_DELETE: Final = _Change("SELECT budget_node_delete($1::jsonb)")


@dataclass(frozen=True, slots=True)
class Node:
    """A node as admins see it."""

    stored: NodeRow
    """With every column, also one that only a later release knows: who shows it chooses."""
    budget: Budget | None
    """None before the first call of the period. Its limit is 0 where the node has none: `limit` tells."""
    waiting: int
    """Calls that wait for it."""
    history: DailySpend
    """What its forecast is made of: the keys that are below it now."""

    @classmethod
    def read(cls, row: NodeBudgetRow) -> "Node":
        """From `budget_node_show`."""
        budget = None if row["budget"] is None else Budget.read(row["budget"])
        return cls(row, budget, row["waiting"], DailySpend.read(row["days"]))

    @property
    def id(self) -> str:
        return self.stored["id"]

    @property
    def limit(self) -> Decimal | None:
        """USD a period; None for a node that only counts."""
        limit = self.stored["limit_usd"]
        return None if limit is None else Decimal(limit)

    @property
    def open_threshold(self) -> Decimal | None:
        """None for the settings'."""
        threshold = self.stored["open_threshold"]
        return None if threshold is None else Decimal(threshold)


class Nodes:
    """The nodes of one database."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = sql_settings(settings)

    def create(self, fields: Mapping[str, object], audit_context: AuditContext, *, within: str | None = None) -> Node:
        """
        :param within: the node that the caller's scopes are bound to, here and below; None: they aren't
        :raises InvalidRequestError: it may not be as it is asked for
        """
        argument = self._argument(f"bud_{time_ordered_id().hex}", audit_context, within)
        argument["fields"] = fields
        return self._change("budget.created", _CREATE, argument, audit_context)

    def show(self, id: str, *, within: str | None = None) -> Node:
        """:raises BudgetNotFoundError: there is no such node"""
        argument: NodeArgument = {"settings": self._settings, "id": id}
        if within is not None:
            argument["within"] = within
        row = self._database.call(_SHOW, argument)
        if row is None:
            raise _not_found()
        return Node.read(row)

    def resettable(self, id: str, *, within: str | None = None) -> str:
        """The id, of a node that the caller may reset.

        :raises BudgetNotFoundError: there is no such node
        :raises PermissionDeniedError: the caller's scopes are bound to this very node: a reset gives it its limit anew
        """
        node = self.show(id, within=within)
        if node.id == within:
            raise PermissionDeniedError(_NOT_ALLOWED["own"])
        return node.id

    def list(self, *, after: str | None, limit: int, within: str | None = None) -> list[Node]:
        """The oldest first.

        :param after: the id of the last node of the page before; None for the first page
        """
        argument: ListArgument = {"settings": self._settings, "after": after, "limit": limit}
        if within is not None:
            argument["within"] = within
        return [Node.read(row) for row in self._database.call(_LIST, argument)]

    def update(
        self, id: str, changes: Mapping[str, object], audit_context: AuditContext, *, within: str | None = None
    ) -> Node:
        """Change these fields and leave all others as they are.

        :raises BudgetNotFoundError: there is no such node
        :raises InvalidRequestError: it may not be as it is asked for
        :raises PermissionDeniedError: it is the caller's own node, or would leave what is below that
        """
        argument = self._argument(id, audit_context, within)
        argument["changes"] = changes
        return self._change("budget.updated", _UPDATE, argument, audit_context)

    def delete(self, id: str, audit_context: AuditContext, *, within: str | None = None) -> Node:
        """End a node that has neither children nor keys. Calls in flight are settled in its window.

        :return: as it was
        :raises BudgetNotFoundError: there is no such node
        :raises InvalidRequestError: it has children or keys
        :raises PermissionDeniedError: it is the caller's own node
        """
        return self._change("budget.deleted", _DELETE, self._argument(id, audit_context, within), audit_context)

    # --- below: the round trips ---

    def _argument(self, id: str, audit_context: AuditContext, within: str | None) -> ChangeArgument:
        argument: ChangeArgument = {
            "settings": self._settings,
            "id": id,
            "audit_context": audit_context.argument(),
        }
        if within is not None:
            argument["within"] = within
        return argument

    def _change(self, action: str, statement: _Change, argument: ChangeArgument, audit_context: AuditContext) -> Node:
        row = self._database.call(statement, argument)
        if row is None:
            raise _not_found()
        announce({"rolled_over": row.get("rolled_over")})
        if (refused := row.get("refused")) is not None:
            if refused in _NOT_ALLOWED:
                raise PermissionDeniedError(_NOT_ALLOWED[refused])
            message, param = _REFUSALS[refused]
            raise InvalidRequestError(message, param=param)
        if (written := row["written"]) is not None:
            audit_context.log(action, budget_id=argument["id"], before=written["before"], after=written["after"])
        return Node.read(cast(NodeBudgetRow, row))


def _not_found() -> FusewireError:
    return BudgetNotFoundError("There is no such budget. GET /api/v1/admin/budgets lists those that there are.")
