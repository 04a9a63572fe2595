"""Ollama's OpenAI-compatible server, and llama.cpp's.

Sources: Ollama's documentation, "OpenAI compatibility": `n`, `logit_bias`, `user` and `tool_choice` have no place
there; llama.cpp's `common/chat.cpp` takes `tool_choice` as a word only, and shows the model its tools with `none` too.
"""

from typing import Any

from fusewire.ai.provider import Variables
from fusewire.ai.providers.conversation import SELF_HOSTED
from fusewire.ai.providers.openai_compatible import USUAL, OpenAICompatibleProvider
from fusewire.ai.schema import ChatRequest, NamedToolChoice


class OllamaProvider(OpenAICompatibleProvider):
    id = "ollama"
    local = True
    cap_field = "max_tokens"
    variables = Variables(
        endpoint="OLLAMA_BASE_URL",
        sota="OLLAMA_SOTA_MODEL",
        cost_effective="OLLAMA_COST_EFFECTIVE_MODEL",
        embedding="OLLAMA_EMBEDDING_MODEL",
        template_tokens="OLLAMA_TEMPLATE_TOKENS",
    )
    supported = USUAL | {"logprobs", "messages.name", "messages.image_url.detail"}
    conversation = SELF_HOSTED

    def body(self, request: ChatRequest, model: str, output_cap: int) -> dict[str, Any]:
        """The same, with a `tool_choice` that isn't understood there said by the tools that are shown."""
        body = super().body(request, model, output_cap)
        if request.tool_choice == "none":
            body.pop("tool_choice")
            body.pop("tools", None)
        elif isinstance(request.tool_choice, NamedToolChoice):
            name = request.tool_choice.function.name
            body["tool_choice"] = "required"
            body["tools"] = [tool for tool in body["tools"] if tool["function"]["name"] == name]
        return body
