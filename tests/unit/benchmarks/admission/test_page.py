"""The page shows every cell, says which aims are met, and what is lost where."""

import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from benchmarks import BenchmarkError, page
from benchmarks.admission import page as admission_page
from benchmarks.admission.cell import LITELLM, NEVER_REACHED, STRICT, Cell, Result, on_paper


def _run() -> dict[str, Any]:
    fits, strict = Cell(32_000, Decimal(10)), Cell(32_000, Decimal(10), STRICT)
    changed = replace(fits, change_at=700)
    never = Cell(None, NEVER_REACHED)
    results = [
        Result(fits, replace(on_paper(fits), cut=9), on_paper(fits), 60, 1.25, 3.0),
        Result(strict, on_paper(strict), on_paper(strict), 60, 1.0, 4.0),
        Result(replace(fits, keeper=LITELLM), replace(on_paper(fits), past_the_budget=Decimal("0.5")), None, 60, 1, 3),
        Result(never, on_paper(never), on_paper(never), 60, 2.5, 80.4),
        Result(changed, on_paper(changed), on_paper(changed), 60, 1.0, 3.0),
    ]  # fmt: skip
    about = {
        "date": "2026-12-01 12:00 UTC",
        "commit": "abc",
        "machine": {"cores": 2, "processor": "some", "memory_gb": 24, "system": "Linux x86_64", "load_before": "0 0 0"},
        "factor": 4.0,
        "litellm": "1.2.3",
        "missing": ["Somebody took no part."],
        "cells": [result.as_json() for result in results],
    }
    run: dict[str, Any] = json.loads(json.dumps(about))
    return run


def test_every_cell_is_shown_with_the_load_that_it_was_taken_under() -> None:
    result = admission_page.figures(_run(), "some.json")
    for expected in (
        "[every figure](../benchmarks/results/some.json)",
        "4 times faster than the trace's",
        "Others used 3 to 80 % of the processors",
        "the load after it was 1 to 2.5. That held up calls",
        "**Somebody took no part.**",
        "| 32,000, 10 | 1604 | 1440 | 0 | 0 | 9 | 0.62 | 95.0 % | 0.00 | 0.66 | 2.51 | 0.66 | 0, 0 |",
        "| 32,000, 10 | 1604 | 1105 | 0 | 499 | 0 | 45.16 | 8.8 % | 0.00 | 0.00 | 0.00 | 0.00 | 499, 0 |",
        "| no cap, never reached | 800 | 800 | 0 | 0 | 0 | 0.00 | none refused |",
        "LiteLLM's provider budget",
    ):
        assert expected in result


def test_an_aim_that_is_missed_is_said_to_be() -> None:
    result = admission_page.figures(_run(), "some.json")
    aim = "32,000, 10 USD: at most 0.5 % lost, over 94% spent before a refusal"
    assert f"| {aim} | 0.62 %, 95.0 % | **not met** |" in result
    assert "| no cap, never reached: nothing lost | 0.00 % | met |" in result
    # Another's budget is no aim of ours.
    assert "| nothing past any budget | 0 USD | met |" in result


def test_what_a_change_cut_is_shown_by_hundreds_of_calls() -> None:
    result = admission_page.figures(_run(), "some.json")
    assert "## Answers ten times as long from call 700 on" in result
    assert "|  | before | 0 to 99 | 100 to 199 | 200 to 299 |" in result
    assert "| cut | 0 | 2 | 0 | 0 | 0 | 0 |" in result
    aim = (
        "32,000, 10 USD, ten times as long from call 700 on: "
        "at most 0.5 % of the calls lost from a hundred calls later on"
    )
    assert f"| {aim} | 0.00 % | met |" in result
    run = _run()
    run["cells"][-1]["count"]["needless_by_block"] = {"0": 7, "1": 3}
    assert f"| {aim} | 0.68 % | **not met** |" in admission_page.figures(run, "some.json")


def test_where_the_rest_is_lost_names_each_cell_that_lost() -> None:
    lost = admission_page.figures(_run(), "some.json").partition("## Where the rest is lost")[2]
    assert "- 32,000, 10 USD: 9 cut. On paper: 0, 0." in lost
    assert "ten times as long from call 700 on: 2 cut." in lost


def test_the_page_keeps_what_is_written_by_hand(tmp_path: Path) -> None:
    file = tmp_path / "admission.md"
    file.write_text(f"# By hand\n\n{admission_page.MARK}\nold\n{page.END}\n\n## Also by hand\n", encoding="utf-8")
    admission_page.write(_run(), "some.json", file)
    text = file.read_text(encoding="utf-8")
    assert text.startswith("# By hand\n")
    assert text.endswith("## Also by hand\n")
    assert "old" not in text
    (tmp_path / "none.md").write_text("nothing", encoding="utf-8")
    with pytest.raises(BenchmarkError, match="has no place for the figures"):
        admission_page.write(_run(), "some.json", tmp_path / "none.md")
