"""What becomes of an exception: one log line for the operator, and what the platform may know."""

import json
import sys
import traceback
from datetime import UTC, datetime
from typing import Final

from fusewire.runtime.api import Failure

_FRAMES_SHOWN: Final = 4
# Exceptions written for the operator; the text of any other may hold a prompt or a credential.
_SAFE_TO_SHOW: Final = frozenset(
    {"builtins.ImportError", "builtins.ModuleNotFoundError", "fusewire.config.ConfigurationError"}
)


def report(error: BaseException, request_id: str | None = None) -> Failure:
    """Log an exception as one JSON line, by its type and place only, and return what the platform may know."""
    kind = type(error)
    shown = f"{kind.__module__}.{kind.__qualname__}" in _SAFE_TO_SHOW
    place = " < ".join(
        f"{frame.filename}:{frame.lineno} {frame.name}"
        for frame in reversed(traceback.extract_tb(error.__traceback__)[-_FRAMES_SHOWN:])
    )
    line = {
        "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "level": "ERROR",
        "event": "function.failed",
        "request_id": request_id,
        "service": "fusewire",
        "error_type": kind.__name__,
        "location": place,
    }
    if shown:
        line["message"] = str(error)
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()
    return Failure(kind.__name__, str(error) if shown else f"{kind.__name__} at {place.partition(' < ')[0]}")
