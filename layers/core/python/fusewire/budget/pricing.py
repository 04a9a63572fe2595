"""What a model's tokens cost, and the most that a call can cost.

Prices come from, in this order: `AI_PRICE_OVERRIDES` for `provider/model`, then for `provider/*`; what
`AI_PRICE_ALIASES` names; zero for a local provider; and `prices.json`, a snapshot of genai-prices' data (see
`scripts/snapshot_prices.py`). The snapshot is read when a question first needs it, not at a cold start.

All prices are USD per million tokens, all amounts USD. Every number is a Decimal and every result is exact.
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import cache, lru_cache
from pathlib import Path
from typing import Annotated, Final, NotRequired, TypeAlias, TypedDict, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from fusewire.errors import ModelNotPricedError

_SNAPSHOT: Final = Path(__file__).with_name("prices.json")

_PRICE_CHANGE_HORIZON: Final = timedelta(days=2)
"""A bound covers prices that start this soon: a reservation lives a day at most, and may settle later."""


@dataclass(frozen=True, slots=True)
class TokenCounts:
    """One call's tokens. Parts that exceed their whole are a misread usage: ValueError."""

    input_tokens: int
    """All input, including `cached_input_tokens` and `cache_write_tokens`."""
    output_tokens: int
    """All output, including reasoning."""
    cached_input_tokens: int = 0
    cache_write_tokens: int = 0
    """All cache writes, of 5 minutes and of 1 hour."""
    cache_write_1h_tokens: int = 0
    """The part of `cache_write_tokens` that is kept for an hour."""

    def __post_init__(self) -> None:
        least = min(self.output_tokens, self.cached_input_tokens, self.cache_write_tokens, self.cache_write_1h_tokens)
        if least < 0:
            raise ValueError(f"token counts can't be negative: {self}")
        if self.cached_input_tokens + self.cache_write_tokens > self.input_tokens:
            raise ValueError(f"input_tokens must include the cached and the cache-write tokens: {self}")
        if self.cache_write_1h_tokens > self.cache_write_tokens:
            raise ValueError(f"cache_write_tokens must include the 1-hour cache writes: {self}")


@dataclass(frozen=True, slots=True)
class _Rate:
    """USD per million tokens, with the long-context tiers as (start, rate), ascending.

    The tier follows the call's whole input and is a cliff: with more than `start` input tokens, each of the
    tokens that this rate is for (output too) costs the tier's rate. That is how genai-prices defines it.
    """

    base: Decimal
    tiers: tuple[tuple[int, Decimal], ...] = ()

    def at(self, input_tokens: int) -> Decimal:
        for start, rate in reversed(self.tiers):
            if input_tokens > start:
                return rate
        return self.base

    def dearest(self, input_tokens: int) -> Decimal:
        """The highest rate that a call with at most `input_tokens` of input can meet."""
        return max([self.base, *(rate for start, rate in self.tiers if input_tokens > start)])

    def times(self, factor: Decimal) -> "_Rate":
        return _Rate(self.base * factor, tuple((start, rate * factor) for start, rate in self.tiers))


@dataclass(frozen=True, slots=True)
class _Rates:
    """One set of a model's rates and when it applies. Cached input without its own rate is plain input."""

    input: _Rate
    output: _Rate
    cached_input: _Rate | None = None
    cache_write: _Rate | None = None
    cache_write_1h: _Rate | None = None
    starts_on: date | None = None
    """The UTC day from which on it applies."""
    daily: tuple[time, time] | None = None
    """The UTC times of the day from and until which it applies; it may span midnight."""

    def is_active(self, at: datetime) -> bool:
        if self.starts_on is not None:
            return at.date() >= self.starts_on
        if self.daily is not None:
            start, end = self.daily
            now = at.time()
            return start <= now < end if start <= end else now >= start or now < end
        return True

    def cost(self, counts: TokenCounts) -> Decimal:
        size = counts.input_tokens
        write = self.cache_write or self.input
        plain = size - counts.cached_input_tokens - counts.cache_write_tokens
        total = plain * self.input.at(size) + counts.output_tokens * self.output.at(size)
        if counts.cached_input_tokens:
            total += counts.cached_input_tokens * (self.cached_input or self.input).at(size)
        if counts.cache_write_tokens:
            total += (counts.cache_write_tokens - counts.cache_write_1h_tokens) * write.at(size)
            total += counts.cache_write_1h_tokens * (self.cache_write_1h or write).at(size)
        return total.scaleb(-6)

    def bound(self, input_tokens: int, output_tokens: int) -> Decimal:
        kinds = (self.input, self.cached_input, self.cache_write, self.cache_write_1h)
        dearest_input = max(rate.dearest(input_tokens) for rate in kinds if rate is not None)
        return (input_tokens * dearest_input + output_tokens * self.output.dearest(input_tokens)).scaleb(-6)


@dataclass(frozen=True, slots=True)
class Price:
    """One model's price. Dates and hours are looked at when a question is asked, so a Price may be kept."""

    rates: tuple[_Rates, ...]
    """As genai-prices orders them: the last one that is active counts; if none is, the first."""

    def cost(self, counts: TokenCounts, *, at: datetime | None = None) -> Decimal:
        """The exact cost in USD of a call made now, or `at` a time with a zone."""
        return self._active(at).cost(counts)

    def bound(self, input_tokens: int, output_tokens: int, *, at: datetime | None = None) -> Decimal:
        """The most in USD that a call with at most these tokens can cost.

        Every input token at the dearest of input, cached input and cache writes (1-hour writes too), every
        output token at the output rate, each in the dearest long-context tier that the input can reach, at
        any time of the day, and at any price that starts within `_PRICE_CHANGE_HORIZON`.
        """
        return max(rates.bound(input_tokens, output_tokens) for rates in self._possible(at))

    def per_mtok(self, *, at: datetime | None = None) -> dict[str, Decimal]:
        """What `GET /models` shows: USD per million tokens, below any long-context tier."""
        rates = self._active(at)
        shown = {
            "input_mtok": rates.input,
            "output_mtok": rates.output,
            "cached_input_mtok": rates.cached_input,
            "cache_write_mtok": rates.cache_write,
        }
        return {name: rate.base for name, rate in shown.items() if rate is not None}

    def _active(self, at: datetime | None) -> _Rates:
        if len(self.rates) == 1:
            return self.rates[0]
        now = _utc(at)
        return next((rates for rates in reversed(self.rates) if rates.is_active(now)), self.rates[0])

    def _possible(self, at: datetime | None) -> Iterator[_Rates]:
        """Every set of rates that may be the active one between now and the horizon."""
        if len(self.rates) > 1:
            now = _utc(at)
            for rates in reversed(self.rates):
                if rates.daily is not None or rates.is_active(now + _PRICE_CHANGE_HORIZON):
                    yield rates
                if rates.daily is None and rates.is_active(now):
                    return  # it applies at any time from now on, so it hides whatever stands before it
        yield self.rates[0]


def _utc(at: datetime | None) -> datetime:
    return datetime.now(UTC) if at is None else at.astimezone(UTC)


def _exact(value: object) -> object:
    # pydantic would take a bool for a number, and a float has already lost what was written.
    if isinstance(value, bool | float):
        raise ValueError(f"a price must be a decimal number, not the {type(value).__name__} {value}")
    return value


# 18 digits leave room for the token counts in Decimal's 28, so that every product and sum is exact.
_Mtok: TypeAlias = Annotated[
    Decimal, BeforeValidator(_exact), Field(ge=0, allow_inf_nan=False, max_digits=18, decimal_places=9)
]


class PriceOverride(BaseModel):
    """An operator's USD per million tokens. Floats are refused: parse JSON with `parse_float=Decimal`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input_mtok: _Mtok
    output_mtok: _Mtok
    cached_input_mtok: _Mtok | None = None
    """Unset: cached input costs what input costs."""
    cache_write_mtok: _Mtok | None = None
    """Unset: a cache write costs what input costs, and for a Claude, by its name, Anthropic's multiple of it."""


_FREE: Final = Price((_Rates(_Rate(Decimal(0)), _Rate(Decimal(0))),))


class PriceBook:
    """Every price that this gateway can know."""

    def __init__(
        self,
        *,
        overrides: Mapping[str, PriceOverride],
        aliases: Mapping[str, str],
        local_providers: Collection[str],
    ) -> None:
        self._overrides = dict(overrides)
        self._aliases = dict(aliases)
        self._local = frozenset(local_providers)
        # Bounded, since a match clause can cover any number of names.
        self._cached = lru_cache(maxsize=1024)(self._find)

    def price(self, provider: str, model: str) -> Price:
        """The price of `model` at `provider`; raises `ModelNotPricedError` rather than ever guess one."""
        found = self._cached(provider, model)
        if found is None:
            raise ModelNotPricedError(provider, model)
        return found

    def _find(self, provider: str, model: str) -> Price | None:
        if override := self._override(provider, model):
            return override
        if (target := self._aliases.get(f"{provider}/{model}")) is not None:
            # An alias that leads nowhere is a mistake: falling back to the name it replaces would hide it.
            return self._alias(provider, target)
        return self._listed(provider, model)

    def _alias(self, provider: str, target: str) -> Price | None:
        """`target` is `provider/model`, or a model as this provider's price list names it."""
        vendor, slash, model = target.partition("/")
        explicit = (self._override(vendor, model) or self._listed(vendor, model)) if slash else None
        return explicit or self._override(provider, target) or self._listed(provider, target)

    def _override(self, provider: str, model: str) -> Price | None:
        for key in (f"{provider}/{model}", f"{provider}/*"):
            if key in self._overrides:
                return _price_of_override(model, self._overrides[key])
        return None

    def _listed(self, provider: str, model: str) -> Price | None:
        return _FREE if provider in self._local else _snapshot_price(provider, model)


def _price_of_override(model: str, override: PriceOverride) -> Price:
    rates = _Rates(
        input=_Rate(override.input_mtok),
        output=_Rate(override.output_mtok),
        cached_input=_optional(override.cached_input_mtok),
        cache_write=_optional(override.cache_write_mtok),
    )
    if rates.cache_write is None and _is_claude(model):
        rates = replace(rates, cache_write=rates.input.times(_CLAUDE_WRITE))
    return Price((_with_hour_writes(model, rates),))


def _optional(amount: Decimal | None) -> _Rate | None:
    return None if amount is None else _Rate(amount)


_CLAUDE_WRITE: Final = Decimal("1.25")
_CLAUDE_HOUR_WRITE: Final = Decimal(2)
"""Times the input price, for a cache write of 5 minutes and of an hour, on every Claude: see
https://platform.claude.com/docs/en/build-with-claude/prompt-caching#pricing."""


def _is_claude(model: str) -> bool:
    return "claude" in model.lower()


def _with_hour_writes(model: str, rates: _Rates) -> _Rates:
    """Claude's 1-hour cache writes where only the 5-minute price is known.

    genai-prices has no 1-hour price for the older Claude models on Bedrock and Vertex, and would bill such writes as
    5-minute ones.
    """
    if not _is_claude(model) or rates.cache_write is None or rates.cache_write_1h is not None:
        return rates
    return replace(rates, cache_write_1h=rates.input.times(_CLAUDE_HOUR_WRITE))


# The snapshot's shape; scripts/snapshot_prices.py says what each field holds.

_Clause: TypeAlias = "str | dict[str, list[_Clause]]"


class _Tiered(TypedDict):
    base: str
    tiers: list[tuple[int, str]]


_Amount: TypeAlias = str | _Tiered
_PriceEntry = TypedDict(
    "_PriceEntry",
    {
        "from": str,
        "between": list[str],
        "input": _Amount,
        "output": _Amount,
        "cached_input": _Amount,
        "cache_write": _Amount,
        "cache_write_1h": _Amount,
    },
    total=False,
)


class _ModelEntry(TypedDict):
    id: str
    match: _Clause
    prices: NotRequired[list[_PriceEntry]]


class _ProviderEntry(TypedDict):
    fallback: list[str]
    models: list[_ModelEntry]


_SOURCE_IDS: Final = {"gcp": "google"}
"""genai-prices' names for our providers, where they differ."""

_BILLED_BESIDE_TOKENS: Final = re.compile("-search-|deep-research")
"""These models search by themselves, which is billed beside the tokens: no price of tokens is theirs."""

_COMPACT_DATE: Final = re.compile(r"-(20\d{2})([0-9]{2})([0-9]{2})(?=-|:|$)")


@cache
def _snapshot() -> dict[str, _ProviderEntry]:
    return cast(dict[str, _ProviderEntry], json.loads(_SNAPSHOT.read_bytes())["providers"])


def _snapshot_price(provider: str, model: str) -> Price | None:
    name = model.lower()
    if provider == "gcp":
        name = name.removeprefix("google/")  # the publisher, in names of Vertex's OpenAI-compatible endpoint
    entry = None if _BILLED_BESIDE_TOKENS.search(name) else _entry(_SOURCE_IDS.get(provider, provider), name)
    if entry is None or "prices" not in entry:
        return None
    if "embed" not in name and any("output" not in prices for prices in entry["prices"]):
        return None  # only an embedding has no output to pay for; on another model its price is missing
    return Price(tuple(_with_hour_writes(entry["id"], _rates(prices)) for prices in entry["prices"]))


def _entry(source: str, name: str) -> _ModelEntry | None:
    """The first model that matches `name` (in lower case); as it is first, then with its date dashed."""
    return _match(source, name) or _match(source, _COMPACT_DATE.sub(_dashed, name))


def _match(source: str, name: str) -> _ModelEntry | None:
    providers = _snapshot()
    if source not in providers:
        return None
    lists = (providers[each]["models"] for each in (source, *providers[source]["fallback"]))
    return next((model for models in lists for model in models if _matches(model["match"], name)), None)


def _matches(clause: _Clause, name: str) -> bool:
    if isinstance(clause, dict):
        if "any" in clause:
            return any(_matches(part, name) for part in clause["any"])
        return all(_matches(part, name) for part in clause["all"])
    text = clause[1:]
    match clause[0]:
        case "=":
            return name == text
        case "^":
            return name.startswith(text)
        case "$":
            return name.endswith(text)
        case "*":
            return text in name
    return re.search(text, name) is not None


def _dashed(found: re.Match[str]) -> str:
    """`-20241120` as `-2024-11-20`, if that is a day."""
    try:
        return f"-{date(*map(int, found.groups()))}"
    except ValueError:
        return found[0]


def _rates(entry: _PriceEntry) -> _Rates:
    return _Rates(
        input=_rate(entry["input"]),
        output=_rate(entry.get("output", "0")),
        cached_input=_rate(entry["cached_input"]) if "cached_input" in entry else None,
        cache_write=_rate(entry["cache_write"]) if "cache_write" in entry else None,
        cache_write_1h=_rate(entry["cache_write_1h"]) if "cache_write_1h" in entry else None,
        starts_on=date.fromisoformat(entry["from"]) if "from" in entry else None,
        daily=_times(entry["between"]) if "between" in entry else None,
    )


def _rate(amount: _Amount) -> _Rate:
    if isinstance(amount, str):
        return _Rate(Decimal(amount))
    return _Rate(Decimal(amount["base"]), tuple((start, Decimal(rate)) for start, rate in amount["tiers"]))


def _times(between: list[str]) -> tuple[time, time]:
    start, end = between
    return time.fromisoformat(start), time.fromisoformat(end)
