"""What a terminal shows: every digit of money, and nothing that a terminal would obey."""

import json
from decimal import Decimal

import pytest

from cli import show


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        ("", "-"),
        ([], "-"),
        ({}, "-"),
        (True, "yes"),
        (False, "no"),
        (0, "0"),
        (Decimal("0.00000012"), "0.00000012"),
        (Decimal("1E-7"), "0.0000001"),
        (Decimal("12345678901234567890.123456789"), "12345678901234567890.123456789"),
        (["complete", "admin"], "complete, admin"),
        ({"team": "search", "n": Decimal("1.50")}, "team=search, n=1.50"),
        ("2026-11-25T09:00:00.123456+00:00", "2026-11-25 09:00:00+00:00"),
        ("2026-11-25", "2026-11-25"),
        ("2026-but-this-isn't-a-time", "2026-but-this-isn't-a-time"),
        ("[bold]x[/bold]", "[bold]x[/bold]"),
        ("\x1b[31mred\x1b[0m\r\n\u202e", "?[31mred?[0m???"),
    ],
)
def test_a_value_in_a_cell(value: object, text: str) -> None:
    assert show.cell(value) == text


def test_a_table_has_a_line_for_each_row_however_long(capsys: pytest.CaptureFixture[str]) -> None:
    rows: list[dict[str, object]] = [{"name": "x" * 300, "a": {"b_usd": Decimal("0.10")}}, {"name": "[red]y"}]
    show.table(rows, ("name", "a.b_usd"))
    head, _, first, second = [line for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert head.split() == ["name", "a.b_usd"]
    assert first.split() == ["x" * 300, "0.10"]
    assert second.split() == ["[red]y", "-"]


def test_a_total_stands_apart_and_a_tags_name_may_have_dots(capsys: pytest.CaptureFixture[str]) -> None:
    row = {"tag:cost.center": "a", "cost_usd": Decimal("0.1")}
    show.table([row], ("tag:cost.center", "cost_usd"), total={"tag:cost.center": "total", "cost_usd": Decimal("0.1")})
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert lines[0] == ["tag:cost.center", "cost_usd"]
    assert (lines[2], lines[-1]) == (["a", "0.1"], ["total", "0.1"])


def test_a_table_that_is_wider_than_the_terminal_is_a_line_for_each_value(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr("cli.show.Console.is_terminal", True)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    rows = [{"name": "x" * 20, "cost_usd": 1}, {"name": "y", "cost_usd": Decimal("0.10")}]
    show.table(rows, ("name", "cost_usd"), total={"name": "total", "cost_usd": Decimal("1.10")})
    assert "x" * 20 + "          1" in capsys.readouterr().out
    show.table([row | {"name": "x" * 50} for row in rows], ("name", "cost_usd"), total={"name": "total"})
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[:4] == [[], ["name", "x" * 50], ["cost_usd", "1"], []]
    assert lines[-3:] == [[], ["name", "total"], ["cost_usd", "-"]]


def test_a_table_without_rows_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    show.table([], ("name",))
    assert capsys.readouterr().out.endswith("(none)\n")


def test_facts_are_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    show.facts({"state": "OPEN", "window": {"id": 3}}, ("state", "window.id", "missing"))
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [["state", "OPEN"], ["window.id", "3"], ["missing", "-"]]


def test_json_is_one_document_with_every_digit(capsys: pytest.CaptureFixture[str]) -> None:
    show.as_json({"cost_usd": Decimal("0.10000000000000000001"), "name": "é"})
    printed = capsys.readouterr().out
    body = json.loads(printed, parse_float=Decimal)
    assert body == {"cost_usd": Decimal("0.10000000000000000001"), "name": "é"}
