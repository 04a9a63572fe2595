"""Amazon Bedrock over boto3: Converse and ConverseStream for chat, InvokeModel for Titan's and Cohere's embeddings.

Credentials come from boto3's default chain (on Lambda: the function's role). Its retries are off: the router decides.
boto3 is imported on the first call. The mapping is in `aws_converse.py` and `aws_answers.py`, embeddings in
`aws_embeddings.py`, the attempt's time in `aws_exchange.py` and what goes wrong in `aws_failures.py`.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, Final

from pydantic import ValidationError

from fusewire.ai.failures import FailureKind, ProviderFailure, UnsupportedField
from fusewire.ai.provider import TIERS, AIProvider, Timeouts, Variables
from fusewire.ai.providers.aws_answers import AnswerStream, answer_of
from fusewire.ai.providers.aws_converse import converse_parameters, told_dropped
from fusewire.ai.providers.aws_embeddings import family_of, invocation, vectors_of
from fusewire.ai.providers.aws_exchange import Exchange, TimedSession, using
from fusewire.ai.providers.aws_failures import failure_of
from fusewire.ai.providers.embedding_batches import Vectors, embed_in_batches, refused
from fusewire.ai.providers.faults import check_tool_choice, malformed
from fusewire.ai.vocabulary import (
    ChatRequest,
    ChatResponse,
    EmbeddingRequest,
    EmbeddingResponse,
    StreamChunk,
)
from fusewire.config import Settings

_CONNECT_LIMITS: Final = (5.0, 1.0, 0.25)
"""Seconds to connect, which are a client's: an attempt takes the client with the longest that it has the time for."""


class AwsProvider(AIProvider):
    """Models by their ids, inference profiles' ids (`eu.anthropic...`) or ARNs."""

    id = "aws"
    sdk = ("boto3", "botocore.session", "botocore.httpsession")
    variables = Variables(
        endpoint="AWS_BEDROCK_ENDPOINT_URL",
        sota="AWS_BEDROCK_SOTA_MODEL",
        cost_effective="AWS_BEDROCK_COST_EFFECTIVE_MODEL",
        embedding="AWS_BEDROCK_EMBEDDING_MODEL",
        required=("AWS_REGION",),
    )
    cannot = frozenset({"n", "serial_tool_calls", "json_object", "logprobs"})
    ignores = frozenset({
        "seed", "presence_penalty", "frequency_penalty", "logit_bias", "user", "safety_identifier",
        "prompt_cache_key", "metadata", "verbosity",
    })  # fmt: skip

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._lock = threading.Lock()
        self._session: Any = None
        self._clients: dict[float, Any] = {}

    def unsupported(self, request: ChatRequest, model: str | None = None) -> tuple[str, ...]:
        """With the fields that this very model can't honour, where it is named."""
        if found := super().unsupported(request):
            return found
        try:
            converse_parameters(request, model or "", 1)
        except UnsupportedField as error:
            return (error.param,)
        return ()

    def dropped(self, request: ChatRequest | EmbeddingRequest, model: str | None = None) -> tuple[str, ...]:
        """With what this model has no place for, where it is named; else of the tiers' models."""
        names = {*super().dropped(request, model)}
        if isinstance(request, ChatRequest):
            for each in [model] if model else [m for tier in TIERS if (m := self.tier_model(tier))] or [""]:
                names.update(told_dropped(request, each))
        return tuple(sorted(names))

    # --- chat ---

    def complete(self, request: ChatRequest, model: str, output_cap: int, timeouts: Timeouts) -> ChatResponse:
        parameters = _parameters(request, model, output_cap)
        told = _ask(self._client(timeouts).converse, parameters, Exchange(timeouts.first))
        try:
            response = answer_of(told, model)
        except ValidationError as error:
            raise malformed("aws", error) from None
        (choice,) = response.choices
        called = {call.function.name for call in choice.message.tool_calls or ()}
        check_tool_choice(self.id, request, called, {choice.finish_reason})
        return response

    def stream(self, request: ChatRequest, model: str, output_cap: int, timeouts: Timeouts) -> Iterator[StreamChunk]:
        parameters = _parameters(request, model, output_cap)
        client = self._client(timeouts)
        deadline = time.monotonic() + timeouts.total
        exchange = Exchange(timeouts.first)
        told = _ask(client.converse_stream, parameters, exchange)
        answer = AnswerStream(told, model)
        with closing(told["stream"]) as events:
            for event in _events(events, exchange):
                for chunk in _chunks(answer, event):
                    if any(choice.delta.has_content for choice in chunk.choices):
                        exchange.until = deadline
                    yield chunk
                if answer.is_complete:
                    break
        if not answer.is_complete:
            raise ProviderFailure(FailureKind.STREAM_BROKEN, "aws ended the stream before the answer was complete")
        check_tool_choice(self.id, request, answer.called, {answer.finish})

    # --- embeddings ---

    def embed(self, request: EmbeddingRequest, model: str, timeouts: Timeouts) -> EmbeddingResponse:
        family = family_of(model, request)
        client = self._client(timeouts)
        exchange = Exchange(timeouts.first)

        def ask(texts: Sequence[str]) -> Vectors:
            # One clock for all of the attempt's calls.
            each = Exchange(exchange.left())
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
                    raise failure_of(error, Exchange(0)) from error
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
        return client


def _parameters(request: ChatRequest, model: str, output_cap: int) -> dict[str, Any]:
    try:
        return converse_parameters(request, model, output_cap)
    except UnsupportedField as error:
        raise refused(error.param, error.message) from None


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


def _chunks(answer: AnswerStream, event: Mapping[str, Any]) -> Iterator[StreamChunk]:
    try:
        yield from answer.chunks(event)
    except ValidationError as error:
        raise malformed("aws", error) from None
