"""What a vendor's usage costs: its tokens as the price list counts them, in the service tier that served the call."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Final

from fusewire.ai.schema import PromptTokensDetails, Usage
from fusewire.ai.targets import BoundedTarget
from fusewire.budget.price import TokenCounts
from fusewire.price_overrides import ServiceTier

_TIER_BY_VENDOR_NAME: Final[Mapping[str | None, ServiceTier | None]] = {
    **dict.fromkeys((None, "default", "standard", "auto"), None),
    "flex": "flex",
    **dict.fromkeys(("priority", "fast"), "priority"),
}
"""The tiers by the names that vendors give them in an answer; None is the default one."""


@dataclass(frozen=True, slots=True)
class UsageCost:
    """What an answer is booked at."""

    counts: TokenCounts | None
    """None where the answer has no usage."""
    usd: Decimal | None
    """None where nothing of it can be priced: then the whole bound is booked."""
    is_actual: bool
    """Whether all of it follows from the usage, and no part from the bound."""
    bound_reason: str | None
    """Why a part or the whole is booked at its bound; None where nothing is."""
    reasoning_tokens: int = 0


def usage_cost(target: BoundedTarget, usage: Usage | None, *, expects_output: bool) -> UsageCost:
    """Price a usage; where its input or its output wasn't reported, that part costs its bound.

    :param expects_output: whether the call has output: embeddings have none
    """
    if usage is None:
        return UsageCost(None, None, is_actual=False, bound_reason="no_usage")
    counts = token_counts(usage)
    is_whole = usage.has_input and (usage.has_output or not expects_output)
    usd = _usd(target, usage, counts, is_whole=is_whole)
    if is_whole:
        reason = "unpriced_service_tier" if usd is None else None
    else:
        reason = "no_usage" if usd is None else "partial_usage"
    return UsageCost(counts, usd, reason is None, reason, _reasoning_tokens(usage))


def _usd(target: BoundedTarget, usage: Usage, counts: TokenCounts, *, is_whole: bool) -> Decimal | None:
    """In the tier that the answer names. None where neither part was reported, and for a tier without a price."""
    asked, reported_tier = target.service_tier, usage.service_tier
    if usage.has_output and not usage.has_input:
        return target.price.bound(
            target.max_input_tokens, counts.output_tokens, service_tier=asked, cache_writes=target.cache_writes
        )
    if not usage.has_input:
        return None
    billable = counts if is_whole else replace(counts, output_tokens=target.max_output_tokens)
    if reported_tier is None and asked is not None:
        # Served in the tier that was asked for, or in the default one.
        return max(target.price.cost(billable), target.price.cost(billable, service_tier=asked))
    if reported_tier not in _TIER_BY_VENDOR_NAME:
        return None
    tier = _TIER_BY_VENDOR_NAME[reported_tier]
    is_priced = tier is None or tier in target.price.service_tiers
    return target.price.cost(billable, service_tier=tier) if is_priced else None


def most_after_input(target: BoundedTarget, usage: Usage) -> Decimal | None:
    """The most in USD that a call may cost whose input is known and whose output isn't yet; None where that can't be
    told: the input wasn't reported, or it was counted in a service tier that nobody asked for.

    :param usage: of the input
    """
    reported = usage.service_tier
    if not usage.has_input or usage.prompt_tokens == 0 or reported not in _TIER_BY_VENDOR_NAME:
        return None
    if _TIER_BY_VENDOR_NAME[reported] not in (None, target.service_tier):
        return None
    counts = replace(token_counts(usage), output_tokens=target.max_output_tokens)
    return target.price.bound_of(counts, service_tier=target.service_tier)


def token_counts(usage: Usage) -> TokenCounts:
    """Usage as the price list counts it; details beyond the totals are clipped, so that nothing goes below zero."""
    details = usage.prompt_tokens_details or PromptTokensDetails()
    cached = _within(details.cached_tokens, usage.prompt_tokens)
    written = _within(details.cache_write_tokens, usage.prompt_tokens - cached)
    for_an_hour = _within(details.cache_write_1h_tokens, written)
    return TokenCounts(usage.prompt_tokens, usage.completion_tokens, cached, written, for_an_hour)


def _within(part: int | None, whole: int) -> int:
    return max(min(part or 0, whole), 0)


def _reasoning_tokens(usage: Usage) -> int:
    details = usage.completion_tokens_details
    return _within(details.reasoning_tokens, usage.completion_tokens) if details else 0
