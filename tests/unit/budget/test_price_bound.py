"""The most that a call can cost, over every length of its input and every kind of token."""

from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from fusewire.budget.price import Price, Rate, Rates, TokenCounts
from fusewire.price_overrides import CacheWrites

amounts = st.integers(0, 2000).map(lambda cents: Decimal(cents) / 100)
rates = st.builds(
    lambda base, tiers: Rate(base, tuple(sorted(dict(tiers).items()))),
    amounts,
    st.lists(st.tuples(st.integers(1, 400), amounts), max_size=3),
)
whole = st.builds(
    Rates,
    input=rates,
    output=rates,
    cached_input=st.none() | rates,
    cache_write=st.none() | rates,
    cache_write_1h=st.none() | rates,
)


@settings(max_examples=300, deadline=None)
@given(whole, st.integers(0, 500), st.integers(0, 50), st.data(), st.sampled_from(["none", "5m", "1h"]))
def test_no_usage_within_the_tokens_costs_more_than_the_bound(
    one: Rates, size: int, output: int, data: st.DataObject, writes: CacheWrites
) -> None:
    used = data.draw(st.integers(0, size))
    cached = data.draw(st.integers(0, used))
    written = 0 if writes == "none" else data.draw(st.integers(0, used - cached))
    for_an_hour = data.draw(st.integers(0, written)) if writes == "1h" else 0
    counts = TokenCounts(used, data.draw(st.integers(0, output)), cached, written, for_an_hour)
    assert Price((one,)).cost(counts) <= Price((one,)).bound(size, output, cache_writes=writes)


@settings(max_examples=100, deadline=None)
@given(whole, st.integers(0, 500), st.integers(0, 50))
def test_some_usage_costs_the_whole_bound(one: Rates, size: int, output: int) -> None:
    """It isn't only a bound: the dearest length, all of one kind, costs just that."""
    costs = []
    for used in {size, *(start for rate in one.kinds().values() for start, _ in rate.tiers if start < size)}:
        kinds = [TokenCounts(used, output), TokenCounts(used, output, used), TokenCounts(used, output, 0, used)]
        costs += [one.cost(counts) for counts in [*kinds, TokenCounts(used, output, 0, used, used)]]
    assert one.bound(size, output) == max(costs)


def test_a_tier_that_the_input_cant_reach_doesnt_count() -> None:
    price = Price((Rates(Rate(Decimal(2), ((272_000, Decimal(4)),)), Rate(Decimal(10), ((272_000, Decimal(15)),))),))
    assert price.bound(272_000, 1000) == Decimal("0.554")
    assert price.bound(272_001, 1000) == Decimal("1.103004")
