"""Money before bytes, and time for every attempt: what is refused sends nothing, what is sent has its share."""

import json
from collections.abc import Callable
from decimal import Decimal
from math import inf
from typing import Any, cast

import pytest

from fusewire.ai.bounds import chat_input_bound, embedding_input_bound
from fusewire.ai.failures import FailureKind, ProviderFailure
from fusewire.ai.provider import Timeouts
from fusewire.errors import (
    AllProvidersFailedError,
    BudgetExceededError,
    DeadlineExceededError,
    ModelNotBoundedError,
    ModelNotPricedError,
)
from tests.conftest import CoreFactory
from tests.integration.ai.contract import chat, embedding
from tests.integration.ai.observing import Books, LogLines, caller, price_of, two_clouds
from tests.support.upstream import Handler, Upstream, hang, raw, status

CAP = 100


def test_n_answers_are_reserved_and_paid_n_times(
    upstream: Upstream, second_upstream: Upstream, core: CoreFactory, books: Books
) -> None:
    services = core(**two_clouds(upstream, second_upstream))
    request = chat(n=3, max_tokens=CAP)
    response, served = services.router.complete(request, caller())
    assert len(response.choices) == 3
    (entry,) = books.entries()
    assert entry["bound"] == price_of("azure", chat_input_bound(request), 3 * CAP)
    assert served.booked.cost == price_of("azure", *upstream.billed[0])


def test_vectors_without_usage_are_settled_at_their_bound(
    upstream: Upstream, second_upstream: Upstream, core: CoreFactory, books: Books
) -> None:
    upstream.script.append(raw(b'{"object":"list","model":"m","data":[{"index":0,"embedding":[1]}]}'))
    _, served = core(**two_clouds(upstream, second_upstream)).router.embed(embedding(), caller())
    assert served.booked.cost == price_of("azure", embedding_input_bound(embedding()), 0)
    assert books.ends() == [("azure", "settled", "bound", "success")]


def test_the_settings_cap_is_sent_when_the_caller_names_none(
    upstream: Upstream, second_upstream: Upstream, core: CoreFactory, books: Books
) -> None:
    services = core(**two_clouds(upstream, second_upstream, AI_MAX_OUTPUT_TOKENS="77"))
    services.router.complete(chat(), caller())
    assert upstream.requests[0].get("max_completion_tokens") == 77
    assert books.entries()[0]["bound"] == price_of("azure", chat_input_bound(chat()), 77)


ON_AWS = {"AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start", "AUTH_MODE": "keys"}
ELSEWHERE: dict[str, str] = {}
IMPATIENT = {"AI_SILENCE_TIMEOUT_SECONDS": "120"}


@pytest.mark.parametrize(
    ("variables", "whole", "first"),
    [
        # Of an answer that isn't streamed an attempt has its share; of a stream's first content no more than may be
        # silent.
        (ON_AWS, (142.5, 285), (142.5, 285)),
        (ELSEWHERE, (449, 898), (300, 300)),
        (ON_AWS | IMPATIENT, (142.5, 285), (120, 120)),
        (IMPATIENT | {"AI_REQUEST_TIMEOUT_SECONDS": "180"}, (90, 180), (90, 120)),
    ],
    ids=["on AWS", "elsewhere", "on AWS, less silence", "a share that is less than the silence"],
)
def test_time_is_divided_until_a_first_content_and_silence_has_a_limit_of_its_own(
    upstream: Upstream,
    second_upstream: Upstream,
    core: CoreFactory,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    whole: tuple[float, float],
    first: tuple[float, float],
) -> None:
    services = core(**two_clouds(upstream, second_upstream, **variables))
    given: list[Timeouts] = []
    for provider in map(services.registry.get, ("azure", "openai")):
        monkeypatch.setattr(provider, "complete", _failing(given))
        monkeypatch.setattr(provider, "stream", _failing(given))
    for ask in (services.router.complete, services.router.stream):
        with pytest.raises(AllProvidersFailedError):
            ask(chat(), caller(900))
    settings = services.settings
    for times, expected in ((given[:2], whole), (given[2:], first)):
        assert [each.first for each in times] == [pytest.approx(seconds, abs=5) for seconds in expected]
        # What flows may take longer: the runtime's comments keep it alive.
        total = min(settings.ai_request_timeout_seconds, 898)
        assert [each.total for each in times] == [pytest.approx(total, abs=5)] * 2
    assert {each.silence for each in given[:2]} == {inf}
    assert {each.silence for each in given[2:]} == {settings.ai_silence_timeout_seconds}


def _failing(given: list[Timeouts]) -> Callable[..., object]:
    def fail(*arguments: object) -> object:
        given.append(cast("Timeouts", arguments[-1]))
        raise ProviderFailure(FailureKind.CONNECT_FAILED, "no connection")

    return fail


def test_a_caller_is_told_that_it_was_api_gateways_patience(
    upstream: Upstream, second_upstream: Upstream, core: CoreFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fusewire.config._MAX_SILENCE_ON_AWS", 1.0)
    services = core(**two_clouds(upstream, second_upstream, **ON_AWS))
    upstream.script.append(hang(3))
    with pytest.raises(DeadlineExceededError, match="API Gateway"):
        services.router.complete(chat(model="azure/first"), caller(900))


GROK = {
    "AZURE_SOTA_DEPLOYMENT": "thinker",
    "AI_PRICE_OVERRIDES": json.dumps(
        {f"{name}/*": {"input_mtok": 1, "output_mtok": 2} for name in ("azure", "openai")}
    ),
}


def thought_beyond_the_cap(handler: Handler, body: dict[str, Any]) -> None:
    """What xAI was seen to answer with a cap of 64 (BerriAI/litellm#39426)."""
    usage = {"prompt_tokens": 12, "completion_tokens": 1, "total_tokens": 12 + 1 + 97}
    choice = {"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}
    handler.reply(200, {"choices": [choice], "usage": usage | {"completion_tokens_details": {"reasoning_tokens": 97}}})


def test_reasoning_beyond_the_cap_is_reserved_for_and_booked(
    upstream: Upstream, second_upstream: Upstream, core: CoreFactory, books: Books, log: LogLines
) -> None:
    upstream.script.append(thought_beyond_the_cap)
    services = core(
        **two_clouds(upstream, second_upstream, **GROK, AI_PRICE_ALIASES='{"azure/thinker": "grok-4-fast-reasoning"}')
    )
    request = chat(max_tokens=64)
    _, served = services.router.complete(request, caller())
    assert upstream.requests[0]["max_completion_tokens"] == 64
    (entry,) = books.entries()
    assert entry["bound"] == Decimal(chat_input_bound(request) + 2 * 2_000_000).scaleb(-6)
    assert served.booked.cost == entry["cost"] == Decimal(12 + 2 * 98).scaleb(-6)
    assert not log.events("ledger.bound_exceeded")
    books.check()


def test_a_model_that_nobody_can_bound_is_refused_before_a_byte_is_sent(
    upstream: Upstream, second_upstream: Upstream, core: CoreFactory, books: Books, log: LogLines
) -> None:
    unknown = GROK | {"AI_PRICE_ALIASES": '{"azure/thinker": "grok-9"}'}
    services = core(**two_clouds(upstream, second_upstream, **unknown, AI_FALLBACK_CHAIN="azure"))
    for ask in (services.router.complete, services.router.stream):
        with pytest.raises(ModelNotBoundedError, match="AI_OUTPUT_BOUNDS"):
            ask(chat(), caller())
    assert not upstream.requests
    assert not books.entries()
    _, served = core(**two_clouds(upstream, second_upstream, **unknown)).router.complete(chat(), caller())
    assert served.provider == "openai", "another one of the chain can be bounded"
    assert {line["kind"] for line in log.events("router.provider_failed")} == {"model_not_bounded"}
    stated = core(**two_clouds(upstream, second_upstream, **unknown, AI_OUTPUT_BOUNDS='{"azure/thinker": 5000}'))
    request = chat(max_tokens=64, n=2)
    stated.router.complete(request, caller())
    assert books.entries()[-1]["bound"] == Decimal(chat_input_bound(request) + 2 * 2 * 5000).scaleb(-6)


def test_a_stream_that_begins_too_late_is_out_of_time_and_names_the_setting(
    upstream: Upstream, second_upstream: Upstream, core: CoreFactory, books: Books
) -> None:
    services = core(**two_clouds(upstream, second_upstream, AI_SILENCE_TIMEOUT_SECONDS="0.5"))
    upstream.script.append(hang(3))
    with pytest.raises(DeadlineExceededError, match="AI_SILENCE_TIMEOUT_SECONDS"):
        services.router.stream(chat(model="azure/first", stream=True), caller())
    assert books.ends() == [("azure", "settled", "bound", "read_timeout")]


def test_a_stream_that_begins_too_late_leaves_the_next_provider_its_time(
    upstream: Upstream, second_upstream: Upstream, core: CoreFactory, books: Books
) -> None:
    services = core(**two_clouds(upstream, second_upstream, AI_SILENCE_TIMEOUT_SECONDS="1"))
    upstream.script.append(hang(4))
    streaming = services.router.stream(chat(stream=True), caller())
    assert (streaming.provider, streaming.attempts) == ("openai", 2)
    list(streaming.chunks)
    assert [end[3] for end in books.ends()] == ["read_timeout", "success"]


def test_an_answer_that_is_not_streamed_may_be_silent_for_its_whole_share(
    upstream: Upstream, second_upstream: Upstream, core: CoreFactory
) -> None:
    services = core(**two_clouds(upstream, second_upstream, AI_SILENCE_TIMEOUT_SECONDS="0.2"))
    upstream.delay = 1
    _, served = services.router.complete(chat(), caller())
    assert (served.provider, served.attempts) == ("azure", 1)


def test_a_model_without_a_price_is_refused_before_a_byte_is_sent(
    upstream: Upstream, second_upstream: Upstream, core: CoreFactory, books: Books
) -> None:
    services = core(**two_clouds(upstream, second_upstream, AI_PRICE_OVERRIDES="{}"))
    for request in (chat(), chat(model="openai/second"), chat(stream=True)):
        with pytest.raises(ModelNotPricedError, match="AI_PRICE_OVERRIDES"):
            services.router.complete(request, caller())
    with pytest.raises(ModelNotPricedError):
        services.router.embed(embedding(), caller())
    assert not upstream.requests
    assert not second_upstream.requests
    assert not books.entries()


def test_one_provider_without_a_price_is_passed_over(
    upstream: Upstream, second_upstream: Upstream, core: CoreFactory, log: LogLines
) -> None:
    only = '{"openai/*": {"input_mtok": 3000, "output_mtok": 4000}}'
    services = core(**two_clouds(upstream, second_upstream, AI_PRICE_OVERRIDES=only))
    _, served = services.router.complete(chat(), caller())
    assert (served.provider, served.attempts) == ("openai", 1)
    assert not upstream.requests
    (line,) = log.events("router.provider_failed")
    assert (line["provider"], line["kind"]) == ("azure", "model_not_priced")


def test_a_refusal_by_the_budget_sends_nothing(
    upstream: Upstream, second_upstream: Upstream, core: CoreFactory, books: Books, log: LogLines
) -> None:
    services = core(**two_clouds(upstream, second_upstream, AI_MONTHLY_BUDGET_USD="0.05"))
    for streamed in (False, True):
        with pytest.raises(BudgetExceededError):
            (services.router.stream if streamed else services.router.complete)(chat(stream=streamed), caller())
    assert not upstream.requests
    assert not second_upstream.requests
    assert not books.entries()
    assert len(log.events("circuit_breaker.blocked")) == 2


def test_a_successor_that_the_budget_refuses_ends_the_failed_attempt_too(
    upstream: Upstream, second_upstream: Upstream, core: CoreFactory, books: Books
) -> None:
    bound = price_of("azure", chat_input_bound(chat(max_tokens=CAP)), CAP)
    services = core(**two_clouds(upstream, second_upstream, AI_MONTHLY_BUDGET_USD=str(bound * Decimal("1.1"))))
    upstream.script.append(status(502))
    with pytest.raises(BudgetExceededError):
        services.router.complete(chat(max_tokens=CAP), caller())
    assert books.ends() == [("azure", "settled", "bound", "gateway_error")]
    assert not second_upstream.requests
    books.check()


def test_everyone_hanging_is_out_of_time(
    upstream: Upstream, second_upstream: Upstream, core: CoreFactory, books: Books
) -> None:
    core(**two_clouds(upstream, second_upstream)).router.complete(chat(), caller())  # it imports the SDK
    for vendor in (upstream, second_upstream):
        vendor.script.append(hang(20))
    services = core(**two_clouds(upstream, second_upstream, AI_REQUEST_TIMEOUT_SECONDS="2"))
    with pytest.raises(DeadlineExceededError):
        services.router.complete(chat(), caller())
    assert [end[1:3] for end in books.ends()][1:] == [("settled", "bound")] * 2
    books.check()


@pytest.mark.parametrize("remaining", [-1.0, 0.0, 2.0, 2.2])
def test_without_time_nothing_is_reserved_or_sent(
    upstream: Upstream, second_upstream: Upstream, core: CoreFactory, books: Books, remaining: float
) -> None:
    services = core(**two_clouds(upstream, second_upstream))
    with pytest.raises(DeadlineExceededError):
        services.router.complete(chat(), caller(remaining_seconds=remaining))
    assert not upstream.requests
    assert not books.entries()


def test_lambdas_remaining_time_is_shared_out_less_what_settling_takes(
    upstream: Upstream, second_upstream: Upstream, core: CoreFactory, books: Books
) -> None:
    upstream.script.append(hang(20))
    services = core(**two_clouds(upstream, second_upstream))
    _, served = services.router.complete(chat(), caller(remaining_seconds=4))
    assert served.provider == "openai"
    assert books.ends()[0] == ("azure", "settled", "bound", "read_timeout")


def test_a_failure_of_our_own_in_mid_call_is_settled_at_its_bound(
    upstream: Upstream, second_upstream: Upstream, core: CoreFactory, books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = core(**two_clouds(upstream, second_upstream))

    def bug(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("fusewire.ai.providers.openai_compatible.whole_response", bug)
    with pytest.raises(ZeroDivisionError):
        services.router.complete(chat(), caller())
    assert books.ends() == [("azure", "settled", "bound", "abandoned")]
    books.check()
