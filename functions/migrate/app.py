"""`make deploy`, before new code gets its first call: brings the schema up to date and lets the functions' role in."""

from typing import Any

from fusewire import logs
from fusewire.core import core
from fusewire.http.invocation import LambdaContext, request_id_of
from fusewire.store.deployment import bring_up_to_date

_core = core()


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answers `{"applied": [names]}`; forwards only, and safe to run again or twice at once.

    :raises LedgerUnavailableError: when a secret or Postgres can't be reached, or Postgres refuses
    """
    logs.start_request(request_id_of(event, context), _core.settings.log_level)
    return {"applied": bring_up_to_date(_core.settings)}
