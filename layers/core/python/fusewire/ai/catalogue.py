"""What a caller can ask for: tiers and models, with the prices that they are booked at."""

from decimal import Decimal
from typing import Final

from fusewire.ai.provider import TIERS, AIProvider
from fusewire.ai.registry import Registry
from fusewire.ai.tiers import EVERYTHING, Allowance, Tiers
from fusewire.budget.pricing import PriceBook
from fusewire.errors import ModelNotPricedError

_CREATED: Final = 0  # nobody tells when a deployment was made; OpenAI's SDKs want a number


def models(
    registry: Registry, tiers: Tiers, prices: PriceBook, allowance: Allowance = EVERYTHING
) -> list[dict[str, object]]:
    """OpenAI's model objects: the tiers first, each with its providers in the order in which they are tried.

    `price` is in USD per million tokens, null where a model has none (it is refused until it gets one).

    :param allowance: of the caller's key, which is shown nothing that it would be refused
    """
    confidential = allowance.only_confidential
    listed: list[dict[str, object]] = []
    for tier in TIERS:
        serving = [
            f"{p.id}/{m}"
            for p in registry.chain
            if tiers.permits(p, confidential=confidential)
            and (m := p.tier_model(tier))
            and allowance.permits_model(tier, p.id, m)
        ]
        if serving:
            listed.append(_model(tier, "fusewire", {"kind": "tier", "served_by": serving}))
    for provider in registry.configured.values():
        if tiers.permits(provider, confidential=confidential):
            listed += _models_of(provider, prices, allowance)
    return listed


def _models_of(provider: AIProvider, prices: PriceBook, allowance: Allowance) -> list[dict[str, object]]:
    chat = dict.fromkeys(m for tier in TIERS if (m := provider.tier_model(tier)))
    kinds = {m: "chat" for m in chat}
    if (embedding := provider.embedding_model()) is not None:
        kinds[embedding] = "chat, embedding" if embedding in kinds else "embedding"
    return [
        _model(f"{provider.id}/{m}", provider.id, {"kind": kind, "price": _price(prices, provider.id, m)})
        for m, kind in kinds.items()
        if allowance.permits_model(f"{provider.id}/{m}", provider.id, m)
    ]


def _model(name: str, owner: str, more: dict[str, object]) -> dict[str, object]:
    return {"id": name, "object": "model", "created": _CREATED, "owned_by": owner, **more}


def _price(prices: PriceBook, provider: str, model: str) -> dict[str, Decimal] | None:
    try:
        return prices.price(provider, model).per_mtok()
    except ModelNotPricedError:
        return None
