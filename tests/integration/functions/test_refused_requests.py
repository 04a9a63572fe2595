"""What a key's rate limit counts though nothing is reserved for it: bodies that fail, and refused admin calls."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from fusewire.http.identity import Identity
from tests.integration.ai.observing import Books, LogLines
from tests.integration.functions.conftest import Functions, as_caller, asked, make_key, sample
from tests.integration.functions.test_authorizer import asking, effect
from tests.support.upstream import Upstream, status

TEAM = Identity("key_team", frozenset({"complete"}))
EMPTY_CALLS = {"messages": [{"role": "assistant", "tool_calls": [{}] * 49_000}]}


@pytest.fixture
def limited(functions: Functions, database_url: str) -> Functions:
    make_key(database_url, requests_per_minute=3)
    return functions


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What is asked of Postgres."""
    from fusewire.store.db import _Link

    asked_for: list[str] = []
    run = _Link.run

    def noting(connection: Any, sql: str, argument: Any, seconds: float) -> object:  # noqa: ANN401 - as it is called
        asked_for.append(sql.removeprefix("SELECT ").partition("(")[0])
        return run(connection, sql, argument, seconds)

    monkeypatch.setattr(_Link, "run", staticmethod(noting))
    yield asked_for


def code(answer: dict[str, Any]) -> tuple[int, str]:
    return answer["statusCode"], json.loads(answer["body"])["error"]["code"]


WRONG: dict[str, tuple[str, dict[str, Any]]] = {
    "a body": ("complete", asked(temperature=9)),
    "no JSON": ("complete", sample("complete") | {"body": "{"}),
    "empty tool calls": ("complete", asked(**EMPTY_CALLS)),
    "another format": ("complete", sample("complete_messages", {"model": "m"})),
    "a third": ("complete", sample("complete_responses", {"model": "m", "input": 5})),
    "an encoding": ("complete", sample("complete", headers={"Content-Encoding": "gzip"})),
    "vectors": ("embed", sample("embed", {"model": "m", "input": []})),
    "a model that nobody has": ("complete", asked(model="openai2/gpt")),
    "a field that nobody honours": ("complete", asked(model="vllm/x")),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_request_that_fails_uses_up_the_minute(limited: Functions, what: str) -> None:
    function, event = WRONG[what]
    event = as_caller(TEAM, event)
    for _ in range(3):
        assert limited(function, event)["statusCode"] in (400, 404)
    for _ in range(2):
        answer = limited(function, event)
        assert answer["statusCode"] == 429
        assert 0 < int(answer["headers"]["Retry-After"]) <= 60
    assert code(limited("complete", as_caller(TEAM, sample("complete")))) == (429, "rate_limit_exceeded")


def test_what_fails_beyond_the_limit_is_not_even_read(limited: Functions, monkeypatch: pytest.MonkeyPatch) -> None:
    event = as_caller(TEAM, asked(**EMPTY_CALLS))
    for _ in range(4):
        limited("complete", event)
    monkeypatch.setattr("fusewire.http.request.Request.body", lambda *args, **kwargs: pytest.fail("it was read"))
    assert code(limited("complete", event)) == (429, "rate_limit_exceeded")


def test_a_good_call_asks_postgres_for_nothing_more(limited: Functions, statements: list[str]) -> None:
    assert limited("complete", as_caller(TEAM, sample("complete")))["statusCode"] == 200
    assert statements == ["ledger_reserve", "ledger_settle"]


def test_a_call_that_was_reserved_for_counts_once(limited: Functions, upstream: Upstream, books: Books) -> None:
    for _ in range(3):
        upstream.script.append(status(400))
        assert limited("complete", as_caller(TEAM, asked(model="azure/first")))["statusCode"] == 400
    [row] = books.query("SELECT rate_requests FROM budget_window WHERE budget = 'key_team'")
    assert row["rate_requests"] == 3


def test_a_limit_that_was_raised_holds_at_once(limited: Functions, books: Books, database_url: str) -> None:
    wrong = as_caller(TEAM, asked(temperature=9))
    answers = [limited("complete", wrong)["statusCode"] for _ in range(4)]
    assert answers == [400, 400, 400, 429]
    books.query("UPDATE api_key SET requests_per_minute = 5 RETURNING id")
    assert limited("complete", as_caller(TEAM, sample("complete")))["statusCode"] == 200


def test_callers_without_a_key_or_a_limit_are_answered_as_before(
    functions: Functions, database_url: str, statements: list[str]
) -> None:
    make_key(database_url)
    for event in (asked(temperature=9), as_caller(TEAM, asked(temperature=9))):
        assert {functions("complete", event)["statusCode"] for _ in range(4)} == {400}
    bootstrap = Identity("bootstrap", frozenset({"complete", "admin"}))
    statements.clear()
    assert functions("complete", as_caller(bootstrap, asked(temperature=9)))["statusCode"] == 400
    assert statements == []


def test_without_a_database_a_wrong_body_is_wrong(functions: Functions, log: LogLines) -> None:
    functions.set(DATABASE_URL="postgresql://127.0.0.1:1/nowhere")
    assert functions("complete", as_caller(TEAM, asked(temperature=9)))["statusCode"] == 400
    assert len(log.events("ledger.unavailable")) == 1


def test_a_refused_admin_call_uses_up_the_keys_minute(limited: Functions) -> None:
    limited.set(AUTH_MODE="keys", ADMIN_API_KEY="bootstrap-key-0123456789abcdef")
    for _ in range(3):
        assert effect(limited("authorizer", asking("fw_key_team", "admin_budget"))) == "Deny"
    assert code(limited("complete", as_caller(TEAM, sample("complete")))) == (429, "rate_limit_exceeded")
