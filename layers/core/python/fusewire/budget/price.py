"""One model's price: what its tokens cost, and the most that a call can cost.

All prices are USD per million tokens, all amounts USD. Every number is a Decimal and every result is exact.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Final

from fusewire.price_overrides import CacheWrites, ServiceTier

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
class Rate:
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

    def times(self, factor: Decimal) -> "Rate":
        return Rate(self.base * factor, tuple((start, rate * factor) for start, rate in self.tiers))

    def or_dearer(self, other: "Rate") -> "Rate":
        """The dearer of the two at any length of the input."""
        starts = sorted({start for start, _ in (*self.tiers, *other.tiers)})
        tiers = tuple((start, max(self.at(start + 1), other.at(start + 1))) for start in starts)
        return Rate(max(self.base, other.base), tiers)


@dataclass(frozen=True, slots=True)
class Rates:
    """One set of a model's rates and when it applies. Cached input without its own rate is plain input."""

    input: Rate
    output: Rate
    cached_input: Rate | None = None
    cache_write: Rate | None = None
    cache_write_1h: Rate | None = None
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

    def kinds(self) -> dict[str, Rate]:
        """The rates by kind of token, of the kinds that have one of their own."""
        rates = {
            "input": self.input,
            "output": self.output,
            "cached_input": self.cached_input,
            "cache_write": self.cache_write,
            "cache_write_1h": self.cache_write_1h,
        }
        return {kind: rate for kind, rate in rates.items() if rate is not None}

    def times(self, factor: Decimal) -> "Rates":
        return Rates(
            **{kind: rate.times(factor) for kind, rate in self.kinds().items()},
            starts_on=self.starts_on,
            daily=self.daily,
        )

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

    def bound(self, input_tokens: int, output_tokens: int, cache_writes: CacheWrites = "1h") -> Decimal:
        """The most that at most these tokens can cost: the dearest of the longest inputs of each tier."""
        kinds = [self.input, self.cached_input]
        if cache_writes != "none":
            kinds.append(self.cache_write)
        if cache_writes == "1h":
            kinds.append(self.cache_write_1h)
        rates = [rate for rate in kinds if rate is not None]
        starts = {start for rate in (*rates, self.output) for start, _ in rate.tiers if start < input_tokens}
        return max(
            size * max(rate.at(size) for rate in rates) + output_tokens * self.output.at(size)
            for size in (*starts, input_tokens)
        ).scaleb(-6)


@dataclass(frozen=True, slots=True)
class Price:
    """One model's price. Dates and hours are looked at when a question is asked, so a Price may be kept."""

    rates: tuple[Rates, ...]
    """As genai-prices orders them: the last one that is active counts; if none is, the first."""
    service_tiers: Mapping[ServiceTier, tuple[Rates, ...]] = field(default_factory=dict)
    """The same for each service tier, beside the default one, whose price is known."""

    def cost(
        self, counts: TokenCounts, *, at: datetime | None = None, service_tier: ServiceTier | None = None
    ) -> Decimal:
        """The exact cost in USD of a call made now, or `at` a time with a zone.

        :param service_tier: which served the call; None is the default one
        :raises KeyError: for a service tier without a price
        """
        return _active(self._of(service_tier), at).cost(counts)

    def bound(
        self,
        input_tokens: int,
        output_tokens: int,
        *,
        at: datetime | None = None,
        service_tier: ServiceTier | None = None,
        cache_writes: CacheWrites = "1h",
    ) -> Decimal:
        """The most in USD that a call with at most these tokens can cost.

        Every input token at the dearest of input, cached input and the cache writes that may be billed, every
        output token at the output rate, in whichever long-context tier that the input can reach costs the most, at
        any time of the day, and at any price that starts within `_PRICE_CHANGE_HORIZON`.

        :param cache_writes: the dearest kind that the call may be billed for
        :param service_tier: that is asked for. The vendor may serve the call in the default one instead, so that the
            dearer of the two counts
        :raises KeyError: for a service tier without a price
        """
        served_in = {None, service_tier}
        return max(
            rates.bound(input_tokens, output_tokens, cache_writes)
            for tier in served_in
            for rates in _possible(self._of(tier), at)
        )

    def bound_of(
        self, counts: TokenCounts, *, at: datetime | None = None, service_tier: ServiceTier | None = None
    ) -> Decimal:
        """The most in USD that a call with just these tokens can cost, by the rules of `bound`: what isn't known is
        which rates will apply.

        :raises KeyError: for a service tier without a price
        """
        return max(rates.cost(counts) for tier in {None, service_tier} for rates in _possible(self._of(tier), at))

    def output_bound(
        self, input_tokens: int, *, at: datetime | None = None, service_tier: ServiceTier | None = None
    ) -> Decimal:
        """The most in USD that one output token costs in such a call, by the rules of `bound`.

        :raises KeyError: for a service tier without a price
        """
        return max(
            rate
            for tier in {None, service_tier}
            for rates in _possible(self._of(tier), at)
            for rate in (rates.output.base, *(rate for start, rate in rates.output.tiers if input_tokens > start))
        ).scaleb(-6)

    def in_force(self) -> Iterator[Rates]:
        """The sets of rates that count now, at some hour, or from a later day on."""
        now = _utc(None)
        for rates in reversed(self.rates):
            yield rates
            if rates.daily is None and rates.is_active(now):
                return

    def times(self, factor: Decimal) -> "Price":
        """This price, multiplied in each kind, length and service tier."""
        return Price(
            tuple(rates.times(factor) for rates in self.rates),
            {name: tuple(rates.times(factor) for rates in tier) for name, tier in self.service_tiers.items()},
        )

    def kinds(self, *, at: datetime | None = None) -> dict[str, Rate]:
        """The rates by kind of token, of those that count now, or `at` a time with a zone."""
        return _active(self.rates, at).kinds()

    def per_mtok(self, *, at: datetime | None = None) -> dict[str, Decimal]:
        """What `GET /models` shows: USD per million tokens, below any long-context tier."""
        return {f"{kind}_mtok": rate.base for kind, rate in self.kinds(at=at).items() if kind != "cache_write_1h"}

    def as_entry(self, *, at: datetime | None = None) -> dict[str, object]:
        """The rates that apply, with their long-context tiers, as an entry of `AI_PRICE_OVERRIDES` says them."""
        return {
            f"{kind}_mtok": {
                "base": rate.base,
                "tiers": [{"start": start, "price": price} for start, price in rate.tiers],
            }
            if rate.tiers
            else rate.base
            for kind, rate in _active(self.rates, at).kinds().items()
        }

    def _of(self, service_tier: ServiceTier | None) -> tuple[Rates, ...]:
        return self.rates if service_tier is None else self.service_tiers[service_tier]


def _active(sets: tuple[Rates, ...], at: datetime | None) -> Rates:
    if len(sets) == 1:
        return sets[0]
    now = _utc(at)
    return next((rates for rates in reversed(sets) if rates.is_active(now)), sets[0])


def _possible(sets: tuple[Rates, ...], at: datetime | None) -> Iterator[Rates]:
    """Every set of rates that may be the active one between now and the horizon."""
    if len(sets) > 1:
        now = _utc(at)
        for rates in reversed(sets):
            if rates.daily is not None or rates.is_active(now + _PRICE_CHANGE_HORIZON):
                yield rates
            if rates.daily is None and rates.is_active(now):
                return  # it applies at any time from now on, so it hides whatever stands before it
    yield sets[0]


def _utc(at: datetime | None) -> datetime:
    return datetime.now(UTC) if at is None else at.astimezone(UTC)


CLAUDE_WRITE: Final = Decimal("1.25")
_CLAUDE_HOUR_WRITE: Final = Decimal(2)
"""Times the input price, for a cache write of 5 minutes and of an hour, on every Claude: see
https://platform.claude.com/docs/en/build-with-claude/prompt-caching#pricing."""


def is_claude(model: str) -> bool:
    """Whether it is one of Anthropic's models, by its name."""
    return "claude" in model.lower()


def with_hour_writes(model: str, rates: Rates) -> Rates:
    """Claude's 1-hour cache writes where only the 5-minute price is known.

    genai-prices has no 1-hour price for the older Claude models on Bedrock and Vertex, and would bill such writes as
    5-minute ones.
    """
    if not is_claude(model) or rates.cache_write is None or rates.cache_write_1h is not None:
        return rates
    return replace(rates, cache_write_1h=rates.input.times(_CLAUDE_HOUR_WRITE))
