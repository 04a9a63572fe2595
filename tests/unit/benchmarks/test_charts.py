"""Tables and charts as GitHub draws them."""

import re

import pytest

from benchmarks import charts
from tests.support.documents import PROJECT, blocks

_CHART = re.compile(
    r"xychart-beta\n"
    r'    title "[^"]+"\n'
    r'    x-axis \[("[^"]+"(, )?)+\]\n'
    r'    y-axis "[^"]+" 0 --> [\d.]+\n'
    r"    (bar|line) \[[\d.]+(, [\d.]+)*\]"
)


def test_a_table_has_names_on_the_left_and_numbers_on_the_right() -> None:
    assert charts.table([("", "a"), ("x", "1")]) == "|  | a |\n| --- | ---: |\n| x | 1 |"


def test_bars_stand_on_nothing_and_fit() -> None:
    drawn = charts.bars("Added", "ms", {"fusewire": 1.5, "litellm": 12.25})
    assert drawn.splitlines() == [
        "```mermaid",
        "xychart-beta",
        '    title "Added"',
        '    x-axis ["fusewire", "litellm"]',
        '    y-axis "ms" 0 --> 20',
        "    bar [1.5, 12.25]",
        "```",
    ]


def test_a_line_is_one() -> None:
    assert '    y-axis "ms" 0 --> 5\n    line [3.3, 3.4]' in charts.line("t", "ms", {"10,000 rows": 3.3, "more": 3.4})


@pytest.mark.parametrize(
    ("highest", "top"), [(0, "1"), (-0.2, "1"), (0.03, "0.05"), (1, "1"), (1.01, "2"), (6, "10"), (99, "100")]
)
def test_the_axis_ends_above_the_highest(highest: float, top: str) -> None:
    assert f"0 --> {top}\n" in charts.bars("t", "x", {"one": highest})


def test_no_bar_is_below_nothing() -> None:
    assert "bar [0, 2]" in charts.bars("t", "x", {"noise": -0.3, "two": 2})


def test_the_pages_charts_can_be_drawn() -> None:
    for block in blocks(PROJECT / "docs" / "benchmarks.md"):
        if block.language == "mermaid":
            assert _CHART.fullmatch(block.text.strip()), block.text
