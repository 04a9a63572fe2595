"""Which providers there are. Adding one: a file in `fusewire/ai/providers/` and a line here.

A factory imports its provider's module when it is called, and that module imports its SDK when it is used: a cold start
pays for the providers that are configured, and for the SDK of the one that answers.
"""

from collections.abc import Callable
from functools import cached_property
from importlib import import_module
from typing import Final, cast

from fusewire.ai.provider import TIERS, AIProvider
from fusewire.config import ConfigurationError, Settings

Factory = Callable[[Settings], AIProvider]


def _in(module: str, name: str) -> Factory:
    def make(settings: Settings) -> AIProvider:
        return cast(Factory, getattr(import_module(module), name))(settings)

    return make


_PROVIDER_FACTORIES: Final[dict[str, Factory]] = {
    "azure": _in("fusewire.ai.providers.azure", "AzureProvider"),
    "aws": _in("fusewire.ai.providers.bedrock.provider", "AwsProvider"),
    "gcp": _in("fusewire.ai.providers.vertex.provider", "GcpProvider"),
    "openai": _in("fusewire.ai.providers.openai", "OpenAIProvider"),
    "anthropic": _in("fusewire.ai.providers.anthropic.provider", "AnthropicProvider"),
    "ollama": _in("fusewire.ai.providers.ollama", "OllamaProvider"),
    "vllm": _in("fusewire.ai.providers.vllm", "VllmProvider"),
}

_PREFIXES: Final = {"aws": "AWS_BEDROCK_"}
"""What a provider's variables begin with where it isn't its id: Lambda itself sets others that begin with AWS_."""


class Registry:
    """The providers of these settings, made when first asked for."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._made: dict[str, AIProvider] = {}
        for variable, names in (
            ("AI_DEFAULT_PROVIDER", (settings.ai_default_provider,)),
            ("AI_FALLBACK_CHAIN", settings.ai_fallback_chain),
        ):
            for name in filter(None, names):
                if name not in _PROVIDER_FACTORIES:
                    known = ", ".join(_PROVIDER_FACTORIES)
                    raise ConfigurationError(f"{variable}: {name!r} is no provider; allowed: {known}.")

        self.aliases = settings.ai_model_aliases
        for alias, target in self.aliases.items():
            if not alias.strip("*") or alias in TIERS or not target or target in self.aliases:
                raise ConfigurationError(
                    f"AI_MODEL_ALIASES: {alias!r} can't stand for {target!r}: a name, which isn't a tier's, stands for "
                    "a tier, a model or provider/model, and for no other alias."
                )

    def alias_of(self, name: str) -> str | None:
        """What a name stands for; None where it is no alias. Of several that cover it, the longest counts."""
        if (exact := self.aliases.get(name)) is not None:
            return exact
        covering = [each for each in self.aliases if each.endswith("*") and name.startswith(each[:-1])]
        return self.aliases[max(covering, key=len)] if covering else None

    def ids(self) -> tuple[str, ...]:
        """Every known provider, configured or not."""
        return tuple(_PROVIDER_FACTORIES)

    def get(self, name: str) -> AIProvider:
        """:raises KeyError: for a name that isn't registered"""
        if name not in self._made:
            self._made[name] = _PROVIDER_FACTORIES[name](self._settings)
        return self._made[name]

    @cached_property
    def mentioned(self) -> tuple[AIProvider, ...]:
        """The providers of which a variable is set. A cold start doesn't import the others."""
        variables = self._settings.environment
        prefixes = {name: _PREFIXES.get(name, f"{name.upper()}_") for name in self.ids()}
        return tuple(
            self.get(name) for name, prefix in prefixes.items() if any(v.startswith(prefix) for v in variables)
        )

    @cached_property
    def configured(self) -> dict[str, AIProvider]:
        """The providers whose settings are complete, by id."""
        return {provider.id: provider for provider in self.mentioned if not provider.missing()}

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
