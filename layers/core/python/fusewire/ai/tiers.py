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
from fusewire.errors import (
    InvalidRequestError,
    ModelNotFoundError,
    NoEligibleProviderError,
    PermissionDeniedError,
)

Classification = Literal["public", "internal", "confidential"]
CLASSIFICATIONS: Final = get_args(Classification)
"""From the least to the most strictly kept."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a key may ask for; None: everything."""

    models: tuple[str, ...] | None = None
    """Tiers, `provider/model`, `provider/*`, or a model's id."""
    classifications: tuple[str, ...] | None = None

    def permits_model(self, asked: str, provider: str, model: str) -> bool:
        """Whether this model may answer a request that asked for `asked`."""
        return self.models is None or not {asked, model, f"{provider}/{model}", f"{provider}/*"}.isdisjoint(self.models)

    @property
    def only_confidential(self) -> bool:
        """Whether every request under this is confidential."""
        return self.classifications is not None and set(self.classifications) == {"confidential"}


EVERYTHING: Final = Allowance()


def classification_of(header: str | None, allowance: Allowance = EVERYTHING) -> Classification:
    """`x-fusewire-classification`; unset means internal, or the strictest that the key may use instead.

    :raises InvalidRequestError: for any other word, or none: guessing could send secrets to the wrong place
    :raises PermissionDeniedError: for one that the key may not use
    """
    allowed = [c for c in CLASSIFICATIONS if allowance.classifications is None or c in allowance.classifications]
    unset = "internal" if "internal" in allowed or not allowed else allowed[-1]
    word = (unset if header is None else header).strip().lower()
    for known in CLASSIFICATIONS:
        if word == known:
            if known not in allowed:
                raise PermissionDeniedError(
                    f"This API key may not send {known} data; allowed: {', '.join(allowed) or 'none'}.",
                    param="x-fusewire-classification",
                )
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

    def chat(self, model: str, classification: Classification, allowance: Allowance = EVERYTHING) -> Route:
        """Who may serve a chat.

        :raises ModelNotFoundError: unknown model
        :raises NoEligibleProviderError: nobody may serve it
        :raises PermissionDeniedError: the key may not ask for it
        """
        confidential = classification == "confidential"
        if model in TIERS:
            served = [(p, m) for p in self._registry.chain if (m := p.tier_model(model))]
            return Route(self._allowed(served, confidential, model, allowance), model, confidential)
        served = [self._named(model, embedding=False)]
        return Route(self._allowed(served, confidential, model, allowance), None, confidential)

    def downgraded(self, route: Route, allowance: Allowance) -> Route | None:
        """Who takes over a `sota` request while a budget is HALF_OPEN; None where nobody may."""
        if route.tier != "sota":
            return None
        classification: Classification = "confidential" if route.confidential else "internal"
        try:
            return self.chat("cost_effective", classification, allowance)
        except (NoEligibleProviderError, PermissionDeniedError):
            return None

    def embedding(self, model: str, classification: Classification, allowance: Allowance = EVERYTHING) -> Route:
        """As `chat`, but a tier means the first provider that embeds, without fallback: vectors of different models
        can't be compared, so another provider's answer would be worse than none."""
        confidential = classification == "confidential"
        if model in TIERS:
            served = [(p, m) for p in self._registry.chain if (m := p.embedding_model())]
            return Route(self._allowed(served, confidential, model, allowance)[:1], model, confidential)
        served = [self._named(model, embedding=True)]
        return Route(self._allowed(served, confidential, model, allowance), None, confidential)

    def permits(self, provider: AIProvider, *, confidential: bool = False) -> bool:
        """Whether `AI_MODE` and the classification let this provider see a request."""
        if self._mode == "local" or confidential:
            return provider.local and self._mode != "cloud"
        return self._mode == "hybrid" or not provider.local

    def _allowed(
        self, served: Iterable[tuple[AIProvider, str]], confidential: bool, model: str, allowance: Allowance
    ) -> tuple[tuple[AIProvider, str], ...]:
        allowed = tuple((p, m) for p, m in served if self.permits(p, confidential=confidential))
        if not allowed:
            data = "confidential data" if confidential else f"model {model[:80]!r}"
            raise NoEligibleProviderError(
                f"AI_MODE={self._mode} leaves no configured provider that may serve {data}. "
                "See GET /api/v1/admin/providers for what is missing."
            )
        granted = tuple((p, m) for p, m in allowed if allowance.permits_model(model, p.id, m))
        if not granted:
            raise PermissionDeniedError(
                f"This API key may not use the model {model[:80]!r}; allowed: {', '.join(allowance.models or ())}.",
                param="model",
            )
        return granted

    def _named(self, model: str, *, embedding: bool) -> tuple[AIProvider, str]:
        configured = self._registry.configured
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
