"""What every provider must pass: its row here, by its own settings, against a vendor over real HTTP.

A provider that is registered and has no row fails the suite.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fusewire.ai.provider import AIProvider, Timeouts
from fusewire.ai.registry import Registry
from fusewire.ai.vocabulary import ChatRequest, EmbeddingRequest
from fusewire.config import load_settings
from tests.support.upstream import Upstream

KEY = "sentinel-key-91b2"
SOTA, COST_EFFECTIVE, EMBEDDING = "vendor-sota", "vendor-mini", "vendor-embedding"
TIMES = Timeouts(connect=2, first=10, total=20)
CAP = 64


@dataclass(frozen=True)
class Row:
    """One provider under one set of its settings."""

    name: str
    provider: str
    variables: Callable[[Upstream], dict[str, str]]
    cap_field: str
    chat_path: str = "/v1/chat/completions"
    embedding_path: str = "/v1/embeddings"
    key_header: str | None = "authorization"

    def settings(self, upstream: Upstream) -> dict[str, str]:
        return {
            **self.variables(upstream),
            "AI_MODE": "hybrid",
            "AI_FALLBACK_CHAIN": self.provider,
            "AI_PRICE_OVERRIDES": json.dumps(
                {f"{self.provider}/*": {"input_mtok": 8, "output_mtok": 16, "cached_input_mtok": 2}}
            ),
        }

    def make(self, upstream: Upstream) -> AIProvider:
        return Registry(load_settings(self.settings(upstream))).get(self.provider)


def root(upstream: Upstream) -> str:
    return upstream.url.removesuffix("/v1")


def azure(upstream: Upstream) -> dict[str, str]:
    return {
        "AZURE_AI_ENDPOINT": root(upstream),
        "AZURE_AI_API_KEY": KEY,
        "AZURE_SOTA_DEPLOYMENT": SOTA,
        "AZURE_COST_EFFECTIVE_DEPLOYMENT": COST_EFFECTIVE,
        "AZURE_EMBEDDING_DEPLOYMENT": EMBEDDING,
    }


def openai(upstream: Upstream) -> dict[str, str]:
    return {
        "OPENAI_BASE_URL": upstream.url,
        "OPENAI_API_KEY": KEY,
        "OPENAI_SOTA_MODEL": SOTA,
        "OPENAI_COST_EFFECTIVE_MODEL": COST_EFFECTIVE,
        "OPENAI_EMBEDDING_MODEL": EMBEDDING,
    }


def ollama(upstream: Upstream) -> dict[str, str]:
    return {
        "OLLAMA_BASE_URL": root(upstream),
        "OLLAMA_SOTA_MODEL": SOTA,
        "OLLAMA_COST_EFFECTIVE_MODEL": COST_EFFECTIVE,
        "OLLAMA_EMBEDDING_MODEL": EMBEDDING,
    }


def vllm(upstream: Upstream) -> dict[str, str]:
    return {
        "VLLM_BASE_URL": root(upstream),
        "VLLM_API_KEY": KEY,
        "VLLM_MODEL": SOTA,
        "VLLM_EMBEDDING_MODEL": EMBEDDING,
    }


ROWS = [
    Row("openai", "openai", openai, "max_completion_tokens"),
    Row(
        "azure",
        "azure",
        azure,
        "max_completion_tokens",
        "/openai/v1/chat/completions",
        "/openai/v1/embeddings",
        "api-key",
    ),
    Row(
        "azure-dated",
        "azure",
        lambda upstream: azure(upstream) | {"AZURE_AI_API_VERSION": "2024-10-21"},
        "max_completion_tokens",
        f"/openai/deployments/{SOTA}/chat/completions",
        f"/openai/deployments/{EMBEDDING}/embeddings",
        "api-key",
    ),
    Row("ollama", "ollama", ollama, "max_tokens", key_header=None),
    Row("vllm", "vllm", vllm, "max_tokens"),
]


def chat(**fields: object) -> ChatRequest:
    body: dict[str, Any] = {"model": "sota", "messages": [{"role": "user", "content": "Hello"}], **fields}
    return ChatRequest.model_validate_json(json.dumps(body))


def embedding(**fields: object) -> EmbeddingRequest:
    return EmbeddingRequest.model_validate_json(json.dumps({"model": "sota", "input": "Hello", **fields}))
