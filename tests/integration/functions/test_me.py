"""`GET /me`: what the caller's key may do and has spent, and nothing of anybody else's."""

import json
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest

from fusewire.http.identity import Identity
from tests.integration.functions.conftest import Functions, as_caller, make_key, sample
from tests.integration.functions.test_handlers import read

TEAM = Identity("key_team", frozenset({"complete"}))


@pytest.fixture
def with_keys(functions: Functions) -> Functions:
    functions.set(AUTH_MODE="keys")
    return functions


def me(functions: Functions, identity: Identity, name: str = "models_me", **query: str) -> dict[str, Any]:
    answer = functions("models", as_caller(identity, sample(name, queryStringParameters=query or None)))
    assert answer["statusCode"] == 200, answer["body"]
    row: dict[str, Any] = read(answer)
    return row


def test_a_key_is_told_its_limits_and_what_it_has_spent(with_keys: Functions, database_url: str) -> None:
    make_key(database_url, limit_usd=10, requests_per_minute=5, allowed_models=["sota"])
    fresh = me(with_keys, TEAM)
    assert (fresh["id"], fresh["name"], fresh["scopes"]) == ("key_team", "team", ["complete"])
    assert (fresh["monthly_budget_usd"], fresh["remaining_usd"], fresh["current_spend_usd"]) == (10, 10, 0)
    assert (fresh["state"], fresh["window"], fresh["minute"]) == ("CLOSED", None, None)
    assert (fresh["allowed_models"], fresh["allowed_classifications"]) == (["sota"], None)
    cost = read(with_keys("complete", as_caller(TEAM, sample("complete"))))["usage"]["cost"]
    after = me(with_keys, TEAM)
    assert (after["current_spend_usd"], after["remaining_usd"]) == (cost, 10 - cost)
    assert after["minute"]["requests_left"] == 4
    assert after["window"]["id"]


def test_nothing_of_the_company_or_of_another_key_is_told(with_keys: Functions, database_url: str) -> None:
    make_key(database_url, tags=json.dumps({"note": "sentinel"}), limit_usd=1)
    make_key(database_url, id="key_other")
    with_keys.set(AI_MONTHLY_BUDGET_USD="4711.25")
    other = Identity("key_other", frozenset({"complete"}))
    cost = read(with_keys("complete", as_caller(other, sample("complete"))))["usage"]["cost"]
    assert cost > 0
    row = me(with_keys, TEAM)
    assert (row["current_spend_usd"], row["remaining_usd"]) == (0, 1)
    text = json.dumps(row, default=str)
    assert not [word for word in ("sentinel", "4711", "key_other", "created_by") if word in text]


@pytest.mark.parametrize("scope", ["read", "admin"])
def test_every_valid_key_may_ask(with_keys: Functions, database_url: str, scope: str) -> None:
    make_key(database_url, scopes=[scope])
    row = me(with_keys, Identity("key_team", frozenset({scope})))
    assert (row["scopes"], row["monthly_budget_usd"], row["remaining_usd"]) == ([scope], None, None)


def test_whoever_has_no_key_of_the_database_has_no_budget_of_their_own(functions: Functions) -> None:
    bootstrap = me(functions, Identity("bootstrap", frozenset({"admin", "complete"})))
    nobody = read(functions("models", sample("models_me")))
    assert (bootstrap.pop("id"), nobody.pop("id")) == ("bootstrap", None)
    assert bootstrap == nobody
    assert bootstrap.pop("scopes") == ["admin", "complete"]
    assert bootstrap.pop("timezone") == "UTC"
    assert set(bootstrap.values()) == {None}


@pytest.mark.parametrize("column", ["revoked_at", "expires_at"])
def test_a_key_that_ended_since_the_authorizer_saw_it_is_refused(
    with_keys: Functions, database_url: str, column: str
) -> None:
    make_key(database_url)
    with psycopg.connect(database_url) as connection:
        connection.execute(f"UPDATE api_key SET {column} = now()".encode())  # noqa: S608 - a test's own
    answer = with_keys("models", as_caller(TEAM, sample("models_me")))
    assert (answer["statusCode"], read(answer)["error"]["code"]) == (401, "invalid_api_key")


def test_a_key_sees_its_own_usage_by_days_of_the_budgets_zone(with_keys: Functions, database_url: str) -> None:
    zone = "Pacific/Kiritimati"  # UTC+14
    with_keys.set(AI_BUDGET_TIMEZONE=zone, AI_MONTHLY_BUDGET_USD="4711.25")
    make_key(database_url, tags=json.dumps({"note": "sentinel"}))
    make_key(database_url, id="key_other")
    other = Identity("key_other", frozenset({"complete", "admin"}))
    costs = [read(with_keys("complete", as_caller(TEAM, sample("complete"))))["usage"]["cost"] for _ in range(2)]
    for caller in (other, Identity("bootstrap", frozenset({"admin", "complete"}))):
        read(with_keys("complete", as_caller(caller, sample("complete"))))
    read(with_keys("embed", as_caller(TEAM, sample("embed"))))
    assert me(with_keys, TEAM)["timezone"] == zone
    today = datetime.now(ZoneInfo(zone)).date().isoformat()

    by_model = me(with_keys, TEAM, "models_my_usage", group_by="day,model", **{"from": today, "to": today})
    chat, vectors = by_model["rows"]
    assert (chat["day"], chat["model"], chat["cost_usd"], chat["requests"]) == (today, "first", sum(costs), 2)
    assert (vectors["day"], vectors["model"], vectors["requests"]) == (today, "first-embedding", 1)
    assert by_model["total"]["cost_usd"] == chat["cost_usd"] + vectors["cost_usd"]
    assert me(with_keys, other, "models_my_usage")["total"]["requests"] == 1
    first = me(with_keys, TEAM, "models_my_usage", group_by="model", limit="1")
    second = me(with_keys, TEAM, "models_my_usage", group_by="model", limit="1", cursor=first["next_cursor"])
    assert [page["rows"][0]["model"] for page in (first, second)] == ["first", "first-embedding"]
    tomorrow = (date.fromisoformat(today) + timedelta(days=1)).isoformat()
    assert me(with_keys, TEAM, "models_my_usage", **{"from": tomorrow})["total"]["cost_usd"] == 0
    text = json.dumps([by_model, first, second], default=str)
    assert not [word for word in ("sentinel", "4711", "key_other", "window") if word in text]


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("group_by", "key"),
        ("group_by", "tag:note"),
        ("group_by", "day,day"),
        ("key", "key_other"),
        ("month", "2026-11"),
    ],
)
def test_nobody_elses_usage_can_be_asked_for(
    with_keys: Functions, database_url: str, parameter: str, value: str
) -> None:
    make_key(database_url)
    event = sample("models_my_usage", queryStringParameters={parameter: value})
    answer = with_keys("models", as_caller(TEAM, event))
    assert (answer["statusCode"], read(answer)["error"]["param"]) == (400, parameter)


def test_amounts_are_exact(with_keys: Functions, database_url: str) -> None:
    make_key(database_url, limit_usd=Decimal("0.123456"))
    assert me(with_keys, TEAM)["remaining_usd"] == Decimal("0.123456")
