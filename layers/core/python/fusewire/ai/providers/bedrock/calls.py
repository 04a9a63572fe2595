"""Calls of Bedrock's models through boto3, and what is made of their answers."""

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, Final

from fusewire.ai.failures import FailureKind, ProviderFailure, UnsupportedField
from fusewire.ai.provider import Timeouts
from fusewire.ai.providers.answer_limits import WHOLE, for_vectors
from fusewire.ai.providers.bedrock.embeddings import family_of, invocation, vectors_of
from fusewire.ai.providers.bedrock.exchange import Exchange, TimedSession, note_body, using
from fusewire.ai.providers.bedrock.failures import failure_of, unsent
from fusewire.ai.providers.bedrock.response import ResponseStream, response_of
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

_PROMPT: Final = ("messages", "system", "toolConfig", "additionalModelRequestFields")
"""What of `converse`'s parameters is counted."""
_PLACE: Final = re.compile(r"^[a-z-]+\.(?=anthropic\.)")
"""Of an inference profile's id: `eu.anthropic...`, `global.anthropic...`."""

_CONNECT_LIMITS: Final = (5.0, 1.0, 0.25)
"""Seconds to connect, which are a client's: an attempt takes the client with the longest that it has the time for."""

_Body = Callable[[], dict[str, Any]]
"""Makes the parameters of `converse`; raises `UnsupportedField` for what can't be honoured."""


class BedrockCalls:
    """Bedrock's clients, made when they are first needed. Every method raises `ProviderFailure` where a call fails."""

    def __init__(self, region: str | None, endpoint: str | None) -> None:
        self._region = region
        self._endpoint = endpoint
        self._lock = threading.Lock()
        self._session: Any = None
        self._clients: dict[float, Any] = {}

    def count_tokens(self, model: str, body: _Body, timeouts: Timeouts) -> int | None:
        """The tokens of a Claude's prompt, None where Bedrock doesn't say."""
        parameters = _mapped(body)
        prompt = {name: parameters[name] for name in _PROMPT if name in parameters}
        asked = {"modelId": _PLACE.sub("", model), "input": {"converse": prompt}}
        counted = _ask(self._client(timeouts).count_tokens, asked, Exchange(timeouts.first))
        return token_count(fields(counted).get("inputTokens"))

    def complete(self, request: ChatRequest, model: str, body: _Body, timeouts: Timeouts) -> ChatResponse:
        parameters = _mapped(body)
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
        check_tool_choice("aws", request, called, {choice.finish_reason})
        return response

    def stream(self, request: ChatRequest, model: str, body: _Body, timeouts: Timeouts) -> Iterator[StreamChunk]:
        parameters = _mapped(body)
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
        check_tool_choice("aws", request, stream.called, {stream.finish})

    def embed(self, request: EmbeddingRequest, model: str, timeouts: Timeouts) -> EmbeddingResponse:
        family = family_of(model, request)
        client = self._client(timeouts)
        exchange = Exchange(timeouts.first)

        def ask(texts: Sequence[str]) -> Vectors:
            # One deadline for all of the attempt's calls.
            each = Exchange(exchange.left(), for_vectors(len(texts)))
            parameters = invocation(family, model, texts, request.dimensions)
            raw = _ask(lambda **given: client.invoke_model(**given)["body"].read(), parameters, each)
            return vectors_of(family, raw, each.headers)

        return embed_in_batches("aws", request, model, family.batch, ask)

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
            self._session = boto3.Session(region_name=self._region)
        client = self._session.client(
            "bedrock-runtime",
            endpoint_url=self._endpoint,
            config=Config(
                connect_timeout=connect_limit, retries={"mode": "standard", "total_max_attempts": 1}, tcp_keepalive=True
            ),
        )
        # The one place where botocore lets nobody in by the front door: its HTTP session is not a parameter.
        endpoint = client._endpoint
        endpoint.http_session = TimedSession(endpoint.http_session)
        client.meta.events.register("before-parse.bedrock-runtime.Converse", note_body)
        return client


def _mapped(body: _Body) -> dict[str, Any]:
    try:
        return body()
    except UnsupportedField as error:
        raise refused(error.param, error.message) from None
    except Exception as error:
        raise not_sent("aws", error) from error


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
