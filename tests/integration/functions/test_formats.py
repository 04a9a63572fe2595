"""POST /messages and /responses, from API Gateway's event to its answer: the same router, books and headers as chat."""

import base64
import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fusewire.http.messages.request import MessagesRequest
from fusewire.http.responses.request import ResponsesRequest
from tests.integration.ai.observing import Books, LogLines, price_of
from tests.integration.functions.conftest import Context, Functions, sample
from tests.support.upstream import Upstream, cut_stream, hang, status, without_usage

fuzzing = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
FORMATS = ("messages", "responses")
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}}


def asked(format: str, **fields: object) -> dict[str, Any]:
    """The format's sample with other fields in its body."""
    event = sample(f"complete_{format}")
    return event | {"body": json.dumps(json.loads(event["body"]) | fields)}


def read(answer: dict[str, Any]) -> Any:  # noqa: ANN401 - JSON
    return json.loads(answer["body"], parse_float=Decimal)


def events(body: str) -> list[dict[str, Any]]:
    result = []
    for each in body.split("\n\n")[:-1]:
        name, data = each.split("\n")
        result.append(json.loads(data.removeprefix("data: "), parse_float=Decimal))
        assert name == f"event: {result[-1]['type']}"
    return result


def code_of(format: str, answer: dict[str, Any]) -> str:
    """The contract's code, wherever the format has it; checks the form on the way."""
    result = read(answer)
    if format == "responses":
        assert set(result) == {"error"}
        code: str = result["error"]["code"]
        return code
    assert (set(result), result["type"]) == ({"type", "error", "request_id"}, "error")
    assert answer["headers"]["request-id"] == answer["headers"]["x-request-id"] == result["request_id"]
    code = result["error"]["details"]["error_code"]
    return code


@pytest.mark.parametrize("format", FORMATS)
def test_an_answer_says_who_gave_it_and_what_it_cost(
    functions: Functions, upstream: Upstream, books: Books, log: LogLines, format: str
) -> None:
    answer = functions("complete", asked(format))
    assert answer["statusCode"] == 200
    cost = price_of("azure", *upstream.billed[0])
    result = read(answer)
    if format == "messages":
        assert result["content"] == [{"type": "text", "text": "Paris."}]
        assert result["id"] == f"msg_{answer['headers']['request-id'].replace('-', '')}"
        assert result["usage"]["output_tokens"] == 3
    else:
        assert result["output"][0]["content"][0]["text"] == "Paris."
        assert result["id"] == f"resp_{answer['headers']['x-request-id'].replace('-', '')}"
        assert result["usage"]["output_tokens"] == 3
    assert result["usage"]["cost"] == cost
    headers = answer["headers"]
    assert (headers["x-fusewire-provider"], headers["x-fusewire-model"]) == ("azure", "first")
    assert (headers["x-fusewire-attempts"], headers["x-fusewire-budget-state"]) == ("1", "CLOSED")
    assert Decimal(headers["x-fusewire-cost-usd"]) == cost == books.spent()
    assert Decimal(headers["x-fusewire-budget-remaining-usd"]) == 500 - cost
    assert "x-fusewire-dropped" not in headers
    [line] = log.events("router.success")
    assert line["cost_usd"] == cost
    books.check()


def test_a_question_costs_the_same_in_every_format(functions: Functions, upstream: Upstream, books: Books) -> None:
    for event in (sample("complete"), *map(asked, FORMATS)):
        assert functions("complete", event)["statusCode"] == 200
    assert len({(entry["bound"], entry["cost"], entry["tier"]) for entry in books.entries()}) == 1
    first, *others = upstream.requests
    assert all(other["messages"] == first["messages"] for other in others)


@pytest.mark.parametrize("format", FORMATS)
def test_a_stream_flows_or_is_collected(functions: Functions, upstream: Upstream, books: Books, format: str) -> None:
    event = asked(format, stream=True)
    streamed = functions.stream("complete", event)
    assert streamed.status == 200
    assert streamed.headers["Content-Type"].startswith("text/event-stream")
    assert streamed.headers["x-fusewire-provider"] == "azure"
    assert "x-fusewire-cost-usd" not in streamed.headers, "nobody knows it yet"
    assert ("request-id" in streamed.headers) == (format == "messages")
    pieces = list(streamed.chunks)
    assert len(pieces) > 6, "piece by piece"
    collected = functions("complete", event)
    for body in (b"".join(pieces).decode(), collected["body"]):
        lines = events(body)
        assert "[DONE]" not in body
        usage = lines[-2]["usage"] if format == "messages" else lines[-1]["response"]["usage"]
        assert usage["cost"] == price_of("azure", *upstream.billed[0])
        text = "".join(
            each["delta"]["text"] if format == "messages" else each["delta"]
            for each in lines
            if each["type"] in ("content_block_delta", "response.output_text.delta")
        )
        assert text == "Paris."
        assert lines[-1]["type"] in ("message_stop", "response.completed")
    assert books.spent() == 2 * price_of("azure", *upstream.billed[0])
    books.check()


@pytest.mark.parametrize("format", FORMATS)
def test_a_stream_that_breaks_ends_with_an_error_event(
    functions: Functions, upstream: Upstream, second_upstream: Upstream, books: Books, format: str
) -> None:
    upstream.script.append(cut_stream(2))
    lines = events(functions("complete", asked(format, stream=True))["body"])
    assert lines[-1]["type"] == ("error" if format == "messages" else "response.failed")
    assert "incomplete" in json.dumps(lines[-1], default=str)
    assert not second_upstream.requests
    assert [end[2:] for end in books.ends()] == [("bound", "stream_broken_late")]
    books.check()


@pytest.mark.parametrize("format", FORMATS)
def test_a_stream_that_fails_before_its_content_is_an_ordinary_error(
    functions: Functions, upstream: Upstream, second_upstream: Upstream, format: str
) -> None:
    for vendor in (upstream, second_upstream):
        vendor.script.append(status(500))
    answer = functions("complete", asked(format, stream=True))
    assert (answer["statusCode"], code_of(format, answer)) == (503, "all_providers_failed")
    assert answer["headers"]["x-should-retry"] == "true"


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("streamed", [False, True])
def test_an_answer_without_usage_is_booked_at_its_bound(
    functions: Functions, upstream: Upstream, books: Books, format: str, streamed: bool
) -> None:
    upstream.script.append(without_usage)
    answer = functions("complete", asked(format, stream=streamed))
    assert answer["statusCode"] == 200
    [entry] = books.entries()
    assert (entry["cost_basis"], entry["cost"]) == ("bound", entry["bound"])
    if format == "messages" and not streamed:
        assert read(answer)["usage"] == {"input_tokens": 0, "output_tokens": 0, "cost": entry["cost"]}
    books.check()


@pytest.mark.parametrize("format", FORMATS)
def test_hanging_up_in_mid_stream_is_settled(functions: Functions, books: Books, format: str) -> None:
    streamed = functions.stream("complete", asked(format, stream=True))
    next(streamed.chunks)
    del streamed
    assert books.ends() == [("azure", "settled", "bound", "abandoned")]
    books.check()


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    ("fields", "headers", "code", "error"),
    [
        ({"frobnicate": 1}, {}, 400, "invalid_request_error"),
        ({"container": "c", "store": True}, {}, 400, None),
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
    format: str,
    fields: dict[str, object],
    headers: dict[str, str],
    code: int,
    error: str | None,
    streamed: bool,
) -> None:
    event = asked(format, stream=streamed, **fields)
    event["headers"] |= headers
    answer = functions("complete", event)
    assert answer["statusCode"] == code
    assert code_of(format, answer) in (error, "unsupported_parameter", "invalid_request_error")
    assert answer["headers"]["x-should-retry"] == "false"
    assert not upstream.paths
    assert not books.entries()


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b'{"model": "sota"}'])
def test_a_body_that_is_none_is_told_in_the_callers_format(functions: Functions, format: str, body: bytes) -> None:
    event = sample(f"complete_{format}", isBase64Encoded=True) | {"body": base64.b64encode(body).decode()}
    answer = functions("complete", event)
    assert (answer["statusCode"], code_of(format, answer)) == (400, "invalid_request_error")


@pytest.mark.parametrize("format", FORMATS)
def test_a_body_that_is_too_large_is_told_in_the_callers_format(functions: Functions, format: str) -> None:
    answer = functions("complete", sample(f"complete_{format}") | {"body": "x" * 6_000_001})
    assert (answer["statusCode"], code_of(format, answer)) == (413, "request_too_large")


@pytest.mark.parametrize("format", FORMATS)
def test_a_budget_that_is_used_up_stops_the_client(functions: Functions, upstream: Upstream, format: str) -> None:
    functions.set(AI_MONTHLY_BUDGET_USD="0.01")
    answer = functions("complete", asked(format))
    assert (answer["statusCode"], code_of(format, answer)) == (402, "budget_exceeded")
    assert answer["headers"]["x-should-retry"] == "false"
    error = read(answer)["error"]
    result = error["details"] if format == "messages" else error
    assert (result["budget"], bool(result["resets_at"])) == ("global", True)
    assert error["type"] == ("billing_error" if format == "messages" else "insufficient_quota")
    assert not upstream.paths


@pytest.mark.parametrize("streamed", [False, True])
def test_codex_is_told_of_a_used_up_budget_as_of_its_usage_limit(
    functions: Functions, upstream: Upstream, streamed: bool
) -> None:
    functions.set(AI_MONTHLY_BUDGET_USD="0.01")
    event = asked("responses", stream=streamed)
    event["headers"]["originator"] = "codex_exec"
    answer = functions("complete", event)
    assert (answer["statusCode"], code_of("responses", answer)) == (429, "budget_exceeded")
    error = read(answer)["error"]
    assert (error["type"], type(error["resets_at"])) == ("usage_limit_reached", int)
    assert answer["headers"]["x-should-retry"] == "false"
    assert answer["headers"]["x-codex-promo-message"] == error["message"].removesuffix(".")
    assert not upstream.paths


@pytest.mark.parametrize("format", FORMATS)
def test_without_the_ledger_nothing_is_forwarded(
    functions: Functions, upstream: Upstream, log: LogLines, format: str
) -> None:
    functions.set(DATABASE_URL="postgresql://someone:sentinel-password@127.0.0.1:1/nowhere")
    answer = functions("complete", asked(format))
    assert (answer["statusCode"], code_of(format, answer)) == (503, "ledger_unavailable")
    assert (answer["headers"]["x-should-retry"], answer["headers"]["Retry-After"]) == ("true", "1")
    assert not upstream.paths
    assert log.events("ledger.unavailable")
    assert "sentinel" not in log.text + answer["body"]


@pytest.mark.parametrize("format", FORMATS)
def test_out_of_time_is_a_504(functions: Functions, upstream: Upstream, second_upstream: Upstream, format: str) -> None:
    for vendor in (upstream, second_upstream):
        vendor.script.append(hang(20))
    answer = functions("complete", asked(format), Context(remaining_ms=2_800))
    assert (answer["statusCode"], code_of(format, answer)) == (504, "deadline_exceeded")


@pytest.mark.parametrize("format", FORMATS)
def test_a_bug_is_told_in_the_callers_format(
    functions: Functions, monkeypatch: pytest.MonkeyPatch, log: LogLines, format: str
) -> None:
    def bug(*_: object) -> None:
        raise ZeroDivisionError("sentinel-content")

    monkeypatch.setattr(f"fusewire.http.{format}.render.chat_request", bug)
    answer = functions("complete", asked(format))
    assert (answer["statusCode"], code_of(format, answer)) == (500, "internal_error")
    assert log.events("function.error")
    assert "sentinel" not in log.text + answer["body"]


# --- fields ---


def test_what_has_no_place_is_named_in_the_doors_words_and_in_the_log(functions: Functions, log: LogLines) -> None:
    functions.set(
        AI_MODE="local", AI_FALLBACK_CHAIN="ollama", OLLAMA_BASE_URL=functions.variables["OPENAI_BASE_URL"],
        OLLAMA_SOTA_MODEL="small",
    )  # fmt: skip
    thinking = {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "Eq"}]}
    user = {"role": "user", "content": [{"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}]}
    for streamed in (False, True):
        event = asked("messages", top_k=5, metadata={"user_id": "u"}, messages=[user, thinking, user], stream=streamed)
        event["headers"]["anthropic-beta"] = "context-1m-2026-08-07"
        answer = functions("complete", event)
        assert answer["headers"]["x-fusewire-dropped"] == (
            "top_k, anthropic-beta, cache_control, messages.thinking, metadata.user_id"
        )
    event = asked("responses", reasoning={"summary": "auto"}, text={"verbosity": "low"}, user="u", stream=False)
    dropped = "reasoning.summary, user, text.verbosity"
    assert functions("complete", event)["headers"]["x-fusewire-dropped"] == dropped
    lines = [line["dropped"] for line in log.events("router.success")]
    assert len(lines) == 3
    assert all("top_k" in line for line in lines[:2])
    assert "reasoning.summary" in lines[2]


@pytest.mark.parametrize(
    ("format", "fields", "param"),
    [
        (
            "messages",
            {"tools": [{"name": "f", "input_schema": {}}],
             "tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
            "tool_choice.disable_parallel_tool_use",
        ),
        (
            "responses",
            {"tools": [{"type": "function", "name": "f"}], "parallel_tool_calls": False},
            "parallel_tool_calls",
        ),
    ],
)  # fmt: skip
def test_one_tool_call_at_a_time_is_kept_where_the_vendor_has_no_such_field(
    functions: Functions, format: str, fields: dict[str, object], param: str
) -> None:
    functions.set(
        AI_MODE="local", AI_FALLBACK_CHAIN="ollama", OLLAMA_BASE_URL=functions.variables["OPENAI_BASE_URL"],
        OLLAMA_SOTA_MODEL="small",
    )  # fmt: skip
    answer = functions("complete", asked(format, **fields))
    assert answer["statusCode"] == 200
    assert param not in answer["headers"].get("x-fusewire-dropped", "")


@pytest.mark.parametrize("format", FORMATS)
def test_what_the_vendor_says_of_the_callers_mistake_reaches_the_caller(
    functions: Functions, upstream: Upstream, format: str
) -> None:
    upstream.script.append(status(400, error={"message": "image too small", "param": "messages"}))
    answer = functions("complete", asked(format))
    assert (answer["statusCode"], code_of(format, answer)) == (400, "invalid_request_error")
    error = read(answer)["error"]
    assert error["message"].startswith("image too small")
    if format == "responses":
        assert error["param"] == "input"


def test_the_upstream_gets_the_whole_request(functions: Functions, upstream: Upstream) -> None:
    tool = {"name": "look", "description": "d", "input_schema": {"type": "object"}}
    functions(
        "complete",
        asked(
            "messages",
            system=[{"type": "text", "text": "be brief"}],
            messages=[{"role": "user", "content": [IMAGE, {"type": "text", "text": "what?"}]}],
            tools=[tool],
            tool_choice={"type": "tool", "name": "look"},
            stop_sequences=["X"],
            temperature=0.5,
        ),
    )
    [sent] = upstream.requests
    assert sent == {
        "model": "first",
        "messages": [
            {"role": "system", "content": "be brief"},
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
                    {"type": "text", "text": "what?"},
                ],
            },
        ],
        "tools": [
            {
                "type": "function",
                "function": {"name": "look", "description": "d", "parameters": {"type": "object"}},
            }
        ],
        "tool_choice": {"type": "function", "function": {"name": "look"}},
        "stop": ["X"],
        "temperature": 0.5,
        "max_completion_tokens": 64,
        "service_tier": "default",
    }


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = [("messages", name) for name in sorted(MessagesRequest.model_fields)]
FIELDS += [("responses", name) for name in sorted(ResponsesRequest.model_fields)]


@given(field=st.sampled_from(FIELDS), value=json_values, streamed=st.booleans())
@fuzzing
def test_no_body_is_a_bug(functions: Functions, field: tuple[str, str], value: object, streamed: bool) -> None:
    format, name = field
    answer = functions("complete", asked(format, **{"stream": streamed, name: value}))
    assert answer["statusCode"] in {200, 400, 402, 404, 413, 503}
    if answer["statusCode"] != 200:
        assert code_of(format, answer) not in {"internal_error", "ledger_unavailable"}
