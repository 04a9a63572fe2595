"""A stand-in for Ollama: starts the small real model of `local.model` as a process and says how to reach it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from local import StartError
from local.environment import for_model
from local.openmp import with_openmp

MODEL: Final = "smollm2"
_STOP_SECONDS: Final = 5


def as_variables(address: str) -> dict[str, str]:
    """Ollama's settings for a model that serves at `address`."""
    return {
        "OLLAMA_BASE_URL": address,
        "OLLAMA_SOTA_MODEL": MODEL,
        "OLLAMA_COST_EFFECTIVE_MODEL": MODEL,
        "OLLAMA_EMBEDDING_MODEL": MODEL,
    }


@contextmanager
def model_process() -> Iterator[subprocess.Popen[str]]:
    """Begin to load the model; `address_of` waits for it. The process ends with the block, or with this process."""
    # Its standard input stays open until then: its end is what the model's process ends upon.
    process = subprocess.Popen(
        [sys.executable, "-m", "local.model"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=with_openmp(for_model(os.environ)),
    )
    with process:
        try:
            yield process
        finally:
            if process.stdin:
                process.stdin.close()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def address_of(process: subprocess.Popen[str]) -> str:
    """Wait until the model is loaded; its base URL.

    :raises StartError: when it can't be
    """
    assert process.stdout is not None and process.stderr is not None  # noqa: S101 - both are pipes, see above
    address = process.stdout.readline().strip()
    if address:
        return address
    complaint = process.stderr.read().strip().rpartition("\n")[2] or f"status {process.wait()}"
    raise StartError(
        f"The local model doesn't start ({complaint}): set OLLAMA_BASE_URL to an Ollama of yours, or AI_MODE=cloud."
    )
