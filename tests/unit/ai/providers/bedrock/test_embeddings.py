"""Titan's and Cohere's bodies, both ways."""

import json

import pytest

from fusewire.ai.failures import FailureKind, ProviderFailure
from fusewire.ai.providers.bedrock.embeddings import family_of, invocation, vectors_of
from fusewire.ai.schema import EmbeddingRequest

TITAN_2 = "amazon.titan-embed-text-v2:0"
TITAN_1 = "amazon.titan-embed-text-v1"
COHERE_3 = "cohere.embed-multilingual-v3"
COHERE_4 = "eu.cohere.embed-v4:0"
SEARCH = {"input_type": "search_document", "truncate": "NONE", "embedding_types": ["float"]}


def asked(dimensions: int | None = None) -> EmbeddingRequest:
    return EmbeddingRequest(model="m", input="a", dimensions=dimensions)


@pytest.mark.parametrize(
    ("model", "dimensions", "batch", "body"),
    [
        (TITAN_2, None, 1, {"inputText": "a"}),
        (TITAN_2, 256, 1, {"inputText": "a", "dimensions": 256}),
        (f"arn:aws:bedrock:eu-west-1::foundation-model/{TITAN_2}", None, 1, {"inputText": "a"}),
        (TITAN_1, None, 1, {"inputText": "a"}),
        (COHERE_3, None, 96, {"texts": ["a"], **SEARCH}),
        (COHERE_4, None, 96, {"texts": ["a"], **SEARCH}),
        (COHERE_4, 512, 96, {"texts": ["a"], **SEARCH, "output_dimension": 512}),
    ],
)
def test_bodies(model: str, dimensions: int | None, batch: int, body: object) -> None:
    family = family_of(model, asked(dimensions))
    assert family.batch == batch
    parameters = invocation(family, model, ["a"], dimensions)
    assert parameters["modelId"] == model
    assert json.loads(parameters["body"]) == body


@pytest.mark.parametrize(
    ("model", "dimensions", "param"),
    [
        (TITAN_1, 256, "dimensions"),
        (COHERE_3, 256, "dimensions"),
        ("amazon.nova-2-multimodal-embeddings-v1:0", None, "model"),
        ("amazon.titan-embed-image-v1", None, "model"),
        ("arn:aws:bedrock:eu-west-1:123456789012:application-inference-profile/abc", None, "model"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_anything_is_sent(
    model: str, dimensions: int | None, param: str
) -> None:
    with pytest.raises(ProviderFailure) as caught:
        family_of(model, asked(dimensions))
    assert caught.value.kind is FailureKind.REJECTED_REQUEST
    assert caught.value.param == param
    assert caught.value.caller_message


@pytest.mark.parametrize(
    ("model", "answer", "headers", "vectors", "tokens"),
    [
        (TITAN_2, {"embedding": [0.5], "inputTextTokenCount": 3}, {}, [[0.5]], 3),
        (TITAN_2, {"embedding": [0.5]}, {"x-amzn-bedrock-input-token-count": "4"}, [[0.5]], 4),
        (TITAN_2, {"embedding": [0.5]}, {}, [[0.5]], None),
        (COHERE_3, {"embeddings": {"float": [[1], [2]]}}, {"x-amzn-bedrock-input-token-count": "4"}, [[1], [2]], 4),
        (COHERE_3, {"embeddings": [[1], [2]], "response_type": "embeddings_floats"}, {}, [[1], [2]], None),
    ],
)
def test_answers(model: str, answer: object, headers: dict[str, str], vectors: object, tokens: int | None) -> None:
    result = vectors_of(family_of(model, asked()), json.dumps(answer).encode(), headers)
    assert (result.vectors, result.tokens) == (vectors, tokens)


@pytest.mark.parametrize("model", [TITAN_2, COHERE_4])
@pytest.mark.parametrize(
    "raw", [b"", b"<html>", b"[]", b"null", b"{}", b'{"embeddings":null}', b"\xff", b'{"embedding']
)
def test_what_is_no_answer(model: str, raw: bytes) -> None:
    with pytest.raises(ProviderFailure) as caught:
        vectors_of(family_of(model, asked()), raw, {})
    assert caught.value.kind is FailureKind.MALFORMED_ANSWER


def test_a_header_that_is_no_number_tells_nothing() -> None:
    headers = {"x-amzn-bedrock-input-token-count": "many"}
    assert vectors_of(family_of(COHERE_4, asked()), b'{"embeddings":[[1]]}', headers).tokens is None
