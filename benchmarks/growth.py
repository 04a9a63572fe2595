"""`python -m benchmarks.growth`: what a ledger's size does to the statements that everybody waits for.

Fills databases of an embedded Postgres with so many attempts, the same days, models and keys each time, and runs the
same statements in each: their plans, as Postgres itself reports them, and their latencies side by side. The rows are
made by one INSERT with the indexes off.
"""

import argparse
import json
import re
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from benchmarks import BenchmarkError, machine
from benchmarks.peers import ROOT
from fusewire.budget.ledger import Ledger
from fusewire.budget.price import TokenCounts
from fusewire.budget.reservation import Call, Candidate, Settlement
from fusewire.budget.usage import Books
from fusewire.config import load_settings
from fusewire.store.db import Database
from fusewire.store.migrate import migrate
from local.postgres import embedded_postgres

Session = psycopg.Connection[tuple[Any, ...]]
Statement = Callable[[], object]

_FOLDER: Final = ROOT / ".fusewire-bench" / "growth"
_ROUNDS: Final = 60
_WARM_UP: Final = 10
_BUDGET: Final = "1000000000"
_SCAN: Final = re.compile(r"(Seq Scan|Index(?: Only)? Scan|Bitmap Heap Scan)(?: Backward)?(?: using (\w+))? on (\w+)")
_TABLES: Final = ("ledger", "usage_rollup", "budget_window", "audit")

# A month that is over and the one that runs, 30 days each; 8 models, 20 keys.
_FILL: Final = """
    INSERT INTO ledger (id, window_id, request_id, attempt, operation, provider, model, tier, key_id, status, bound,
                        cost, cost_basis, outcome, input_tokens, output_tokens, reserved_at, expires_at, ended_at, day)
    SELECT overlay(ledger_id_at(at)::text PLACING '7' || substr(md5(n::text), 1, 3) FROM 15 FOR 4)::uuid, w.id,
           md5(n::text)::uuid::text, 1, 'chat', 'provider-' || n %% 4, 'a-model-of-usual-length-' || n %% 8,
           CASE n %% 2 WHEN 0 THEN 'sota' END, 'key_0123456789abcdef' || n %% 20, 'settled', 0.0021, 0.00012345,
           'actual', 'success', 700, 200, at, at + interval '3 minutes', at + interval '2 seconds',
           (at AT TIME ZONE 'UTC')::date
    FROM (SELECT n, now() - interval '60 days' + n * (interval '60 days' / %(rows)s) AS at
          FROM generate_series(1, %(rows)s) n) s
    JOIN budget_window w ON at >= w.opened_at AND (at < w.closed_at OR w.closed_at IS NULL)
"""
_WINDOWS: Final = """
    INSERT INTO budget_window (opened_at, opened_by, resets_at, closed_at)
    VALUES (now() - interval '61 days', 'use', now() - interval '30 days', now() - interval '30 days'),
           (now() - interval '30 days', 'period_end', now() + interval '2 days', NULL)
"""
_BOOK: Final = """
    INSERT INTO usage_rollup (window_id, day, provider, model, tier, key_id, cost, requests, input_tokens,
                              output_tokens)
    SELECT window_id, day, provider, model, COALESCE(tier, ''), COALESCE(key_id, ''), sum(cost), count(*),
           sum(input_tokens), sum(output_tokens) FROM ledger GROUP BY 1, 2, 3, 4, 5, 6;
    UPDATE budget_window w SET spent = r.cost, request_count = r.requests, expired_until = now()
    FROM (SELECT window_id, sum(cost) AS cost, sum(requests) AS requests FROM usage_rollup GROUP BY 1) r
    WHERE r.window_id = w.id
"""
_SIZES: Final = "SELECT t, pg_total_relation_size(t::regclass) FROM unnest(%s::text[]) t"


@dataclass(frozen=True, slots=True)
class Measured:
    """One size of the ledger."""

    rows: int
    fill_seconds: float
    bytes: dict[str, int]
    """By table with its indexes."""
    milliseconds: dict[str, tuple[float, float]]
    """Median and 95th percentile by statement."""
    plans: dict[str, list[str]]
    """The scans of each statement, in a fixed order."""


def fill(session: Session, rows: int) -> None:
    """Put so many settled attempts into an empty, migrated database, with rollups and windows that agree."""
    indexes = [
        row[0]
        for row in session.execute(
            "SELECT indexdef FROM pg_indexes WHERE tablename = 'ledger' AND indexname <> 'ledger_pkey'"
        )
    ]
    names = session.execute(
        "SELECT indexname FROM pg_indexes WHERE tablename = 'ledger' AND indexname <> 'ledger_pkey'"
    ).fetchall()
    session.execute("ALTER TABLE ledger DISABLE TRIGGER ALL; ALTER TABLE ledger DROP CONSTRAINT ledger_pkey")
    for (name,) in names:
        session.execute(sql.SQL("DROP INDEX {}").format(sql.Identifier(name)))
    session.execute(_WINDOWS)
    session.execute(_FILL, {"rows": rows})
    session.execute("ALTER TABLE ledger ADD PRIMARY KEY (id); ALTER TABLE ledger ENABLE TRIGGER ALL")
    for definition in indexes:
        session.execute(definition.encode())
    session.execute(_BOOK)
    session.execute("VACUUM (ANALYZE)")


@contextmanager
def statements(url: str) -> Iterator[tuple[dict[str, Statement], Database]]:
    """What is measured, by name, each on the one connection of a function."""
    settings = load_settings({"DATABASE_URL": url, "AUTH_MODE": "open", "AI_MONTHLY_BUDGET_USD": _BUDGET})
    database = Database(settings.database_url)
    ledger, books = Ledger(database, settings), Books(database, settings)
    with psycopg.connect(url) as session:
        [(some_request, first)] = session.execute(
            "SELECT request_id, day FROM ledger ORDER BY id OFFSET 1000 LIMIT 1"
        ).fetchall()
    groups = ("day", "provider", "model")
    # Not the calendar's month, which is a day long on its first.
    month = datetime.now(UTC).date() - timedelta(days=30)

    def one_call() -> None:
        reservation = ledger.reserve(
            Call("benchmark", "chat", "sota", "key_0123456789abcdef1"), [Candidate("provider-1", "m", Decimal("0.01"))]
        )
        ledger.settle(Settlement(reservation, "actual", "success", cost=Decimal("0.001"), counts=TokenCounts(10, 20)))

    try:
        yield (
            {
                "one call (reserve + settle)": one_call,
                "GET /admin/budget": ledger.budget,
                "GET /admin/usage, the month by day, provider, model": lambda: books.usage(
                    groups, limit=100, first=month
                ),
                "GET /admin/usage, 60 days by key": lambda: books.usage(("key",), limit=100, first=first),
                "GET /admin/calls, a page": lambda: books.calls({}, limit=100),
                "GET /admin/calls, a page that finds nothing": lambda: books.calls({"model": "none"}, limit=100),
                "GET /admin/calls/{request_id}": lambda: books.call(some_request),
            },
            database,
        )
    finally:
        database.close()


def plans(run: Statement, database: Database) -> list[str]:
    """How the statements within read the tables, reported by Postgres as it runs them (`auto_explain`)."""
    notes: list[str] = []
    session = database._free[0]._connection
    if session is None:
        raise BenchmarkError("Run the statement once before its plans are asked for.")
    session.execute("LOAD 'auto_explain'")
    for setting in (
        "auto_explain.log_min_duration = 0",
        "auto_explain.log_nested_statements = on",
        "client_min_messages = log",
    ):
        session.execute(f"SET {setting}".encode())
    session.add_notice_handler(lambda notice: notes.append(notice.message_primary or ""))
    run()
    session.execute("RESET client_min_messages")
    session.execute("SET auto_explain.log_min_duration = -1")
    found = {
        # Whether the index is enough by itself follows from what autovacuum has marked by then, not from the size.
        f"Index Scan using {index} on {table}" if index else f"{kind} on {table}"
        for note in notes
        for kind, index, table in _SCAN.findall(note)
        if table in _TABLES
    }
    return sorted(found)


def measure(urls: Mapping[int, str], *, rounds: int = _ROUNDS) -> list[Measured]:
    """Fill each of the databases, given by its rows, and run every statement in all of them, in turn."""
    filled = {rows: _filled(url, rows) for rows, url in urls.items()}
    with ExitStack() as stack:
        opened = {rows: stack.enter_context(statements(url)) for rows, url in urls.items()}
        names = list(next(iter(opened.values()))[0])
        times = {name: _timed({rows: named[name] for rows, (named, _) in opened.items()}, rounds) for name in names}
        return [
            Measured(
                rows,
                *filled[rows],
                {name: times[name][rows] for name in names},
                {name: plans(run, database) for name, run in named.items()},
            )
            for rows, (named, database) in opened.items()
        ]


def _filled(url: str, rows: int) -> tuple[float, dict[str, int]]:
    """:return: the seconds that it took, and bytes by table"""
    begun = time.monotonic()
    with psycopg.connect(url, autocommit=True) as session:
        fill(session, rows)
        took = round(time.monotonic() - begun, 1)
        sizes = session.execute(
            "SELECT t, pg_total_relation_size(t::regclass) FROM unnest(%s::text[]) t", (list(_TABLES),)
        )
        return took, dict(sizes.fetchall())


def _timed(runs: Mapping[int, Statement], rounds: int) -> dict[int, tuple[float, float]]:
    """Interleaved, so that what else the machine does meets every size alike."""
    took: dict[int, list[float]] = {rows: [] for rows in runs}
    for _ in range(_WARM_UP + rounds):
        for rows, run in runs.items():
            begun = time.perf_counter()
            run()
            took[rows].append((time.perf_counter() - begun) * 1000)
    kept = {rows: each[_WARM_UP:] for rows, each in took.items()}
    return {
        rows: (round(statistics.median(each), 2), round(statistics.quantiles(each, n=20)[-1], 2))
        for rows, each in kept.items()
    }


def report(all_measured: Sequence[Measured]) -> str:
    """Tables in Markdown, and whether the plans are the same."""
    sizes = [f"{each.rows:,} rows" for each in all_measured]
    lines = [f"| milliseconds, median (95 %) | {' | '.join(sizes)} |", f"| --- |{' --- |' * len(sizes)}"]
    for name in all_measured[0].milliseconds:
        cells = [f"{m.milliseconds[name][0]} ({m.milliseconds[name][1]})" for m in all_measured]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", f"| size | {' | '.join(sizes)} |", f"| --- |{' --- |' * len(sizes)}"]
    for table in ("ledger", "usage_rollup"):
        cells = [f"{each.bytes[table] / 1e6:,.1f} MB" for each in all_measured]
        lines.append(f"| `{table}` with its indexes | {' | '.join(cells)} |")
    lines.append(f"| filled in | {' | '.join(f'{each.fill_seconds} s' for each in all_measured)} |")
    lines += ["", "| statement | its scans | the same at every size |", "| --- | --- | --- |"]
    for name, scans in all_measured[-1].plans.items():
        same = all(each.plans[name] == scans for each in all_measured)
        lines.append(f"| {name} | {', '.join(scans)} | {'yes' if same else 'NO'} |")
    return "\n".join(lines)


def _database(uri: str, rows: int) -> str:
    name = f"growth_{rows}"
    with psycopg.connect(uri, autocommit=True) as session:
        session.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name)))
        session.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    url = make_conninfo(uri, dbname=name)
    migrate(url)
    return url


def _run(sizes: Sequence[int]) -> list[Measured]:
    shutil.rmtree(_FOLDER, ignore_errors=True)
    _FOLDER.mkdir(parents=True)
    try:
        with embedded_postgres(_FOLDER / "postgres", connections=4) as uri:
            return measure({rows: _database(uri, rows) for rows in sizes})
    finally:
        shutil.rmtree(_FOLDER, ignore_errors=True)


def _written(all_measured: Sequence[Measured], file: Path) -> None:
    results: Mapping[str, object] = {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "machine": machine.described(),
        "commit": machine.commit(),
        "sizes": [
            {name: getattr(each, name) for name in ("rows", "fill_seconds", "bytes", "milliseconds", "plans")}
            for each in all_measured
        ],
    }
    file.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def main() -> int:
    """:return: the exit status"""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.growth", description="Measure what a large ledger costs."
    )
    parser.add_argument(
        "--rows", type=int, nargs="+", default=[10_000, 1_000_000], help="10000000 takes minutes and 5 GB"
    )
    parser.add_argument("--write", type=Path, help="a JSON file for the figures")
    options = parser.parse_args()
    try:
        found = _run(options.rows)
    except BenchmarkError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{report(found)}\n")
    if options.write:
        _written(found, options.write)
    return 0


if __name__ == "__main__":
    sys.exit(main())
