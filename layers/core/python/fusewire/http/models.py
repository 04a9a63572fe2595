"""`GET /models`: OpenAI's list of what the caller may ask for, with the prices at which it is booked."""

from collections.abc import Iterable
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import WithJsonSchema

from fusewire.ai.catalogue import Listed, ListedAlias, ListedTier
from fusewire.budget.pricing import PriceSource
from fusewire.http.schema import Money, ResponseModel

_CREATED: Final = 0  # vendors don't say when a deployment was made; OpenAI's SDKs want a number
_Zero = Annotated[int, WithJsonSchema({"const": _CREATED})]


class _Model(ResponseModel):
    id: str
    object: Literal["model"] = "model"
    created: _Zero = _CREATED
    owned_by: str


class TierResponse(_Model):
    """A tier, with its models in the order in which they are tried."""

    kind: Literal["tier"] = "tier"
    served_by: list[str]


class ModelResponse(_Model):
    """A provider's model. `price` is in USD per million tokens, null for one that is refused until it gets one.
    `price_source` says where it comes from, `price_in_full` has its long-context tiers and every kind of token."""

    kind: Literal["chat", "embedding", "chat, embedding"]
    price: dict[str, Money] | None
    price_source: PriceSource | None
    price_in_full: dict[str, Any] | None


class AliasResponse(_Model):
    """A name that the setting `AI_MODEL_ALIASES` gives to a tier or a model."""

    kind: Literal["alias"] = "alias"
    stands_for: str


ListedResponse: TypeAlias = TierResponse | ModelResponse | AliasResponse


class ModelList(ResponseModel):
    """The tiers, then the models, then the aliases."""

    object: Literal["list"] = "list"
    data: list[ListedResponse]


def model_list(listed: Iterable[Listed]) -> ModelList:
    """What `fusewire.ai.catalogue.catalogue` found, as OpenAI's list."""
    return ModelList(data=[model_entry(each) for each in listed])


def model_entry(listed: Listed) -> ListedResponse:
    """One of them, as OpenAI's model."""
    if isinstance(listed, ListedTier):
        return TierResponse(id=listed.tier, owned_by="fusewire", served_by=list(listed.served_by))
    if isinstance(listed, ListedAlias):
        return AliasResponse(id=listed.name, owned_by="fusewire", stands_for=listed.stands_for)
    return ModelResponse(
        id=f"{listed.provider}/{listed.model}",
        owned_by=listed.provider,
        kind=listed.kind,
        price=listed.price,
        price_source=listed.price_source,
        price_in_full=listed.price_in_full,
    )
