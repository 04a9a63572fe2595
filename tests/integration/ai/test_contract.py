"""The one suite that every provider passes (rows in `contract.py`)."""

import base64
import struct
from decimal import Decimal
from typing import Any

import pytest

from fusewire.ai.failures import FailureKind, ProviderFailure
from fusewire.ai.provider import AIProvider
from fusewire.ai.registry import _PROVIDER_FACTORIES
from fusewire.ai.router import Caller
from tests.conftest import CoreFactory
from tests.integration.ai.contract import CAP, EMBEDDING, KEY, ROWS, SOTA, TIMES, Row, chat, embedding
from tests.support.upstream import Reply, Upstream, chunk, without_usage
from tests.support.upstream import _Handler as Handler

PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string", "default": None}},
    "required": ["city"],
}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": PARAMETERS, "strict": True}}


def test_every_registered_provider_is_in_the_suite() -> None:
    assert {row.provider for row in ROWS} == set(_PROVIDER_FACTORIES)


@pytest.fixture
def upstream(forgetful_upstream: Upstream) -> Upstream:
    return forgetful_upstream


@pytest.fixture(scope="module", params=ROWS, ids=lambda row: str(row.name))
def row(request: pytest.FixtureRequest) -> Row:
    found: Row = request.param
    return found


@pytest.fixture(scope="module")
def provider(row: Row, lasting_upstream: Upstream) -> AIProvider:
    return row.make(lasting_upstream)


def test_it_is_configured_by_its_own_settings(row: Row, provider: AIProvider) -> None:
    assert provider.id == row.provider
    assert provider.missing() == ()
    assert provider.tier_model("sota") == SOTA
    assert provider.embedding_model() == EMBEDDING


def test_chat(row: Row, provider: AIProvider, upstream: Upstream) -> None:
    response = provider.complete(chat(temperature=0.5, stop=["."]), SOTA, CAP, TIMES)
    assert response.choices[0].message.content == "Paris."
    assert response.usage is not None
    assert (response.usage.prompt_tokens, response.usage.completion_tokens) == upstream.billed[0]
    (sent,) = upstream.requests
    assert sent["model"] == SOTA, "the tier's name must not travel"
    assert sent["messages"] == [{"role": "user", "content": "Hello"}]
    assert (sent["temperature"], sent["stop"]) == (0.5, ["."])
    assert {name: sent[name] for name in sent if name.startswith("max_")} == {row.cap_field: CAP}
    assert not sent.get("stream")
    assert list(upstream.paths) == [row.chat_path]


def test_its_credential_travels_where_it_belongs(row: Row, provider: AIProvider, upstream: Upstream) -> None:
    provider.complete(chat(), SOTA, CAP, TIMES)
    (headers,) = upstream.headers
    if row.key_header is None:
        assert not any(KEY in value for value in headers.values())
    else:
        assert headers[row.key_header].removeprefix("Bearer ") == KEY


def test_stream_with_usage(row: Row, provider: AIProvider, upstream: Upstream) -> None:
    chunks = list(provider.stream(chat(stream=True), SOTA, CAP, TIMES))
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "Paris."
    usages = [c.usage for c in chunks if c.usage is not None]
    assert len(usages) == 1
    assert (usages[0].prompt_tokens, usages[0].completion_tokens) == upstream.billed[0]
    (sent,) = upstream.requests
    assert sent["stream"] is True
    assert sent["stream_options"] == {"include_usage": True}
    assert (sent["model"], sent[row.cap_field]) == (SOTA, CAP)


def tool_answer(handler: Handler, body: dict[str, Any]) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Paris"}'}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    handler.reply(
        200,
        {
            "id": "c",
            "object": "chat.completion",
            "created": 1,
            "model": body["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}],
            "usage": {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13},
        },
    )


def tool_deltas(handler: Handler, body: dict[str, Any]) -> None:
    handler.begin_events()
    begun = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ""}}
    handler.event(chunk(body["model"], {"role": "assistant", "content": None, "tool_calls": [begun]}))
    for piece in ('{"city"', ':"Paris"}'):
        handler.event(chunk(body["model"], {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}))
    handler.event(chunk(body["model"], {}, "tool_calls"))
    handler.event(chunk(body["model"], {}) | {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 4}})
    handler.event("[DONE]")
    handler.end_events()


def test_tools_there_and_back(provider: AIProvider, upstream: Upstream) -> None:
    upstream.script.append(tool_answer)
    response = provider.complete(chat(tools=[TOOL], tool_choice="required"), SOTA, CAP, TIMES)
    (call,) = response.choices[0].message.tool_calls or []
    assert (call.id, call.function.name, call.function.arguments) == ("call_1", "weather", '{"city":"Paris"}')
    assert upstream.requests[0]["tools"] == [TOOL]
    assert upstream.requests[0]["tool_choice"] == "required"

    conversation: list[dict[str, Any]] = [
        {"role": "user", "content": "Weather?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Paris"}'}}
            ],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
    ]
    provider.complete(chat(messages=conversation, tools=[TOOL]), SOTA, CAP, TIMES)
    sent = upstream.requests[1]["messages"]
    assert sent[1]["tool_calls"] == conversation[1]["tool_calls"]
    assert sent[2] == conversation[2]


def test_tools_in_a_stream(provider: AIProvider, upstream: Upstream) -> None:
    upstream.script.append(tool_deltas)
    chunks = list(provider.stream(chat(stream=True, tools=[TOOL]), SOTA, CAP, TIMES))
    calls = [call for c in chunks for choice in c.choices for call in choice.delta.tool_calls or ()]
    assert calls[0].id == "call_1"
    assert calls[0].function is not None
    assert calls[0].function.name == "weather"
    assert "".join((call.function and call.function.arguments) or "" for call in calls) == '{"city":"Paris"}'
    assert [choice.finish_reason for c in chunks for choice in c.choices][-1] == "tool_calls"


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}])
@pytest.mark.parametrize("streamed", [False, True])
def test_a_tool_choice_that_the_server_ignores_is_no_answer(
    provider: AIProvider, upstream: Upstream, choice: object, streamed: bool
) -> None:
    upstream.script.append(without_usage)
    request = chat(tools=[TOOL], tool_choice=choice)
    with pytest.raises(ProviderFailure) as caught:
        if streamed:
            list(provider.stream(request, SOTA, CAP, TIMES))
        else:
            provider.complete(request, SOTA, CAP, TIMES)
    assert caught.value.kind is FailureKind.FIELD_IGNORED


def test_images(provider: AIProvider, upstream: Upstream) -> None:
    parts = [
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo=", "detail": "low"}},
    ]
    provider.complete(chat(messages=[{"role": "user", "content": parts}]), SOTA, CAP, TIMES)
    assert upstream.requests[0]["messages"] == [{"role": "user", "content": parts}]


def test_a_json_schema(provider: AIProvider, upstream: Upstream) -> None:
    asked = {"type": "json_schema", "json_schema": {"name": "city", "schema": PARAMETERS, "strict": True}}
    provider.complete(chat(response_format=asked), SOTA, CAP, TIMES)
    assert upstream.requests[0]["response_format"] == asked


def test_embeddings_as_numbers(row: Row, provider: AIProvider, upstream: Upstream) -> None:
    response = provider.embed(embedding(input=["a", "bc"]), EMBEDDING, TIMES)
    assert [item.embedding for item in response.data] == [[0.5, -0.25], [0.5, -0.25]]
    assert [item.index for item in response.data] == [0, 1]
    assert response.usage is not None
    assert response.usage.prompt_tokens == 3
    (sent,) = upstream.requests
    assert (sent["model"], sent["input"]) == (EMBEDDING, ["a", "bc"])
    assert list(upstream.paths) == [row.embedding_path]


def test_embeddings_as_base64(provider: AIProvider) -> None:
    response = provider.embed(embedding(encoding_format="base64"), EMBEDDING, TIMES)
    told = response.data[0].embedding
    assert isinstance(told, str)
    assert struct.unpack("<2f", base64.b64decode(told)) == (0.5, -0.25)


def vectors(*indices: int) -> Reply:
    def reply(handler: Handler, body: dict[str, Any]) -> None:
        data = [{"object": "embedding", "index": i, "embedding": [float(i)]} for i in indices]
        handler.reply(200, {"object": "list", "data": data, "model": "m", "usage": {"prompt_tokens": 3}})

    return reply


def test_vectors_come_back_in_the_inputs_order(provider: AIProvider, upstream: Upstream) -> None:
    upstream.script.append(vectors(1, 0))
    response = provider.embed(embedding(input=["a", "b"]), EMBEDDING, TIMES)
    assert [item.embedding for item in response.data] == [[0.0], [1.0]]


@pytest.mark.parametrize("indices", [(0,), (0, 0), (0, 1, 2), (1, 2)])
def test_a_missing_vector_is_a_malformed_answer(
    provider: AIProvider, upstream: Upstream, indices: tuple[int, ...]
) -> None:
    upstream.script.append(vectors(*indices))
    with pytest.raises(ProviderFailure) as caught:
        provider.embed(embedding(input=["a", "b"]), EMBEDDING, TIMES)
    assert caught.value.kind is FailureKind.MALFORMED_ANSWER


def test_an_advisory_field_of_embeddings_travels_or_is_told_as_dropped(
    provider: AIProvider, upstream: Upstream
) -> None:
    request = embedding(user="someone")
    provider.embed(request, EMBEDDING, TIMES)
    assert (upstream.requests[0].get("user") == "someone") is ("user" not in provider.dropped(request))


def test_every_advisory_field_travels_or_is_told_as_dropped(provider: AIProvider, upstream: Upstream) -> None:
    advisory = {
        "seed": 7, "presence_penalty": 0.5, "frequency_penalty": 0.25, "logit_bias": {"50256": -100.0}, "user": "u",
        "safety_identifier": "s", "prompt_cache_key": "p", "metadata": {"a": "b"}, "verbosity": "low",
    }  # fmt: skip
    request = chat(**advisory)
    provider.complete(request, SOTA, CAP, TIMES)
    (sent,) = upstream.requests
    dropped = provider.dropped(request)
    for name, value in advisory.items():
        assert (name in dropped) is (name not in sent), name
        assert name in dropped or sent[name] == value


def detailed(handler: Handler, body: dict[str, Any]) -> None:
    usage = {
        "prompt_tokens": 1000,
        "completion_tokens": 300,
        "total_tokens": 1300,
        "prompt_tokens_details": {"cached_tokens": 600, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 200},
    }
    if not body.get("stream"):
        choice = {"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}
        handler.reply(200, {"id": "c", "created": 1, "model": "m", "choices": [choice], "usage": usage})
        return
    handler.begin_events()
    handler.event(chunk("m", {"content": "x"}, "stop"))
    handler.event(chunk("m", {}) | {"choices": [], "usage": usage})
    handler.event("[DONE]")
    handler.end_events()


# 400 x $8 + 600 x $2 + 300 x $16, a million tokens: reasoning is within the output and not paid twice.
EXPECTED_COST = Decimal("0.0092")


def test_cached_and_reasoning_tokens_are_priced_right(row: Row, upstream: Upstream, core: CoreFactory) -> None:
    services = core(**row.settings(upstream))
    caller = Caller("request-1", 60)
    upstream.script.append(detailed)
    response, served = services.router.complete(chat(), caller)
    assert served.booked.cost == EXPECTED_COST
    assert served.booked.basis == "actual"
    assert response.usage is not None
    assert response.usage.cost == EXPECTED_COST
    assert response.usage.completion_tokens_details is not None
    assert response.usage.completion_tokens_details.reasoning_tokens == 200

    upstream.script.append(detailed)
    last = list(services.router.stream(chat(stream=True), caller).chunks)[-1]
    assert last.usage is not None
    assert last.usage.cost == EXPECTED_COST
    budget, by_provider, by_model = services.ledger.budget()
    assert budget.window.spent == 2 * EXPECTED_COST
    assert by_provider == {row.provider: 2 * EXPECTED_COST}
    assert by_model == {f"{row.provider}/{SOTA}": 2 * EXPECTED_COST}
