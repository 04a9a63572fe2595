"""Nothing sent, nothing owed: what fails before a request's first byte is released, whatever it is and wherever."""

import json
from collections.abc import Iterator
from typing import Any, NoReturn

import httpx2
import pytest

from fusewire.ai.failures import FailureKind, ProviderFailure
from fusewire.ai.provider import AIProvider
from fusewire.ai.providers.bedrock.exchange import Exchange
from fusewire.ai.providers.bedrock.failures import failure_of
from fusewire.ai.providers.http_client import HttpClient
from fusewire.ai.providers.openai import OpenAIProvider
from fusewire.config import load_settings
from fusewire.errors import FusewireError, ModelNotFoundError
from fusewire.services import Services
from tests.conftest import CoreFactory
from tests.integration.ai.contract import CAP, ROWS, SOTA, TIMES, Row, chat, embedding, root
from tests.integration.ai.observing import Books, LogLines, caller
from tests.support.upstream import Upstream
from tests.support.wires import Wire

K = FailureKind
PRICE = {"input_mtok": 8, "output_mtok": 16}
EVERYWHERE = [" ", "a\N{RIGHT-TO-LEFT OVERRIDE}b", "a\N{LINE SEPARATOR}b", "m "]
IN_ADDRESSES = [".", "..", "a/../b", "a?b", "a#b", "%2e%2e", "a\\b"]


@pytest.fixture(scope="module", params=ROWS, ids=lambda row: str(row.name))
def row(request: pytest.FixtureRequest) -> Row:
    found: Row = request.param
    return found


@pytest.fixture
def provider(row: Row, wire: Wire) -> AIProvider:
    return row.make(wire)


@pytest.fixture
def second(row: Row) -> Iterator[Row]:
    yield next(each for each in ROWS if each.provider == ("vllm" if row.provider == "openai" else "openai"))


@pytest.fixture
def services(row: Row, second: Row, wire: Wire, upstream: Upstream, core: CoreFactory) -> Services:
    """The row's provider before another one."""
    return core(
        **{
            **second.variables(root(upstream)),
            **row.settings(wire),
            "AI_FALLBACK_CHAIN": f"{row.provider},{second.provider}",
            "AI_PRICE_OVERRIDES": json.dumps({f"{name}/*": PRICE for name in (row.provider, second.provider)}),
        }
    )


def rows(*names: str) -> list[Row]:
    """Those of these names."""
    return [each for each in ROWS if each.name in names]


def cells(of_rows: list[Row], names: list[str]) -> list[Any]:
    """Each of these names of a model at each row."""
    return [pytest.param(row, name, id=f"{row.name}-{name!a}") for row in of_rows for name in names]


def broken(*arguments: object, **options: object) -> NoReturn:
    raise ValueError("sentinel-prompt")


def break_before_sending(monkeypatch: pytest.MonkeyPatch, row: Row) -> None:
    """Within the SDK, as it makes the request."""
    if row.provider == "aws":
        monkeypatch.setattr("botocore.client.BaseClient._convert_to_request_dict", broken)
    else:
        monkeypatch.setattr(HttpClient, "build_request", broken)


# --- names ---


# Elsewhere a name of an address travels in the body, and the vendor says that it knows no such model.
@pytest.mark.parametrize(
    ("row", "name"),
    [*cells(ROWS, EVERYWHERE), *cells(rows("azure-dated", "aws"), IN_ADDRESSES)],
    indirect=["row"],
    scope="module",
)
def test_a_name_that_cannot_be_one_is_a_404_by_name_before_anything_is_reserved(
    row: Row, services: Services, wire: Wire, books: Books, name: str
) -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        services.router.complete(chat(model=f"{row.provider}/{name}", max_tokens=CAP), caller())
    assert (caught.value.status, caught.value.param) == (404, "model")
    assert f"{row.provider} can have no model of the name {name!r}" in caught.value.message
    assert (wire.requests, books.entries()) == ([], [])


@pytest.mark.parametrize(
    ("row", "name"),
    cells(rows("gcp"), [".", "..", "google/..", "publishers/x", "a:predict"]),
    indirect=["row"],
    scope="module",
)
def test_an_embedding_models_name_that_stands_in_vertexs_address(services: Services, name: str) -> None:
    with pytest.raises(ModelNotFoundError, match="can have no model of the name"):
        services.router.embed(embedding(model=f"gcp/{name}"), caller())


@pytest.mark.parametrize(("row", "name"), cells(rows("azure-dated"), ["..", "."]), indirect=["row"], scope="module")
def test_a_name_that_the_sdk_refuses_to_put_into_an_address_was_not_sent(
    provider: AIProvider, wire: Wire, name: str
) -> None:
    """Should such a name come in some other way: from a setting. OpenAI's SDK puts it there for the dated API alone."""
    for streamed in (False, True):
        with pytest.raises(ProviderFailure) as caught:
            if streamed:
                list(provider.stream(chat(stream=True), name, CAP, TIMES))
            else:
                provider.complete(chat(), name, CAP, TIMES)
        assert caught.value.kind is K.NOT_SENT
        assert "ValueError" in caught.value.message
    assert wire.requests == []


# --- the first byte ---


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_what_fails_before_the_first_byte_is_released_and_passed_on(
    row: Row,
    second: Row,
    services: Services,
    wire: Wire,
    upstream: Upstream,
    books: Books,
    log: LogLines,
    monkeypatch: pytest.MonkeyPatch,
    streamed: bool,
) -> None:
    break_before_sending(monkeypatch, row)
    request = chat(stream=streamed, max_tokens=CAP, model=f"{row.provider}/{SOTA}")
    for _ in range(6):
        with pytest.raises(Exception, match="Every provider failed"):
            (services.router.stream if streamed else services.router.complete)(request, caller())
    assert (wire.requests, upstream.requests) == ([], [])
    assert books.ends() == [(row.provider, "released", None, "not_sent")] * 6
    assert books.spent() == 0
    assert books.health(row.provider)["cooldown_until"] is None, "it says nothing of the vendor"
    assert "sentinel-prompt" not in log.text
    books.check()


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_what_fails_as_a_request_is_mapped_was_not_sent(
    provider: AIProvider, wire: Wire, monkeypatch: pytest.MonkeyPatch, streamed: bool
) -> None:
    monkeypatch.setattr(type(provider), "body", broken)
    with pytest.raises(ProviderFailure) as caught:
        if streamed:
            list(provider.stream(chat(stream=True), SOTA, CAP, TIMES))
        else:
            provider.complete(chat(), SOTA, CAP, TIMES)
    assert caught.value.kind is K.NOT_SENT
    assert wire.requests == []


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_what_fails_after_it_is_at_the_bound(
    row: Row, services: Services, wire: Wire, books: Books, monkeypatch: pytest.MonkeyPatch, streamed: bool
) -> None:
    model = f"{row.provider}/{SOTA}"
    services.router.complete(chat(model=model, max_tokens=CAP), caller())  # and Google's token is there
    if row.provider == "aws":
        monkeypatch.setattr("botocore.parsers.ResponseParser.parse", broken)
        monkeypatch.setattr("fusewire.ai.providers.bedrock.calls.response_of", broken)
    else:
        send = httpx2.Client.send

        def sent(self: httpx2.Client, *arguments: Any, **options: Any) -> NoReturn:  # noqa: ANN401 - whatever it takes
            send(self, *arguments, **options).close()
            broken()

        monkeypatch.setattr(httpx2.Client, "send", sent)
    with pytest.raises((FusewireError, ValueError)):
        ask = services.router.stream if streamed else services.router.complete
        ask(chat(stream=streamed, model=model, max_tokens=CAP), caller())
    assert len(wire.requests) == 2
    assert books.ends()[1][:3] == (row.provider, "settled", "bound")
    books.check()


def test_a_header_that_http_does_not_allow_is_found_before_the_first_byte(upstream: Upstream) -> None:
    provider = OpenAIProvider(load_settings({"OPENAI_BASE_URL": upstream.url, "OPENAI_API_KEY": "k\nx"}))
    with pytest.raises(ProviderFailure) as caught:
        provider.complete(chat(), SOTA, CAP, TIMES)
    assert caught.value.kind is K.NOT_SENT
    assert upstream.requests == []


def test_a_role_that_cannot_be_assumed_is_the_credentials_trouble() -> None:
    """STS answers as any service of AWS does, before Bedrock is asked."""
    from botocore.exceptions import ClientError  # type: ignore[import-untyped]

    error = ClientError({"Error": {"Code": "AccessDenied", "Message": "not authorized: sts:AssumeRole"}}, "AssumeRole")
    assert failure_of(error, Exchange(1)).kind is K.CREDENTIAL_REJECTED
    assert failure_of(KeyError("x"), Exchange(1)).kind is K.NOT_SENT
