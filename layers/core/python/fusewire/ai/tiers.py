"""From a `model` field to the providers that may serve it, in order.

`model` is `sota` or `cost_effective` (the chain), `provider/model` (pinned: no fallback), or the id of a model that
exactly one configured provider serves. `AI_MODE` and the request's classification narrow that; nothing widens it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, get_args

from fusewire.ai.provider import TIERS, AIProvider
from fusewire.ai.registry import Registry
from fusewire.config import Settings
from fusewire.errors import InvalidRequestError, ModelNotFoundError, NoEligibleProviderError

Classification = Literal["public", "internal", "confidential"]
CLASSIFICATIONS: Final = get_args(Classification)


def classification_of(header: str | None) -> Classification:
    """`x-fusewire-classification`; unset means internal.

    :raises InvalidRequestError: for any other word: guessing could send secrets to the wrong place
    """
    word = (header or "internal").strip().lower()
    for known in CLASSIFICATIONS:
        if word == known:
            return known  # type: ignore[no-any-return]
    raise InvalidRequestError(
        f"x-fusewire-classification must be one of {', '.join(CLASSIFICATIONS)}, not {word[:40]!r}.",
        param="x-fusewire-classification",
    )


@dataclass(frozen=True, slots=True)
class Route:
    """Who may serve a call, in order: (provider, its model)."""

    choices: tuple[tuple[AIProvider, str], ...]
    tier: str | None
    """Set where a tier was asked for; None where a model was."""
    confidential: bool


class Tiers:
    """Resolves models under these settings."""

    def __init__(self, settings: Settings, registry: Registry) -> None:
        self._mode = settings.ai_mode
        self._registry = registry

    def chat(self, model: str, classification: Classification) -> Route:
        """:raises ModelNotFoundError: unknown model; :raises NoEligibleProviderError: nobody may serve it"""
        confidential = classification == "confidential"
        if model in TIERS:
            served = [(p, m) for p in self._registry.chain() if (m := p.tier_model(model))]
            return Route(self._allowed(served, confidential, model), model, confidential)
        return Route(self._allowed([self._named(model, embedding=False)], confidential, model), None, confidential)

    def embedding(self, model: str, classification: Classification) -> Route:
        """As `chat`, but a tier means the first provider that embeds, without fallback: vectors of different models
        can't be compared, so another provider's answer would be worse than none."""
        confidential = classification == "confidential"
        if model in TIERS:
            served = [(p, m) for p in self._registry.chain() if (m := p.embedding_model())]
            return Route(self._allowed(served, confidential, model)[:1], model, confidential)
        return Route(self._allowed([self._named(model, embedding=True)], confidential, model), None, confidential)

    def permits(self, provider: AIProvider, *, confidential: bool = False) -> bool:
        """Whether `AI_MODE` and the classification let this provider see a request."""
        if self._mode == "local" or confidential:
            return provider.local and self._mode != "cloud"
        return self._mode == "hybrid" or not provider.local

    def _allowed(
        self, served: Iterable[tuple[AIProvider, str]], confidential: bool, model: str
    ) -> tuple[tuple[AIProvider, str], ...]:
        allowed = tuple((p, m) for p, m in served if self.permits(p, confidential=confidential))
        if not allowed:
            data = "confidential data" if confidential else f"model {model[:80]!r}"
            raise NoEligibleProviderError(
                f"AI_MODE={self._mode} leaves no configured provider that may serve {data}. "
                "See GET /api/v1/admin/providers for what is missing."
            )
        return allowed

    def _named(self, model: str, *, embedding: bool) -> tuple[AIProvider, str]:
        configured = self._registry.configured()
        prefix, _, rest = model.partition("/")
        if rest and prefix in self._registry.ids():
            if prefix in configured:
                return configured[prefix], rest
            missing = ", ".join(self._registry.get(prefix).missing())
            raise ModelNotFoundError(f"The provider {prefix} isn't configured; missing: {missing}.", param="model")
        serving = [p for p in configured.values() if model in _models(p, embedding=embedding)]
        if len(serving) == 1:
            return serving[0], model
        if serving:
            names = " or ".join(f"{p.id}/{model}" for p in serving)
            raise ModelNotFoundError(f"More than one provider serves {model[:80]!r}: ask for {names}.", param="model")
        raise ModelNotFoundError(
            f"There is no model {model[:80]!r}. Use sota, cost_effective, provider/model, or an id that "
            "GET /api/v1/models lists.",
            param="model",
        )


def _models(provider: AIProvider, *, embedding: bool) -> set[str | None]:
    return {provider.embedding_model()} if embedding else {provider.tier_model(tier) for tier in TIERS}
