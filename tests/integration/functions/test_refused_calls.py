"""What admins see of calls that were refused: gathered by key, code and minute, and nothing more for callers."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import psycopg
import pytest

from fusewire.ai.permissions import Permissions
from fusewire.budget.key_checks import KeyChecks
from fusewire.http.authorizer import UnauthorizedError
from fusewire.http.identity import Identity
from fusewire.store.db import Database
from tests.conftest import CoreFactory
from tests.integration.ai.observing import Books
from tests.integration.functions.conftest import Functions, as_caller, asked, make_key, sample
from tests.integration.functions.test_authorizer import asking, effect

TEAM = Identity("key_team", frozenset({"complete"}))
CHAT = as_caller(TEAM, sample("complete"))


def listed(functions: Functions, **query: str) -> dict[str, Any]:
    event = sample("admin_usage_calls", queryStringParameters=query)
    body: dict[str, Any] = json.loads(functions("admin_usage", event)["body"])
    return body


def gathered(functions: Functions, **query: str) -> dict[tuple[str | None, str], int]:
    """The refused calls by key and code, over all minutes: a test may run into the next."""
    found: dict[tuple[str | None, str], int] = {}
    for row in listed(functions, **query)["refused"]:
        at = row["key_id"], row["code"]
        found[at] = found.get(at, 0) + row["calls"]
    return found


def test_refusals_of_every_sort_are_gathered_by_key_and_code(functions: Functions, database_url: str) -> None:
    make_key(database_url, limit_usd=0)
    make_key(database_url, id="key_small", tokens_per_minute=1)
    make_key(database_url, id="key_sota", allowed_models=["sota"])
    make_key(database_url, id="key_gone", revoked_at=datetime.now().astimezone())
    for _ in range(3):
        assert functions("complete", CHAT)["statusCode"] == 402
    assert functions("complete", as_caller(TEAM, asked(temperature=9)))["statusCode"] == 400
    assert functions("complete", as_caller(TEAM, asked(model="nobody/gpt")))["statusCode"] == 404
    small = Identity("key_small", frozenset({"complete"}))
    assert functions("complete", as_caller(small, sample("complete")))["statusCode"] == 400
    gone = Identity("key_gone", frozenset({"complete"}))
    assert functions("complete", as_caller(gone, sample("complete")))["statusCode"] == 401
    sota = Identity("key_sota", frozenset({"complete"}), Permissions(("sota",)))
    assert functions("complete", as_caller(sota, asked(model="azure/first")))["statusCode"] == 403
    assert gathered(functions) == {
        ("key_team", "budget_exceeded"): 3,
        ("key_team", "invalid_request_error"): 1,
        ("key_team", "model_not_found"): 1,
        ("key_small", "invalid_request_error"): 1,
        ("key_gone", "invalid_api_key"): 1,
        ("key_sota", "permission_denied"): 1,
    }
    assert gathered(functions, key="key_small") == {("key_small", "invalid_request_error"): 1}
    assert gathered(functions, outcome="budget_exceeded") == {("key_team", "budget_exceeded"): 3}
    assert gathered(functions, provider="azure") == {}


def test_a_rate_limit_is_gathered_whoever_finds_it_used_up(functions: Functions, database_url: str) -> None:
    make_key(database_url, requests_per_minute=1)
    assert functions("complete", CHAT)["statusCode"] == 200
    wrong = as_caller(TEAM, asked(temperature=9))
    assert [functions("complete", each)["statusCode"] for each in (CHAT, wrong, wrong, CHAT)] == [429] * 4
    assert gathered(functions) == {("key_team", "rate_limit_exceeded"): 4}


def test_calls_without_a_key_are_gathered_too(functions: Functions) -> None:
    functions.set(AI_MONTHLY_BUDGET_USD="0")
    assert functions("complete", sample("complete"))["statusCode"] == 402
    assert gathered(functions) == {(None, "budget_exceeded"): 1}


def test_the_authorizers_refusals_of_known_keys_are_gathered(functions: Functions, database_url: str) -> None:
    functions.set(AUTH_MODE="keys", ADMIN_API_KEY="bootstrap-key-0123456789abcdef")
    make_key(database_url, revoked_at=datetime.now().astimezone())
    make_key(database_url, id="key_admin", scopes=["admin"])
    make_key(database_url, id="key_caller")
    for secret in ("fw_key_team", "fw_nobody"):
        with pytest.raises(UnauthorizedError):
            functions("authorizer", asking(secret))
    assert effect(functions("authorizer", asking("fw_key_admin"))) == "Deny"
    assert effect(functions("authorizer", asking("fw_key_caller", "admin_budget"))) == "Deny"
    assert effect(functions("authorizer", asking("fw_key_caller"))) == "Allow"
    functions.set(AUTH_MODE="open")
    assert gathered(functions) == {
        ("key_team", "invalid_api_key"): 1,
        ("key_admin", "permission_denied"): 1,
        ("key_caller", "permission_denied"): 1,
    }


def test_pages_and_times(functions: Functions, books: Books, database_url: str) -> None:
    make_key(database_url, limit_usd=0)
    functions("complete", CHAT)
    functions("complete", as_caller(TEAM, asked(temperature=9)))
    first = listed(functions, status="refused", limit="1")
    assert (first["rows"], len(first["refused"])) == ([], 1)
    rest = listed(functions, status="refused", limit="1", cursor=first["next_cursor"])
    assert [row["code"] for row in first["refused"] + rest["refused"]] == ["invalid_request_error", "budget_exceeded"]
    assert rest["next_cursor"] is None
    [row] = rest["refused"]
    assert row["last_request_id"] == CHAT["requestContext"]["requestId"]
    assert datetime.fromisoformat(row["minute"]) <= datetime.fromisoformat(row["last_at"])
    assert gathered(functions, to="2020-01-01") == gathered(functions, **{"from": "2099-01-01"}) == {}


def test_a_statement_that_is_sent_again_counts_once(core: CoreFactory, books: Books, database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        for sent in ("false", "true", "true", "false"):
            connection.execute(f"SELECT refused_call_record('key_a', 'budget_exceeded', 'request', {sent})".encode())
    assert sum(row["calls"] for row in books.query("SELECT calls FROM refused_call")) == 2


def test_there_is_a_row_a_minute_however_many_are_refused_at_once(core: CoreFactory, books: Books) -> None:
    settings = core.settings(DATABASE_URL=core.database_url)

    def many(place: int) -> None:
        database = Database(settings.database_url)
        for each in range(25):
            KeyChecks(database, settings).record_refused("key_a", "permission_denied", f"request {place} {each}")
        database.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(many, range(4)))
    rows = books.query("SELECT calls FROM refused_call")
    assert sum(row["calls"] for row in rows) == 100
    assert len(rows) <= 3


def test_a_row_lives_for_30_days(books: Books, database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("""
            INSERT INTO refused_call (id, key_id, code, minute, calls, last_at)
            SELECT (left(ledger_id_at(at)::text, 18) || right(gen_random_uuid()::text, 18))::uuid,
                   'key_a', 'x', at, 1, at
            FROM (SELECT now() - make_interval(days => 28 + n) AS at FROM generate_series(1, 150) n) old
        """)
        connection.execute("SELECT refused_call_record('key_b', 'x', 'r', false)")
        assert len(books.query("SELECT FROM refused_call")) == 51
        connection.execute("SELECT refused_call_record('key_c', 'x', 'r', false)")
    kept = books.query("SELECT FROM refused_call WHERE key_id = 'key_a' AND last_at > now() - interval '30 days'")
    assert len(kept) == 1
    assert len(books.query("SELECT FROM refused_call")) == 3
