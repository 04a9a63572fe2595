"""What Bedrock's answers and failures cost, and who is asked next: the books against what the server billed."""

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

import pytest

from fusewire.ai.bounds import chat_input_bound
from fusewire.ai.failures import CONSEQUENCES, FailureKind, Health, Settle
from fusewire.ai.providers.bedrock.provider import AwsProvider
from fusewire.ai.registry import _PROVIDER_FACTORIES
from fusewire.ai.router import StreamBrokenError
from fusewire.ai.schema import ChatRequest
from fusewire.errors import AllProvidersFailedError, ContentPolicyError, InvalidRequestError, UnsupportedParameterError
from fusewire.services import Services
from tests.conftest import CoreFactory
from tests.integration.ai.contract import CAP, chat, embedding
from tests.integration.ai.observing import Books, LogLines, caller
from tests.integration.ai.providers.bedrock.cases import (
    BROKEN_STREAMS,
    CUT,
    FLIPPED,
    METADATA,
    MODEL,
    PRICES,
    START,
    STATUSES,
    STOP,
    TITAN,
    K,
    word,
)
from tests.support.bedrock_vendor import (
    Bedrock,
    Handler,
    Reply,
    error,
    event_message,
    events,
    exception_message,
)
from tests.support.upstream import Upstream

pytestmark = pytest.mark.usefixtures("aws_credentials")


@pytest.fixture
def routed(
    bedrock: Bedrock, second_upstream: Upstream, core: CoreFactory, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Services]:
    """The core with Bedrock before an OpenAI server, both priced."""
    monkeypatch.setitem(_PROVIDER_FACTORIES, "aws", AwsProvider)

    def services(**variables: str) -> Services:
        return core(
            **{
                "AI_FALLBACK_CHAIN": "aws,openai",
                "AWS_REGION": "eu-west-1",
                "AWS_BEDROCK_ENDPOINT_URL": bedrock.url,
                "AWS_BEDROCK_SOTA_MODEL": MODEL,
                "AWS_BEDROCK_EMBEDDING_MODEL": TITAN,
                "OPENAI_BASE_URL": second_upstream.url,
                "OPENAI_API_KEY": "k",
                "OPENAI_SOTA_MODEL": "second",
                "AI_PRICE_OVERRIDES": json.dumps(PRICES),
                **variables,
            }
        )

    return services


def bound_of(request: ChatRequest) -> Decimal:
    """Nothing is marked to be cached, so that no write is billed."""
    return Decimal(chat_input_bound(request) * 1000 + CAP * 2000).scaleb(-6)


# What every vendor has is in the failure matrix; here is what only Bedrock says.
FAILS: list[tuple[str, Reply, FailureKind]] = [
    *((name, error(status, name, text), kind) for status, name, text, kind in STATUSES if status in (409, 424)),
    ("no payment", error(403, "AccessDeniedException", "INVALID_PAYMENT_INSTRUMENT"), K.MODEL_DENIED),
    ("cut in an error", CUT["in an error"], K.CONNECTION_LOST),
    ("no HTTP", CUT["no HTTP"], K.CONNECTION_LOST),
]
STREAM_FAILS = [row for row in BROKEN_STREAMS if "at once" in row[0] or "after its start" in row[0]]


@pytest.mark.parametrize(
    ("streamed", "name", "reply", "kind"),
    [(False, *row) for row in FAILS] + [(True, *row) for row in STREAM_FAILS],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_every_failure_is_booked_and_passed_on_as_its_kind_demands(
    routed: Callable[..., Services],
    bedrock: Bedrock,
    second_upstream: Upstream,
    books: Books,
    log: LogLines,
    streamed: bool,
    name: str,
    reply: Reply,
    kind: FailureKind,
) -> None:
    services, request = routed(), chat(stream=streamed, max_tokens=CAP)
    bedrock.script.append(reply)
    consequence = CONSEQUENCES[kind]

    def ask() -> None:
        if streamed:
            list(services.router.stream(request, caller()).chunks)
        else:
            services.router.complete(request, caller())

    if consequence.fail_over:
        ask()
        assert len(second_upstream.requests) == 1
    else:
        with pytest.raises((InvalidRequestError, ContentPolicyError)) as caught:
            ask()
        assert caught.value.status in (400, 413)
        assert second_upstream.requests == []
    basis = "bound" if consequence.settle is Settle.BOUND else None
    ends = books.ends()
    assert ends[0] == ("aws", "settled" if basis else "released", basis, kind.value)
    assert books.entries()[0]["cost"] == (bound_of(request) if basis else None)
    assert ends[1:] == ([("openai", "settled", "actual", "success")] if consequence.fail_over else [])
    books.check()
    cooled = books.health("aws").get("cooldown_until")
    assert (cooled is not None) is (consequence.health is Health.NOW)
    assert "told" not in log.text and "arn:x" not in log.text


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (events(START, word("Pa"), METADATA), "Pa"),
        (events(START, word("Pa"), exception_message("throttlingException", "x")), "Pa"),
        (events(START, word("Pa"), FLIPPED), "Pa"),
    ],
    ids=["without an end", "throttled", "checksum"],
)
def test_a_stream_that_breaks_after_its_first_content_is_settled_at_its_bound(
    routed: Callable[..., Services], bedrock: Bedrock, second_upstream: Upstream, books: Books, reply: Reply, said: str
) -> None:
    services, request = routed(), chat(stream=True, max_tokens=CAP)
    bedrock.script.append(reply)
    chunks = services.router.stream(request, caller()).chunks
    heard = ""
    with pytest.raises(StreamBrokenError):
        for chunk in chunks:
            heard += "".join(choice.delta.content or "" for choice in chunk.choices)
    assert heard == said
    assert second_upstream.requests == [], "nobody else may answer once content was passed on"
    assert books.ends() == [("aws", "settled", "bound", "stream_broken_late")]
    assert books.entries()[0]["cost"] == bound_of(request)
    books.check()


# (what Bedrock says, what it costs at PRICES, and on which basis)
HALF: Final = Decimal(10 * 1000 + CAP * 2000).scaleb(-6)
"""The input as it was told, the output at its cap."""
USAGES: list[tuple[dict[str, Any], Decimal, str]] = [
    ({"inputTokens": 40, "outputTokens": 10, "totalTokens": 50}, Decimal("0.06"), "actual"),
    (
        {"inputTokens": 10, "outputTokens": 10, "cacheReadInputTokens": 20, "cacheWriteInputTokens": 8},
        Decimal("0.042"),
        "actual",
    ),
    ({"inputTokens": 10}, HALF, "bound"),
]  # fmt: skip


@pytest.mark.parametrize("streamed", [False, True], ids=["chat", "stream"])
@pytest.mark.parametrize(("usage", "cost", "basis"), USAGES, ids=["plain", "cached and written", "half"])
def test_usage_is_booked_to_the_cent(
    routed: Callable[..., Services],
    bedrock: Bedrock,
    books: Books,
    streamed: bool,
    usage: dict[str, Any],
    cost: Decimal,
    basis: str,
) -> None:
    bedrock.usage = usage
    services = routed()
    request = chat(stream=streamed, max_tokens=CAP)
    if streamed:
        last = list(services.router.stream(request, caller()).chunks)[-1].usage
    else:
        last = services.router.complete(request, caller())[0].usage
    (entry,) = books.entries()
    assert (entry["cost"], entry["cost_basis"]) == (cost, basis)
    assert (last and last.cost) == cost
    books.check()


@pytest.mark.parametrize("last", [(), (event_message("metadata", {"usage": []}),)], ids=["none", "unreadable"])
def test_an_answer_is_whole_by_its_reason_and_what_it_used_may_be_missing(
    routed: Callable[..., Services], bedrock: Bedrock, books: Books, last: tuple[bytes, ...]
) -> None:
    services, request = routed(), chat(stream=True, max_tokens=CAP)
    bedrock.script.append(events(START, word("Pa"), STOP, *last))
    chunks = list(services.router.stream(request, caller()).chunks)
    assert [c.finish_reason for chunk in chunks for c in chunk.choices if c.finish_reason] == ["stop"]
    assert books.ends() == [("aws", "settled", "bound", "success")]
    assert books.spent() == bound_of(request)
    assert books.health("aws")["last_failure_at"] is None
    books.check()


def test_what_the_server_bills_is_what_is_booked_and_below_the_bound(
    routed: Callable[..., Services], bedrock: Bedrock, books: Books
) -> None:
    services = routed()
    for words in (["x"] * 200, ["y"]):
        bedrock.words = words
        for streamed in (False, True):
            request = chat(stream=streamed, max_tokens=CAP, messages=[{"role": "user", "content": "é" * 50}])
            if streamed:
                list(services.router.stream(request, caller()).chunks)
            else:
                services.router.complete(request, caller())
    for (prompt, completion), entry in zip(bedrock.billed, books.entries(), strict=True):
        assert completion <= CAP, "the cap travels"
        assert entry["cost"] == Decimal(prompt * 1000 + completion * 2000).scaleb(-6) <= entry["bound"]
    books.check()


def test_embeddings_that_fail_in_the_middle_are_never_free(
    routed: Callable[..., Services], bedrock: Bedrock, books: Books
) -> None:
    services = routed()

    def served(handler: Handler, body: dict[str, Any]) -> None:
        handler.reply(200, {"embedding": [0.5], "inputTextTokenCount": 1})

    bedrock.script.extend([served, error(429, "ThrottlingException")])
    with pytest.raises(AllProvidersFailedError):
        services.router.embed(embedding(input=["a", "b"]), caller())
    assert books.ends() == [("aws", "settled", "bound", "rate_limited")]
    bedrock.script.append(error(429, "ThrottlingException"))
    with pytest.raises(AllProvidersFailedError):
        services.router.embed(embedding(input=["a", "b"]), caller())
    assert books.ends()[1] == ("aws", "released", None, "rate_limited")
    services.router.embed(embedding(input=["a", "bc"]), caller())
    assert books.entries()[2]["cost"] == Decimal("0.003"), "three tokens at $1,000 a million"
    books.check()


def test_a_field_that_bedrock_has_no_place_for_goes_to_the_next_provider(
    routed: Callable[..., Services], bedrock: Bedrock, second_upstream: Upstream
) -> None:
    services = routed()
    part = {"type": "image_url", "image_url": {"url": "data:image/bmp;base64,Qk0="}}
    for fields in ({"n": 2}, {"temperature": 1.5}, {"messages": [{"role": "user", "content": [part]}]}):
        _, served = services.router.complete(chat(max_tokens=CAP, **fields), caller())
        assert served.provider == "openai"
    assert bedrock.requests == []
    with pytest.raises(UnsupportedParameterError) as caught:
        routed(AI_FALLBACK_CHAIN="aws").router.complete(chat(n=2), caller())
    assert caught.value.param == "n"
    assert "aws" in caught.value.message


def test_a_probe_costs_next_to_nothing(routed: Callable[..., Services], bedrock: Bedrock, books: Books) -> None:
    services = routed()
    answered, message, cost = services.router.probe(services.registry.get("aws"), caller())
    assert (answered, message) == (True, "answered")
    assert cost == Decimal("0.01"), "four tokens in, three out"
    assert bedrock.requests[0]["inferenceConfig"]["maxTokens"] == 16
    bedrock.script.append(error(403, "UnrecognizedClientException"))
    answered, message, cost = services.router.probe(services.registry.get("aws"), caller())
    assert not answered
    assert cost == 0
    assert "AWS_ACCESS_KEY_ID" in message
    books.check()
