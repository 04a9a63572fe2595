"""`python -m benchmarks.page FILE`: the figures of docs/benchmarks.md, written anew from a run's JSON.

What stands before and after them there is written by hand, and stays.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import dropwhile, takewhile
from pathlib import Path
from typing import Any, Final

from benchmarks import BenchmarkError, capacity, charts, ledger
from benchmarks.measure import SCENARIOS
from benchmarks.peers import ROOT
from benchmarks.report import DIRECT

PAGE: Final = ROOT / "docs" / "benchmarks.md"
GROWTH: Final = ROOT / "docs" / "decisions" / "0009-growth.md"
BEGIN: Final = "<!-- figures: written by `make bench`, down to their end -->"
END: Final = "<!-- end of the figures -->"
_QUIET_PERCENT: Final = 10.0
_MET: Final = {True: "met", False: "**not met**", None: "not measured"}
_GROWING: Final = {
    "one call (reserve + settle)": "One call",
    "`GET /admin/budget`": "The budget route",
    "`GET /admin/usage`, the month by day, provider, model": "The usage route",
}
"""By their names in decision 9's table."""


def write(run: Mapping[str, Any], source: str, page: Path = PAGE) -> None:
    """Put the run's figures into the page.

    :param source: the name of the run's JSON file in benchmarks/results/
    :raises BenchmarkError: when the page has no place for them
    """
    put(figures(run, source), page, BEGIN)


def put(text: str, page: Path, mark: str) -> None:
    """Put the text into the page, between the line `mark` and the line `END`, in the place of what is there.

    :raises BenchmarkError: when the page lacks one of them
    """
    head, begin, rest = page.read_text(encoding="utf-8").partition(mark)
    _, end, foot = rest.partition(END)
    if not begin or not end:
        raise BenchmarkError(f"{page.name} has no place for the figures: it wants the lines {mark} and {END}.")
    page.write_text(f"{head}{mark}\n\n{text}\n\n{END}{foot}", encoding="utf-8")


def figures(run: Mapping[str, Any], source: str) -> str:
    """The part of the page between the marks."""
    sections = [
        _about(run, source),
        "## Aims\n\n" + _aims(run),
        "## Side by side",
        *_highlights(run),
        *(_scenario(name, by) for name, by in run["scenarios"].items()),
        "### Ratios\n\n" + "\n".join(f"- {line}" for line in run["ratios"]),
        "## Cold start, memory, size\n\n" + _resources(run["resources"]),
        "## Overshoot\n\n" + _overshoot(run["overshoot"]),
        "## The ledger beside pgbench\n\n" + _ledger(run["ledger"]),
        "## What a larger Postgres should carry\n\n" + _capacity(run),
        "## Growth\n\n" + growth(GROWTH.read_text(encoding="utf-8")),
    ]
    return "\n\n".join(sections)


def _about(run: Mapping[str, Any], source: str) -> str:
    machine, money = run["machine"], run["money"]
    versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    paragraphs = [
        f"{run['date']}, commit {run['commit']}, [every figure](../benchmarks/results/{source}). {machine['cores']} "
        f"cores ({machine['processor']}), {machine['memory_gb']} GB, {machine['system']}; load before the run "
        f"{machine['load_before']}; others used {run['used_by_others_percent']} % of the processors during the "
        f"comparison. {versions}; LiteLLM with {run['settings']['litellm_workers']} worker process(es).",
        f"The books after the run: {money['calls']} calls at {money['call_usd']} USD are {money['expected_usd']} USD; "
        f"fusewire booked {money['booked_usd']} USD and holds {money['reserved_usd']} USD reserved; the vendor served "
        f"{money['served']} calls.",
        *(f"**{sentence}**" for sentence in run["missing"]),
    ]
    if run["used_by_others_percent"] > _QUIET_PERCENT:
        # Whichever way the aims came out: a disturbed run neither meets nor misses them for good.
        paragraphs.append(
            f"**Disturbed:** over {_QUIET_PERCENT:g} % of the processors went to others. Aims met or missed here are "
            "provisional: run it again on a quiet machine."
        )
    return "\n\n".join(paragraphs)


def _aims(run: Mapping[str, Any]) -> str:
    rows = [("aim", "found", ""), *((one["aim"], one["found"], _MET[one["met"]]) for one in run["aims"])]
    return charts.table([*rows, *ledger.aims(run["ledger"])])


def _highlights(run: Mapping[str, Any]) -> list[str]:
    """One chart for each question that is asked first."""

    def of(scenario: str, figure: str) -> dict[str, float]:
        by = run["scenarios"][scenario]
        return {who: one[figure] for who, one in by.items() if who != DIRECT}

    return [
        charts.bars("Latency added to the vendor's own, 1 caller", "p50, ms", of("1 caller", "added_p50")),
        charts.bars("Calls a second, 16 callers", "calls/s", of("16 callers", "calls_per_second")),
        charts.bars(
            "Time to the first token added, 1 caller", "p50, ms", of("1 caller, streams", "added_first_token_p50")
        ),
    ]


def _scenario(name: str, by: Mapping[str, Mapping[str, Any]]) -> str:
    stream = any(scenario.stream for scenario in SCENARIOS if scenario.name == name)
    first = ("first token p50", "added") if stream else ()
    rows = [
        (
            "ms",
            "p50",
            "added p50",
            "rounds' range",
            "p99",
            "added p99",
            *first,
            "calls/s",
            "processor, ms a call",
            "calls",
        )
    ]
    for who, one in by.items():
        cells = [who, f"{one['p50']:.2f}", _shown(one["added_p50"]), _range(one["added_p50_by_round"])]
        cells += [f"{one['p99']:.2f}", _shown(one["added_p99"])]
        if stream:
            cells += [f"{one['first_token_p50']:.2f}", _shown(one["added_first_token_p50"])]
        cells += [f"{one['calls_per_second']:.0f}", _shown(one["processor_ms"]), str(one["calls"])]
        rows.append(tuple(cells))
    return f"### {name}\n\n" + charts.table(rows)


def _resources(resources: Mapping[str, Mapping[str, Any]]) -> str:
    """One column a subject, one row a quantity; what a subject has no figure for stays empty."""
    names = list(resources)
    quantities = dict.fromkeys(key for one in resources.values() for key in one)
    return charts.table(
        [("", *names), *((key, *(str(resources[name].get(key, "")) for name in names)) for key in quantities)]
    )


def _overshoot(results: Mapping[str, Any]) -> str:
    subjects = results["subjects"]
    bursts = len(next(iter(subjects.values()))["served"])
    rows = [("", "served, by burst", "budget, USD", "billed, USD", "past the budget, USD")]
    for name, one in subjects.items():
        served = ", ".join(str(calls) for calls in one["served"])
        rows.append((name, served, one["limit"], one["billed"], one["past_the_limit"]))
    chart = charts.bars(
        "Billed past the budget", "USD", {name: float(one["past_the_limit"]) for name, one in subjects.items()}
    )
    return (
        f"A budget for {results['fitting_calls']} calls, {results['callers']} callers at once, a vendor that takes "
        f"{results['seconds'] * 1000:g} ms, {bursts} bursts one after the other.\n\n"
        f"{charts.table(rows)}\n\nPortkey's open-source gateway has no budgets: nothing to measure.\n\n{chart}"
    )


def _ledger(results: Mapping[str, Any]) -> str:
    by_sessions = {
        str(one["sessions"]): ledger.median_rate(one, ledger.OURS) for one in results["rates"] if one["slots"] == 1
    }
    return f"{ledger.report(results)}\n\n" + charts.bars(
        "Calls reserved and settled a second, by sessions, one slot", "calls/s", by_sessions
    )


def _capacity(run: Mapping[str, Any]) -> str:
    """The arithmetic for larger servers, and for this machine beside what was measured on it."""
    measured, rates = run["ledger"]["parts"], run["ledger"]["rates"]
    parts = capacity.Parts.of(measured)
    here = capacity.Server("this machine, by the same arithmetic", run["machine"]["cores"], parts.flush_ms)
    rows = [("calls/s", *(f"{slots} slot{'s' * (slots > 1)}" for slots in capacity.SLOTS))]
    for server in (*capacity.RDS, here):
        cells = (f"{capacity.calls_per_second(parts, server, slots):.0f}" for slots in capacity.SLOTS)
        rows.append((server.name, *cells))
    found = {one["slots"]: ledger.median_rate(one, ledger.PGBENCH) for one in rates if one["sessions"] == 16}
    cells = (f"{found[slots]:.0f}" if slots in found else "" for slots in capacity.SLOTS)
    rows.append(("this machine, measured: pgbench, 16 sessions", *cells))
    return (
        f"Measured with one session: both statements take {parts.statements_ms:.2f} ms without waiting for the disk, "
        f"each commit {parts.flush_ms:.2f} ms more, and a call {parts.cpu_ms:.2f} ms of the server's processors and "
        f"{measured['wal_bytes_per_call']} bytes of WAL, whole pages after a checkpoint included. "
        f"[How the arithmetic goes](#how-the-arithmetic-goes).\n\n{charts.table(rows)}"
    )


def growth(decision: str) -> str:
    """The charts of decision 9's table of milliseconds.

    :raises BenchmarkError: when the table isn't there
    """
    lines = dropwhile(lambda line: not line.startswith("| milliseconds, median"), decision.splitlines())
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in takewhile(str.strip, lines)]
    medians = {row[0]: [float(cell.split()[0]) for cell in row[1:]] for row in table if row[0] in _GROWING}
    if medians.keys() != _GROWING.keys():
        raise BenchmarkError("Decision 9 has no table of milliseconds by rows.")
    sizes = table[0][1:]
    return "\n\n".join(
        (
            "What a ledger's size does to the statements that everybody waits for; how it was measured, the other "
            "statements and their plans are in [decision 9](decisions/0009-growth.md).",
            *(
                charts.line(
                    f"{title}, by the ledger's size", "median, ms", dict(zip(sizes, medians[name], strict=True))
                )
                for name, title in _GROWING.items()
            ),
        )
    )


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _range(values: Sequence[float]) -> str:
    return f"{min(values):.2f} to {max(values):.2f}" if values else ""


def main(arguments: Sequence[str], module: str, put_in: Callable[[Mapping[str, Any], str], None]) -> int:
    """
    :param module: whose command it is
    :param put_in: puts a run's figures, of a file in benchmarks/results/, into its page
    :return: the exit status
    """
    if len(arguments) != 1:
        sys.stderr.write(f"usage: python -m {module} benchmarks/results/NAME.json\n")
        return 2
    source = Path(arguments[0])
    put_in(json.loads(source.read_text(encoding="utf-8")), source.name)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], "benchmarks.page", write))
