"""JSON logs with the keys that docs/operations.md lists, by Powertools' Logger: one object a line, one event each.

Prompts, answers, keys and connection strings never get here: `event` takes only the fields named in `_FIELDS`. What
libraries log below a warning, vendors' addresses among it, isn't printed.
"""

import logging
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, cast

from aws_lambda_powertools import Logger
from aws_lambda_powertools.logging.formatter import LambdaPowertoolsFormatter

from fusewire import metrics, tracing
from fusewire.json import dumps

if TYPE_CHECKING:
    from aws_lambda_powertools.logging.types import LogRecord

SERVICE: Final = "fusewire"

_ALWAYS: Final = ("timestamp", "level", "event", "request_id", "service")
# The contract's own first, in the order in which they are printed; the others explain a single event.
_FIELDS: Final = (
    "provider", "model", "tier", "cost_usd", "cost_basis", "input_tokens", "output_tokens", "latency_ms", "attempt",
    "key_id", "usage_ratio",
    "budget_id", "waited_ms", "output_cap",
    "kind", "status", "code", "message", "cooldown_until", "window_id", "dropped", "downgraded_from",
    "actor", "action", "source_ip", "before", "after", "reason", "expires_on", "path", "error_type", "location",
)  # fmt: skip
_KNOWN: Final = frozenset(_FIELDS) | {"request_id"}

# The formatter keeps `message`, which is our event's name, and `location` for itself.
_PASSED_AS: Final = {"message": "event_message", "location": "event_location"}
_PRINTED_AS: Final = {"message": "event", **{passed: name for name, passed in _PASSED_AS.items()}}


_request_id: Final[ContextVar[str | None]] = ContextVar("request_id", default=None)
"""Of the call that this thread is at. Powertools would keep it with the logger, of which all threads have one."""


class _ContractFormatter(LambdaPowertoolsFormatter):
    """Powertools' formatter, with the manual's names."""

    def serialize(self, log: "LogRecord") -> str:
        line: dict[str, Any] = dict.fromkeys(_ALWAYS)
        line["request_id"] = _request_id.get()
        line |= {_PRINTED_AS.get(key, key): value for key, value in log.items()}
        return self.json_serializer(cast("LogRecord", line))


logger = Logger(
    service=SERVICE,
    level="INFO",
    logger_formatter=_ContractFormatter(
        json_serializer=dumps, utc=True, use_rfc3339=True, location=None, xray_trace_id=None
    ),
)

# AWS's runtime has set this to AWS_LAMBDA_LOG_LEVEL by now, which is INFO unless it is configured otherwise: the
# vendors' HTTP client then logs every address that it calls. Our own logger has its own level.
logging.getLogger().setLevel(logging.WARNING)

_events: Final = logging.getLogger(SERVICE)
"""The standard library's logger behind Powertools'."""
_metrics: Final = _events.getChild("metrics")
"""Prints by the same handler, whatever the level of the other: alarms depend on these lines."""
_metrics.setLevel(logging.INFO)


def set_level(level: str) -> None:
    """The lowest level that is printed: LOG_LEVEL, whatever AWS_LAMBDA_LOG_LEVEL says.

    Powertools' own `setLevel` takes the latter for both.
    """
    if logging.getLevelName(_events.level) != level:  # setting it clears the caches of every logger there is
        _events.setLevel(level)


def start_request(request_id: str, level: str, trace: str | None = None) -> None:
    """Begin the lines of one call: nothing of the call before stays, and every line carries this id.

    :param trace: the invocation's header of X-Ray; None where the runtime sets it as a variable
    """
    _request_id.set(request_id)
    set_level(level)
    metrics.begin()
    tracing.begin(request_id, trace)


def end_request() -> None:
    """Print the call's metrics, if any are wanted."""
    for document in metrics.end():
        _metrics.info("metrics", extra=document)


def event(name: str, level: int = logging.INFO, **fields: object) -> None:
    """Print one event. None values are left out, except that a money or ratio of zero stays.

    :raises TypeError: for a field that no saved query knows; add it to `_FIELDS` on purpose or not at all
    """
    if unknown := fields.keys() - _KNOWN:
        raise TypeError(f"unknown log fields: {', '.join(sorted(unknown))}")
    metrics.observe(name, fields)
    if _events.isEnabledFor(level):
        names = (key for key in ("request_id", *_FIELDS) if fields.get(key) is not None)
        _events.log(level, name, extra={_PASSED_AS.get(key, key): fields[key] for key in names})
