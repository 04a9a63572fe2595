"""GET /api/v1/admin/providers: who is configured, who is well, and with `?probe=true` who answers right now."""

from typing import Any

from aws_lambda_powertools.event_handler import Response

from fusewire.ai.health import providers_report
from fusewire.errors import InvalidRequestError
from fusewire.http.completions import caller_of
from fusewire.http.invocation import LambdaContext
from fusewire.http.resolver import Resolver, StreamedAnswer, json_response
from fusewire.services import services

_core = services()
app = Resolver(_core.settings)


@app.get("/api/v1/admin/providers")
def show_providers() -> Response[str]:
    probe = app.current_event.get_query_string_value("probe", "false")
    app.require("admin", spends=probe == "true")
    if probe not in ("true", "false"):
        raise InvalidRequestError(f"probe must be true or false, not {probe[:40]!r}.", param="probe")
    return json_response(200, providers_report(_core, probe_for=caller_of(app) if probe == "true" else None))


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any] | StreamedAnswer:
    return app.serve(event, context)
