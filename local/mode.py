"""Which providers `make run` may ask: `AI_MODE`, or what follows from the keys that are there."""

from collections.abc import Mapping
from dataclasses import dataclass

from fusewire.ai.provider import AIProvider
from fusewire.ai.registry import Registry
from fusewire.config import Settings, load_settings
from fusewire.services import Services, assemble
from local import StartError


@dataclass(frozen=True, slots=True)
class Mode:
    """`name` is a value of `AI_MODE`; `why` says in half a sentence where it comes from."""

    name: str
    why: str


def mode_of(variables: Mapping[str, str]) -> Mode:
    """As it is set, or else `local` while no cloud provider is configured, and `cloud` once one is.

    :raises ConfigurationError: for a setting that can't be used
    """
    if given := variables.get("AI_MODE"):
        return Mode(given.strip(), "as AI_MODE says")
    # In this mode nothing is kept out, so that every provider can be looked at.
    settings = load_settings({**variables, "AI_MODE": "hybrid"})
    clouds = [p.id for p in Registry(settings).configured.values() if not p.local]
    if clouds:
        verb = "is" if len(clouds) == 1 else "are"
        return Mode("cloud", f"AI_MODE is unset, and {', '.join(clouds)} {verb} configured")
    if settings.fusewire_secret_arns:
        return Mode("cloud", "AI_MODE is unset, and FUSEWIRE_SECRET_ARNS brings the keys")
    return Mode("local", "AI_MODE is unset, and no cloud provider is configured")


def wants_stand_in(variables: Mapping[str, str], mode: Mode) -> bool:
    """Whether the embedded model stands in for Ollama: in local mode, where no local provider is named at all."""
    if mode.name != "local":
        return False
    registry = Registry(_settings(variables, mode))
    local = (p for p in map(registry.get, registry.ids()) if p.local)
    return not any(name in variables for p in local for name in _meant_by(p))


def assembled(variables: Mapping[str, str], mode: Mode) -> Services:
    """The core under these variables, which somebody may be asked with.

    :raises ConfigurationError: for a setting that can't be used
    :raises StartError: where the mode leaves no configured provider
    """
    core = assemble(_settings(variables, mode))
    if core.settings.fusewire_secret_arns:
        return core  # whom they bring keys for is known once they are read
    if not any(map(core.tiers.permits, core.registry.configured.values())):
        raise StartError(_nobody(core, mode))
    return core


def _settings(variables: Mapping[str, str], mode: Mode) -> Settings:
    return load_settings({**variables, "AI_MODE": mode.name})


def _nobody(core: Services, mode: Mode) -> str:
    kept_out = ", ".join(core.registry.configured)
    begun = [
        f"{p.id} lacks {', '.join(p.missing())}"
        for p in map(core.registry.get, core.registry.ids())
        if p.missing() and core.tiers.permits(p) and _is_begun(p)
    ]
    message = (
        f"AI_MODE={mode.name} leaves nobody to ask: no {'local' if mode.name == 'local' else 'cloud'} provider is "
    )
    if mode.name == "hybrid":
        message = "Nobody can be asked: no provider is "
    message += "configured" + (f" ({'; '.join(begun)})" if begun else "")
    message += f", and {kept_out} may not be asked in it. " if kept_out else ". "
    if mode.name == "local":
        return message + "Set OLLAMA_BASE_URL and OLLAMA_SOTA_MODEL, or VLLM_BASE_URL and VLLM_MODEL, or none of them."
    return (
        message + "Set OPENAI_API_KEY or ANTHROPIC_API_KEY in .env, or another provider's variables, or AI_MODE=local."
    )


def _is_begun(provider: AIProvider) -> bool:
    """Whether the settings name it at all."""
    return any(map(provider.settings.variable, _meant_by(provider)))


def _meant_by(provider: AIProvider) -> tuple[str, ...]:
    """The variables that say that somebody wants this provider: a region or a key may be there for other tools."""
    v = provider.variables
    return tuple(filter(None, (v.endpoint, v.sota, v.cost_effective, v.embedding)))
