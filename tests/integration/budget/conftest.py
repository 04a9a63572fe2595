import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Protocol

import psycopg
import pytest
from psycopg import sql

from fusewire import logs
from fusewire.budget.ledger import Ledger
from fusewire.budget.nodes import Nodes
from fusewire.store.db import Database
from tests.conftest import CoreFactory
from tests.integration.budget.books import Books, Clock, Events
from tests.integration.budget.keys import Keys

SLOTS_OF_EACH = "4 of each"
"""For AI_LEDGER_SLOTS: the company has 4 slots, and so has every other budget, as if each were busy."""


class OpenLedger(Protocol):
    """`open_ledger(AI_MONTHLY_BUDGET_USD="2")` is a ledger with its own connection; the budget is 1 USD unless set.

    It calls nobody, so a reservation of it may expire at once.
    """

    def __call__(self, database_url: str | None = None, **variables: str) -> Ledger: ...


@pytest.fixture
def open_ledger(core: CoreFactory) -> Iterator[OpenLedger]:
    databases: list[Database] = []

    def make(database_url: str | None = None, **variables: str) -> Ledger:
        if variables.get("AI_LEDGER_SLOTS") == SLOTS_OF_EACH:
            variables |= {"AI_LEDGER_SLOTS": SLOTS_OF_EACH.split()[0]}
            make_every_budget_busy(core.database_url)
        settings = core.settings(
            **{
                "AI_MONTHLY_BUDGET_USD": "1",
                "AI_REQUEST_TIMEOUT_SECONDS": "0.0001",
                "DATABASE_URL": database_url or core.database_url,
            }
            | variables
        )
        databases.append(Database(settings.database_url, connections=settings.database_connections))
        return Ledger(databases[-1], settings)

    yield make
    for database in databases:
        database.close()


def make_every_budget_busy(database_url: str) -> None:
    """Its room is spread over slots wherever the company's is."""
    with psycopg.connect(database_url) as owner:
        owner.execute("ALTER TABLE budget_window ALTER COLUMN slots SET DEFAULT 2")
        owner.execute("UPDATE budget_window SET slots = 2 WHERE budget <> 'global' AND slots = 1")


@pytest.fixture
def patience(database_url: str) -> None:
    """No lock_timeout: where 32 wait in line for a row on a slow disk, only a deadlock is a failure."""
    with psycopg.connect(database_url, autocommit=True) as owner:
        for name in (
            *("ledger_reserve", "ledger_reserve_on_row", "ledger_settle", "ledger_group"),
            *("ledger_budget", "ledger_reset"),
        ):
            owner.execute(sql.SQL("ALTER FUNCTION {}(jsonb) SET lock_timeout = 0").format(sql.Identifier(name)))


@pytest.fixture
def books(database_url: str) -> Iterator[Books]:
    reader = Books(database_url)
    yield reader
    reader.close()


@pytest.fixture
def keys(database_url: str) -> Iterator[Keys]:
    made = Keys(database_url)
    yield made
    made.close()


@pytest.fixture
def open_nodes(core: CoreFactory) -> Iterator[Callable[[], Nodes]]:
    """The tree through a connection of its own."""
    databases: list[Database] = []

    def make() -> Nodes:
        settings = core.settings(AI_MONTHLY_BUDGET_USD="1", DATABASE_URL=core.database_url)
        databases.append(Database(settings.database_url))
        return Nodes(databases[-1], settings)

    yield make
    for database in databases:
        database.close()


@pytest.fixture
def nodes(open_nodes: Callable[[], Nodes]) -> Nodes:
    return open_nodes()


@pytest.fixture
def clock(database_url: str) -> Iterator[Clock]:
    """For every session opened after it: name it before `open_ledger` is used."""
    made = Clock(database_url, datetime(2026, 11, 15, 12, tzinfo=UTC))
    yield made
    made.close()


@pytest.fixture
def events() -> Iterator[Events]:
    logger = logging.getLogger(logs.SERVICE)
    handler, level = Events(), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler
    logger.setLevel(level)
    logger.removeHandler(handler)
