"""Who may serve a call: a provider's model, the same with its price and worst case, and those that are left to try."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

from fusewire.ai.allowances import Allowances
from fusewire.ai.provider import AIProvider
from fusewire.budget.price import Price
from fusewire.budget.price_table import PriceTable
from fusewire.budget.reservation import Candidate, Downgrade
from fusewire.budget.wire import PricesArgument
from fusewire.errors import LedgerUnavailableError
from fusewire.price_overrides import CacheWrites, ServiceTier


class Target(NamedTuple):
    """A provider, and its name for one of its models."""

    provider: AIProvider
    model: str


@dataclass(frozen=True, slots=True)
class BoundedTarget:
    """A target that may serve the call, at what price and worst case."""

    provider: AIProvider
    model: str
    price: Price
    bound_usd: Decimal
    """The most that the call may cost."""
    input_bound_usd: Decimal
    """The most that its input may cost."""
    max_tokens: int
    """The most tokens of input and output together."""
    max_output_tokens: int = 0
    """Of those, the output's; the others are the input's."""
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
        max_output_tokens: int,
        service_tier: ServiceTier | None = None,
        cache_writes: CacheWrites = "1h",
    ) -> "BoundedTarget":
        """:param request_tokens: the input bound without the allowance"""
        size = request_tokens + allowance
        return cls(
            *target,
            price,
            bound_usd=price.bound(size, max_output_tokens, service_tier=service_tier, cache_writes=cache_writes),
            input_bound_usd=price.bound(size, 0, service_tier=service_tier, cache_writes=cache_writes),
            max_tokens=size + max_output_tokens,
            max_output_tokens=max_output_tokens,
            allowance=allowance,
            service_tier=service_tier,
            cache_writes=cache_writes,
        )

    @property
    def max_input_tokens(self) -> int:
        """The most tokens of input."""
        return self.max_tokens - self.max_output_tokens

    def allowing(self, tokens: int) -> "BoundedTarget":
        """The same with an allowance of so many tokens."""
        return self.bounded(
            Target(self.provider, self.model),
            self.price,
            request_tokens=self.max_input_tokens - self.allowance,
            allowance=tokens,
            max_output_tokens=self.max_output_tokens,
            service_tier=self.service_tier,
            cache_writes=self.cache_writes,
        )

    @property
    def candidate(self) -> Candidate:
        """What the ledger has to know of it."""
        return Candidate(self.provider.id, self.model, self.bound_usd, self.max_tokens, self.allowance)


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

    def take(self, candidate: Candidate) -> BoundedTarget:
        """The one that was reserved for; those before it were passed over."""
        place = self.candidates.index(candidate)
        target = self._targets[place]
        del self._targets[: place + 1]
        self._is_begun = True
        return target

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
