"""The two tools that every program here gets, and what it prints at its end."""

import json
import sys
from collections.abc import Callable
from pathlib import Path


def read_file(path: str) -> str:
    """Read a file."""
    return Path(path).read_text()


def write_file(path: str, text: str) -> str:
    """Write a file."""
    Path(path).write_text(text)
    return "written"


def report(run: Callable[[], dict[str, object]], *errors: type[Exception]) -> None:
    """Print what `run` returns as a line of JSON, or what its user would see of one of `errors`.

    :param errors: what the framework raises for an answer that is an error
    """
    try:
        result = run()
    except errors as error:
        result = {"error": str(error), "status": getattr(error, "status_code", None)}
    sys.stdout.write(json.dumps(result) + "\n")
