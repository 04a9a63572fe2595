"""Usage in OpenAI's protocol, as servers were seen to tell it.

The recorded usage is of documentation's own examples, and of answers of live endpoints that others published.
"""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusewire.ai.providers.openai_usage import usage_of
from fusewire.ai.usage_cost import token_counts
from fusewire.budget.price import TokenCounts
from fusewire.budget.pricing import PriceBook

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


@pytest.mark.parametrize(("result", "counted", "cost"), [row[1:] for row in RECORDED], ids=[row[0] for row in RECORDED])
def test_recorded_usage_is_priced_exactly_and_within_its_bound(
    result: dict[str, Any], counted: TokenCounts, cost: str
) -> None:
    usage = usage_of(result | ON_DEMAND, has_content=True)
    assert usage is not None
    assert token_counts(usage) == counted
    assert PRICE.cost(counted) == Decimal(cost)
    assert PRICE.cost(counted) <= PRICE.bound(counted.input_tokens, counted.output_tokens)


numbers = st.integers(0, 2**53)


@given(numbers, numbers, numbers, numbers, st.booleans())
def test_no_usage_costs_more_than_its_bound(
    prompt: int, completion: int, cached: int, thoughts: int, has_content: bool
) -> None:
    result = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion + thoughts,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": thoughts},
    }
    usage = usage_of(result, has_content=has_content)
    if usage is None or not (usage.has_input and usage.has_output):
        return
    counts = token_counts(usage)
    assert counts.output_tokens >= completion
    assert PRICE.cost(counts) <= PRICE.bound(prompt, counts.output_tokens)


# (the usage of a Grok whose reasoning is beside its completion; the output is the total's, as xAI bills it)
XAI = {"prompt_tokens": 12, "completion_tokens": 1, "total_tokens": 110} | {
    "completion_tokens_details": {"reasoning_tokens": 97}
}


def test_reasoning_beside_the_completion_is_output() -> None:
    usage = usage_of(XAI, has_content=True)
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (12, 98, 110)
    assert token_counts(usage) == TokenCounts(12, 98)


@pytest.mark.parametrize(
    ("counted", "has_content", "expected"),
    [
        ({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, False, (0, 0)),
        ({"prompt_tokens": 9, "completion_tokens": None, "total_tokens": 9}, False, (9, 0)),
        ({"prompt_tokens": 9, "completion_tokens": None, "total_tokens": 9}, True, (9, None)),
        (
            {"prompt_tokens": None, "completion_tokens": 1, **{k: XAI[k] for k in XAI if "details" in k}},
            True,
            (None, 98),
        ),
        ({"completion_tokens": True, "prompt_tokens": False}, True, (None, None)),
        ({"prompt_tokens": 9.0, "completion_tokens": "4"}, True, (9, 4)),
    ],
)
def test_what_a_usage_tells(
    counted: dict[str, Any], has_content: bool, expected: tuple[int | None, int | None]
) -> None:
    usage = usage_of(counted, has_content=has_content)
    if expected == (None, None):
        assert usage is None
        return
    assert usage is not None
    found = (
        usage.prompt_tokens if usage.has_input else None,
        usage.completion_tokens if usage.has_output else None,
    )
    assert found == expected
