"""A database that takes what it is sent and never answers: an error within seconds, and the books right afterwards."""

import signal
import time
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from typing import Final

import psycopg
import pytest
from psycopg.pq.abc import PGconn, PGresult
from pydantic import SecretStr

from fusewire.budget.reservation import Call, Candidate, Settlement
from fusewire.config import load_settings
from fusewire.errors import LedgerUnavailableError
from fusewire.services import Services, assemble
from fusewire.store import db
from fusewire.store.db import Database, Statement
from fusewire.store.migrate import migrate
from tests.support.database import ask
from tests.support.gateway import eventually
from tests.support.postgres_proxy import PostgresProxy, postgres_proxy

PING = "SELECT ledger_ping($1::jsonb)"
IN_TIME_SECONDS: Final = 27.0  # a function's 29 s, less what settling takes


@pytest.fixture
def proxy(database_url: str) -> Iterator[PostgresProxy]:
    with postgres_proxy(database_url) as running:
        yield running


@pytest.fixture
def core(proxy: PostgresProxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[Services]:
    monkeypatch.setattr(db, "_ANSWER_SECONDS", 1.0)
    made = assemble(load_settings({"DATABASE_URL": proxy.url(), "AUTH_MODE": "open"}))
    yield made
    made.database.close()


def test_the_patience_outlasts_the_servers_own_and_fits_a_call() -> None:
    lock_timeout = 5  # store/functions/windows.sql
    assert lock_timeout < db._ANSWER_SECONDS
    assert 2 * db._ANSWER_SECONDS + db._CONNECT_TIMEOUT_SECONDS < IN_TIME_SECONDS


def test_a_server_that_never_answers_is_told_of_in_time(core: Services, proxy: PostgresProxy) -> None:
    ask(core.database, PING, {})
    proxy.silent.set()
    begun = time.monotonic()
    with pytest.raises(LedgerUnavailableError, match="ConnectionTimeout"):  # the second connection isn't greeted
        ask(core.database, PING, {})
    assert 1.0 < time.monotonic() - begun < IN_TIME_SECONDS
    assert proxy.connections == 2
    proxy.silent.clear()
    ask(core.database, PING, {})


def test_a_server_that_takes_connections_and_nothing_else_is_told_of_in_time(
    core: Services, proxy: PostgresProxy
) -> None:
    proxy.silent_to_new = True
    begun = time.monotonic()
    with pytest.raises(LedgerUnavailableError, match="ConnectionTimeout"):
        ask(core.database, PING, {})
    assert time.monotonic() - begun < IN_TIME_SECONDS
    proxy.silent_to_new = False
    ask(core.database, PING, {})


def test_what_its_client_has_given_up_leaves_the_server(database_url: str) -> None:
    """It would be carried out all the same, in its place before others: each retry would make a slow server slower."""
    migrate(database_url)  # the template's setting isn't its clone's
    owner = psycopg.connect(database_url, autocommit=True)
    owner.execute(
        "CREATE FUNCTION probe_waits(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS "
        "'BEGIN PERFORM pg_advisory_xact_lock(1); RETURN p; END'"
    )
    owner.execute("SELECT pg_advisory_lock(1)")
    waiting = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND query ~ 'probe_waits' AND pid <> pg_backend_pid()"
    )
    with closing(owner), closing(Database(SecretStr(database_url))) as database:
        with pytest.raises(LedgerUnavailableError, match="AnswerTimeout"):
            database.call(Statement[dict[str, object], object]("SELECT probe_waits($1::jsonb)"), {}, seconds=0.3)
        eventually(lambda: owner.execute(waiting).fetchone() == (0,))  # who has the lock is in no hurry


def test_a_database_that_resumes_is_given_the_time_that_its_url_says(proxy: PostgresProxy) -> None:
    """Aurora at zero lets a connection wait for some 15 seconds: infra/terraform/modules/aws/aurora.tf."""
    database = Database(SecretStr(f"{proxy.url()} connect_timeout=6"))
    proxy.silent_to_new = True
    begun = time.monotonic()
    with pytest.raises(LedgerUnavailableError, match="ConnectionTimeout"):
        ask(database, PING, {})
    assert db._CONNECT_TIMEOUT_SECONDS < 5 < time.monotonic() - begun
    database.close()


def test_what_was_done_without_an_answer_is_done_once(core: Services, proxy: PostgresProxy) -> None:
    """Each of the three statements is done by the server, its answer lost, and sent again on a new connection."""
    candidate = Candidate("openai", "m", Decimal("0.5"))

    def losing_the_answer() -> None:
        proxy.silent.set()
        result, silence = db._result, proxy.silent

        def once(session: PGconn, statement: bytes, argument: bytes, seconds: float) -> PGresult:
            try:
                return result(session, statement, argument, seconds)
            finally:
                silence.clear()

        patched.setattr(db, "_result", once)

    with pytest.MonkeyPatch.context() as patched:
        ask(core.database, PING, {})
        losing_the_answer()
        reservation = core.ledger.reserve(Call("r-1", "chat", None), [candidate])
        losing_the_answer()
        booked = core.ledger.settle(Settlement(reservation, "actual", "ok", cost=Decimal("0.2")))
    assert proxy.connections == 3
    assert booked.cost == Decimal("0.2")
    budget, by_provider, *_ = core.ledger.budget()
    assert (budget.window.spent, budget.window.reserved) == (Decimal("0.2"), Decimal(0))
    assert budget.window.request_count == 1
    assert by_provider == {"openai": Decimal("0.2")}


def test_a_late_answer_is_nobodys(proxy: PostgresProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(db, "_ANSWER_SECONDS", 0.5)
    database = Database(SecretStr(proxy.url()))
    slow = "SELECT to_jsonb(1) FROM pg_sleep(1.5) WHERE $1::jsonb IS NOT NULL"
    with pytest.raises(LedgerUnavailableError, match="AnswerTimeout"):
        ask(database, slow, {})
    assert ask(database, "SELECT to_jsonb(2) WHERE $1::jsonb IS NOT NULL", {}) == 2
    database.close()


def test_a_server_that_stops_reading_is_told_of_in_time(core: Services, proxy: PostgresProxy) -> None:
    ask(core.database, PING, {})
    proxy.reading.clear()
    begun = time.monotonic()
    with pytest.raises(LedgerUnavailableError):
        ask(core.database, PING, {"text": "x" * 30_000_000})
    assert time.monotonic() - begun < IN_TIME_SECONDS
    assert proxy.connections == 2


def test_an_interrupted_statements_answer_is_nobodys(proxy: PostgresProxy) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    database = Database(SecretStr(proxy.url()))
    slow = "SELECT to_jsonb(1) FROM pg_sleep(0.6) WHERE $1::jsonb IS NOT NULL"
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(KeyboardInterrupt):
            ask(database, slow, {})
    finally:
        signal.signal(signal.SIGALRM, before)
    assert ask(database, "SELECT to_jsonb(2) WHERE $1::jsonb IS NOT NULL", {}) == 2
    database.close()


def test_a_failover_is_survived_within_the_call(core: Services, proxy: PostgresProxy) -> None:
    ask(core.database, PING, {})
    proxy.break_off()
    ask(core.database, PING, {})
    assert proxy.connections == 2
