"""Azure OpenAI: the `v1` API, or a dated `api-version` where `AZURE_AI_API_VERSION` names one.

By key, or by a token of Entra ID for an application that trusts the gateway's AWS role (`entra.py`). A key that is set
counts, for shells have a tenant and a client of their own for other programs.

Source: Microsoft's "Azure OpenAI in Azure AI Foundry Models REST API reference", "API version lifecycle", "Content
filtering" and "Plan to manage costs", which says what of a failure is billed.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from fusewire.ai.failures import FailureKind, ProviderFailure
from fusewire.ai.provider import Timeouts, Variables, is_path_segment
from fusewire.ai.providers.access_tokens import authorized
from fusewire.ai.providers.openai import OPENAI, OPENAI_CONVERSATION, OpenAIModelsProvider, refused_by
from fusewire.ai.schema import ChatRequest, ChatResponse, EmbeddingRequest, EmbeddingResponse, StreamChunk
from fusewire.config import ConfigurationError, Settings

if TYPE_CHECKING:
    import openai

    from fusewire.ai.providers.entra import EntraTokens

_V1_NAMES: Final = (None, "v1", "latest", "preview")
_DATED: Final = re.compile(r"\d{4}-\d{2}-\d{2}(-preview)?")
_FIRST_METERED: Final = "2024-09-01"
"""Before it there was neither `max_completion_tokens` nor usage on streams: nothing that would bound or book a call."""

_FIRST_TIERED: Final = "2025-10-01"
"""The first dated version that has `service_tier` ("Priority processing"); `v1` has it too."""
_NOT_OPENAIS: Final = re.compile(
    "claude|cohere|command|deepseek|glm|gpt-oss|grok|jais|jamba|kimi|llama|mai-|minimax|mistral|ministral|codestral|nemotron"
    "|phi-|qwen"
)
"""Deployments that are named after other vendors' models, which aren't known to take `service_tier`."""

_OTHER_CLOUDS: Final[Mapping[str, str]] = {".azure.us": "Azure Government", ".azure.cn": "Azure China"}

_AFTER_THE_DATES: Final = frozenset({"safety_identifier", "prompt_cache_key", "verbosity", "metadata", "store"})
"""Advisory fields that came with `v1` and that the dated versions refuse."""

_INPUT_LIMITS: Final = {"context_length_exceeded", "string_above_max_length", "array_above_max_length"}
_INPUT_LIMIT_WORDS: Final = "maximum context length"
"""In the message where there is no code, as of embeddings."""

_KEY: Final = "AZURE_AI_API_KEY"
_ENTRA: Final = ("AZURE_TENANT_ID", "AZURE_CLIENT_ID")
_ENTRA_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*")
"""A tenant's is its id or one of its domains, and stands in an address."""

_ROLE: Final = "see the role Cognitive Services OpenAI User of AZURE_CLIENT_ID, and AZURE_*_DEPLOYMENT"
_SEE: Final[Mapping[FailureKind, str]] = {
    FailureKind.CREDENTIAL_REJECTED: "see AZURE_AI_API_KEY, and the resource's network rules",
    FailureKind.MODEL_DENIED: "see AZURE_*_DEPLOYMENT, and the roles of AZURE_AI_API_KEY's owner",
    FailureKind.MODEL_NOT_FOUND: "see AZURE_*_DEPLOYMENT, AZURE_AI_ENDPOINT and AZURE_AI_API_VERSION",
}


class AzureProvider(OpenAIModelsProvider):
    """The model's name is the deployment's name; `AI_PRICE_ALIASES` says which priced model stands behind it."""

    id = "azure"
    variables = Variables(
        endpoint="AZURE_AI_ENDPOINT",
        credential="AZURE_AI_API_KEY",
        sota="AZURE_SOTA_DEPLOYMENT",
        cost_effective="AZURE_COST_EFFECTIVE_DEPLOYMENT",
        embedding="AZURE_EMBEDDING_DEPLOYMENT",
        required=("AZURE_AI_ENDPOINT", _KEY),
        optional=("AZURE_AI_API_VERSION", *_ENTRA),
    )

    supported = OPENAI
    conversation = OPENAI_CONVERSATION

    def __init__(self, settings: Settings) -> None:
        """
        :raises ConfigurationError: for an API version that doesn't exist, or that can't be metered, or a tenant or
            client that can't be one
        """
        super().__init__(settings)
        for name in _ENTRA:
            if (value := settings.variable(name)) and not _ENTRA_NAME.fullmatch(value):
                raise ConfigurationError(f"{name}={value[:40]!r} can't be used: it must be an id such as a GUID.")
        if self._by_entra:
            self.sdk = (*type(self).sdk, "fusewire.ai.providers.entra")
        self._version = settings.variable("AZURE_AI_API_VERSION")
        if self._version in _V1_NAMES:
            return
        if not _DATED.fullmatch(self._version or "") or (self._version or "") < _FIRST_METERED:
            raise ConfigurationError(
                f"AZURE_AI_API_VERSION={(self._version or '')[:40]!r} can't be used: it must be v1, preview or a dated "
                f"version from {_FIRST_METERED}-preview on; unset, it is v1."
            )

    @property
    def _by_entra(self) -> bool:
        """Whether it shows a token, and no key: one of the two names is enough to be told of the other."""
        return not self.settings.variable(_KEY) and any(map(self.settings.variable, _ENTRA))

    def missing(self) -> tuple[str, ...]:
        """With what a token needs in the key's place, where that was begun."""
        missing = super().missing()
        if not self._by_entra:
            return missing
        needed = tuple(name for name in _ENTRA if not self.settings.variable(name))
        return tuple(name for each in missing for name in (needed if each == _KEY else (each,)))

    def place(self) -> str | None:
        """Azure's other clouds, by the endpoint's host; they have prices of their own."""
        host = urlsplit(self.settings.variable("AZURE_AI_ENDPOINT") or "").hostname or ""
        return next((cloud for ending, cloud in _OTHER_CLOUDS.items() if host.endswith(ending)), None)

    def allows_remote_images(self) -> bool:
        """Always: a resource's address is the operator's, the server is Microsoft's."""
        return True

    @property
    def _is_dated(self) -> bool:
        return self._version not in _V1_NAMES

    def is_model_name(self, model: str, *, embedding: bool = False) -> bool:
        """A deployment's stands in the address of the dated API."""
        return super().is_model_name(model) and (not self._is_dated or is_path_segment(model))

    def make_client(self) -> "openai.OpenAI":
        import openai

        from fusewire.ai.providers.http_client import http_client

        if self._is_dated:
            return openai.AzureOpenAI(
                azure_endpoint=self._resource(),
                # The SDK asks for the token before each request; `_authorized` has seen to it that there is one.
                **(
                    {"azure_ad_token_provider": self._tokens.current} if self._by_entra else {"api_key": self.api_key()}
                ),
                api_version=self._version,
                max_retries=0,
                http_client=http_client(),
            )
        preview = {"api-version": "preview"} if self._version == "preview" else None
        return openai.OpenAI(
            base_url=self.base_url(),
            api_key=self._tokens.current if self._by_entra else self.api_key(),
            default_headers=None if self._by_entra else {"api-key": self.api_key()},
            default_query=preview,
            max_retries=0,
            http_client=http_client(),
        )

    # --- tokens ---

    @cached_property
    def _tokens(self) -> "EntraTokens":
        from fusewire.ai.providers.entra import EntraTokens

        tenant, client = (self.settings.variable(name) or "" for name in _ENTRA)
        return EntraTokens(tenant, client, self.place(), self.settings.variable("AWS_REGION"))

    def _authorized(self, timeouts: Timeouts) -> Timeouts:
        """What is left of the attempt's time once there is a token, where one is needed."""
        return authorized(self.id, self._tokens, timeouts) if self._by_entra else timeouts

    def complete(self, request: ChatRequest, model: str, output_cap: int, timeouts: Timeouts) -> ChatResponse:
        return super().complete(request, model, output_cap, self._authorized(timeouts))

    def stream(self, request: ChatRequest, model: str, output_cap: int, timeouts: Timeouts) -> Iterator[StreamChunk]:
        yield from super().stream(request, model, output_cap, self._authorized(timeouts))

    def embed(self, request: EmbeddingRequest, model: str, timeouts: Timeouts) -> EmbeddingResponse:
        return super().embed(request, model, self._authorized(timeouts))

    # --- addresses ---

    def base_url(self) -> str:
        """The `v1` API of the resource, however much of its address was given."""
        endpoint = (self.settings.variable("AZURE_AI_ENDPOINT") or "").rstrip("/")
        if urlsplit(endpoint).path in ("", "/openai"):
            return f"{endpoint.removesuffix('/openai')}/openai/v1"
        return endpoint

    @cached_property
    def _address(self) -> str | None:
        return None if self._is_dated else super()._address

    def _resource(self) -> str:
        """The address before `/openai`, to which the SDK adds the deployment's path."""
        endpoint = (self.settings.variable("AZURE_AI_ENDPOINT") or "").rstrip("/")
        return endpoint.removesuffix("/v1").removesuffix("/openai")

    def openai_model(self, model: str) -> str | None:
        return self.known_as(model).lower()

    def supports(self, model: str | None = None) -> frozenset[str]:
        """By the model that `AI_PRICE_ALIASES` says is behind the deployment, or else by the deployment's name."""
        supported = self.supported - refused_by(self.known_as(model or ""))
        if not self._is_dated:
            return supported
        tiers = frozenset({"service_tier"}) if (self._version or "") < _FIRST_TIERED else frozenset()
        return supported - _AFTER_THE_DATES - tiers

    def service_tier(self, request: ChatRequest, model: str) -> str | None:
        """`default` where none is asked for, lest the deployment's own setting count."""
        if self._is_dated and (self._version or "") < _FIRST_TIERED:
            return None
        return request.tier_asked or (None if _NOT_OPENAIS.search(model.lower()) else "default")

    def body(self, request: ChatRequest, model: str, output_cap: int) -> dict[str, Any]:
        """The same; a developer's message is a system's, which every model and version knows.

        Azure takes only one of the two in a request, and reads a system's as a developer's where the model reasons.
        """
        body = super().body(request, model, output_cap)
        for message in body["messages"]:
            if message["role"] == "developer":
                message["role"] = "system"
        return body

    def _status_failure(self, error: "openai.APIStatusError") -> ProviderFailure:
        """With the setting to look at, and an input over the model's limit told from other mistakes: Azure may bill
        it."""
        failure = super()._status_failure(error)
        if failure.kind is FailureKind.REJECTED_REQUEST and _is_input_limit(error.code, failure.caller_message):
            failure.kind = FailureKind.INPUT_TOO_LONG
            failure.message = f"azure found the input longer than the model takes (HTTP {error.status_code})"
        if self._by_entra and error.status_code == 401:
            self._tokens.forget()
        see = _SEE.get(failure.kind)
        if self._by_entra and failure.kind in (FailureKind.CREDENTIAL_REJECTED, FailureKind.MODEL_DENIED):
            see = _ROLE
        if see:
            failure.message = f"{failure.message}; {see}"
        return failure


def _is_input_limit(code: object, words: str | None) -> bool:
    return (isinstance(code, str) and code in _INPUT_LIMITS) or _INPUT_LIMIT_WORDS in (words or "").lower()
