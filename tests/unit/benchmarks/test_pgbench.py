"""What pgbench is given, and what it tells. tests/integration/budget/test_pgbench.py runs it."""

import pytest

from benchmarks import BenchmarkError, pgbench

_TOLD = """\
transaction type: calls.sql
number of transactions actually processed: 1234
number of failed transactions: {failed} (0.000%)
latency average = 0.81 ms
initial connection time = 2.345 ms
tps = 1234.567890 (without initial connection time)
"""


def test_its_rate_is_read() -> None:
    assert pgbench.rate(_TOLD.format(failed=0)) == 1234.56789


@pytest.mark.parametrize("row", ["", "pgbench: error: aborted", _TOLD.format(failed=1)])
def test_anything_else_is_no_rate(row: str) -> None:
    with pytest.raises(BenchmarkError, match="no clean rate"):
        pgbench.rate(row)


def test_an_argument_keeps_a_place_for_its_id() -> None:
    argument = {"id": "0190-a", "share": "50%", "entry": {"request_id": "0190-a"}}
    assert pgbench.template(argument, "0190-a") == '{"id":"%1$s","share":"50%%","entry":{"request_id":"%1$s"}}'


def test_an_argument_without_the_id_would_be_booked_once() -> None:
    with pytest.raises(BenchmarkError, match="doesn't hold its id"):
        pgbench.template({"id": "another"}, "0190-a")
