"""Anthropic's Messages API over Anthropic's own SDK: addresses, credentials, the wire, and what each failure means.

`anthropic_messages` says a request in its words, `anthropic_answers` reads what comes back. The SDK's retries are off:
the router decides. It is imported on the first call, because importing it is most of a cold start
(docs/decisions/0002-lazy-sdks.md).
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from fusewire.ai.failures import FailureKind, ProviderFailure, Settle, UnsupportedField
from fusewire.ai.provider import AIProvider, Timeouts, Variables
from fusewire.ai.providers.anthropic_answers import StreamReader, whole_answer
from fusewire.ai.providers.anthropic_messages import message_body, unplaced
from fusewire.ai.providers.faults import check_tool_choice, malformed, retry_after_seconds, unanswered, unlisted
from fusewire.ai.vocabulary import (
    ChatRequest,
    ChatResponse,
    EmbeddingRequest,
    EmbeddingResponse,
    StreamChunk,
)

if TYPE_CHECKING:
    import anthropic

    from fusewire.ai.providers.clock import Clock

_OWN_ENDPOINT: Final = "https://api.anthropic.com"

_VERSION_WITH_SAMPLING: Final = "2023-06-01"
"""The last API version that takes `temperature` and `top_p`; sent where a request has one of them."""

_BY_STATUS: Final[Mapping[int, tuple[FailureKind, str]]] = {
    400: (FailureKind.REJECTED_REQUEST, "rejected the request"),
    401: (FailureKind.CREDENTIAL_REJECTED, "rejected the credential"),
    402: (FailureKind.OUT_OF_CREDIT, "has no credit left on this account, or has reached its spend limit"),
    403: (FailureKind.CREDENTIAL_REJECTED, "denies this credential access"),
    404: (FailureKind.MODEL_NOT_FOUND, "knows no such model or path"),
    408: (FailureKind.REQUEST_TIMEOUT, "timed out"),
    409: (FailureKind.CONFLICT, "reported a conflict"),
    413: (FailureKind.TOO_LARGE, "found the request too large"),
    422: (FailureKind.REJECTED_REQUEST, "rejected the request"),
    429: (FailureKind.RATE_LIMITED, "is throttling"),
    502: (FailureKind.GATEWAY_ERROR, "is unreachable behind its gateway"),
    503: (FailureKind.OVERLOADED, "is unavailable"),
    504: (FailureKind.GATEWAY_ERROR, "timed out behind its gateway"),
    529: (FailureKind.OVERLOADED, "is overloaded"),
}
_STATUS_OF_TYPE: Final[Mapping[str, int]] = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "conflict_error": 409,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""For error events, which come with HTTP 200."""
_CREDIT_CODES: Final = {"contract_spend_limit_reached", "enforced_spend_limit_reached"}
_CREDIT_WORDS: Final = ("credit balance is too low", "api usage limits")
_HOLD_CODES: Final = {"organization_on_hold"}
_FILTER_WORDS: Final = "content filtering policy"


class AnthropicProvider(AIProvider):
    """Claude, from Anthropic or from any server that speaks its Messages API (`ANTHROPIC_BASE_URL`)."""

    id = "anthropic"
    sdk = ("anthropic", "anthropic.resources.messages", "fusewire.ai.providers.http_client", "httpcore2")
    variables = Variables(
        endpoint="ANTHROPIC_BASE_URL",
        credential="ANTHROPIC_API_KEY",
        sota="ANTHROPIC_SOTA_MODEL",
        cost_effective="ANTHROPIC_COST_EFFECTIVE_MODEL",
    )
    cannot = frozenset({"n", "logprobs", "json_object"})
    ignores = frozenset(
        {"seed", "presence_penalty", "frequency_penalty", "logit_bias", "prompt_cache_key", "metadata", "verbosity"}
    )

    def missing(self) -> tuple[str, ...]:
        # The endpoint has a default, so what a new user lacks is the key.
        return tuple("ANTHROPIC_API_KEY" if name == "ANTHROPIC_BASE_URL" else name for name in super().missing())

    def unsupported(self, request: ChatRequest, model: str | None = None) -> tuple[str, ...]:
        """With the fields that this very model can't honour, where it is named."""
        params = super().unsupported(request)
        if model is None or params:
            return params
        try:
            self.body(request, model, 1)
        except UnsupportedField as refused:
            return (refused.param,)
        return ()

    def dropped(self, request: ChatRequest | EmbeddingRequest, model: str | None = None) -> tuple[str, ...]:
        inner = unplaced(request) if isinstance(request, ChatRequest) else ()
        return tuple(sorted({*super().dropped(request, model), *inner}))

    @cached_property
    def _client(self) -> "anthropic.Anthropic":
        return self.make_client()

    def make_client(self) -> "anthropic.Anthropic":
        """The SDK's client, made once for the life of the execution environment."""
        import anthropic

        from fusewire.ai.providers.http_client import http_client

        secret = self.settings.secret("ANTHROPIC_API_KEY")
        return anthropic.Anthropic(
            # Without a key the SDK would go looking for one, in files too; servers that want none get a word.
            api_key=secret.get_secret_value() if secret else "none",
            base_url=self.base_url(),
            max_retries=0,
            http_client=http_client(),
            # Its spans can carry prompts and answers.
            open_telemetry=False,
        )

    def base_url(self) -> str:
        """The endpoint from the settings, with or without the `/v1` that the SDK adds."""
        url = self.settings.variable("ANTHROPIC_BASE_URL") or _OWN_ENDPOINT
        return url.rstrip("/").removesuffix("/v1")

    # --- chat ---

    def complete(self, request: ChatRequest, model: str, output_cap: int, timeouts: Timeouts) -> ChatResponse:
        from fusewire.ai.providers.clock import Clock

        body = self._mapped(request, model, output_cap)
        with self._opened(body, timeouts, Clock(timeouts.first)) as events:
            raw = events.response.read()
        try:
            response = whole_answer(raw)
        except ValueError as error:
            raise malformed(self.id, error) from None
        (choice,) = response.choices
        called = {call.function.name for call in choice.message.tool_calls or ()}
        check_tool_choice(self.id, request, called, {choice.finish_reason})
        return response

    def stream(self, request: ChatRequest, model: str, output_cap: int, timeouts: Timeouts) -> Iterator[StreamChunk]:
        from fusewire.ai.providers.clock import Clock

        body = self._mapped(request, model, output_cap) | {"stream": True}
        deadline = time.monotonic() + timeouts.total
        clock = Clock(timeouts.first)
        reader = StreamReader()
        try:
            with self._opened(body, timeouts, clock) as events:
                for event in events:
                    chunk = reader.read(event)
                    if chunk is None:
                        continue
                    if any(choice.delta.has_content for choice in chunk.choices):
                        clock.until = deadline
                    yield chunk
        except ProviderFailure as failure:
            if not reader.begun:
                raise
            if failure.kind is FailureKind.CONTENT_POLICY:
                # The vendor's filter ends this answer, and nobody else is asked. Without usage it costs the bound.
                yield reader.filtered()
                return
            raise _once_begun(failure) from failure
        if not reader.done:
            raise ProviderFailure(
                FailureKind.STREAM_BROKEN, f"{self.id} ended the stream before the answer was complete"
            )
        check_tool_choice(self.id, request, reader.called, {reader.finish})

    def body(self, request: ChatRequest, model: str, output_cap: int) -> dict[str, Any]:
        """:raises UnsupportedField: for what can't be honoured"""
        # Anthropic fetches images from its own network; what stands at another address may stand inside ours.
        own = urlsplit(self.base_url()).hostname == urlsplit(_OWN_ENDPOINT).hostname
        return message_body(request, model, output_cap, remote_images=own)

    def _mapped(self, request: ChatRequest, model: str, output_cap: int) -> dict[str, Any]:
        try:
            return self.body(request, model, output_cap)
        except UnsupportedField as refused:
            # Of a call that came here unasked: nothing was sent, and the field is the caller's.
            kind, told = FailureKind.REJECTED_REQUEST, refused.message
            raise ProviderFailure(
                kind, f"{self.id}: {told}", caller_message=f"{self.id}: {told}", param=refused.param
            ) from None

    def embed(self, request: EmbeddingRequest, model: str, timeouts: Timeouts) -> EmbeddingResponse:
        """:raises ProviderFailure: always, for a caller who pins one: Anthropic has no embeddings"""
        raise ProviderFailure(FailureKind.MODEL_NOT_FOUND, f"{self.id} has no embedding models")

    # --- the wire ---

    @contextmanager
    def _opened(self, body: dict[str, Any], timeouts: Timeouts, clock: "Clock") -> Iterator["anthropic.Stream[object]"]:
        """The answer, its body still unread; what goes wrong until the block ends comes out as `ProviderFailure`."""
        import anthropic
        import httpx2

        samples = {"temperature", "top_p"} & body.keys()
        try:
            events = self._client.post(
                "/v1/messages",
                body=body,
                cast_to=object,
                stream=True,
                stream_cls=anthropic.Stream[object],
                options={
                    "headers": {"anthropic-version": _VERSION_WITH_SAMPLING} if samples else {},
                    "timeout": anthropic.Timeout(timeouts.first, connect=min(timeouts.connect, timeouts.first)),
                    # A redirect would send the prompt to a place that nobody configured.
                    "follow_redirects": False,
                },
            )
        except (anthropic.AnthropicError, httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise self._failure(error) from error
        clock.watch(events.response)
        try:
            with events:
                yield events
        except (anthropic.AnthropicError, httpx2.HTTPError) as error:
            raise self._failure(error) from error
        except ValueError as error:  # ValidationError, JSONDecodeError, UnicodeDecodeError
            raise malformed(self.id, error) from None

    def _failure(self, error: Exception) -> ProviderFailure:
        import anthropic

        if isinstance(error, anthropic.APIStatusError):
            return self._told_failure(error)
        cause = error.__cause__ if isinstance(error, anthropic.APIConnectionError) else error
        return unanswered(self.id, cause)

    def _told_failure(self, error: "anthropic.APIStatusError") -> ProviderFailure:
        """By the status first: the error's own, or that of its type where it came as an event."""
        status = error.status_code
        if status == 200:
            status = _STATUS_OF_TYPE.get(error.type or "", status)
            where = f"in an event: {error.type}" if status != 200 else "in an event"
        else:
            where = f"HTTP {status}"
        if status == 200:
            kind, what = FailureKind.STREAM_ERROR, "sent an error"
        elif status < 400:
            kind, what = FailureKind.MALFORMED_ANSWER, "answered with neither content nor an error"
        else:
            kind, what = _BY_STATUS.get(status) or unlisted(status)
        theirs = error.api_message if isinstance(error.api_message, str) else None
        kind, what = _by_code_or_words(error.error_code, (theirs or "").lower(), status) or (kind, what)
        return ProviderFailure(
            kind,
            f"{self.id} {what} ({where})",
            retry_after=retry_after_seconds(error.response.headers),
            caller_message=theirs,
        )


def _by_code_or_words(code: str | None, words: str, status: int) -> tuple[FailureKind, str] | None:
    """What Anthropic tells by `details.error_code`, or else by the message alone."""
    if code in _CREDIT_CODES or (status == 400 and any(word in words for word in _CREDIT_WORDS)):
        return _BY_STATUS[402]
    if code in _HOLD_CODES:
        return _BY_STATUS[403]
    if status in (200, 400, 500) and _FILTER_WORDS in words:
        return FailureKind.CONTENT_POLICY, "refused the content by its policy"
    return None


def _once_begun(failure: ProviderFailure) -> ProviderFailure:
    """In the middle of an answer the vendor's word that it failed doesn't say that the beginning was free."""
    if failure.consequence.settle is Settle.BOUND:
        return failure
    return ProviderFailure(FailureKind.STREAM_ERROR, failure.message)
