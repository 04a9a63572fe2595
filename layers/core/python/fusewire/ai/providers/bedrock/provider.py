"""Amazon Bedrock over boto3: Converse and ConverseStream for chat, InvokeModel for Titan's and Cohere's embeddings.

Credentials come from boto3's default chain (on Lambda: the function's role). Its retries are off: the router decides.
boto3 is imported on the first call. The mapping is in `request.py` and `response.py`, embeddings in
`embeddings.py`, the attempt's time in `exchange.py` and what goes wrong in `failures.py`.
"""

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any, Final

from fusewire.ai.counting import Counting
from fusewire.ai.failures import FailureKind, ProviderFailure, UnsupportedField
from fusewire.ai.provider import TIERS, AIProvider, Timeouts, Variables
from fusewire.ai.providers.answer_limits import WHOLE, for_vectors
from fusewire.ai.providers.anthropic.models import claude_counting, traits
from fusewire.ai.providers.anthropic.thinking import dropped_thoughts
from fusewire.ai.providers.bedrock.exchange import Exchange, TimedSession, note_body, using
from fusewire.ai.providers.bedrock.failures import failure_of, unsent
from fusewire.ai.providers.bedrock.request import CLAUDES_ALONE, SUPPORTED, caches, converse_parameters
from fusewire.ai.providers.bedrock.response import ResponseStream, response_of
from fusewire.ai.providers.cache_marks import marked_writes
from fusewire.ai.providers.embedding_batches import Vectors, embed_in_batches, refused
from fusewire.ai.providers.json_values import fields, parsed, token_count
from fusewire.ai.providers.response_failures import check_tool_choice, malformed, not_sent
from fusewire.ai.schema import (
    ChatRequest,
    ChatResponse,
    EmbeddingRequest,
    EmbeddingResponse,
    StreamChunk,
)
from fusewire.config import Settings
from fusewire.price_overrides import CacheWrites

_MODEL_ID: Final = re.compile(r"[A-Za-z0-9._:/-]+")

_PROMPT: Final = ("messages", "system", "toolConfig", "additionalModelRequestFields")
"""What of `converse`'s parameters is counted."""
_PLACE: Final = re.compile(r"^[a-z-]+\.(?=anthropic\.)")
"""Of an inference profile's id: `eu.anthropic...`, `global.anthropic...`."""

_CONNECT_LIMITS: Final = (5.0, 1.0, 0.25)
"""Seconds to connect, which are a client's: an attempt takes the client with the longest that it has the time for."""


class AwsProvider(AIProvider):
    """Models by their ids, inference profiles' ids (`eu.anthropic...`) or ARNs."""

    id = "aws"
    sdk = ("boto3", "botocore.session", "botocore.httpsession", "fusewire.ai.providers.bedrock.embeddings")
    variables = Variables(
        endpoint="AWS_BEDROCK_ENDPOINT_URL",
        sota="AWS_BEDROCK_SOTA_MODEL",
        cost_effective="AWS_BEDROCK_COST_EFFECTIVE_MODEL",
        embedding="AWS_BEDROCK_EMBEDDING_MODEL",
        required=("AWS_REGION",),
    )
    supported = SUPPORTED | {"dimensions"}

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._lock = threading.Lock()
        self._session: Any = None
        self._clients: dict[float, Any] = {}

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
        return tuple(sorted(dropped_thoughts(names, request, traits(named), request.output_cap)))

    def count_tokens(self, request: ChatRequest, model: str, timeouts: Timeouts) -> int | None:
        """Bedrock counts for Claude models, by the ids that they have without a place.

        Source: AWS, "Count tokens"; pydantic/pydantic-ai#4001.
        """
        if "claude" not in self.known_as(model):
            return None
        parameters = self._mapped(request, model, 1)
        prompt = {name: parameters[name] for name in _PROMPT if name in parameters}
        asked = {"modelId": _PLACE.sub("", model), "input": {"converse": prompt}}
        counted = _ask(self._client(timeouts).count_tokens, asked, Exchange(timeouts.first))
        return token_count(fields(counted).get("inputTokens"))

    def counting(self, model: str) -> Counting:
        """Claude's as at Anthropic. Converse refuses an input over a model's window."""
        return replace(claude_counting(self.known_as(model)), refuses_over_window=True)

    def cache_writes(self, request: ChatRequest, model: str) -> CacheWrites:
        """At cache points alone, of models that take any; of others, such as OpenAI's, that isn't said."""
        marks = caches(self.known_as(model))
        return marked_writes(request) if marks else super().cache_writes(request, model)

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

    # --- chat ---

    def body(self, request: ChatRequest, model: str, output_cap: int) -> dict[str, Any]:
        """The parameters of boto3's `converse` and `converse_stream`.

        :raises UnsupportedField: for what can't be honoured
        """
        return converse_parameters(request, model, output_cap, known_as=self.known_as(model))

    def _mapped(self, request: ChatRequest, model: str, output_cap: int) -> dict[str, Any]:
        try:
            return self.body(request, model, output_cap)
        except UnsupportedField as error:
            raise refused(error.param, error.message) from None
        except Exception as error:
            raise not_sent(self.id, error) from error

    def complete(self, request: ChatRequest, model: str, output_cap: int, timeouts: Timeouts) -> ChatResponse:
        parameters = self._mapped(request, model, output_cap)
        exchange = Exchange(timeouts.first, WHOLE)
        try:
            raw = _ask(self._client(timeouts).converse, parameters, exchange)
        except ProviderFailure as failure:
            raw = _unparsed(failure, exchange)
        try:
            response = response_of(raw, model)
        except ValueError as error:
            raise malformed("aws", error) from None
        (choice,) = response.choices
        called = {call.function.name for call in choice.message.tool_calls or ()}
        check_tool_choice(self.id, request, called, {choice.finish_reason})
        return response

    def stream(self, request: ChatRequest, model: str, output_cap: int, timeouts: Timeouts) -> Iterator[StreamChunk]:
        parameters = self._mapped(request, model, output_cap)
        client = self._client(timeouts)
        exchange = Exchange(timeouts.first, total=timeouts.total, silence=timeouts.silence)
        response = _ask(client.converse_stream, parameters, exchange)
        stream = ResponseStream(response, model)
        with closing(response["stream"]) as events:
            try:
                for event in _events(events, exchange):
                    for chunk in stream.chunks(event):
                        if any(choice.delta.has_content for choice in chunk.choices):
                            exchange.begin()
                        yield chunk
                    if stream.is_complete:
                        break
            except ProviderFailure as failure:
                if failure.kind is not FailureKind.MALFORMED_ANSWER or stream.finish is None:
                    raise
                # The answer is whole: what can't be read after its end is what it used.
        if stream.finish is None:
            raise ProviderFailure(FailureKind.STREAM_BROKEN, "aws ended the stream before the answer was complete")
        check_tool_choice(self.id, request, stream.called, {stream.finish})

    # --- embeddings ---

    def embed(self, request: EmbeddingRequest, model: str, timeouts: Timeouts) -> EmbeddingResponse:
        from fusewire.ai.providers.bedrock.embeddings import family_of, invocation, vectors_of

        family = family_of(model, request)
        client = self._client(timeouts)
        exchange = Exchange(timeouts.first)

        def ask(texts: Sequence[str]) -> Vectors:
            # One deadline for all of the attempt's calls.
            each = Exchange(exchange.left(), for_vectors(len(texts)))
            parameters = invocation(family, model, texts, request.dimensions)
            raw = _ask(lambda **given: client.invoke_model(**given)["body"].read(), parameters, each)
            return vectors_of(family, raw, each.headers)

        return embed_in_batches(self.id, request, model, family.batch, ask)

    # --- the wire ---

    def _client(self, timeouts: Timeouts) -> Any:  # noqa: ANN401 - boto3 has no types
        connect = min(timeouts.connect, timeouts.first)
        limit = next((each for each in _CONNECT_LIMITS if each <= connect), _CONNECT_LIMITS[-1])
        with self._lock:
            if limit not in self._clients:
                try:
                    self._clients[limit] = self._make_client(limit)
                except Exception as error:  # a profile or an address that doesn't exist, a file that can't be read
                    raise unsent(error) from error
            return self._clients[limit]

    def _make_client(self, connect_limit: float) -> Any:  # noqa: ANN401 - boto3 has no types
        import boto3  # type: ignore[import-untyped]
        from botocore.config import Config  # type: ignore[import-untyped]

        if self._session is None:
            self._session = boto3.Session(region_name=self.settings.variable("AWS_REGION"))
        client = self._session.client(
            "bedrock-runtime",
            endpoint_url=self.settings.variable("AWS_BEDROCK_ENDPOINT_URL"),
            config=Config(
                connect_timeout=connect_limit, retries={"mode": "standard", "total_max_attempts": 1}, tcp_keepalive=True
            ),
        )
        # The one place where botocore lets nobody in by the front door: its HTTP session is not a parameter.
        endpoint = client._endpoint
        endpoint.http_session = TimedSession(endpoint.http_session)
        client.meta.events.register("before-parse.bedrock-runtime.Converse", note_body)
        return client


def _ask(call: Callable[..., Any], parameters: Mapping[str, Any], exchange: Exchange) -> Any:  # noqa: ANN401 - as boto3
    """What boto3 makes of the answer."""
    try:
        with using(exchange):
            return call(**parameters)
    except Exception as error:  # botocore's parsers raise whatever comes on answers that they don't expect
        raise failure_of(error, exchange) from error


def _events(events: Iterable[Mapping[str, Any]], exchange: Exchange) -> Iterator[Mapping[str, Any]]:
    begun = False
    try:
        for event in events:
            begun = True
            yield event
    except Exception as error:  # as in `_ask`; nothing of the reader's own comes in here
        raise failure_of(error, exchange, begun=begun) from error


def _unparsed(failure: ProviderFailure, exchange: Exchange) -> Mapping[str, Any]:
    """The body of an answer that botocore's parser gave up on, for the reader that takes what is there.

    :raises ProviderFailure: the same, where there is none
    """
    if failure.kind is not FailureKind.MALFORMED_ANSWER or exchange.body is None:
        raise failure
    try:
        return parsed(exchange.body)
    except (ValueError, RecursionError):
        raise failure from None
