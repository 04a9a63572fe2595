"""JSON logs with exactly the contract's keys: one object a line, one event each.

Prompts, answers, keys and connection strings never get here: `event` takes only the fields named in `_FIELDS`. What
libraries say below a warning, vendors' addresses among it, is printed nowhere.
"""

import logging
from datetime import UTC, datetime
from typing import Any, Final

from aws_lambda_powertools import Logger
from aws_lambda_powertools.logging.formatter import LambdaPowertoolsFormatter

from fusewire import metrics, tracing
from fusewire.json import dumps

SERVICE: Final = "fusewire"

# The contract's own first, in the order in which they are printed; the others explain a single event.
_FIELDS: Final = (
    "provider", "model", "tier", "cost_usd", "cost_basis", "input_tokens", "output_tokens", "latency_ms", "attempt",
    "key_id", "usage_ratio",
    "kind", "status", "code", "message", "cooldown_until", "window_id", "dropped", "downgraded_from", "actor", "action",
    "source_ip", "before", "after", "reason", "expires_on", "path", "error_type", "location",
)  # fmt: skip
_KNOWN: Final = frozenset(_FIELDS) | {"request_id"}


class _ContractFormatter(LambdaPowertoolsFormatter):
    """Powertools' formatter, less its own keys (`location`, `message`, `xray_trace_id`, ...)."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "timestamp": datetime.fromtimestamp(record.created, tz=UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "event": record.getMessage(),
            "request_id": _request_id,
            "service": SERVICE,
        }
        line |= getattr(record, "fields", {})
        return self.serialize(line)


logger = Logger(
    service=SERVICE,
    level="INFO",
    logger_formatter=_ContractFormatter(json_serializer=dumps),
)

# AWS's runtime has set this to AWS_LAMBDA_LOG_LEVEL by now, which is INFO unless it is told otherwise: the vendors'
# HTTP client then writes down every address that it calls. Our own logger has its own level.
logging.getLogger().setLevel(logging.WARNING)


_own: Final = logging.getLogger(SERVICE)
"""What Powertools' logger writes to. It is handed whole records: the line of code that logs, which Powertools would
look for each time, is told to nobody."""

_request_id: str | None = None


def set_level(level: str) -> None:
    """The least level that is printed: LOG_LEVEL, whatever AWS_LAMBDA_LOG_LEVEL says.

    Powertools' own `setLevel` takes the latter for both.
    """
    if logging.getLevelName(_own.level) != level:  # setting it clears the caches of every logger there is
        _own.setLevel(level)


def start_request(request_id: str, level: str) -> None:
    """Begin the lines of one call: nothing of the call before stays, and every line carries this id."""
    global _request_id
    _request_id = request_id
    set_level(level)
    metrics.begin()
    tracing.begin(request_id)


def end_request() -> None:
    """Print the call's metrics, if any are wanted; at every level, because alarms stand on them."""
    for document in metrics.end():
        _print_line("metrics", logging.INFO, document)


def event(name: str, level: int = logging.INFO, **fields: object) -> None:
    """Print one event. None values are left out, except that a money or ratio of zero stays.

    :raises TypeError: for a field that no saved query knows; add it to `_FIELDS` on purpose or not at all
    """
    if unknown := fields.keys() - _KNOWN:
        raise TypeError(f"unknown log fields: {', '.join(sorted(unknown))}")
    metrics.observe(name, fields)
    if _own.isEnabledFor(level):
        _print_line(name, level, {key: fields[key] for key in ("request_id", *_FIELDS) if fields.get(key) is not None})


def _print_line(name: str, level: int, fields: dict[str, object]) -> None:
    _own.handle(
        logging.makeLogRecord(
            {"name": SERVICE, "msg": name, "levelno": level, "levelname": logging.getLevelName(level), "fields": fields}
        )
    )
