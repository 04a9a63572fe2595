"""A built function under AWS's Runtime Interface Emulator, run by AWS's own client out of the built layer."""

import json
import os
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from tests.integration.infra.sam import PROJECT, emulator
from tests.support.gateway import free_port
from tests.support.patience import PATIENCE_SECONDS

_INVOKE: Final = "/2015-03-31/functions/function/invocations"
_RUNTIME: Final = ("awslambdaric", "runtime_client*.so", "snapshot_restore_py.py")
"""AWS's client, as it lies in Lambda's own image."""


@dataclass(frozen=True)
class Emulated:
    """A function that waits for events."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    def invoke(self, event: Mapping[str, Any]) -> bytes:
        """The function's answer, as it came."""
        return httpx.post(self.url + _INVOKE, json=event, timeout=PATIENCE_SECONDS).content

    def workers(self) -> list[int]:
        """The processes of the function itself."""
        children = (file.read_text().split() for file in Path(f"/proc/{self.process.pid}/task").glob("*/children"))
        return [int(pid) for each in children for pid in each]


def runtime(out: Path) -> Path:
    """AWS's client alone, from this environment: none of its other packages may stand in for the layer's."""
    out.mkdir()
    site = Path(sysconfig.get_path("platlib"))
    for pattern in _RUNTIME:
        [found] = site.glob(pattern)
        (out / found.name).symlink_to(found)
    return out


@contextmanager
def emulated(
    folder: Path, layer: Path, client: Path, variables: Mapping[str, str], *, log: Path, timeout: int = 60
) -> Iterator[Emulated]:
    """The function in `folder`, with nothing but `layer` and AWS's client to import from; ended with the block."""
    port, runtime_port = free_port(), free_port()
    python = Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    command = [str(python), "-s", "-m", "awslambdaric", "app.handler"]
    if wrapper := variables.get("AWS_LAMBDA_EXEC_WRAPPER"):
        command = [str(layer / wrapper.removeprefix("/opt/")), *command]
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{layer / 'python'}:{client}",
        "LAMBDA_TASK_ROOT": str(folder),
        "_HANDLER": "app.handler",
        "AWS_LAMBDA_FUNCTION_TIMEOUT": str(timeout),
        "AWS_LAMBDA_FUNCTION_NAME": folder.name,
        "AWS_ACCESS_KEY_ID": "none",
        "AWS_SECRET_ACCESS_KEY": "none",
        **variables,
    }
    addresses = ["--runtime-interface-emulator-address", f"127.0.0.1:{port}"]
    addresses += ["--runtime-api-address", f"127.0.0.1:{runtime_port}"]
    with log.open("wb") as out:
        process = subprocess.Popen(  # noqa: S603 - our own words
            [str(emulator()), *addresses, *command], cwd=folder, env=environment, stdout=out, stderr=out,
            start_new_session=True,
        )  # fmt: skip
    try:
        _wait_for(port)
        yield Emulated(f"http://127.0.0.1:{port}", process, log)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait_for(port: int) -> None:
    for _ in range(200):
        try:
            httpx.get(f"http://127.0.0.1:{port}/", timeout=1)
        except httpx.TransportError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("the emulator doesn't listen")


def sample(name: str, **fields: object) -> dict[str, Any]:
    """A sample event, with other fields in its body, and let in by the authorizer."""
    event: dict[str, Any] = json.loads((PROJECT / "events" / f"{name}.json").read_text())
    if "httpMethod" in event:
        event["requestContext"]["authorizer"] = {"key_id": "k", "scopes": '["admin", "complete"]'}
    return event | ({"body": json.dumps(json.loads(event["body"]) | fields)} if fields else {})
