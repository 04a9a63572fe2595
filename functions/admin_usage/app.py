"""/api/v1/admin/usage, /calls, /audit, /prices and /allowances: spend, single calls, what admins did, what models
cost, and what their servers add to prompts."""

from typing import Any

from aws_lambda_powertools.event_handler import Response

from fusewire.core import core
from fusewire.http import routes
from fusewire.http.admin import allowances, calls, prices, usage
from fusewire.http.app import Resolver, StreamingResponse
from fusewire.http.invocation import LambdaContext
from fusewire.http.request import Request

_core = core()
_zone = _core.settings.ai_budget_timezone
app = Resolver(_core.settings, _core.key_checks)


@app.handles(routes.SHOW_USAGE)
def show_usage(request: Request, query: usage.UsageQuery) -> usage.UsageResponse | Response[Any]:
    if request.accepts("text/csv"):
        return Response(200, "text/csv; charset=utf-8", usage.usage_csv(_core.books, query, request.within))
    return usage.usage_response(_core.books, query, request.within)


@app.handles(routes.LIST_CALLS)
def list_calls(request: Request, query: calls.CallsQuery) -> calls.CallPage:
    return calls.call_page(_core.books, query, _zone, request.within)


@app.handles(routes.SHOW_CALL)
def show_call(request: Request, request_id: str) -> calls.CallResponse:
    return calls.call_response(_core.books, request_id, request.within)


@app.handles(routes.LIST_AUDIT)
def list_audit(request: Request, query: calls.AuditQuery) -> calls.AuditPage:
    return calls.audit_page(_core.audit, query, _zone, request.within)


@app.handles(routes.LIST_PRICES)
def list_prices(request: Request, query: prices.PricesQuery) -> prices.PricePage:
    return prices.price_page(_core.price_history, query)


@app.handles(routes.ADD_PRICE)
def add(request: Request, body: prices.AddPriceRequest) -> prices.PriceResponse:
    from fusewire.ai.registry import Registry  # here, because everything else needs no provider
    from fusewire.services import price_book

    # It calls no provider, so it has none of their keys.
    registry = Registry(_core.settings)
    known = price_book(_core.settings, registry)
    return prices.add_price(_core.price_history, known, registry, body, request.audit_context)


@app.handles(routes.APPLY_PRICE)
def apply(request: Request, id: str, body: prices.ApplyPriceRequest) -> prices.PriceResponse:
    return prices.apply_price(_core.price_history, id, body.effective_from, request.audit_context)


@app.handles(routes.REMOVE_PRICE)
def remove(request: Request, id: str) -> prices.PriceResponse:
    return prices.remove_price(_core.price_history, id, request.audit_context)


@app.handles(routes.LIST_ALLOWANCES)
def list_allowances(request: Request, query: allowances.AllowancesQuery) -> allowances.AllowancePage:
    return allowances.allowance_page(_core.raised_allowances, query)


@app.handles(routes.REMOVE_ALLOWANCE)
def take_back(request: Request, id: str) -> allowances.AllowanceResponse:
    return allowances.remove_allowance(_core.raised_allowances, id, request.audit_context)


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any] | StreamingResponse:
    return app.serve(event, context)
