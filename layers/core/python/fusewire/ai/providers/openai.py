"""OpenAI itself, and any server whose address is given as `OPENAI_BASE_URL`."""

from fusewire.ai.provider import Variables
from fusewire.ai.providers.openai_compatible import OpenAICompatibleProvider


class OpenAIProvider(OpenAICompatibleProvider):
    id = "openai"
    default_base_url = "https://api.openai.com/v1"
    variables = Variables(
        endpoint="OPENAI_BASE_URL",
        credential="OPENAI_API_KEY",
        sota="OPENAI_SOTA_MODEL",
        cost_effective="OPENAI_COST_EFFECTIVE_MODEL",
        embedding="OPENAI_EMBEDDING_MODEL",
    )

    def missing(self) -> tuple[str, ...]:
        # The endpoint has a default, so what a new user lacks is the key.
        return tuple("OPENAI_API_KEY" if name == "OPENAI_BASE_URL" else name for name in super().missing())
