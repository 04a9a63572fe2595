"""A run whose money is wrong is void, whatever its figures."""

from decimal import Decimal
from typing import Any

import pytest

from benchmarks import books
from benchmarks.peers import CALL_USD


def _budget(**changes: object) -> dict[str, Any]:
    spent = 3 * CALL_USD
    return {
        "current_spend_usd": spent,
        "reserved_usd": 0,
        "request_count": 3,
        "by_provider": {"openai": spent},
    } | changes


def test_a_call_costs_what_its_tokens_do() -> None:
    assert Decimal("0.0005") == CALL_USD


def test_exact_books_are_right() -> None:
    assert books.mistake(3, _budget()) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"current_spend_usd": 3 * CALL_USD + Decimal("0.0000001")},
        {"current_spend_usd": 2 * CALL_USD},
        {"reserved_usd": Decimal("0.001")},
        {"request_count": 4},
        {"by_provider": {"openai": 2 * CALL_USD}},
    ],
)
def test_anything_else_is_told(changes: dict[str, object]) -> None:
    result = books.mistake(3, _budget(**changes))
    assert result is not None
    assert result.startswith("The books are wrong: 3 calls cost 0.0015 USD")
