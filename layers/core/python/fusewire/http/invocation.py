"""What every function has to do with its invocation, whoever triggers it: its id, and the log of how it failed.

Without Powertools' event handler, so that a function that routes nothing doesn't import it.
"""

import logging
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

from fusewire import logs
from fusewire.errors import LedgerUnavailableError


class LambdaContext(Protocol):
    """What handlers use of Lambda's context."""

    @property
    def aws_request_id(self) -> str: ...

    def get_remaining_time_in_millis(self) -> int: ...


def after_response(context: LambdaContext) -> Callable[[Callable[[], None]], None] | None:
    """Has something done once the response has left, and before the next event; None where the runtime, which isn't
    `fusewire.runtime` then, has no such moment."""
    left: list[Callable[[], None]] | None = getattr(context, "after_response", None)
    return None if left is None else left.append


def caller_has_left(context: LambdaContext) -> Callable[[], bool] | None:
    """Whether nobody waits for the response any more; None where the platform doesn't tell, as Lambda doesn't."""
    has_left: Callable[[], bool] | None = getattr(context, "caller_has_left", None)
    return has_left


def trace_of(context: LambdaContext) -> str | None:
    """The invocation's header of X-Ray; None where the runtime, AWS's own then, sets it as a variable."""
    trace: str | None = getattr(context, "trace_id", None)
    return trace


def request_id_of(event: Mapping[str, Any], context: LambdaContext) -> str:
    """API Gateway's id of the request; for other triggers Lambda's."""
    request_context = event.get("requestContext")
    id = request_context.get("requestId") if isinstance(request_context, Mapping) else None
    return str(id or getattr(context, "aws_request_id", None) or uuid4())


def log_ledger_unavailable(error: LedgerUnavailableError) -> None:
    """One line for a call that ends here because Postgres can't be reached."""
    cause = error.__cause__
    logs.event(
        "ledger.unavailable",
        logging.ERROR,
        code=error.code,
        reason=type(cause).__name__ if cause else str(error),
        message="nothing was forwarded",
    )


def log_unexpected(error: BaseException) -> None:
    """One line for a bug: its type and place. Its text may hold content, so it stays out."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno} {frames[-1].name}" if frames else None
    logs.event("function.error", logging.ERROR, error_type=type(error).__name__, location=place)
