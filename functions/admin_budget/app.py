"""GET /api/v1/admin/budget and POST /api/v1/admin/budget/reset: the month's budget, and its early end."""

from typing import Any

from aws_lambda_powertools.event_handler import Response

from fusewire.http.budget import ResetRequest, budget_body
from fusewire.http.invocation import LambdaContext
from fusewire.http.resolver import Resolver, StreamedAnswer, json_response
from fusewire.services import services

_core = services()
app = Resolver(_core.settings)


@app.get("/api/v1/admin/budget")
def show_budget() -> Response[str]:
    app.require("admin")
    return json_response(200, budget_body(_core.settings, *_core.ledger.budget()))


@app.post("/api/v1/admin/budget/reset")
def reset_budget() -> Response[str]:
    app.require("admin")
    request = app.body(ResetRequest, empty="{}")
    closed, opened = _core.ledger.reset(
        actor=app.actor, source_ip=app.source_ip, request_id=app.request_id, reason=request.reason
    )
    return json_response(200, {"closed": closed.public(), "opened": opened.public()})


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any] | StreamedAnswer:
    return app.serve(event, context)
