"""Which caller may do what, at every route, and what each may learn of the budgets."""

import json
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from fusewire.ai.permissions import Permissions
from fusewire.http.identity import Identity
from tests.integration.ai.observing import Books
from tests.integration.functions.conftest import Functions, as_caller, asked, make_key, sample
from tests.integration.functions.test_handlers import REST, function_of, read
from tests.support.upstream import Upstream

FOR_EVERYBODY = {"health", "health_openapi"}
TEAM, ADMIN = Identity("key_team", frozenset({"complete"})), Identity("bootstrap", frozenset({"admin"}))


def scopes_of(name: str) -> set[str] | None:
    """Any of what a sample's route needs beyond a valid key; None where that will do."""
    if name.startswith("admin_"):
        return {"admin", "read"} if sample(name)["httpMethod"] == "GET" else {"admin"}
    return None if name.startswith("models") else {"complete"}


@pytest.fixture
def with_keys(functions: Functions) -> Functions:
    functions.set(AUTH_MODE="keys")
    return functions


@pytest.mark.parametrize("name", sorted(set(REST) - FOR_EVERYBODY))
def test_a_route_lets_in_nobody_whom_the_authorizer_has_not_seen(with_keys: Functions, name: str) -> None:
    answer = with_keys(function_of(name), sample(name))
    assert answer["statusCode"] == 401
    assert "invalid_api_key" in answer["body"]
    assert answer["headers"]["x-should-retry"] == "false"


@pytest.mark.parametrize("name", sorted(FOR_EVERYBODY))
def test_health_and_the_document_are_for_everybody(with_keys: Functions, name: str) -> None:
    assert with_keys(function_of(name), sample(name))["statusCode"] == 200


@pytest.mark.parametrize("name", sorted(set(REST) - FOR_EVERYBODY))
def test_a_route_is_for_those_with_its_scope(
    with_keys: Functions, upstream: Upstream, database_url: str, name: str
) -> None:
    make_key(database_url, id="key_of_this_test")
    needed = scopes_of(name)
    without_probe = {"queryStringParameters": None, "multiValueQueryStringParameters": None}
    for scopes in ((), ("complete",), ("read",), ("admin",), ("complete", "admin"), ("complete", "read")):
        caller = Identity("key_of_this_test", frozenset(scopes))
        asked_before = len(upstream.requests)
        answer = with_keys(function_of(name), as_caller(caller, sample(name) | without_probe))
        if needed is None or needed & set(scopes):
            assert answer["statusCode"] not in (401, 403)
        else:
            assert answer["statusCode"] == 403
            assert "permission_denied" in answer["body"]
            assert len(upstream.requests) == asked_before


def test_without_keys_a_page_that_nobody_knows_resets_and_spends_nothing(
    functions: Functions, upstream: Upstream, books: Books
) -> None:
    for name in ("admin_budget_reset", "complete", "complete_messages", "embed"):
        event = sample(name)
        event["headers"] = event["headers"] | {"origin": "https://evil.example"}
        answer = functions(function_of(name), event)
        assert (answer["statusCode"], "CORS_ORIGINS" in answer["body"]) == (403, True)
    assert not upstream.requests
    assert not books.query("SELECT FROM budget_window")


@pytest.mark.parametrize("headers", [{"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}])
def test_without_keys_a_page_that_nobody_knows_probes_nobody(
    functions: Functions, upstream: Upstream, headers: dict[str, str]
) -> None:
    event = sample("admin_providers")
    event["headers"] = event["headers"] | headers
    answer = functions("admin_providers", event | {"queryStringParameters": {"probe": "true"}})
    assert (answer["statusCode"], "CORS_ORIGINS" in answer["body"]) == (403, True)
    assert not upstream.requests
    # Without the probe it spends nothing, and what it answers no such page can read.
    assert functions("admin_providers", event | {"queryStringParameters": None})["statusCode"] == 200


def test_a_resets_actor_is_the_callers_key(with_keys: Functions, books: Books) -> None:
    with_keys("admin_budget", as_caller(ADMIN, sample("admin_budget_reset")))
    assert [entry["actor"] for entry in books.query("SELECT actor FROM audit")] == ["bootstrap"]


def test_a_call_is_booked_on_the_callers_key(with_keys: Functions, database_url: str, books: Books) -> None:
    make_key(database_url)
    with_keys("complete", as_caller(TEAM, sample("complete")))
    with_keys("embed", as_caller(TEAM, sample("embed")))
    assert {entry["key_id"] for entry in books.entries()} == {"key_team"}


def test_a_key_gets_only_the_models_and_the_data_that_it_may(with_keys: Functions, upstream: Upstream) -> None:
    caller = Identity("key_team", frozenset({"complete"}), Permissions(("openai/*",), ("public",)))
    answer = with_keys("complete", as_caller(caller, asked(model="azure/first")))
    assert (answer["statusCode"], read(answer)["error"]["param"]) == (403, "model")
    confidential = asked(model="openai/second") | {"headers": {"x-fusewire-classification": "confidential"}}
    answer = with_keys("complete", as_caller(caller, confidential))
    assert (answer["statusCode"], read(answer)["error"]["param"]) == (403, "x-fusewire-classification")
    assert not upstream.requests
    assert with_keys("complete", as_caller(caller, asked(model="sota")))["headers"]["x-fusewire-provider"] == "openai"


def test_a_key_lists_what_it_may_ask_for(with_keys: Functions) -> None:
    def listed(*allowed: str) -> list[str]:
        caller = Identity("key_team", frozenset({"complete"}), Permissions(allowed or None))
        return [model["id"] for model in read(with_keys("models", as_caller(caller, sample("models"))))["data"]]

    assert listed() == ["sota", "azure/first", "azure/first-embedding", "openai/second"]
    assert listed("sota") == ["sota"]
    assert listed("openai/*") == ["sota", "openai/second"]
    assert listed("nothing-there-is") == []


def shown(answer: dict[str, Any]) -> tuple[str, str | None]:
    headers = answer["headers"]
    return headers["x-fusewire-budget-state"], headers.get("x-fusewire-budget-remaining-usd")


def test_amounts_are_told_to_those_whose_they_are(with_keys: Functions, database_url: str, books: Books) -> None:
    make_key(database_url)
    assert shown(with_keys("complete", as_caller(TEAM, sample("complete")))) == ("CLOSED", None)
    both = Identity("bootstrap", frozenset({"admin", "complete"}))
    state, remaining = shown(with_keys("complete", as_caller(both, sample("complete"))))
    [company] = books.query("SELECT spent FROM budget_window WHERE budget = 'global'")
    assert (state, Decimal(remaining or 0)) == ("CLOSED", 500 - company["spent"])


def test_a_key_with_a_budget_is_told_its_own_and_the_worse_state(with_keys: Functions, database_url: str) -> None:
    make_key(database_url, limit_usd=10)
    with_keys.set(AI_MONTHLY_BUDGET_USD="100", AI_BUDGET_ALERT_THRESHOLD="0.5")
    # spent of the company and of the key, and the state that the key is told
    for company, own, state in ((0, 0, "CLOSED"), (0, 6, "HALF_OPEN"), (60, 0, "HALF_OPEN"), (60, 6, "HALF_OPEN")):
        with psycopg.connect(database_url) as connection:
            connection.execute("UPDATE budget_window SET spent = %s WHERE budget = 'global'", (company,))
            connection.execute("UPDATE budget_window SET spent = %s WHERE budget = 'key_team'", (own,))
        answer = with_keys("complete", as_caller(TEAM, sample("complete")))
        result, remaining = shown(answer)
        assert (result, Decimal(remaining or 0)) == (state, 10 - own - read(answer)["usage"]["cost"])


def test_a_refusal_tells_no_amount_of_the_company(with_keys: Functions, database_url: str) -> None:
    make_key(database_url, limit_usd=1)
    with_keys.set(AI_MONTHLY_BUDGET_USD="0.000123")
    answer = with_keys("complete", as_caller(TEAM, sample("complete")))
    assert (answer["statusCode"], read(answer)["error"]["budget"]) == (402, "global")
    assert "0.000123" not in json.dumps(answer)
    assert "x-fusewire-budget-remaining-usd" not in answer["headers"]


def test_a_minute_is_told_with_every_answer_and_refusal(with_keys: Functions, database_url: str) -> None:
    make_key(database_url, requests_per_minute=2, tokens_per_minute=100_000)
    event = as_caller(TEAM, asked())
    left = [with_keys("complete", event)["headers"] for _ in range(2)]
    assert [each["x-ratelimit-remaining-requests"] for each in left] == ["1", "0"]
    assert left[0]["x-ratelimit-limit-requests"] == "2"
    assert left[0]["x-ratelimit-limit-tokens"] == "100000"
    assert 99_000 < int(left[1]["x-ratelimit-remaining-tokens"]) < int(left[0]["x-ratelimit-remaining-tokens"])
    refused = with_keys("complete", event)
    assert (refused["statusCode"], read(refused)["error"]["code"]) == (429, "rate_limit_exceeded")
    assert 1 <= int(refused["headers"]["Retry-After"]) <= 60
    assert refused["headers"]["x-ratelimit-remaining-requests"] == "0"
    assert refused["headers"]["x-ratelimit-reset-requests"].endswith("s")


def test_a_stream_tells_its_minute_too(with_keys: Functions, database_url: str) -> None:
    make_key(database_url, requests_per_minute=2, limit_usd=1)
    streamed = with_keys.stream("complete", as_caller(TEAM, asked(stream=True)))
    assert streamed.headers["x-ratelimit-remaining-requests"] == "1"
    assert 0 < Decimal(streamed.headers["x-fusewire-budget-remaining-usd"]) < 1
    list(streamed.chunks)


def test_a_key_that_was_revoked_since_it_was_checked_is_refused_by_the_ledger(
    with_keys: Functions, upstream: Upstream, database_url: str
) -> None:
    make_key(database_url)
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE api_key SET revoked_at = now()")
    answer = with_keys("complete", as_caller(TEAM, sample("complete")))
    assert (answer["statusCode"], read(answer)["error"]["code"]) == (401, "invalid_api_key")
    assert not upstream.requests
