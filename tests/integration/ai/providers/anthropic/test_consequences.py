"""What follows from each failure of Anthropic's: the books, the next provider's turn, the cooldown."""

import json
from collections.abc import Iterator
from decimal import Decimal

import pytest

from fusewire.ai import registry
from fusewire.ai.bounds import chat_input_bound
from fusewire.ai.failures import CONSEQUENCES, FailureKind, Health, Settle
from fusewire.ai.providers.anthropic.provider import AnthropicProvider
from fusewire.ai.router import StreamBrokenError
from fusewire.budget.pricing import PriceBook
from fusewire.errors import ContentPolicyError, FusewireError, InvalidRequestError, RequestTooLargeError
from tests.conftest import CoreFactory
from tests.integration.ai.contract import CAP, chat
from tests.integration.ai.observing import Books, LogLines, caller
from tests.integration.ai.providers.anthropic.cases import CASES, FILTERED, Case
from tests.support.anthropic_vendor import (
    Vendor,
    error_in_stream,
    running_vendor,
)
from tests.support.upstream import Upstream

K = FailureKind
MODEL = "claude-opus-5"
PRICE = PriceBook(overrides={}, aliases={}, local_providers=[]).price("anthropic", MODEL)
IN_THE_MATRIX = {
    "400", "401", "403", "404", "408", "413", "422", "429", "429 with Retry-After", "500", "502", "503", "529",
    "silence", "cut before the answer", "HTML", "truncated JSON", "empty body",
    "cut before content", "ends before content", "stalls before content", "error event before content",
}  # fmt: skip
"""What every vendor has: `test_failures_are_booked` is about it."""
ONCE = [
    pytest.param(case, streamed, id=f"{case.name} ({'stream' if streamed else 'chat'})")
    for case in CASES
    if case.name not in IN_THE_MATRIX
    for streamed in (False, True)
    if (case.streamed not in (None, case.kind) if streamed else case.kind is not None)
]
"""A stream where that is another kind, or where nothing else can fail so."""


@pytest.fixture
def vendor() -> Iterator[Vendor]:
    with running_vendor() as running:
        yield running


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch, vendor: Vendor, upstream: Upstream) -> dict[str, str]:
    """Anthropic first, then a second provider, each priced."""
    monkeypatch.setitem(registry._PROVIDER_FACTORIES, "anthropic", AnthropicProvider)
    return {
        "AI_FALLBACK_CHAIN": "anthropic,openai",
        "ANTHROPIC_BASE_URL": vendor.url,
        "ANTHROPIC_TEMPLATE_TOKENS": "96",
        "ANTHROPIC_API_KEY": "k",
        "ANTHROPIC_SOTA_MODEL": MODEL,
        "OPENAI_BASE_URL": upstream.url,
        "OPENAI_API_KEY": "k",
        "OPENAI_SOTA_MODEL": "second",
        "AI_PRICE_OVERRIDES": json.dumps({"openai/*": {"input_mtok": 3, "output_mtok": 4}}),
    }


ERRORS: dict[FailureKind, type[FusewireError]] = {
    K.REJECTED_REQUEST: InvalidRequestError,
    K.UNKNOWN_REFUSAL: InvalidRequestError,
    K.CONTENT_POLICY: ContentPolicyError,
    K.TOO_LARGE: RequestTooLargeError,
}


def check_books(books: Books, kind: FailureKind, request_bound: Decimal, second: bool) -> None:
    entries = books.entries()
    assert [e["provider"] for e in entries] == ["anthropic"] + ["openai"] * second
    first = entries[0]
    at_bound = CONSEQUENCES[kind].settle is Settle.BOUND
    assert (first["status"], first["cost_basis"]) == (("settled", "bound") if at_bound else ("released", None))
    assert first["outcome"] == kind.value
    assert first["bound"] == request_bound
    assert first["cost"] == (request_bound if at_bound else None)
    books.check()


def check_health(books: Books, case: Case, kind: FailureKind) -> None:
    health = books.health("anthropic")
    if CONSEQUENCES[kind].health is Health.UNTOUCHED:
        assert not health
        return
    assert health["last_failure_kind"] == kind.value
    at_once = CONSEQUENCES[kind].health is Health.NOW or "Retry-After" in case.name
    assert (health["cooldown_until"] is not None) is at_once
    if not at_once:
        assert health["consecutive_failures"] == (1 if CONSEQUENCES[kind].health is Health.COUNT else 0)


@pytest.mark.parametrize(("case", "streamed"), ONCE)
def test_what_follows_from_each_failure(
    vendor: Vendor,
    upstream: Upstream,
    core: CoreFactory,
    books: Books,
    log: LogLines,
    variables: dict[str, str],
    case: Case,
    streamed: bool,
) -> None:
    vendor.script.append(case.reply)
    if case.name == "pings only":  # the one that ends by a time-out: no other is to end so on a busy machine
        variables["AI_REQUEST_TIMEOUT_SECONDS"] = "4"
    kind = case.streamed if streamed else case.kind
    assert kind is not None
    services = core(**variables)
    request = chat(stream=streamed, max_tokens=CAP)
    bound = PRICE.bound(chat_input_bound(request), CAP, cache_writes="none")
    if kind in ERRORS:
        with pytest.raises(ERRORS[kind]):
            (services.router.stream if streamed else services.router.complete)(request, caller())
        assert not upstream.requests
    elif streamed:
        streaming = services.router.stream(request, caller())
        assert (streaming.provider, streaming.attempts) == ("openai", 2)
        said = (choice.delta.content or "" for c in streaming.chunks for choice in c.choices)
        assert "".join(said) == "Paris."
    else:
        assert services.router.complete(request, caller())[1].provider == "openai"
    check_books(books, kind, bound, kind not in ERRORS)
    check_health(books, case, kind)
    (failed,) = log.events("router.provider_failed")
    assert (failed["provider"], failed["kind"]) == ("anthropic", kind.value)
    assert not vendor.billed, "what the server billed: nothing of this"


def test_after_content_an_error_event_is_no_callers_mistake(
    vendor: Vendor, upstream: Upstream, core: CoreFactory, books: Books, log: LogLines, variables: dict[str, str]
) -> None:
    vendor.script.append(error_in_stream(1, "invalid_request_error", "no"))
    request = chat(stream=True, max_tokens=CAP)
    streaming = core(**variables).router.stream(request, caller())
    with pytest.raises(StreamBrokenError):
        list(streaming.chunks)
    assert not upstream.requests
    assert books.ends() == [("anthropic", "settled", "bound", "stream_broken_late")]
    assert books.spent() == PRICE.bound(chat_input_bound(request), CAP, cache_writes="none")
    assert log.events("router.provider_failed")[0]["kind"] == K.STREAM_ERROR
    books.check()


@pytest.mark.parametrize("words", [0, 2])
def test_a_filter_in_mid_stream_ends_the_answer_and_costs_the_bound(
    vendor: Vendor, upstream: Upstream, core: CoreFactory, books: Books, variables: dict[str, str], words: int
) -> None:
    vendor.script.append(error_in_stream(words, "invalid_request_error", FILTERED))
    request = chat(stream=True, max_tokens=CAP)
    chunks = list(core(**variables).router.stream(request, caller()).chunks)
    choices = [choice for chunk in chunks for choice in chunk.choices]
    assert choices[-1].finish_reason == "content_filter"
    assert "".join(choice.delta.content or "" for choice in choices) == "Paris."[: (0, 2, 5)[words]]
    assert not upstream.requests, "a refusal by policy is no outage"
    assert books.ends() == [("anthropic", "settled", "bound", "success")]
    assert books.spent() == PRICE.bound(chat_input_bound(request), CAP, cache_writes="none")
    assert books.health("anthropic")["last_failure_at"] is None
    books.check()
