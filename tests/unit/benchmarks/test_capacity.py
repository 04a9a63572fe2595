"""The arithmetic of a larger Postgres."""

import pytest

from benchmarks.capacity import Parts, Server, calls_per_second

_PARTS = Parts(statements_ms=0.5, flush_ms=0.75, cpu_ms=0.4)


def test_the_parts_are_taken_from_rates() -> None:
    measured = {"calls_per_second": 500.0, "calls_per_second_without_waiting_for_the_disk": 2000.0}
    assert Parts.of(measured | {"server_cpu_ms_per_call": 0.4}) == _PARTS
    # By the same arithmetic, one slot of the machine itself does what was measured.
    assert calls_per_second(_PARTS, Server("here", 2, _PARTS.flush_ms), 1) == pytest.approx(500)


def test_a_row_is_locked_for_two_commits() -> None:
    assert calls_per_second(_PARTS, Server("s", 16, flush_ms=1.0), 1) == pytest.approx(1000 / 2.5)
    assert calls_per_second(_PARTS, Server("s", 16, flush_ms=3.0), 1) == pytest.approx(1000 / 6.5)


def test_slots_multiply_it_until_the_processors_are_used_up() -> None:
    server = Server("s", 16, flush_ms=1.0)
    assert calls_per_second(_PARTS, server, 8) == pytest.approx(8 * 1000 / 2.5)
    assert calls_per_second(_PARTS, server, 1000) == pytest.approx(16 * 0.7 * 1000 / 0.4)


def test_a_faster_core_hastens_the_statements_and_not_the_disk() -> None:
    fast = Server("s", 1, flush_ms=1.0, core_speed=2.0)
    assert calls_per_second(_PARTS, fast, 1) == pytest.approx(1000 / 2.25)
    assert calls_per_second(_PARTS, fast, 1000) == pytest.approx(2 * 0.7 * 1000 / 0.4)
