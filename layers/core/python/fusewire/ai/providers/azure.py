"""Azure OpenAI: the `v1` API, or a dated `api-version` where `AZURE_AI_API_VERSION` names one.

Source: Microsoft's "Azure OpenAI in Azure AI Foundry Models REST API reference" and "API version lifecycle".
"""

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from fusewire.ai.provider import Variables
from fusewire.ai.providers.openai_compatible import OpenAICompatibleProvider

if TYPE_CHECKING:
    import openai

_V1_NAMES = (None, "v1", "latest", "preview")


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

    def make_client(self) -> "openai.OpenAI":
        import openai

        version = self.settings.variable("AZURE_AI_API_VERSION")
        if version in _V1_NAMES:
            key = self.api_key()
            return openai.OpenAI(base_url=self.base_url(), api_key=key, default_headers={"api-key": key}, max_retries=0)
        endpoint = self.settings.variable("AZURE_AI_ENDPOINT") or ""
        return openai.AzureOpenAI(
            azure_endpoint=endpoint.rstrip("/"), api_key=self.api_key(), api_version=version, max_retries=0
        )

    def base_url(self) -> str:
        endpoint = (self.settings.variable("AZURE_AI_ENDPOINT") or "").rstrip("/")
        return endpoint if urlsplit(endpoint).path else endpoint + "/openai/v1"
