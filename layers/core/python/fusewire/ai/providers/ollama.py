"""Ollama's OpenAI-compatible server.

Source: Ollama's documentation, "OpenAI compatibility": `n`, `logit_bias` and `user` have no place there.
"""

from fusewire.ai.provider import Variables
from fusewire.ai.providers.openai_compatible import OpenAICompatibleProvider


class OllamaProvider(OpenAICompatibleProvider):
    id = "ollama"
    local = True
    cap_field = "max_tokens"
    variables = Variables(
        endpoint="OLLAMA_BASE_URL",
        sota="OLLAMA_SOTA_MODEL",
        cost_effective="OLLAMA_COST_EFFECTIVE_MODEL",
        embedding="OLLAMA_EMBEDDING_MODEL",
    )
    cannot = frozenset({"n", "serial_tool_calls"})
    ignores = frozenset({"logit_bias", "user", "safety_identifier", "prompt_cache_key", "metadata", "verbosity"})
