"""Calls that share connections are notified over one more, which is there while any of them waits."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final
from uuid import UUID

import psycopg
import pytest
from pydantic import SecretStr

from fusewire.ids import time_ordered_id
from fusewire.store import listener
from fusewire.store.db import Database
from fusewire.store.listener import Subscription
from tests.support.patience import PATIENCE_SECONDS

_SESSIONS: Final = "SELECT query, pid FROM pg_stat_activity WHERE query LIKE 'SELECT admission_%subscribe%'"


@pytest.fixture
def owner(database_url: str) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    made = Database(SecretStr(database_url), connections=2)
    yield made
    made.close()


def until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def sessions(owner: psycopg.Connection[tuple[object, ...]]) -> int:
    return len(owner.execute(_SESSIONS).fetchall())


def notify(owner: psycopg.Connection[tuple[object, ...]], entry_id: UUID) -> None:
    owner.execute("SELECT pg_notify(%s, '')", (f"fusewire_{entry_id}",))


def was_notified(one: Subscription) -> bool:
    begun = time.monotonic()
    one.rest(PATIENCE_SECONDS)
    return time.monotonic() - begun < PATIENCE_SECONDS / 2


def subscribed(database: Database) -> Subscription:
    one = database.subscribe(time_ordered_id())
    assert one is not None
    assert one.is_live
    return one


def test_one_connection_listens_for_all_and_each_is_notified_for_itself(
    database: Database, owner: psycopg.Connection[tuple[object, ...]]
) -> None:
    with ThreadPoolExecutor(16) as pool:
        calls = list(pool.map(lambda _: subscribed(database), range(16)))
        assert sessions(owner) == 1
        notify(owner, calls[3].entry_id)
        assert was_notified(calls[3])
        rests = list(pool.map(lambda one: _rests(one, 0.2), calls))
        assert rests == [True] * 16, "nobody was notified for another"
        for one in calls:
            notify(owner, one.entry_id)
        assert all(pool.map(was_notified, calls))


def _rests(one: Subscription, seconds: float) -> bool:
    begun = time.monotonic()
    one.rest(seconds)
    return time.monotonic() - begun >= seconds


def test_who_has_ended_is_notified_no_more(database: Database, owner: psycopg.Connection[tuple[object, ...]]) -> None:
    one, other = subscribed(database), subscribed(database)
    one.end()
    until(lambda: _last_statement(owner).startswith("SELECT admission_unsubscribe"))
    notify(owner, one.entry_id)
    notify(owner, other.entry_id)
    assert was_notified(other)
    assert _rests(one, 0.2)


def _last_statement(owner: psycopg.Connection[tuple[object, ...]]) -> str:
    [(query, _)] = owner.execute(_SESSIONS).fetchall()
    return str(query)


def test_the_connection_is_closed_once_nobody_has_waited_for_a_while_and_opened_again(
    database: Database, owner: psycopg.Connection[tuple[object, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "_IDLE_SECONDS", 0.2)
    for _ in range(2):
        one = subscribed(database)
        time.sleep(0.5)
        assert sessions(owner) == 1, "while one waits it is needed"
        one.end()
        until(lambda: sessions(owner) == 0)


def test_a_lost_connection_is_no_lost_call(
    database: Database, owner: psycopg.Connection[tuple[object, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "_RETRY_SECONDS", 0.5)
    one = subscribed(database)
    [(_, pid)] = owner.execute(_SESSIONS).fetchall()
    owner.execute("SELECT pg_terminate_backend(%s)", (pid,))
    assert was_notified(one), "it asks again at once"
    assert not one.is_live
    assert database.subscribe(time_ordered_id()) is None, "not at once"
    one.end()
    time.sleep(0.6)
    notify(owner, (another := subscribed(database)).entry_id)
    assert was_notified(another)


def test_where_no_connection_can_be_had_nobody_is_kept_waiting() -> None:
    nowhere = Database(SecretStr("postgresql://127.0.0.1:1/nowhere"), connections=2)
    assert nowhere.subscribe(time_ordered_id()) is None
    assert nowhere.subscribe(time_ordered_id()) is None
    assert Database(None, connections=2).subscribe(time_ordered_id()) is None


def test_behind_a_pooler_nothing_is_listened_to(
    database: Database, owner: psycopg.Connection[tuple[object, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "_session", lambda connection: 1)
    monkeypatch.setattr(listener, "_IDLE_SECONDS", 0.1)
    assert database.subscribe(time_ordered_id()) is None
    until(lambda: sessions(owner) == 0)
    assert database.subscribe(time_ordered_id()) is None
    assert sessions(owner) == 0, "it isn't tried again"


def test_where_there_is_one_connection_it_listens_itself(database_url: str) -> None:
    assert Database(SecretStr(database_url)).subscribe(time_ordered_id()) is None
