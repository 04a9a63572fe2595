"""API Gateway, before every route but health's: who calls, and whether this route is for them."""

from typing import Any

from fusewire import logs
from fusewire.core import core
from fusewire.errors import FusewireError, LedgerUnavailableError
from fusewire.http.authorizer import Authorizer, UnauthorizedError
from fusewire.http.invocation import LambdaContext, log_ledger_unavailable, log_unexpected, request_id_of

_core = core()
_authorizer = Authorizer(_core.key_checks, lambda: _core.secret("ADMIN_API_KEY"))


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """A REQUEST event in, a policy for this one request out.

    Lambda counts whatever it raises as this function's error, a wrong key too: alarms stand on the log's events.

    :raises UnauthorizedError: which API Gateway answers with 401
    :raises Exception: anything else, which it answers with its AUTHORIZER_FAILURE, 503
    """
    logs.start_request(request_id_of(event, context), _core.settings.log_level)
    try:
        return _authorizer.policy(event)
    except UnauthorizedError:
        raise
    except LedgerUnavailableError as error:
        log_ledger_unavailable(error)
        raise
    except FusewireError:  # a secret that can't be read, which has its line already
        raise
    except Exception as error:
        log_unexpected(error)
        raise
    finally:
        logs.end_request()
