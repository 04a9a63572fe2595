"""How the statements read the tables doesn't depend on how many calls there were: Postgres' own plans, at two sizes."""

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from benchmarks.growth import Measured, measure, report
from tests.conftest import CoreFactory
from tests.integration.budget.books import Books
from tests.support.database import ask

FEW, MANY = 2_000, 40_000
READS_NO_CALLS = ("GET /admin/usage, the month by day, provider, model", "GET /admin/usage, 60 days by key")


@pytest.fixture(scope="module")
def measured(postgres: str, template: str) -> list[Measured]:
    urls = {}
    with psycopg.connect(postgres, autocommit=True) as owner:
        for rows in (FEW, MANY):
            name = f"growth_{rows}"
            owner.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
            owner.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
            )
            urls[rows] = make_conninfo(postgres, dbname=name)
        found = measure(urls, rounds=3)
        books = Books(urls[MANY])
        books.check()  # what it was filled with is a ledger
        books.close()
        for rows in urls:
            owner.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(f"growth_{rows}")))
    return found


def test_plans_are_the_same_at_every_size(measured: list[Measured]) -> None:
    few, many = measured
    assert few.plans == many.plans
    assert all(many.plans.values()), "a statement without a scan was not seen"


def test_usage_never_reads_the_ledger(measured: list[Measured]) -> None:
    for name in READS_NO_CALLS:
        assert not [scan for scan in measured[1].plans[name] if scan.endswith(" ledger")], name


def test_nothing_walks_through_the_ledger(measured: list[Measured]) -> None:
    for name, scans in measured[1].plans.items():
        assert "Seq Scan on ledger" not in scans, name
    # The budget route looks only for reservations that have expired.
    budget = [scan for scan in measured[1].plans["GET /admin/budget"] if scan.endswith(" ledger")]
    assert budget == ["Index Scan using ledger_open on ledger"]


def test_a_walk_through_the_ledger_would_be_seen(core: CoreFactory, database_url: str) -> None:
    from benchmarks.growth import plans

    database = core().database
    ask(database, "SELECT ledger_ping($1::jsonb)", {})
    row = plans(lambda: ask(database, "SELECT $1::jsonb, count(*) FROM ledger WHERE cost > 1", {}), database)
    assert row == ["Seq Scan on ledger"]


def test_the_report_says_where_plans_differ(measured: list[Measured]) -> None:
    few, many = measured
    assert "| NO |" not in report(measured)
    other = Measured(
        many.rows, 1.0, many.bytes, many.milliseconds, many.plans | {READS_NO_CALLS[0]: ["Seq Scan on ledger"]}
    )
    assert report([few, other]).count("| NO |") == 1
