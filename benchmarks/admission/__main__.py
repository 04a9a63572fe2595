"""`python -m benchmarks.admission`: how much of a budget is used before it refuses, on a real trace.

Without options the cells that the page shows, 35 minutes; `--all` the whole matrix, an hour. `--minutes 38` begins no
cell that would end later, and names those that it leaves out. One cell: `--cap 32000 --budget 10`. Results go to
`benchmarks/results/admission.json` and into docs/admission.md; one cell's are printed alone.
"""

import argparse
import json
import math
import os
import signal
import sys
import time
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from benchmarks import BenchmarkError, machine
from benchmarks.admission import page
from benchmarks.admission.cell import FACTOR, FIT, LITELLM, NEVER_REACHED, STRICT, Cell, Result, on_paper, run
from benchmarks.alone import WORK, alone
from benchmarks.environment import ready_environment, site_packages, version
from benchmarks.peers import ROOT

_CAPS: Final = (1024, 4096, 32_000, None)
_BUDGETS: Final = (Decimal("2.5"), Decimal(10), Decimal(25), NEVER_REACHED)
_CHANGE_AT: Final = 700
_CHANGED: Final = Cell(32_000, Decimal(10), change_at=_CHANGE_AT)
_NAMED: Final = tuple(cap for cap in _CAPS if cap is not None)
_SHOWN: Final = (
    *(Cell(cap, budget) for budget in _BUDGETS[:3] for cap in _NAMED),
    _CHANGED,
    *(Cell(cap, budget, STRICT) for budget in _BUDGETS[:2] for cap in _NAMED),
    *(Cell(32_000, budget, LITELLM) for budget in _BUDGETS[:2]),
    *(Cell(cap, NEVER_REACHED) for cap in _NAMED),
    *(Cell(None, budget) for budget in _BUDGETS),
)
_ALL: Final = (
    *(Cell(cap, budget, keeper) for keeper in (FIT, STRICT) for budget in _BUDGETS for cap in _CAPS),
    *(Cell(32_000, budget, LITELLM) for budget in _BUDGETS[:3]),
    _CHANGED,
    Cell(32_000, Decimal(10), STRICT, change_at=_CHANGE_AT),
)
_REQUIREMENTS: Final = ROOT / "benchmarks" / "requirements"


def main() -> int:
    """:return: the exit status: 1 when a budget was overrun, or the run says nothing"""
    options = _options()
    # Told to stop, it stops what it has started first.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    cells = _cells(options)
    if options.paper:
        for cell in cells:
            if cell.keeper != LITELLM:
                _print(cell.name(), Result(cell, on_paper(cell), None, 0, 0, 0).as_json()["count"])
        return 0
    try:
        with alone():
            measured = _measured(cells, options.factor, options.minutes)
    except BenchmarkError as error:
        sys.stderr.write(f"\nThe benchmark is void. {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\nStopped.\n")
        return 130
    if options.budget is None:
        file = ROOT / "benchmarks" / "results" / f"{options.name}.json"
        file.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
        page.write(measured, file.name)
        sys.stdout.write(f"Written: {file.relative_to(ROOT)}, {page.PAGE.relative_to(ROOT)}\n")
    ours = [cell["count"] for cell in measured["cells"] if cell["keeper"] != LITELLM]
    return 1 if any(Decimal(count["past_the_budget"]) for count in ours) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.admission", description="Is a budget used before it refuses?"
    )
    parser.add_argument("--all", action="store_true", help="every cap, budget and keeper: an hour")
    parser.add_argument("--minutes", type=float, help="for which it may go on (for as long as it takes)")
    parser.add_argument("--budget", type=Decimal, help="one cell alone: its budget in USD")
    parser.add_argument("--cap", type=int, help="of that cell: what callers ask for (none: they name none)")
    parser.add_argument("--keeper", choices=(FIT, STRICT, LITELLM), default=FIT, help="of that cell (fit)")
    parser.add_argument("--change-at", type=int, help="of that cell: answers are ten times as long from this call on")
    parser.add_argument(
        "--factor", type=float, default=FACTOR, help=f"how many times faster than the trace ({FACTOR:g})"
    )
    parser.add_argument(
        "--paper", action="store_true", help="the rule alone, in seconds: no gateway; nothing is written"
    )
    parser.add_argument("--name", default="admission", help="of the results' JSON file (admission)")
    options = parser.parse_args()
    if options.budget is None and (options.cap, options.keeper, options.change_at) != (None, FIT, None):
        parser.error("one cell alone needs its --budget")
    return options


def _cells(options: argparse.Namespace) -> tuple[Cell, ...]:
    if options.budget is not None:
        return (Cell(options.cap, options.budget, options.keeper, options.change_at),)
    return _ALL if options.all else _SHOWN


def _measured(cells: tuple[Cell, ...], factor: float, minutes: float | None) -> dict[str, Any]:
    litellm, missing = None, []
    if any(cell.keeper == LITELLM for cell in cells):
        try:
            litellm = ready_environment(_REQUIREMENTS / "litellm.txt", WORK)
        except BenchmarkError as error:
            missing.append(f"LiteLLM took no part: {error}")
    about = {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "commit": machine.commit(),
        "machine": machine.described() | {"load_before": " ".join(f"{load:.2f}" for load in os.getloadavg())},
        "factor": factor,
        "litellm": None if litellm is None else version(site_packages(litellm), "litellm"),
        "missing": missing,
    }
    began, found, left_out = time.monotonic(), [], []
    ends = math.inf if minutes is None else began + 60 * minutes
    for cell in cells:
        if cell.keeper == LITELLM and litellm is None:
            continue
        if time.monotonic() + cell.seconds(factor) > ends:
            left_out.append(cell.name())
            continue
        result = json.loads(json.dumps(run(cell, WORK, factor, litellm).as_json()))
        found.append(result)
        _print(cell.name(), result["count"] | {"load": result["load"], "others_percent": result["others_percent"]})
    if left_out:
        missing.append(f"Not run, for lack of time: {'; '.join(left_out)}.")
    if not found:
        raise BenchmarkError(" ".join(missing))
    sys.stdout.write(f"{len(found)} cells in {(time.monotonic() - began) / 60:.1f} minutes\n")
    return {**about, "cells": found}


def _print(name: str, count: dict[str, Any]) -> None:
    shown = ("served", "needless", "cut", "lost_percent", "past_the_budget", "wait_p50", "wait_p95", "wait_max")
    about = ("delay_p95", "at_once", "load", "others_percent")
    spent = count["spent_at_first_refusal"]
    figures = ", ".join(f"{one} {count[one]}" for one in (*shown, *about) if one in count)
    first = "no refusal" if spent is None else f"first refusal at {100 * float(spent):.1f} %"
    sys.stdout.write(f"{name}: {figures}, {first}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
