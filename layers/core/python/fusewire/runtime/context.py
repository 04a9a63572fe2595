"""What a handler learns of its invocation: the attributes of AWS's own context object, and `streams`."""

import os
import time
from collections.abc import Callable
from typing import Final

from fusewire.runtime.api import Invocation


class Context:
    """The second argument of a handler; Powertools reads it too, so the names are AWS's."""

    streams: Final = True
    """This runtime can answer with a `Streamed`; under AWS's own client the attribute is missing."""

    function_name: Final = os.environ.get("AWS_LAMBDA_FUNCTION_NAME", "")
    function_version: Final = os.environ.get("AWS_LAMBDA_FUNCTION_VERSION", "")
    memory_limit_in_mb: Final = os.environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "")
    log_group_name: Final = os.environ.get("AWS_LAMBDA_LOG_GROUP_NAME", "")
    log_stream_name: Final = os.environ.get("AWS_LAMBDA_LOG_STREAM_NAME", "")

    def __init__(self, invocation: Invocation, is_closed: Callable[[], bool] = lambda: False) -> None:
        """:param is_closed: whether the platform has closed the connection that brought the event"""
        self.aws_request_id = invocation.request_id
        self.invoked_function_arn = invocation.function_arn
        self._deadline_ms = invocation.deadline_ms
        self.trace_id = invocation.trace_id
        """X-Ray's header; under AWS's own client the attribute is missing, and a variable has it."""
        self.after_response: list[Callable[[], None]] = []
        """What a handler leaves to be done when the response has left, before the next event is asked for; under AWS's
        own client the attribute is missing."""
        self.caller_has_left: Callable[[], bool] | None = is_closed if invocation.shows_caller else None
        """Whether nobody waits for the response any more; None where the platform doesn't tell."""

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until the platform kills this process; never below 0."""
        return max(0, self._deadline_ms - int(time.time() * 1000))
