"""The part of CloudWatch's query language that the saved queries use, by what each word does to lines."""

from decimal import Decimal
from typing import Any

import pytest

from fusewire.json import dumps
from tests.support.insights import QueryError, parse

LINES = [
    {"timestamp": "2026-11-01T23:59:59.000+00:00", "event": "a", "usd": Decimal("0.1"), "ms": 30, "who": "x"},
    {"timestamp": "2026-11-02T00:00:01.000+00:00", "event": "a", "usd": Decimal("0.2"), "ms": 10, "who": "y"},
    {"timestamp": "2026-11-02T00:07:00.000+00:00", "event": "b", "usd": Decimal("0.3"), "ms": 20, "who": "x"},
    {"timestamp": "2026-11-02T00:08:00.000+00:00", "event": "c", "window": {"spent": {"usd": 5}}, "who": "x.y"},
]


def run(text: str, lines: list[dict[str, Any]] | None = None) -> list[dict[str, Any]]:
    return parse(text).run([dumps(line) for line in (LINES if lines is None else lines)])


@pytest.mark.parametrize(
    ("condition", "kept"),
    [
        ('event = "a"', "ab"),
        ("event = 'a'", "ab"),
        ('event != "a"', "cd"),
        ('event in ["b", "c"]', "cd"),
        ('event = "a" and who = "y"', "b"),
        ('event = "a" or event = "b" and who = "y"', "ab"),
        ('(event = "a" or event = "b") and who = "x"', "ac"),
        ('not event = "a"', "cd"),
        ("usd > 0.1", "bc"),
        ("usd >= 0.1", "abc"),
        ("ms < 20", "b"),
        ("ms <= 20", "bc"),
        ('who like "x."', "d"),
        ("who like /^x$/", "ac"),
        ('who not like "x"', "b"),
        ("window.spent.usd = 5", "d"),
        ("missing != 5", ""),
        ('@timestamp < "2026-11-02"', "a"),
    ],
)
def test_a_filter_keeps_the_lines_that_it_is_true_of(condition: str, kept: str) -> None:
    every = run("fields @message")
    assert "".join("abcd"[every.index(row)] for row in run(f"filter {condition} | fields @message")) == kept


def test_fields_are_columns_in_their_order_and_what_is_missing_is_missing() -> None:
    assert run("fields who, usd, ms as milliseconds | limit 1") == [
        {"who": "x", "usd": Decimal("0.1"), "milliseconds": 30}
    ]
    assert run('filter event = "c" | fields usd, who') == [{"who": "x.y"}]
    assert parse("fields who, usd, ms as milliseconds").columns == ("who", "usd", "milliseconds")


def test_money_is_summed_exactly_and_grouped_by_day() -> None:
    assert run("stats sum(usd) as usd, count(*) as lines, count(usd) as booked by bin(1d) as day") == [
        {"day": "2026-11-01 00:00:00", "usd": Decimal("0.1"), "lines": 1, "booked": 1},
        {"day": "2026-11-02 00:00:00", "usd": Decimal("0.5"), "lines": 3, "booked": 2},
    ]


def test_a_bin_begins_on_its_own_multiple_in_utc() -> None:
    line = {"timestamp": "2026-11-02T01:14:59+01:00"}
    assert run("stats count(*) as n by bin(5m) as at", [line]) == [{"at": "2026-11-02 00:10:00", "n": 1}]
    assert run("stats count(*) as n by bin(1h) as at", [line]) == [{"at": "2026-11-02 00:00:00", "n": 1}]


def test_each_aggregate_is_over_the_lines_that_have_the_field() -> None:
    rows = run(
        "stats min(ms) as least, max(ms) as most, min(event) as first, latest(ms) as last, pct(ms, 50) as half, "
        "pct(ms, 99) as nearly, sum(nothing) as nothing, count(nothing) as none"
    )
    assert rows == [{"least": 10, "most": 30, "first": "a", "last": 20, "half": 20, "nearly": 30, "none": 0}]


def test_a_column_of_stats_can_be_filtered_and_sorted() -> None:
    text = "stats sum(ms) as total by who | filter total > 9 | sort total desc | limit 1"
    assert run(text) == [{"who": "x", "total": 50}]
    assert parse(text).names == {"ms", "who"}


def test_sorting_is_by_number_and_what_has_none_comes_first() -> None:
    numbers: list[dict[str, Any]] = [{"n": 10}, {"n": 9}, {}, {"n": "text"}]
    assert run("fields n | sort n", numbers) == [{}, {"n": "text"}, {"n": 9}, {"n": 10}]
    assert run("fields n | sort n asc | limit 1", numbers) == [{}]
    assert run("fields n | sort n desc | limit 1", numbers) == [{"n": 10}]


def test_lines_that_are_no_json_objects_are_passed_over() -> None:
    assert parse("fields a").run(["not json", "[1]", '"x"', "", '{"a":1}\n']) == [{"a": 1}]


def test_a_line_that_is_a_comment_is_no_part_of_the_query() -> None:
    query = parse('# a | "question"?\nfilter event = "a"\n # how many?\n| stats count(*) as n\n')
    assert query.run(['{"event":"a"}']) == [{"n": 1}]
    assert (set(query.names), set(query.values)) == ({"event"}, {"a"})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "display x",
        "fields",
        "filter event",
        'filter event = "a" or',
        "filter event like 5",
        "filter (event = 'a'",
        "filter event in 'a'",
        "stats count(*)",
        "stats median(x) as y",
        "stats sum(x as y",
        "stats count(*) as n by bin(1d)",
        "stats count(*) as n by bin(1w) as week",
        "stats count(*) as n by bin(5ms) as at",
        "limit x",
        "sort x desc, y",
        "fields x | ",
        "fields x fields y",
        "fields x ; y",
    ],
)
def test_what_isnt_in_this_part_of_the_language_is_refused(text: str) -> None:
    with pytest.raises(QueryError):
        parse(text)
