"""Claude through the whole core: Anthropic's own SDK against a vendor that speaks the Messages API over real HTTP."""

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from fusewire.ai import registry
from fusewire.ai.bounds import chat_input_bound
from fusewire.ai.failures import FailureKind, ProviderFailure
from fusewire.ai.provider import AIProvider, Timeouts
from fusewire.ai.providers.anthropic.provider import AnthropicProvider
from fusewire.ai.schema import ChatResponse, StreamChunk
from fusewire.budget.price import TokenCounts
from fusewire.budget.pricing import PriceBook
from fusewire.config import load_settings
from fusewire.errors import ModelNotFoundError, UnsupportedParameterError
from fusewire.services import Services
from tests.conftest import CoreFactory
from tests.integration.ai.contract import CAP, TIMES, chat, embedding
from tests.integration.ai.observing import Books, caller
from tests.support.anthropic_vendor import Vendor, refusal, running_vendor, stall, with_usage
from tests.support.upstream import Upstream

KEY = "sentinel-key-5a10"
MODEL, OLD = "claude-opus-5", "claude-haiku-4-5"
PRICE = PriceBook(overrides={}, aliases={}, local_providers=[]).price("anthropic", MODEL)
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": CITY}}
TIME = {"type": "function", "function": {"name": "time"}}


@pytest.fixture
def vendor() -> Iterator[Vendor]:
    with running_vendor() as running:
        yield running


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry._PROVIDER_FACTORIES, "anthropic", AnthropicProvider)


def variables(vendor: Vendor, **more: str) -> dict[str, str]:
    return {
        "AI_FALLBACK_CHAIN": "anthropic",
        "ANTHROPIC_BASE_URL": vendor.url,
        "ANTHROPIC_TEMPLATE_TOKENS": "96",
        "ANTHROPIC_API_KEY": KEY,
        "ANTHROPIC_SOTA_MODEL": MODEL,
        "ANTHROPIC_COST_EFFECTIVE_MODEL": OLD,
        **more,
    }


@pytest.fixture
def provider(vendor: Vendor) -> AIProvider:
    return AnthropicProvider(load_settings(variables(vendor)))


@pytest.fixture
def services(vendor: Vendor, core: CoreFactory) -> Services:
    return core(**variables(vendor))


def joined(chunks: list[StreamChunk]) -> dict[str, Any]:
    """A stream's answer put together, as an application does it."""
    result: dict[str, Any] = {"content": "", "reasoning_content": "", "finish_reason": None, "tool_calls": []}
    for choice in (choice for chunk in chunks for choice in chunk.choices):
        result["content"] += choice.delta.content or ""
        result["reasoning_content"] += choice.delta.reasoning_content or ""
        result["finish_reason"] = choice.finish_reason or result["finish_reason"]
        for call in choice.delta.tool_calls or ():
            assert call.function is not None
            if call.index == len(result["tool_calls"]):
                function = {"name": call.function.name, "arguments": ""}
                result["tool_calls"].append({"id": call.id, "type": call.type, "function": function})
            result["tool_calls"][call.index]["function"]["arguments"] += call.function.arguments or ""
    for call in result["tool_calls"]:
        call["function"]["arguments"] = json.dumps(json.loads(call["function"]["arguments"]))
    return result


def spoken(response: ChatResponse) -> dict[str, Any]:
    message = response.choices[0].message
    calls = [call.model_dump(exclude_unset=True) for call in message.tool_calls or ()]
    for call in calls:
        call["function"]["arguments"] = json.dumps(json.loads(call["function"]["arguments"]))
    return {
        "content": message.content or "",
        "reasoning_content": message.reasoning_content or "",
        "finish_reason": response.choices[0].finish_reason,
        "tool_calls": calls,
    }


def cost(billed: dict[str, Any]) -> Decimal:
    """The vendor's bill, by its own arithmetic: $5 and $25 a million, and Anthropic's multipliers for its caches."""
    by_age = billed["cache_creation"]
    inputs = (
        billed["input_tokens"]
        + Decimal("0.1") * billed["cache_read_input_tokens"]
        + Decimal("1.25") * by_age["ephemeral_5m_input_tokens"]
        + 2 * by_age["ephemeral_1h_input_tokens"]
    )
    return Decimal(5 * inputs + 25 * billed["output_tokens"]).scaleb(-6)


def test_what_travels(provider: AIProvider, vendor: Vendor) -> None:
    provider.complete(chat(), MODEL, CAP, TIMES)
    list(provider.stream(chat(stream=True), MODEL, CAP, TIMES))
    assert vendor.paths == {"/v1/messages": 2}
    least = {"model": MODEL, "max_tokens": CAP, "messages": vendor.requests[0]["messages"]}
    assert vendor.requests == [least, least | {"stream": True}]
    for headers in vendor.headers:
        assert headers["authorization"] == f"Bearer {KEY}"
        assert headers["anthropic-version"] == "2026-10-21"


def test_sampling_travels_under_the_version_that_knows_it(provider: AIProvider, vendor: Vendor) -> None:
    response = provider.complete(chat(temperature=0.2), OLD, CAP, TIMES)
    assert response.choices[0].message.content == "Paris."
    assert vendor.requests[0]["temperature"] == 0.2
    assert vendor.headers[0]["anthropic-version"] == "2023-06-01"


@pytest.mark.parametrize("thoughts", [[], ["Hm", ", yes."]])
@pytest.mark.parametrize("calls", [[], [("weather", {"city": "Paris"}), ("time", {})]])
def test_a_stream_says_what_a_whole_answer_says(
    provider: AIProvider, vendor: Vendor, thoughts: list[str], calls: list[tuple[str, dict[str, Any]]]
) -> None:
    vendor.thoughts, vendor.calls = thoughts, calls
    request = chat(tools=[WEATHER, TIME])
    whole = provider.complete(request, MODEL, CAP, TIMES)
    chunks = list(provider.stream(request, MODEL, CAP, TIMES))
    assert joined(chunks) == spoken(whole)
    assert joined(chunks)["finish_reason"] == ("tool_calls" if calls else "stop")
    assert joined(chunks)["content"] == ("" if calls else "Paris.")
    usages = [chunk.usage for chunk in chunks if chunk.usage]
    assert usages == [whole.usage], "once, at the end"
    assert chunks[-1].usage is not None
    assert chunks[0].choices[0].delta.role == "assistant"


def test_a_conversation_with_tools_over_several_turns(services: Services, vendor: Vendor, books: Books) -> None:
    """As an application holds it: every answer goes back as it came, and each tool's result after it."""
    messages: list[dict[str, Any]] = [
        {"role": "developer", "content": "Use the tools."},
        {"role": "user", "content": "How is Paris?"},
    ]
    scripts: list[list[tuple[str, dict[str, Any]]]] = [
        [("weather", {"city": "Paris"}), ("time", {})],
        [("weather", {"city": "Paris"})],
        [],
    ]
    for calls in scripts:
        vendor.calls = calls
        for streamed in (False, True):
            request = chat(messages=messages, tools=[WEATHER, TIME], stream=streamed)
            if streamed:
                response = joined(list(services.router.stream(request, caller()).chunks))
            else:
                response = spoken(services.router.complete(request, caller())[0])
            asked = {"tool_calls": response["tool_calls"]} if response["tool_calls"] else {}
            messages.append({"role": "assistant", "content": response["content"] or None, **asked})
            messages += [
                {"role": "tool", "tool_call_id": call["id"], "content": f"{call['function']['name']} is fine"}
                for call in response["tool_calls"]
            ]
            messages.append({"role": "user", "content": "And now?"})
    assert len(vendor.billed) == 6, "each was taken: the vendor refuses a conversation that it can't read"
    assert vendor.requests[-1]["system"] == [{"type": "text", "text": "Use the tools."}]
    assert books.spent() == sum(map(cost, vendor.billed))
    books.check()


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "time"}}])
def test_a_forced_tool_is_called(provider: AIProvider, vendor: Vendor, choice: object) -> None:
    response = provider.complete(chat(tools=[WEATHER, TIME], tool_choice=choice), MODEL, CAP, TIMES)
    (call,) = response.choices[0].message.tool_calls or []
    assert call.function.name == ("weather" if choice == "required" else "time")


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}])
@pytest.mark.parametrize("streamed", [False, True])
def test_a_tool_choice_that_a_server_ignores_is_no_answer(
    provider: AIProvider, vendor: Vendor, choice: object, streamed: bool
) -> None:
    request = chat(tools=[WEATHER], tool_choice=choice)

    def ask() -> None:
        if streamed:
            list(provider.stream(request, MODEL, CAP, TIMES))
        else:
            provider.complete(request, MODEL, CAP, TIMES)

    vendor.script.append(with_usage(None))
    with pytest.raises(ProviderFailure) as caught:
        ask()
    assert caught.value.kind is FailureKind.FIELD_IGNORED
    vendor.script.append(refusal("No."))
    ask()  # a refusal is an answer


# --- the books ---


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(("cached", "written", "hour"), [(0, 0, 0), (120, 0, 0), (0, 40, 0), (0, 0, 40), (50, 30, 20)])
def test_what_is_booked_is_what_the_vendor_bills(
    services: Services, vendor: Vendor, books: Books, streamed: bool, cached: int, written: int, hour: int
) -> None:
    vendor.cached, vendor.written, vendor.written_for_an_hour = cached, written, hour
    vendor.thoughts = ["Hm"]
    part = {"type": "text", "text": "x" * 200, "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    request = chat(messages=[{"role": "user", "content": [part]}], stream=streamed, max_tokens=CAP)
    if streamed:
        usage = list(services.router.stream(request, caller()).chunks)[-1].usage
    else:
        usage = services.router.complete(request, caller())[0].usage
    (billed,) = vendor.billed
    (entry,) = books.entries()
    assert entry["cost_basis"] == "actual"
    assert entry["cost"] == books.spent() == cost(billed)
    assert entry["bound"] == PRICE.bound(chat_input_bound(request), CAP)
    assert usage is not None
    assert usage.cost == cost(billed)
    assert usage.prompt_tokens == billed["input_tokens"] + cached + written + hour
    assert (entry["input_tokens"], entry["output_tokens"]) == (usage.prompt_tokens, billed["output_tokens"])
    assert vendor.requests[0]["messages"][0]["content"][0]["cache_control"] == part["cache_control"]
    books.check()


WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=30).filter(str.strip)


@hypothesis_settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=st.lists(WORDS, min_size=1, max_size=4),
    system=st.none() | WORDS,
    tools=st.booleans(),
    called=st.booleans(),
    cap=st.integers(1, 5),
)
def test_no_request_costs_more_than_its_bound(
    provider: AIProvider,
    vendor: Vendor,
    texts: list[str],
    system: str | None,
    tools: bool,
    called: bool,
    cap: int,
) -> None:
    messages: list[dict[str, Any]] = [{"role": "user", "content": text} for text in texts]
    if system:
        messages.append({"role": "system", "content": system})
    if called:
        call = {"id": "c:1", "type": "function", "function": {"name": "time", "arguments": '{"a": 1}'}}
        messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        messages.append(
            {"role": "tool", "tool_call_id": "c:1", "content": [{"type": "text", "text": t} for t in texts]}
        )
    request = chat(messages=messages, **({"tools": [WEATHER, TIME]} if tools else {}))
    provider.complete(request, MODEL, cap, TIMES)
    billed = vendor.billed[-1]
    assert billed["input_tokens"] <= chat_input_bound(request)
    assert cost(billed) <= PRICE.bound(chat_input_bound(request), cap, cache_writes="none")


def test_what_was_not_told_is_booked_at_its_bound(services: Services, vendor: Vendor, books: Books) -> None:
    for streamed in (False, True):
        for counts in (None, {"input_tokens": 7}, {"output_tokens": 7}):
            vendor.script.append(with_usage(counts))
            request = chat(stream=streamed, max_tokens=CAP)
            if streamed:
                assert joined(list(services.router.stream(request, caller()).chunks))["content"] == "Paris."
            else:
                services.router.complete(request, caller())
    most = chat_input_bound(chat())
    whole = [
        PRICE.bound(most, CAP, cache_writes="none"),
        PRICE.cost(TokenCounts(7, CAP)),
        PRICE.bound(most, 7, cache_writes="none"),
    ]
    assert [(e["cost_basis"], e["cost"]) for e in books.entries()] == [("bound", cost) for cost in whole * 2]
    books.check()


def test_more_than_the_bound_is_booked_as_it_is_billed(services: Services, vendor: Vendor, books: Books) -> None:
    vendor.script.append(with_usage({"input_tokens": 10**6, "output_tokens": 10**5}))
    services.router.complete(chat(max_tokens=CAP), caller())
    assert books.spent() == Decimal("7.5")
    books.check()


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("words", [0, 2])
def test_a_refusal_is_an_answer_that_content_policy_ended(
    services: Services, vendor: Vendor, books: Books, streamed: bool, words: int
) -> None:
    vendor.script.append(refusal("It could do harm.", words))
    if streamed:
        response = joined(list(services.router.stream(chat(stream=True), caller()).chunks))
    else:
        response = spoken(services.router.complete(chat(), caller())[0])
    assert response["finish_reason"] == "content_filter"
    assert response["content"] == "Paris."[: 2 + 3 * (words > 1)] * bool(words)
    assert books.ends() == [("anthropic", "settled", "actual", "success")]
    assert books.spent() == cost(vendor.billed[0]), "as it is reported"
    assert books.health("anthropic")["last_failure_at"] is None


# --- time ---


def test_pings_are_no_content_and_content_may_take_its_time(provider: AIProvider, vendor: Vendor) -> None:
    vendor.script.append(stall(0, 10, pings=True))
    with pytest.raises(ProviderFailure) as caught:
        list(provider.stream(chat(stream=True), MODEL, CAP, Timeouts(connect=5, first=1, total=5)))
    assert caught.value.kind is FailureKind.READ_TIMEOUT
    vendor.script.append(stall(1, 2, pings=True))
    stream = provider.stream(chat(stream=True), MODEL, CAP, Timeouts(connect=5, first=1, total=10))
    with pytest.raises(ProviderFailure) as caught:
        list(stream)
    assert caught.value.kind is FailureKind.CONNECTION_LOST, "it was heard to its end, long after the first limit"


# --- who is asked ---


def second(vendor: Vendor, upstream: Upstream) -> dict[str, str]:
    return variables(
        vendor,
        AI_FALLBACK_CHAIN="anthropic,openai",
        OPENAI_BASE_URL=upstream.url,
        OPENAI_API_KEY="k",
        OPENAI_SOTA_MODEL="second",
        AI_PRICE_OVERRIDES=json.dumps({"openai/*": {"input_mtok": 3, "output_mtok": 4}}),
    )


@pytest.mark.parametrize(
    "fields", [{"n": 2}, {"response_format": {"type": "json_object"}}, {"temperature": 0.2}, {"stop": "\n"}]
)
def test_what_claude_cannot_honour_goes_to_the_next_provider(
    vendor: Vendor, upstream: Upstream, core: CoreFactory, books: Books, fields: dict[str, Any]
) -> None:
    _, served = core(**second(vendor, upstream)).router.complete(chat(**fields), caller())
    assert (served.provider, served.attempts) == ("openai", 1)
    assert not vendor.requests
    assert books.ends() == [("openai", "settled", "actual", "success")]


@pytest.mark.parametrize(("fields", "param"), [({"n": 2}, "n"), ({"stop": "\n"}, "stop")])
def test_where_nobody_can_the_field_and_the_provider_are_named(
    services: Services, vendor: Vendor, books: Books, fields: dict[str, Any], param: str
) -> None:
    for streamed in (False, True):
        with pytest.raises(UnsupportedParameterError, match="anthropic") as caught:
            (services.router.stream if streamed else services.router.complete)(chat(**fields), caller())
        assert caught.value.param == param
    assert not vendor.requests
    assert not books.entries()


def test_a_preference_that_nobody_has_is_left_out_and_named(services: Services, vendor: Vendor, books: Books) -> None:
    _, served = services.router.complete(chat(temperature=0.2, user="u"), caller())
    assert served.dropped == ("temperature",)
    assert "temperature" not in vendor.requests[0]
    books.check()


def test_embeddings_are_not_served(services: Services, vendor: Vendor, books: Books) -> None:
    with pytest.raises(ModelNotFoundError):
        services.router.embed(embedding(model=f"anthropic/{MODEL}"), caller())
    assert not vendor.requests
    assert books.spent() == 0
    books.check()
