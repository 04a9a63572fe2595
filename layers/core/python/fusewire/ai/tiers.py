"""From a `model` field to the providers that may serve it, in order.

`AI_MODEL_ALIASES` says first what a name stands for. Then `model` is `sota` or `cost_effective` (the chain),
`provider/model` (pinned: no fallback), or the id of a model that exactly one configured provider serves. `AI_MODE` and
the request's classification narrow that; nothing widens it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from fusewire.ai.permissions import EVERYTHING, Classification, Permissions
from fusewire.ai.provider import TIERS, AIProvider, Target
from fusewire.ai.registry import Registry
from fusewire.config import Settings
from fusewire.errors import (
    ModelNotFoundError,
    NoEligibleProviderError,
    PermissionDeniedError,
)


@dataclass(frozen=True, slots=True)
class Route:
    """Who may serve a call, in order."""

    targets: tuple[Target, ...]
    tier: str | None
    """Set where a tier was asked for; None where a model was."""
    confidential: bool


class Tiers:
    """Resolves models under these settings."""

    def __init__(self, settings: Settings, registry: Registry) -> None:
        self._mode = settings.ai_mode
        self._registry = registry

    def chat(self, model: str, classification: Classification, permissions: Permissions = EVERYTHING) -> Route:
        """Who may serve a chat.

        :raises ModelNotFoundError: unknown model
        :raises NoEligibleProviderError: nobody may serve it
        :raises PermissionDeniedError: the key may not ask for it
        """
        confidential = classification == "confidential"
        model = self._registry.alias_of(model) or model
        if model in TIERS:
            served = [Target(p, m) for p in self._registry.chain if (m := p.tier_model(model))]
            return Route(self._allowed(served, confidential, model, permissions), model, confidential)
        served = [self._named(model, permissions, confidential=confidential, embedding=False)]
        return Route(self._allowed(served, confidential, model, permissions), None, confidential)

    def downgraded(self, route: Route, permissions: Permissions) -> Route | None:
        """Who takes over a `sota` request while a budget is HALF_OPEN; None where nobody may."""
        if route.tier != "sota":
            return None
        classification: Classification = "confidential" if route.confidential else "internal"
        try:
            return self.chat("cost_effective", classification, permissions)
        except (NoEligibleProviderError, PermissionDeniedError):
            return None

    def embedding(self, model: str, classification: Classification, permissions: Permissions = EVERYTHING) -> Route:
        """As `chat`, but a tier means the first provider that embeds, without fallback: vectors of different models
        can't be compared, so another provider's answer would be worse than none."""
        confidential = classification == "confidential"
        model = self._registry.alias_of(model) or model
        if model in TIERS:
            served = [Target(p, m) for p in self._registry.chain if (m := p.embedding_model())]
            allowed = self._allowed(served, confidential, model, permissions, embedding=True)
            return Route(allowed[:1], model, confidential)
        served = [self._named(model, permissions, confidential=confidential, embedding=True)]
        return Route(self._allowed(served, confidential, model, permissions, embedding=True), None, confidential)

    def permits(self, provider: AIProvider, *, confidential: bool = False) -> bool:
        """Whether `AI_MODE` and the classification let this provider see a request."""
        if self._mode == "local" or confidential:
            return provider.local and self._mode != "cloud"
        return self._mode == "hybrid" or not provider.local

    def offered(
        self, permissions: Permissions = EVERYTHING, *, confidential: bool = False, embedding: bool = False
    ) -> list[str]:
        """What may be asked for under these permissions: the tiers that somebody serves, then `provider/model`."""
        permitted = [p for p in self._registry.configured.values() if self.permits(p, confidential=confidential)]
        tiers = [
            tier
            for tier in TIERS
            for p in self._registry.chain
            if p in permitted and (m := _of_tier(p, tier, embedding)) and permissions.permits_model(tier, p.id, m)
        ]
        models = [
            f"{p.id}/{m}"
            for p in permitted
            for m in _models(p, embedding=embedding)
            if permissions.permits_model(f"{p.id}/{m}", p.id, m)
        ]
        return list(dict.fromkeys((*tiers, *models)))

    def _allowed(
        self,
        served: Sequence[Target],
        confidential: bool,
        model: str,
        permissions: Permissions,
        *,
        embedding: bool = False,
    ) -> tuple[Target, ...]:
        allowed = tuple(target for target in served if self.permits(target.provider, confidential=confidential))
        if not allowed:
            data = "confidential data" if confidential else f"model {model[:80]!r}"
            sentences = [f"No provider that is in use may serve {data}."]
            if permissions.sees_settings:
                sentences += self._kept_out([p for p, _ in served], model, confidential, embedding)
            sentences.append(_available(self.offered(permissions, confidential=confidential, embedding=embedding)))
            raise NoEligibleProviderError(" ".join(sentences))
        granted = tuple(
            target for target in allowed if permissions.permits_model(model, target.provider.id, target.model)
        )
        if not granted:
            raise PermissionDeniedError(
                f"This API key may not use the model {model[:80]!r}; allowed: {', '.join(permissions.models or ())}.",
                param="model",
            )
        return granted

    def _kept_out(self, served: Sequence[AIProvider], model: str, confidential: bool, embedding: bool) -> Iterator[str]:
        """Which settings keep configured providers from this model, for whoever may change them."""
        names = ", ".join(p.id for p in served)
        if confidential and self._mode != "local":
            yield f"Confidential data goes to local providers alone, in AI_MODE=hybrid or local (it is {self._mode})."
        elif served:
            yield f"AI_MODE={self._mode} keeps {names} out, which {'are' if served[1:] else 'is'} configured."
        chained = self._registry.chain
        beside = [
            p
            for p in self._registry.configured.values()
            if model in TIERS and p not in chained and _of_tier(p, model, embedding)
        ]
        if beside:
            yield f"AI_FALLBACK_CHAIN leaves {', '.join(p.id for p in beside)} out."
        yield "GET /api/v1/admin/providers says what each one lacks."

    def _named(self, model: str, permissions: Permissions, *, confidential: bool, embedding: bool) -> Target:
        configured = self._registry.configured
        prefix, _, rest = model.partition("/")
        is_pinned = bool(rest) and prefix in self._registry.ids()
        if is_pinned and prefix in configured and configured[prefix].is_model_name(rest, embedding=embedding):
            return Target(configured[prefix], rest)
        serving = [p for p in configured.values() if not is_pinned and model in _models(p, embedding=embedding)]
        if len(serving) == 1:
            return Target(serving[0], model)
        raise self._no_single(model, serving, permissions, confidential=confidential, embedding=embedding)

    def _no_single(
        self,
        model: str,
        serving: Sequence[AIProvider],
        permissions: Permissions,
        *,
        confidential: bool,
        embedding: bool,
    ) -> ModelNotFoundError:
        """For a model that nobody serves, or more than one."""
        offered = self.offered(permissions, confidential=confidential, embedding=embedding)
        prefix, _, rest = model.partition("/")
        is_pinned = bool(rest) and prefix in self._registry.ids()
        if is_pinned and prefix in self._registry.configured:
            message = f"{prefix} can have no model of the name {rest[:80]!r}."
        elif is_pinned and permissions.sees_settings:
            missing = ", ".join(self._registry.get(prefix).missing())
            message = f"The provider {prefix} isn't configured; missing: {missing}."
        elif names := [name for p in serving if (name := f"{p.id}/{model}") in offered]:
            message = f"More than one provider serves {model[:80]!r}: ask for {' or '.join(names)}."
        else:
            return self._unknown(model, offered, permissions)
        return ModelNotFoundError(f"{message} {_available(offered)}", param="model")

    def not_found(self, model: str, permissions: Permissions) -> ModelNotFoundError:
        """For a name that is in nobody's list."""
        names = (*self.offered(permissions), *self.offered(permissions, embedding=True))
        return self._unknown(model, list(dict.fromkeys(names)), permissions)

    def _unknown(self, model: str, offered: Sequence[str], permissions: Permissions) -> ModelNotFoundError:
        sentences = [f"There is no model {model[:80]!r}.", _available(offered)]
        if permissions.sees_settings:
            out = [p.id for p in self._registry.configured.values() if not self.permits(p)]
            if out:
                are = "are" if out[1:] else "is"
                sentences.append(f"AI_MODE={self._mode} keeps {', '.join(out)} out, which {are} configured.")
            sentences.append("AI_MODEL_ALIASES says what a client's name for a model stands for.")
        return ModelNotFoundError(" ".join(sentences), param="model")


_MAX_NAMED: Final = 10


def _available(offered: Sequence[str]) -> str:
    """A sentence that names what may be asked for, so many names at most."""
    if not offered:
        return "No model is available for this call."
    more = len(offered) - _MAX_NAMED
    others = f" and {more} more, which GET /api/v1/models lists" if more > 0 else ""
    return f"Available: {', '.join(offered[:_MAX_NAMED])}{others}."


def _of_tier(provider: AIProvider, tier: str, embedding: bool) -> str | None:
    return provider.embedding_model() if embedding else provider.tier_model(tier)


def _models(provider: AIProvider, *, embedding: bool) -> list[str]:
    """Those that it is configured with, each once."""
    named = [provider.embedding_model()] if embedding else [provider.tier_model(tier) for tier in TIERS]
    return [model for model in dict.fromkeys(named) if model]
