"""One row a number of calls in a worker, and what a call takes of the memory."""

from benchmarks.calls_per_worker import Found, table


def test_what_a_call_takes_is_shared_by_those_that_are_served_at_once() -> None:
    found = [Found(1, (100.0, 200.4, 300.0), 16.0, 8, 400.0), Found(16, (90.0, 210.0, 310.0), 120.0, 4, 224.0)]
    assert table(found).splitlines()[2:] == [
        "| 1 | 100 | 200 | 300 | 16 | 8 | 8 | 400 | 50.0 |",
        "| 16 | 90 | 210 | 310 | 120 | 64 | 4 | 224 | 3.5 |",
    ]
