"""A key's minute in OpenAI's headers."""

import pytest

from fusewire.errors import BudgetExceededError, BudgetReservedError, FusewireError, RateLimitedError
from fusewire.http.headers import error_headers, rate_limit_headers
from fusewire.rate_limit import RateLimitState
from tests.unit.http.test_errors import RESETS


@pytest.mark.parametrize(
    ("seconds", "row"), [(0, "0s"), (1, "1s"), (12, "12s"), (59, "59s"), (60, "1m0s"), (61, "1m1s")]
)
def test_the_reset_is_a_duration_as_openai_writes_it(seconds: int, row: str) -> None:
    assert rate_limit_headers(RateLimitState(60, 59, 1000, 10, seconds)) == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": row,
        "x-ratelimit-limit-tokens": "1000",
        "x-ratelimit-remaining-tokens": "10",
        "x-ratelimit-reset-tokens": row,
    }


def test_only_limits_that_the_key_has_are_told() -> None:
    assert rate_limit_headers(None) == rate_limit_headers(RateLimitState(None, None, None, None, 0)) == {}
    assert {name.rpartition("-")[2] for name in rate_limit_headers(RateLimitState(1, 0, None, None, 5))} == {"requests"}
    assert {name.rpartition("-")[2] for name in rate_limit_headers(RateLimitState(None, None, 1, 0, 5))} == {"tokens"}


@pytest.mark.parametrize(
    "error", [RateLimitedError("?", limit="requests", retry_after=30), BudgetReservedError("?")], ids=repr
)
def test_a_key_that_has_to_wait_is_told_its_minute(error: FusewireError) -> None:
    error.rate_limit = RateLimitState(60, 0, None, None, 30)
    assert error_headers(error)["x-ratelimit-remaining-requests"] == "0"
    assert "Retry-After" in error_headers(error)


def test_a_key_that_has_to_stop_is_told_nothing_of_a_minute() -> None:
    error = BudgetExceededError("?", budget="key_1", resets_at=RESETS)
    error.rate_limit = RateLimitState(60, 0, None, None, 30)
    assert not [name for name in error_headers(error) if name.startswith("x-ratelimit")]
