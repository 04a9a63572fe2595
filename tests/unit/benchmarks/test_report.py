"""Percentiles, what is added, ratios, and the page."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from benchmarks import report
from benchmarks.load import Timings
from benchmarks.measure import SCENARIOS, Round

_ONE, _MANY, _STREAM = (scenario.name for scenario in SCENARIOS)


def _round(subject: str, scenario: str, milliseconds: Sequence[float], *, seconds: float = 1.0) -> Round:
    latencies = [round(value * 1e6) for value in milliseconds]
    return Round(scenario, subject, Timings(latencies, [value // 2 for value in latencies], round(seconds * 1e9)))


def _all(ours: float, theirs: float, *, stream_ours: float = 5.0) -> list[Round]:
    rounds = []
    for scenario in (_ONE, _MANY, _STREAM):
        rounds.append(_round("direct", scenario, [1.0] * 10))
        rounds.append(_round("fusewire", scenario, [stream_ours if scenario == _STREAM else ours] * 10))
        rounds.append(_round("litellm", scenario, [theirs] * 4))
    return rounds


@pytest.mark.parametrize(("share", "expected"), [(0.5, 50), (0.99, 99), (1.0, 100), (0.0, 1), (0.005, 1), (0.501, 51)])
def test_a_percentile_is_a_value_that_was_measured(share: float, expected: int) -> None:
    assert report.percentile([float(n) for n in range(100, 0, -1)], share) == expected


def test_a_percentile_of_few_values_is_among_them() -> None:
    assert report.percentile([7.0], 0.99) == 7.0
    assert report.percentile([1.0, 9.0], 0.99) == 9.0
    assert report.percentile([1.0, 9.0], 0.5) == 1.0


def test_there_is_no_percentile_of_nothing() -> None:
    with pytest.raises(ValueError, match="no values"):
        report.percentile([], 0.5)


def test_rounds_are_pooled_and_the_vendors_own_times_taken_off() -> None:
    rounds = [
        _round("direct", _ONE, [1, 1, 1, 3]),
        _round("fusewire", _ONE, [4, 4, 4, 4], seconds=0.5),
        _round("direct", _ONE, [2, 2, 2, 2]),
        _round("fusewire", _ONE, [6, 6, 6, 10], seconds=1.5),
    ]
    ours = report.figures(rounds)[_ONE]["fusewire"]
    assert (ours.calls, ours.p50, ours.p99) == (8, 4.0, 10.0)
    # Direct, pooled: p50 is 2 (1 1 1 2 2 2 2 3: the fourth), p99 is 3.
    assert (ours.added_p50, ours.added_p99) == (2.0, 7.0)
    assert ours.calls_per_second == 4.0
    assert ours.added_p50_by_round == (3.0, 4.0)
    assert ours.calls_per_second_by_round == (8.0, 2.7)
    assert (ours.first_byte_p50, ours.added_first_byte_p50) == (2.0, 1.0)


def test_nothing_is_added_to_the_vendor_itself() -> None:
    direct = report.figures([_round("direct", _ONE, [1.0])])[_ONE]["direct"]
    assert direct.added_p50 is None
    assert direct.added_p99 is None
    assert direct.added_p50_by_round == ()


def test_ratios_say_whether_the_aims_are_met() -> None:
    lines = report.ratios(report.figures(_all(ours=3.0, theirs=9.0)))
    assert f"{_ONE}: added p50 is 0.25 of litellm's (2.0 against 8.0 ms); aim: below 0.5, met" in lines
    assert f"{_MANY}: 2.5 times litellm's calls a second (10 against 4); aim: above 2, met" in lines
    assert f"{_STREAM}: added p50 is 0.50 of litellm's (4.0 against 8.0 ms)" in lines
    assert f"{_STREAM}: added time to first byte p50 is 0.50 of litellm's (2.0 against 4.0 ms)" in lines


def test_ratios_say_when_an_aim_is_missed() -> None:
    lines = report.ratios(report.figures(_all(ours=8.0, theirs=9.0)))
    assert f"{_ONE}: added p50 is 0.88 of litellm's (7.0 against 8.0 ms); aim: below 0.5, missed" in lines


def test_what_is_within_the_noise_makes_no_ratio() -> None:
    lines = report.ratios(report.figures(_all(ours=0.9, theirs=9.0, stream_ours=0.9)))
    assert not [line for line in lines if "added" in line]


def test_the_page_shows_every_figure_and_the_books() -> None:
    told = report.figures(_all(ours=3.0, theirs=9.0))
    about: dict[str, Any] = {
        "date": "2026-11-24 12:00 UTC",
        "commit": "abc",
        "machine": {
            "cores": 2,
            "processor": "some processor",
            "memory_gb": 24,
            "system": "Linux x86_64",
            "load_before": "0.1 0.2 0.3",
            "used_by_others_percent": 3.5,
        },
        "versions": {"fusewire": "0.1.0", "litellm": "1.2.3"},
        "money": {
            "calls": 30,
            "call_usd": "0.0005",
            "expected_usd": "0.015",
            "booked_usd": "0.015",
            "reserved_usd": "0",
            "served": 30,
        },
        "resources": {"fusewire": {"start, s": 1.5, "workers": 8}, "litellm": {"start, s": 6.5, "size, MB": 700}},
        "notes": ["as it was"],
    }
    run = report.document(about, told)
    page = report.page(json.loads(json.dumps(run)))
    assert "fusewire 0.1.0, litellm 1.2.3." in page
    assert "others used 3.5 % of the processors" in page
    assert "30 calls at 0.0005 USD are 0.015 USD; fusewire booked 0.015 USD and holds 0 USD reserved" in page
    assert "| fusewire | 3.00 | 2.00 | 2.00 to 2.00 | 3.00 | 2.00 | 10 | 10 |" in page
    assert "| direct | 1.00 |  |  | 1.00 |  | 10 | 10 |" in page
    assert "| fusewire | 5.00 | 4.00 | 4.00 to 4.00 | 5.00 | 4.00 | 2.50 | 2.00 | 10 | 10 |" in page
    assert "|  | fusewire | litellm |\n| --- | ---: | ---: |\n| start, s | 1.5 | 6.5 |" in page
    assert "| workers | 8 |  |" in page
    assert "| size, MB |  | 700 |" in page
    assert page.endswith("- as it was\n")
    assert all(f"- {line}\n" in page for line in run["ratios"])
    assert "Disturbed" not in page
    about["machine"] |= {"used_by_others_percent": 10.1}
    assert "**Disturbed:** over 10 %" in report.page(report.document(about, told))
    # Every row of a table has as many cells as its header.
    tables = [block for block in page.split("\n\n") if block.startswith("|")]
    assert len(tables) == len(SCENARIOS) + 1
    for table in tables:
        assert len({line.count("|") for line in table.splitlines()}) == 1
