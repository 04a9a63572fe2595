"""Usage as Vertex's OpenAI-compatible endpoint was seen to tell it: thoughts counted as output, within the bound.

Its documentation's own examples, and answers of live endpoints that others published; the numbers are theirs.
"""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusewire.ai.attempts import token_counts
from fusewire.ai.providers.gcp import _with_thoughts
from fusewire.ai.vocabulary import Usage
from fusewire.budget.pricing import PriceBook, TokenCounts

PRICE = PriceBook(overrides={}, aliases={}, local_providers=[]).price("gcp", "gemini-3.1-pro-preview")
ON_DEMAND = {"extra_properties": {"google": {"traffic_type": "ON_DEMAND"}}}

# (of which model, the usage, how it counts, its price in USD were it all gemini-3.1-pro-preview)
RECORDED: list[tuple[str, dict[str, Any], TokenCounts, str]] = [
    (
        "gemini-3.1-pro-preview, thoughts apart from the completion",
        {"prompt_tokens": 9, "completion_tokens": 566, "total_tokens": 1521}
        | {"completion_tokens_details": {"reasoning_tokens": 946}},
        TokenCounts(9, 1512),
        "0.018162",
    ),
    (
        "gemini-3.8-flash, one word after many thoughts",
        {"prompt_tokens": 21, "completion_tokens": 1, "total_tokens": 135}
        | {"completion_tokens_details": {"reasoning_tokens": 113}},
        TokenCounts(21, 114),
        "0.00141",
    ),
    (
        "gemma-4-26b-a4b-it-maas",
        {"prompt_tokens": 341, "completion_tokens": 2, "total_tokens": 343},
        TokenCounts(341, 2),
        "0.000706",
    ),
    (
        "deepseek-v3.2-maas, with details that are null",
        {"prompt_tokens": 12, "completion_tokens": 6, "total_tokens": 18, "prompt_tokens_details": None},
        TokenCounts(12, 6),
        "0.000096",
    ),
    (
        "grok-4.1-fast-reasoning, results of tools",
        {"prompt_tokens": 217, "completion_tokens": 66, "total_tokens": 283},
        TokenCounts(217, 66),
        "0.001226",
    ),
    (
        "grok, cached, its thoughts within the completion",
        {"prompt_tokens": 335, "completion_tokens": 305, "total_tokens": 640}
        | {"prompt_tokens_details": {"cached_tokens": 320}, "completion_tokens_details": {"reasoning_tokens": 284}},
        TokenCounts(335, 305, 320),
        "0.003754",
    ),
]


@pytest.mark.parametrize(("told", "counted", "cost"), [row[1:] for row in RECORDED], ids=[row[0] for row in RECORDED])
def test_recorded_usage_is_priced_exactly_and_within_its_bound(
    told: dict[str, Any], counted: TokenCounts, cost: str
) -> None:
    usage = _with_thoughts(Usage.model_validate(told | ON_DEMAND))
    assert usage is not None
    assert token_counts(usage) == counted
    assert PRICE.cost(counted) == Decimal(cost)
    assert PRICE.cost(counted) <= PRICE.bound(counted.input_tokens, counted.output_tokens)


numbers = st.integers(0, 2**53)


@given(numbers, numbers, numbers, numbers)
def test_no_usage_costs_more_than_its_bound(prompt: int, completion: int, cached: int, thoughts: int) -> None:
    told = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "prompt_tokens_details": {"cached_tokens": cached},
    }
    usage = _with_thoughts(Usage.model_validate(told | {"total_tokens": min(prompt + completion + thoughts, 2**53)}))
    assert usage is not None
    counts = token_counts(usage)
    assert counts.output_tokens >= completion
    assert PRICE.cost(counts) <= PRICE.bound(prompt, counts.output_tokens)
