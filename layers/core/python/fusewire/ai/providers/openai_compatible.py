"""OpenAI's protocol over OpenAI's own SDK: the one module behind every vendor that speaks it.

What differs between those vendors (addresses, credentials, the cap's name, fields without a place) is data in their
own small files. The SDK's retries are off: the router decides. It is imported on the first call, because importing it
is most of a cold start (docs/decisions/0002-lazy-sdks.md).
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Final
from urllib.parse import urlsplit

from fusewire.ai.failures import FailureKind, ProviderFailure
from fusewire.ai.provider import AIProvider, Timeouts
from fusewire.ai.providers.conversation import Conversation, fitted
from fusewire.ai.providers.embedding_batches import encoded, refuse_token_ids
from fusewire.ai.providers.grok import context_window, reasons_beyond_cap
from fusewire.ai.providers.image_addresses import is_public_address
from fusewire.ai.providers.known_refusals import (
    OPENAI,
    REJECTED,
    Refusal,
    find_refusal,
    is_field,
    is_validation_detail,
)
from fusewire.ai.providers.openai_response import embeddings_of, whole_response
from fusewire.ai.providers.openai_stream import StreamReader
from fusewire.ai.providers.response_failures import (
    StatusMeaning,
    check_tool_choice,
    field_named,
    from_transport_error,
    malformed,
    meaning_of,
    retry_after_seconds,
)
from fusewire.ai.providers.sending import sending
from fusewire.ai.schema import (
    ChatRequest,
    ChatResponse,
    EmbeddingRequest,
    EmbeddingResponse,
    StreamChunk,
    fields_of,
    selection,
)

if TYPE_CHECKING:
    import openai

    from fusewire.ai.providers.deadline import AttemptDeadline

SAMPLING: Final = frozenset({"temperature", "top_p", "seed", "presence_penalty", "frequency_penalty"})
TOOLS: Final = frozenset({"tools", "strict_tools", "tool_choice_none", "tool_choice_required", "tool_choice_named"})
FORMATS: Final = frozenset({"json_schema", "json_object"})
USUAL: Final = SAMPLING | TOOLS | FORMATS | {"stop", "reasoning_effort", "images", "dimensions"}
"""What most servers that speak OpenAI's protocol honour."""

_OWN_STATUSES: Final[Mapping[int, StatusMeaning]] = {
    404: (FailureKind.MODEL_NOT_FOUND, "knows no such model, deployment or path"),
}
_FIELDS: Final = {name: name for name in sorted(fields_of(ChatRequest, "meaning", "preference", "kept", "hint"))} | {
    "reasoning.effort": "reasoning_effort",
    "max_tokens": "max_tokens",
    "max_completion_tokens": "max_tokens",
}
"""As servers name them that have no `param` in their 400s."""


class OpenAICompatibleProvider(AIProvider):
    """Chat, streams and embeddings over OpenAI's HTTP API, wherever it is served."""

    default_base_url: ClassVar[str | None] = None
    sdk: tuple[str, ...] = (
        *("openai", "openai.resources.chat.completions", "openai.resources.embeddings"),
        *("fusewire.ai.providers.http_client", "httpcore2"),  # the latter is httpx2's, for its first TLS connection
    )
    cap_field: ClassVar[str] = "max_completion_tokens"
    """What this server calls the output cap. `max_tokens` is deprecated at OpenAI, and all that some others know."""
    conversation: ClassVar[Conversation] = Conversation()
    """What this server takes of a conversation."""
    image_data: ClassVar[re.Pattern[str]] = re.compile("data:image/", re.IGNORECASE)
    """How an image's data begins. Some servers take films, sound and documents in an image's place, and bill them by
    their length, for which the input bound's allowance for an image is no bound."""

    refusals: ClassVar[tuple[Refusal, ...]] = OPENAI
    """The refusals of this server that are known by a code or by words."""

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

    def output_bound(self, model: str, output_cap: int) -> int | None:
        """The context window of a Grok that reasons, which a server of our own would hold to the cap."""
        name = self.known_as(model)
        if self.local or f"{self.id}/{model}" in self.settings.ai_output_bounds or not reasons_beyond_cap(name):
            return super().output_bound(model, output_cap)
        window = context_window(name)
        return window and max(window, output_cap)

    # --- chat ---

    def complete(self, request: ChatRequest, model: str, output_cap: int, timeouts: Timeouts) -> ChatResponse:
        body = self._mapped(request, model, output_cap)
        raw = self._post("/chat/completions", body, timeouts)
        try:
            response = whole_response(raw, model)
        except (ValueError, RecursionError) as error:
            raise malformed(self.id, error) from None
        called = {call.function.name for choice in response.choices for call in choice.message.tool_calls or ()}
        check_tool_choice(self.id, request, called, {choice.finish_reason for choice in response.choices})
        return response

    def stream(self, request: ChatRequest, model: str, output_cap: int, timeouts: Timeouts) -> Iterator[StreamChunk]:
        from fusewire.ai.providers.deadline import AttemptDeadline

        body = self._mapped(request, model, output_cap) | {
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        deadline = AttemptDeadline.of_stream(timeouts)
        reader = StreamReader(model, request.n or 1)
        with self._opened("/chat/completions", body, timeouts, deadline) as events:
            for event in events:
                chunk = reader.read(event)
                if chunk is None:
                    continue
                if any(choice.delta.has_content for choice in chunk.choices):
                    deadline.begin()
                yield chunk
        if not reader.is_complete:
            raise ProviderFailure(
                FailureKind.STREAM_BROKEN, f"{self.id} ended the stream before the answer was complete"
            )
        yield from reader.last()
        check_tool_choice(self.id, request, reader.called, reader.finishes)

    def body(self, request: ChatRequest, model: str, output_cap: int) -> dict[str, Any]:
        """The request as this server takes it: the fields that it is declared to support, with the output cap."""
        fields = self._fields(request, model)
        fields["messages"] = fitted(fields["messages"], self.conversation_of(model))
        if "tools" not in fields:
            # OpenAI refuses both where there are none.
            fields.pop("tool_choice", None)
            fields.pop("parallel_tool_calls", None)
        fields.pop("service_tier", None)  # `auto` would leave it to the vendor's own settings
        if tier := self.service_tier(request, model):
            fields["service_tier"] = tier
        return {**fields, self.cap_field: output_cap}

    def service_tier(self, request: ChatRequest, model: str) -> str | None:
        """What is sent as `service_tier`; None where the field isn't sent, since the server has no tiers.

        Without it OpenAI serves a call in its project's tier and Azure in its deployment's, at whatever that costs.
        """
        return None

    def conversation_of(self, model: str) -> Conversation:
        """What this model takes of a conversation."""
        return self.conversation

    def _mapped(self, request: ChatRequest, model: str, output_cap: int) -> dict[str, Any]:
        with sending(self.id):
            return self.body(request, model, output_cap)

    def _fields(self, request: ChatRequest | EmbeddingRequest, model: str) -> dict[str, Any]:
        sent = selection((type(request),), self.supports(model))
        fields = request.model_dump(mode="json", exclude_unset=True, exclude_none=True, include=sent)
        return {**fields, "model": model}

    def unsupported(self, request: ChatRequest | EmbeddingRequest, model: str | None = None) -> tuple[str, ...]:
        """With `messages` for data that is no image, or an image's address that mustn't be passed on."""
        params = super().unsupported(request, model)
        if isinstance(request, EmbeddingRequest) or all(
            self._takes_image(image.image_url.url) for image in request.images()
        ):
            return params
        return tuple(dict.fromkeys((*params, "messages")))

    def _takes_image(self, url: str) -> bool:
        if url[:5].lower() == "data:":
            return self.image_data.match(url) is not None
        # A server of the operator's own would fetch it from within.
        return self.allows_remote_images() and is_public_address(url)

    def allows_remote_images(self) -> bool:
        """Whether this is the vendor's own server, which fetches an image's address from the vendor's network."""
        return self._is_own_server

    @cached_property
    def _is_own_server(self) -> bool:
        own = self.default_base_url
        return own is not None and urlsplit(self.base_url() or "").hostname == urlsplit(own).hostname

    # --- embeddings ---

    def embed(self, request: EmbeddingRequest, model: str, timeouts: Timeouts) -> EmbeddingResponse:
        if "token_ids" not in self.supports(model):
            refuse_token_ids(self.id, request)
        # Numbers upstream, because not every server knows base64; `encoded` makes base64 for those who asked for it.
        raw = self._post(
            "/embeddings", {**self._fields(request, model), "encoding_format": "float"}, timeouts, request.count
        )
        try:
            response = embeddings_of(raw, model)
        except (ValueError, RecursionError) as error:
            raise malformed(self.id, error) from None
        response.data.sort(key=lambda item: item.index)
        if [item.index for item in response.data] != list(range(request.count)):
            raise ProviderFailure(FailureKind.MALFORMED_ANSWER, f"{self.id} didn't answer each input with one vector")
        if request.encoding_format == "base64":
            response.data = [item if isinstance(item.embedding, str) else encoded(item) for item in response.data]
        return response

    # --- the wire ---

    def _post(self, path: str, body: dict[str, Any], timeouts: Timeouts, vectors: int | None = None) -> bytes:
        """The whole answer.

        :param vectors: how many it has to hold; None for an answer of another kind
        """
        import httpx2
        import openai

        from fusewire.ai.providers.http_client import VECTORS_HEADER

        with sending(self.id) as request:
            try:
                answer = self._client.post(
                    self.address_of(path),
                    body=body,
                    cast_to=httpx2.Response,
                    options={
                        "timeout": self._timeout(timeouts),
                        "follow_redirects": False,
                        "headers": {} if vectors is None else {VECTORS_HEADER: str(vectors)},
                    },
                )
            except (openai.OpenAIError, httpx2.HTTPError, httpx2.InvalidURL) as error:
                raise self._failure(error, sent=request.begun) from error
        return answer.content

    @contextmanager
    def _opened(
        self, path: str, body: dict[str, Any], timeouts: Timeouts, deadline: "AttemptDeadline"
    ) -> Iterator["openai.Stream[object]"]:
        """The answer, its body still unread; what goes wrong until the block ends comes out as `ProviderFailure`."""
        import httpx2
        import openai

        with sending(self.id) as request:
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
                raise self._failure(error, sent=request.begun) from error
        deadline.watch(events.response)
        try:
            with events:
                yield events
        except (openai.OpenAIError, httpx2.HTTPError) as error:
            raise self._failure(error) from error
        except (ValueError, RecursionError) as error:  # JSONDecodeError, UnicodeDecodeError
            raise malformed(self.id, error) from None

    @staticmethod
    def _timeout(timeouts: Timeouts) -> "openai.Timeout":
        import openai

        return openai.Timeout(timeouts.first, connect=min(timeouts.connect, timeouts.first))

    def _failure(self, error: Exception, *, sent: bool = True) -> ProviderFailure:
        import openai

        if isinstance(error, openai.APIStatusError):
            return self._status_failure(error)
        cause = error.__cause__ if isinstance(error, openai.APIConnectionError) else error
        if isinstance(cause, openai.OpenAIError) and sent:
            return ProviderFailure(FailureKind.STREAM_ERROR, f"{self.id} sent an error in the stream")
        return from_transport_error(self.id, cause, sent=sent)

    def _status_failure(self, error: "openai.APIStatusError") -> ProviderFailure:
        details = self._details(error)
        theirs = details.get("message", details.get("detail"))
        words = theirs if isinstance(theirs, str) else None
        kind, what = self._meaning(error, details, theirs)
        return ProviderFailure(
            kind,
            f"{self.id} {what} (HTTP {error.status_code})",
            retry_after=retry_after_seconds(error.response.headers),
            caller_message=words,
            param=error.param if isinstance(error.param, str) else field_named(kind, words, _FIELDS),
        )

    def _details(self, error: "openai.APIStatusError") -> dict[str, Any]:
        """The error's object in the body; empty where there is none."""
        return error.body if isinstance(error.body, dict) else {}

    def _codes(self, details: dict[str, Any]) -> list[object]:
        """All the codes, types and names by which an error may be known."""
        inner = details.get("innererror")
        return [details.get("code"), details.get("type"), inner.get("code") if isinstance(inner, dict) else None]

    def _meaning(self, error: "openai.APIStatusError", details: dict[str, Any], theirs: object) -> StatusMeaning:
        """By a code or by words that are known, or else by the status.

        :param theirs: what it says, which is no text at some servers
        """
        status = error.status_code
        codes = self._codes(details)
        if known := find_refusal(self.refusals, status, codes, theirs if isinstance(theirs, str) else None):
            return known
        if "insufficient_quota" in codes:
            return meaning_of(402, _OWN_STATUSES)
        is_form = is_field(error.param) or is_validation_detail(details) or is_validation_detail(theirs)
        return REJECTED if status in (400, 422) and is_form else meaning_of(status, _OWN_STATUSES)
