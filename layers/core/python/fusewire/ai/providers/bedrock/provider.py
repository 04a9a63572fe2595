"""Amazon Bedrock over boto3: Converse and ConverseStream for chat, InvokeModel for Titan's and Cohere's embeddings.

Credentials come from boto3's default chain (on Lambda: the function's role). Its retries are off: the router decides.
What its models are capable of is in `models.py`. What follows from a call is imported with boto3 by the first one:
`calls.py`, the mapping in `request.py` and `response.py`, embeddings in `embeddings.py`, the attempt's time in
`exchange.py` and what goes wrong in `failures.py`.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from fusewire.ai.counting import Counting
from fusewire.ai.failures import UnsupportedField
from fusewire.ai.provider import TIERS, AIProvider, Timeouts, Variables
from fusewire.ai.providers.bedrock.models import CLAUDES_ALONE, SUPPORTED, caches
from fusewire.ai.schema import (
    ChatRequest,
    ChatResponse,
    EmbeddingRequest,
    EmbeddingResponse,
    StreamChunk,
)
from fusewire.price_overrides import CacheWrites

if TYPE_CHECKING:
    from fusewire.ai.providers.bedrock.calls import BedrockCalls

_MODEL_ID: Final = re.compile(r"[A-Za-z0-9._:/-]+")


class AwsProvider(AIProvider):
    """Models by their ids, inference profiles' ids (`eu.anthropic...`) or ARNs."""

    id = "aws"
    sdk = (
        "boto3",
        "botocore.session",
        "botocore.httpsession",
        "fusewire.ai.providers.bedrock.calls",
    )
    variables = Variables(
        endpoint="AWS_BEDROCK_ENDPOINT_URL",
        sota="AWS_BEDROCK_SOTA_MODEL",
        cost_effective="AWS_BEDROCK_COST_EFFECTIVE_MODEL",
        embedding="AWS_BEDROCK_EMBEDDING_MODEL",
        required=("AWS_REGION",),
    )
    supported = SUPPORTED | {"dimensions"}

    @cached_property
    def _calls(self) -> "BedrockCalls":
        from fusewire.ai.providers.bedrock.calls import BedrockCalls

        return BedrockCalls(self.settings.variable("AWS_REGION"), self.settings.variable("AWS_BEDROCK_ENDPOINT_URL"))

    def place(self) -> str | None:
        return self.settings.variable("AWS_REGION")

    def supports(self, model: str | None = None) -> frozenset[str]:
        """As this model does, where it is named; else as all of the tiers' models do."""
        models = [model] if model else [each for tier in TIERS if (each := self.tier_model(tier))]
        names = [self.known_as(each) for each in models]
        supported = self.supported if names and all(map(caches, names)) else self.supported - {"cache_control"}
        return supported if names and all("claude" in name for name in names) else supported - CLAUDES_ALONE

    def dropped(self, request: ChatRequest | EmbeddingRequest, model: str | None = None) -> tuple[str, ...]:
        """With what of `thinking` this Claude lacks."""
        names = {*super().dropped(request, model)}
        named = self.known_as(model or "")
        if isinstance(request, EmbeddingRequest) or "claude" not in named:
            return tuple(sorted(names))
        from fusewire.ai.providers.anthropic.models import traits
        from fusewire.ai.providers.anthropic.thinking import dropped_thoughts

        return tuple(sorted(dropped_thoughts(names, request, traits(named), request.output_cap)))

    def count_tokens(self, request: ChatRequest, model: str, timeouts: Timeouts) -> int | None:
        """Bedrock counts for Claude models, by the ids that they have without a place.

        Source: AWS, "Count tokens"; pydantic/pydantic-ai#4001.
        """
        if "claude" not in self.known_as(model):
            return None
        return self._calls.count_tokens(model, lambda: self.body(request, model, 1), timeouts)

    def counting(self, model: str) -> Counting:
        """Claude's as at Anthropic. Converse refuses an input over a model's window."""
        from fusewire.ai.providers.anthropic.models import claude_counting

        return replace(claude_counting(self.known_as(model)), refuses_over_window=True)

    def cache_writes(self, request: ChatRequest, model: str) -> CacheWrites:
        """At cache points alone, of models that take any; of others, such as OpenAI's, that isn't said."""
        if not caches(self.known_as(model)):
            return super().cache_writes(request, model)
        from fusewire.ai.providers.cache_marks import marked_writes

        return marked_writes(request)

    def unsupported(self, request: ChatRequest | EmbeddingRequest, model: str | None = None) -> tuple[str, ...]:
        """With the fields that this very model can't honour, where it is named."""
        params = super().unsupported(request, model)
        if params or isinstance(request, EmbeddingRequest):
            return params
        try:
            self.body(request, model or "", 1)
        except UnsupportedField as error:
            return (error.param,)
        return ()

    def is_model_name(self, model: str, *, embedding: bool = False) -> bool:
        """As in Bedrock's API reference, where it stands in the address: ids, and ARNs, whose slashes are encoded."""
        return _MODEL_ID.fullmatch(model) is not None and not {".", ".."} & set(model.split("/"))

    def body(self, request: ChatRequest, model: str, output_cap: int) -> dict[str, Any]:
        """The parameters of boto3's `converse` and `converse_stream`.

        :raises UnsupportedField: for what can't be honoured
        """
        from fusewire.ai.providers.bedrock.request import converse_parameters

        return converse_parameters(request, model, output_cap, known_as=self.known_as(model))

    def complete(self, request: ChatRequest, model: str, output_cap: int, timeouts: Timeouts) -> ChatResponse:
        return self._calls.complete(request, model, lambda: self.body(request, model, output_cap), timeouts)

    def stream(self, request: ChatRequest, model: str, output_cap: int, timeouts: Timeouts) -> Iterator[StreamChunk]:
        return self._calls.stream(request, model, lambda: self.body(request, model, output_cap), timeouts)

    def embed(self, request: EmbeddingRequest, model: str, timeouts: Timeouts) -> EmbeddingResponse:
        return self._calls.embed(request, model, timeouts)
