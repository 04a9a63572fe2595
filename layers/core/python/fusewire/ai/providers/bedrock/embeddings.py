"""Embeddings by Bedrock's InvokeModel, whose body is each vendor's own: Amazon Titan's and Cohere's.

Sources: "Amazon Titan Embeddings Text" and "Cohere Embed models" in Bedrock's user guide.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fusewire.ai.providers.embedding_batches import Vectors, refused
from fusewire.ai.providers.json_values import token_count
from fusewire.ai.providers.response_failures import malformed
from fusewire.ai.schema import EmbeddingRequest
from fusewire.json import dumps

_TOKENS_HEADER: Final = "x-amzn-bedrock-input-token-count"


@dataclass(frozen=True, slots=True)
class Family:
    """How one vendor's embedding models are asked."""

    batch: int
    """Texts in one call."""
    body: Callable[[Sequence[str], int | None], dict[str, Any]]
    """Of the texts and the number of dimensions that the caller asked for."""
    sized: bool
    """Whether the number of dimensions can be chosen."""
    vectors: Callable[[Mapping[str, Any]], Any]
    tokens: Callable[[Mapping[str, Any]], Any] = lambda answer: None


def _titan(texts: Sequence[str], dimensions: int | None) -> dict[str, Any]:
    return {"inputText": texts[0], **({"dimensions": dimensions} if dimensions else {})}


def _cohere(texts: Sequence[str], dimensions: int | None) -> dict[str, Any]:
    # OpenAI's request doesn't say what the vectors are for, and Cohere insists: a document to be searched. Nothing is
    # cut off in silence: a text that is too long is an error, as at OpenAI.
    body = {"texts": list(texts), "input_type": "search_document", "truncate": "NONE", "embedding_types": ["float"]}
    return {**body, **({"output_dimension": dimensions} if dimensions else {})}


def _cohere_vectors(answer: Mapping[str, Any]) -> object:
    vectors = answer["embeddings"]
    return vectors["float"] if isinstance(vectors, dict) else vectors


def _first(answer: Mapping[str, Any]) -> object:
    return [answer["embedding"]]


_TITAN: Final = Family(1, _titan, True, _first, lambda answer: answer.get("inputTextTokenCount"))
_COHERE: Final = Family(96, _cohere, True, _cohere_vectors)

_FAMILIES: Final[Mapping[str, Family]] = {
    "amazon.titan-embed-text-v2": _TITAN,
    "amazon.titan-embed-text-v1": Family(1, _titan, False, _first, _TITAN.tokens),
    "cohere.embed-v4": _COHERE,
    "cohere.embed-": Family(96, _cohere, False, _cohere_vectors),
}
"""By a part of the model's id, which stands in an inference profile's id and in most ARNs too; the first that fits."""


def family_of(model: str, request: EmbeddingRequest) -> Family:
    """How `model` is asked.

    :raises ProviderFailure: for a model of another kind, or one whose vectors have the size that they have
    """
    family = next((family for part, family in _FAMILIES.items() if part in model), None)
    if family is None:
        raise refused("model", "aws has embeddings of amazon.titan-embed-text and cohere.embed models here")
    if request.dimensions is not None and not family.sized:
        raise refused("dimensions", "aws can't choose the dimensions of this model's vectors")
    return family


def invocation(family: Family, model: str, texts: Sequence[str], dimensions: int | None) -> dict[str, Any]:
    """The parameters of boto3's `invoke_model`."""
    body = dumps(family.body(texts, dimensions)).encode()
    return {"modelId": model, "body": body, "contentType": "application/json", "accept": "application/json"}


def vectors_of(family: Family, raw: bytes, headers: Mapping[str, str]) -> Vectors:
    """What an invocation's answer holds; the tokens stand in its body or in a header.

    :raises ProviderFailure: when it isn't one
    """
    try:
        answer = json.loads(raw)
        tokens = token_count(family.tokens(answer))
        if tokens is None:
            tokens = token_count(headers.get(_TOKENS_HEADER))
        return Vectors(list(family.vectors(answer)), tokens)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        raise malformed("aws") from None
