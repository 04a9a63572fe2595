"""Azure OpenAI: the `v1` API, or a dated `api-version` where `AZURE_AI_API_VERSION` names one.

Source: Microsoft's "Azure OpenAI in Azure AI Foundry Models REST API reference", "API version lifecycle", "Content
filtering" and "Plan to manage costs", which says what of a failure is billed.
"""

import re
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from fusewire.ai.failures import FailureKind, ProviderFailure
from fusewire.ai.provider import Variables
from fusewire.ai.providers.openai_compatible import OpenAICompatibleProvider
from fusewire.ai.vocabulary import ChatRequest, EmbeddingRequest
from fusewire.config import ConfigurationError, Settings

if TYPE_CHECKING:
    import openai

_V1_NAMES: Final = (None, "v1", "latest", "preview")
_DATED: Final = re.compile(r"\d{4}-\d{2}-\d{2}(-preview)?")
_FIRST_METERED: Final = "2024-09-01"
"""Before it there was neither `max_completion_tokens` nor usage on streams: nothing that would bound or book a call."""

_AFTER_THE_DATES: Final = frozenset({"safety_identifier", "prompt_cache_key", "verbosity", "metadata"})
"""Advisory fields that came with `v1` and that the dated versions refuse."""

_INPUT_LIMITS: Final = {"context_length_exceeded", "string_above_max_length", "array_above_max_length"}
_INPUT_LIMIT_WORDS: Final = "maximum context length"
"""In the message where there is no code, as of embeddings."""

_SEE: Final[Mapping[FailureKind, str]] = {
    FailureKind.CREDENTIAL_REJECTED: "see AZURE_AI_API_KEY, and the resource's network rules",
    FailureKind.MODEL_NOT_FOUND: "see AZURE_*_DEPLOYMENT, AZURE_AI_ENDPOINT and AZURE_AI_API_VERSION",
}


class AzureProvider(OpenAICompatibleProvider):
    """The model's name is the deployment's name; `AI_PRICE_ALIASES` says which priced model stands behind it."""

    id = "azure"
    variables = Variables(
        endpoint="AZURE_AI_ENDPOINT",
        credential="AZURE_AI_API_KEY",
        sota="AZURE_SOTA_DEPLOYMENT",
        cost_effective="AZURE_COST_EFFECTIVE_DEPLOYMENT",
        embedding="AZURE_EMBEDDING_DEPLOYMENT",
        required=("AZURE_AI_ENDPOINT", "AZURE_AI_API_KEY"),
    )

    def __init__(self, settings: Settings) -> None:
        """:raises ConfigurationError: for an API version that doesn't exist, or that can't be metered"""
        super().__init__(settings)
        self._version = settings.variable("AZURE_AI_API_VERSION")
        if self._version in _V1_NAMES:
            return
        if not _DATED.fullmatch(self._version or "") or (self._version or "") < _FIRST_METERED:
            raise ConfigurationError(
                f"AZURE_AI_API_VERSION={(self._version or '')[:40]!r} can't be used: it must be v1, preview or a dated "
                f"version from {_FIRST_METERED}-preview on; unset, it is v1."
            )

    def fetches_outside(self) -> bool:
        """Always: a resource's address is the operator's, the server is Microsoft's."""
        return True

    @property
    def _is_dated(self) -> bool:
        return self._version not in _V1_NAMES

    def make_client(self) -> "openai.OpenAI":
        import openai

        from fusewire.ai.providers.http_client import http_client

        key = self.api_key()
        if self._is_dated:
            return openai.AzureOpenAI(
                azure_endpoint=self._resource(),
                api_key=key,
                api_version=self._version,
                max_retries=0,
                http_client=http_client(),
            )
        preview = {"api-version": "preview"} if self._version == "preview" else None
        return openai.OpenAI(
            base_url=self.base_url(),
            api_key=key,
            default_headers={"api-key": key},
            default_query=preview,
            max_retries=0,
            http_client=http_client(),
        )

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

    def dropped(self, request: ChatRequest | EmbeddingRequest, model: str | None = None) -> tuple[str, ...]:
        newer = _AFTER_THE_DATES if self._is_dated else frozenset()
        asked = (name for name in newer if getattr(request, name, None) is not None)
        return tuple(sorted({*super().dropped(request, model), *asked}))

    def body(self, request: ChatRequest, model: str, output_cap: int) -> dict[str, Any]:
        """The same; a developer's message is a system's, which every model and version knows.

        Azure takes only one of the two in a request, and reads a system's as a developer's where the model reasons.
        """
        body = super().body(request, model, output_cap)
        for message in body["messages"]:
            if message["role"] == "developer":
                message["role"] = "system"
        return {name: value for name, value in body.items() if not (self._is_dated and name in _AFTER_THE_DATES)}

    def _status_failure(self, error: "openai.APIStatusError") -> ProviderFailure:
        """With the setting to look at, a refusal by the content filter known by its inner name too, and an input over
        the model's limit told from other mistakes: Azure may bill it."""
        failure = super()._status_failure(error)
        body = error.body if isinstance(error.body, dict) else {}
        inner = body.get("innererror")
        if error.status_code == 400 and isinstance(inner, dict) and inner.get("code") == "ResponsibleAIPolicyViolation":
            failure.kind = FailureKind.CONTENT_POLICY
            failure.message = "azure refused the content by its policy (HTTP 400)"
        elif failure.kind is FailureKind.REJECTED_REQUEST and _is_input_limit(error.code, failure.caller_message):
            failure.kind = FailureKind.INPUT_TOO_LONG
            failure.message = f"azure found the input longer than the model takes (HTTP {error.status_code})"
        if see := _SEE.get(failure.kind):
            failure.message = f"{failure.message}; {see}"
        return failure


def _is_input_limit(code: object, words: str | None) -> bool:
    return (isinstance(code, str) and code in _INPUT_LIMITS) or _INPUT_LIMIT_WORDS in (words or "").lower()
