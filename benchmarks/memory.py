"""`python -m benchmarks.memory`: how much memory a function's execution environment takes, by the real handler.

`make run` starts the process of `complete` that Lambda would start. It gets plain calls, streams and the largest body
that is taken, over the real gateway, ledger and SDK. What counts is the most that was ever resident (`VmHWM`). Lambda's
own process for the Runtime API isn't in it. Writes benchmarks/results/memory.json.
"""

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from benchmarks import BenchmarkError, peers

RESULTS: Final = peers.ROOT / "benchmarks/results/memory.json"
_CALLS: Final = 200
_LARGE_BYTES: Final = 5_900_000
_EVERY_SDK: Final = """
import anthropic, boto3, openai, resource
import fusewire.ai.router, fusewire.core
boto3.client("bedrock-runtime"), boto3.client("secretsmanager")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@dataclass(frozen=True, slots=True)
class Resident:
    """MiB of one execution environment's process, at its height so far."""

    started: float
    after_calls: float
    after_streams: float
    after_the_largest_body: float
    every_sdk: float
    """Of a process that has imported what a chain of all vendors needs, and has called nobody."""


def measure() -> Resident:
    """:raises BenchmarkError: when a call isn't answered, or the process can't be found"""
    with tempfile.TemporaryDirectory() as name, peers.vendor() as vendor:
        Path(name).chmod(0o755)  # Postgres, which doesn't run as root, goes through it
        server = peers.fusewire(vendor, Path(name), {"LOCAL_CONCURRENCY": "1"})
        server.start()
        try:
            process = _process(server)
            started = _height(process)
            with httpx.Client(timeout=120) as client:
                for _ in range(_CALLS):
                    _call(client, server, {})
                after_calls = _height(process)
                for _ in range(_CALLS):
                    _call(client, server, {"stream": True})
                after_streams = _height(process)
                for _ in range(3):
                    _call(client, server, {}, "x" * _LARGE_BYTES)
            return Resident(started, after_calls, after_streams, _height(process), _every_sdk())
        finally:
            server.stop()


def _every_sdk() -> float:
    environment = peers.plain_environment() | {
        "PYTHONPATH": str(peers.ROOT / "layers/core/python"), "AWS_DEFAULT_REGION": "eu-central-1",
    }  # fmt: skip
    done = subprocess.run(  # noqa: S603 - our own words
        [sys.executable, "-c", _EVERY_SDK], env=environment, capture_output=True, text=True, check=True
    )
    return round(int(done.stdout) / 1024, 1)


def _process(server: peers.Server) -> Any:  # noqa: ANN401 - psutil has no types
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with httpx.Client(timeout=60) as client:
            _call(client, server, {})
        found = [each for each in server.processes() if serves_complete(each)]
        if len(found) == 1:
            return found[0]
        if found:
            raise BenchmarkError(f"{len(found)} processes serve complete: start one")
        time.sleep(0.2)
    raise BenchmarkError("no process of functions/complete was found")


def serves_complete(process: Any) -> bool:  # noqa: ANN401
    """Whether a process of `make run` is a worker of `complete`."""
    environment = process.environ()
    return environment.get("LAMBDA_TASK_ROOT", "").endswith("functions/complete") and "local.gateway" not in str(
        process.cmdline()
    )


def _height(process: Any) -> float:  # noqa: ANN401
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
    [line] = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return round(int(line.split()[1]) / 1024, 1)


def _call(client: httpx.Client, server: peers.Server, fields: dict[str, object], text: str = "Hello") -> None:
    body = {"model": server.target.model, "max_tokens": 64, "messages": [{"role": "user", "content": text}], **fields}
    response = client.post(server.target.url, json=body, headers={"authorization": f"Bearer {server.target.key}"})
    if response.status_code != 200:
        raise BenchmarkError(f"HTTP {response.status_code}: {response.text[:300]}")


def main() -> None:
    resident = measure()
    RESULTS.write_text(json.dumps(asdict(resident), indent=1) + "\n", encoding="utf-8")
    for name, value in asdict(resident).items():
        sys.stdout.write(f"{name}: {value} MiB\n")


if __name__ == "__main__":
    try:
        main()
    except BenchmarkError as error:
        sys.exit(str(error))
