"""Shares of pgbench's, speed-ups, aims, and the tables."""

from typing import Any

import pytest

from benchmarks import ledger


def _rates(**changes: list[float]) -> list[dict[str, Any]]:
    """By slots and sessions: ours 90 and pgbench 100 calls a second, four times that with eight slots."""
    rates = []
    for slots in (1, 8):
        for sessions in (1, 16, 64):
            times = 1 if slots == 1 or sessions == 1 else 4
            one = {"fusewire": [90.0 * times] * 3, "pgbench": [100.0 * times] * 3}
            rates.append({"slots": slots, "sessions": sessions, **one})
    rates[0] |= changes
    return rates


def test_a_share_is_the_median_of_the_rounds_pairs() -> None:
    # A machine that slows down slows both: 0.5, 0.9 and 1.0 of what pgbench did in the same round.
    shares = ledger.shares(_rates(fusewire=[50, 18, 10], pgbench=[100, 20, 10]))
    assert shares[1, 1] == 0.9
    assert shares[8, 64] == pytest.approx(0.9)


def test_what_slots_bring_is_told_by_sessions() -> None:
    assert ledger.speed_ups(_rates(), "pgbench") == {1: 1.0, 16: 4.0, 64: 4.0}


@pytest.mark.parametrize(("ours", "met"), [(90.0, "met"), (89.9, "**not met**"), (120.0, "met")])
def test_within_a_tenth_or_not(ours: float, met: str) -> None:
    aims = ledger.aims({"rates": _rates(fusewire=[ours] * 3)})
    assert [one[2] for one in aims] == [met, "met", "met"]
    assert aims[0][:2] == ("reserve + settle within a tenth of pgbench's, 1 session", f"{ours / 100:.2f} of it")
    assert aims[2][0].endswith("64 sessions")


def test_the_tables_show_both_and_what_slots_bring() -> None:
    result = ledger.report({"rates": _rates()})
    assert "| 1 | 16 | 90 | 100 | 0.90 |" in result
    assert "| 8 | 64 | 360 | 400 | 0.90 |" in result
    assert result.endswith("| fusewire | 1.00 | 4.00 | 4.00 |\n| pgbench | 1.00 | 4.00 | 4.00 |")
