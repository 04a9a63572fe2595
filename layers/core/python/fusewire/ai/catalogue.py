"""What a caller can ask for: tiers and models, with the prices that they are booked at."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from fusewire.ai.permissions import EVERYTHING, Permissions
from fusewire.ai.provider import TIERS, AIProvider
from fusewire.ai.registry import Registry
from fusewire.ai.tiers import Tiers
from fusewire.budget.pricing import PriceBook, PriceSource
from fusewire.errors import ModelNotPricedError

Kind = Literal["chat", "embedding", "chat, embedding"]


@dataclass(frozen=True, slots=True)
class ListedTier:
    """A tier that a caller can ask for."""

    tier: str
    served_by: tuple[str, ...]
    """`provider/model`, in the order in which they are tried."""


@dataclass(frozen=True, slots=True)
class ListedAlias:
    """A name that stands for a tier or a model."""

    name: str
    stands_for: str


@dataclass(frozen=True, slots=True)
class ListedModel:
    """A model that a caller can ask for, as `provider/model`."""

    provider: str
    model: str
    kind: Kind
    price: dict[str, Decimal] | None
    """USD per million tokens; None where a model has no price: it is refused until it gets one."""
    price_source: PriceSource | None = None
    price_in_full: dict[str, object] | None = None
    """With the long-context tiers and every kind of token."""


Listed = ListedTier | ListedModel | ListedAlias


def catalogue(
    registry: Registry, tiers: Tiers, prices: PriceBook, permissions: Permissions = EVERYTHING
) -> Iterator[Listed]:
    """The tiers first, then each provider's models, then the aliases of what is listed.

    :param permissions: of the caller's key, which is shown nothing that it would be refused
    """
    listed = list(_tiers_and_models(registry, tiers, prices, permissions))
    yield from listed
    names = {name for each in listed for name in _names(each)}
    yield from (ListedAlias(name, target) for name, target in registry.aliases.items() if target in names)


def find(listed: Iterable[Listed], name: str) -> Listed | None:
    """The one with this name; a model goes by its own too, where no other has that."""
    found = [each for each in listed if name in _names(each)]
    exact = [each for each in found if name == _names(each)[0]]
    return exact[0] if exact else found[0] if len(found) == 1 else None


def _names(listed: Listed) -> tuple[str, ...]:
    if isinstance(listed, ListedModel):
        return f"{listed.provider}/{listed.model}", listed.model
    return (listed.tier if isinstance(listed, ListedTier) else listed.name,)


def _tiers_and_models(
    registry: Registry, tiers: Tiers, prices: PriceBook, permissions: Permissions
) -> Iterator[ListedTier | ListedModel]:
    confidential = permissions.only_confidential
    for tier in TIERS:
        served_by = tuple(
            f"{p.id}/{m}"
            for p in registry.chain
            if tiers.permits(p, confidential=confidential)
            and (m := p.tier_model(tier))
            and permissions.permits_model(tier, p.id, m)
        )
        if served_by:
            yield ListedTier(tier, served_by)
    for provider in registry.configured.values():
        if tiers.permits(provider, confidential=confidential):
            for model, kind in _kinds(provider).items():
                if permissions.permits_model(f"{provider.id}/{model}", provider.id, model):
                    yield ListedModel(provider.id, model, kind, *_price(prices, provider.id, model))


def _kinds(provider: AIProvider) -> Mapping[str, Kind]:
    """The provider's models, and what each is for."""
    kinds: dict[str, Kind] = {model: "chat" for tier in TIERS if (model := provider.tier_model(tier))}
    if (embedding := provider.embedding_model()) is not None:
        kinds[embedding] = "chat, embedding" if embedding in kinds else "embedding"
    return kinds


def _price(
    prices: PriceBook, provider: str, model: str
) -> tuple[dict[str, Decimal] | None, PriceSource | None, dict[str, object] | None]:
    try:
        price = prices.price(provider, model)
    except ModelNotPricedError:
        return None, None, None
    return price.per_mtok(), prices.source(provider, model), price.as_entry()
