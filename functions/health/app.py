"""GET /api/v1/health and /api/v1/openapi.json: is it up, and what can be asked of it. No key needed."""

from typing import Any

from aws_lambda_powertools.event_handler import Response

from fusewire import VERSION
from fusewire.errors import LedgerUnavailableError
from fusewire.http.invocation import LambdaContext, log_ledger_unavailable
from fusewire.http.resolver import Resolver, StreamedAnswer, json_response
from fusewire.services import services

_core = services()
app = Resolver(_core.settings)


@app.get("/api/v1/health")
def health() -> Response[str]:
    try:
        _core.database.call("SELECT ledger_ping($1::jsonb)", {})
    except LedgerUnavailableError as error:
        log_ledger_unavailable(error)
        told = {
            "status": "unavailable",
            "database": "unreachable",
            "version": VERSION,
            "message": error.message,
        }
        return json_response(503, told, {"Retry-After": "1"})
    return json_response(200, {"status": "ok", "database": "ok", "version": VERSION})


@app.get("/api/v1/openapi.json")
def openapi() -> Response[str]:
    from fusewire.http.openapi import document

    return json_response(200, document())


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any] | StreamedAnswer:
    return app.serve(event, context)
