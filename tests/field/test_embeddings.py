"""Reports of embeddings: token ids that were taken for another model's, and forms of vectors."""

import base64
import json
import struct
from typing import Any

import pytest

from tests.field.conftest import Field
from tests.integration.functions.conftest import sample

CL100K = [9906, 1917]
"""As LangChain's OpenAIEmbeddings sends it by default, whatever the model."""


def embed(field: Field, model: str, value: object, **more: object) -> dict[str, Any]:
    return field.call("embed", sample("embed", {"model": model, "input": value, **more}))


@pytest.mark.parametrize(
    ("source", "model"),
    [
        ("danny-avila/rag_api#161", "vllm/bge-m3"),
        ("danny-avila/rag_api#115", "ollama/nomic-embed-text"),
        ("pipeshub-ai/pipeshub-ai#2952", "openai/nvidia/llama-nemotron-embed"),
        ("veniceai/api-docs#423", "aws/amazon.titan-embed-text-v2:0"),
        ("langchain-ai/langchain#35252", "gcp/gemini-embedding-001"),
    ],
)
@pytest.mark.parametrize("value", [CL100K, [CL100K, CL100K]])
def test_token_ids_of_another_vocabulary_are_refused_with_the_cure(
    field: Field, source: str, model: str, value: object
) -> None:
    answer = embed(field, model, value)
    error = json.loads(answer["body"])["error"]
    assert (answer["statusCode"], error["param"]) == (400, "input"), source
    assert "check_embedding_ctx_length=False" in error["message"]
    assert not field.requests(model.partition("/")[0])


@pytest.mark.parametrize(
    ("source", "model"),
    [
        ("danny-avila/rag_api#161", "vllm/bge-m3"),
        ("danny-avila/rag_api#115", "ollama/nomic-embed-text"),
        ("pipeshub-ai/pipeshub-ai#2952", "openai/nvidia/llama-nemotron-embed"),
    ],
)
def test_they_are_the_text_again_where_their_vocabulary_is_stated(field: Field, source: str, model: str) -> None:
    field.functions.set(AI_EMBEDDING_ENCODING="cl100k_base")
    provider = model.partition("/")[0]
    for value, text in ((CL100K, "Hello world"), ([CL100K, [15339]], ["Hello world", "hello"])):
        answer = embed(field, model, value)
        assert answer["statusCode"] == 200, (source, answer["body"])
        assert field.requests(provider)[-1]["input"] == text
    assert embed(field, model, [CL100K, [200_000]])["statusCode"] == 400
    # The models whose own it is get the ids.
    assert embed(field, "azure/text-embedding-3-small", [CL100K])["statusCode"] == 200
    assert field.requests("azure")[-1]["input"] == [CL100K]


@pytest.mark.parametrize("model", ["azure/text-embedding-3-small", "openai/text-embedding-3-large"])
def test_they_reach_the_models_whose_vocabulary_they_are_of(field: Field, model: str) -> None:
    """langchain-ai/langchain#31227: what the default sends to OpenAI."""
    assert embed(field, model, [CL100K, CL100K])["statusCode"] == 200
    assert field.requests(model.partition("/")[0])[-1]["input"] == [CL100K, CL100K]


@pytest.mark.parametrize("model", ["vllm/bge-m3", "ollama/nomic-embed-text", "azure/text-embedding-3-small"])
def test_base64_is_answered_whatever_the_server_knows(field: Field, model: str) -> None:
    """langchain-ai/langchain#35252: OpenAI's SDK asks for base64 by itself."""
    answer = embed(field, model, ["a"], encoding_format="base64")
    vector = json.loads(answer["body"])["data"][0]["embedding"]
    assert struct.unpack("<2f", base64.b64decode(vector)) == (0.5, -0.25)
    assert field.requests(model.partition("/")[0])[-1]["encoding_format"] == "float"


@pytest.mark.parametrize("value", [["a"] * 2049, [[1]] * 2049])
def test_a_list_that_is_too_long_is_told_its_limit(field: Field, value: object) -> None:
    """agent0ai/agent-zero#922: a limit that nobody names."""
    answer = embed(field, "azure/text-embedding-3-small", value)
    error = json.loads(answer["body"])["error"]
    assert (answer["statusCode"], error["param"]) == (400, "input")
    assert "2048" in error["message"]
