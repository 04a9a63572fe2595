"""The authorizer as API Gateway invokes it: a policy for one request, or one and the same 401."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString

import psycopg
import pytest

from fusewire.config import ConfigurationError, load_settings
from fusewire.errors import LedgerUnavailableError
from fusewire.http.authorizer import UnauthorizedError, secret_of, sends_fusewire_key
from fusewire.http.identity import Identity, identity_of
from tests.integration.ai.observing import Books, LogLines
from tests.integration.functions.conftest import Functions, make_key, sample
from tests.integration.functions.test_handlers import REST
from tests.integration.functions.test_identity import FOR_EVERYBODY, scopes_of

ADMIN_KEY = "bootstrap-key-0123456789abcdef"
SECRET = "fw_key_team"  # noqa: S105 - what `make_key` gives it
KEYS = load_settings({"AUTH_MODE": "keys"})


@pytest.fixture
def guarded(functions: Functions) -> Functions:
    functions.set(AUTH_MODE="keys", ADMIN_API_KEY=ADMIN_KEY)
    return functions


@pytest.fixture
def measured(guarded: Functions) -> Functions:
    guarded.set(FUSEWIRE_METRICS_NAMESPACE="fusewire/test")
    return guarded


def asking(secret: str | None, name: str = "complete", **headers: str) -> dict[str, Any]:
    """The REQUEST event before this sample reaches its function."""
    event = sample(name)
    kept = {each: event[each] for each in ("resource", "path", "httpMethod", "requestContext")}
    sent = headers if secret is None else headers | {"Authorization": f"Bearer {secret}"}
    return sample("authorizer") | kept | {"headers": sent}


def identity(answer: dict[str, Any]) -> Identity:
    """Whom the route's function takes the caller for."""
    return identity_of({"requestContext": {"authorizer": answer["context"]}}, KEYS)


def effect(answer: dict[str, Any]) -> str:
    [statement] = answer["policyDocument"]["Statement"]
    return str(statement["Effect"])


def test_a_valid_key_gets_a_policy_for_this_one_request(guarded: Functions, database_url: str) -> None:
    make_key(database_url, allowed_models=["sota"], allowed_classifications=["public"])
    answer = guarded("authorizer", asking(SECRET))
    assert answer["principalId"] == "key_team"
    assert answer["policyDocument"] == {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Action": "execute-api:Invoke",
                "Effect": "Allow",
                "Resource": sample("authorizer")["methodArn"],
            }
        ],
    }
    known = identity(answer)
    assert (known.key_id, known.scopes) == ("key_team", frozenset({"complete"}))
    assert (known.permissions.models, known.permissions.classifications) == (("sota",), ("public",))
    assert all(isinstance(value, str) for value in answer["context"].values())
    assert SECRET not in json.dumps(answer)


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ({"Authorization": "Bearer k"}, "k"),
        ({"authorization": "bearer  k "}, "k"),
        ({"X-API-KEY": "k"}, "k"),
        ({"x-api-key": " k "}, "k"),
        ({"Authorization": "Bearer k", "x-api-key": "other"}, "k"),
        ({"Authorization": "Bearer none", "x-api-key": "fw_k"}, "fw_k"),
        ({"Authorization": "Bearer fw_k", "x-api-key": "fw_other"}, "fw_k"),
        ({"Authorization": "Basic k", "x-api-key": "other"}, "other"),
        ({"Authorization": "Bearer", "x-api-key": "other"}, "other"),
        ({"Authorization": "k"}, None),
        ({"Authorization": ""}, None),
        ({"x-api-key": " "}, None),
        ({}, None),
        (None, None),
    ],
)
def test_a_key_comes_as_a_bearer_or_as_anthropics_header(headers: dict[str, str] | None, found: str | None) -> None:
    assert secret_of({"headers": headers}) == found


@pytest.mark.parametrize(
    ("headers", "ours"),
    [
        ({"authorization": "Bearer fw_k"}, True),
        ({"Authorization": "Bearer none", "X-Api-Key": "fw_k"}, True),
        ({"authorization": "Bearer sk-fw_k", "x-api-key": "none"}, False),
        ({"authorization": "fw_k"}, False),
        ({}, False),
    ],
)
def test_a_fusewire_key_is_told_from_what_sdks_send_because_they_must(headers: dict[str, str], ours: bool) -> None:
    assert sends_fusewire_key({"headers": headers}) is ours


def refusals(guarded: Functions, database_url: str) -> Iterator[dict[str, Any]]:
    """Requests that differ in why they are refused."""
    make_key(database_url, id="key_expired", expires_at=datetime.now(UTC) - timedelta(seconds=1))
    make_key(database_url, id="key_revoked", revoked_at=datetime.now(UTC))
    yield asking(None)
    for secret in ("fw_wrong", "fw_key_expired", "fw_key_revoked", ADMIN_KEY + "x", ADMIN_KEY[:-1], "é", "\ud800"):
        yield asking(secret)


def test_wrong_expired_and_revoked_keys_look_the_same(guarded: Functions, database_url: str) -> None:
    result = set()
    for event in refusals(guarded, database_url):
        for _ in range(2):  # found out, then remembered
            with pytest.raises(UnauthorizedError) as caught:
                guarded("authorizer", event)
            result.add((str(caught.value), type(caught.value).__name__))
    assert result == {("Unauthorized", "UnauthorizedError")}, "API Gateway answers 401 to this very word"


@pytest.mark.parametrize("name", sorted(set(REST) - FOR_EVERYBODY))
def test_a_route_needs_here_what_it_needs_in_its_function(guarded: Functions, database_url: str, name: str) -> None:
    needed = scopes_of(name)
    for scopes in (["complete"], ["read"], ["admin"], ["complete", "read"], ["complete", "admin"]):
        id = "_".join(["key", *scopes])
        make_key(database_url, id=id, scopes=scopes)
        answer = guarded("authorizer", asking(f"fw_{id}", name))
        assert effect(answer) == ("Allow" if needed is None or needed & set(scopes) else "Deny")


def test_the_bootstrap_key_works_without_a_database(guarded: Functions) -> None:
    guarded.set(DATABASE_URL="postgresql://127.0.0.1:1/nowhere")
    for name in ("complete", "admin_keys_create"):
        answer = guarded("authorizer", asking(ADMIN_KEY, name))
        assert effect(answer) == "Allow"
        assert (identity(answer).key_id, identity(answer).scopes) == ("bootstrap", frozenset({"complete", "admin"}))


def test_without_a_bootstrap_key_nobody_is_it(functions: Functions) -> None:
    functions.set(AUTH_MODE="keys")
    with pytest.raises(UnauthorizedError):
        functions("authorizer", asking(""))
    with pytest.raises(UnauthorizedError):
        functions("authorizer", asking("bootstrap"))


@pytest.mark.parametrize("key", ["short", "x" * 23, "x" * 30 + "\x01", "x" * 12 + " " + "x" * 12, "é" * 30])
def test_a_bootstrap_key_that_can_be_guessed_or_not_be_sent_stops_the_start(key: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings({"ADMIN_API_KEY": key})
    assert "24" in str(caught.value)
    assert key not in str(caught.value)


def test_nobody_is_let_in_while_nobody_can_tell(guarded: Functions, log: LogLines) -> None:
    guarded.set(DATABASE_URL="postgresql://127.0.0.1:1/nowhere")
    with pytest.raises(LedgerUnavailableError):
        guarded("authorizer", asking(SECRET))
    assert len(log.events("ledger.unavailable")) == 1


# Lambda's count of errors can't be an alarm here, so what is one is counted by the log's events.


def metrics(log: LogLines) -> list[tuple[str, int]]:
    names = ("LedgerErrors", "FunctionErrors")
    return [(name, line[name]) for line in log.events("metrics") for name in names if name in line]


def test_a_wrong_key_is_no_error_for_an_alarm(measured: Functions, log: LogLines) -> None:
    for secret in ("fw_wrong", None):
        with pytest.raises(UnauthorizedError):
            measured("authorizer", asking(secret))
    assert metrics(log) == []
    assert [line for line in log.lines if line["level"] == "ERROR"] == []


def test_a_database_that_is_away_is_one_for_the_alarm_on_the_ledger(measured: Functions, log: LogLines) -> None:
    measured.set(DATABASE_URL="postgresql://127.0.0.1:1/nowhere")
    with pytest.raises(LedgerUnavailableError):
        measured("authorizer", asking(SECRET))
    assert metrics(log) == [("LedgerErrors", 1)]


def test_a_bug_is_one_for_the_alarm_on_bugs(measured: Functions, log: LogLines) -> None:
    with pytest.raises(KeyError):
        measured("authorizer", {})
    assert metrics(log) == [("FunctionErrors", 1)]
    [line] = log.events("function.error")
    assert line["error_type"] == "KeyError"


# --- what is remembered ------------------------------------------------------------------------------------------


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The authorizer's clock: its one element is the time."""
    moment = [1000.0]
    monkeypatch.setattr("fusewire.http.authorizer.time.monotonic", lambda: moment[0])
    yield moment


def lets_in(guarded: Functions, secret: str, name: str = "complete") -> bool:
    try:
        return effect(guarded("authorizer", asking(secret, name))) == "Allow"
    except UnauthorizedError:
        return False


def test_a_revoked_key_is_let_in_for_a_minute_at_most(guarded: Functions, database_url: str, now: list[float]) -> None:
    make_key(database_url)
    assert lets_in(guarded, SECRET)
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE api_key SET revoked_at = now()")
    now[0] += 59.9
    assert lets_in(guarded, SECRET)
    now[0] += 0.2
    assert not lets_in(guarded, SECRET)


@pytest.mark.usefixtures("now")
@pytest.mark.parametrize(
    "change",
    [
        "UPDATE api_key SET revoked_at = now()",
        "UPDATE api_key SET scopes = '{complete}'",
        "UPDATE api_key SET expires_at = now()",
        "DELETE FROM api_key_secret",  # as a rotation without an overlap does
    ],
)
def test_an_admin_is_looked_up_for_every_admin_call(
    guarded: Functions, database_url: str, change: LiteralString
) -> None:
    """A minute would be time enough to make another key."""
    make_key(database_url, scopes=["admin", "complete"])
    for name in ("complete", "admin_keys_create"):
        assert lets_in(guarded, SECRET, name)
    with psycopg.connect(database_url) as connection:
        connection.execute(change)
    assert not lets_in(guarded, SECRET, "admin_keys_create")
    assert lets_in(guarded, SECRET, "complete"), "where the ledger is asked, too, the verdict is kept"


def test_a_key_is_not_let_in_beyond_its_end(guarded: Functions, database_url: str, now: list[float]) -> None:
    make_key(database_url, expires_at=datetime.now(UTC) + timedelta(seconds=20))
    assert lets_in(guarded, SECRET)
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE api_key SET expires_at = now()")
    now[0] += 20
    assert not lets_in(guarded, SECRET)


def test_a_key_that_is_made_after_it_was_tried_works_soon(
    guarded: Functions, database_url: str, now: list[float]
) -> None:
    assert not lets_in(guarded, SECRET)
    make_key(database_url)
    assert not lets_in(guarded, SECRET)
    now[0] += 5
    assert lets_in(guarded, SECRET)


def test_any_number_of_wrong_keys_takes_no_more_room(guarded: Functions, database_url: str) -> None:
    make_key(database_url)
    assert lets_in(guarded, SECRET)
    for number in range(1100):
        assert not lets_in(guarded, f"fw_{number}")
    remembered = guarded.loaded["authorizer"]._authorizer
    assert len(remembered._unknown._entries) == 1024
    guarded.loaded["authorizer"]._core.database.close()
    with psycopg.connect(database_url) as connection:
        connection.execute("DELETE FROM api_key_secret")
    assert lets_in(guarded, SECRET), "wrong keys push out no right one"
    kept = repr(list(remembered._known._entries))
    assert SECRET not in kept


# --- the audit ---------------------------------------------------------------------------------------------------


def test_a_refused_admin_call_is_audited(guarded: Functions, database_url: str, books: Books, log: LogLines) -> None:
    make_key(database_url)
    assert effect(guarded("authorizer", asking(SECRET, "admin_keys_show"))) == "Deny"
    assert effect(guarded("authorizer", asking(SECRET, "complete"))) == "Allow"
    [entry] = books.query("SELECT * FROM audit")
    asked = sample("admin_keys_show")
    assert (entry["actor"], entry["action"], entry["source_ip"]) == ("key_team", "admin.refused", "192.0.2.1")
    assert entry["request_id"] == asked["requestContext"]["requestId"]
    assert entry["after"] == {
        "method": "GET",
        "path": asked["path"],
        "why": "the key doesn't have the scope read or admin",
        "count": 1,
    }
    [line] = log.events("audit")
    assert (line["key_id"], line["path"], line["request_id"]) == ("key_team", asked["path"], entry["request_id"])


def test_unknown_keys_on_admin_routes_are_audited_once_a_minute(
    guarded: Functions, books: Books, now: list[float]
) -> None:
    for secret in (None, "fw_a", "fw_b"):
        with pytest.raises(UnauthorizedError):
            guarded("authorizer", asking(secret, "admin_budget"))
        with pytest.raises(UnauthorizedError):
            guarded("authorizer", asking(secret, "complete"))
    [entry] = books.query("SELECT * FROM audit")
    assert (entry["actor"], entry["after"]["why"]) == ("unknown", "no valid key")


def test_no_line_of_the_log_holds_a_key(guarded: Functions, database_url: str, log: LogLines) -> None:
    make_key(database_url)
    for secret in (SECRET, ADMIN_KEY, "fw_wrong-sentinel"):
        for name in ("complete", "admin_budget"):
            lets_in(guarded, secret)
            try:
                guarded("authorizer", asking(secret, name))
            except UnauthorizedError:
                pass
    for secret in (SECRET, ADMIN_KEY, "sentinel"):
        assert secret not in log.text
