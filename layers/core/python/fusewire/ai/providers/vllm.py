"""vLLM's OpenAI-compatible server: one model serves both tiers.

Source: vLLM's documentation, "OpenAI-Compatible Server".
"""

from fusewire.ai.provider import Variables
from fusewire.ai.providers.openai_compatible import OpenAICompatibleProvider


class VllmProvider(OpenAICompatibleProvider):
    id = "vllm"
    local = True
    cap_field = "max_tokens"
    variables = Variables(
        endpoint="VLLM_BASE_URL",
        credential="VLLM_API_KEY",
        sota="VLLM_MODEL",
        cost_effective="VLLM_MODEL",
        embedding="VLLM_EMBEDDING_MODEL",
        required=("VLLM_BASE_URL",),
    )
    ignores = frozenset({"safety_identifier", "prompt_cache_key", "metadata", "verbosity"})
    foreign = frozenset({"cache_control", "extra_content"})
