"""OpenAI's protocol over OpenAI's own SDK: the one module behind every vendor that speaks it.

What differs between those vendors (addresses, credentials, the cap's name, fields without a place) is data in their
own small files. The SDK's retries are off: the router decides. It is imported on the first call, because importing it
is most of a cold start (docs/decisions/0002-lazy-sdks.md).
"""

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Final
from urllib.parse import urlsplit

from pydantic import ValidationError

from fusewire.ai.failures import FailureKind, ProviderFailure
from fusewire.ai.provider import AIProvider, Timeouts
from fusewire.ai.providers.embedding_batches import encoded
from fusewire.ai.providers.faults import check_tool_choice, malformed, retry_after_seconds, unanswered, unlisted
from fusewire.ai.vocabulary import (
    ChatRequest,
    ChatResponse,
    EmbeddingRequest,
    EmbeddingResponse,
    StreamChunk,
)

if TYPE_CHECKING:
    import openai

    from fusewire.ai.providers.clock import Clock

_NEVER_SENT: Final = {"model", "stream", "stream_options", "max_tokens", "max_completion_tokens"}
_NEVER_IN_MESSAGES: Final = frozenset({"annotations"})
"""Empty, as OpenAI's SDK keeps it with an answer; as part of a request it isn't known."""

_BY_STATUS: Final[Mapping[int, tuple[FailureKind, str]]] = {
    400: (FailureKind.REJECTED_REQUEST, "rejected the request"),
    401: (FailureKind.CREDENTIAL_REJECTED, "rejected the credential"),
    402: (FailureKind.OUT_OF_CREDIT, "has no credit left on this account"),
    403: (FailureKind.CREDENTIAL_REJECTED, "denies this credential access"),
    404: (FailureKind.MODEL_NOT_FOUND, "knows no such model, deployment or path"),
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
_CONTENT_POLICY_CODES: Final = {"content_filter", "content_policy_violation", "ResponsibleAIPolicyViolation"}


class OpenAICompatibleProvider(AIProvider):
    """Chat, streams and embeddings over OpenAI's HTTP API, wherever it is served."""

    default_base_url: ClassVar[str | None] = None
    sdk: ClassVar[tuple[str, ...]] = (
        *("openai", "openai.resources.chat.completions", "openai.resources.embeddings"),
        *("fusewire.ai.providers.http_client", "httpcore2"),  # the latter is httpx2's, for its first TLS connection
    )
    cap_field: ClassVar[str] = "max_completion_tokens"
    """What this server calls the output cap. `max_tokens` is deprecated at OpenAI, and all that some others know."""
    foreign: ClassVar[frozenset[str]] = frozenset({"cache_control", "extra_content", "reasoning_content"})
    """Other vendors' fields within messages and tools (`ChatRequest.extensions`): left out, and named as dropped."""
    image_data: ClassVar[re.Pattern[str]] = re.compile("data:image/", re.IGNORECASE)
    """How an image's data begins. Some servers take films, sound and documents in an image's place, and bill them by
    their length, for which the input bound's allowance for an image is no bound."""

    @cached_property
    def _client(self) -> "openai.OpenAI":
        return self.make_client()

    def make_client(self) -> "openai.OpenAI":
        """The SDK's client, made once for the life of the execution environment."""
        import openai

        from fusewire.ai.providers.http_client import http_client

        return openai.OpenAI(base_url=self.base_url(), api_key=self.api_key(), max_retries=0, http_client=http_client())

    def base_url(self) -> str | None:
        """The endpoint from the settings; one without a path gets OpenAI's `/v1`."""
        name = self.variables.endpoint
        url = (self.settings.variable(name) if name else None) or self.default_base_url
        if url is None:
            return None
        return url if urlsplit(url).path.strip("/") else url.rstrip("/") + "/v1"

    def address_of(self, path: str) -> str:
        """Where the SDK is to send a request: the whole address, for it takes it apart more often where it's a part."""
        return path if self._address is None or "://" in path else self._address + path

    @cached_property
    def _address(self) -> str | None:
        """What paths are appended to; None where the SDK has addresses of its own."""
        return str(self._client.base_url).rstrip("/")

    def api_key(self) -> str:
        """The credential; local servers that want none get a word that says so (the SDK insists on one)."""
        name = self.variables.credential
        secret = self.settings.secret(name) if name else None
        return secret.get_secret_value() if secret else "none"

    # --- chat ---

    def complete(self, request: ChatRequest, model: str, output_cap: int, timeouts: Timeouts) -> ChatResponse:
        body = self.body(request, model, output_cap)
        raw = self._post("/chat/completions", body, timeouts)
        try:
            response = ChatResponse.model_validate_json(raw)
        except ValidationError as error:
            raise malformed(self.id, error) from None
        called = {call.function.name for choice in response.choices for call in choice.message.tool_calls or ()}
        check_tool_choice(self.id, request, called, {choice.finish_reason for choice in response.choices})
        return response

    def stream(self, request: ChatRequest, model: str, output_cap: int, timeouts: Timeouts) -> Iterator[StreamChunk]:
        from fusewire.ai.providers.clock import Clock

        body = self.body(request, model, output_cap) | {
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        deadline = time.monotonic() + timeouts.total
        clock = Clock(timeouts.first)
        unfinished = set(range(request.n or 1))
        called: set[str] = set()
        finishes: set[str | None] = set()
        with self._opened("/chat/completions", body, timeouts, clock) as events:
            for event in events:
                chunk = StreamChunk.model_validate(event)
                chunk.choices = [
                    choice for choice in chunk.choices if choice.delta.model_fields_set or choice.finish_reason
                ]
                unfinished -= {choice.index for choice in chunk.choices if choice.finish_reason}
                called.update(_called(chunk))
                finishes.update(choice.finish_reason for choice in chunk.choices)
                if any(choice.delta.has_content for choice in chunk.choices):
                    clock.until = deadline
                yield chunk
        if unfinished:
            raise ProviderFailure(
                FailureKind.STREAM_BROKEN, f"{self.id} ended the stream before the answer was complete"
            )
        check_tool_choice(self.id, request, called, finishes)

    def body(self, request: ChatRequest, model: str, output_cap: int) -> dict[str, Any]:
        """The request as this server wants it: the caller's fields, less the ignored ones, with the cap."""
        left_out = _NEVER_SENT | self.ignores
        fields = request.model_dump(mode="json", exclude_unset=True, exclude_none=True, exclude=left_out)
        _leave_out(fields, _NEVER_IN_MESSAGES | self.foreign)
        return {"model": model, **fields, self.cap_field: output_cap}

    def unsupported(self, request: ChatRequest, model: str | None = None) -> tuple[str, ...]:
        """With `messages` for data that is no image, or an image's address that mustn't be passed on."""
        params = super().unsupported(request, model)
        if all(self._takes_image(image.image_url.url) for image in request.images()):
            return params
        return tuple(dict.fromkeys((*params, "messages")))

    def _takes_image(self, url: str) -> bool:
        if url[:5].lower() == "data:":
            return self.image_data.match(url) is not None
        return self.fetches_outside()  # a server of the operator's own would fetch it from within

    def fetches_outside(self) -> bool:
        """Whether this is the vendor's own server, which fetches an image's address from the vendor's network."""
        own = self.default_base_url
        return own is not None and urlsplit(self.base_url() or "").hostname == urlsplit(own).hostname

    def dropped(self, request: ChatRequest | EmbeddingRequest, model: str | None = None) -> tuple[str, ...]:
        names = super().dropped(request, model)
        foreign = self.foreign & request.extensions() if isinstance(request, ChatRequest) else ()
        return tuple(sorted({*names, *foreign}))

    # --- embeddings ---

    def embed(self, request: EmbeddingRequest, model: str, timeouts: Timeouts) -> EmbeddingResponse:
        left_out = {"model"} | self.ignores
        fields = request.model_dump(mode="json", exclude_unset=True, exclude_none=True, exclude=left_out)
        # Numbers upstream, because not every server knows base64; `encode` makes base64 for those who asked for it.
        raw = self._post("/embeddings", {**fields, "model": model, "encoding_format": "float"}, timeouts)
        try:
            response = EmbeddingResponse.model_validate_json(raw)
        except ValidationError as error:
            raise malformed(self.id, error) from None
        response.data.sort(key=lambda item: item.index)
        if [item.index for item in response.data] != list(range(request.count)):
            raise ProviderFailure(FailureKind.MALFORMED_ANSWER, f"{self.id} didn't answer each input with one vector")
        if request.encoding_format == "base64":
            response.data = [item if isinstance(item.embedding, str) else encoded(item) for item in response.data]
        return response

    # --- the wire ---

    def _post(self, path: str, body: dict[str, Any], timeouts: Timeouts) -> bytes:
        """The whole answer."""
        import httpx2
        import openai

        try:
            answer = self._client.post(
                self.address_of(path),
                body=body,
                cast_to=httpx2.Response,
                options={"timeout": self._timeout(timeouts), "follow_redirects": False},
            )
        except (openai.OpenAIError, httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise self._failure(error) from error
        return answer.content

    @contextmanager
    def _opened(
        self, path: str, body: dict[str, Any], timeouts: Timeouts, clock: "Clock"
    ) -> Iterator["openai.Stream[object]"]:
        """The answer, its body still unread; what goes wrong until the block ends comes out as `ProviderFailure`."""
        import httpx2
        import openai

        try:
            events = self._client.post(
                self.address_of(path),
                body=body,
                cast_to=object,
                stream=True,
                stream_cls=openai.Stream[object],
                # A redirect would send the prompt to a place that nobody configured.
                options={"timeout": self._timeout(timeouts), "follow_redirects": False},
            )
        except (openai.OpenAIError, httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise self._failure(error) from error
        clock.watch(events.response)
        try:
            with events:
                yield events
        except (openai.OpenAIError, httpx2.HTTPError) as error:
            raise self._failure(error) from error
        except ValueError as error:  # ValidationError, JSONDecodeError, UnicodeDecodeError
            raise malformed(self.id, error) from None

    @staticmethod
    def _timeout(timeouts: Timeouts) -> "openai.Timeout":
        import openai

        return openai.Timeout(timeouts.first, connect=min(timeouts.connect, timeouts.first))

    def _failure(self, error: Exception) -> ProviderFailure:
        import openai

        if isinstance(error, openai.APIStatusError):
            return self._status_failure(error)
        cause = error.__cause__ if isinstance(error, openai.APIConnectionError) else error
        if isinstance(cause, openai.OpenAIError):
            return ProviderFailure(FailureKind.STREAM_ERROR, f"{self.id} sent an error in the stream")
        return unanswered(self.id, cause)

    def _status_failure(self, error: "openai.APIStatusError") -> ProviderFailure:
        kind, what = _BY_STATUS.get(error.status_code) or unlisted(error.status_code)
        if error.status_code == 400 and error.code in _CONTENT_POLICY_CODES:
            kind, what = FailureKind.CONTENT_POLICY, "refused the content by its policy"
        elif error.code == "insufficient_quota":
            kind, what = _BY_STATUS[402]
        elif error.status_code == 403 and error.code == "model_not_found":
            # OpenAI, of a model that this project may not use: nothing is wrong with the key.
            kind, what = _BY_STATUS[404]
        elif error.status_code < 400:
            kind, what = FailureKind.MALFORMED_ANSWER, "answered with neither content nor an error"
        body = error.body if isinstance(error.body, dict) else {}
        theirs = body.get("message")
        return ProviderFailure(
            kind,
            f"{self.id} {what} (HTTP {error.status_code})",
            retry_after=retry_after_seconds(error.response.headers),
            caller_message=theirs if isinstance(theirs, str) else None,
            param=error.param if isinstance(error.param, str) else None,
        )


def _leave_out(fields: dict[str, Any], names: frozenset[str]) -> None:
    """Take fields out of messages, their parts and calls, and tools; never out of a tool's own schema."""
    for message in fields["messages"]:
        content = message.get("content")
        parts = content if isinstance(content, list) else ()
        for holder in (message, *parts, *message.get("tool_calls", ())):
            for name in names & holder.keys():
                del holder[name]
    for tool in fields.get("tools", ()):
        for name in names & tool.keys():
            del tool[name]


def _called(chunk: StreamChunk) -> Iterator[str]:
    for choice in chunk.choices:
        for call in choice.delta.tool_calls or ():
            if call.function and call.function.name:
                yield call.function.name
