"""`/admin/budgets`: the tree of budgets below the company's. An attribute of a node is declared once, in
`NodeAttributes`."""

from decimal import Decimal
from typing import Annotated, Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from fusewire.budget.forecast import NONE_YET
from fusewire.budget.nodes import Node, Nodes
from fusewire.budget.wire import Period, State
from fusewire.config import Settings
from fusewire.http.admin.budget import ForecastResponse, WindowResponse, forecast_of
from fusewire.http.admin.keys import Budget, Models, Name
from fusewire.http.admin.query import BudgetId, Page
from fusewire.http.schema import Money, RequestModel, ResponseModel, Time

_SHARE: Final = WithJsonSchema({"type": "number", "description": "A share of the limit, exact"}, mode="serialization")
Threshold = Annotated[Decimal, Field(gt=0, le=1, decimal_places=6), _SHARE]
AlertThreshold = Annotated[Decimal, Field(gt=0, lt=1, decimal_places=6), _SHARE]


class NodeAttributes(BaseModel):
    """What an admin says of a node. A null or an absent limit sets none, and a threshold's is the setting's."""

    model_config = ConfigDict(defer_build=True)

    name: Name
    parent_id: BudgetId | None = None
    """The node above it; null: the company's budget."""
    limit_usd: Budget | None = None
    """USD a `period`."""
    period: Period = "month"
    alert_threshold: AlertThreshold | None = None
    """The share of the limit from which on it is HALF_OPEN."""
    open_threshold: Threshold | None = None
    """The share of the limit from which on it is OPEN."""
    models: Models | None = None
    """It counts and limits the calls of these alone: tiers, `provider/model`, `provider/*`, or a model's id."""


class CreateNodeRequest(NodeAttributes, RequestModel):
    """`POST /admin/budgets`."""

    def attributes(self) -> dict[str, Any]:
        """Every attribute, as the database takes them."""
        return self.model_dump()


class UpdateNodeRequest(NodeAttributes, RequestModel):
    """`PATCH /admin/budgets/{id}`: the attributes that it names change, null takes a limit away."""

    name: Name = ""

    def attributes(self) -> dict[str, Any]:
        """The attributes that were sent, as the database takes them."""
        return self.model_dump(exclude_unset=True)


class NodesQuery(Page):
    """The query string of `GET /admin/budgets`."""

    cursor: BudgetId | None = None


class _NodeId(ResponseModel):
    id: str


class NodeResponse(NodeAttributes, _NodeId):
    """A node, how it stands, and where its spending leads. `window` is null before the first call of the period."""

    created_at: Time
    created_by: str
    current_spend_usd: Money
    reserved_usd: Money
    remaining_usd: Money | None
    waiting: int
    """Calls that wait for it."""
    state: State
    window: WindowResponse | None
    forecast: ForecastResponse

    @classmethod
    def of(cls, node: Node, settings: Settings) -> Self:
        # Not validated: what is stored is shown, also where the rules for requests have become stricter since.
        fields: dict[str, Any] = {**node.stored, **_standing(node, settings)}
        return cls.model_construct(**fields)  # type: ignore[return-value] # mypy's plugin


class NodePage(ResponseModel):
    """Nodes, the oldest first: one that was made above another comes before it."""

    rows: list[NodeResponse]
    next_cursor: str | None


def node_page(nodes: Nodes, settings: Settings, query: NodesQuery, within: str | None) -> NodePage:
    """A page of nodes.

    :param within: the node that the caller's scopes are bound to; None: they aren't
    """
    # One more than asked for shows whether there is a next page.
    found = nodes.list(after=query.cursor, limit=query.limit + 1, within=within)
    page = found[: query.limit]
    return NodePage(
        rows=[NodeResponse.of(node, settings) for node in page],
        next_cursor=page[-1].id if len(found) > len(page) else None,
    )


def _standing(node: Node, settings: Settings) -> dict[str, object]:
    """What is shown of a node beside its stored attributes; amounts in USD."""
    budget, limit = node.budget, node.limit
    ahead = NONE_YET
    if budget is not None:
        ahead = forecast_of(settings, budget.window, limit, node.history, node.open_threshold)
    return {
        "limit_usd": limit,
        "current_spend_usd": budget.window.spent if budget else Decimal(0),
        "reserved_usd": budget.window.reserved if budget else Decimal(0),
        "remaining_usd": None if limit is None else budget.remaining if budget else limit,
        "waiting": node.waiting,
        "state": budget.state if budget else "OPEN" if limit == 0 else "CLOSED",
        "window": WindowResponse.of(budget.window) if budget else None,
        "forecast": ForecastResponse.of(ahead),
    }
