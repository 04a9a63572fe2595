"""Keys over HTTP: each route of the admin_keys function, as API Gateway invokes it for a caller that may."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from fusewire.http.admin.keys import KeyAttributes
from fusewire.http.identity import Identity
from tests.integration.ai.observing import Books, LogLines, price_of
from tests.integration.functions.conftest import Functions, as_caller, asked, sample
from tests.integration.functions.test_handlers import read
from tests.support.upstream import Upstream

ADMIN = Identity("key_of_an_admin", frozenset({"admin"}))
NOBODY = "key_" + "0" * 32
SAMPLE_ID = sample("admin_keys_show")["pathParameters"]["id"]

Ask = Callable[..., dict[str, Any]]
Make = Callable[..., dict[str, Any]]


@pytest.fixture
def ask(functions: Functions) -> Ask:
    """`ask("admin_keys_update", id, body)`: the answer of that sample's route, its body read."""
    functions.set(AUTH_MODE="keys")

    def asking(name: str, id: str = SAMPLE_ID, body: object = None, **fields: object) -> dict[str, Any]:
        event = json.loads(json.dumps(sample(name, body)).replace(SAMPLE_ID, id)) | fields
        answer = functions("admin_keys", as_caller(ADMIN, event))
        return answer | {"told": read(answer)}

    return asking


@pytest.fixture
def make(ask: Ask) -> Make:
    """Makes a key and returns what is told of it, its secret included."""

    def making(**fields: object) -> dict[str, Any]:
        row: dict[str, Any] = ask("admin_keys_create", body={"name": "team", "scopes": ["complete"]} | fields)["told"]
        return row

    return making


def call(functions: Functions, key_id: str) -> Decimal:
    """One chat of this key's; :return: what it cost, in USD"""
    caller = Identity(key_id, frozenset({"complete"}))
    cost: Decimal = read(functions("complete", as_caller(caller, sample("complete"))))["usage"]["cost"]
    return cost


def test_a_key_is_shown_once_with_all_that_was_asked_for(ask: Ask, log: LogLines, database_url: str) -> None:
    expires = (datetime.now(UTC) + timedelta(days=30)).isoformat(timespec="seconds")
    wanted = json.loads(sample("admin_keys_create")["body"]) | {"expires_at": expires}
    answer = ask("admin_keys_create", body=wanted)
    result = answer["told"]
    assert answer["statusCode"] == 201
    assert {name: result[name] for name in wanted} == wanted
    secret = result.pop("key")
    assert secret.startswith("fw_") and secret.startswith(result["prefix"])
    assert (result["created_by"], result["revoked_at"]) == ("key_of_an_admin", None)

    shown = ask("admin_keys_show", result["id"])["told"]
    assert shown.pop("forecast") == {"month_end_usd": None, "exhausted_at": None}
    assert shown == result
    assert ask("admin_keys")["told"] == {"rows": [result], "next_cursor": None}
    [line] = log.events("audit")
    assert (line["action"], line["actor"], line["key_id"]) == ("key.created", "key_of_an_admin", result["id"])
    with psycopg.connect(database_url) as connection:
        kept = connection.execute(
            "SELECT string_agg(row::text, '') FROM (SELECT to_jsonb(k) FROM api_key k UNION ALL"
            " SELECT to_jsonb(s) FROM api_key_secret s UNION ALL SELECT to_jsonb(a) FROM audit a) row"
        ).fetchone()
    unseen = secret.removeprefix(result["prefix"])
    assert kept is not None and result["prefix"] in kept[0]
    assert unseen not in kept[0] and unseen not in log.text


def test_keys_are_found_by_a_part_of_what_tells_them_apart(ask: Ask, make: Make) -> None:
    made = {
        name: make(name=name, tags=tags)
        for name, tags in (
            ("Search 100%", {"team": "search_ranking"}),
            ("search 1000", {"Cost-Centre": "C\\_42"}),
            ("検索", {}),
            ("plain", {}),
        )
    }

    def found(text: str, **page: str) -> list[str]:
        result = ask("admin_keys", queryStringParameters={"search": text, **page})["told"]
        return [row["name"] for row in result["rows"]]

    assert found("SEARCH") == ["search 1000", "Search 100%"]
    assert found("100%") == ["Search 100%"]  # no character of it is a wildcard
    assert found("h_r") == ["Search 100%"]
    assert found("c\\_4") == found("cost-centre") == ["search 1000"]
    assert found("_") == ["plain", "検索", "search 1000", "Search 100%"]  # of each id
    assert found("検") == ["検索"]
    assert found("') OR true --") == found("%%") == []
    assert found(made["plain"]["prefix"]) == found(made["plain"]["id"]) == ["plain"]
    assert found(made["plain"]["key"]) == []  # secrets are nowhere to be found
    assert ask("admin_keys", queryStringParameters={"search": ""})["statusCode"] == 400

    first = ask("admin_keys", queryStringParameters={"search": "search", "limit": "1"})["told"]
    assert first["next_cursor"] == made["search 1000"]["id"]
    assert found("search", limit="1", cursor=first["next_cursor"]) == ["Search 100%"]


NO_ATTRIBUTES = {"id", "created_at", "created_by", "revoked_at"}
"""The columns of `api_key` that no administrator sets."""
EACH_ATTRIBUTE: dict[str, tuple[object, object]] = {
    "name": ("search", "検索"),
    "scopes": (["complete"], ["complete", "admin"]),
    "monthly_budget_usd": (12.5, 0.25),
    "period": ("week", "none"),
    "budget_id": (None, None),
    "scope_budget_id": (None, None),
    "per_user_limit_usd": (0.5, None),
    "requests_per_minute": (60, 10**9),
    "tokens_per_minute": (10**15, None),
    "allowed_models": (["sota", "openai/*"], ["cost_effective"]),
    "allowed_classifications": (["public"], None),
    "expires_at": ("2099-01-01T00:00:00+00:00", "2098-12-31T23:59:59.5+00:00"),
    "tags": ({"team": "search"}, {}),
}
"""What a key is made with, and what it is changed to."""


def test_an_attribute_of_a_key_is_a_column_that_can_be_written(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        columns = {
            name
            for (name,) in connection.execute(
                "SELECT attname FROM pg_attribute"
                " WHERE attrelid = 'api_key'::regclass AND attnum > 0 AND NOT attisdropped"
            )
        }
        statement = "SELECT key_columns(%s::jsonb)"
        [(written,)] = connection.execute(statement, (json.dumps(dict.fromkeys(KeyAttributes.model_fields)),))
        [(kept,)] = connection.execute(statement, (json.dumps(dict.fromkeys(NO_ATTRIBUTES)),))
    names = {"limit_usd" if name == "monthly_budget_usd" else name for name in KeyAttributes.model_fields}
    assert names == columns - NO_ATTRIBUTES
    assert written.keys() == names
    assert kept == {}


def test_every_attribute_is_stored_shown_and_audited_as_it_was_sent(ask: Ask, books: Books) -> None:
    assert EACH_ATTRIBUTE.keys() == KeyAttributes.model_fields.keys()
    expected = {name: first for name, (first, _) in EACH_ATTRIBUTE.items()}
    made = ask("admin_keys_create", body=expected)["told"]

    def holds(answer: dict[str, Any]) -> None:
        shown = ask("admin_keys_show", made["id"])["told"]
        [row] = books.query("SELECT key_json(k) AS stored FROM api_key k")
        entry = books.query("SELECT after FROM audit ORDER BY n DESC LIMIT 1")[0]
        for fields in (answer, shown, row["stored"], entry["after"]):
            assert {name: fields[name] for name in expected} == expected

    holds(made)
    for name, (_, second) in EACH_ATTRIBUTE.items():
        expected[name] = second
        holds(ask("admin_keys_update", made["id"], {name: second})["told"])
    expected = {name: first for name, (first, _) in EACH_ATTRIBUTE.items()}
    holds(ask("admin_keys_update", made["id"], expected)["told"])


def test_what_is_left_out_sets_no_limit(make: Make) -> None:
    made = make()
    names = ("monthly_budget_usd", "requests_per_minute", "tokens_per_minute", "allowed_models",
             "allowed_classifications", "expires_at", "remaining_usd")  # fmt: skip
    assert [made[name] for name in names] == [None] * len(names)
    assert made["tags"] == {}


def test_a_key_tells_how_its_budget_stands(functions: Functions, ask: Ask, make: Make, upstream: Upstream) -> None:
    made = make(monthly_budget_usd=20, requests_per_minute=60, tokens_per_minute=1_000_000)
    fresh = {"current_spend_usd": 0, "reserved_usd": 0, "remaining_usd": 20, "state": "CLOSED", "window": None}
    assert made | fresh | {"minute": None} == made

    spent = call(functions, made["id"])
    assert spent == price_of("azure", *upstream.billed[0]) > 0
    streaming = as_caller(Identity(made["id"], frozenset({"complete"})), asked(stream=True))
    stream = functions.stream("complete", streaming)
    next(stream.chunks)

    for row in (ask("admin_keys_show", made["id"])["told"], ask("admin_keys")["told"]["rows"][0]):
        assert row["current_spend_usd"] == spent
        assert row["reserved_usd"] > 0
        assert row["remaining_usd"] == 20 - spent - row["reserved_usd"]
        assert row["minute"]["requests_left"] == 58
        assert 0 < row["minute"]["tokens_left"] < 1_000_000
        assert 0 < row["minute"]["ends_in_seconds"] <= 60
        assert set(row["window"]) == {"id", "opened_at", "resets_at"}
    list(stream.chunks)
    assert ask("admin_keys_show", made["id"])["told"]["reserved_usd"] == 0


def test_the_state_is_that_of_the_limit_in_force(functions: Functions, ask: Ask, make: Make) -> None:
    made = make(monthly_budget_usd=1000)
    spent = call(functions, made["id"])
    for times, state in (("1.05", "OPEN"), ("1.2", "HALF_OPEN"), ("2", "CLOSED")):
        cap = float(round(spent * Decimal(times), 6))
        assert ask("admin_keys_update", made["id"], {"monthly_budget_usd": cap})["told"]["state"] == state
        assert ask("admin_keys_show", made["id"])["told"]["state"] == state
    nothing = make(monthly_budget_usd=0)
    assert (nothing["state"], nothing["remaining_usd"]) == ("OPEN", 0)


def test_pages_list_the_newest_first(ask: Ask, make: Make) -> None:
    made = [make(name=str(number))["id"] for number in range(3)]
    first = ask("admin_keys", queryStringParameters={"limit": "2"})["told"]
    assert [row["id"] for row in first["rows"]] == made[:0:-1]
    rest = ask("admin_keys", queryStringParameters={"limit": "2", "cursor": first["next_cursor"]})["told"]
    assert ([row["id"] for row in rest["rows"]], rest["next_cursor"]) == (made[:1], None)
    for query in ({"limit": "0"}, {"limit": "1001"}, {"cursor": "1"}, {"colour": "red"}):
        answer = ask("admin_keys", queryStringParameters=query)
        assert (answer["statusCode"], answer["told"]["error"]["param"]) == (400, next(iter(query)))


def test_a_change_is_of_what_it_names(ask: Ask, make: Make, books: Books) -> None:
    made = make(monthly_budget_usd=50, requests_per_minute=60, tags={"team": "search"})
    del made["key"]
    answer = ask("admin_keys_update", made["id"], {"monthly_budget_usd": 75.000001, "requests_per_minute": None})
    changed = {"monthly_budget_usd": Decimal("75.000001"), "remaining_usd": Decimal("75.000001")}
    assert answer["statusCode"] == 200
    assert answer["told"] == made | changed | {"requests_per_minute": None}
    assert ask("admin_keys_update", made["id"], {})["told"] == answer["told"]
    actions = [entry["action"] for entry in books.query("SELECT action FROM audit ORDER BY n")]
    assert actions == ["key.created", "key.updated"], "what changes nothing is no change"


def test_a_second_secret_goes_on_beside_the_first_for_the_overlap(ask: Ask, make: Make, functions: Functions) -> None:
    made = make()
    answer = ask("admin_keys_rotate", made["id"], {"overlap_seconds": 3600})
    rotated = answer["told"]
    assert answer["statusCode"] == 200
    assert rotated["key"] != made["key"] and rotated["key"].startswith(rotated["prefix"])
    old, new = rotated["secrets"]
    assert (old["prefix"], new["prefix"], new["expires_at"]) == (made["prefix"], rotated["prefix"], None)
    left = datetime.fromisoformat(old["expires_at"]) - datetime.now(UTC)
    assert timedelta(minutes=59) < left <= timedelta(hours=1)
    keys = functions.loaded["admin_keys"]._core.key_checks
    assert {keys.authenticate(each["key"]).key_id for each in (made, rotated)} == {made["id"]}
    assert "key" not in ask("admin_keys_show", made["id"])["told"]

    last = ask("admin_keys_rotate", made["id"], {"overlap_seconds": 0})["told"]
    assert [keys.authenticate(each["key"]) is not None for each in (made, rotated, last)] == [False, False, True]


def test_a_revoked_key_stays_with_its_books_and_takes_no_change(
    functions: Functions, ask: Ask, make: Make, books: Books
) -> None:
    made = make(monthly_budget_usd=50)
    spent = call(functions, made["id"])
    answer = ask("admin_keys_revoke", made["id"])
    assert (answer["statusCode"], answer["told"]["current_spend_usd"]) == (200, spent)
    assert answer["told"]["revoked_at"]
    assert ask("admin_keys_revoke", made["id"])["told"] == answer["told"], "once is enough"
    for name, body in (("admin_keys_update", {"name": "x"}), ("admin_keys_rotate", {"overlap_seconds": 0})):
        refused = ask(name, made["id"], body)
        assert (refused["statusCode"], "revoked" in refused["told"]["error"]["message"]) == (400, True)
    assert [row["id"] for row in ask("admin_keys")["told"]["rows"]] == [made["id"]]
    actions = [entry["action"] for entry in books.query("SELECT action FROM audit ORDER BY n")]
    assert actions == ["key.created", "key.revoked"]


def test_a_reset_begins_a_window_for_this_key_alone(
    functions: Functions, ask: Ask, make: Make, books: Books, log: LogLines
) -> None:
    made, other = make(monthly_budget_usd=20), make(monthly_budget_usd=20)
    spent = call(functions, made["id"])
    call(functions, other["id"])
    answer = ask("admin_keys_reset", made["id"], {"reason": "approved by finance"})
    assert answer["statusCode"] == 200
    closed, opened = answer["told"]["closed"], answer["told"]["opened"]
    assert (closed["spent_usd"], closed["request_count"], bool(closed["closed_at"])) == (spent, 1, True)
    assert (opened["spent_usd"], opened["request_count"], opened["closed_at"]) == (0, 0, None)
    shown = ask("admin_keys_show", made["id"])["told"]
    assert (shown["current_spend_usd"], shown["remaining_usd"], shown["window"]["id"]) == (0, 20, opened["id"])
    assert ask("admin_keys_show", other["id"])["told"]["current_spend_usd"] > 0
    [company] = books.query("SELECT request_count FROM budget_window WHERE budget = 'global'")
    assert company["request_count"] == 2
    [entry] = books.query("SELECT * FROM audit WHERE action = 'budget.reset'")
    assert (entry["actor"], entry["after"]["budget"]) == ("key_of_an_admin", made["id"])
    assert entry["after"]["reason"] == "approved by finance"
    [line] = log.events("circuit_breaker.manual_reset")
    assert line["key_id"] == made["id"]


ROUTES: list[tuple[str, object]] = [
    ("admin_keys_show", None),
    ("admin_keys_update", {"name": "x"}),
    ("admin_keys_revoke", None),
    ("admin_keys_rotate", {"overlap_seconds": 0}),
    ("admin_keys_reset", {}),
]


def test_a_key_that_isnt_there_is_a_404_and_leaves_nothing(ask: Ask, books: Books) -> None:
    for name, body in ROUTES:
        for id in (NOBODY, "global", "bootstrap", "\x00", "%", "x" * 5000):
            answer = ask(name, body=body, pathParameters={"id": id})
            assert (answer["statusCode"], answer["told"]["error"]["code"]) == (404, "key_not_found"), (name, id)
            assert answer["headers"]["x-should-retry"] == "false"
    assert books.query("SELECT 1 FROM audit UNION ALL SELECT 1 FROM budget_window") == []


def test_without_the_ledger_nothing_is_made_or_told(functions: Functions, ask: Ask) -> None:
    functions.set(DATABASE_URL="postgresql://127.0.0.1:1/nowhere")
    for name, body in (*ROUTES, ("admin_keys", None), ("admin_keys_create", None)):
        answer = ask(name, body=body)
        assert (answer["statusCode"], answer["told"]["error"]["code"]) == (503, "ledger_unavailable"), name


# What is sent, the field that is named, and words of the message: the value where it is short, and what is allowed.
REFUSED: list[tuple[dict[str, object], str, list[str]]] = [
    ({"name": None}, "name", ["string"]),
    ({"name": ""}, "name", ["''", "at least 1"]),
    ({"name": "a\nb"}, "name", ["on one line"]),
    ({"name": "x" * 201}, "name", ["at most 200"]),
    ({"scopes": []}, "scopes", ["at least 1"]),
    ({"scopes": "admin"}, "scopes", ["'admin'", "array"]),
    ({"scopes": ["everything"]}, "scopes[0]", ["'everything'", "'complete', 'read' or 'admin'"]),
    ({"scopes": ["admin", "admin"]}, "scopes", ["once"]),
    ({"monthly_budget_usd": -1}, "monthly_budget_usd", ["-1", "greater than or equal to 0"]),
    ({"monthly_budget_usd": 10**10}, "monthly_budget_usd", ["less than or equal to 1000000000"]),
    ({"monthly_budget_usd": 0.0000001}, "monthly_budget_usd", ["1e-07", "6 decimal places"]),
    ({"requests_per_minute": 0}, "requests_per_minute", ["0", "greater than or equal to 1"]),
    ({"requests_per_minute": 1.5}, "requests_per_minute", ["1.5", "integer"]),
    ({"tokens_per_minute": True}, "tokens_per_minute", ["integer"]),
    ({"allowed_models": []}, "allowed_models", ["at least 1"]),
    ({"allowed_models": ["sota", ""]}, "allowed_models[1]", ["at least 1"]),
    ({"allowed_classifications": ["secret"]}, "allowed_classifications[0]", ["'secret'", "'public', 'internal' or"]),
    ({"expires_at": "2020-01-01T00:00:00Z"}, "expires_at", ["2020", "in the future"]),
    ({"expires_at": "2099-01-01T00:00:00"}, "expires_at", ["timezone"]),
    ({"expires_at": 4_000_000_000}, "expires_at", ["4000000000", "datetime"]),
    ({"tags": None}, "tags", ["object"]),
    ({"tags": {"team": 1}}, "tags.team", ["(got 1)", "string"]),
    ({"tags": {str(number): "" for number in range(51)}}, "tags", ["at most 50"]),
    ({"id": "key_mine"}, "id", ["Unknown field"]),
    ({"revoked_at": None}, "revoked_at", ["Unknown field"]),
]


@pytest.mark.parametrize(
    ("name", "whole"), [("admin_keys_create", {"name": "team", "scopes": ["complete"]}), ("admin_keys_update", {})]
)
def test_a_bad_body_is_told_its_field_its_value_and_what_is_allowed(
    ask: Ask, books: Books, name: str, whole: dict[str, object]
) -> None:
    for fields, param, words in REFUSED:
        answer = ask(name, body=whole | fields)
        error = answer["told"]["error"]
        assert (answer["statusCode"], error["code"], error["param"]) == (400, "invalid_request_error", param)
        assert all(word in error["message"] for word in [param, *words]), error["message"]
        assert len(error["message"]) < 200
    assert books.query("SELECT 1 FROM api_key UNION ALL SELECT 1 FROM audit") == []


def test_what_a_body_lacks_or_has_too_much_is_named(ask: Ask) -> None:
    for name, body, param in (
        ("admin_keys_create", {"scopes": ["complete"]}, "name"),
        ("admin_keys_create", {"name": "x"}, "scopes"),
        ("admin_keys_rotate", {}, "overlap_seconds"),
        ("admin_keys_rotate", {"overlap_seconds": -1}, "overlap_seconds"),
        ("admin_keys_rotate", {"overlap_seconds": "60"}, "overlap_seconds"),
        ("admin_keys_rotate", {"overlap_seconds": 10**9}, "overlap_seconds"),
        ("admin_keys_reset", {"reason": 3}, "reason"),
        ("admin_keys_reset", {"why": "x"}, "why"),
        ("admin_keys_create", [], None),
    ):
        answer = ask(name, body=body)
        assert (answer["statusCode"], answer["told"]["error"]["param"]) == (400, param), (name, body)
