"""vLLM's OpenAI-compatible server: one model serves both tiers.

Source: vLLM's documentation, "OpenAI-Compatible Server".
"""

from dataclasses import replace

from fusewire.ai.provider import Variables
from fusewire.ai.providers.conversation import MISTRAL_CALL_ID, SELF_HOSTED, Conversation, is_mistral
from fusewire.ai.providers.openai_compatible import USUAL, OpenAICompatibleProvider


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
        template_tokens="VLLM_TEMPLATE_TOKENS",
    )
    supported = USUAL | {
        *("serial_tool_calls", "n", "logprobs", "logit_bias", "user", "messages.name", "messages.image_url.detail"),
        "reasoning_content",
    }

    def conversation_of(self, model: str) -> Conversation:
        return replace(SELF_HOSTED, call_id=MISTRAL_CALL_ID) if is_mistral(model) else SELF_HOSTED
