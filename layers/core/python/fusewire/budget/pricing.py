"""What a model costs here: the operator's word first, then the price list's.

Prices come from, in this order: for `provider/model` the administrators' table, then `AI_PRICE_OVERRIDES`; the same two
for `provider/*`; what `AI_PRICE_ALIASES` names; zero for a local provider; and the price list (`price_list.py`). An
entry that multiplies does so with what comes after the table and the overrides. The list is read when a question first
needs it: at a start, only for overrides.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from copy import copy
from dataclasses import replace
from decimal import Decimal
from functools import lru_cache
from typing import Final, Literal, TypeVar

from fusewire.budget.model_names import name_of, pair_of
from fusewire.budget.price import CLAUDE_WRITE, Price, Rate, Rates, is_claude, with_hour_writes
from fusewire.budget.price_table import NO_PRICES, PriceTable
from fusewire.config import ConfigurationError
from fusewire.errors import ModelNotPricedError
from fusewire.price_overrides import SERVICE_TIERS, PriceOverride, ServiceTier, TieredPrice, TokenPrices

_FREE: Final = Price((Rates(Rate(Decimal(0)), Rate(Decimal(0))),))


PriceSource = Literal["table", "override", "alias", "free_local", "price_list"]
"""What a price comes from: an administrator's, a setting, or the price list."""

_UNSAID_ZERO: Final = 'is a price of 0 for a model of a cloud provider: say {"free": true} where that is meant'


class PriceBook:
    """Every price that this gateway can know."""

    def __init__(
        self,
        *,
        overrides: Mapping[str, PriceOverride],
        aliases: Mapping[str, str],
        local_providers: Collection[str],
        places: Mapping[str, str] | None = None,
    ) -> None:
        """
        :param places: by provider, where its server is, in its price list's words
        :raises ConfigurationError: for two names of one model, or a pattern that isn't `provider/*`
        """
        self._overrides = _by_name("AI_PRICE_OVERRIDES", overrides)
        self._aliases = _by_name("AI_PRICE_ALIASES", aliases)
        self._local = frozenset(local_providers)
        self._places = dict(places or {})
        self.table = NO_PRICES
        """What administrators set, as this environment knows it."""
        self._remember()
        self._windows = lru_cache(maxsize=1024)(self._window)

    def _remember(self) -> None:
        # Bounded, since a match clause can cover any number of names.
        self._cached = lru_cache(maxsize=1024)(self._find)

    def use(self, table: PriceTable) -> None:
        """Have other prices of administrators' count from now on; not while a call is under way."""
        if table.stamp != self.table.stamp:
            self.table = table
            self._remember()

    def at(self, table: PriceTable) -> "PriceBook":
        """The book with other prices of administrators'. This one stays as it is: all bounds of a call are of the table
        that it names to the ledger, whatever calls beside it have learnt."""
        book = copy(self)
        book.use(table)
        return book

    def price(self, provider: str, model: str) -> Price:
        """The price of `model` at `provider`.

        :raises ModelNotPricedError: rather than ever guess one
        """
        try:
            found = self._cached(provider, model)
        except PriceEntryError as error:
            keys = (f"{provider}/{name_of(provider, model)}", f"{provider}/*")
            what = "price in the table" if any(key in self.table.entries for key in keys) else "override"
            raise ModelNotPricedError(provider, model, f"its {what} can't be used: {error}") from None
        if found is None:
            raise ModelNotPricedError(provider, model, self._why_not(provider))
        return found

    def context_window(self, provider: str, model: str) -> int | None:
        """The most tokens that `model` reads at `provider`, as far as the price list says; None where it doesn't."""
        return self._windows(provider, model)

    def check(self, models: Mapping[str, Collection[str]]) -> None:
        """That each override says all that is known, and is of a provider that is configured.

        :param models: by configured provider, those that the settings name
        :raises ConfigurationError: with the override, and how to say it
        """
        targets = {pair_of(target) for target in self._aliases.values() if "/" in target}
        targets |= {f"{target.partition('/')[0]}/*" for target in targets}
        for key, entry in self._overrides.items():
            provider, _, name = key.partition("/")
            if provider not in models and key not in targets:
                known = ", ".join(models) or "none"
                raise ConfigurationError(f"AI_PRICE_OVERRIDES: {key} is of no configured provider (they are: {known}).")
            if entry.is_zero() and provider not in self._local:
                raise ConfigurationError(f"AI_PRICE_OVERRIDES: {key} {_UNSAID_ZERO}.")
            if entry.multiply is not None and provider in self._local:
                raise ConfigurationError(
                    f"AI_PRICE_OVERRIDES: {key} multiplies the price of a local provider, which is 0: say input_mtok "
                    "and output_mtok."
                )
            for model in models.get(provider, ()) if name == "*" else (name,):
                self._check(key, entry, provider, model)

    def accept(self, provider: str, model: str, entry: PriceOverride) -> None:
        """See whether an entry of the table can be the price of a model, or, where that is `*`, of all of a provider's.

        :raises PriceEntryError: when it can't
        """
        if entry.is_zero() and provider not in self._local:
            raise PriceEntryError(f"it {_UNSAID_ZERO}")
        if entry.multiply is not None and provider in self._local:
            raise PriceEntryError(
                "it multiplies the price of a local provider, which is 0: say input_mtok and output_mtok"
            )
        if model != "*":
            self._overridden(provider, model, entry, self._listed(provider, self._aliased(provider, model)))

    def source(self, provider: str, model: str) -> PriceSource | None:
        """Where the price of `model` comes from; None where it has none."""
        try:
            if self._cached(provider, model) is None:
                return None
        except PriceEntryError:
            return None
        name = name_of(provider, model)
        said = self._said(provider, name)[1]
        if said is not None:
            return said
        if f"{provider}/{name}" in self._aliases:
            return "alias"
        return "free_local" if provider in self._local else "price_list"

    def _said(self, provider: str, name: str) -> tuple[PriceOverride | None, PriceSource | None]:
        """What a person says of it, and where: the exact name before the wildcard, and of two alike the table."""
        exact = self._entry(f"{provider}/{name}")
        return exact if exact[0] is not None else self._entry(f"{provider}/*")

    def _entry(self, key: str) -> tuple[PriceOverride | None, PriceSource | None]:
        """:raises PriceEntryError: for an entry of the table that this release can't read"""
        if (stored := self.table.entries.get(key)) is not None:
            try:
                return PriceOverride.model_validate(stored), "table"
            except ValueError as error:
                raise PriceEntryError("this release can't read its entry in the table") from error
        override = self._overrides.get(key)
        return override, None if override is None else "override"

    def _aliased(self, provider: str, model: str) -> str:
        target = self._aliases.get(f"{provider}/{name_of(provider, model)}", model)
        return target.removeprefix(f"{provider}/")

    def _check(self, key: str, entry: PriceOverride, provider: str, model: str) -> None:
        try:
            self._find(provider, model)
        except PriceEntryError as error:
            whole = f"{provider}/{model}"
            if key != whole and entry.multiply is not None:
                return  # a factor for all of a provider's: this one has no price, and is refused when it's asked for
            about = "" if key == whole else f" for {whole}"
            raise ConfigurationError(f"AI_PRICE_OVERRIDES: {key}{about} can't be used, since {error}.") from None

    def _find(self, provider: str, model: str) -> Price | None:
        """:raises PriceEntryError: for an override that can't be used"""
        name = name_of(provider, model)
        target = self._aliases.get(f"{provider}/{name}")
        entry = self._said(provider, name)[0]
        if target is None:
            return self._overridden(provider, model, entry, self._listed(provider, model))
        vendor, slash, elsewhere = name_of(provider, target).partition("/")
        if slash and vendor == provider:
            target = elsewhere
        elif slash and (found := self._of(vendor, elsewhere)) is not None:
            return self._overridden(provider, model, entry, found)
        if (own := self._entry(f"{provider}/{name_of(provider, target)}")[0]) is not None:
            # Alone, lest a factor for all of the provider's come on top of it.
            return self._overridden(provider, target, own, self._listed(provider, target))
        # An alias that leads nowhere is a mistake: falling back to the name it replaces would hide it.
        return self._overridden(provider, target, entry, self._listed(provider, target))

    def _of(self, provider: str, model: str) -> Price | None:
        """The price under its own name, without aliases."""
        name = name_of(provider, model)
        entry = self._said(provider, name)[0]
        return self._overridden(provider, model, entry, self._listed(provider, model))

    def _overridden(self, provider: str, model: str, entry: PriceOverride | None, known: Price | None) -> Price | None:
        if entry is None:
            return known
        if entry.multiply is None and provider not in self._local:
            from fusewire.budget.price_list import bills

            if apart := sorted(bills(provider, model) - {name for name, _ in entry.amounts()}):
                raise PriceEntryError(f"{', '.join(apart)} of this model is billed apart, which it leaves out")
        return price_of(entry, model, known)

    def _listed(self, provider: str, model: str) -> Price | None:
        if provider in self._local:
            return _FREE
        # Here, since a start without overrides and a local call have no need of it.
        from fusewire.budget.price_list import listed

        return listed(provider, model, self._places.get(provider))

    def _window(self, provider: str, model: str) -> int | None:
        from fusewire.budget.price_list import listed_window

        target = self._aliased(provider, model)
        vendor, slash, elsewhere = target.partition("/")
        found = listed_window(vendor, elsewhere) if slash else None
        return listed_window(provider, target) if found is None else found

    def _why_not(self, provider: str) -> str:
        place = self._places.get(provider)
        return f"there is no price of it in {place}" if place else "there is no price of it"


_Value = TypeVar("_Value")


def _by_name(variable: str, given: Mapping[str, _Value]) -> dict[str, _Value]:
    """By provider and model as the vendor compares names.

    :raises ConfigurationError: for two names of one model, or a pattern that isn't `provider/*`
    """
    found: dict[str, _Value] = {}
    for key, value in given.items():
        name = pair_of(key)
        if "*" in name and (variable != "AI_PRICE_OVERRIDES" or not re.fullmatch(r"[^*/]+/\*", name)):
            raise ConfigurationError(
                f"{variable}: {key!r} is no name: it must be provider/model"
                + (", or provider/* for all of a provider's." if variable == "AI_PRICE_OVERRIDES" else ".")
            )
        if name in found:
            raise ConfigurationError(f"{variable}: {key!r} names {name} a second time.")
        found[name] = value
    return found


class PriceEntryError(ValueError):
    """A price entry that can't be used; `str()` says why, and how to say it, without naming the entry."""


def price_of(entry: PriceOverride, model: str, known: Price | None) -> Price:
    """The price that an entry says.

    :param known: what the model costs without this entry, None where nobody knows
    :raises PriceEntryError: for a factor over nothing, or an entry that leaves out what `known` has: a kind of token
        with a rate of its own, or a long-context tier
    """
    if entry.free:
        return _FREE
    if entry.multiply is not None:
        if known is None:
            raise PriceEntryError("it multiplies a price that nobody knows: say input_mtok and output_mtok")
        return known.times(entry.multiply)
    rates = _rates_of_entry(entry, model)
    if known is not None and (dropped := sorted(_dropped(rates, known))):
        raise PriceEntryError(
            f"the known price has {', '.join(dropped)}, which it leaves out: say them too, or a factor over the known "
            'price as {"multiply": 1.1}'
        )
    tiers: dict[ServiceTier, tuple[Rates, ...]] = {}
    for name in SERVICE_TIERS:
        if (tier := entry.of_tier(name)) is not None:
            own = rates.times(tier.multiply) if tier.multiply is not None else _rates_of_entry(tier, model)
            tiers[name] = (own,)
    return Price((rates,), tiers)


def _rates_of_entry(entry: TokenPrices, model: str) -> Rates:
    given = {name: _rate_of(amount) for name, amount in entry.amounts()}
    plain, written = given["input_mtok"], given.get("cache_write_mtok")
    if written is None and is_claude(model):
        written = plain.times(CLAUDE_WRITE)
    rates = with_hour_writes(
        model,
        Rates(
            input=plain,
            output=given["output_mtok"],
            cached_input=given.get("cached_input_mtok"),
            cache_write=written,
            cache_write_1h=given.get("cache_write_1h_mtok"),
        ),
    )
    # A usage doesn't tell these kinds from text. A kind without a rate follows its input's.
    for name in ("input_image_mtok", "input_audio_mtok"):
        if (other := given.get(name)) is not None:
            rates = replace(
                rates,
                input=rates.input.or_dearer(other),
                cached_input=rates.cached_input and rates.cached_input.or_dearer(other),
                cache_write=rates.cache_write and rates.cache_write.or_dearer(other),
                cache_write_1h=rates.cache_write_1h and rates.cache_write_1h.or_dearer(other),
            )
    for name in ("output_image_mtok", "output_audio_mtok"):
        if (other := given.get(name)) is not None:
            rates = replace(rates, output=rates.output.or_dearer(other))
    return rates


def _rate_of(amount: Decimal | TieredPrice) -> Rate:
    if isinstance(amount, Decimal):
        return Rate(amount)
    return Rate(amount.base, tuple((tier.start, tier.price) for tier in amount.tiers))


def _dropped(rates: Rates, known: Price) -> set[str]:
    """What `known` has now or may have, and `rates` hasn't, in an entry's words."""
    kinds = rates.kinds()
    return {
        what
        for each in known.in_force()
        for kind, rate in each.kinds().items()
        for what in _missing(f"{kind}_mtok", kinds.get(kind), rate)
    }


def _missing(name: str, rate: Rate | None, known: Rate) -> Iterator[str]:
    if rate is None:
        yield name
    starts = {start for start, _ in rate.tiers} if rate is not None else set()
    for start in (start for start, _ in known.tiers if start not in starts):
        yield f"{name} above {start} input tokens"
