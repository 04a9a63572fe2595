"""The tree of budgets in a terminal: indented as it is, and changed by what is named."""

import json
from typing import Any

import pytest

from cli.__main__ import main
from cli.budgets import indented
from tests.unit.cli.conftest import Server, refused


def node(id: str, parent: str | None = None, **fields: object) -> dict[str, Any]:
    return {
        "id": id,
        "name": id.upper(),
        "parent_id": parent,
        "limit_usd": 5,
        "period": "month",
        "models": None,
    } | fields


def test_the_tree_is_indented_in_the_order_of_names() -> None:
    rows = [node("b"), node("b2", "b"), node("a"), node("b1", "b"), node("b11", "b1"), node("z", "not-shown")]
    assert [row["name"] for row in indented(rows)] == ["A", "B", "  B1", "    B11", "  B2", "Z"]


def test_the_tree_is_a_table(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.will({"rows": [node("b", "a", state="OPEN", current_spend_usd=4.5), node("a")], "next_cursor": None})
    assert main(["budgets"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert lines[-2].startswith(" A ") and lines[-1].startswith("   B ")
    assert "OPEN" in lines[-1] and "4.5" in lines[-1]
    assert server.asked[0][:2] == ("GET", "/api/v1/admin/budgets?limit=1000")


def test_scripts_get_the_rows_as_they_are(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [node("b", "a"), node("a")]
    server.will({"rows": rows, "next_cursor": None})
    assert main(["budgets", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"rows": rows}


@pytest.mark.parametrize(
    ("arguments", "method", "path", "body"),
    [
        (["create", "team"], "POST", "", {"name": "team"}),
        (
            ["create", "team", "--under", "bud_1", "--limit", "0.10", "--period", "day", "--alert", "0.5",
             "--open", "0.9", "--model", "sota", "--model", "openai/*"],
            "POST", "",
            {"name": "team", "parent_id": "bud_1", "limit_usd": 0.1, "period": "day", "alert_threshold": 0.5,
             "open_threshold": 0.9, "models": ["sota", "openai/*"]},
        ),
        (["update", "bud_1", "--limit", "none", "--model", "none", "--period", "none", "--yes"], "PATCH", "/bud_1",
         {"limit_usd": None, "models": None, "period": "none"}),
        (["update", "bud_1", "--name", "new", "--yes"], "PATCH", "/bud_1", {"name": "new"}),
        (["move", "bud_1", "--under", "bud_2", "--yes"], "PATCH", "/bud_1", {"parent_id": "bud_2"}),
        (["move", "bud_1", "--under", "none", "--yes"], "PATCH", "/bud_1", {"parent_id": None}),
        (["show", "bud_1"], "GET", "/bud_1", None),
        (["delete", "bud_1", "--yes"], "DELETE", "/bud_1", None),
    ],
)  # fmt: skip
def test_a_command_sends_what_is_named(
    server: Server, arguments: list[str], method: str, path: str, body: dict[str, Any] | None
) -> None:
    server.will(node("bud_1") | {"window": None, "forecast": {"month_end_usd": None, "exhausted_at": None}})
    assert main(["budgets", *arguments]) == 0
    [(sent, asked, _, content)] = server.asked
    assert (sent, asked) == (method, f"/api/v1/admin/budgets{path}")
    assert (json.loads(content) if content else None) == body


def test_a_reset_shows_both_windows(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    window = {"id": 1, "opened_at": "2026-11-01T00:00:00Z", "closed_at": None, "spent_usd": 3, "reserved_usd": 0}
    server.will({"closed": window, "opened": window | {"id": 2, "spent_usd": 0}})
    assert main(["budgets", "reset", "bud_1", "--reason", "agreed", "--yes"]) == 0
    assert server.asked[0][1] == "/api/v1/admin/budgets/bud_1/reset"
    assert json.loads(server.asked[0][3]) == {"reason": "agreed"}
    assert "closed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("budgets", "update", "bud_1", "--yes"), "say what to change"),
        (("budgets", "update", "bud_1", "--limit", "1"), "--yes"),
        (("budgets", "delete", "bud_1"), "--yes"),
        (("budgets", "reset", "bud_1"), "--yes"),
        (("budgets", "move", "bud_1", "--under", "none"), "--yes"),
        (("budgets", "create", "x", "--limit", "much"), "--limit much can't be used"),
    ],
)
def test_nothing_is_sent_before_it_is_sure(
    server: Server, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: str
) -> None:
    assert words in refused(*arguments, capsys=capsys)
    assert server.asked == []


def test_a_keys_place_and_scopes(server: Server) -> None:
    server.will({"id": "key_1", "key": "fw_x"})
    assert main(["keys", "create", "lead", "--scope", "admin", "--scope-budget", "bud_1", "--under", "bud_2",
                 "--period", "week", "--per-user", "0.5"]) == 0  # fmt: skip
    server.will({"id": "key_1"})
    assert main(["keys", "update", "key_1", "--scope-budget", "none", "--under", "none", "--per-user", "none",
                 "--period", "none"]) == 0  # fmt: skip
    assert [json.loads(asked[3]) for asked in server.asked] == [
        {"name": "lead", "scopes": ["admin"], "scope_budget_id": "bud_1", "budget_id": "bud_2",
         "per_user_limit_usd": 0.5, "period": "week"},
        {"scope_budget_id": None, "budget_id": None, "per_user_limit_usd": None, "period": "none"},
    ]  # fmt: skip


def test_spend_by_budget_has_its_path_and_its_id(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    sums = {"cost_usd": 1, "requests": 2, "input_tokens": 3, "output_tokens": 4}
    row = {"budget": "Engineering / Search", "budget_id": "bud_2", "key": "key_1"} | sums
    for _ in range(2):
        server.will({"rows": [row], "total": sums, "next_cursor": None})
    assert main(["usage", "--by", "budget,key", "--budget", "bud_1"]) == 0
    assert "budget=bud_1" in server.asked[0][1]
    assert "Engineering / Search" in (output := capsys.readouterr().out) and "bud_2" in output
