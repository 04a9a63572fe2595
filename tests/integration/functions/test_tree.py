"""`/admin/budgets` over HTTP, and what callers are told of the budgets above their keys."""

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from fusewire.http.identity import Identity
from tests.integration.ai.observing import Books, LogLines
from tests.integration.functions.conftest import Functions, as_caller, asked, make_key, sample
from tests.integration.functions.test_handlers import read
from tests.support.upstream import Upstream

ADMIN = Identity("key_of_an_admin", frozenset({"admin", "complete"}))
TEAM = Identity("key_team", frozenset({"complete"}))
SAMPLE_ID = sample("admin_budgets_show")["pathParameters"]["id"]
NOBODY = "bud_" + "0" * 32

Ask = Callable[..., Any]


@pytest.fixture
def ask(functions: Functions) -> Ask:
    """`ask("admin_budgets_update", id, body)`: the answer of that sample's route, its body read."""
    functions.set(AUTH_MODE="keys")

    def asking(name: str, id: str = SAMPLE_ID, body: object = None, status: int = 200, **fields: object) -> Any:  # noqa: ANN401
        event = json.loads(json.dumps(sample(name, body)).replace(SAMPLE_ID, id)) | fields
        answer = functions("admin_budget", as_caller(ADMIN, event))
        assert answer["statusCode"] == status, answer["body"]
        return read(answer)

    return asking


def test_a_node_is_made_shown_changed_listed_and_deleted(ask: Ask, log: LogLines) -> None:
    wanted = json.loads(sample("admin_budgets_create")["body"], parse_float=Decimal)
    made = ask("admin_budgets_create", status=201)
    assert {name: made[name] for name in wanted} == wanted
    assert (made["parent_id"], made["open_threshold"], made["waiting"]) == (None, None, 0)
    assert (made["current_spend_usd"], made["reserved_usd"], made["remaining_usd"]) == (0, 0, 200)
    assert (made["state"], made["window"]) == ("CLOSED", None)
    assert made["forecast"] == {"month_end_usd": None, "exhausted_at": None}
    assert ask("admin_budgets_show", made["id"]) == made
    below = ask("admin_budgets_create", body={"name": "below", "parent_id": made["id"], "period": "day"}, status=201)
    assert (below["limit_usd"], below["remaining_usd"], below["models"]) == (None, None, None)
    changed = ask("admin_budgets_update", made["id"])
    assert changed == made | {"limit_usd": 250, "remaining_usd": 250, "models": None}
    first = ask("admin_budgets", queryStringParameters={"limit": "1"})
    assert first == {"rows": [changed], "next_cursor": made["id"]}
    rest = ask("admin_budgets", queryStringParameters={"limit": "1", "cursor": made["id"]})
    assert rest == {"rows": [below], "next_cursor": None}
    assert ask("admin_budgets_delete", made["id"], status=400)["error"]["code"] == "invalid_request_error"
    assert ask("admin_budgets_delete", below["id"]) == below
    assert ask("admin_budgets_delete", made["id"]) == changed
    assert [line["action"] for line in log.events("audit")] == [
        "budget.created", "budget.created", "budget.updated", "budget.deleted", "budget.deleted",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["show", "update", "delete", "reset"])
def test_a_node_that_isnt_there_is_a_404(ask: Ask, name: str) -> None:
    assert ask(f"admin_budgets_{name}", NOBODY, status=404)["error"]["code"] == "budget_not_found"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"name": ""}, "name"),
        ({"limit_usd": -1}, "limit_usd"),
        ({"period": "year"}, "period"),
        ({"alert_threshold": 1}, "alert_threshold"),
        ({"alert_threshold": 0.9, "open_threshold": 0.9}, "alert_threshold"),
        ({"open_threshold": 1.1}, "open_threshold"),
        ({"models": []}, "models"),
        ({"parent_id": "team"}, "parent_id"),
        ({"parent_id": NOBODY}, "parent_id"),
        ({"limit": 3}, "limit"),
    ],
)
def test_what_a_node_cant_be_names_its_field(ask: Ask, fields: dict[str, object], param: str) -> None:
    error = ask("admin_budgets_create", body={"name": "team"} | fields, status=400)["error"]
    assert error["param"] == param


def test_a_key_is_put_under_a_node_and_its_callers_are_told_no_more_than_that(
    functions: Functions, ask: Ask, upstream: Upstream, database_url: str
) -> None:
    node = ask("admin_budgets_create", body={"name": "secret project", "limit_usd": 0.000001}, status=201)
    make_key(database_url)
    put = json.loads(json.dumps(sample("admin_keys_update", {"budget_id": node["id"], "period": "week"})))
    key_id = put["pathParameters"]["id"]
    put = json.loads(json.dumps(put).replace(key_id, "key_team"))
    shown = read(functions("admin_keys", as_caller(ADMIN, put)))
    assert (shown["budget_id"], shown["period"], shown["per_user_limit_usd"]) == (node["id"], "week", None)
    answer = functions("complete", as_caller(TEAM, sample("complete")))
    error = read(answer)["error"]
    assert (answer["statusCode"], error["code"], error["budget"]) == (402, "budget_exceeded", "above")
    assert error["resets_at"] and "A budget above this key's" in error["message"]
    assert not any(hidden in answer["body"] for hidden in ("secret", node["id"], "0.000001"))
    admins = Identity("key_team", frozenset({"complete", "admin"}))
    error = read(functions("complete", as_caller(admins, sample("complete"))))["error"]
    assert error["budget"] == node["id"] and "secret project" in error["message"]
    ask("admin_budgets_update", node["id"], {"limit_usd": 5})
    cost = read(functions("complete", as_caller(TEAM, sample("complete"))))["usage"]["cost"]
    stood = ask("admin_budgets_show", node["id"])
    assert (stood["current_spend_usd"], stood["remaining_usd"], stood["state"]) == (cost, 5 - cost, "CLOSED")
    reset = ask("admin_budgets_reset", node["id"])
    assert (reset["closed"]["spent_usd"], reset["opened"]["spent_usd"]) == (cost, 0)


def test_a_key_under_a_node_that_isnt_there_is_refused(functions: Functions, ask: Ask) -> None:
    body = {"name": "k", "scopes": ["complete"], "budget_id": NOBODY}
    answer = functions("admin_keys", as_caller(ADMIN, sample("admin_keys_create", body)))
    assert (answer["statusCode"], read(answer)["error"]["param"]) == (400, "budget_id")


def test_each_format_names_its_user(
    functions: Functions, ask: Ask, upstream: Upstream, database_url: str, log: LogLines, books: Books
) -> None:
    make_key(database_url, per_user_limit_usd=1)

    def answered(function: str, name: str, **fields: object) -> dict[str, Any]:
        event = sample(name)
        event["body"] = json.dumps(json.loads(event["body"]) | fields)
        return functions(function, as_caller(TEAM, event))

    for function, name, param in (
        ("complete", "complete", "user"),
        ("complete", "complete_messages", "metadata.user_id"),
        ("complete", "complete_responses", "user"),
        ("embed", "embed", "user"),
    ):
        refused = answered(function, name)
        assert refused["statusCode"] == 400, name
        assert param in refused["body"] and "names its user" in refused["body"]
    assert upstream.billed == []
    for function, name, fields in (
        ("complete", "complete", {"user": "alice@example.com"}),
        ("complete", "complete", {"safety_identifier": "alice@example.com"}),
        ("complete", "complete_messages", {"metadata": {"user_id": "alice@example.com"}}),
        ("complete", "complete_responses", {"user": "alice@example.com"}),
        ("embed", "embed", {"user": "alice@example.com"}),
    ):
        assert answered(function, name, **fields)["statusCode"] == 200, name
    users = books.query("SELECT budget, request_count FROM budget_window WHERE budget LIKE 'user:%%'")
    assert [row["request_count"] for row in users] == [5]
    assert "alice" not in log.text
    assert functions("complete", as_caller(TEAM, asked(user="bob")))["statusCode"] == 200
    assert len(books.query("SELECT FROM budget_window WHERE budget LIKE 'user:%%'")) == 2
