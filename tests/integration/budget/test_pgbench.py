"""The ledger's two statements by hand book what our own client books, or their rates could not be compared."""

from pathlib import Path

import psycopg
import pytest

from benchmarks import ledger, pgbench
from tests.conftest import as_app_role
from tests.integration.budget.books import Books


@pytest.mark.parametrize("slots", ledger.SLOTS)
def test_pgbench_books_whole_calls(database_url: str, tmp_path: Path, slots: int) -> None:
    url = as_app_role(database_url)
    templates = ledger.templates(url, slots)
    rate = pgbench.calls_per_second(url, templates, sessions=2, seconds=1, folder=tmp_path)
    with psycopg.connect(database_url) as session:
        rows = session.execute(
            "SELECT status, cost_basis, cost, bound, request_id = id::text, count(*) FROM ledger"
            " GROUP BY 1, 2, 3, 4, 5 ORDER BY 6"
        ).fetchall()
    # Our own two, whose request has an id of its own, and pgbench's.
    ours, by_hand = rows
    assert ours[-2:] == (False, 2)
    assert by_hand[:4] == ours[:4] == ("settled", "actual", ledger._COST, ledger._CANDIDATES[0].bound)
    assert by_hand[5] > 0 < rate
    books = Books(database_url)
    books.check()
    books.close()
