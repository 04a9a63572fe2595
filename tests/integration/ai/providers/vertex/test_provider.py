"""The openai SDK against a Vertex of our own: what is sent, and what comes back."""

from typing import Any

import pytest

from fusewire.ai.failures import ProviderFailure
from fusewire.ai.providers.vertex.provider import GcpProvider
from tests.integration.ai.contract import CAP, TIMES, chat, embedding
from tests.integration.ai.providers.vertex.cases import (
    CHAT,
    MODEL,
    PLACE,
    TOOL,
    K,
    answered,
    embedded,
    predicted,
)
from tests.support.upstream import (
    Upstream,
    raw,
)

pytestmark = pytest.mark.usefixtures("google_credentials")


def test_chat(gcp: GcpProvider, upstream: Upstream) -> None:
    response = gcp.complete(chat(temperature=0.5), MODEL, CAP, TIMES)
    assert response.choices[0].message.content == "Paris."
    assert list(upstream.paths) == [CHAT]
    (sent,) = upstream.requests
    assert (sent["model"], sent["max_tokens"], sent["temperature"]) == (f"google/{MODEL}", CAP, 0.5)


# (what Vertex says, prompt and completion as booked)
USAGES: list[tuple[dict[str, Any], tuple[int, int]]] = [
    ({"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14}, (10, 4)),
    # Gemini's thoughts: billed as output, and told in the total only, or in the details too.
    ({"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 114}, (10, 104)),
    (
        {
            "prompt_tokens": 10,
            "completion_tokens": 104,
            "total_tokens": 114,
            "completion_tokens_details": {"reasoning_tokens": 100},
        },
        (10, 104),
    ),
    ({"prompt_tokens": 10, "completion_tokens": 4}, (10, 4)),
]


@pytest.mark.parametrize("every", [False, True], ids=["at the end", "on every chunk"])
@pytest.mark.parametrize(("usage", "expected"), USAGES)
def test_thoughts_are_output(
    gcp: GcpProvider, upstream: Upstream, usage: dict[str, Any], expected: tuple[int, int], every: bool
) -> None:
    upstream.script.extend([answered(usage), answered(usage, every=every)])
    whole = gcp.complete(chat(), MODEL, CAP, TIMES).usage
    streamed = [c.usage for c in gcp.stream(chat(stream=True), MODEL, CAP, TIMES) if c.usage][-1]
    for result in (whole, streamed):
        assert result is not None
        assert (result.prompt_tokens, result.completion_tokens) == expected
        assert "completion_tokens" in result.model_fields_set


SIGNED = {"google": {"thought_signature": "c2lnbmF0dXJl"}}
CALL = {
    "index": 0,
    "id": "call_1",
    "type": "function",
    "function": {"name": "weather", "arguments": "{}"},
    "extra_content": SIGNED,
}


@pytest.mark.parametrize("streamed", [False, True], ids=["chat", "stream"])
def test_a_thoughts_signature_comes_and_goes_with_its_call(
    gcp: GcpProvider, upstream: Upstream, streamed: bool
) -> None:
    upstream.script.append(answered(None, content=None, tool_calls=[CALL]))
    if streamed:
        chunks = gcp.stream(chat(stream=True, tools=[TOOL]), MODEL, CAP, TIMES)
        deltas = [call for c in chunks for choice in c.choices for call in choice.delta.tool_calls or ()]
        result = deltas[0].model_dump(exclude_none=True)
    else:
        response = gcp.complete(chat(tools=[TOOL]), MODEL, CAP, TIMES)
        result = (response.choices[0].message.tool_calls or [])[0].model_dump(exclude_none=True)
    assert result["extra_content"] == SIGNED
    conversation = [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": None, "tool_calls": [result]},
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
    ]
    gcp.complete(chat(messages=conversation, tools=[TOOL]), MODEL, CAP, TIMES)
    assert upstream.requests[1]["messages"][1]["tool_calls"][0]["extra_content"] == SIGNED


def test_a_named_tool_that_is_not_called_is_no_answer(gcp: GcpProvider, upstream: Upstream) -> None:
    choice = {"type": "function", "function": {"name": "weather"}}
    response = gcp.complete(chat(tools=[TOOL], tool_choice=choice), MODEL, CAP, TIMES)
    assert upstream.requests[0]["tool_choice"] == "required"
    assert response.choices[0].finish_reason == "tool_calls"
    upstream.script.append(answered(None))
    with pytest.raises(ProviderFailure) as caught:
        gcp.complete(chat(tools=[TOOL], tool_choice=choice), MODEL, CAP, TIMES)
    assert caught.value.kind is K.FIELD_IGNORED


# --- embeddings ---


def test_texts_go_to_predict_many_at_a_time(gcp: GcpProvider, upstream: Upstream) -> None:
    upstream.script.append(predicted(3, 4))
    response = gcp.embed(embedding(input=["a", "bc"], dimensions=256), "text-embedding-005", TIMES)
    assert [item.embedding for item in response.data] == [[0.5, 0.0], [0.5, 1.0]]
    assert response.usage is not None
    assert response.usage.prompt_tokens == 7
    assert list(upstream.paths) == [f"{PLACE}/publishers/google/models/text-embedding-005:predict"]
    assert upstream.requests == [
        {
            "instances": [{"content": "a"}, {"content": "bc"}],
            "parameters": {"autoTruncate": False, "outputDimensionality": 256},
        }
    ]


def test_geminis_embeddings_take_one_text_a_call(gcp: GcpProvider, upstream: Upstream) -> None:
    upstream.script.extend([predicted(1), predicted(2)])
    response = gcp.embed(embedding(input=["a", "bc"]), "google/gemini-embedding-001", TIMES)
    assert [request["instances"] for request in upstream.requests] == [[{"content": "a"}], [{"content": "bc"}]]
    assert list(upstream.paths) == [f"{PLACE}/publishers/google/models/gemini-embedding-001:predict"]
    assert response.usage is not None
    assert response.usage.prompt_tokens == 3


def test_newer_gemini_embeddings_have_a_method_of_their_own(gcp: GcpProvider, upstream: Upstream) -> None:
    upstream.script.extend([embedded(1), embedded(2), embedded(None)])
    response = gcp.embed(embedding(input=["a", "bc"], dimensions=768), "gemini-embedding-2", TIMES)
    assert list(upstream.paths) == [f"{PLACE}/publishers/google/models/gemini-embedding-2:embedContent"]
    assert upstream.requests[0] == {
        "content": {"parts": [{"text": "a"}]},
        "autoTruncate": False,
        "outputDimensionality": 768,
    }
    assert response.usage is not None
    assert response.usage.prompt_tokens == 3
    assert gcp.embed(embedding(input="a"), "gemini-embedding-2", TIMES).usage is None


def test_token_ids_are_refused(gcp: GcpProvider, upstream: Upstream) -> None:
    with pytest.raises(ProviderFailure) as caught:
        gcp.embed(embedding(input=[1, 2]), "gemini-embedding-001", TIMES)
    assert (caught.value.kind, caught.value.param) == (K.REJECTED_REQUEST, "input")
    assert upstream.requests == []


@pytest.mark.parametrize(
    "model",
    ["text-embedding-005/../../../../endpoints/1", "..", "google/../x", "a?b", "a#b", "a%2fb", "a:predict", "a b", ""],
)
def test_a_models_name_cannot_lead_to_another_address(gcp: GcpProvider, upstream: Upstream, model: str) -> None:
    with pytest.raises(ProviderFailure) as caught:
        gcp.embed(embedding(), model, TIMES)
    assert caught.value.kind is K.MODEL_NOT_FOUND
    assert not gcp.is_model_name(model, embedding=True), "and no call for it is reserved"
    assert upstream.requests == []


@pytest.mark.parametrize("model", ["gemini-embedding-001", "gemini-embedding-2"])
@pytest.mark.parametrize("data", [b"", b"<html>", b"[]", b"{}", b'{"predictions":[]}', b'{"embedding":{}}', b"\xff"])
def test_what_is_no_vector(gcp: GcpProvider, upstream: Upstream, model: str, data: bytes) -> None:
    upstream.script.append(raw(data))
    with pytest.raises(ProviderFailure) as caught:
        gcp.embed(embedding(), model, TIMES)
    assert caught.value.kind is K.MALFORMED_ANSWER
