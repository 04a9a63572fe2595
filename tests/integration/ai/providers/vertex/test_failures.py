"""How each failure of Vertex's is classified, and what is booked for it."""

import json
from collections.abc import Callable
from decimal import Decimal

import pytest

from fusewire.ai.bounds import chat_input_bound, embedding_input_bound
from fusewire.ai.failures import FailureKind
from fusewire.ai.providers.vertex.provider import GcpProvider
from fusewire.ai.registry import _PROVIDER_FACTORIES
from fusewire.config import load_settings
from fusewire.errors import AllProvidersFailedError
from fusewire.services import Services
from tests.conftest import CoreFactory
from tests.integration.ai.contract import CAP, TIMES, chat, embedding, root
from tests.integration.ai.observing import Books, LogLines, caller
from tests.integration.ai.providers.vertex.cases import (
    BRIEF,
    MODEL,
    PRICES,
    K,
    answered,
    failed,
    google,
    predicted,
    variables,
)
from tests.support.google_tokens import TokenServer
from tests.support.ports import closed_port
from tests.support.upstream import (
    Reply,
    Upstream,
    cut_before_answer,
    hang,
    without_usage,
)

pytestmark = pytest.mark.usefixtures("google_credentials")


@pytest.mark.parametrize("how", ["chat", "stream", "embed"])
@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize(
    ("code", "reasons", "kind", "see"),
    [
        (400, (), K.UNKNOWN_REFUSAL, ""),
        (400, ("API_KEY_INVALID",), K.CREDENTIAL_REJECTED, ""),
        (401, (), K.CREDENTIAL_REJECTED, ""),
        (403, (), K.MODEL_DENIED, "GOOGLE_APPLICATION_CREDENTIALS"),
        (403, ("SERVICE_DISABLED",), K.CREDENTIAL_REJECTED, "Vertex AI is enabled"),
        (403, ("BILLING_DISABLED",), K.OUT_OF_CREDIT, "GCP_PROJECT_ID"),
        (404, (), K.MODEL_NOT_FOUND, "GCP_LOCATION"),
        (408, (), K.REQUEST_TIMEOUT, ""),
        (413, (), K.TOO_LARGE, ""),
        (429, (), K.RATE_LIMITED, ""),
        (500, (), K.SERVER_ERROR, ""),
        (502, (), K.GATEWAY_ERROR, ""),
        (503, (), K.OVERLOADED, ""),
        (504, (), K.GATEWAY_ERROR, ""),
    ],
)
def test_a_status_says_what_it_is_and_where_to_look(
    gcp: GcpProvider,
    upstream: Upstream,
    how: str,
    listed: bool,
    code: int,
    reasons: tuple[str, ...],
    kind: FailureKind,
    see: str,
) -> None:
    upstream.script.append(google(code, "sentinel-words", *reasons, listed=listed))
    result = failed(gcp, how)
    assert result.kind is kind
    assert see in result.message and f"HTTP {code}" in result.message
    assert "sentinel" not in result.message
    assert result.caller_message == "sentinel-words"
    assert len(upstream.requests) == 1


def plainly(code: int, data: bytes) -> Reply:
    return lambda handler, body: handler.reply(code, data)


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"[1]", b'[{"error":1}]', b'{"error":{"details":"x"}}', b"\xff"])
def test_an_errors_body_may_be_anything(gcp: GcpProvider, upstream: Upstream, body: bytes) -> None:
    for code, kind in ((400, K.UNKNOWN_REFUSAL), (403, K.MODEL_DENIED), (500, K.SERVER_ERROR)):
        upstream.script.append(plainly(code, body))
        assert failed(gcp).kind is kind


def test_vectors_that_never_come(gcp: GcpProvider, upstream: Upstream) -> None:
    gcp.complete(chat(), MODEL, CAP, TIMES)
    upstream.script.extend([cut_before_answer, hang(3)])
    assert failed(gcp, "embed").kind is K.CONNECTION_LOST
    assert failed(gcp, "embed", BRIEF).kind is K.READ_TIMEOUT
    with closed_port() as port:
        for address in (
            f"http://127.0.0.1:{port}",
            "http://nowhere.invalid",
            root(upstream).replace("http:", "https:"),
        ):
            lost = GcpProvider(load_settings({**variables(upstream), "GCP_BASE_URL": address}))
            assert failed(lost, "embed").kind is K.CONNECT_FAILED


@pytest.fixture
def routed(upstream: Upstream, core: CoreFactory, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Services]:
    monkeypatch.setitem(_PROVIDER_FACTORIES, "gcp", GcpProvider)
    return lambda: core(**{**variables(upstream), "AI_FALLBACK_CHAIN": "gcp", "AI_PRICE_OVERRIDES": json.dumps(PRICES)})


@pytest.mark.parametrize("streamed", [False, True], ids=["chat", "stream"])
@pytest.mark.parametrize(
    ("reply", "cost"),
    [
        (answered({"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14}), Decimal("0.018")),
        (answered({"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 24}), Decimal("0.038")),
        (
            answered(
                {
                    "prompt_tokens": 10,
                    "completion_tokens": 4,
                    "total_tokens": 14,
                    "prompt_tokens_details": {"cached_tokens": 5},
                }
            ),
            Decimal("0.0135"),
        ),
        (without_usage, None),
    ],
    ids=["plain", "thoughts", "cached", "none"],
)
def test_usage_is_booked_to_the_cent(
    routed: Callable[[], Services],
    upstream: Upstream,
    books: Books,
    streamed: bool,
    reply: Reply,
    cost: Decimal | None,
) -> None:
    services, request = routed(), chat(stream=streamed, max_tokens=CAP)
    upstream.script.append(reply)
    if streamed:
        list(services.router.stream(request, caller()).chunks)
    else:
        services.router.complete(request, caller())
    (entry,) = books.entries()
    bound = Decimal(chat_input_bound(request) * 1000 + CAP * 2000).scaleb(-6)
    assert entry["cost"] == (bound if cost is None else cost) <= entry["bound"] == bound
    assert entry["cost_basis"] == ("bound" if cost is None else "actual")
    books.check()


def test_credentials_that_fail_cost_nothing_and_cool_the_provider_down(
    routed: Callable[[], Services], tokens: TokenServer, books: Books, log: LogLines
) -> None:
    services = routed()
    tokens.script.append((400, {"error": "invalid_grant", "error_description": "sentinel-grant"}))
    with pytest.raises(AllProvidersFailedError):
        services.router.complete(chat(max_tokens=CAP), caller())
    assert books.ends() == [("gcp", "released", None, "credential_rejected")]
    assert books.health("gcp")["cooldown_until"] is not None
    assert "sentinel-grant" not in log.text
    books.check()


def test_embeddings_are_booked_and_never_free_once_one_was_served(
    routed: Callable[[], Services], upstream: Upstream, books: Books
) -> None:
    services, request = routed(), embedding(input=["a", "b"])
    upstream.script.extend([predicted(3), predicted(4)])
    services.router.embed(request, caller())
    upstream.script.extend([predicted(3), google(429)])
    with pytest.raises(AllProvidersFailedError):
        services.router.embed(request, caller())
    first, second = books.entries()
    assert (first["cost"], first["cost_basis"]) == (Decimal("0.007"), "actual")
    bound = Decimal(embedding_input_bound(request) * 1000).scaleb(-6)
    assert (second["cost"], second["cost_basis"], second["outcome"]) == (bound, "bound", "rate_limited")
    books.check()
