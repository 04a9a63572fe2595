"""GET /api/v1/health and /api/v1/openapi.json: is it up, and what can be asked of it. No key needed."""

from typing import Any

from aws_lambda_powertools.event_handler import Response

from fusewire import VERSION
from fusewire.core import core
from fusewire.errors import LedgerUnavailableError
from fusewire.http import routes
from fusewire.http.app import Resolver, StreamingResponse, json_response
from fusewire.http.authorizer import Authorizer, sends_fusewire_key
from fusewire.http.health import DatabaseState, Health, Unavailable
from fusewire.http.invocation import LambdaContext, log_ledger_unavailable
from fusewire.http.request import Request

_core = core()
_state = DatabaseState(_core.database.probe)
# Of the bootstrap key it knows what it is given: it reads no secret for whoever comes.
_authorizer = Authorizer(_core.key_checks, lambda: _core.settings.secret("ADMIN_API_KEY"))
app = Resolver(_core.settings)


@app.handles(routes.HEALTH)
def health(request: Request) -> Health | Response[Any]:
    error = _state.get(live=_is_admin(app.current_event.raw_event))
    if error is None:
        return Health(version=VERSION)
    log_ledger_unavailable(error)
    return json_response(503, Unavailable(version=VERSION, message=error.message).body(), {"Retry-After": "1"})


def _is_admin(event: dict[str, Any]) -> bool:
    if _core.settings.auth_mode == "open" and not sends_fusewire_key(event):
        return True
    try:
        return _authorizer.is_admin(event)
    except LedgerUnavailableError as error:
        _state.note(error)
        return False


@app.handles(routes.OPENAPI)
def openapi(request: Request) -> Response[Any]:
    from fusewire.http.openapi.document import document

    return json_response(200, document())


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any] | StreamingResponse:
    return app.serve(event, context)
