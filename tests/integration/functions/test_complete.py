"""POST /chat/completions and /embeddings, from API Gateway's event to its answer."""

import base64
import json
import struct
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fusewire.ai.schema import ChatRequest
from tests.conftest import as_app_role
from tests.integration.ai.observing import Books, LogLines, price_of
from tests.integration.budget.wire import Wire
from tests.integration.functions.conftest import Context, Functions, asked, sample
from tests.support.upstream import Upstream, cut_stream, hang, status

fuzzing = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def read(answer: dict[str, Any]) -> Any:  # noqa: ANN401 - JSON
    return json.loads(answer["body"], parse_float=Decimal)


def events(body: str) -> list[Any]:
    result = [each.removeprefix("data: ") for each in body.split("\n\n") if each]
    return [each if each == "[DONE]" else json.loads(each, parse_float=Decimal) for each in result]


def test_an_answer_says_who_gave_it_and_what_it_cost(functions: Functions, upstream: Upstream, books: Books) -> None:
    answer = functions("complete", sample("complete"))
    assert answer["statusCode"] == 200
    cost = price_of("azure", *upstream.billed[0])
    result = read(answer)
    assert result["choices"][0]["message"]["content"] == "Paris."
    assert result["object"] == "chat.completion"
    assert result["usage"]["cost"] == cost
    headers = answer["headers"]
    assert headers["x-fusewire-provider"] == "azure"
    assert headers["x-fusewire-model"] == "first"
    assert headers["x-fusewire-attempts"] == "1"
    assert Decimal(headers["x-fusewire-cost-usd"]) == cost
    assert headers["x-fusewire-budget-state"] == "CLOSED"
    assert Decimal(headers["x-fusewire-budget-remaining-usd"]) == 500 - cost
    assert headers["Content-Type"] == "application/json"
    assert "x-fusewire-dropped" not in headers
    assert books.spent() == cost


def test_falling_over_is_told_by_the_headers(functions: Functions, upstream: Upstream) -> None:
    upstream.script.append(status(500))
    headers = functions("complete", sample("complete"))["headers"]
    assert (headers["x-fusewire-provider"], headers["x-fusewire-attempts"]) == ("openai", "2")


def test_a_models_name_reaches_a_header_as_printable_ascii(functions: Functions) -> None:
    headers = functions("complete", asked(model="azure/modèle-é☃"))["headers"]
    assert headers["x-fusewire-model"] == "mod?le-??"


@pytest.mark.parametrize("include_usage", [None, False, True])
def test_a_stream_flows_or_is_collected(
    functions: Functions, upstream: Upstream, books: Books, include_usage: bool | None
) -> None:
    options = {} if include_usage is None else {"stream_options": {"include_usage": include_usage}}
    event = asked(stream=True, **options)
    streamed = functions.stream("complete", event)
    assert streamed.status == 200
    assert streamed.headers["Content-Type"].startswith("text/event-stream")
    assert streamed.headers["Cache-Control"] == "no-cache"
    assert streamed.headers["x-fusewire-provider"] == "azure"
    assert "x-fusewire-cost-usd" not in streamed.headers, "nobody knows it yet"
    chunks = list(streamed.chunks)
    assert len(chunks) > 3, "piece by piece"
    collected = functions("complete", event)
    for body in (b"".join(chunks).decode(), collected["body"]):
        lines = events(body)
        assert lines[-1] == "[DONE]"
        said = [choice["delta"].get("content") or "" for each in lines[:-1] for choice in each["choices"]]
        assert "".join(said) == "Paris."
        usages = [each["usage"] for each in lines[:-1] if each.get("usage")]
        expected = [price_of("azure", *upstream.billed[0])] if include_usage else []
        assert [usage["cost"] for usage in usages] == expected
    assert books.spent() == 2 * price_of("azure", *upstream.billed[0])
    books.check()


def test_a_stream_that_breaks_ends_with_an_error_event(
    functions: Functions, upstream: Upstream, second_upstream: Upstream, books: Books
) -> None:
    upstream.script.append(cut_stream(2))
    lines = events(functions("complete", asked(stream=True))["body"])
    assert lines[-1]["error"]["code"] == "stream_broken"
    assert "[DONE]" not in lines
    assert not second_upstream.requests
    books.check()


def test_a_stream_that_fails_before_its_content_is_an_ordinary_error(
    functions: Functions, upstream: Upstream, second_upstream: Upstream
) -> None:
    for vendor in (upstream, second_upstream):
        vendor.script.append(status(500))
    answer = functions("complete", asked(stream=True))
    assert (answer["statusCode"], read(answer)["error"]["code"]) == (503, "all_providers_failed")
    assert answer["headers"]["x-should-retry"] == "true"


def test_hanging_up_in_mid_stream_is_settled(functions: Functions, books: Books) -> None:
    streamed = functions.stream("complete", asked(stream=True))
    next(streamed.chunks)
    del streamed
    assert books.ends() == [("azure", "settled", "bound", "abandoned")]
    books.check()


@pytest.mark.parametrize(
    ("fields", "headers", "code", "error"),
    [
        ({"frobnicate": 1}, {}, 400, "invalid_request_error"),
        ({"store": True}, {}, 400, "unsupported_parameter"),
        ({"model": "nobody/knows"}, {}, 404, "model_not_found"),
        ({}, {"X-Fusewire-Classification": "secret"}, 400, "invalid_request_error"),
        ({}, {"x-fusewire-classification": "confidential"}, 503, "no_eligible_provider"),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
def test_a_refused_request_reaches_nobody(
    functions: Functions,
    upstream: Upstream,
    books: Books,
    fields: dict[str, object],
    headers: dict[str, str],
    code: int,
    error: str,
    streamed: bool,
) -> None:
    event = asked(stream=streamed, **fields)
    event["headers"] |= headers
    answer = functions("complete", event)
    assert (answer["statusCode"], read(answer)["error"]["code"]) == (code, error)
    assert answer["headers"]["x-should-retry"] == "false"
    assert not upstream.paths
    assert not books.entries()


@pytest.mark.parametrize("number", ["NaN", "1e999"])
def test_a_number_that_json_lacks_is_the_callers_mistake(functions: Functions, number: str) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"maximum": "NUMBER"}}}
    event = asked(tools=[tool])
    event["body"] = event["body"].replace('"NUMBER"', number)
    answer = functions("complete", event)
    assert (answer["statusCode"], read(answer)["error"]["param"]) == (400, "tools[0].function.parameters")


def test_a_budget_that_is_used_up_stops_the_client(functions: Functions, upstream: Upstream) -> None:
    functions.set(AI_MONTHLY_BUDGET_USD="0.01")
    for name in ("complete", "embed"):
        answer = functions(name, sample(name))
        assert answer["statusCode"] == 402
        error = read(answer)["error"]
        assert (error["type"], error["code"], error["budget"]) == ("insufficient_quota", "budget_exceeded", "global")
        assert error["resets_at"]
        assert answer["headers"]["x-should-retry"] == "false"
    assert not upstream.paths


def test_without_the_ledger_nothing_is_forwarded(functions: Functions, upstream: Upstream, log: LogLines) -> None:
    functions.set(DATABASE_URL="postgresql://someone:sentinel-password@127.0.0.1:1/nowhere")
    for name in ("complete", "embed", "admin_budget", "admin_providers"):
        answer = functions(name, sample(name))
        assert answer["statusCode"] == 503
        assert read(answer)["error"]["code"] == "ledger_unavailable"
        assert (answer["headers"]["x-should-retry"], answer["headers"]["Retry-After"]) == ("true", "1")
        assert "sentinel" not in answer["body"]
    assert not upstream.paths
    assert log.events("ledger.unavailable")
    assert "sentinel" not in log.text


@pytest.mark.parametrize("name", ["complete", "embed"])
def test_an_answer_that_cannot_be_settled_any_more_says_how_the_budget_stood(
    functions: Functions, database_url: str, name: str
) -> None:
    wire = Wire(database_url)
    try:
        functions.set(DATABASE_URL=as_app_role(wire.url))
        wire.break_at("ledger_settle", "ledger_settle", when="before")
        answer = functions(name, sample(name))
        assert wire.all_broken
    finally:
        functions.forget()
        wire.close()
    assert answer["statusCode"] == 200
    assert read(answer)["usage"]["cost"] == Decimal(answer["headers"]["x-fusewire-cost-usd"])
    assert answer["headers"]["x-fusewire-budget-state"] == "CLOSED"
    assert Decimal(answer["headers"]["x-fusewire-budget-remaining-usd"]) < 500


def test_out_of_time_is_a_504(functions: Functions, upstream: Upstream, second_upstream: Upstream) -> None:
    for vendor in (upstream, second_upstream):
        vendor.script.append(hang(20))
    answer = functions("complete", sample("complete"), Context(remaining_ms=2_800))
    assert (answer["statusCode"], read(answer)["error"]["code"]) == (504, "deadline_exceeded")


def test_dropped_fields_are_named(functions: Functions, upstream: Upstream) -> None:
    functions.set(
        AI_MODE="local",
        AI_FALLBACK_CHAIN="ollama",
        OLLAMA_BASE_URL=upstream.url,
        OLLAMA_SOTA_MODEL="small",
        OLLAMA_EMBEDDING_MODEL="small",
    )
    assert functions("complete", asked(user="u", verbosity="low"))["headers"]["x-fusewire-dropped"] == "user, verbosity"
    event = sample("embed", {"model": "sota", "input": "x", "user": "u"})
    assert functions("embed", event)["headers"]["x-fusewire-dropped"] == "user"


@pytest.mark.parametrize("encoding", [None, "float", "base64"])
def test_embeddings(functions: Functions, upstream: Upstream, books: Books, encoding: str | None) -> None:
    body = {"model": "sota", "input": ["Paris", "Berlin"]} | ({"encoding_format": encoding} if encoding else {})
    answer = functions("embed", sample("embed", body))
    assert answer["statusCode"] == 200
    result = read(answer)
    cost = price_of("azure", 11, 0)
    assert (result["object"], result["usage"]["prompt_tokens"], result["usage"]["cost"]) == ("list", 11, cost)
    vector = result["data"][0]["embedding"]
    if encoding == "base64":
        vector = list(struct.unpack("<2f", base64.b64decode(vector)))
    assert [float(number) for number in vector] == [0.5, -0.25]
    assert Decimal(answer["headers"]["x-fusewire-cost-usd"]) == cost == books.spent()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(field=st.sampled_from(sorted(ChatRequest.model_fields)), value=json_values, streamed=st.booleans())
@fuzzing
def test_no_body_is_a_bug(functions: Functions, field: str, value: object, streamed: bool) -> None:
    event = asked(**{"stream": streamed, field: value})
    answer = functions("complete", event)
    assert answer["statusCode"] in {200, 400, 402, 404, 413, 503}
    if answer["statusCode"] != 200:
        assert read(answer)["error"]["code"] not in {"internal_error", "ledger_unavailable"}


@given(body=st.binary(max_size=40) | st.text(max_size=40).map(str.encode))
@fuzzing
def test_no_bytes_are_a_bug(functions: Functions, body: bytes) -> None:
    event = sample("embed", isBase64Encoded=True) | {"body": base64.b64encode(body).decode()}
    assert functions("embed", event)["statusCode"] == 400
