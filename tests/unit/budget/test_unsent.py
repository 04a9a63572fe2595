"""What an environment keeps through an outage of Postgres. What becomes of it is in
tests/integration/budget/test_exactly_once.py."""

from typing import Any

import pytest

from fusewire.budget.unsent import newest


@pytest.mark.parametrize(
    ("kept", "left"),
    [
        (["release"] * 3, 3),
        (["actual"] * 130, 100),
        (["actual"] * 10 + ["release"] * 200, 100),
        (["release"] * 90 + ["actual"] * 10 + ["release"] * 5, 100),
    ],
)
def test_settlements_are_kept_through_an_outage_before_what_may_never_have_been_reserved(
    kept: list[str], left: int
) -> None:
    """Calls that come together may each leave a reservation that got no answer."""
    ends: list[Any] = [
        {"settlement": {"id": str(n), "mode": mode, "outcome": "not_sent" if mode == "release" else "success"}}
        for n, mode in enumerate(kept)
    ]
    those = newest(ends)
    assert len(those) == left
    assert sorted(those, key=ends.index) == those
    assert [end for end in those if end["settlement"]["mode"] == "actual"] == [
        end for end in ends if end["settlement"]["mode"] == "actual"
    ][-left:]
