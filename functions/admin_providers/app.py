"""GET /api/v1/admin/providers: who is configured, who is well, and with `?probe=true` who answers right now."""

from typing import Any

from fusewire.http import routes
from fusewire.http.admin.providers import ProvidersQuery, ProvidersResponse, providers_response
from fusewire.http.app import Resolver, StreamingResponse
from fusewire.http.invocation import LambdaContext
from fusewire.http.request import Request
from fusewire.services import services

_core = services()
app = Resolver(_core.settings, _core.key_checks)


@app.handles(routes.SHOW_PROVIDERS)
def show_providers(request: Request, query: ProvidersQuery) -> ProvidersResponse:
    if not query.probe:
        return providers_response(_core, probe_for=None)
    # A probe costs money, though its method is a safe one.
    request.refuse_unknown_page()
    request.identity.require("company_admin")
    return providers_response(_core, probe_for=request.caller())


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any] | StreamingResponse:
    return app.serve(event, context)
