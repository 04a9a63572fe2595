"""Usage as Anthropic's documentation shows it: counted as OpenAI counts, priced exactly, within the bound."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusewire.ai.schema import Usage
from fusewire.ai.usage_cost import token_counts
from fusewire.budget.price import Price, TokenCounts
from fusewire.budget.pricing import PriceBook
from tests.unit.ai.providers.anthropic.messages import answered, begun, ended, message, read

BOOK = PriceBook(overrides={}, aliases={}, local_providers=[])
PRICED = ["claude-haiku-4-5", "claude-haiku-5-5", "claude-sonnet-4-5", "claude-opus-5-5", "claude-fable-5-1"]


def price(model: str) -> Price:
    return BOOK.price("anthropic", model)


def usage_of_stream(first: dict[str, Any] | None, last: dict[str, Any] | None) -> Usage | None:
    return read(begun(first), *ended(last))[-1].usage


# (what is shown where, the usage, its price in USD with claude-sonnet-4-5)
RECORDED: list[tuple[str, dict[str, Any], str]] = [
    ("Create a Message", {"input_tokens": 2095, "output_tokens": 503}, "0.013830"),
    (
        "Prompt caching, first call",
        {
            "cache_creation_input_tokens": 188086,
            "cache_read_input_tokens": 0,
            "input_tokens": 21,
            "output_tokens": 393,
        },
        "0.7112805",
    ),
    (
        "Prompt caching, second call",
        {
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 188086,
            "input_tokens": 21,
            "output_tokens": 393,
        },
        "0.0623838",
    ),
    (
        "Prompt caching, 1-hour cache duration",
        {
            "input_tokens": 2048,
            "cache_read_input_tokens": 1800,
            "cache_creation_input_tokens": 248,
            "output_tokens": 503,
            "cache_creation": {"ephemeral_5m_input_tokens": 148, "ephemeral_1h_input_tokens": 100},
        },
        "0.015384",
    ),
    (
        "Thinking: what it was billed",
        {"input_tokens": 43, "output_tokens": 1912, "output_tokens_details": {"thinking_tokens": 1657}},
        "0.028809",
    ),
    (
        "more than 200,000 tokens of input, caches included: the long-context price",
        {
            "input_tokens": 1000,
            "cache_read_input_tokens": 200000,
            "cache_creation_input_tokens": 0,
            "output_tokens": 100,
        },
        "0.12825",
    ),
]


@pytest.mark.parametrize(("result", "cost"), [row[1:] for row in RECORDED], ids=[row[0] for row in RECORDED])
def test_recorded_usage_is_priced_exactly_and_within_its_bound(result: dict[str, Any], cost: str) -> None:
    response = answered(message(usage=result))
    assert response.usage is not None
    counts = token_counts(response.usage)
    assert counts.input_tokens == sum(result.get(name, 0) for name in result if name.endswith("input_tokens"))
    assert counts.output_tokens == result["output_tokens"]
    paid = price("claude-sonnet-4-5")
    assert paid.cost(counts) == Decimal(cost)
    assert paid.cost(counts) <= paid.bound(counts.input_tokens, counts.output_tokens)


@pytest.mark.parametrize(
    ("first", "last", "counted"),
    [
        # "Streaming messages": a basic request, tool use, and a search that grows the input.
        ({"input_tokens": 25, "output_tokens": 1}, {"output_tokens": 15}, (25, 15)),
        ({"input_tokens": 472, "output_tokens": 2}, {"output_tokens": 89}, (472, 89)),
        (
            {
                "input_tokens": 2679,
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 0,
                "output_tokens": 3,
            },
            {
                "input_tokens": 10682,
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 0,
                "output_tokens": 510,
                "server_tool_use": {"web_search_requests": 1},
            },
            (10682, 510),
        ),
        (
            {"input_tokens": 4, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 50, "output_tokens": 1},
            {"input_tokens": None, "cache_read_input_tokens": None, "output_tokens": 7},
            (154, 7),
        ),
    ],
)
def test_a_streams_usage_is_what_was_told_last(
    first: dict[str, Any], last: dict[str, Any], counted: tuple[int, int]
) -> None:
    usage = usage_of_stream(first, last)
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens) == counted
    assert usage.total_tokens == sum(counted)


def test_how_long_a_streams_cache_writes_are_kept_is_told_at_its_start() -> None:
    written = {"ephemeral_5m_input_tokens": 148, "ephemeral_1h_input_tokens": 100}
    first = {"input_tokens": 2048, "cache_creation_input_tokens": 248, "cache_creation": written, "output_tokens": 1}
    usage = usage_of_stream(first, {"input_tokens": 2048, "cache_creation_input_tokens": 248, "output_tokens": 503})
    assert usage is not None
    expected = TokenCounts(2296, 503, cache_write_tokens=248, cache_write_1h_tokens=100)
    assert price("claude-sonnet-4-5").cost(token_counts(usage)) == price("claude-sonnet-4-5").cost(expected)


@pytest.mark.parametrize(
    ("first", "last"),
    [
        ({"input_tokens": 25, "output_tokens": 1}, None),
        ({"input_tokens": 25, "output_tokens": 1}, {"output_tokens": None}),
    ],
)
def test_the_output_that_a_stream_begins_with_is_no_total(first: dict[str, Any], last: dict[str, Any] | None) -> None:
    usage = usage_of_stream(first, last)
    assert usage is not None
    assert "completion_tokens" not in usage.model_fields_set, "so that it is settled at the bound"


@pytest.mark.parametrize(("first", "last"), [(None, None), ({"output_tokens": 1}, None), ({}, {})])
def test_a_stream_without_usage(first: dict[str, Any] | None, last: dict[str, Any] | None) -> None:
    assert usage_of_stream(first, last) is None


def test_output_is_told_without_input_too() -> None:
    for usage in (usage_of_stream(None, {"output_tokens": 15}), answered(message(usage={"output_tokens": 15})).usage):
        assert usage is not None
        assert (usage.has_input, usage.has_output, usage.completion_tokens) == (False, True, 15)


@pytest.mark.parametrize("usage", [None, {}, [], {"input_tokens": -1, "output_tokens": "x"}])
def test_a_whole_answer_without_usage(usage: object) -> None:
    assert answered(message(usage=usage)).usage is None


def test_reasoning_is_within_the_output() -> None:
    usage = answered(message(usage=RECORDED[4][1])).usage
    assert usage is not None
    assert usage.completion_tokens_details is not None
    assert (usage.completion_tokens, usage.completion_tokens_details.reasoning_tokens) == (1912, 1657)


@given(
    counts=st.fixed_dictionaries(
        {
            "input_tokens": st.integers(1, 300_000),
            "output_tokens": st.integers(1, 200_000),
            "cache_read_input_tokens": st.integers(0, 300_000),
            "cache_creation": st.fixed_dictionaries(
                {
                    "ephemeral_5m_input_tokens": st.integers(0, 300_000),
                    "ephemeral_1h_input_tokens": st.integers(0, 300_000),
                }
            ),
        }
    ),
    model=st.sampled_from(PRICED),
)
def test_no_usage_costs_more_than_its_bound(counts: dict[str, Any], model: str) -> None:
    usage = answered(message(usage=counts)).usage
    assert usage is not None
    by_age = counts["cache_creation"]
    written, hour = sum(by_age.values()), by_age["ephemeral_1h_input_tokens"]
    exact = TokenCounts(
        counts["input_tokens"] + counts["cache_read_input_tokens"] + written,
        counts["output_tokens"],
        counts["cache_read_input_tokens"],
        written,
        hour,
    )
    bound = price(model).bound(usage.prompt_tokens, usage.completion_tokens)
    assert price(model).cost(token_counts(usage)) <= bound
    assert price(model).cost(exact) <= bound
