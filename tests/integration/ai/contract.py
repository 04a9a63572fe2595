"""What every provider must pass: its row here, by its own settings, against a vendor over real HTTP.

A provider that is registered and has no row fails the suite.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from fusewire.ai.counting import TOKENS_PER_REQUEST
from fusewire.ai.provider import AIProvider, Timeouts
from fusewire.ai.providers.openai_compatible import OpenAICompatibleProvider
from fusewire.ai.registry import _PROVIDER_FACTORIES, Registry
from fusewire.ai.schema import ChatRequest, EmbeddingRequest
from fusewire.config import load_settings
from tests.support.wires import AWS_KEY_ID, AnthropicWire, BedrockWire, OpenAIWire, VertexWire, Wire

KEY = "sentinel-key-91b2"
SOTA, COST_EFFECTIVE, EMBEDDING = "vendor-sota", "vendor-mini", "vendor-embedding"
TIMES = Timeouts(connect=2, first=10, total=20)
CAP = 64
ADVISORY: dict[str, object] = {
    "seed": 7, "presence_penalty": 0.5, "frequency_penalty": 0.25, "logit_bias": {"50256": -100.0}, "user": "u",
    "safety_identifier": "s", "prompt_cache_key": "p", "prompt_cache_retention": "24h",
    "prompt_cache_options": {"ttl": "30m"}, "prediction": {"type": "content", "content": "Paris"},
    "web_search_options": {"search_context_size": "low"}, "metadata": {"a": "b"},
    "thinking": {"type": "adaptive", "display": "omitted"}, "verbosity": "low", "service_tier": "flex",
}  # fmt: skip
"""Every field of a chat request that changes no meaning."""


class Addressed(Protocol):
    """A vendor that runs."""

    @property
    def url(self) -> str: ...


@dataclass(frozen=True)
class Row:
    """One provider under one set of its settings."""

    name: str
    provider: str
    variables: Callable[[str], dict[str, str]]
    """By the vendor's root address."""
    wire: type[Wire] = OpenAIWire
    credential: tuple[str, str] | None = ("authorization", f"Bearer {KEY}")
    """The header that holds it, and how that begins."""
    embedding: str | None = EMBEDDING
    tells_reasoning: bool = True

    def settings(self, vendor: Addressed) -> dict[str, str]:
        return {
            **self.variables(root(vendor)),
            "AI_MODE": "hybrid",
            "AI_FALLBACK_CHAIN": self.provider,
            "AI_PRICE_OVERRIDES": json.dumps(
                {f"{self.provider}/*": {"input_mtok": 8, "output_mtok": 16, "cached_input_mtok": 2}}
            ),
        }

    def make(self, vendor: Addressed) -> AIProvider:
        return Registry(load_settings(self.settings(vendor))).get(self.provider)


def root(vendor: Addressed) -> str:
    return vendor.url.removesuffix("/v1")


def azure(url: str) -> dict[str, str]:
    return {
        "AZURE_AI_ENDPOINT": url,
        "AZURE_AI_API_KEY": KEY,
        "AZURE_SOTA_DEPLOYMENT": SOTA,
        "AZURE_COST_EFFECTIVE_DEPLOYMENT": COST_EFFECTIVE,
        "AZURE_EMBEDDING_DEPLOYMENT": EMBEDDING,
    }


def dated_azure(url: str) -> dict[str, str]:
    return azure(url) | {"AZURE_AI_API_VERSION": "2024-10-21"}


def aws(url: str) -> dict[str, str]:
    return {
        "AWS_REGION": "eu-west-1",
        "AWS_BEDROCK_ENDPOINT_URL": url,
        "AWS_BEDROCK_SOTA_MODEL": SOTA,
        "AWS_BEDROCK_COST_EFFECTIVE_MODEL": COST_EFFECTIVE,
        "AWS_BEDROCK_EMBEDDING_MODEL": "amazon.titan-embed-text-v2:0",
    }


def gcp(url: str) -> dict[str, str]:
    return {
        "GCP_PROJECT_ID": "a-project",
        "GCP_LOCATION": "europe-west4",
        "GCP_BASE_URL": url,
        "GCP_SOTA_MODEL": SOTA,
        "GCP_COST_EFFECTIVE_MODEL": COST_EFFECTIVE,
        "GCP_EMBEDDING_MODEL": "text-embedding-005",
    }


def anthropic(url: str) -> dict[str, str]:
    return {
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_API_KEY": KEY,
        "ANTHROPIC_SOTA_MODEL": SOTA,
        "ANTHROPIC_COST_EFFECTIVE_MODEL": COST_EFFECTIVE,
        "ANTHROPIC_TEMPLATE_TOKENS": str(TOKENS_PER_REQUEST),
    }


def of_variables(provider: str) -> Callable[[str], dict[str, str]]:
    """The settings of a provider that speaks OpenAI's protocol, from the variables that it declares."""
    names = Registry(load_settings({})).get(provider).variables

    def settings(url: str) -> dict[str, str]:
        values = {
            names.endpoint: f"{url}/v1",
            names.credential: KEY,
            names.cost_effective: COST_EFFECTIVE,
            names.sota: SOTA,
            names.embedding: EMBEDDING,
            # As a vendor's own server, so that one bound holds for all rows.
            names.template_tokens: str(TOKENS_PER_REQUEST),
        }
        return {name: value for name, value in values.items() if name}

    return settings


def usual_row(provider: str) -> Row:
    """The row of a provider that speaks OpenAI's protocol and has no other."""
    names = Registry(load_settings({})).get(provider).variables
    return Row(
        provider,
        provider,
        of_variables(provider),
        credential=("authorization", f"Bearer {KEY}") if names.credential else None,
        embedding=EMBEDDING if names.embedding else None,
    )


_OWN_ROWS = [
    Row("azure", "azure", azure, credential=("api-key", KEY)),
    Row("azure-dated", "azure", dated_azure, credential=("api-key", KEY)),
    Row("anthropic", "anthropic", anthropic, AnthropicWire, embedding=None),
    Row(
        "aws",
        "aws",
        aws,
        BedrockWire,
        ("authorization", f"AWS4-HMAC-SHA256 Credential={AWS_KEY_ID}/"),
        "amazon.titan-embed-text-v2:0",
        tells_reasoning=False,
    ),
    Row("gcp", "gcp", gcp, VertexWire, ("authorization", "Bearer token-"), "text-embedding-005"),
]

ROWS = [
    *(
        usual_row(name)
        for name in _PROVIDER_FACTORIES
        if name not in {row.provider for row in _OWN_ROWS}
        and isinstance(Registry(load_settings({})).get(name), OpenAICompatibleProvider)
    ),
    *_OWN_ROWS,
]
"""Any other provider needs a row of its own."""


def chat(**fields: object) -> ChatRequest:
    body: dict[str, Any] = {"model": "sota", "messages": [{"role": "user", "content": "Hello"}], **fields}
    return ChatRequest.model_validate_json(json.dumps(body))


def embedding(**fields: object) -> EmbeddingRequest:
    return EmbeddingRequest.model_validate_json(json.dumps({"model": "sota", "input": "Hello", **fields}))
