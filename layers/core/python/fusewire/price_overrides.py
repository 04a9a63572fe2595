"""One entry of a price list as a person writes it: `AI_PRICE_OVERRIDES`, or a price that is kept in the database.

The names are genai-prices', but for `cached_input_mtok` (`cache_read_mtok` there). `fusewire.budget.pricing` makes a
price of an entry, and refuses one that leaves out what the known price of the same model has.
"""

from collections.abc import Iterator
from decimal import Decimal
from typing import Annotated, Final, Literal, TypeAlias, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator


def _exact(value: object) -> object:
    # pydantic would take a bool for a number, and a float has already lost what was written.
    if isinstance(value, bool | float):
        raise ValueError(f"a price must be a decimal number, not the {type(value).__name__} {value}")
    return value


# 18 digits leave room for the token counts in Decimal's 28, so that every product and sum is exact.
_MAX_DIGITS: Final = 18
_Mtok: TypeAlias = Annotated[
    Decimal, BeforeValidator(_exact), Field(ge=0, allow_inf_nan=False, max_digits=_MAX_DIGITS, decimal_places=9)
]
_Factor: TypeAlias = Annotated[
    Decimal, BeforeValidator(_exact), Field(gt=0, le=100, allow_inf_nan=False, max_digits=7, decimal_places=4)
]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ContextTier(_Entry):
    """What each token costs in a call whose input is longer than `start` tokens."""

    start: Annotated[int, Field(ge=1, le=10**9)]
    price: _Mtok


class TieredPrice(_Entry):
    """A price that depends on the length of the call's whole input, as genai-prices writes it."""

    base: _Mtok
    tiers: Annotated[tuple[ContextTier, ...], Field(min_length=1, max_length=16)]

    @model_validator(mode="after")
    def _ascending(self) -> "TieredPrice":
        starts = [tier.start for tier in self.tiers]
        if starts != sorted(set(starts)):
            raise ValueError("tiers must begin at ascending starts")
        return self


FLAT: Final = "a number"
TIERED: Final = "an object"
"""pydantic puts these into an error's place, where no field of that name is."""


def _form(value: object) -> str:
    return TIERED if isinstance(value, dict | TieredPrice) else FLAT


Amount: TypeAlias = Annotated[
    Annotated[_Mtok, Tag(FLAT)] | Annotated[TieredPrice, Tag(TIERED)], Field(discriminator=Discriminator(_form))
]

ServiceTier: TypeAlias = Literal["flex", "priority"]
CacheWrites: TypeAlias = Literal["none", "5m", "1h"]
"""The dearest kind of cache write that a call may be billed for."""
SERVICE_TIERS: Final[tuple[ServiceTier, ...]] = get_args(ServiceTier)
"""The tiers that a caller can ask for beside the default one."""


class TokenPrices(_Entry):
    """USD per million tokens by kind of token, or a factor over what is known without this entry.

    Floats are refused: parse JSON with `parse_float=Decimal`.
    """

    input_mtok: Amount | None = None
    output_mtok: Amount | None = None
    cached_input_mtok: Amount | None = None
    """Unset: cached input costs what input costs."""
    cache_write_mtok: Amount | None = None
    """Unset: a cache write costs what input costs, and for a Claude, by its name, Anthropic's multiple of it."""
    cache_write_1h_mtok: Amount | None = None
    """Unset: it costs what a cache write costs, and for a Claude, by its name, Anthropic's multiple of input."""
    input_image_mtok: Amount | None = None
    input_audio_mtok: Amount | None = None
    output_image_mtok: Amount | None = None
    output_audio_mtok: Amount | None = None
    """These kinds don't come apart in a usage: all input, or all output, is booked at the dearest of its kinds."""
    multiply: _Factor | None = None

    @model_validator(mode="after")
    def _prices_or_factor(self) -> "TokenPrices":
        if self._is_free():
            if self.multiply is not None or any(True for _ in self.amounts()):
                raise ValueError("free stands alone, without prices of its own")
        elif self.multiply is None:
            if self.input_mtok is None or self.output_mtok is None:
                raise ValueError("it must have input_mtok and output_mtok, or multiply alone")
        elif any(True for _ in self.amounts()):
            raise ValueError("multiply stands alone, without prices of its own")
        return self

    def _is_free(self) -> bool:
        return False

    def amounts(self) -> Iterator[tuple[str, "Decimal | TieredPrice"]]:
        """The prices that are set, by the names of their fields."""
        for name in TokenPrices.model_fields:
            value: Decimal | TieredPrice | None = getattr(self, name)
            if name != "multiply" and value is not None:
                yield name, value


class PriceOverride(TokenPrices):
    """The price of one model, or of every model of a provider, with those of its service tiers."""

    free: Literal[True] | None = None
    """It costs nothing: a cloud model's price of 0 is said in this word, so that a slip of the pen is no gift."""
    flex: TokenPrices | None = None
    priority: TokenPrices | None = None
    """Either with `multiply`: a factor over this entry's own prices. Unset: callers can't ask for that tier."""

    @model_validator(mode="after")
    def _tiers_of_prices(self) -> "PriceOverride":
        tiers = [tier for tier in (self.flex, self.priority) if tier is not None]
        if self.free and tiers:
            raise ValueError("free stands alone, without service tiers")
        if self.multiply is not None and tiers:
            raise ValueError("multiply stands alone: it holds for the service tiers that are known")
        factors = [tier.multiply for tier in tiers if tier.multiply is not None]
        for _, amount in self.amounts():
            prices = [amount] if isinstance(amount, Decimal) else [amount.base, *(t.price for t in amount.tiers)]
            if any(_digits(price) + _digits(factor) > _MAX_DIGITS for price in prices for factor in factors):
                raise ValueError(f"a price and the factor over it have more than {_MAX_DIGITS} digits together")
        return self

    def _is_free(self) -> bool:
        return self.free is True

    def is_zero(self) -> bool:
        """Whether it says a price of 0 in numbers."""
        return not self.free and self.multiply is None and not any(_costs(a) for _, a in self.amounts())

    def of_tier(self, tier: ServiceTier) -> TokenPrices | None:
        """The prices of a service tier, None where it has none."""
        return self.flex if tier == "flex" else self.priority


def _costs(amount: "Decimal | TieredPrice") -> bool:
    """Whether any of them is more than 0."""
    return bool(amount) if isinstance(amount, Decimal) else any([amount.base, *(tier.price for tier in amount.tiers)])


def _digits(number: Decimal) -> int:
    return len(number.as_tuple().digits)
