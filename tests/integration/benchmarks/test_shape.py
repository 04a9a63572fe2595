"""The shape alone is real: it asks the vendor and books, call for call, and does nothing else."""

from decimal import Decimal
from pathlib import Path

import psycopg
import uvloop

from benchmarks import peers
from benchmarks.load import offer


def test_each_call_is_asked_for_and_booked(tmp_path: Path) -> None:
    with peers.vendor() as vendor:
        server = peers.shape(vendor, tmp_path)
        try:
            server.start()
            timings = uvloop.run(offer(server.target, callers=4, stream=False, seconds=60, max_calls=40))
            assert timings.calls == 40
            assert peers.get_json(vendor, "/billed") == {server.target.key: 40}
            result = (tmp_path / "home" / "postgres" / "postmaster.pid").read_text().splitlines()
            with psycopg.connect(host=result[4], port=result[3], user="postgres", dbname="fusewire") as books:
                row = books.execute(
                    "SELECT w.spent + s.spent, w.reserved + s.reserved, w.request_count + s.request_count"
                    " FROM budget_window w, (SELECT sum(spent) AS spent, sum(reserved) AS reserved,"
                    " sum(request_count) AS request_count FROM budget_slot) s"
                ).fetchone()
            # Two more: the calls whose statements it repeats.
            assert row == (42 * Decimal("0.0005"), 0, 42)
        finally:
            server.stop()
