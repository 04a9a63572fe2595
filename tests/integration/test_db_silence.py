"""A database that takes what it is sent and never answers: an error within seconds, and the books right afterwards."""

import time
from collections.abc import Iterator
from decimal import Decimal

import pytest
from pydantic import SecretStr

from fusewire import db
from fusewire.budget.ledger import Call, Candidate, Ending
from fusewire.config import load_settings
from fusewire.db import Database
from fusewire.errors import LedgerUnavailableError
from fusewire.services import Services, assemble
from tests.support.postgres_proxy import PostgresProxy, postgres_proxy

PING = "SELECT ledger_ping($1::jsonb)"


@pytest.fixture
def proxy(database_url: str) -> Iterator[PostgresProxy]:
    with postgres_proxy(database_url) as running:
        yield running


@pytest.fixture
def core(proxy: PostgresProxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[Services]:
    monkeypatch.setattr(db, "_ANSWER_SECONDS", 0.3)
    made = assemble(load_settings({"DATABASE_URL": proxy.url(), "AUTH_MODE": "open"}))
    yield made
    made.database.close()


def test_the_patience_outlasts_the_servers_own_and_fits_a_call() -> None:
    lock_timeout = 5  # migrations/0004_windows.sql
    assert lock_timeout < db._ANSWER_SECONDS
    assert 2 * db._ANSWER_SECONDS + db._CONNECT_TIMEOUT_SECONDS < 27  # a function's 29 s, less what settling takes


def test_a_server_that_never_answers_is_told_of_in_time(core: Services, proxy: PostgresProxy) -> None:
    core.database.call(PING, {})
    proxy.silent.set()
    begun = time.monotonic()
    with pytest.raises(LedgerUnavailableError, match="ConnectionTimeout"):  # the second connection isn't greeted
        core.database.call(PING, {})
    assert 0.3 < time.monotonic() - begun < 6
    assert proxy.connections == 2
    proxy.silent.clear()
    core.database.call(PING, {})


def test_a_server_that_takes_connections_and_nothing_else_is_told_of_in_time(
    core: Services, proxy: PostgresProxy
) -> None:
    proxy.silent_to_new = True
    begun = time.monotonic()
    with pytest.raises(LedgerUnavailableError, match="ConnectionTimeout"):
        core.database.call(PING, {})
    assert time.monotonic() - begun < 6
    proxy.silent_to_new = False
    core.database.call(PING, {})


def test_what_was_done_without_an_answer_is_done_once(core: Services, proxy: PostgresProxy) -> None:
    """Each of the three statements is done by the server, its answer lost, and sent again on a new connection."""
    candidate = Candidate("openai", "m", Decimal("0.5"))

    def losing_the_answer() -> None:
        proxy.silent.set()
        wait, silence = db._Connection.wait, proxy.silent

        def once(*arguments: object, **named: object) -> object:
            try:
                return wait(*arguments, **named)  # type: ignore[arg-type] # as it was called
            finally:
                silence.clear()

        patched.setattr(db._Connection, "wait", once)

    with pytest.MonkeyPatch.context() as patched:
        core.database.call(PING, {})
        losing_the_answer()
        reservation = core.ledger.reserve(Call("r-1", "chat", None), [candidate])
        losing_the_answer()
        booked = core.ledger.end(Ending(reservation, "actual", "ok", cost=Decimal("0.2")))
    assert proxy.connections == 3
    assert booked.cost == Decimal("0.2")
    budget, by_provider, *_ = core.ledger.budget()
    assert (budget.window.spent, budget.window.reserved) == (Decimal("0.2"), Decimal(0))
    assert budget.window.request_count == 1
    assert by_provider == {"openai": Decimal("0.2")}


def test_a_late_answer_is_nobodys(proxy: PostgresProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(db, "_ANSWER_SECONDS", 0.2)
    database = Database(SecretStr(proxy.url()))
    slow = "SELECT to_jsonb(1) FROM pg_sleep(0.6) WHERE $1::jsonb IS NOT NULL"
    with pytest.raises(LedgerUnavailableError, match="AnswerTimeout"):
        database.call(slow, {})
    assert database.call("SELECT to_jsonb(2) WHERE $1::jsonb IS NOT NULL", {}) == 2
    database.close()


def test_a_failover_is_survived_within_the_call(core: Services, proxy: PostgresProxy) -> None:
    core.database.call(PING, {})
    proxy.break_off()
    core.database.call(PING, {})
    assert proxy.connections == 2
