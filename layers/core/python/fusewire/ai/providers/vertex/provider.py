"""Google Vertex AI: its OpenAI-compatible endpoint for chat, its own REST methods for embeddings.

Sources: Google Cloud's documentation, "Using OpenAI libraries with Gemini Enterprise Agent Platform", "Locations",
"Text embeddings API" and "Thought signatures". That endpoint ignores whatever parameter it doesn't know, so everything
that isn't on its list is refused here, or named as dropped. Access tokens are in `tokens.py`.
"""

import json
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from fusewire.ai.counting import ANY_SERVER, Counting
from fusewire.ai.failures import FailureKind, ProviderFailure
from fusewire.ai.image_tokens import gemini_image_tokens
from fusewire.ai.provider import Timeouts, Variables
from fusewire.ai.providers.access_tokens import authorized
from fusewire.ai.providers.embedding_batches import Vectors, embed_in_batches
from fusewire.ai.providers.json_values import fields, token_count
from fusewire.ai.providers.known_refusals import GOOGLE, OPENAI
from fusewire.ai.providers.openai_compatible import USUAL, OpenAICompatibleProvider
from fusewire.ai.schema import (
    ChatRequest,
    ChatResponse,
    EmbeddingRequest,
    EmbeddingResponse,
    NamedToolChoice,
    StreamChunk,
)
from fusewire.config import ConfigurationError, Settings

if TYPE_CHECKING:
    import openai

    from fusewire.ai.providers.vertex.tokens import GoogleTokens

_EFFORTS: Final = ("low", "medium", "high")

_NO_SIGNATURE: Final = "skip_thought_signature_validator"
"""What Google has one write for a call that wasn't made by a Gemini, or whose signature is lost: from version 3 on, it
refuses a conversation whose tool calls bear none."""

_BEFORE_SIGNATURES: Final = re.compile(r"gemini-(?:1|2)\.")

_EMBEDDING_MODEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]*")
"""It stands in the address, and a caller may pin any name: one with a slash could lead to any endpoint that the
gateway's token opens."""

_TEXTS: Final = 250
_BYTES: Final = 20_000
"""In one `:predict`, where no more than 20,000 tokens are allowed, and a token is a byte at least. Gemini's own
embedding models take one text."""


_PROVIDER: Final = "GCP_WORKLOAD_IDENTITY_PROVIDER"
_ACCOUNT: Final = "GCP_SERVICE_ACCOUNT"
_DEFAULT_CREDENTIALS: Final = "GOOGLE_APPLICATION_CREDENTIALS"
_PROVIDER_NAME: Final = re.compile(
    r"projects/[0-9]+/locations/global/workloadIdentityPools/[a-z0-9-]{4,32}/providers/[a-z0-9-]{4,32}"
)
_ACCOUNT_NAME: Final = re.compile(r"[a-z0-9][a-z0-9.-]*@[a-z0-9.-]+\.gserviceaccount\.com")
"""Both stand in addresses of Google's."""


class GcpProvider(OpenAICompatibleProvider):
    """Gemini by its name (`gemini-3.8-flash`), other publishers' models by theirs too (`meta/llama-...`)."""

    id = "gcp"
    sdk = (*OpenAICompatibleProvider.sdk, "fusewire.ai.providers.vertex.tokens")
    cap_field = "max_tokens"
    variables = Variables(
        endpoint="GCP_BASE_URL",
        sota="GCP_SOTA_MODEL",
        cost_effective="GCP_COST_EFFECTIVE_MODEL",
        embedding="GCP_EMBEDDING_MODEL",
        required=("GCP_PROJECT_ID", "GCP_LOCATION"),
        optional=(_PROVIDER, _ACCOUNT),
    )
    supported = USUAL | {"n", "messages.image_url.detail", "extra_content"}
    image_data = re.compile("data:image/(?:png|jpe?g|webp|heic|heif);base64,", re.IGNORECASE)
    """What Google lists as images; it reads `video/*`, `audio/*` and PDF from the same field. No address is passed on:
    a `gs://` would be read with the gateway's rights, whoever asks."""

    refusals = (*GOOGLE, *OPENAI)

    def __init__(self, settings: Settings) -> None:
        """:raises ConfigurationError: for a pool's provider or a service account that can't be one"""
        super().__init__(settings)
        for name, form, example in (
            (_PROVIDER, _PROVIDER_NAME, "projects/<number>/locations/global/workloadIdentityPools/<id>/providers/<id>"),
            (_ACCOUNT, _ACCOUNT_NAME, "<name>@<project>.iam.gserviceaccount.com"),
        ):
            value = settings.variable(name)
            if value and not form.fullmatch(value):
                raise ConfigurationError(f"{name}={value[:40]!r} can't be used: it must be {example}.")
        if settings.variable(_PROVIDER):
            self.sdk = (*type(self).sdk, "fusewire.ai.providers.vertex.federation")

    def missing(self) -> tuple[str, ...]:
        """With what gives it credentials on Lambda, where no file and no metadata server does."""
        missing = super().missing()
        if not self.settings.on_lambda or any(map(self.settings.variable, (_PROVIDER, _DEFAULT_CREDENTIALS))):
            return missing
        return (*missing, _PROVIDER)

    def is_model_name(self, model: str, *, embedding: bool = False) -> bool:
        """An embedding model's stands in the address."""
        name = model.removeprefix("google/")
        return super().is_model_name(model) and (not embedding or _EMBEDDING_MODEL.fullmatch(name) is not None)

    def unsupported(self, request: ChatRequest | EmbeddingRequest, model: str | None = None) -> tuple[str, ...]:
        """With the values that only some other provider's fields have."""
        params = [*super().unsupported(request, model)]
        if isinstance(request, ChatRequest) and request.reasoning_effort not in (None, *_EFFORTS):
            params.append("reasoning_effort")
        return tuple(dict.fromkeys(params))

    def place(self) -> str | None:
        return self.settings.variable("GCP_LOCATION")

    def counting(self, model: str) -> Counting:
        """Gemini's; other publishers' models are served with chat templates of their own."""
        name = model.removeprefix("google/")
        if not name.startswith("gemini-"):
            return ANY_SERVER
        return replace(ANY_SERVER, images=gemini_image_tokens(name), own_template=False, refuses_over_window=True)

    # --- addresses and credentials ---

    @cached_property
    def _tokens(self) -> "GoogleTokens":
        from fusewire.ai.providers.vertex.tokens import GoogleTokens

        provider, account = map(self.settings.variable, (_PROVIDER, _ACCOUNT))
        return GoogleTokens(provider, account, self.settings.variable("AWS_REGION"))

    def make_client(self) -> "openai.OpenAI":
        import openai

        from fusewire.ai.providers.http_client import http_client

        return openai.OpenAI(
            base_url=self.base_url(),
            # The SDK asks for the key before each request; `_authorized` has seen to it that there is one.
            api_key=lambda: self._tokens.current(),
            max_retries=0,
            http_client=http_client(),
        )

    @property
    def _principal(self) -> str:
        """The setting that says who calls."""
        if self.settings.variable(_PROVIDER):
            return _ACCOUNT if self.settings.variable(_ACCOUNT) else _PROVIDER
        return _DEFAULT_CREDENTIALS

    def base_url(self) -> str:
        return f"{self._root()}/endpoints/openapi"

    def _root(self) -> str:
        """Of the project in its location. A private endpoint takes the place of Google's host."""
        project, location = (self.settings.variable(name) or "" for name in self.variables.required)
        given = (self.settings.variable("GCP_BASE_URL") or f"https://{_host(location)}").rstrip("/")
        if given.endswith("/endpoints/openapi"):
            return given.removesuffix("/endpoints/openapi")
        return f"{given.removesuffix('/v1')}/v1/projects/{project}/locations/{location}"

    def _authorized(self, timeouts: Timeouts) -> Timeouts:
        """What is left of the attempt's time once there is a token."""
        return authorized(self.id, self._tokens, timeouts)

    # --- chat ---

    def complete(self, request: ChatRequest, model: str, output_cap: int, timeouts: Timeouts) -> ChatResponse:
        return super().complete(request, model, output_cap, self._authorized(timeouts))

    def stream(self, request: ChatRequest, model: str, output_cap: int, timeouts: Timeouts) -> Iterator[StreamChunk]:
        yield from super().stream(request, model, output_cap, self._authorized(timeouts))

    def body(self, request: ChatRequest, model: str, output_cap: int) -> dict[str, Any]:
        """The same, in the words that are on Vertex's list."""
        body = super().body(request, model if "/" in model else f"google/{model}", output_cap)
        for message in body["messages"]:
            _reword(message)
            if message.get("tool_calls") and "gemini" in model and not _BEFORE_SIGNATURES.search(model):
                _sign(message["tool_calls"][0])
        _choose_tools(body, request)
        return body

    # --- embeddings ---

    def embed(self, request: EmbeddingRequest, model: str, timeouts: Timeouts) -> EmbeddingResponse:
        until = time.monotonic() + timeouts.first
        name = model.removeprefix("google/")
        if not _EMBEDDING_MODEL.fullmatch(name):
            raise ProviderFailure(FailureKind.MODEL_NOT_FOUND, f"{self.id} has no embedding models of such a name")
        address = f"{self._root()}/publishers/google/models/{name}"
        # gemini-embedding-001 takes one text a call, its successors have a method of their own.
        single = name.startswith("gemini") and not name.startswith("gemini-embedding-001")
        method, body, read = (
            (":embedContent", _content, _content_vector) if single else (":predict", _predict, _predictions)
        )

        def ask(texts: Sequence[str]) -> Vectors:
            left = replace(timeouts, first=max(until - time.monotonic(), 0.001))
            raw = self._post(address + method, body(texts, request.dimensions), self._authorized(left), len(texts))
            try:
                return read(json.loads(raw))
            except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
                raise ProviderFailure(
                    FailureKind.MALFORMED_ANSWER, f"{self.id} sent an answer that can't be read"
                ) from None

        size = 1 if name.startswith("gemini") else _TEXTS
        return embed_in_batches(self.id, request, model, size, ask, max_bytes=_BYTES)

    # --- failures ---

    def _details(self, error: "openai.APIStatusError") -> dict[str, Any]:
        """Google's errors come as `{"error": {...}}` or in a list of one."""
        return _error_of(error.body)

    def _codes(self, details: dict[str, Any]) -> list[object]:
        more = _dicts(details.get("details"))
        return [*super()._codes(details), details.get("status"), *(d.get(n) for d in more for n in ("reason", "@type"))]

    def _status_failure(self, error: "openai.APIStatusError") -> ProviderFailure:
        """With the settings to look at."""
        failure = super()._status_failure(error)
        if error.status_code == 401:
            self._tokens.forget()
        if failure.kind in (FailureKind.CREDENTIAL_REJECTED, FailureKind.MODEL_DENIED) and error.status_code == 403:
            failure.message += f"; see the roles of {self._principal} in GCP_PROJECT_ID, and that Vertex AI is enabled"
        elif error.status_code == 404 or failure.kind is FailureKind.MODEL_DENIED:
            failure.message += "; see GCP_*_MODEL, GCP_LOCATION and GCP_PROJECT_ID"
        return failure


def _host(location: str) -> str:
    if location == "global":
        return "aiplatform.googleapis.com"
    if location in ("us", "eu"):
        return f"aiplatform.{location}.rep.googleapis.com"
    return f"{location}-aiplatform.googleapis.com"


def _reword(message: dict[str, Any]) -> None:
    if message["role"] == "developer":
        message["role"] = "system"
    if refusal := message.pop("refusal", None):
        message["content"] = message.get("content") or refusal
    if isinstance(message.get("content"), list):
        message["content"] = [
            {"type": "text", "text": part["refusal"]} if part["type"] == "refusal" else part
            for part in message["content"]
        ]


def _sign(first_call: dict[str, Any]) -> None:
    """Give an earlier answer's calls their signature, which stands at the first of them, or the word that it's lost."""
    if "extra_content" not in first_call:
        first_call["extra_content"] = {"google": {"thought_signature": _NO_SIGNATURE}}


def _choose_tools(body: dict[str, Any], request: ChatRequest) -> None:
    """`tool_choice` is a word there: a tool is named by showing it alone, and `strict` is Google's `validated`."""
    tools = body.get("tools", [])
    is_strict = any(tool["function"].pop("strict", None) for tool in tools)
    if isinstance(request.tool_choice, NamedToolChoice):
        name = request.tool_choice.function.name
        body["tools"] = [tool for tool in tools if tool["function"]["name"] == name]
        body["tool_choice"] = "required"  # which holds to the tool's parameters by itself
    elif is_strict and request.tool_choice in (None, "auto"):
        body["tool_choice"] = "validated"


def _predict(texts: Sequence[str], dimensions: int | None) -> dict[str, Any]:
    # Nothing is cut off in silence: a text that is too long is an error, as at OpenAI.
    parameters = {"autoTruncate": False, **({"outputDimensionality": dimensions} if dimensions else {})}
    return {"instances": [{"content": text} for text in texts], "parameters": parameters}


def _predictions(answer: dict[str, Any]) -> Vectors:
    found = [prediction["embeddings"] for prediction in answer["predictions"]]
    counts = [token_count(fields(each.get("statistics")).get("token_count")) for each in found]
    tokens = None if None in counts else sum(filter(None, counts))
    return Vectors([each["values"] for each in found], tokens)


def _content(texts: Sequence[str], dimensions: int | None) -> dict[str, Any]:
    parameters = {"autoTruncate": False, **({"outputDimensionality": dimensions} if dimensions else {})}
    return {"content": {"parts": [{"text": texts[0]}]}, **parameters}


def _content_vector(answer: dict[str, Any]) -> Vectors:
    usage = fields(answer.get("usageMetadata"))
    return Vectors([answer["embedding"]["values"]], usage.get("promptTokenCount"))


def _error_of(body: object) -> dict[str, Any]:
    found = next(iter(_dicts(body)), {}) if isinstance(body, list) else body
    if not isinstance(found, dict):
        return {}
    inner = found.get("error")
    return inner if isinstance(inner, dict) else found


def _dicts(values: object) -> list[dict[str, Any]]:
    return [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []
