"""How a usage is counted."""

from datetime import time
from decimal import Decimal
from typing import cast

import pytest

from fusewire.ai.output_caps import OutputCap
from fusewire.ai.provider import AIProvider, Target
from fusewire.ai.schema import Usage
from fusewire.ai.targets import BoundedTarget
from fusewire.ai.usage_cost import most_after_input, token_counts
from fusewire.budget.price import Price, Rate, Rates, TokenCounts
from fusewire.price_overrides import ServiceTier


def usage(prompt: int, completion: int, cached: int | None = None, written: int | None = None) -> Usage:
    details = {"cached_tokens": cached, "cache_write_tokens": written}
    result = {"prompt_tokens": prompt, "completion_tokens": completion, "prompt_tokens_details": details}
    return Usage.model_validate(result)


@pytest.mark.parametrize(
    ("row", "counts"),
    [
        (usage(10, 5), TokenCounts(10, 5)),
        (usage(10, 5, 4, 3), TokenCounts(10, 5, 4, 3)),
        (usage(10, 5, 99), TokenCounts(10, 5, 10)),
        (usage(10, 5, 8, 99), TokenCounts(10, 5, 8, 2)),
        (usage(10, 5, -4), TokenCounts(10, 5)),
        (usage(10, 5, None, -1), TokenCounts(10, 5)),
        (usage(0, 0, 5, 5), TokenCounts(0, 0)),
    ],
)
def test_details_beyond_their_total_are_clipped(row: Usage, counts: TokenCounts) -> None:
    assert token_counts(row) == counts


CHEAP_ALL_DAY = Price(
    (
        Rates(Rate(Decimal(2), ((200, Decimal(4)),)), Rate(Decimal(10)), cached_input=Rate(Decimal(1))),
        Rates(Rate(Decimal(1)), Rate(Decimal(5)), daily=(time.min, time.max)),
    ),
    {"priority": (Rates(Rate(Decimal(6)), Rate(Decimal(30))),)},
)


def after_input(counted: Usage, tier: ServiceTier | None = None) -> Decimal | None:
    """Of a call of at most 1,000 tokens of input and 50 of output."""
    target = BoundedTarget.bounded(
        Target(cast(AIProvider, None), "m"),
        CHEAP_ALL_DAY,
        request_tokens=1000,
        allowance=0,
        output=OutputCap(50, 1, 50, 50),
        service_tier=tier,
    )
    return most_after_input(target, counted)


def of_input(prompt: int, cached: int = 0, tier: str | None = None) -> Usage:
    result = {"prompt_tokens": prompt, "prompt_tokens_details": {"cached_tokens": cached}, "service_tier": tier}
    return Usage.model_validate(result)


def test_what_may_still_come_is_bounded_at_the_dearest_rates() -> None:
    """At any hour, in the length's own tier, and in whichever service tier the call ends up."""
    micro = Decimal("0.000001")
    assert after_input(of_input(100)) == (100 * 2 + 50 * 10) * micro
    assert after_input(of_input(100, cached=60)) == (40 * 2 + 60 * 1 + 50 * 10) * micro
    assert after_input(of_input(300)) == (300 * 4 + 50 * 10) * micro
    assert after_input(of_input(100), "priority") == (100 * 6 + 50 * 30) * micro


@pytest.mark.parametrize(
    "counted",
    [Usage(completion_tokens=1), of_input(0), of_input(100, tier="priority"), of_input(100, tier="unheard_of")],
    ids=["no input", "an input of nothing", "a tier that nobody asked for", "an unknown tier"],
)
def test_an_input_that_cant_be_right_leaves_the_bound_alone(counted: Usage) -> None:
    assert after_input(counted) is None
