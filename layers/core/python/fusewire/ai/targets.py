"""Who may serve a call: a provider's model, the same with its price and worst case, and those that are left to try."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import NamedTuple

from fusewire.ai.allowances import Allowances
from fusewire.ai.output_caps import OutputCap
from fusewire.ai.provider import AIProvider, Target
from fusewire.budget.price import Price
from fusewire.budget.price_table import PriceTable
from fusewire.budget.reservation import Candidate, Downgrade, Fit
from fusewire.budget.wire import PricesArgument
from fusewire.errors import LedgerUnavailableError
from fusewire.price_overrides import CacheWrites, ServiceTier


@dataclass(frozen=True, slots=True)
class BoundedTarget:
    """A target that may serve the call, at what price and worst case."""

    provider: AIProvider
    model: str
    price: Price
    input_bound_usd: Decimal
    """The most that its input may cost."""
    max_input_tokens: int
    """The most tokens of input."""
    output_token_usd: Decimal = Decimal(0)
    """The most that a token of output may cost."""
    output: OutputCap | None = None
    """None where there is no output."""
    allowance: int = 0
    """The part of the input that is allowed for what the server adds."""
    service_tier: ServiceTier | None = None
    """That is asked for; None is the default one."""
    cache_writes: CacheWrites = "1h"
    """The dearest kind of cache write that the call may be billed for."""

    @classmethod
    def bounded(
        cls,
        target: Target,
        price: Price,
        *,
        request_tokens: int,
        allowance: int,
        output: OutputCap | None,
        service_tier: ServiceTier | None = None,
        cache_writes: CacheWrites = "1h",
    ) -> "BoundedTarget":
        """:param request_tokens: the input bound without the allowance"""
        size = request_tokens + allowance
        return cls(
            *target,
            price,
            input_bound_usd=price.bound(size, 0, service_tier=service_tier, cache_writes=cache_writes),
            max_input_tokens=size,
            output_token_usd=price.output_bound(size, service_tier=service_tier),
            output=output,
            allowance=allowance,
            service_tier=service_tier,
            cache_writes=cache_writes,
        )

    @property
    def bound_usd(self) -> Decimal:
        """The most that the call may cost."""
        return self.input_bound_usd + self.max_output_tokens * self.output_token_usd

    @property
    def max_output_tokens(self) -> int:
        """The most tokens of output, of all answers."""
        return 0 if self.output is None else self.output.billed

    @property
    def cap(self) -> int:
        """The output cap that is sent, in tokens of each answer."""
        if self.output is None:
            raise ValueError("this call has no output")
        return self.output.tokens

    def allowing(self, tokens: int) -> "BoundedTarget":
        """The same with an allowance of so many tokens."""
        return self.bounded(
            Target(self.provider, self.model),
            self.price,
            request_tokens=self.max_input_tokens - self.allowance,
            allowance=tokens,
            output=self.output,
            service_tier=self.service_tier,
            cache_writes=self.cache_writes,
        )

    def capped(self, tokens: int | None) -> "BoundedTarget":
        """The same with this output cap; with its own for None."""
        if tokens is None or self.output is None:
            return self
        return replace(self, output=self.output.shorter(tokens))

    def within(self, usd: Decimal) -> "BoundedTarget | None":
        """The same with an output cap with which it costs no more than this; None where that is of no use."""
        if self.bound_usd <= usd:
            return self
        output = self.output
        if output is None or not output.fits or self.input_bound_usd >= usd:
            return None
        tokens = int((usd - self.input_bound_usd) // (self.output_token_usd * output.n))
        return self.capped(tokens) if tokens >= output.smallest else None

    @property
    def candidate(self) -> Candidate:
        """What the ledger has to know of it."""
        fit, output = None, self.output
        if output is not None and output.fits:
            fit = Fit(
                fixed=self.input_bound_usd,
                per_token=self.output_token_usd * output.n,
                cap=output.tokens,
                min_cap=output.smallest,
                first_cap=output.first,
                fixed_tokens=self.max_input_tokens,
                n=output.n,
            )
        tokens = self.max_input_tokens + self.max_output_tokens
        return Candidate(self.provider.id, self.model, self.bound_usd, tokens, self.allowance, fit)


class DowngradedTier(NamedTuple):
    """The tier that takes over while a budget is HALF_OPEN, and who serves it."""

    tier: str
    targets: Sequence[BoundedTarget]


BoundedTargets = tuple[list[BoundedTarget], DowngradedTier | None]
"""All of a call's targets, and those where it is downgraded."""
Reprice = Callable[[PriceTable], BoundedTargets]
"""Bounds a call's targets at these prices; raises ModelNotPricedError where none has a price."""


class TargetsLeft:
    """The targets of one call that are still to be tried, in order, at the prices and allowances in force."""

    def __init__(
        self,
        targets: Sequence[BoundedTarget],
        *,
        downgrade: DowngradedTier | None = None,
        allowances: Allowances | None = None,
        prices: PricesArgument | None = None,
        reprice: Reprice | None = None,
    ) -> None:
        """
        :param downgrade: who takes over while a budget is HALF_OPEN
        :param allowances: where an allowance is kept that this call finds raised
        :param prices: with which the bounds were computed
        :param reprice: what computes them anew at other prices
        """
        self._targets = list(targets)
        self._downgrade = downgrade
        self._is_downgraded = False
        self._is_begun = False
        self.some_cost_too_much: bool = False
        """Whether the caller's own limit has left one out."""
        self._allowances = Allowances() if allowances is None else allowances
        self._reprice = reprice
        self.prices = prices

    def __len__(self) -> int:
        return len(self._targets)

    @property
    def candidates(self) -> list[Candidate]:
        """Those that may be reserved for."""
        return [target.candidate for target in self._targets]

    @property
    def downgrade_candidates(self) -> Downgrade | None:
        """Those that may be reserved for while a budget is HALF_OPEN."""
        if self._downgrade is None:
            return None
        return Downgrade(self._downgrade.tier, [target.candidate for target in self._downgrade.targets])

    def switch_to_downgrade(self) -> str | None:
        """Leave only the downgrade's targets.

        :return: their tier; None without any
        """
        if self._downgrade is None:
            return None
        tier, self._targets = self._downgrade.tier, list(self._downgrade.targets)
        self._downgrade, self._is_downgraded = None, True
        return tier

    def take(self, place: int) -> BoundedTarget:
        """The one that was reserved for, by its index; those before it were passed over."""
        target = self._targets[place]
        del self._targets[: place + 1]
        self._is_begun = True
        return target

    def keep_within(self, usd: Decimal) -> bool:
        """Have none of them cost more than this: with a smaller output cap, or by leaving it out.

        :return: whether one is left
        """
        fitting = _within(self._targets, usd)
        self.some_cost_too_much |= len(fitting) < len(self._targets)
        self._targets = fitting
        if self._downgrade is not None:
            targets = _within(self._downgrade.targets, usd)
            self._downgrade = DowngradedTier(self._downgrade.tier, targets) if targets else None
        return bool(self._targets)

    def put_back(self, target: BoundedTarget) -> None:
        """Have this one tried before all others."""
        self._targets.insert(0, target)

    def use_prices(self, table: PriceTable) -> None:
        """Bound them anew at the prices of this table; those that have none any more are left out.

        :raises FusewireError: where none has a price
        """
        if self._reprice is None:
            raise LedgerUnavailableError("the prices changed")
        self.prices = table.stamp
        targets, downgrade = self._reprice(table)
        if self._is_downgraded:
            targets, downgrade = list(downgrade.targets) if downgrade else [], None
        if self._is_begun:  # those that were tried or passed over don't come back
            names = {(target.provider.id, target.model) for target in self._targets}
            targets = [target for target in targets if (target.provider.id, target.model) in names]
        self._targets, self._downgrade = targets, downgrade

    def allow(self, provider: str, model: str, tokens: int) -> None:
        """Bound those anew whose server adds more than was known here: so many tokens."""
        self._allowances.raise_to(provider, model, tokens)
        self._targets = [self._bounded_anew(target) for target in self._targets]
        if self._downgrade is not None:
            targets = [self._bounded_anew(target) for target in self._downgrade.targets]
            self._downgrade = DowngradedTier(self._downgrade.tier, targets)

    def _bounded_anew(self, target: BoundedTarget) -> BoundedTarget:
        tokens = self._allowances.of(target.provider.id, target.model, target.allowance)
        return target.allowing(tokens) if tokens > target.allowance else target


def _within(targets: Sequence[BoundedTarget], usd: Decimal) -> list[BoundedTarget]:
    return [fitting for target in targets if (fitting := target.within(usd)) is not None]
