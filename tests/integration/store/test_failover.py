"""A primary that dies under calls, with a synchronous standby: nothing is lost, nothing is booked twice."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Final

import psycopg
import pytest
from pydantic import SecretStr

from fusewire.budget.ledger import Ledger
from fusewire.budget.price import TokenCounts
from fusewire.budget.reservation import Call, Candidate, Settlement
from fusewire.config import load_settings
from fusewire.errors import LedgerUnavailableError
from fusewire.store.db import Database
from fusewire.store.migrate import migrate
from local.postgres import as_app, embedded_postgres
from tests.support.patience import PATIENCE_SECONDS
from tests.support.standby import Standby, kill, standby_of

CALLERS: Final = 16
AFTERWARDS: Final = 10
"""Calls of each caller after the primary was killed."""
COST: Final = Decimal("0.0005")
CANDIDATES: Final = (Candidate("openai", "gpt-4o", Decimal("0.01")),)


@dataclass
class Primary:
    """The primary and its standby; `url` names both, for the functions' role."""

    data: Path
    owner: str
    standby: Standby
    url: str


@pytest.fixture
def primary(tmp_path: Path) -> Iterator[Primary]:
    data = tmp_path / "postgres"
    with embedded_postgres(data, connections=2 * CALLERS) as owner:
        migrate(owner)
        with standby_of(data, owner) as standby:
            yield Primary(data, owner, standby, standby.both(as_app(owner)))


@dataclass
class Caller:
    """Calls without a pause until it is told to stop."""

    url: str
    failed_at: float | None = None
    settled: int = 0
    settled_after: int = 0
    """Of those that were reserved after the failure."""
    refused: int = 0
    stop: threading.Event = field(default_factory=threading.Event)
    done: threading.Event = field(default_factory=threading.Event)
    database: Database = field(init=False)
    ledger: Ledger = field(init=False)

    def __post_init__(self) -> None:
        settings = load_settings({"DATABASE_URL": self.url, "AI_MONTHLY_BUDGET_USD": "1000"})
        self.database = Database(SecretStr(self.url))
        self.ledger = Ledger(self.database, settings)

    def run(self) -> None:
        number = 0
        while not self.stop.is_set():
            number += 1
            begun_after = self.failed_at is not None
            try:
                held = self.ledger.reserve(Call(f"r-{number}", "chat", "sota"), CANDIDATES)
            except LedgerUnavailableError:
                self.refused += 1
                self.stop.wait(0.05)
                continue
            # Kept and sent later where the database can't be reached: it is booked all the same.
            self.ledger.settle(Settlement(held, "actual", "success", cost=COST, counts=TokenCounts(9, 9)))
            self.settled += 1
            self.settled_after += begun_after
        self.done.set()


@pytest.fixture
def callers(primary: Primary) -> Iterator[list[Caller]]:
    """Callers under way, each of whom has booked some calls."""
    made = [Caller(primary.url) for _ in range(CALLERS)]
    threads = [threading.Thread(target=caller.run, daemon=True) for caller in made]
    for thread in threads:
        thread.start()
    _until(lambda: all(caller.settled >= AFTERWARDS for caller in made))
    yield made
    for caller in made:
        caller.stop.set()
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
    for caller in made:
        caller.database.close()


def test_a_standby_takes_over_and_nothing_is_lost_or_booked_twice(primary: Primary, callers: list[Caller]) -> None:
    fail_at = time.monotonic()
    kill(primary.data)
    for caller in callers:
        caller.failed_at = fail_at
    primary.standby.promote()
    promoted = primary.standby.url(primary.owner)
    with psycopg.connect(promoted, autocommit=True) as connection:
        # Nobody follows the new primary: its commits must not wait.
        connection.execute("ALTER SYSTEM RESET synchronous_standby_names")
        connection.execute("SELECT pg_reload_conf()")
    _until(lambda: all(caller.settled_after >= AFTERWARDS for caller in callers))
    _assert_exact(promoted, callers)


def test_commits_wait_for_a_lost_standby_and_nothing_is_lost_or_booked_twice(
    primary: Primary, callers: list[Caller]
) -> None:
    """The only synchronous standby is gone: no commit is acknowledged, so every call is refused until it is back.

    What a caller gave up may be committed all the same once the standby is back, so the release that follows waits.
    """
    primary.standby.kill()
    _until(lambda: all(caller.refused for caller in callers))
    for caller in callers:
        caller.failed_at = time.monotonic()
    primary.standby.restart()
    _until(lambda: all(caller.settled_after >= AFTERWARDS for caller in callers))
    _assert_exact(primary.owner, callers)


def _assert_exact(owner: str, callers: list[Caller]) -> None:
    """Every call that was answered is booked once at its cost, nothing else is, and nothing stays reserved."""
    for caller in callers:
        caller.stop.set()
    for caller in callers:
        _until(caller.done.is_set)
        caller.ledger.budget()  # sends what was kept
    with psycopg.connect(owner) as connection:
        [booked] = connection.execute(
            "SELECT count(*), sum(cost), count(*) FILTER (WHERE cost_basis <> 'actual')"
            " FROM ledger WHERE status = 'settled'"
        )
        assert booked == (sum(caller.settled for caller in callers), COST * booked[0], 0)
        [window] = connection.execute("SELECT spent, reserved, request_count FROM budget_window")
        assert window == (booked[1], 0, booked[0])
        [(still_reserved,)] = connection.execute("SELECT count(*) FROM ledger WHERE status = 'reserved'")
        assert still_reserved == 0
        [(rolled_up,)] = connection.execute("SELECT sum(cost) FROM usage_rollup")
        assert rolled_up == booked[1]


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)
