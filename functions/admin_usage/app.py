"""GET /api/v1/admin/usage, /calls, /calls/{request_id} and /audit: who spent what, one call's story, who did what."""

from typing import Any

from aws_lambda_powertools.event_handler import Response

from fusewire.http.calls import AuditQuery, CallsQuery, audit_body, call_body, calls_body
from fusewire.http.invocation import LambdaContext
from fusewire.http.resolver import Resolver, StreamedAnswer, json_response
from fusewire.http.usage import UsageQuery, usage_body, usage_csv
from fusewire.services import services

_core = services()
_zone = _core.settings.ai_budget_timezone
app = Resolver(_core.settings)


@app.get("/api/v1/admin/usage")
def show_usage() -> Response[str]:
    app.require("admin")
    query = app.query(UsageQuery)
    if app.accepts("text/csv"):
        return Response(200, "text/csv; charset=utf-8", usage_csv(_core.books, query))
    return json_response(200, usage_body(_core.books, query))


@app.get("/api/v1/admin/calls")
def list_calls() -> Response[str]:
    app.require("admin")
    return json_response(200, calls_body(_core.books, app.query(CallsQuery), _zone))


@app.get("/api/v1/admin/calls/<request_id>")
def show_call(request_id: str) -> Response[str]:
    app.require("admin")
    return json_response(200, call_body(_core.books, request_id))


@app.get("/api/v1/admin/audit")
def list_audit() -> Response[str]:
    app.require("admin")
    return json_response(200, audit_body(_core.audit, app.query(AuditQuery), _zone))


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any] | StreamedAnswer:
    return app.serve(event, context)
