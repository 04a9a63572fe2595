"""/api/v1/admin/budget: the month's budget, its limit, its early end, and its adjustments. /api/v1/admin/budgets: the
tree of budgets below it."""

from typing import Any

from fusewire.core import core
from fusewire.http import routes
from fusewire.http.admin.budget import (
    AdjustedResponse,
    AdjustmentPage,
    AdjustmentRequest,
    AdjustmentsQuery,
    BudgetResponse,
    ChangedLimitResponse,
    LimitRequest,
    ResetRequest,
    ResetResponse,
    adjusted_response,
    adjustment_page,
    budget_response,
    changed_limit_response,
    reset_response,
)
from fusewire.http.admin.budgets import (
    CreateNodeRequest,
    NodePage,
    NodeResponse,
    NodesQuery,
    UpdateNodeRequest,
    node_page,
)
from fusewire.http.app import Resolver, StreamingResponse
from fusewire.http.invocation import LambdaContext
from fusewire.http.request import Request

_core = core()
app = Resolver(_core.settings, _core.keys)


@app.handles(routes.SHOW_BUDGET)
def show_budget(request: Request) -> BudgetResponse:
    return budget_response(_core.settings, *_core.ledger.budget())


@app.handles(routes.SET_LIMIT)
def set_limit(request: Request, body: LimitRequest) -> ChangedLimitResponse:
    return changed_limit_response(_core.limits, request.audit_context, body)


@app.handles(routes.RESET_BUDGET)
def reset_budget(request: Request, body: ResetRequest) -> ResetResponse:
    return reset_response(_core.ledger, request.audit_context, body)


@app.handles(routes.LIST_ADJUSTMENTS)
def list_adjustments(request: Request, query: AdjustmentsQuery) -> AdjustmentPage:
    return adjustment_page(_core.adjustments, query)


@app.handles(routes.ADJUST_BUDGET)
def adjust_budget(request: Request, body: AdjustmentRequest) -> AdjustedResponse:
    return adjusted_response(_core.adjustments, request.audit_context, body)


@app.handles(routes.LIST_BUDGETS)
def list_budgets(request: Request, query: NodesQuery) -> NodePage:
    return node_page(_core.nodes, _core.settings, query)


@app.handles(routes.CREATE_BUDGET)
def create_budget(request: Request, body: CreateNodeRequest) -> NodeResponse:
    return NodeResponse.of(_core.nodes.create(body.attributes(), request.audit_context), _core.settings)


@app.handles(routes.SHOW_BUDGET_NODE)
def show_node(request: Request, id: str) -> NodeResponse:
    return NodeResponse.of(_core.nodes.show(id), _core.settings)


@app.handles(routes.UPDATE_BUDGET)
def update_budget(request: Request, id: str, body: UpdateNodeRequest) -> NodeResponse:
    return NodeResponse.of(_core.nodes.update(id, body.attributes(), request.audit_context), _core.settings)


@app.handles(routes.DELETE_BUDGET)
def delete_budget(request: Request, id: str) -> NodeResponse:
    return NodeResponse.of(_core.nodes.delete(id, request.audit_context), _core.settings)


@app.handles(routes.RESET_BUDGET_NODE)
def reset_node(request: Request, id: str, body: ResetRequest) -> ResetResponse:
    return reset_response(_core.ledger, request.audit_context, body, budget=_core.nodes.show(id).id)


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any] | StreamingResponse:
    return app.serve(event, context)
