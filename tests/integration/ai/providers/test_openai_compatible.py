"""What travels to the vendors that speak OpenAI's protocol, and what is read of answers that only they can give."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from fusewire.ai.failures import FailureKind, ProviderFailure
from fusewire.ai.provider import AIProvider
from tests.integration.ai.contract import ADVISORY, CAP, EMBEDDING, ROWS, SOTA, TIMES, Row, chat, embedding
from tests.support.upstream import Handler, Reply, Upstream
from tests.support.wires import OpenAIWire

PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string", "default": None}},
    "required": ["city"],
}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": PARAMETERS, "strict": True}}

CAP_FIELD = {"ollama": "max_tokens", "vllm": "max_tokens"}
PATHS = {
    "azure": ("/openai/v1/chat/completions", "/openai/v1/embeddings"),
    "azure-dated": (
        f"/openai/deployments/{SOTA}/chat/completions",
        f"/openai/deployments/{EMBEDDING}/embeddings",
    ),
}


@pytest.fixture(scope="module", params=[row for row in ROWS if row.wire is OpenAIWire], ids=lambda row: str(row.name))
def row(request: pytest.FixtureRequest) -> Row:
    found: Row = request.param
    return found


@pytest.fixture(scope="module")
def lasting_wire() -> Iterator[OpenAIWire]:
    with OpenAIWire.running() as running:
        yield running


@pytest.fixture
def upstream(lasting_wire: OpenAIWire) -> Upstream:
    lasting_wire.reset()
    return lasting_wire.server


@pytest.fixture(scope="module")
def provider(row: Row, lasting_wire: OpenAIWire) -> AIProvider:
    return row.make(lasting_wire)


def paths(row: Row) -> tuple[str, str]:
    return PATHS.get(row.name, ("/v1/chat/completions", "/v1/embeddings"))


def test_chat(row: Row, provider: AIProvider, upstream: Upstream) -> None:
    provider.complete(chat(temperature=0.5, stop=["."]), SOTA, CAP, TIMES)
    assert upstream.requests == [
        {
            "model": SOTA,
            "messages": [{"role": "user", "content": "Hello"}],
            "temperature": 0.5,
            "stop": ["."],
            CAP_FIELD.get(row.name, "max_completion_tokens"): CAP,
            **({"service_tier": "default"} if row.name == "azure" else {}),
        }
    ]
    assert list(upstream.paths) == [paths(row)[0]]


def test_a_stream_is_asked_for_its_usage(provider: AIProvider, upstream: Upstream) -> None:
    list(provider.stream(chat(stream=True), SOTA, CAP, TIMES))
    (sent,) = upstream.requests
    assert sent["stream"] is True
    assert sent["stream_options"] == {"include_usage": True}


def test_tools(provider: AIProvider, upstream: Upstream) -> None:
    provider.complete(chat(tools=[TOOL], tool_choice="required"), SOTA, CAP, TIMES)
    assert upstream.requests[0]["tools"] == [TOOL]
    assert upstream.requests[0]["tool_choice"] == "required"

    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Paris"}'}}
    conversation: list[dict[str, Any]] = [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
    ]
    provider.complete(chat(messages=conversation, tools=[TOOL]), SOTA, CAP, TIMES)
    sent = upstream.requests[1]["messages"]
    assert sent[1]["tool_calls"] == [call]
    assert sent[2] == conversation[2]


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


def test_every_advisory_field_travels_or_is_told_as_dropped(provider: AIProvider, upstream: Upstream) -> None:
    request = chat(**ADVISORY)
    provider.complete(request, SOTA, CAP, TIMES)
    (sent,) = upstream.requests
    dropped = provider.dropped(request)
    for name, value in ADVISORY.items():
        assert (name in dropped) is (name not in sent), name
        assert name in dropped or sent[name] == value


# --- embeddings ---


def test_embeddings(row: Row, provider: AIProvider, upstream: Upstream) -> None:
    provider.embed(embedding(input=["a", "bc"]), EMBEDDING, TIMES)
    (sent,) = upstream.requests
    assert (sent["model"], sent["input"]) == (EMBEDDING, ["a", "bc"])
    assert list(upstream.paths) == [paths(row)[1]]


def test_an_advisory_field_of_embeddings_travels_or_is_told_as_dropped(
    provider: AIProvider, upstream: Upstream
) -> None:
    request = embedding(user="someone")
    provider.embed(request, EMBEDDING, TIMES)
    assert (upstream.requests[0].get("user") == "someone") is ("user" not in provider.dropped(request))


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


@dataclass(frozen=True)
class At:
    """Where a provider is told that its vendor is."""

    url: str


@pytest.mark.parametrize("where", ["a name that is none", "a server without TLS"])
def test_who_cannot_be_connected_to_is_told_from_who_does_not_answer(row: Row, upstream: Upstream, where: str) -> None:
    url = "http://\N{SNOWMAN}.invalid" if where == "a name that is none" else f"https://127.0.0.1:{upstream.port}"
    provider = row.make(At(url))
    with pytest.raises(ProviderFailure) as caught:
        provider.complete(chat(), SOTA, CAP, TIMES)
    assert caught.value.kind is FailureKind.CONNECT_FAILED
    with pytest.raises(ProviderFailure) as caught:
        list(provider.stream(chat(stream=True), SOTA, CAP, TIMES))
    assert caught.value.kind is FailureKind.CONNECT_FAILED
    assert upstream.requests == []
