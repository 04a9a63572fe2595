"""The books and the log, for every test that calls through the router; and vendors that last for a module.

Calls change rows and never the schema, so all these tests share a database that each of them finds empty: it takes a
hundredth of the time of a new one.
"""

from collections.abc import Iterator

import anthropic  # noqa: F401 - before any test, so that importing them takes nothing from a test's short deadline
import google.oauth2.service_account  # noqa: F401 - the same
import openai  # noqa: F401 - the same
import psycopg
import pytest
from psycopg import sql

from fusewire.ai.allowances import Allowances
from fusewire.services import Services
from tests.conftest import cloned
from tests.integration.ai.contract import Row
from tests.integration.ai.observing import Books, LogLines, logged
from tests.support.upstream import Upstream, running_upstream
from tests.support.wires import Wire


@pytest.fixture(scope="session")
def lasting_database_url(postgres: str, template: str) -> Iterator[str]:
    with cloned(postgres, template) as url:
        yield url


@pytest.fixture(scope="session")
def emptying(lasting_database_url: str) -> sql.Composed:
    """Deletes the rows of every table, whatever refers to them or guards them, but for those of the migrations."""
    tables = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
    delete: list[sql.Composable] = [sql.SQL("SET session_replication_role = replica")]
    with psycopg.connect(lasting_database_url) as connection:
        for (name,) in connection.execute(tables).fetchall():
            table = sql.Identifier(name)
            delete.append(sql.SQL("DELETE FROM {}").format(table))
            filled = connection.execute(sql.SQL("SELECT jsonb_agg(t)::text FROM {} t").format(table)).fetchone()
            if filled is not None and filled[0] is not None:
                again = "INSERT INTO {} SELECT * FROM jsonb_populate_recordset(NULL::{}, {}::jsonb)"
                delete.append(sql.SQL(again).format(table, table, sql.Literal(filled[0])))
    return sql.SQL("; ").join(delete)


@pytest.fixture
def database_url(lasting_database_url: str, emptying: sql.Composed) -> str:
    """The same for every test, with nothing in it yet."""
    with psycopg.connect(lasting_database_url) as connection:
        connection.execute(emptying)
    return lasting_database_url


@pytest.fixture
def books(database_url: str) -> Books:
    return Books(database_url)


@pytest.fixture
def log() -> Iterator[LogLines]:
    with logged() as lines:
        yield lines


@pytest.fixture(scope="module")
def lasting_upstream() -> Iterator[Upstream]:
    """A vendor for a whole module: an SDK's client, which takes a while to make, can be kept with it."""
    with running_upstream() as running:
        yield running


@pytest.fixture
def forgetful_upstream(lasting_upstream: Upstream) -> Upstream:
    """The same, with nothing asked of it yet."""
    for seen in ("requests", "paths", "headers", "script", "billed"):
        getattr(lasting_upstream, seen).clear()
    return lasting_upstream


@pytest.fixture(scope="module")
def lasting_wire(row: Row) -> Iterator[Wire]:
    """The row's vendor, whose credentials its SDK finds, and nothing of the machine's own."""
    with row.wire.running() as running, pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_BEARER_TOKEN_BEDROCK", "AWS_ENDPOINT_URL"):
            patch.delenv(name, raising=False)
        for name, value in running.environment.items():
            patch.setenv(name, value)
        yield running


@pytest.fixture
def wire(lasting_wire: Wire) -> Wire:
    """The same, with nothing asked of it yet."""
    lasting_wire.reset()
    return lasting_wire


@pytest.fixture
def nothing_learned(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test's database is empty; what a lasting core has learned from another's must be gone as well."""
    monkeypatch.setattr(services.router, "_allowances", Allowances())
