"""Every handler with its sample from `events/`; the admin routes, and the monthly reset."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from fusewire import VERSION
from tests.integration.ai.observing import Books, LogLines, price_of
from tests.integration.functions.conftest import ROOT, Functions, StreamingContext, make_key, sample
from tests.support.upstream import Upstream, status

REST = sorted(file.stem for file in (ROOT / "events").glob("*.json") if '"isBase64Encoded"' in file.read_text())


CREATE = ("admin_keys_create", "admin_budget_adjust", "admin_budgets_create", "admin_usage_prices_add")


def stage_price(database_url: str, id: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "INSERT INTO price (id, provider, model, entry, source, created_at, created_by) "
            "VALUES (%s, 'openai', 'second', '{\"input_mtok\": 7, \"output_mtok\": 8}', 'data.json', now(), 'a pull')",
            (id,),
        )


def raise_allowance(database_url: str, id: str, tokens: int = 1300) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "INSERT INTO input_allowance (provider, model, tokens, raised_at, entry_id) "
            "VALUES (%s, %s, %s, now(), gen_random_uuid())",
            (*id.split("/", 1), tokens),
        )


def make_node(database_url: str, id: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "INSERT INTO budget_node (id, name, period, created_at, created_by) "
            "VALUES (%s, 'team', 'month', now(), 'a')",
            (id,),
        )


def function_of(name: str) -> str:
    names = [folder.name for folder in (ROOT / "functions").iterdir()]
    return max((each for each in names if name.startswith(each)), key=len)


def read(answer: dict[str, Any]) -> Any:  # noqa: ANN401 - JSON
    return json.loads(answer["body"], parse_float=Decimal)


@pytest.mark.parametrize("context", [None, StreamingContext()], ids=["buffered", "streaming"])
@pytest.mark.parametrize("name", REST)
def test_a_handler_answers_its_sample(
    functions: Functions, database_url: str, name: str, context: StreamingContext | None
) -> None:
    event = sample(name)
    if name == "admin_usage_call":
        functions("complete", sample("complete"))  # whose story it tells
    named = (event["pathParameters"] or {}).get("id")
    if named and name.startswith("admin_usage_prices"):
        stage_price(database_url, named)
    elif named and name.startswith("complete_responses"):
        functions.set(AI_RESPONSES_RETENTION_HOURS="1", AI_RESPONSES_KEY="k" * 24)
        functions("complete", sample("complete_responses", {"model": "sota", "input": "Hello"}))
    elif named and name.startswith("admin_usage_allowances"):
        raise_allowance(database_url, named)
    elif named and name.startswith("admin_budgets"):
        make_node(database_url, named)
    elif named:
        make_key(database_url, id=named, tags=Jsonb({}))
    answer = functions(function_of(name), event, context)
    assert answer["statusCode"] == (201 if name in CREATE else 200)
    assert read(answer)
    assert answer["body"].endswith("}\n"), "a shell's prompt begins on a line of its own"
    assert answer["headers"]["x-request-id"] == event["requestContext"]["requestId"]
    assert answer["isBase64Encoded"] is False
    json.dumps(answer)


def test_the_budget_is_told_in_exact_numbers(functions: Functions, upstream: Upstream) -> None:
    functions("complete", sample("complete"))
    functions("embed", sample("embed"))
    chat, vectors = (price_of("azure", *bill) for bill in upstream.billed)
    result = read(functions("admin_budget", sample("admin_budget")))
    assert result["state"] == "CLOSED"
    assert result["monthly_limit_usd"] == 500
    assert result["current_spend_usd"] == chat + vectors
    assert result["reserved_usd"] == 0
    assert result["remaining_usd"] == 500 - chat - vectors
    assert result["request_count"] == 2
    assert result["by_provider"] == {"azure": chat + vectors}
    assert result["by_model"] == {"azure/first": chat, "azure/first-embedding": vectors}
    assert set(result["window"]) == {"id", "opened_at", "resets_at"}
    assert set(result["forecast"]) == {"month_end_usd", "exhausted_at"}


def test_an_adjustment_is_booked_told_and_listed_by_pages(functions: Functions, upstream: Upstream) -> None:
    functions("complete", sample("complete"))
    spent = price_of("azure", *upstream.billed[0])
    result = read(functions("admin_budget", sample("admin_budget_adjust")))
    assert (result["adjustment"]["amount_usd"], result["adjustment"]["actor"]) == (Decimal("12.5"), "open")
    assert (result["state"], result["window"]["spent_usd"]) == ("CLOSED", spent + Decimal("12.5"))
    body = {"amount_usd": -0.5, "reason": "a credit note", "window_id": result["window"]["id"]}
    assert read(functions("admin_budget", sample("admin_budget_adjust", body)))["window"]["spent_usd"] == spent + 12
    first = read(functions("admin_budget", sample("admin_budget_adjustments", queryStringParameters={"limit": "1"})))
    assert [row["reason"] for row in first["rows"]] == ["a credit note"]
    query = {"limit": "1", "cursor": first["next_cursor"]}
    rest = read(functions("admin_budget", sample("admin_budget_adjustments", queryStringParameters=query)))
    assert ([row["reason"] for row in rest["rows"]], rest["next_cursor"]) == (["invoice of October"], None)
    assert read(functions("admin_budget", sample("admin_budget")))["by_provider"]["adjustment"] == 12
    calls = read(functions("admin_usage", sample("admin_usage_calls", queryStringParameters={"limit": "2"})))
    assert {call["operation"] for call in calls["rows"]} == {"adjustment"}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"amount_usd": 0}, "amount_usd"),
        ({"amount_usd": 10**9 + 1}, "amount_usd"),
        ({"amount_usd": 0.0000000000001}, "amount_usd"),
        ({"amount_usd": -0.01}, "amount_usd"),
        ({"reason": " "}, "reason"),
        ({"reason": "x" * 501}, "reason"),
        ({"window_id": 4711}, "window_id"),
        ({"window_id": True}, "window_id"),
        ({"key_id": "key_a"}, "key_id"),
    ],
)
def test_an_adjustment_that_cant_be_booked_names_its_field(
    functions: Functions, books: Books, fields: dict[str, object], param: str
) -> None:
    answer = functions("admin_budget", sample("admin_budget_adjust", {"amount_usd": 1, "reason": "r"} | fields))
    assert (answer["statusCode"], read(answer)["error"]["param"]) == (400, param)
    assert books.query("SELECT FROM ledger") == []


def test_the_limit_is_set_shown_beside_the_setting_and_taken_back(functions: Functions, books: Books) -> None:
    result = read(functions("admin_budget", sample("admin_budget_set_limit")))
    assert (result["state"], result["monthly_limit_usd"], result["remaining_usd"]) == ("CLOSED", 600, 600)
    shown = read(functions("admin_budget", sample("admin_budget")))
    assert (shown["monthly_limit_usd"], shown["remaining_usd"], shown["limit"]) == (600, 600, result["limit"])
    audited = shown["limit"].pop("audited")
    expected = {"in_force_usd": 600, "setting_usd": 500, "maximum_usd": None, "next_window_usd": 500}
    assert shown["limit"] == expected
    assert (audited["amount_usd"], audited["until"]) == (600, "window")
    assert (audited["actor"], audited["reason"]) == ("open", "launch week")
    assert datetime.fromisoformat(audited["set_at"]).tzinfo is not None
    body = {"monthly_limit_usd": 0, "reason": "stop everything"}
    assert read(functions("admin_budget", sample("admin_budget_set_limit", body)))["state"] == "OPEN"
    refused = functions("complete", sample("complete"))
    assert (refused["statusCode"], read(refused)["error"]["code"]) == (402, "budget_exceeded")
    back = {"monthly_limit_usd": None, "reason": "start again"}
    result = read(functions("admin_budget", sample("admin_budget_set_limit", back)))
    assert (result["monthly_limit_usd"], result["limit"]["audited"]) == (500, None)
    assert functions("complete", sample("complete"))["statusCode"] == 200
    actions = books.query("SELECT action FROM audit ORDER BY n")
    assert [row["action"] for row in actions] == ["budget.limit_changed"] * 3


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"monthly_limit_usd": -1}, "monthly_limit_usd"),
        ({"monthly_limit_usd": 10**12 + 1}, "monthly_limit_usd"),
        ({"until": "month"}, "until"),
        ({"reason": " "}, "reason"),
        ({"reason": None}, "reason"),
        ({"limit": 3}, "limit"),
    ],
)
def test_a_limit_that_cant_be_set_names_its_field(
    functions: Functions, books: Books, fields: dict[str, object], param: str
) -> None:
    answer = functions(
        "admin_budget", sample("admin_budget_set_limit", {"monthly_limit_usd": 1, "reason": "r"} | fields)
    )
    assert (answer["statusCode"], read(answer)["error"]["param"]) == (400, param)
    until_of_nothing = {"monthly_limit_usd": None, "until": "window", "reason": "r"}
    assert functions("admin_budget", sample("admin_budget_set_limit", until_of_nothing))["statusCode"] == 400
    assert books.query("SELECT FROM budget_limit") == []


def test_a_limit_above_the_deploys_maximum_is_a_400_that_names_it(functions: Functions) -> None:
    functions.set(AI_MONTHLY_BUDGET_MAX_USD="550.5")
    answer = functions("admin_budget", sample("admin_budget_set_limit"))
    error = read(answer)["error"]
    assert (answer["statusCode"], error["param"]) == (400, "monthly_limit_usd")
    assert "AI_MONTHLY_BUDGET_MAX_USD=550.5" in error["message"]


def test_a_price_is_staged_applied_shown_and_removed(
    functions: Functions, upstream: Upstream, database_url: str, books: Books
) -> None:
    price = {"input_mtok": 5, "output_mtok": 0.000000001}
    body = {"provider": "azure", "model": "First", "price": price}
    staged = read(functions("admin_usage", sample("admin_usage_prices_add", body | {"staged": True})))
    assert (staged["status"], staged["model"], staged["source"]) == ("staged", "first", "admin")
    assert prices(functions)["azure/first"] == ({"input_mtok": 1000, "output_mtok": 2000}, "override")
    applied = read(functions("admin_usage", of_price("admin_usage_prices_apply", staged["id"])))
    assert (applied["status"], applied["applied_by"]) == ("in_force", "open")
    assert prices(functions)["azure/first"] == ({"input_mtok": 5, "output_mtok": Decimal("0.000000001")}, "table")
    functions("complete", sample("complete"))
    [entry] = books.query("SELECT * FROM ledger")
    assert entry["cost"] == Decimal(5 * upstream.billed[0][0]).scaleb(-6) + upstream.billed[0][1] * Decimal("1e-15")
    again = functions("admin_usage", of_price("admin_usage_prices_apply", staged["id"]))
    assert (again["statusCode"], "applied already" in again["body"]) == (400, True)
    removed = read(functions("admin_usage", of_price("admin_usage_prices_remove", staged["id"])))
    assert (removed["status"], removed["removed_by"]) == ("removed", "open")
    assert prices(functions)["azure/first"][1] == "override"
    page = read(functions("admin_usage", sample("admin_usage_prices", queryStringParameters={"status": "removed"})))
    assert ([row["id"] for row in page["rows"]], page["next_cursor"]) == ([staged["id"]], None)
    assert [row["action"] for row in books.query("SELECT action FROM audit ORDER BY n")] == [
        "price.staged", "price.applied", "price.removed",
    ]  # fmt: skip


def test_prices_are_set_by_a_function_that_has_no_vendors_key(functions: Functions) -> None:
    """On AWS admin_usage reads no secret, so the overrides' providers aren't configured there."""
    keys = [name for name in functions.variables if name.endswith("_API_KEY")]
    assert keys
    functions.variables = {name: value for name, value in functions.variables.items() if name not in keys}
    functions.set(AI_PRICE_OVERRIDES='{"openai/gpt-4o": {"multiply": 1.1}, "azure/*": {"multiply": 1.1}}')
    body = {"provider": "azure", "model": "first", "price": {"input_mtok": 5, "output_mtok": 6}}
    assert functions("admin_usage", sample("admin_usage_prices_add", body))["statusCode"] == 201


def of_price(name: str, id: str) -> dict[str, Any]:
    """A sample of a price's route, of another price."""
    event: dict[str, Any] = json.loads(json.dumps(sample(name)).replace(sample(name)["pathParameters"]["id"], id))
    return event


def prices(functions: Functions) -> dict[str, tuple[object, str | None]]:
    listed = read(functions("models", sample("models")))["data"]
    return {each["id"]: (each["price"], each["price_source"]) for each in listed if each["kind"] != "tier"}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"provider": "nobody"}, "provider"),
        ({"price": {"input_mtok": 0, "output_mtok": 0}}, "price"),
        ({"price": {"input_mtok": 1}}, "price"),
        ({"price": {"input_mtok": 1, "output_mtok": 1, "per_call": 3}}, "price"),
        ({"price": {"input_mtok": -1, "output_mtok": 1}}, "price"),
        ({"price": {"input_mtok": 1, "output_mtok": 1.2345678901234567}}, "price"),
        ({"price": {"multiply": 2}}, "price"),
        ({"model": "gpt-4o", "provider": "openai", "price": {"input_mtok": 1, "output_mtok": 1}}, "price"),
        ({"price": 5}, "price"),
        ({"model": " a"}, "model"),
        ({"effective_from": "2020-01-01T00:00:00Z"}, "effective_from"),
        ({"effective_from": "2099-01-01T00:00:00"}, "effective_from"),
        ({"effective_from": "2099-01-01T00:00:00Z", "staged": True}, "effective_from"),
        ({"currency": "EUR"}, "currency"),
    ],
)
def test_a_price_that_cant_be_set_names_its_field(
    functions: Functions, books: Books, fields: dict[str, object], param: str
) -> None:
    body = {"provider": "azure", "model": "new", "price": {"input_mtok": 5, "output_mtok": 6}}
    answer = functions("admin_usage", sample("admin_usage_prices_add", body | fields))
    assert answer["statusCode"] == 400, answer["body"]
    assert read(answer)["error"]["param"].split(".")[0] == param, answer["body"]
    assert books.query("SELECT FROM price") == []


@pytest.mark.parametrize("id", ["019ade00-0000-7000-8000-00000000ffff", "not-a-uuid"])
def test_a_price_that_isnt_there_is_told(functions: Functions, id: str) -> None:
    for name in ("admin_usage_prices_apply", "admin_usage_prices_remove"):
        answer = functions("admin_usage", of_price(name, id))
        assert answer["statusCode"] == (404 if id.startswith("0") else 400)


def of_allowance(id: str) -> dict[str, Any]:
    """The sample, of another model's allowance."""
    named = sample("admin_usage_allowances_remove")["pathParameters"]["id"]
    event: dict[str, Any] = json.loads(json.dumps(sample("admin_usage_allowances_remove")).replace(named, id))
    return event


def test_raised_allowances_are_shown_by_pages_and_taken_back(
    functions: Functions, database_url: str, books: Books, log: LogLines
) -> None:
    for id in ("vllm/org/model", "azure/first", "vllm/b"):
        raise_allowance(database_url, id)
    query = {"limit": "2"}
    first = read(functions("admin_usage", sample("admin_usage_allowances", queryStringParameters=query)))
    assert ([row["id"] for row in first["rows"]], first["next_cursor"]) == (["azure/first", "vllm/b"], "vllm/b")
    query["cursor"] = first["next_cursor"]
    second = read(functions("admin_usage", sample("admin_usage_allowances", queryStringParameters=query)))
    [row] = second["rows"]
    assert (row["provider"], row["model"], row["tokens"], row["request_id"]) == ("vllm", "org/model", 1300, None)
    assert second["next_cursor"] is None
    removed = read(functions("admin_usage", of_allowance("vllm/Org%2Fmodel")))
    assert removed == row
    [entry] = books.query("SELECT * FROM audit")
    assert (entry["action"], entry["actor"], entry["source_ip"]) == ("allowance.removed", "open", "192.0.2.1")
    assert (entry["before"]["tokens"], entry["after"]["tokens"]) == (1300, None)
    assert [line["action"] for line in log.events("audit")] == ["allowance.removed"]
    assert [row["model"] for row in books.query("SELECT model FROM input_allowance ORDER BY model")] == ["b", "first"]


@pytest.mark.parametrize("id", ["vllm/org/other", "vllm", "vllm/"])
def test_an_allowance_that_isnt_raised_is_told(functions: Functions, books: Books, id: str) -> None:
    answer = functions("admin_usage", of_allowance(id))
    assert (answer["statusCode"], read(answer)["error"]["code"]) == (404, "allowance_not_found")
    assert books.query("SELECT version FROM price_version") == [{"version": 0}], "nobody's prices are stale for it"


def test_a_reset_closes_one_window_opens_the_next_and_is_audited(
    functions: Functions, upstream: Upstream, books: Books, log: LogLines
) -> None:
    functions("complete", sample("complete"))
    result = read(functions("admin_budget", sample("admin_budget_reset")))
    spent = price_of("azure", *upstream.billed[0])
    assert result["closed"]["spent_usd"] == spent
    assert result["closed"]["closed_at"]
    assert result["opened"]["id"] > result["closed"]["id"]
    assert result["opened"]["spent_usd"] == 0
    assert read(functions("admin_budget", sample("admin_budget")))["current_spend_usd"] == 0
    (entry,) = books.query("SELECT * FROM audit")
    assert (entry["action"], entry["actor"], entry["source_ip"]) == ("budget.reset", "open", "192.0.2.1")
    assert entry["request_id"] == sample("admin_budget_reset")["requestContext"]["requestId"]
    assert entry["after"]["reason"] == "new contract"
    assert len(log.events("circuit_breaker.manual_reset")) == 1
    (line,) = log.events("audit")
    assert (line["reason"], line["source_ip"], line["actor"]) == ("new contract", "192.0.2.1", "open")


@pytest.mark.parametrize(
    ("body", "code"), [(None, 200), ("", 200), ("{}", 200), ('{"reason": 3}', 400), ('{"why": "x"}', 400), ("[]", 400)]
)
def test_a_resets_body_is_optional_and_checked(functions: Functions, body: str | None, code: int) -> None:
    answer = functions("admin_budget", sample("admin_budget_reset") | {"body": body})
    assert answer["statusCode"] == code


def test_a_strange_reason_is_kept_or_refused_and_never_a_crash(functions: Functions) -> None:
    for reason in ("\x00", "\ud800", "\N{SNOWMAN}", 'a"b\\u0000'):
        answer = functions("admin_budget", sample("admin_budget_reset", {"reason": reason}))
        assert answer["statusCode"] in {200, 400}


@pytest.mark.parametrize(
    ("query", "probed"), [(None, False), ({}, False), ({"probe": "false"}, False), ({"probe": "true"}, True)]
)
def test_providers_are_probed_when_asked_to(
    functions: Functions, upstream: Upstream, books: Books, query: dict[str, str] | None, probed: bool
) -> None:
    event = sample("admin_providers", queryStringParameters=query, multiValueQueryStringParameters=None)
    result = read(functions("admin_providers", event))
    assert result["chain"] == ["azure", "openai"]
    assert {provider["id"] for provider in result["providers"]} >= {"azure", "openai", "ollama", "vllm"}
    assert all(("probe" in provider) is probed for provider in result["providers"])
    assert len(upstream.requests) == int(probed)
    assert [entry["operation"] for entry in books.entries()] == ["probe"] * (2 * probed)


def test_a_probe_that_is_neither_is_refused(functions: Functions, upstream: Upstream) -> None:
    event = sample("admin_providers", queryStringParameters={"probe": "yes"}, multiValueQueryStringParameters=None)
    answer = functions("admin_providers", event)
    assert (answer["statusCode"], read(answer)["error"]["param"]) == (400, "probe")
    assert not upstream.requests


def test_a_providers_last_failure_is_told(functions: Functions, upstream: Upstream) -> None:
    upstream.script.append(status(401, error={"message": "sentinel-vendor-words"}))
    functions("complete", sample("complete"))
    answer = functions("admin_providers", sample("admin_providers", queryStringParameters=None))
    azure = next(provider for provider in read(answer)["providers"] if provider["id"] == "azure")
    assert azure["status"] == "credential_rejected"
    assert azure["cooldown_until"]
    assert set(azure["last_failure"]) == {"at", "kind", "message"}
    assert "sentinel" not in answer["body"]


def test_a_key_that_expires_soon_is_warned_of_at_the_start(functions: Functions, log: LogLines) -> None:
    soon, later = (datetime.now(UTC).date() + timedelta(days=days) for days in (13, 30))
    functions.set(AZURE_KEY_EXPIRES_ON=soon.isoformat(), OPENAI_KEY_EXPIRES_ON=later.isoformat())
    answer = functions("admin_providers", sample("admin_providers", queryStringParameters=None))
    result = {provider["id"]: provider["key_expires_on"] for provider in read(answer)["providers"]}
    assert (result["azure"], result["openai"], result["ollama"]) == (soon.isoformat(), later.isoformat(), None)
    (line,) = log.events("provider.key_expiring")
    assert (line["provider"], line["expires_on"]) == ("azure", soon.isoformat())


def test_models_are_listed_with_exact_prices(functions: Functions) -> None:
    result = read(functions("models", sample("models")))
    assert result["object"] == "list"
    listed = {model["id"]: model for model in result["data"]}
    assert listed["sota"]["served_by"] == ["azure/first", "openai/second"]
    assert listed["azure/first"]["price"] == {"input_mtok": 1000, "output_mtok": 2000}


def test_health_needs_the_database_and_tells_no_secret(functions: Functions, log: LogLines) -> None:
    well = read(functions("health", sample("health")))
    assert well == {"status": "ok", "database": "ok", "version": VERSION}
    assert not log.events("ledger.unavailable")
    functions.set(DATABASE_URL="postgresql://someone:sentinel-password@127.0.0.1:1/nowhere")
    answer = functions("health", sample("health"))
    assert (answer["statusCode"], read(answer)["database"]) == (503, "unreachable")
    assert len(log.events("ledger.unavailable")) == 1
    assert "sentinel" not in answer["body"]
    assert "someone" not in answer["body"]


def test_a_database_that_comes_back_is_found_again(functions: Functions, database_url: str) -> None:
    assert functions("health", sample("health"))["statusCode"] == 200
    with psycopg.connect(database_url, autocommit=True) as connection:
        gone = connection.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
            " WHERE application_name = 'fusewire' AND datname = current_database()"
        )
        assert gone.fetchall() == [(True,)]
    assert functions("health", sample("health"))["statusCode"] == 200


def test_the_openapi_document_is_served(functions: Functions) -> None:
    assert read(functions("health", sample("health_openapi")))["openapi"].startswith("3.1.")


# --- the monthly reset -------------------------------------------------------------------------------------------


def due(moment: datetime | None = None) -> dict[str, Any]:
    """The schedule's event for a month that ends now."""
    return {"time": (moment or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")}


def test_the_monthly_reset_twice_in_a_minute_resets_once(
    functions: Functions, upstream: Upstream, books: Books, log: LogLines
) -> None:
    functions("complete", sample("complete"))
    first = functions("monthly_reset", due())
    assert Decimal(first["closed"]["spent_usd"]) == price_of("azure", *upstream.billed[0])
    assert functions("monthly_reset", due()) == {"closed": None}
    assert functions("monthly_reset", due(datetime.now(UTC) - timedelta(seconds=5))) == {"closed": None}
    assert len(books.query("SELECT * FROM budget_window")) == 2
    assert len(books.query("SELECT * FROM audit")) == 1
    assert len(log.events("circuit_breaker.monthly_reset")) == 1
    assert {line["request_id"] for line in log.events("circuit_breaker.monthly_reset")} == {"lambda-request-1"}


def test_a_reset_that_is_late_leaves_the_new_months_window_alone(functions: Functions, books: Books) -> None:
    functions("complete", sample("complete"))
    assert functions("monthly_reset", due(datetime.now(UTC) - timedelta(hours=1))) == {"closed": None}
    assert len(books.query("SELECT * FROM budget_window")) == 1


def test_the_sample_and_an_event_without_a_time_are_served(functions: Functions) -> None:
    json.dumps(functions("monthly_reset", sample("monthly_reset")))
    json.dumps(functions("monthly_reset", {}))


def test_a_reset_that_cannot_be_done_fails_so_that_the_schedule_retries(functions: Functions, log: LogLines) -> None:
    from fusewire.errors import LedgerUnavailableError

    functions.set(DATABASE_URL="postgresql://127.0.0.1:1/nowhere")
    with pytest.raises(LedgerUnavailableError):
        functions("monthly_reset", due())
    assert len(log.events("ledger.unavailable")) == 1
    with pytest.raises(ValueError, match="yesterday"):
        functions("monthly_reset", {"time": "yesterday"})
