"""API Gateway, before every route but health's: who calls, and whether this route is for them."""

from typing import Any

from fusewire import logs
from fusewire.errors import LedgerUnavailableError
from fusewire.http.authorizer import Authorizer
from fusewire.http.resolver import LambdaContext, log_ledger_unavailable, request_id_of
from fusewire.services import services

_core = services()
_authorizer = Authorizer(_core.keys, lambda: _core.secret("ADMIN_API_KEY"))


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """A REQUEST event in, a policy for this one request out.

    :raises UnauthorizedError: which API Gateway answers with 401
    :raises LedgerUnavailableError: which it answers with its AUTHORIZER_FAILURE, 503
    """
    logs.start_request(request_id_of(event, context), _core.settings.log_level)
    try:
        return _authorizer.policy(event)
    except LedgerUnavailableError as error:
        log_ledger_unavailable(error)
        raise
