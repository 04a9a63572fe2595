"""EventBridge, at the month's start: closes the old window. Idempotent, and not needed for the books to be right."""

from datetime import UTC, datetime
from typing import Any

from fusewire import logs
from fusewire.core import core
from fusewire.errors import LedgerUnavailableError
from fusewire.http.invocation import LambdaContext, log_ledger_unavailable, request_id_of

_core = core()


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answers `{"closed": window or null}`.

    :raises ValueError: for an event whose `time` isn't ISO 8601
    :raises LedgerUnavailableError: so that the schedule retries it
    """
    request_id = request_id_of(event, context)
    logs.start_request(request_id, _core.settings.log_level)
    due = datetime.fromisoformat(event["time"]) if event.get("time") else datetime.now(UTC)
    try:
        closed = _core.ledger.scheduled_reset(due=due, request_id=request_id)
    except LedgerUnavailableError as error:
        log_ledger_unavailable(error)
        raise
    finally:
        logs.end_request()
    return {"closed": {"id": closed.id, "spent_usd": str(closed.spent)} if closed else None}
