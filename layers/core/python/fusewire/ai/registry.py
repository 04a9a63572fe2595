"""Which providers there are. Adding one: a file in `fusewire/ai/providers/` and a line here.

A factory imports its provider's module when it is called, and that module imports its SDK when it is used: a cold start
pays for the providers that are configured, and for the SDK of the one that answers.
"""

from collections.abc import Callable
from functools import cached_property
from importlib import import_module
from typing import Final, cast

from fusewire.ai.provider import AIProvider
from fusewire.config import VENDORS, ConfigurationError, Settings

Factory = Callable[[Settings], AIProvider]


def _in(module: str, name: str) -> Factory:
    def make(settings: Settings) -> AIProvider:
        return cast(Factory, getattr(import_module(module), name))(settings)

    return make


_PROVIDER_FACTORIES: Final[dict[str, Factory]] = {
    "azure": _in("fusewire.ai.providers.azure", "AzureProvider"),
    "aws": _in("fusewire.ai.providers.aws", "AwsProvider"),
    "gcp": _in("fusewire.ai.providers.gcp", "GcpProvider"),
    "openai": _in("fusewire.ai.providers.openai", "OpenAIProvider"),
    "anthropic": _in("fusewire.ai.providers.anthropic", "AnthropicProvider"),
    "ollama": _in("fusewire.ai.providers.ollama", "OllamaProvider"),
    "vllm": _in("fusewire.ai.providers.vllm", "VllmProvider"),
}


class Registry:
    """The providers of these settings, made when first asked for."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._made: dict[str, AIProvider] = {}
        known = dict.fromkeys((*_PROVIDER_FACTORIES, *VENDORS))
        for variable, names in (
            ("AI_DEFAULT_PROVIDER", (settings.ai_default_provider,)),
            ("AI_FALLBACK_CHAIN", settings.ai_fallback_chain),
        ):
            for name in filter(None, names):
                if name not in known:
                    raise ConfigurationError(f"{variable}: {name!r} is no provider; allowed: {', '.join(known)}.")

    def ids(self) -> tuple[str, ...]:
        """Every known provider, configured or not."""
        return tuple(_PROVIDER_FACTORIES)

    def get(self, name: str) -> AIProvider:
        """:raises KeyError: for a name that isn't registered"""
        if name not in self._made:
            self._made[name] = _PROVIDER_FACTORIES[name](self._settings)
        return self._made[name]

    @cached_property
    def configured(self) -> dict[str, AIProvider]:
        """The providers whose settings are complete, by id."""
        return {name: self.get(name) for name in self.ids() if not self.get(name).missing()}

    @cached_property
    def chain(self) -> tuple[AIProvider, ...]:
        """The configured providers in the order in which tiers try them.

        `AI_DEFAULT_PROVIDER`, then `AI_FALLBACK_CHAIN`; where no chain is set, whatever else is configured comes last.
        """
        configured = self.configured
        order = [self._settings.ai_default_provider, *self._settings.ai_fallback_chain]
        if "ai_fallback_chain" not in self._settings.model_fields_set:
            order += configured
        return tuple(configured[name] for name in dict.fromkeys(order) if name in configured)
