"""Which output cap is sent: the caller's, the model's largest, or one that fits; and the request's own limit."""

import json
import threading
from dataclasses import replace
from decimal import Decimal

import pytest

from fusewire.ai.bounds import chat_input_bound
from fusewire.ai.counting import TEMPLATE_TOKENS
from fusewire.errors import (
    AllProvidersFailedError,
    BudgetExceededError,
    BudgetReservedError,
    InvalidRequestError,
    RequestCostError,
)
from tests.conftest import CoreFactory
from tests.integration.ai.contract import chat
from tests.integration.ai.observing import PRICES, Books, LogLines, caller, price_of, two_clouds
from tests.support.upstream import Upstream, cut_before_answer, status, stream

CAP = "max_completion_tokens"
PROMPT = chat_input_bound(chat())
ELSEWHERE = chat_input_bound(chat(), TEMPLATE_TOKENS)
"""The same at a server that isn't the vendor's own."""


def test_a_call_without_a_cap_gets_the_models_largest_output(
    upstream: Upstream, second_upstream: Upstream, core: CoreFactory, books: Books
) -> None:
    variables = two_clouds(
        upstream, second_upstream, AI_MONTHLY_BUDGET_USD="100000", OPENAI_SOTA_MODEL="gpt-4o",
        AI_PRICE_OVERRIDES=json.dumps({"azure/*": PRICES["azure/*"]}),
    )  # fmt: skip
    router = core(**variables).router
    _, served = router.complete(chat(model="openai/gpt-4o"), caller())
    assert (second_upstream.requests[0][CAP], served.output_cap) == (16_384, None)
    _, served = router.complete(chat(model="openai/gpt-5.5"), caller())
    assert (second_upstream.requests[1][CAP], served.output_cap) == (128_000, None)
    # Nobody knows this one.
    _, served = router.complete(chat(model="azure/first"), caller())
    assert (upstream.requests[0][CAP], served.output_cap) == (4096, None)
    assert books.entries()[2]["bound"] == price_of("azure", PROMPT, 4096)


def test_each_provider_of_the_chain_gets_its_own_models_largest(
    upstream: Upstream, second_upstream: Upstream, core: CoreFactory
) -> None:
    upstream.script.append(status(503))
    variables = two_clouds(
        upstream, second_upstream, AI_MONTHLY_BUDGET_USD="100000", OPENAI_SOTA_MODEL="gpt-4o",
        AI_PRICE_ALIASES='{"azure/first": "gpt-5.5"}', AI_PRICE_OVERRIDES="{}",
    )  # fmt: skip
    core(**variables).router.complete(chat(), caller())
    assert (upstream.requests[0][CAP], second_upstream.requests[0][CAP]) == (128_000, 16_384)


@pytest.mark.parametrize(
    ("asked", "sent", "announced"), [({}, 77, 77), ({"max_tokens": 50}, 50, None), ({CAP: 90}, 77, 77)]
)
def test_the_settings_cap_is_an_upper_limit(
    asked: dict[str, int],
    sent: int,
    announced: int | None,
    upstream: Upstream,
    second_upstream: Upstream,
    core: CoreFactory,
) -> None:
    services = core(**two_clouds(upstream, second_upstream, AI_MAX_OUTPUT_TOKENS="77"))
    _, served = services.router.complete(chat(**asked), caller())
    assert (upstream.requests[0][CAP], served.output_cap) == (sent, announced)


def test_who_wants_the_whole_cap_isnt_given_the_settings(
    upstream: Upstream, second_upstream: Upstream, core: CoreFactory
) -> None:
    services = core(**two_clouds(upstream, second_upstream, AI_MAX_OUTPUT_TOKENS="77"))
    with pytest.raises(InvalidRequestError):
        services.router.complete(chat(max_tokens=90), replace(caller(), wants_whole_cap=True))
    assert upstream.requests == []


@pytest.mark.parametrize("streamed", [False, True])
def test_a_fitted_cap_is_sent_told_and_booked(
    streamed: bool, upstream: Upstream, second_upstream: Upstream, core: CoreFactory, books: Books, log: LogLines
) -> None:
    router = core(**two_clouds(upstream, second_upstream, AI_MONTHLY_BUDGET_USD="100")).router
    if streamed:
        answered = router.stream(chat(max_tokens=30_000), caller())
        list(answered.chunks)
        output_cap = answered.output_cap
    else:
        _, served = router.complete(chat(max_tokens=30_000), caller())
        output_cap = served.output_cap
    assert upstream.requests[0][CAP] == output_cap == 2048
    [entry] = books.entries()
    assert entry["bound"] == price_of("azure", PROMPT, 2048)
    assert log.events("router.success")[0]["output_cap"] == 2048
    books.check()


@pytest.mark.parametrize("by", ["header", "setting"])
def test_who_wants_the_whole_cap_gets_it_or_is_refused(
    by: str, upstream: Upstream, second_upstream: Upstream, core: CoreFactory
) -> None:
    variables = {"AI_OUTPUT_CAP_POLICY": "strict"} if by == "setting" else {}
    asks = replace(caller(), wants_whole_cap=by == "header")
    router = core(**two_clouds(upstream, second_upstream, AI_MONTHLY_BUDGET_USD="100", **variables)).router
    router.complete(chat(max_tokens=30_000), asks)
    assert upstream.requests[0][CAP] == 30_000
    with pytest.raises(BudgetExceededError):
        router.complete(chat(max_tokens=60_000), asks)


def test_a_cap_isnt_fitted_below_the_thoughts_that_were_asked_for(
    upstream: Upstream, second_upstream: Upstream, core: CoreFactory
) -> None:
    router = core(**two_clouds(upstream, second_upstream, AI_MONTHLY_BUDGET_USD="100")).router
    thinking = {"type": "enabled", "budget_tokens": 20_000}
    router.complete(chat(max_tokens=30_000, thinking=thinking), caller())
    assert upstream.requests[0][CAP] == 21_024


def test_the_successor_of_a_fitted_attempt_is_fitted_anew(
    upstream: Upstream, second_upstream: Upstream, core: CoreFactory, books: Books
) -> None:
    upstream.script.append(cut_before_answer)
    router = core(**two_clouds(upstream, second_upstream, AI_MONTHLY_BUDGET_USD="100")).router
    router.complete(chat(max_tokens=30_000), caller())
    assert [upstream.requests[0][CAP], second_upstream.requests[0][CAP]] == [2048, 2048]
    bounds = [entry["bound"] for entry in books.entries()]
    assert bounds == [price_of("azure", PROMPT, 2048), price_of("openai", ELSEWHERE, 2048)]
    books.check()


def test_what_answers_needed_is_learned_from_what_is_settled(
    upstream: Upstream, second_upstream: Upstream, core: CoreFactory
) -> None:
    upstream.words = ["word"] * 3000
    router = core(**two_clouds(upstream, second_upstream, AI_MONTHLY_BUDGET_USD="100000")).router
    for _ in range(15):
        router.complete(chat(), caller())
        list(router.stream(chat(), caller()).chunks)
    _, served = router.complete(chat(max_tokens=10_000_000), caller())
    assert served.output_cap == 6144  # twice the step above 3,000


def test_a_call_waits_for_one_in_flight_and_then_is_served(
    upstream: Upstream, second_upstream: Upstream, core: CoreFactory, books: Books, log: LogLines
) -> None:
    variables = two_clouds(upstream, second_upstream, AI_MONTHLY_BUDGET_USD="8")
    upstream.going_on.clear()
    calls = [
        threading.Thread(
            target=core(**variables).router.complete, args=(chat(), replace(caller(), request_id=f"r-{n}"))
        )
        for n in range(3)
    ]
    for call in calls:
        call.start()
    waiting = 0
    while waiting == 0:  # 2,048 tokens are 4.1 USD: one is in flight, two wait
        waiting = len(books.query("SELECT FROM admission_wait"))
    assert len(upstream.requests) <= 1
    upstream.going_on.set()
    for call in calls:
        call.join()
    assert len(upstream.billed) == 3
    assert books.query("SELECT * FROM admission_wait") == []
    assert max(line.get("waited_ms") or 0 for line in log.events("router.success")) > 0
    books.check()


def test_without_waiting_it_is_refused_at_once(
    upstream: Upstream, second_upstream: Upstream, core: CoreFactory, books: Books
) -> None:
    variables = two_clouds(upstream, second_upstream, AI_MONTHLY_BUDGET_USD="8", AI_ADMISSION_WAIT_SECONDS="0")
    upstream.going_on.clear()
    first = threading.Thread(target=core(**variables).router.complete, args=(chat(), caller()))
    first.start()
    while not upstream.requests:
        pass
    with pytest.raises(BudgetReservedError):
        core(**variables).router.complete(chat(), caller())
    upstream.going_on.set()
    first.join()
    books.check()


def test_the_wait_is_no_longer_than_half_of_the_time(
    upstream: Upstream, second_upstream: Upstream, core: CoreFactory, books: Books, log: LogLines
) -> None:
    variables = two_clouds(upstream, second_upstream, AI_MONTHLY_BUDGET_USD="8")
    upstream.going_on.clear()
    first = threading.Thread(target=core(**variables).router.complete, args=(chat(), caller()))
    first.start()
    while not upstream.requests:
        pass
    with pytest.raises(BudgetReservedError):
        core(**variables).router.complete(chat(), caller(remaining_seconds=4))
    assert 900 <= log.events("circuit_breaker.blocked")[0]["waited_ms"] < 1900
    upstream.going_on.set()
    first.join()


def test_the_requests_own_limit_makes_the_cap_fit(
    upstream: Upstream, second_upstream: Upstream, core: CoreFactory, books: Books
) -> None:
    router = core(**two_clouds(upstream, second_upstream)).router
    most = price_of("azure", PROMPT, 1000)
    _, served = router.complete(chat(max_tokens=4000), replace(caller(), max_cost_usd=most))
    assert upstream.requests[0][CAP] == served.output_cap == 1000
    assert books.entries()[0]["bound"] == most


@pytest.mark.parametrize("strict", [False, True])
def test_what_the_requests_own_limit_cant_take_isnt_sent(
    strict: bool, upstream: Upstream, second_upstream: Upstream, core: CoreFactory, books: Books
) -> None:
    router = core(**two_clouds(upstream, second_upstream)).router
    most = price_of("azure", PROMPT, 3999 if strict else 255)
    with pytest.raises(RequestCostError) as caught:
        router.complete(chat(max_tokens=4000), replace(caller(), max_cost_usd=most, wants_whole_cap=strict))
    assert (caught.value.status, caught.value.should_retry) == (402, False)
    assert upstream.requests == []
    assert books.entries() == []


def test_the_requests_own_limit_counts_all_attempts(
    upstream: Upstream, second_upstream: Upstream, core: CoreFactory, books: Books
) -> None:
    upstream.script.append(cut_before_answer)  # booked at its bound
    router = core(**two_clouds(upstream, second_upstream)).router
    most = price_of("azure", PROMPT, 1000) + price_of("openai", ELSEWHERE, 600)
    router.complete(chat(max_tokens=1000), replace(caller(), max_cost_usd=most))
    assert second_upstream.requests[0][CAP] == 600
    upstream.script.append(cut_before_answer)
    less = price_of("openai", ELSEWHERE, 400)
    with pytest.raises(RequestCostError):
        router.complete(chat(max_tokens=1000), replace(caller(), max_cost_usd=less))
    assert len(second_upstream.requests) == 1
    assert books.spent() <= most + less
    books.check()


def test_who_is_too_dear_for_the_request_is_passed_over(
    upstream: Upstream, second_upstream: Upstream, core: CoreFactory
) -> None:
    variables = two_clouds(upstream, second_upstream, AI_FALLBACK_CHAIN="openai,azure")
    most = price_of("openai", ELSEWHERE, 0)
    core(**variables).router.complete(chat(max_tokens=300), replace(caller(), max_cost_usd=most + Decimal("0.6")))
    assert (len(upstream.requests), len(second_upstream.requests)) == (1, 0)


def test_where_only_the_requests_own_limit_keeps_others_from_answering_it_says_so(
    upstream: Upstream, second_upstream: Upstream, core: CoreFactory, books: Books
) -> None:
    router = core(**two_clouds(upstream, second_upstream)).router
    upstream.script.append(status(500))
    most = price_of("openai", ELSEWHERE, 0) + Decimal("0.6")
    with pytest.raises(RequestCostError):  # openai costs more than that
        router.complete(chat(max_tokens=300), replace(caller(), max_cost_usd=most))
    assert (len(upstream.requests), second_upstream.requests) == (1, [])
    upstream.script.append(status(500))
    second_upstream.script.append(status(500))
    with pytest.raises(AllProvidersFailedError):
        router.complete(chat(max_tokens=300), replace(caller(), max_cost_usd=Decimal(100)))
    books.check()


def test_a_stream_that_its_cap_cut_off_counts_as_a_longer_one(
    upstream: Upstream, second_upstream: Upstream, core: CoreFactory, books: Books
) -> None:
    upstream.words = ["word"] * 500
    upstream.otherwise = stream
    router = core(**two_clouds(upstream, second_upstream)).router
    list(router.stream(chat(max_tokens=128), caller()).chunks)
    [row] = books.query("SELECT array_position(sizes, 1) AS step FROM output_size")
    assert row["step"] == 15  # 192
