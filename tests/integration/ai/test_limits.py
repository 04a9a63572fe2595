"""Money before bytes, and time for every attempt: what is refused sends nothing, what is sent has its share."""

from collections.abc import Callable
from decimal import Decimal
from typing import cast

import pytest

from fusewire.ai.failures import FailureKind, ProviderFailure
from fusewire.ai.provider import Timeouts
from fusewire.budget.bounds import chat_input_bound, embedding_input_bound
from fusewire.errors import AllProvidersFailedError, BudgetExceededError, DeadlineExceededError, ModelNotPricedError
from tests.conftest import CoreFactory
from tests.integration.ai.contract import chat, embedding
from tests.integration.ai.observing import Books, LogLines, caller, price_of, two_clouds
from tests.support.upstream import Upstream, hang, raw, status

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


PATIENT = {"AI_REQUEST_TIMEOUT_SECONDS": "890", "AI_RESERVATION_TTL_SECONDS": "900"}
ON_AWS = {"AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start", "AUTH_MODE": "keys", **PATIENT}


@pytest.mark.parametrize(("variables", "silence"), [(ON_AWS, 285), (PATIENT, 890)])
def test_on_aws_no_caller_waits_for_a_first_byte_until_api_gateway_gives_up(
    upstream: Upstream,
    second_upstream: Upstream,
    core: CoreFactory,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    silence: float,
) -> None:
    services = core(**two_clouds(upstream, second_upstream, **variables))
    given: list[Timeouts] = []
    for provider in map(services.registry.get, ("azure", "openai")):
        monkeypatch.setattr(provider, "complete", _failing(given))
        monkeypatch.setattr(provider, "stream", _failing(given))
    for ask in (services.router.complete, services.router.stream):
        with pytest.raises(AllProvidersFailedError):
            ask(chat(), caller(900))
    for times in (given[:2], given[2:]):
        assert [each.first for each in times] == [pytest.approx(silence / 2, abs=10), pytest.approx(silence, abs=10)]
        # What flows may take longer: the runtime's comments keep it alive.
        assert [each.total for each in times] == [pytest.approx(890, abs=10)] * 2


def _failing(given: list[Timeouts]) -> Callable[..., object]:
    def fail(*arguments: object) -> object:
        given.append(cast("Timeouts", arguments[-1]))
        raise ProviderFailure(FailureKind.CONNECT_FAILED, "no connection")

    return fail


def test_a_caller_is_told_that_it_was_api_gateways_patience(
    upstream: Upstream, second_upstream: Upstream, core: CoreFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fusewire.config._LONGEST_SILENCE_ON_AWS", 1.0)
    services = core(**two_clouds(upstream, second_upstream, **ON_AWS))
    upstream.script.append(hang(3))
    with pytest.raises(DeadlineExceededError, match="API Gateway"):
        services.router.complete(chat(model="azure/first"), caller(900))


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
    for vendor in (upstream, second_upstream):
        vendor.script.append(hang(20))
    services = core(**two_clouds(upstream, second_upstream, AI_REQUEST_TIMEOUT_SECONDS="1"))
    with pytest.raises(DeadlineExceededError):
        services.router.complete(chat(), caller())
    assert [end[1:3] for end in books.ends()] == [("settled", "bound")] * 2
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

    monkeypatch.setattr(type(services.registry.get("azure")), "body", bug)
    with pytest.raises(ZeroDivisionError):
        services.router.complete(chat(), caller())
    assert books.ends() == [("azure", "settled", "bound", "abandoned")]
    books.check()
