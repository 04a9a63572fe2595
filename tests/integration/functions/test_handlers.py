"""Every handler with its sample from `events/`; the admin routes, and the monthly reset."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from psycopg.types.json import Jsonb

from fusewire import VERSION
from fusewire.http.openapi import document
from tests.integration.ai.observing import Books, LogLines, price_of
from tests.integration.functions.conftest import ROOT, Functions, StreamingContext, make_key, sample
from tests.support.upstream import Upstream, status

REST = sorted(file.stem for file in (ROOT / "events").glob("*.json") if '"isBase64Encoded"' in file.read_text())


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
    if named := (event["pathParameters"] or {}).get("id"):
        make_key(database_url, id=named, tags=Jsonb({}))
    answer = functions(function_of(name), event, context)
    assert answer["statusCode"] == (201 if name == "admin_keys_create" else 200)
    assert read(answer)
    assert answer["headers"]["x-request-id"] == event["requestContext"]["requestId"]
    assert answer["isBase64Encoded"] is False
    json.dumps(answer)


def test_the_budget_is_told_in_exact_numbers(functions: Functions, upstream: Upstream) -> None:
    functions("complete", sample("complete"))
    functions("embed", sample("embed"))
    chat, vectors = (price_of("azure", *bill) for bill in upstream.billed)
    told = read(functions("admin_budget", sample("admin_budget")))
    assert told["state"] == "CLOSED"
    assert told["monthly_limit_usd"] == 500
    assert told["current_spend_usd"] == chat + vectors
    assert told["reserved_usd"] == 0
    assert told["remaining_usd"] == 500 - chat - vectors
    assert told["request_count"] == 2
    assert told["by_provider"] == {"azure": chat + vectors}
    assert told["by_model"] == {"azure/first": chat, "azure/first-embedding": vectors}
    assert set(told["window"]) == {"id", "opened_at", "resets_at"}
    assert set(told["forecast"]) == {"month_end_usd", "exhausted_at"}


def test_a_reset_closes_one_window_opens_the_next_and_is_audited(
    functions: Functions, upstream: Upstream, books: Books, log: LogLines
) -> None:
    functions("complete", sample("complete"))
    told = read(functions("admin_budget", sample("admin_budget_reset")))
    spent = price_of("azure", *upstream.billed[0])
    assert told["closed"]["spent_usd"] == spent
    assert told["closed"]["closed_at"]
    assert told["opened"]["id"] > told["closed"]["id"]
    assert told["opened"]["spent_usd"] == 0
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
    told = read(functions("admin_providers", event))
    assert told["chain"] == ["azure", "openai"]
    assert {provider["id"] for provider in told["providers"]} >= {"azure", "openai", "ollama", "vllm"}
    assert all(("probe" in provider) is probed for provider in told["providers"])
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
    told = {provider["id"]: provider["key_expires_on"] for provider in read(answer)["providers"]}
    assert (told["azure"], told["openai"], told["ollama"]) == (soon.isoformat(), later.isoformat(), None)
    (line,) = log.events("provider.key_expiring")
    assert (line["provider"], line["expires_on"]) == ("azure", soon.isoformat())


def test_models_are_listed_with_exact_prices(functions: Functions) -> None:
    told = read(functions("models", sample("models")))
    assert told["object"] == "list"
    listed = {model["id"]: model for model in told["data"]}
    assert listed["sota"]["served_by"] == ["azure/first", "openai/second"]
    assert listed["azure/first"]["price"] == {"input_mtok": 1000, "output_mtok": 2000}


def assert_as_promised(told: dict[str, Any], schema: dict[str, Any]) -> None:
    assert set(told) == set(schema["required"]) == set(schema["properties"])
    for name, promised in schema["properties"].items():
        assert told[name] == promised.get("const", told[name])


def test_health_needs_the_database_and_tells_no_secret(functions: Functions, log: LogLines) -> None:
    promised = document()["paths"]["/api/v1/health"]["get"]["responses"]
    well = read(functions("health", sample("health")))
    assert well == {"status": "ok", "database": "ok", "version": VERSION}
    assert_as_promised(well, promised["200"]["content"]["application/json"]["schema"])
    assert not log.events("ledger.unavailable")
    functions.set(DATABASE_URL="postgresql://someone:sentinel-password@127.0.0.1:1/nowhere")
    answer = functions("health", sample("health"))
    assert (answer["statusCode"], read(answer)["database"]) == (503, "unreachable")
    functions_own, _ = promised["503"]["content"]["application/json"]["schema"]["anyOf"]
    assert_as_promised(read(answer), functions_own)
    assert len(log.events("ledger.unavailable")) == 1
    assert "sentinel" not in answer["body"]
    assert "someone" not in answer["body"]


def test_a_database_that_comes_back_is_found_again(functions: Functions, database_url: str) -> None:
    assert functions("health", sample("health"))["statusCode"] == 200
    functions.loaded["health"]._core.database._connection.close()
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
