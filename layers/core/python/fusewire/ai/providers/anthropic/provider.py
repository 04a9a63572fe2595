"""Anthropic's Messages API over Anthropic's own SDK: addresses, credentials and the wire.

`request` maps a request to its Messages API, `response` reads what comes back, `failures` says what each failure means.
The SDK's retries are off: the router decides. It is imported on the first call, because importing it is most of a cold
start (docs/decisions/0002-lazy-sdks.md).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from fusewire.ai.counting import Counting
from fusewire.ai.failures import FailureKind, ProviderFailure, UnsupportedField
from fusewire.ai.provider import AIProvider, Timeouts, UsualModels, Variables
from fusewire.ai.providers.anthropic.failures import failure_of, once_begun
from fusewire.ai.providers.anthropic.models import claude_counting, traits
from fusewire.ai.providers.anthropic.request import SAMPLING, SUPPORTED, message_body
from fusewire.ai.providers.anthropic.response import StreamReader, whole_response
from fusewire.ai.providers.anthropic.thinking import MAX_CAP, dropped_thoughts
from fusewire.ai.providers.cache_marks import marked_writes
from fusewire.ai.providers.json_values import parsed, token_count
from fusewire.ai.providers.response_failures import check_tool_choice, malformed, not_sent
from fusewire.ai.providers.sending import sending
from fusewire.ai.schema import (
    ChatRequest,
    ChatResponse,
    EmbeddingRequest,
    EmbeddingResponse,
    StreamChunk,
)
from fusewire.price_overrides import CacheWrites

if TYPE_CHECKING:
    import anthropic

    from fusewire.ai.providers.deadline import AttemptDeadline

_OWN_ENDPOINT: Final = "https://api.anthropic.com"

_VERSION_WITH_SAMPLING: Final = "2023-06-01"
"""The last API version that takes `temperature` and `top_p`; sent where a request has one of them."""

_PROMPT: Final = ("model", "messages", "system", "tools", "tool_choice", "thinking", "output_config")
"""What `count_tokens` takes of a message's body."""


class AnthropicProvider(AIProvider):
    """Claude, from Anthropic or from any server that speaks its Messages API (`ANTHROPIC_BASE_URL`)."""

    id = "anthropic"
    sdk = ("anthropic", "anthropic.resources.messages", "fusewire.ai.providers.http_client", "httpcore2")
    variables = Variables(
        endpoint="ANTHROPIC_BASE_URL",
        credential="ANTHROPIC_API_KEY",
        sota="ANTHROPIC_SOTA_MODEL",
        cost_effective="ANTHROPIC_COST_EFFECTIVE_MODEL",
        template_tokens="ANTHROPIC_TEMPLATE_TOKENS",
    )
    # Anthropic's "Models overview": where to begin for most workloads, and for many calls.
    usual_models = UsualModels("claude-opus-5-5", "claude-haiku-5-5")
    supported = SUPPORTED

    def missing(self) -> tuple[str, ...]:
        # The endpoint has a default, so what a new user lacks is the key.
        return tuple("ANTHROPIC_API_KEY" if name == "ANTHROPIC_BASE_URL" else name for name in super().missing())

    def unsupported(self, request: ChatRequest | EmbeddingRequest, model: str | None = None) -> tuple[str, ...]:
        """With the fields that this very model can't honour, where it is named."""
        params = super().unsupported(request, model)
        if model is None or params or isinstance(request, EmbeddingRequest):
            return params
        try:
            self.body(request, model, 1)
        except UnsupportedField as refused:
            return (refused.param,)
        return ()

    def dropped(self, request: ChatRequest | EmbeddingRequest, model: str | None = None) -> tuple[str, ...]:
        """With the user where a `safety_identifier` takes its place, and with what of `thinking` this model lacks."""
        names = {*super().dropped(request, model)}
        if isinstance(request, EmbeddingRequest):
            return tuple(sorted(names))
        if request.user and request.safety_identifier:
            names.add("user")
        return tuple(sorted(dropped_thoughts(names, request, traits(model or ""), request.output_cap)))

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

    def at_vendor(self) -> bool:
        return self._is_own_server

    @cached_property
    def _is_own_server(self) -> bool:
        return urlsplit(self.base_url()).hostname == urlsplit(_OWN_ENDPOINT).hostname

    # --- what it bills ---

    def counting(self, model: str) -> Counting:
        return replace(claude_counting(model), refuses_over_window=self.at_vendor())

    def cache_writes(self, request: ChatRequest, model: str) -> CacheWrites:
        """As the request's marks ask; other vendors' servers may write unasked."""
        claude = self.at_vendor() or traits(model).claude
        return marked_writes(request) if claude else super().cache_writes(request, model)

    # --- chat ---

    def complete(self, request: ChatRequest, model: str, output_cap: int, timeouts: Timeouts) -> ChatResponse:
        from fusewire.ai.providers.deadline import AttemptDeadline

        body = self._mapped(request, model, output_cap)
        with self._opened(body, timeouts, AttemptDeadline(timeouts.first)) as events:
            raw = events.response.read()
        try:
            response = whole_response(raw, model)
        except (ValueError, RecursionError) as error:
            raise malformed(self.id, error) from None
        (choice,) = response.choices
        called = {call.function.name for call in choice.message.tool_calls or ()}
        check_tool_choice(self.id, request, called, {choice.finish_reason})
        return response

    def stream(self, request: ChatRequest, model: str, output_cap: int, timeouts: Timeouts) -> Iterator[StreamChunk]:
        from fusewire.ai.providers.deadline import AttemptDeadline

        body = self._mapped(request, model, output_cap) | {"stream": True}
        deadline = AttemptDeadline.of_stream(timeouts)
        # Other servers of this protocol begin with a 0 or a guess. What adds to the input afterwards are the vendor's
        # own tools, which aren't sent ("Streaming messages").
        reader = StreamReader(model, counts_input_first=self.at_vendor())
        try:
            with self._opened(body, timeouts, deadline) as events:
                for event in events:
                    for chunk in reader.read(event):
                        if any(choice.delta.has_content for choice in chunk.choices):
                            deadline.begin()
                        yield chunk
        except ProviderFailure as failure:
            if not reader.begun:
                raise
            if failure.kind is FailureKind.CONTENT_POLICY:
                # The vendor's filter ends this answer, and nobody else is asked. Without usage it costs the bound.
                yield reader.filtered()
                return
            raise once_begun(failure) from failure
        if not reader.done:
            raise ProviderFailure(
                FailureKind.STREAM_BROKEN, f"{self.id} ended the stream before the answer was complete"
            )
        check_tool_choice(self.id, request, reader.called, {reader.finish})

    def body(self, request: ChatRequest, model: str, output_cap: int) -> dict[str, Any]:
        """:raises UnsupportedField: for what can't be honoured"""
        # Anthropic fetches images from its own network; what stands at another address may stand inside ours.
        body = message_body(request, model, output_cap, remote_images=self.at_vendor())
        return {**self._at_list_price(model), **body}

    def _at_list_price(self, model: str) -> dict[str, str]:
        """The fields that have a call billed at the list price, whatever its workspace's settings say.

        A workspace may have committed capacity ("Service tiers"), and a place that costs a tenth more ("Data
        residency"). Other servers that speak Anthropic's API have neither, and may refuse the fields.
        """
        if not self.at_vendor():
            return {}
        return {"service_tier": "standard_only", **({"inference_geo": "global"} if traits(model).chooses_place else {})}

    def _mapped(self, request: ChatRequest, model: str, output_cap: int) -> dict[str, Any]:
        try:
            return self.body(request, model, output_cap)
        except UnsupportedField as refused:
            # Of a call that came here unasked: nothing was sent, and the field is the caller's.
            kind, message = FailureKind.REJECTED_REQUEST, refused.message
            raise ProviderFailure(
                kind, f"{self.id}: {message}", caller_message=f"{self.id}: {message}", param=refused.param
            ) from None
        except Exception as error:
            raise not_sent(self.id, error) from error

    def count_tokens(self, request: ChatRequest, model: str, timeouts: Timeouts) -> int | None:
        """Source: Anthropic's API reference, "Count tokens in a Message"."""
        from fusewire.ai.providers.deadline import AttemptDeadline

        body = self._mapped(request, model, MAX_CAP)
        prompt = {name: value for name, value in body.items() if name in _PROMPT}
        with self._opened(prompt, timeouts, AttemptDeadline(timeouts.first), path="/v1/messages/count_tokens") as got:
            raw = got.response.read()
        try:
            return token_count(parsed(raw).get("input_tokens"))
        except (ValueError, RecursionError) as error:
            raise malformed(self.id, error) from None

    def embed(self, request: EmbeddingRequest, model: str, timeouts: Timeouts) -> EmbeddingResponse:
        """:raises ProviderFailure: always, for a caller who pins one: Anthropic has no embeddings"""
        raise ProviderFailure(FailureKind.MODEL_NOT_FOUND, f"{self.id} has no embedding models")

    # --- the wire ---

    @contextmanager
    def _opened(
        self, body: dict[str, Any], timeouts: Timeouts, deadline: "AttemptDeadline", path: str = "/v1/messages"
    ) -> Iterator["anthropic.Stream[object]"]:
        """The answer, its body still unread; what goes wrong until the block ends comes out as `ProviderFailure`."""
        import anthropic
        import httpx2

        samples = not body.keys().isdisjoint(SAMPLING)
        with sending(self.id) as request:
            try:
                events = self._client.post(
                    path,
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
                raise failure_of(self.id, error, sent=request.begun) from error
        deadline.watch(events.response)
        try:
            with events:
                yield events
        except (anthropic.AnthropicError, httpx2.HTTPError) as error:
            raise failure_of(self.id, error) from error
        except (ValueError, RecursionError) as error:  # JSONDecodeError, UnicodeDecodeError
            raise malformed(self.id, error) from None
