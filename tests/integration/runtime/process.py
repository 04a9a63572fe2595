"""A function's process: `python -m fusewire.runtime` over a test's Runtime API."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.integration.runtime.runtime_api import RuntimeApiServer

LAYER = Path(__file__).resolve().parents[3] / "layers" / "core"


@contextmanager
def runtime(
    folder: Path, platform: RuntimeApiServer, code: str, *command: str, **variables: str
) -> Iterator[subprocess.Popen[str]]:
    """A process that serves `code`, ended with the block."""
    (folder / "app.py").write_text(code)
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{LAYER / 'python'}:{folder}",
        "AWS_LAMBDA_RUNTIME_API": platform.address,
        "LAMBDA_TASK_ROOT": str(folder),
        "_HANDLER": "app.handler",
        **variables,
    }
    process = subprocess.Popen(  # noqa: S603 - our own words
        command or (sys.executable, "-m", "fusewire.runtime"),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()
