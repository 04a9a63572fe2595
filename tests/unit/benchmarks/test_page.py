"""The page's figures: every number of a run is there, and what is written by hand stays."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks import BenchmarkError, page, report
from benchmarks.load import Timings
from benchmarks.measure import SCENARIOS, Round
from benchmarks.overshoot import Overshoot
from tests.unit.benchmarks.test_charts import _CHART

_MILLISECONDS = {"direct": 1, "fusewire": 3, "litellm": 9, "portkey": 4, "fusewire, 8 slots": 3, "shape": 2}


def _run(**changes: object) -> dict[str, Any]:
    rounds = []
    for scenario in SCENARIOS:
        for subject, milliseconds in (
            ("direct", 1),
            ("fusewire", 3),
            ("litellm", 9),
            ("portkey", 4),
            ("shape", 2),
            ("fusewire, 8 slots", 3),
        ):
            timings = Timings([milliseconds * 1_000_000] * 10, [milliseconds * 500_000] * 10, 10**9)
            rounds.append(Round(scenario.name, subject, timings, None if subject == "direct" else 0.02))
    about = {
        "date": "2026-11-24 12:00 UTC",
        "commit": "abc",
        "machine": {
            "cores": 2,
            "processor": "some processor",
            "memory_gb": 24,
            "system": "Linux x86_64",
            "load_before": "0.1 0.2 0.3",
        },
        "settings": {"litellm_workers": 1},
        "used_by_others_percent": 3.5,
        "versions": {"fusewire": "0.1.0", "litellm": "1.2.3", "portkey": "3.2.1"},
        "missing": [],
        "money": {
            "calls": 30,
            "call_usd": "0.0005",
            "expected_usd": "0.015",
            "booked_usd": "0.015",
            "reserved_usd": "0",
            "served": 30,
        },
        "resources": {"fusewire": {"start, s": 1.5, "workers": 8}, "litellm": {"start, s": 6.5, "size, MB": 700}},
        "overshoot": {
            "callers": 64,
            "seconds": 0.5,
            "fitting_calls": 8,
            "subjects": {"fusewire": Overshoot((8, 0), 8).as_json(), "litellm": Overshoot((64, 0), 64).as_json()},
        },
        "ledger": {
            "rates": [
                {"slots": slots, "sessions": sessions, "fusewire": [95.0], "pgbench": [100.0]}
                for slots in (1, 8)
                for sessions in (1, 16, 64)
            ],
            "parts": {
                "calls_per_second": 500.0,
                "calls_per_second_without_waiting_for_the_disk": 2000.0,
                "server_cpu_ms_per_call": 0.4,
                "wal_bytes_per_call": 1400,
            },
        },
    }
    body: dict[str, Any] = json.loads(json.dumps(report.document(about | changes, report.figures(rounds))))
    return body


def test_every_figure_is_shown() -> None:
    run = _run()
    result = page.figures(run, "some.json")
    for expected in (
        "[every figure](../benchmarks/results/some.json)",
        "fusewire 0.1.0, litellm 1.2.3, portkey 3.2.1; LiteLLM with 1 worker process(es).",
        "others used 3.5 % of the processors",
        "30 calls at 0.0005 USD are 0.015 USD; fusewire booked 0.015 USD and holds 0 USD reserved",
        "| added p50 at most 2 ms at 1 caller | 2.00; with 8 slots 2.00; the shape alone 1.00 | met |",
        "calls a second at 16 callers | 10 against 10, 1.0 times; with 8 slots 10; the shape alone 10 | **not met** |",
        "| processor time a call, all processes together, at most 2.5 ms at 16 callers | 2.00; with 8 slots 2.00;",
        "| reserve + settle within a tenth of pgbench's, 64 sessions | 0.95 of it | met |",
        "| fusewire | 3.00 | 2.00 | 2.00 to 2.00 | 3.00 | 2.00 | 10 | 2.00 | 10 |",
        "| direct | 1.00 |  |  | 1.00 |  | 10 |  | 10 |",
        "| fusewire | 3.00 | 2.00 | 2.00 to 2.00 | 3.00 | 2.00 | 1.50 | 1.00 | 10 | 2.00 | 10 |",
        "|  | fusewire | litellm |\n| --- | ---: | ---: |\n| start, s | 1.5 | 6.5 |",
        "| workers | 8 |  |",
        "| size, MB |  | 700 |",
        "| fusewire | 8, 0 | 0.085 | 0.08 | 0 |",
        "| litellm | 64, 0 | 0.085 | 0.64 | 0.555 |",
        "both statements take 0.50 ms without waiting for the disk, each commit 0.75 ms more, and a call 0.40 ms",
        "| 16 vCPU, flush in 1 ms (one zone) | 400 | 3200 | 12800 |",
        "| this machine, by the same arithmetic | 500 | 3500 | 3500 |",
        "| this machine, measured: pgbench, 16 sessions | 100 | 100 |  |",
        *(f"- {line}\n" for line in run["ratios"]),
    ):
        assert expected in result
    assert "Disturbed" not in result


def test_every_table_is_one_and_every_chart_can_be_drawn() -> None:
    sections = page.figures(_run(), "some.json").split("\n\n")
    tables = [section for section in sections if section.startswith("|")]
    charts = [section for section in sections if section.startswith("```mermaid")]
    assert len(tables) == len(SCENARIOS) + 6
    for table in tables:
        assert len({line.count("|") for line in table.splitlines()}) == 1
    assert len(charts) == 8
    for chart in charts:
        assert _CHART.fullmatch(chart.removeprefix("```mermaid\n").removesuffix("\n```")), chart


def test_a_disturbed_run_and_a_missing_peer_are_said_so() -> None:
    result = page.figures(
        _run(used_by_others_percent=10.1, missing=["Portkey's gateway took no part: x."]), "some.json"
    )
    assert "**Disturbed:** over 10 %" in result
    assert "**Portkey's gateway took no part: x.**" in result


def test_what_is_written_by_hand_stays(tmp_path: Path) -> None:
    file = tmp_path / "benchmarks.md"
    file.write_text(f"# Head\n\n{page.BEGIN}\n\nof another run\n\n{page.END}\n\n## Foot\n")
    for _ in range(2):
        page.write(_run(), "some.json", file)
    result = file.read_text()
    assert result.startswith(f"# Head\n\n{page.BEGIN}\n\n2026-11-24")
    assert result.endswith(f"{page.END}\n\n## Foot\n")
    assert "another run" not in result
    assert result.count("## Overshoot") == 1


def test_a_page_without_a_place_for_them_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "benchmarks.md"
    file.write_text(f"# Head\n\n{page.BEGIN}\n")
    with pytest.raises(BenchmarkError, match="no place for the figures"):
        page.write(_run(), "some.json", file)
    assert file.read_text() == f"# Head\n\n{page.BEGIN}\n"


def test_the_projects_page_has_a_place_for_them() -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    assert text.index(page.BEGIN) < text.index(page.END)


def test_growth_is_drawn_from_the_decisions_own_table() -> None:
    result = page.growth(page.GROWTH.read_text(encoding="utf-8"))
    assert result.count("```mermaid") == 3
    assert result.count('x-axis ["10,000 rows", "1,000,000 rows", "10,000,000 rows"]') == 3


def test_a_decision_without_its_table_is_told() -> None:
    with pytest.raises(BenchmarkError, match="no table of milliseconds"):
        page.growth("# 9. How the ledger grows\n")


def test_the_year_is_the_decisions_bytes_multiplied() -> None:
    found = re.search(r"held (\d+) bytes a call", page.GROWTH.read_text(encoding="utf-8"))
    assert found is not None
    month = 10_000_000 * int(found[1]) / 1e9
    text = page.PAGE.read_text(encoding="utf-8")
    assert f"With {found[1]} bytes a call" in text
    assert f"10 million calls x {found[1]} bytes = {month:.1f} GB" in text
    assert f"12 x {month:.1f} = {12 * month:.0f} GB" in text
    assert f"2 x {month:.1f} = {2 * month:.0f} GB" in text
