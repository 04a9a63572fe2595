"""GET /health: what it tells whom, how old that may be, and that it knows of a database that can't write."""

import json
from collections.abc import Iterator
from typing import Any, LiteralString

import psycopg
import pytest

from fusewire.store.db import Database
from tests.integration.functions.conftest import Functions, make_key, sample

BOOTSTRAP = "bootstrap-key-0123456789abcdef"


@pytest.fixture
def guarded(functions: Functions, database_url: str) -> Functions:
    functions.set(AUTH_MODE="keys", ADMIN_API_KEY=BOOTSTRAP)
    make_key(database_url, id="key_admin", scopes=["admin"])
    make_key(database_url)
    return functions


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The clock: its one element is the time."""
    moment = [1000.0]
    for module in ("health", "authorizer"):
        monkeypatch.setattr(f"fusewire.http.{module}.time.monotonic", lambda: moment[0])
    yield moment


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What is asked of Postgres."""
    asked_for: list[str] = []
    call = Database.call

    def noting(database: Database, statement: Any, argument: Any, **more: Any) -> Any:  # noqa: ANN401 - as it is called
        asked_for.append(statement.sql.removeprefix("SELECT ").partition("(")[0])
        return call(database, statement, argument, **more)

    monkeypatch.setattr(Database, "call", noting)
    yield asked_for


def health(functions: Functions, secret: str | None = None) -> int:
    headers = {} if secret is None else {"Authorization": f"Bearer {secret}"}
    answer = functions("health", sample("health", headers=headers, multiValueHeaders={}))
    body = json.loads(answer["body"])
    assert body["status"] == ("ok" if answer["statusCode"] == 200 else "unavailable")
    return int(answer["statusCode"])


def breaks(database_url: str, statement: LiteralString) -> None:
    with psycopg.connect(database_url, autocommit=True) as owner:
        owner.execute(statement)


FULL: LiteralString = """
    CREATE FUNCTION no_space() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN RAISE EXCEPTION ''could not extend file'' USING ERRCODE = ''disk_full''; END';
    CREATE TRIGGER full_disk BEFORE INSERT ON health_probe EXECUTE FUNCTION no_space()
"""

READ_ONLY: LiteralString = """
    DO $$ BEGIN
        EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = on', current_database());
    END $$
"""


def test_strangers_get_the_last_known_state_and_ask_the_database_of_nothing(
    guarded: Functions, statements: list[str], now: list[float]
) -> None:
    for _ in range(50):
        assert health(guarded) == 200
    assert statements == ["ledger_probe"]
    now[0] += 9.9
    assert health(guarded, "sk-of-another-vendor") == 200
    assert statements.count("ledger_probe") == 1
    now[0] += 0.2
    assert health(guarded) == 200
    assert statements.count("ledger_probe") == 2


def test_a_state_is_ten_seconds_old_at_most(guarded: Functions, database_url: str, now: list[float]) -> None:
    assert health(guarded) == 200
    breaks(database_url, FULL)
    now[0] += 10
    assert health(guarded) == 503


@pytest.mark.parametrize("secret", ["fw_key_admin", BOOTSTRAP])
def test_a_key_with_admin_gets_the_state_of_now(
    guarded: Functions, database_url: str, now: list[float], secret: str
) -> None:
    assert health(guarded) == 200
    breaks(database_url, FULL)
    assert health(guarded, "fw_key_team") == 200, "it may not ask"
    now[0] += 1
    assert health(guarded, secret) == 503
    assert health(guarded) == 503, "what it found is known to all"
    breaks(database_url, "DROP TRIGGER full_disk ON health_probe")
    assert health(guarded, secret) == 200
    assert health(guarded) == 200


def test_a_database_that_is_back_is_told_within_a_second(
    guarded: Functions, database_url: str, now: list[float]
) -> None:
    breaks(database_url, FULL)
    assert health(guarded) == 503
    breaks(database_url, "DROP TRIGGER full_disk ON health_probe")
    assert health(guarded) == 503
    now[0] += 1
    assert health(guarded) == 200


def test_any_number_of_made_up_keys_is_one_look_up_a_second(
    guarded: Functions, statements: list[str], now: list[float]
) -> None:
    for number in range(100):
        assert health(guarded, f"fw_{number}") == 200
    assert statements.count("key_authenticate") == 1
    now[0] += 1
    health(guarded, "fw_100")
    assert statements.count("key_authenticate") == 2
    assert statements.count("ledger_probe") == 1


@pytest.mark.parametrize(
    "broken",
    [
        FULL,
        READ_ONLY,
        "DROP FUNCTION ledger_probe(jsonb)",
        "REVOKE INSERT ON health_probe FROM fusewire_app",
    ],
    ids=["a full disk", "read-only", "not migrated", "no rights"],
)
def test_it_is_not_ok_while_no_call_can_be_booked(guarded: Functions, database_url: str, broken: LiteralString) -> None:
    breaks(database_url, broken)
    assert health(guarded) == 503


def test_a_probe_asks_the_disk_for_a_page_and_leaves_no_row(guarded: Functions, database_url: str) -> None:
    pages: list[int] = []
    for _ in range(3):
        assert health(guarded, "fw_key_admin") == 200
        with psycopg.connect(database_url) as owner:
            found = owner.execute("SELECT pg_relation_size('health_probe') / 8192, count(*) FROM health_probe")
            [(size, rows)] = found.fetchall()
        assert rows == 0
        pages.append(size)
    assert pages == [1, 2, 3]


def test_on_a_laptop_without_keys_everybody_gets_the_state_of_now(functions: Functions, database_url: str) -> None:
    assert health(functions) == 200
    breaks(database_url, FULL)
    assert health(functions) == 503
