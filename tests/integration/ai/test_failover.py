"""The first provider fails: the second answers, and the books and the log say why.

Every way to fail, at every provider, is in `test_failures_are_booked`.
"""

import socket
from collections.abc import Mapping
from contextlib import closing
from typing import Any

import pytest

from fusewire.ai.bounds import chat_input_bound
from fusewire.ai.schema import StreamChunk
from fusewire.errors import (
    AllProvidersFailedError,
    ContentPolicyError,
    FusewireError,
    InvalidRequestError,
    ModelNotFoundError,
    RequestTooLargeError,
    UnsupportedParameterError,
)
from fusewire.store.db import Statement
from tests.conftest import CoreFactory
from tests.integration.ai.contract import chat, embedding
from tests.integration.ai.observing import Books, LogLines, caller, price_of, two_clouds
from tests.support.upstream import (
    Reply,
    Upstream,
    cut_stream,
    hang,
    status,
)

CAP = 100
TRUNCATED = b'{"id":"x","created":1,"model":"m","choices":[{"index":0,"mess'

# (name, reply, kind, basis: what becomes of the first attempt's reservation)
FAILS: list[tuple[str, Reply, str, str | None]] = [
    ("500", status(500), "server_error", None),
    ("502", status(502), "gateway_error", "bound"),
    ("409", status(409), "conflict", None),
    ("402", status(402), "out_of_credit", None),
    ("hangs", hang(3), "read_timeout", "bound"),
]
STREAM_FAILS = [*FAILS, ("cut before content", cut_stream(0), "connection_lost", "bound")]


def text(chunks: list[StreamChunk]) -> str:
    return "".join(choice.delta.content or "" for c in chunks for choice in c.choices)


CASES = [
    pytest.param(streamed, reply, kind, basis, id=f"{'stream' if streamed else 'chat'}: {name}")
    for streamed, fails in ((False, FAILS), (True, STREAM_FAILS))
    for name, reply, kind, basis in fails
]


@pytest.mark.parametrize(("streamed", "reply", "kind", "basis"), CASES)
def test_the_second_answers(
    upstream: Upstream,
    second_upstream: Upstream,
    core: CoreFactory,
    books: Books,
    log: LogLines,
    streamed: bool,
    reply: Reply,
    kind: str,
    basis: str | None,
) -> None:
    upstream.script.append(reply)
    services = core(**two_clouds(upstream, second_upstream, AI_REQUEST_TIMEOUT_SECONDS="2"))
    request = chat(stream=streamed, max_tokens=CAP)
    if streamed:
        streaming = services.router.stream(request, caller())
        assert (streaming.provider, streaming.model, streaming.attempts) == ("openai", "second", 2)
        assert text(list(streaming.chunks)) == "Paris."
    else:
        response, served = services.router.complete(request, caller())
        assert (served.provider, served.model, served.attempts) == ("openai", "second", 2)
        assert response.choices[0].message.content == "Paris."
    assert len(upstream.requests) == len(second_upstream.requests) == 1

    first, second = books.entries()
    assert books.ends() == [
        ("azure", "settled" if basis else "released", basis, kind),
        ("openai", "settled", "actual", "success"),
    ]
    assert (first["attempt"], second["attempt"]) == (1, 2)
    assert first["request_id"] == second["request_id"] == "request-1"
    bound = price_of("azure", chat_input_bound(request), CAP)
    assert first["bound"] == bound
    assert first["cost"] == (bound if basis else None)
    assert second["cost"] == price_of("openai", *second_upstream.billed[0])
    books.check()

    (failed,) = log.events("router.provider_failed")
    assert (failed["level"], failed["provider"], failed["model"]) == ("WARNING", "azure", "first")
    assert (failed["kind"], failed["attempt"], failed["tier"]) == (kind, 1, "sota")
    assert failed["cost_usd"] == (bound if basis else 0)
    assert failed.get("cost_basis") == basis
    (succeeded,) = log.events("router.success")
    assert (succeeded["provider"], succeeded["attempt"], succeeded["cost_basis"]) == ("openai", 2, "actual")
    assert succeeded["cost_usd"] == second["cost"]
    assert len(log.events("ledger.settled_at_bound")) == (1 if basis else 0)
    assert not log.events("router.all_failed")


def test_an_attempt_more_is_one_round_trip_more(
    upstream: Upstream, second_upstream: Upstream, core: CoreFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = core(**two_clouds(upstream, second_upstream))
    call = services.database.call
    sent: list[str] = []

    def seen(statement: Statement[Mapping[str, object], object], argument: Mapping[str, object], **more: Any) -> object:  # noqa: ANN401 - whichever
        sent.append(statement.sql)
        return call(statement, argument, **more)

    monkeypatch.setattr(services.database, "call", seen)
    services.router.complete(chat(), caller())
    upstream.script.append(status(500))
    services.router.complete(chat(), caller())
    reserve, end = "SELECT ledger_reserve($1::jsonb)", "SELECT ledger_settle($1::jsonb)"
    assert sent == [reserve, end, reserve, reserve, end]


def test_a_refused_connection_costs_nothing(
    second_upstream: Upstream, core: CoreFactory, books: Books, log: LogLines
) -> None:
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        nobody = Upstream(port=listener.getsockname()[1])
        services = core(**two_clouds(nobody, second_upstream))
        _, served = services.router.complete(chat(), caller())
    assert served.attempts == 2
    assert books.ends() == [
        ("azure", "released", None, "connect_failed"),
        ("openai", "settled", "actual", "success"),
    ]
    books.check()


@pytest.mark.parametrize("streamed", [False, True], ids=["chat", "stream"])
@pytest.mark.parametrize(
    ("reply", "error", "outcome", "basis"),
    [
        (
            status(400, error={"message": "no such tool", "param": "tools"}),
            InvalidRequestError,
            "rejected_request",
            None,
        ),
        (status(400, error={"code": "invalid_value"}), InvalidRequestError, "rejected_request", None),
        (status(422), InvalidRequestError, "unknown_refusal", "bound"),
        (status(413), RequestTooLargeError, "too_large", None),
        (status(400, error={"code": "content_filter", "message": "no"}), ContentPolicyError, "content_policy", "bound"),
        (status(400, error={"code": "context_length_exceeded"}), InvalidRequestError, "input_too_long", "bound"),
    ],
)
def test_the_callers_own_mistake_stops_the_chain(
    upstream: Upstream,
    second_upstream: Upstream,
    core: CoreFactory,
    books: Books,
    reply: Reply,
    error: type[FusewireError],
    outcome: str,
    basis: str | None,
    streamed: bool,
) -> None:
    upstream.script.append(reply)
    services = core(**two_clouds(upstream, second_upstream))
    with pytest.raises(error) as caught:
        if streamed:
            services.router.stream(chat(stream=True), caller())
        else:
            services.router.complete(chat(), caller())
    assert type(caught.value) is error
    assert not second_upstream.requests
    assert books.ends() == [("azure", "settled" if basis else "released", basis, outcome)]
    assert books.health("azure") == {}
    books.check()


def test_the_vendors_words_reach_the_caller_and_no_log(
    upstream: Upstream, second_upstream: Upstream, core: CoreFactory, books: Books, log: LogLines
) -> None:
    upstream.script.append(status(400, error={"message": "sentinel-vendor-words", "param": "messages[0]"}))
    services = core(**two_clouds(upstream, second_upstream))
    with pytest.raises(InvalidRequestError, match="sentinel-vendor-words") as caught:
        services.router.complete(chat(), caller())
    assert caught.value.param == "messages[0]"
    assert "sentinel" not in log.text + str(books.query("SELECT * FROM ledger"))


def test_everyone_failing_tells_each_outcome(
    upstream: Upstream, second_upstream: Upstream, core: CoreFactory, books: Books, log: LogLines
) -> None:
    upstream.script.append(status(500))
    second_upstream.script.append(status(429, {"Retry-After": "21"}))
    services = core(**two_clouds(upstream, second_upstream))
    with pytest.raises(AllProvidersFailedError) as caught:
        services.router.complete(chat(), caller())
    assert [(o.provider, o.model, o.kind) for o in caught.value.outcomes] == [
        ("azure", "first", "server_error"),
        ("openai", "second", "rate_limited"),
    ]
    assert caught.value.retry_after == 21
    (line,) = log.events("router.all_failed")
    assert (line["level"], line["code"]) == ("ERROR", "all_providers_failed")
    assert line["message"] == "azure/first: server_error; openai/second: rate_limited"
    assert len(log.events("router.provider_failed")) == 2
    assert books.spent() == 0
    books.check()


def test_whoever_cools_down_is_told_of_too(upstream: Upstream, second_upstream: Upstream, core: CoreFactory) -> None:
    services = core(**two_clouds(upstream, second_upstream))
    upstream.script.append(status(429, {"Retry-After": "45"}))
    services.router.complete(chat(), caller())
    second_upstream.script.append(status(500))
    with pytest.raises(AllProvidersFailedError) as caught:
        services.router.complete(chat(), caller())
    assert [(o.provider, o.kind) for o in caught.value.outcomes] == [
        ("azure", "cooling_down"),
        ("openai", "server_error"),
    ]
    assert caught.value.retry_after == pytest.approx(45, abs=10), "azure said when to come back"


def test_all_cooling_down_sends_nothing(
    upstream: Upstream, second_upstream: Upstream, core: CoreFactory, books: Books
) -> None:
    services = core(**two_clouds(upstream, second_upstream))
    upstream.script.append(status(429, {"Retry-After": "45"}))
    second_upstream.script.append(status(503, {"Retry-After": "90"}))
    with pytest.raises(AllProvidersFailedError):
        services.router.complete(chat(), caller())
    with pytest.raises(AllProvidersFailedError) as caught:
        services.router.complete(chat(), caller())
    assert {o.kind for o in caught.value.outcomes} == {"cooling_down"}
    assert caught.value.retry_after == pytest.approx(45, abs=10)
    assert (len(upstream.requests), len(second_upstream.requests)) == (1, 1)
    assert len(books.entries()) == 2
    books.check()


def test_a_pinned_model_does_not_fall_over(
    upstream: Upstream, second_upstream: Upstream, core: CoreFactory, books: Books
) -> None:
    services = core(**two_clouds(upstream, second_upstream))
    for model in ("azure/first", "first"):
        upstream.script.append(status(500))
        with pytest.raises(AllProvidersFailedError) as caught:
            services.router.complete(chat(model=model), caller())
        assert [o.provider for o in caught.value.outcomes] == ["azure"]
    assert not second_upstream.requests
    books.check()


@pytest.mark.parametrize("reply", [status(404), status(403, error={"code": "model_not_found"})])
def test_a_model_that_its_provider_does_not_know_is_a_404_and_no_cooldown(
    upstream: Upstream, second_upstream: Upstream, core: CoreFactory, books: Books, reply: Reply
) -> None:
    services = core(**two_clouds(upstream, second_upstream))
    for _ in range(6):
        upstream.script.append(reply)
        with pytest.raises(ModelNotFoundError):
            services.router.complete(chat(model="azure/made-up"), caller())
    assert books.health("azure")["cooldown_until"] is None
    assert services.router.complete(chat(), caller())[1].provider == "azure"
    books.check()


def test_embeddings_are_metered_and_do_not_fall_over(
    upstream: Upstream, second_upstream: Upstream, core: CoreFactory, books: Books
) -> None:
    services = core(**two_clouds(upstream, second_upstream, OPENAI_EMBEDDING_MODEL="second-embedding"))
    _, served = services.router.embed(embedding(input=["a", "bc"]), caller())
    assert served.booked.cost == price_of("azure", 3, 0)
    upstream.script.append(status(500))
    with pytest.raises(AllProvidersFailedError):
        services.router.embed(embedding(), caller())
    assert not second_upstream.requests
    assert [e["operation"] for e in books.entries()] == ["embedding", "embedding"]
    books.check()


def test_what_nobody_can_honour_is_refused_by_name(
    upstream: Upstream, second_upstream: Upstream, core: CoreFactory, books: Books
) -> None:
    variables = two_clouds(second_upstream, second_upstream) | {
        "AI_MODE": "hybrid",
        "AI_FALLBACK_CHAIN": "ollama,openai",
        "OLLAMA_BASE_URL": upstream.url,
        "OLLAMA_SOTA_MODEL": "small",
    }
    services = core(**variables)
    with pytest.raises(UnsupportedParameterError) as caught:
        services.router.complete(chat(model="ollama/small", n=2), caller())
    assert caught.value.param == "n"
    assert services.router.complete(chat(n=2), caller())[1].provider == "openai"
    assert not upstream.requests


def test_dropped_fields_are_told(upstream: Upstream, second_upstream: Upstream, core: CoreFactory) -> None:
    variables = two_clouds(second_upstream, second_upstream) | {
        "AI_MODE": "hybrid",
        "AI_FALLBACK_CHAIN": "ollama",
        "OLLAMA_BASE_URL": upstream.url,
        "OLLAMA_SOTA_MODEL": "small",
    }
    _, served = core(**variables).router.complete(chat(user="someone", seed=1), caller())
    assert served.dropped == ("user",)
    assert "user" not in upstream.requests[0]


@pytest.mark.parametrize("streamed", [False, True])
def test_a_refused_field_is_released_and_the_next_provider_reserved_at_once(
    core: CoreFactory, upstream: Upstream, second_upstream: Upstream, books: Books, streamed: bool
) -> None:
    services = core(**two_clouds(upstream, second_upstream))
    upstream.script.append(status(400, error={"message": "no", "param": "temperature"}))
    if streamed:
        list(services.router.stream(chat(temperature=0.5), caller()).chunks)
    else:
        assert services.router.complete(chat(temperature=0.5), caller())[1].attempts == 2
    assert books.ends() == [("azure", "released", None, "field_refused"), ("openai", "settled", "actual", "success")]
    assert books.health("azure") == {}
    books.check()


@pytest.mark.parametrize("streamed", [False, True])
def test_a_field_that_may_be_left_out_costs_one_more_attempt_at_the_same_provider(
    core: CoreFactory, upstream: Upstream, books: Books, streamed: bool
) -> None:
    services = core(**two_clouds(upstream, upstream, AI_FALLBACK_CHAIN="azure"))
    upstream.script += [status(400, error={"message": "no", "param": name}) for name in ("temperature", "seed")]
    fields = {"temperature": 0.5, "seed": 1, "top_p": 0.5}
    if streamed:
        streaming = services.router.stream(chat(**fields), caller())
        list(streaming.chunks)
        dropped = streaming.dropped
    else:
        dropped = services.router.complete(chat(**fields), caller())[1].dropped
    assert dropped == ("seed", "temperature")
    assert [sorted(fields.keys() & each.keys()) for each in upstream.requests] == [
        ["seed", "temperature", "top_p"],
        ["seed", "top_p"],
        ["top_p"],
    ]
    assert [(provider, basis) for provider, _, basis, _ in books.ends()] == [
        ("azure", None),
        ("azure", None),
        ("azure", "actual"),
    ]
    books.check()


def test_a_vendor_that_refuses_everything_ends_the_call(core: CoreFactory, upstream: Upstream, books: Books) -> None:
    services = core(**two_clouds(upstream, upstream, AI_FALLBACK_CHAIN="azure"))
    upstream.otherwise = status(400, error={"message": "no", "param": "temperature"})
    with pytest.raises(InvalidRequestError, match="no"):
        services.router.complete(chat(temperature=0.5), caller())
    assert len(upstream.requests) == 2, "the field was left out once"
    assert books.spent() == 0
    books.check()
