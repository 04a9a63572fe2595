"""The one suite that every provider passes (rows in `contract.py`), whatever its vendor's protocol (`wires.py`)."""

import base64
import json
import struct
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Literal

import pytest

from fusewire.ai.failures import FailureKind, ProviderFailure
from fusewire.ai.provider import AIProvider
from fusewire.ai.registry import _PROVIDER_FACTORIES, _in
from fusewire.ai.schema import ChatRequest, ChatResponse, EmbeddingRequest, StreamChunk, fields_of, needs
from fusewire.errors import AllProvidersFailedError
from fusewire.services import Services
from tests.conftest import CoreFactory
from tests.integration.ai.contract import ADVISORY, CAP, COST_EFFECTIVE, KEY, ROWS, SOTA, TIMES, Row, chat, embedding
from tests.integration.ai.observing import Books, caller
from tests.integration.ai.refusals import REFUSALS
from tests.support.wires import CALL, CALL_ID, Answer, OpenAIWire, Wire

PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": PARAMETERS}}
NAMED = {"type": "function", "function": {"name": "weather"}}


# A provider that isn't in the tree: its one file, and below its one line in `_PROVIDER_FACTORIES`.
STRANGERS_FILE = """
from fusewire.ai.provider import Variables
from fusewire.ai.providers.openai_compatible import USUAL, OpenAICompatibleProvider


class StrangerProvider(OpenAICompatibleProvider):
    id = "stranger"
    supported = USUAL
    variables = Variables(
        endpoint="STRANGER_BASE_URL",
        credential="STRANGER_API_KEY",
        sota="STRANGER_SOTA_MODEL",
        cost_effective="STRANGER_COST_EFFECTIVE_MODEL",
        embedding="STRANGER_EMBEDDING_MODEL",
    )
"""
STRANGER = Row(
    "stranger", "stranger", lambda url: {f"STRANGER{name[6:]}": value for name, value in ROWS[0].variables(url).items()}
)


def test_every_registered_provider_is_in_the_suite() -> None:
    assert {row.provider for row in ROWS} == set(_PROVIDER_FACTORIES)


@pytest.fixture(scope="module", params=[*ROWS, STRANGER], ids=lambda row: str(row.name))
def row(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Row]:
    found: Row = request.param
    with pytest.MonkeyPatch.context() as patch:
        if found is STRANGER:
            folder = tmp_path_factory.mktemp("stranger")
            (folder / "provider_of_a_stranger.py").write_text(STRANGERS_FILE)
            patch.syspath_prepend(str(folder))
            patch.setitem(_PROVIDER_FACTORIES, "stranger", _in("provider_of_a_stranger", "StrangerProvider"))
        yield found


@pytest.fixture(scope="module")
def provider(row: Row, lasting_wire: Wire) -> AIProvider:
    return row.make(lasting_wire)


@pytest.fixture
def services(row: Row, wire: Wire, core: CoreFactory) -> Services:
    return core(**row.settings(wire))


def asked(provider: AIProvider, *, streamed: bool = False, **fields: object) -> ChatResponse | list[StreamChunk]:
    if streamed:
        return list(provider.stream(chat(stream=True, **fields), SOTA, CAP, TIMES))
    return provider.complete(chat(**fields), SOTA, CAP, TIMES)


def finish_of(result: ChatResponse | list[StreamChunk]) -> str | None:
    if isinstance(result, ChatResponse):
        return result.choices[0].finish_reason
    (finish,) = [choice.finish_reason for chunk in result for choice in chunk.choices if choice.finish_reason]
    return finish


streamed_or_not = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])


@streamed_or_not
def test_a_refusal_is_known_by_the_vendors_own_words(
    row: Row, provider: AIProvider, wire: Wire, streamed: bool
) -> None:
    for status, body, kind, source in REFUSALS[row.wire]:
        wire.will_refuse(status, body)
        with pytest.raises(ProviderFailure) as caught:
            asked(provider, streamed=streamed)
        assert caught.value.kind is kind, (source, caught.value.message)
        assert f"HTTP {status}" in caught.value.message
        assert "arn:" not in caught.value.message


def test_it_is_configured_by_its_own_settings(row: Row, provider: AIProvider) -> None:
    assert provider.id == row.provider
    assert provider.missing() == ()
    assert provider.tier_model("sota") == SOTA
    assert provider.tier_model("cost_effective") in (COST_EFFECTIVE, SOTA)
    assert provider.embedding_model() == row.embedding


def test_chat(provider: AIProvider, wire: Wire) -> None:
    response = provider.complete(chat(temperature=0.5, stop=["?"]), SOTA, CAP, TIMES)
    assert response.choices[0].message.content == "Paris."
    assert response.choices[0].finish_reason == "stop"
    assert response.usage is not None
    assert [(response.usage.prompt_tokens, response.usage.completion_tokens)] == wire.bills()
    (sent,) = wire.requests
    assert wire.model(0) == SOTA, "the tier's name must not travel"
    assert wire.cap(0) == CAP
    assert not wire.streams(0)
    for value in ("Hello", "0.5", '"?"'):
        assert value in json.dumps(sent)


def test_a_stream_has_its_usage_once_and_at_its_end(provider: AIProvider, wire: Wire) -> None:
    chunks = list(provider.stream(chat(stream=True), SOTA, CAP, TIMES))
    pieces = [c.choices[0].delta.content for c in chunks if c.choices and c.choices[0].delta.content]
    assert pieces == ["Pa", "ris", "."]
    assert finish_of(chunks) == "stop"
    assert [chunk.usage for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    usage = chunks[-1].usage
    assert usage is not None
    assert [(usage.prompt_tokens, usage.completion_tokens)] == wire.bills()
    assert (wire.model(0), wire.cap(0), wire.streams(0)) == (SOTA, CAP, True)


@streamed_or_not
@pytest.mark.parametrize("answer", [Answer(), CALL], ids=["text", "call"])
def test_what_openais_sdk_looks_for_is_always_there(
    provider: AIProvider, wire: Wire, answer: Answer, streamed: bool
) -> None:
    wire.will_answer(answer)
    result = asked(provider, streamed=streamed, tools=[TOOL])
    for part in [result] if isinstance(result, ChatResponse) else result:
        sent = part.model_dump(exclude_unset=True)
        assert sent["object"] == ("chat.completion.chunk" if streamed else "chat.completion")
        assert sent.keys() >= {"id", "created", "model", "choices"}
        for choice in sent["choices"]:
            assert choice.keys() >= {"index", "finish_reason"}
            message = choice.get("message")
            assert streamed or (message["role"] == "assistant" and "content" in message)
            calls = (message or choice["delta"]).get("tool_calls") or ()
            assert all(call["type"] == "function" for call in calls if call.get("id"))


@streamed_or_not
def test_its_credential_travels_where_it_belongs(row: Row, provider: AIProvider, wire: Wire, streamed: bool) -> None:
    asked(provider, streamed=streamed)
    (headers,) = wire.headers
    if row.credential is None:
        assert not any(KEY in value for value in headers.values())
    else:
        name, begins = row.credential
        assert headers[name].startswith(begins)
    assert KEY not in json.dumps(wire.requests)


@streamed_or_not
@pytest.mark.parametrize("finish", ["length", "content_filter"])
def test_an_answer_that_reached_the_cap_or_a_filter_says_so(
    provider: AIProvider, wire: Wire, finish: Literal["length", "content_filter"], streamed: bool
) -> None:
    wire.will_answer(Answer(("Pa",), finish=finish))
    assert finish_of(asked(provider, streamed=streamed)) == finish


@pytest.mark.parametrize("choice", ["auto", "required", NAMED], ids=["auto", "required", "named"])
def test_tools_there_and_back(provider: AIProvider, wire: Wire, choice: object) -> None:
    wire.will_answer(CALL)
    response = provider.complete(chat(tools=[TOOL], tool_choice=choice), SOTA, CAP, TIMES)
    (call,) = response.choices[0].message.tool_calls or []
    assert (call.id, call.type, call.function.name) == (CALL_ID, "function", "weather")
    assert json.loads(call.function.arguments) == {"city": "Paris"}
    assert finish_of(response) == "tool_calls"
    assert response.choices[0].message.content is None

    conversation: list[dict[str, Any]] = [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": None, "tool_calls": [call.model_dump(exclude_none=True)]},
        {"role": "tool", "tool_call_id": call.id, "content": "sunny"},
    ]
    answer = provider.complete(chat(messages=conversation, tools=[TOOL]), SOTA, CAP, TIMES)
    assert answer.choices[0].message.content == "Paris."
    sent = json.dumps(wire.requests[1]["messages"])
    assert sent.count(CALL_ID) == 2, "the call, and its result"
    assert "sunny" in sent


def test_tools_in_a_stream(provider: AIProvider, wire: Wire) -> None:
    wire.will_answer(CALL)
    chunks = list(provider.stream(chat(stream=True, tools=[TOOL], tool_choice="required"), SOTA, CAP, TIMES))
    calls = [call for c in chunks for choice in c.choices for call in choice.delta.tool_calls or ()]
    assert calls[0].id == CALL_ID
    assert calls[0].function is not None
    assert calls[0].function.name == "weather"
    assert {call.index for call in calls} == {0}
    assert {call.id for call in calls[1:]} <= {None}
    pieces = [call.function.arguments for call in calls if call.function and call.function.arguments]
    assert json.loads("".join(pieces)) == {"city": "Paris"}
    assert len(pieces) == 2, "as they come"
    assert finish_of(chunks) == "tool_calls"


@pytest.mark.parametrize("choice", ["required", NAMED], ids=["required", "named"])
@streamed_or_not
def test_a_tool_choice_that_the_server_ignores_is_no_answer(
    provider: AIProvider, wire: Wire, choice: object, streamed: bool
) -> None:
    wire.will_answer(Answer())
    with pytest.raises(ProviderFailure) as caught:
        asked(provider, streamed=streamed, tools=[TOOL], tool_choice=choice)
    assert caught.value.kind is FailureKind.FIELD_IGNORED


def test_images(provider: AIProvider, wire: Wire) -> None:
    parts = [
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo=", "detail": "low"}},
    ]
    request = chat(messages=[{"role": "user", "content": parts}])
    assert provider.unsupported(request, SOTA) == ()
    provider.complete(request, SOTA, CAP, TIMES)
    sent = json.dumps(wire.requests[0]["messages"])
    assert "iVBORw0KGgo=" in sent
    assert "What is it?" in sent


def test_a_json_schema(provider: AIProvider, wire: Wire) -> None:
    schema = {"name": "place", "schema": PARAMETERS, "strict": True}
    request = chat(response_format={"type": "json_schema", "json_schema": schema})
    assert provider.unsupported(request, SOTA) == ()
    provider.complete(request, SOTA, CAP, TIMES)
    assert "additionalProperties" in json.dumps(wire.requests[0])


def test_the_advisory_fields_are_every_hint_of_a_request() -> None:
    assert ADVISORY.keys() == fields_of(ChatRequest, "hint")


@streamed_or_not
def test_an_advisory_field_never_costs_the_answer(provider: AIProvider, wire: Wire, streamed: bool) -> None:
    request: ChatRequest = chat(**ADVISORY)
    assert provider.unsupported(request, SOTA) == ()
    assert set(provider.dropped(request, SOTA)) <= ADVISORY.keys()
    assert finish_of(asked(provider, streamed=streamed, **ADVISORY)) == "stop"
    sent = wire.requests[0]
    for name in provider.dropped(request, SOTA):
        assert sent.get(name) != ADVISORY[name], f"{name} travels, and is told as dropped"


def test_embeddings_as_numbers(row: Row, provider: AIProvider, wire: Wire) -> None:
    if row.embedding is None and row.wire is not OpenAIWire:
        with pytest.raises(ProviderFailure):
            provider.embed(embedding(), SOTA, TIMES)
        assert wire.requests == []
        return
    wire.will_embed()
    response = provider.embed(embedding(input=["a", "bc"]), row.embedding or "pinned", TIMES)
    assert [item.embedding for item in response.data] == [[0.5, -0.25], [0.5, -0.25]]
    assert [item.index for item in response.data] == [0, 1]
    assert response.usage is not None
    assert response.usage.prompt_tokens == 3


@pytest.mark.parametrize("fields", [{"dimensions": 64}, {"user": "u"}, {"input": [[3, 4]]}], ids=json.dumps)
@pytest.mark.parametrize("row", [row for row in ROWS if row.embedding], ids=lambda row: str(row.name), indirect=True)
def test_a_field_of_an_embedding_is_sent_if_it_is_declared(
    row: Row, provider: AIProvider, wire: Wire, fields: dict[str, Any]
) -> None:
    model = row.embedding or ""
    request = embedding(**fields)
    without, sent = (upstream(provider, wire, each, model) for each in (embedding(), request))
    declared = {need.capability for need in needs(request)} <= provider.supports(model)
    assert declared is not bool(provider.unsupported(request, model) or provider.dropped(request, model))
    assert without is not None
    assert (sent not in (None, without)) is declared


def upstream(provider: AIProvider, wire: Wire, request: EmbeddingRequest, model: str) -> dict[str, Any] | None:
    """What the vendor got; None where nothing was sent."""
    wire.reset()
    wire.will_embed()
    try:
        provider.embed(request, model, TIMES)
    except ProviderFailure:
        return None
    [sent] = wire.requests
    return sent


@pytest.mark.parametrize("row", [row for row in ROWS if row.embedding], ids=lambda row: str(row.name), indirect=True)
def test_embeddings_as_base64(row: Row, provider: AIProvider, wire: Wire) -> None:
    wire.will_embed()
    response = provider.embed(embedding(encoding_format="base64"), row.embedding or "", TIMES)
    result = response.data[0].embedding
    assert isinstance(result, str)
    assert struct.unpack("<2f", base64.b64decode(result)) == (0.5, -0.25)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(429, FailureKind.RATE_LIMITED), (500, FailureKind.SERVER_ERROR), (503, FailureKind.OVERLOADED)],
)
@streamed_or_not
def test_a_failure_is_of_its_kind_and_is_asked_once(
    provider: AIProvider, wire: Wire, status: int, kind: FailureKind, streamed: bool
) -> None:
    wire.will_fail(status)
    with pytest.raises(ProviderFailure) as caught:
        asked(provider, streamed=streamed)
    assert caught.value.kind is kind
    assert len(wire.requests) == 1, "the router retries, and no SDK behind its back"


# --- the books ---

# 400 x $8 + 600 x $2 + 300 x $16, a million tokens: reasoning is within the output and not paid twice.
DETAILED = Answer(("x",), prompt=1000, cached=600, completion=300, reasoning=200)
EXPECTED_COST = Decimal("0.0092")


def test_cached_and_reasoning_tokens_are_priced_right(row: Row, wire: Wire, services: Services, books: Books) -> None:
    wire.will_answer(DETAILED)
    response, served = services.router.complete(chat(max_completion_tokens=300), caller())
    assert served.booked.cost == EXPECTED_COST
    assert served.booked.basis == "actual"
    assert response.usage is not None
    assert response.usage.cost == EXPECTED_COST
    assert (response.usage.prompt_tokens, response.usage.completion_tokens) == (1000, 300)
    assert response.usage.prompt_tokens_details is not None
    assert response.usage.prompt_tokens_details.cached_tokens == 600
    if row.tells_reasoning:
        assert response.usage.completion_tokens_details is not None
        assert response.usage.completion_tokens_details.reasoning_tokens == 200

    wire.will_answer(DETAILED)
    last = list(services.router.stream(chat(stream=True, max_completion_tokens=300), caller()).chunks)[-1]
    assert last.usage is not None
    assert last.usage.cost == EXPECTED_COST
    assert (wire.cap(0), wire.cap(1)) == (300, 300), "the caller's cap is held upstream"
    budget, by_provider, by_model, *_ = services.ledger.budget()
    assert budget.window.spent == 2 * EXPECTED_COST
    assert by_provider == {row.provider: 2 * EXPECTED_COST}
    assert by_model == {f"{row.provider}/{SOTA}": 2 * EXPECTED_COST}
    assert books.ends() == [(row.provider, "settled", "actual", "success")] * 2
    books.check()


# --- service tiers ---

TIERED_MODEL = "gpt-5"


def tier_sent(wire: Wire) -> str | None:
    sent = wire.requests[-1]
    tier: str | None = sent.get("service_tier") or sent.get("serviceTier", {}).get("type")
    return tier


@streamed_or_not
@pytest.mark.parametrize("named", [None, "auto", "default"])
def test_the_default_service_tier_is_asked_for_by_name(
    provider: AIProvider, wire: Wire, named: str | None, streamed: bool
) -> None:
    # A project's or a deployment's own default costs up to 2.5 times as much (bolna#479; pi#3307; coder/xum#4352).
    request = chat(stream=streamed, **({} if named is None else {"service_tier": named}))
    assert provider.unsupported(request, TIERED_MODEL) == ()
    if streamed:
        list(provider.stream(request, TIERED_MODEL, CAP, TIMES))
    else:
        provider.complete(request, TIERED_MODEL, CAP, TIMES)
    has_tiers = "service_tier" in provider.supports(TIERED_MODEL)
    assert tier_sent(wire) == ("default" if has_tiers else None)


@pytest.mark.parametrize(("asked", "sent"), [("flex", "flex"), ("priority", "priority"), ("fast", "priority")])
def test_another_tier_is_sent_or_dropped_by_name(provider: AIProvider, wire: Wire, asked: str, sent: str) -> None:
    request = chat(service_tier=asked)
    has_tiers = "service_tier" in provider.supports(TIERED_MODEL)
    provider.complete(request, TIERED_MODEL, CAP, TIMES)
    assert tier_sent(wire) == (sent if has_tiers else None)
    assert provider.dropped(request, TIERED_MODEL) == (() if has_tiers else ("service_tier",))


PLAIN = Decimal("0.0024")
"""Of 100 tokens in and 100 out, at 8 and 16 USD per million."""


@pytest.mark.parametrize(
    ("asked", "answered", "factor"),
    [
        (None, None, "1"),
        (None, "default", "1"),
        (None, "standard", "1"),
        # Whatever was asked for, the vendor bills the tier that served (litellm#31837, #30558, #21171; posthog#94200).
        (None, "priority", "2"),
        ("flex", "flex", "0.5"),
        ("flex", "default", "1"),
        ("priority", "priority", "2"),
        ("priority", "fast", "2"),
        ("priority", "default", "1"),
        # Nobody knows which it was: the dearest that it can have been.
        ("flex", None, "1"),
        ("priority", None, "2"),
        # A tier without a price: the bound.
        (None, "scale", None),
        (None, "ultrafast", None),
    ],
)
@streamed_or_not
def test_a_call_is_booked_in_the_service_tier_that_the_answer_names(
    row: Row,
    wire: Wire,
    core: CoreFactory,
    books: Books,
    asked: str | None,
    answered: str | None,
    factor: str | None,
    streamed: bool,
) -> None:
    price = {"input_mtok": 8, "output_mtok": 16, "flex": {"multiply": "0.5"}, "priority": {"multiply": 2}}
    services = core(**row.settings(wire) | {"AI_PRICE_OVERRIDES": json.dumps({f"{row.provider}/*": price})})
    provider = services.registry.get(row.provider)
    wire.will_answer(Answer(("x",), prompt=100, completion=100, tier=answered))
    request = chat(max_completion_tokens=200, stream=streamed, **({} if asked is None else {"service_tier": asked}))
    if asked and provider.dropped(request, SOTA):
        assert provider.dropped(request, SOTA) == ("service_tier",)
        # It wasn't asked for, and so it isn't taken for what served.
        asked, factor = None, "1" if answered is None else factor
    if streamed:
        list(services.router.stream(request, caller()).chunks)
    else:
        services.router.complete(request, caller())
    [entry] = books.entries()
    assert entry["cost"] <= entry["bound"] or (asked is None and answered in ("priority", "fast"))
    if factor is None:
        assert (entry["cost_basis"], entry["cost"]) == ("bound", entry["bound"])
    else:
        assert (entry["cost_basis"], entry["cost"]) == ("actual", PLAIN * Decimal(factor))
    books.check()


@streamed_or_not
@pytest.mark.parametrize("asked", ["flex", "priority", "fast"])
def test_a_tier_without_a_price_is_dropped_by_name(
    row: Row, wire: Wire, services: Services, books: Books, asked: str, streamed: bool
) -> None:
    """The call is sent, bounded and booked in the default tier (BerriAI/litellm#17911; can1357/oh-my-pi#6451)."""
    request = chat(max_completion_tokens=200, stream=streamed, service_tier=asked)
    if streamed:
        streaming = services.router.stream(request, caller())
        list(streaming.chunks)
        dropped = streaming.dropped
    else:
        dropped = services.router.complete(request, caller())[1].dropped
    assert "service_tier" in dropped
    assert tier_sent(wire) in (None, "default")
    [entry] = books.entries()
    assert entry["cost_basis"] == "actual"
    books.check()


@pytest.mark.parametrize("row", [row for row in ROWS if row.embedding], ids=lambda row: str(row.name), indirect=True)
def test_embeddings_are_booked(row: Row, wire: Wire, services: Services, books: Books) -> None:
    wire.will_embed()
    _, served = services.router.embed(embedding(input=["a", "bc"]), caller())
    assert served.booked.cost == Decimal("0.000024")
    assert books.ends() == [(row.provider, "settled", "actual", "success")]
    books.check()


@streamed_or_not
def test_a_failure_costs_nothing_and_leaves_nothing_open(
    wire: Wire, services: Services, books: Books, streamed: bool
) -> None:
    for _ in range(9):
        wire.will_fail(503)
    with pytest.raises(AllProvidersFailedError):
        if streamed:
            list(services.router.stream(chat(stream=True), caller()).chunks)
        else:
            services.router.complete(chat(), caller())
    assert books.spent() == 0
    assert len(books.entries()) == len(wire.requests) >= 1
    books.check()
