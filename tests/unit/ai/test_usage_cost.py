"""How a usage is counted."""

import pytest

from fusewire.ai.schema import Usage
from fusewire.ai.usage_cost import token_counts
from fusewire.budget.price import TokenCounts


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
