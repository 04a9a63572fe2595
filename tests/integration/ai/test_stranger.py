"""A provider that fusewire has never heard of joins in two steps: one file, and one line in `_PROVIDER_FACTORIES`."""

import importlib
import json
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from fusewire.ai import registry
from fusewire.ai.catalogue import catalogue
from fusewire.ai.schema import ChatRequest, fields_of, kept, needs
from fusewire.errors import UnsupportedParameterError
from fusewire.http.admin.providers import providers_response
from fusewire.http.models import model_list
from fusewire.services import Services
from scripts.docs.examples import Example, examples
from tests.conftest import CoreFactory
from tests.integration.ai.contract import chat, embedding
from tests.integration.ai.observing import Books, LogLines, caller

FILE = """
from fusewire.ai.failures import FailureKind, ProviderFailure
from fusewire.ai.provider import AIProvider, Variables
from fusewire.ai.schema import ChatResponse, EmbeddingResponse, StreamChunk

USAGE = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}


class EchoProvider(AIProvider):
    id = "echo"
    variables = Variables(endpoint="ECHO_URL", sota="ECHO_MODEL", embedding="ECHO_EMBEDDING_MODEL")

    def _text(self, request):
        text = request.messages[-1].content
        if text == "fail":
            raise ProviderFailure(FailureKind.OVERLOADED, "echo is unavailable")
        return text

    def complete(self, request, model, output_cap, timeouts):
        choice = {"index": 0, "message": {"content": self._text(request)}, "finish_reason": "stop"}
        response = {"id": "e", "created": 1, "model": model, "choices": [choice], "usage": USAGE}
        return ChatResponse.model_validate(response)

    def stream(self, request, model, output_cap, timeouts):
        for letter in self._text(request):
            yield self._chunk(model, {"content": letter})
        yield self._chunk(model, {}, "stop", usage=USAGE)

    def _chunk(self, model, delta, finish=None, **more):
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return StreamChunk.model_validate({"id": "e", "created": 1, "model": model, "choices": [choice], **more})

    def embed(self, request, model, timeouts):
        data = [{"index": 0, "embedding": [1.0]}]
        return EmbeddingResponse.model_validate({"data": data, "model": model, "usage": {"prompt_tokens": 10}})
"""


@pytest.fixture
def services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, core: CoreFactory) -> Services:
    # Step one: the file.
    (tmp_path / "echo_provider_of_a_stranger.py").write_text(FILE)
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    monkeypatch.delitem(sys.modules, "echo_provider_of_a_stranger", raising=False)
    # Step two: the line.
    factory = registry._in("echo_provider_of_a_stranger", "EchoProvider")
    monkeypatch.setitem(registry._PROVIDER_FACTORIES, "echo", factory)

    return core(
        ECHO_URL="http://echo.invalid",
        ECHO_MODEL="parrot",
        ECHO_EMBEDDING_MODEL="parrot-vectors",
        AI_FALLBACK_CHAIN="echo",
        AI_PRICE_OVERRIDES=json.dumps({"echo/*": {"input_mtok": 1000, "output_mtok": 5000}}),
    )


def test_complete_stream_and_embed_work_end_to_end_and_are_booked(
    services: Services, books: Books, log: LogLines
) -> None:
    response, served = services.router.complete(chat(), caller())
    assert response.choices[0].message.content == "Hello"
    assert (served.provider, served.model, served.booked.cost) == ("echo", "parrot", Decimal("0.02"))

    streaming = services.router.stream(chat(stream=True), caller())
    chunks = list(streaming.chunks)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "Hello"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.cost == Decimal("0.02")

    vectors, embedded = services.router.embed(embedding(), caller())
    assert vectors.data[0].embedding == [1.0]
    assert embedded.booked.cost == Decimal("0.01")

    assert books.ends() == [("echo", "settled", "actual", "success")] * 3
    assert books.spent() == Decimal("0.05")
    books.check()
    assert [line["provider"] for line in log.events("router.success")] == ["echo"] * 3


def test_it_is_listed_reported_and_pinned_like_any_other(services: Services, books: Books) -> None:
    listed = model_list(catalogue(services.registry, services.tiers, services.prices)).data
    assert {"sota", "echo/parrot", "echo/parrot-vectors"} <= {model.id for model in listed}
    assert providers_response(services, probe_for=caller()).chain == ["echo"]
    assert services.router.complete(chat(model="echo/other"), caller())[1].model == "other"
    assert services.router.complete(chat(model="parrot"), caller())[1].provider == "echo"
    assert [entry["operation"] for entry in books.entries()] == ["probe", "chat", "chat"]


ASKING = [example for example in examples() if any(True for _ in needs(example.request()))]


@pytest.mark.parametrize("example", ASKING, ids=lambda example: example.label)
def test_it_declares_nothing_and_so_every_field_is_refused_or_dropped(services: Services, example: Example) -> None:
    provider = services.registry.get("echo")
    needed = {need.capability: need.kind for need in needs(example.request())}
    refused = provider.unsupported(example.request())
    assert bool(refused) is not {"meaning", "preference"}.isdisjoint(needed.values())
    assert set(refused) <= example.fields.keys()
    assert set(provider.dropped(example.request())) == {name for name, kind in needed.items() if kind == "hint"}
    assert kept(example.request()) == {name for name, kind in needed.items() if kind == "kept"}


def test_the_examples_are_of_every_field() -> None:
    marked = fields_of(ChatRequest, "meaning", "preference", "kept", "hint")
    assert marked - {"store"} <= {name for example in ASKING for name in example.fields}


def test_a_refusal_comes_before_anything_is_reserved(services: Services, books: Books) -> None:
    with pytest.raises(UnsupportedParameterError) as refused:
        services.router.complete(chat(n=2), caller())
    assert refused.value.param == "n"
    with pytest.raises(UnsupportedParameterError) as refused:
        services.router.embed(embedding(dimensions=3), caller())
    assert refused.value.param == "dimensions"
    assert books.entries() == []


def test_what_is_dropped_is_named_with_the_response(services: Services) -> None:
    _, served = services.router.complete(chat(seed=1, user="u", temperature=0.5), caller())
    assert served.dropped == ("seed", "temperature", "user")


def test_its_failures_are_released_and_told(services: Services, books: Books, log: LogLines) -> None:
    failing = [{"role": "user", "content": "fail"}]
    for streamed in (False, True):
        ask = services.router.stream if streamed else services.router.complete
        with pytest.raises(Exception, match="echo is unavailable"):
            ask(chat(messages=failing, stream=streamed), caller())
    assert books.ends() == [("echo", "released", None, "overloaded")] * 2
    assert [line["kind"] for line in log.events("router.provider_failed")] == ["overloaded"] * 2
    books.check()
