"""The figures of docs/admission.md, from a run's JSON: `python -m benchmarks.admission.page FILE`."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks import charts, page
from benchmarks.admission.cell import FIT, LITELLM, NEVER_REACHED, STRICT
from benchmarks.admission.count import BLOCK
from benchmarks.peers import ROOT

PAGE: Final = ROOT / "docs" / "admission.md"
MARK: Final = "<!-- figures: written by `python -m benchmarks.admission`, down to their end -->"
_QUIET_PERCENT: Final = 10.0
_SMALL_BUDGET: Final = 2.5
_AIM_PERCENT: Final = 0.5
_AIM_PERCENT_SMALL: Final = 2.0
_AIM_SPENT: Final = 0.94
_HEADER: Final = (
    "cap, budget in USD",
    "offered",
    "served",
    "past the budget, USD",
    "needless refusals",
    "cut",
    "both, % of served",
    "spent at the first refusal",
    "wait p50, s",
    "p95",
    "longest",
    "until the vendor p95, s",
    "on paper: refusals, cut",
)
_NAMES: Final = {FIT: "fusewire", STRICT: "fusewire, no waiting or fitting", LITELLM: "LiteLLM's provider budget"}


def write(run: Mapping[str, Any], source: str, to: Path = PAGE) -> None:
    """Put the run's figures into the page.

    :param source: the name of the run's JSON file in benchmarks/results/
    :raises BenchmarkError: when the page has no place for them
    """
    page.put(figures(run, source), to, MARK)


def figures(run: Mapping[str, Any], source: str) -> str:
    """The part of the page between the marks."""
    cells = run["cells"]
    plain = [cell for cell in cells if cell["change_at"] is None]
    sections = [_about(run, source), *(f"**{sentence}**" for sentence in run["missing"])]
    sections += ["## Refused, cut and waited for\n\n" + _table(plain), _chart(plain), "## Aims\n\n" + _aims(cells)]
    sections += [_changed(cell) for cell in cells if cell["change_at"] is not None]
    sections.append("## Where the rest is lost\n\n" + _lost(cells))
    return "\n\n".join(section for section in sections if section)


def _about(run: Mapping[str, Any], source: str) -> str:
    machine, cells = run["machine"], run["cells"]
    others = [cell["others_percent"] for cell in cells]
    used = f"{min(others):.0f} to {max(others):.0f} %"
    loads = [cell["load"] for cell in cells]
    busy = " That held up calls, workers and Postgres, and made waits longer." if max(others) > _QUIET_PERCENT else ""
    return (
        f"{run['date']}, commit {run['commit']}, [every figure](../benchmarks/results/{source}). {machine['cores']} "
        f"cores ({machine['processor']}), {machine['memory_gb']} GB, {machine['system']}. Times went "
        f"{run['factor']:g} times faster than the trace's. Others used {used} of the processors while a cell ran; the "
        f"load after it was {min(loads):g} to {max(loads):g}.{busy}"
    )


def _table(cells: Sequence[Mapping[str, Any]]) -> str:
    parts = []
    for keeper in (FIT, STRICT, LITELLM):
        rows: list[tuple[str, ...]] = [
            (f"{_cap(cell)}, {_budget(cell)}", *_cells(cell["count"]), _paper(cell))
            for cell in cells
            if cell["keeper"] == keeper
        ]
        if rows:
            title = _NAMES[keeper]
            parts.append(f"### {title[0].upper()}{title[1:]}\n\n{charts.table([_HEADER, *rows])}")
    return "\n\n".join(parts)


def _cells(count: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        str(count["offered"]),
        str(count["served"]),
        count["past_the_budget"],
        str(sum(count["needless"].values())),
        str(count["cut"]),
        f"{count['lost_percent']:.2f}",
        _share(count),
        *(f"{count[name]:.2f}" for name in ("wait_p50", "wait_p95", "wait_max", "delay_p95")),
    )


def _paper(cell: Mapping[str, Any]) -> str:
    paper = cell["paper"]
    return "" if paper is None else f"{sum(paper['needless'].values())}, {paper['cut']}"


def _share(count: Mapping[str, Any]) -> str:
    spent = count["spent_at_first_refusal"]
    return "none refused" if spent is None else f"{100 * float(spent):.1f} %"


def _cap(cell: Mapping[str, Any]) -> str:
    return "no cap" if cell["cap"] is None else f"{cell['cap']:,}"


def _budget(cell: Mapping[str, Any]) -> str:
    return "never reached" if float(cell["budget"]) >= NEVER_REACHED else f"{float(cell['budget']):g}"


def _chart(cells: Sequence[Mapping[str, Any]]) -> str:
    """One cell that every keeper of the budget ran."""
    by_keeper = {
        _NAMES[cell["keeper"]]: float(cell["count"]["spent_at_first_refusal"] or 1) * 100
        for cell in cells
        if cell["cap"] == 32_000 and float(cell["budget"]) == 10
    }
    if len(by_keeper) < 2:
        return ""
    return charts.bars("Spent at the first refusal, cap 32,000, 10 USD", "% of the budget", by_keeper)


def _aims(cells: Sequence[Mapping[str, Any]]) -> str:
    ours = [cell for cell in cells if cell["keeper"] == FIT]
    rows = [("aim", "found", ""), *map(_aim, ours)]
    over = [cell["count"]["past_the_budget"] for cell in cells if cell["keeper"] != LITELLM]
    most_over = max(over, key=float)
    rows.append(("nothing past any budget", f"{most_over} USD", _met(float(most_over) == 0)))
    return charts.table(rows)


def _aim(cell: Mapping[str, Any]) -> tuple[str, str, str]:
    count = cell["count"]
    what, lost = f"{_cap(cell)}, {_budget(cell)}", count["lost_percent"]
    if cell["change_at"] is not None:
        lost = _lost_once_known(cell)
        aim = f"{what} USD{_since(cell)}: at most {_AIM_PERCENT:g} % of the calls lost from a hundred calls later on"
        return aim, f"{lost:.2f} %", _met(lost <= _AIM_PERCENT)
    if _budget(cell) == "never reached":
        return f"{what}: nothing lost", f"{lost:.2f} %", _met(lost == 0)
    most = _AIM_PERCENT_SMALL if float(cell["budget"]) <= _SMALL_BUDGET else _AIM_PERCENT
    spent = count["spent_at_first_refusal"]
    aim = f"{what} USD: at most {most:g} % lost, over {_AIM_SPENT:.0%} spent before a refusal"
    return aim, f"{lost:.2f} %, {_share(count)}", _met(lost <= most and (spent is None or float(spent) > _AIM_SPENT))


def _met(is_met: bool) -> str:
    return "met" if is_met else "**not met**"


def _lost_once_known(cell: Mapping[str, Any]) -> float:
    """Cut and refused needlessly from a hundred calls after the change on, in percent of the calls since then."""
    count = cell["count"]
    lost = sum(
        n for counts in (count["cut_by_block"], count["needless_by_block"]) for b, n in counts.items() if int(b) > 0
    )
    return float(100 * lost / max(count["offered"] - cell["change_at"] - BLOCK, 1))


def _changed(cell: Mapping[str, Any]) -> str:
    count = cell["count"]
    blocks = range((count["offered"] - cell["change_at"] - 1) // BLOCK + 1)

    def row(name: str, counts: Mapping[str, int]) -> tuple[str, ...]:
        return (
            name,
            str(sum(n for block, n in counts.items() if int(block) < 0)),
            *(str(counts.get(str(b), 0)) for b in blocks),
        )

    rows = [
        ("", "before", *(f"{block * 100} to {block * 100 + 99}" for block in blocks)),
        row("cut", count["cut_by_block"]),
        row("refused needlessly", count["needless_by_block"]),
    ]
    return (
        f"## Answers ten times as long from call {cell['change_at']} on\n\n{_NAMES[cell['keeper']]}, cap {_cap(cell)}, "
        f"{_budget(cell)} USD: {count['served']} of {count['offered']} calls served, first refusal at {_share(count)}, "
        f"wait p95 {count['wait_p95']:.2f} s. By calls since the change:\n\n{charts.table(rows)}"
    )


def _lost(cells: Sequence[Mapping[str, Any]]) -> str:
    """What each needless refusal was, and what the rule alone would have lost."""
    lines = []
    for cell in cells:
        count = cell["count"]
        if cell["keeper"] != FIT or not (count["needless"] or count["cut"]):
            continue
        codes = [f"{number} times {code}" for code, number in count["needless"].items()]
        what = "; ".join([*codes, *([f"{count['cut']} cut"] if count["cut"] else [])])
        lines.append(f"- {_cap(cell)}, {_budget(cell)} USD{_since(cell)}: {what}. On paper: {_paper(cell)}.")
    return "\n".join(lines) or "Nothing was refused or cut needlessly in a cell with waiting and fitting."


def _since(cell: Mapping[str, Any]) -> str:
    return "" if cell["change_at"] is None else f", ten times as long from call {cell['change_at']} on"


if __name__ == "__main__":
    sys.exit(page.main(sys.argv[1:], "benchmarks.admission.page", write))
