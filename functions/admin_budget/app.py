"""/api/v1/admin/budget: the month's budget, its limit, its early end, and its adjustments. /api/v1/admin/budgets: the
tree of budgets below it."""

from typing import Any

from fusewire.core import core
from fusewire.http import routes
from fusewire.http.admin import budget, tree
from fusewire.http.app import Resolver, StreamingResponse
from fusewire.http.invocation import LambdaContext
from fusewire.http.request import Request

_core = core()
app = Resolver(_core.settings, _core.key_checks)


@app.handles(routes.SHOW_BUDGET)
def show_budget(request: Request) -> budget.BudgetResponse:
    return budget.budget_response(_core.settings, *_core.ledger.budget())


@app.handles(routes.SET_LIMIT)
def set_limit(request: Request, body: budget.LimitRequest) -> budget.ChangedLimitResponse:
    return budget.changed_limit_response(_core.limits, request.audit_context, body)


@app.handles(routes.RESET_BUDGET)
def reset_budget(request: Request, body: budget.ResetRequest) -> budget.ResetResponse:
    return budget.reset_response(_core.ledger, request.audit_context, body)


@app.handles(routes.LIST_ADJUSTMENTS)
def list_adjustments(request: Request, query: budget.AdjustmentsQuery) -> budget.AdjustmentPage:
    return budget.adjustment_page(_core.adjustments, query)


@app.handles(routes.ADJUST_BUDGET)
def adjust_budget(request: Request, body: budget.AdjustmentRequest) -> budget.AdjustedResponse:
    return budget.adjusted_response(_core.adjustments, request.audit_context, body)


@app.handles(routes.LIST_BUDGETS)
def list_budgets(request: Request, query: tree.NodesQuery) -> tree.NodePage:
    return tree.node_page(_core.nodes, _core.settings, query, request.within)


@app.handles(routes.CREATE_BUDGET)
def create_budget(request: Request, body: tree.CreateNodeRequest) -> tree.NodeResponse:
    node = _core.nodes.create(body.attributes(), request.audit_context, within=request.within)
    return tree.NodeResponse.of(node, _core.settings)


@app.handles(routes.SHOW_BUDGET_NODE)
def show_node(request: Request, id: str) -> tree.NodeResponse:
    return tree.NodeResponse.of(_core.nodes.show(id, within=request.within), _core.settings)


@app.handles(routes.UPDATE_BUDGET)
def update_budget(request: Request, id: str, body: tree.UpdateNodeRequest) -> tree.NodeResponse:
    node = _core.nodes.update(id, body.attributes(), request.audit_context, within=request.within)
    return tree.NodeResponse.of(node, _core.settings)


@app.handles(routes.DELETE_BUDGET)
def delete_budget(request: Request, id: str) -> tree.NodeResponse:
    node = _core.nodes.delete(id, request.audit_context, within=request.within)
    return tree.NodeResponse.of(node, _core.settings)


@app.handles(routes.RESET_BUDGET_NODE)
def reset_node(request: Request, id: str, body: budget.ResetRequest) -> budget.ResetResponse:
    node = _core.nodes.resettable(id, within=request.within)
    return budget.reset_response(_core.ledger, request.audit_context, body, budget=node)


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any] | StreamingResponse:
    return app.serve(event, context)
