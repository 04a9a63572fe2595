"""`python -m benchmarks`: fusewire and its peers side by side, who overshoots a budget, and what the ledger carries.

Results go to `benchmarks/results/<name>.json` and into docs/benchmarks.md. What it needs is made in `.fusewire-bench/`:
the peers' installations, kept for the next run, and the subjects' data and logs of this one.
"""

import argparse
import json
import os
import signal
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final

from benchmarks import BenchmarkError, ledger, machine, page
from benchmarks.alone import WORK, alone
from benchmarks.comparison import Installations, compare
from benchmarks.environment import ready_environment
from benchmarks.measure import FULL, QUICK
from benchmarks.node import NotInstalledError, ready_packages
from benchmarks.overshoot import overshoot
from benchmarks.peers import ROOT

_RESULTS: Final = ROOT / "benchmarks" / "results"
_REQUIREMENTS: Final = ROOT / "benchmarks" / "requirements"


def main() -> int:
    """:return: the exit status"""
    options = _options()
    # Answer to stop, it stops what it has started first.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    began = time.monotonic()
    try:
        with alone():
            run = _run(options)
        _RESULTS.mkdir(exist_ok=True)
        file = _RESULTS / f"{options.name}.json"
        file.write_text(json.dumps(run, indent=1) + "\n", encoding="utf-8")
        if not options.quick:
            page.write(run, file.name)
    except BenchmarkError as error:
        sys.stderr.write(f"\nThe benchmark is void. {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\nStopped.\n")
        return 130
    sys.stdout.write(f"\n{page.figures(run, file.name)}\n\n")
    written = [file] if options.quick else [file, page.PAGE]
    sys.stdout.write(f"Written: {', '.join(str(one.relative_to(ROOT)) for one in written)}, ")
    sys.stdout.write(f"in {(time.monotonic() - began) / 60:.1f} minutes\n")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure fusewire beside its peers.")
    parser.add_argument("--quick", action="store_true", help="a smoke test: short rounds, docs/benchmarks.md stays")
    parser.add_argument("--name", default=None, help="of the results' JSON file (default: the date and time)")
    parser.add_argument("--litellm-workers", type=int, default=1, help="LiteLLM's processes (default: 1, its own)")
    options = parser.parse_args()
    if options.name is None:
        options.name = f"{datetime.now(UTC):%Y-%m-%dT%H%MZ}{'-quick' if options.quick else ''}"
    return options


def _run(options: argparse.Namespace) -> dict[str, Any]:
    plan, ledger_plan = (QUICK, ledger.QUICK) if options.quick else (FULL, ledger.FULL)
    places = _installed()
    about = {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "commit": machine.commit(),
        "machine": machine.described() | {"load_before": " ".join(f"{load:.2f}" for load in os.getloadavg())},
        "settings": asdict(plan) | {"litellm_workers": options.litellm_workers},
    }
    compared = compare(plan, places, options.litellm_workers, WORK)
    return {
        **about,
        **compared,
        "overshoot": overshoot(places, WORK),
        "ledger": ledger.measure(ledger_plan),
    }


def _installed() -> Installations:
    """Every peer that can be, and a sentence about those that can't.

    :raises BenchmarkError: when LiteLLM or TensorZero can't
    """
    litellm, tensorzero = (ready_environment(_REQUIREMENTS / f"{name}.txt", WORK) for name in ("litellm", "tensorzero"))
    try:
        return Installations(litellm, tensorzero, ready_packages(_REQUIREMENTS / "portkey", WORK))
    except NotInstalledError as error:
        sentence = f"Portkey's gateway took no part: {error}."
        sys.stdout.write(f"{sentence}\n")
        return Installations(litellm, tensorzero, None, (sentence,))


if __name__ == "__main__":
    sys.exit(main())
