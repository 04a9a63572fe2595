"""Migrations run in order, each once, whoever else runs them and wherever they were cut off."""

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from fusewire.config import load_settings
from fusewire.errors import LedgerUnavailableError
from fusewire.store import migrate as migrations
from fusewire.store.deployment import bring_up_to_date
from fusewire.store.migrate import Functions, IncompatibleSchemaError, available, functions, migrate
from tests.support.patience import PATIENCE_SECONDS

NAMES = [name for name, _ in available()]
FUNCTIONS = f"functions {functions().version}"


@pytest.fixture
def empty_url(postgres: str, database_url: str) -> Iterator[str]:
    """A database with nothing in it."""
    name = f"{psycopg.conninfo.conninfo_to_dict(database_url)['dbname']}_empty"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    yield make_conninfo(postgres, dbname=name)
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def applied(url: str) -> list[str]:
    with psycopg.connect(url) as connection:
        return [row[0] for row in connection.execute("SELECT name FROM schema_migration ORDER BY applied_at")]


def tables(url: str) -> set[str]:
    with psycopg.connect(url) as connection:
        return {row[0] for row in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")}


def test_each_migration_has_the_next_number() -> None:
    """Two of one number would be applied in the order of their names, whichever came first."""
    assert [int(name[:4]) for name in NAMES] == [*range(1, len(NAMES) + 1)]


def test_the_files_are_numbered_without_a_gap() -> None:
    assert [int(name[:4]) for name in NAMES] == list(range(1, len(NAMES) + 1))


def test_they_are_applied_in_order_and_the_second_run_does_nothing(empty_url: str) -> None:
    assert migrate(empty_url) == [*NAMES, FUNCTIONS]
    assert applied(empty_url) == NAMES
    assert migrate(empty_url) == []
    assert applied(empty_url) == NAMES


def test_four_processes_at_once_apply_each_once(empty_url: str) -> None:
    program = "import sys; from fusewire.store.migrate import migrate; print(*migrate(sys.argv[1]), sep=chr(10))"
    with psycopg.connect(empty_url, autocommit=True) as gate:
        # All four are at the door before it opens.
        gate.execute("SELECT pg_advisory_lock(hashtext('fusewire.migrate'))")
        runs = [
            subprocess.Popen(  # noqa: S603 - our own program
                [sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}; {program}", empty_url],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for _ in range(4)
        ]
        deadline = datetime.now(UTC) + timedelta(seconds=30)
        while _waiting(gate) < 4:
            assert datetime.now(UTC) < deadline, "not all of them came to wait for the lock"
            assert all(run.poll() is None for run in runs), "one of them didn't wait for the lock"
    result = []
    for run in runs:
        output, problem = run.communicate(timeout=PATIENCE_SECONDS)
        assert run.returncode == 0, problem
        result.append(output.splitlines())
    # Each transaction is alone, not each run: two runs may share the work.
    assert sorted(name for names in result for name in names if name) == sorted([*NAMES, FUNCTIONS])
    assert applied(empty_url) == NAMES


def _waiting(connection: psycopg.Connection[tuple[int]]) -> int:
    row = connection.execute("""
        SELECT count(*) FROM pg_locks
        WHERE locktype = 'advisory' AND NOT granted
          AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    """).fetchone()
    assert row is not None
    return row[0]


def test_a_crash_between_two_leaves_what_is_done_done(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    second = "9999_second.sql"
    crashing, whole = "SELECT pg_terminate_backend(pg_backend_pid())", "CREATE TABLE second ()"
    monkeypatch.setattr(migrations, "available", lambda: iter([*available(), (second, crashing)]))
    with pytest.raises(psycopg.OperationalError):
        migrate(empty_url)
    assert applied(empty_url) == NAMES

    monkeypatch.setattr(migrations, "available", lambda: iter([*available(), (second, whole)]))
    assert migrate(empty_url) == [second, FUNCTIONS]
    assert applied(empty_url) == [*NAMES, second]


def test_a_crash_before_the_functions_is_made_good_by_the_next_run(
    empty_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    crashing = Functions(1, "SELECT pg_terminate_backend(pg_backend_pid())")
    monkeypatch.setattr(migrations, "functions", lambda: crashing)
    with pytest.raises(psycopg.OperationalError):
        migrate(empty_url)
    assert applied(empty_url) == NAMES
    monkeypatch.undo()

    assert migrate(empty_url) == [FUNCTIONS]
    with psycopg.connect(empty_url, options="-c role=fusewire_app") as connection:
        connection.execute("SELECT ledger_ping('{}'::jsonb)")


def test_one_that_fails_half_way_leaves_nothing_of_itself(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = ("9999_broken.sql", "CREATE TABLE half (); SELECT 1 / 0")
    monkeypatch.setattr(migrations, "available", lambda: iter([*available(), broken]))
    with pytest.raises(psycopg.errors.DivisionByZero):
        migrate(empty_url)
    assert applied(empty_url) == NAMES
    assert "half" not in tables(empty_url)

    monkeypatch.setattr(migrations, "available", lambda: iter([*available(), (broken[0], "CREATE TABLE half ()")]))
    assert migrate(empty_url) == ["9999_broken.sql", FUNCTIONS]
    assert "half" in tables(empty_url)


def test_what_cannot_be_recorded_is_not_done(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "9999_unrecorded.sql"
    unrecorded = (name, f"CREATE TABLE half (); ALTER TABLE schema_migration ADD CHECK (name <> '{name}')")
    monkeypatch.setattr(migrations, "available", lambda: iter([*available(), unrecorded]))
    with pytest.raises(psycopg.errors.CheckViolation):
        migrate(empty_url)
    assert applied(empty_url) == NAMES
    assert "half" not in tables(empty_url)


def test_a_release_that_is_rolled_back_to_closes_nothing_to_the_newer_one(empty_url: str) -> None:
    migrate(empty_url)
    with psycopg.connect(empty_url) as connection:
        connection.execute("CREATE TABLE of_tomorrow (id int)")
        connection.execute("GRANT INSERT ON of_tomorrow TO fusewire_app")
        connection.execute("INSERT INTO schema_migration (name) VALUES ('9999_of_tomorrow.sql')")
    assert migrate(empty_url) == []
    with psycopg.connect(empty_url, options="-c role=fusewire_app") as connection:
        connection.execute("INSERT INTO of_tomorrow VALUES (1)")
        connection.execute("SELECT ledger_ping('{}'::jsonb)")


@pytest.mark.parametrize("theirs", ["0001_budgets.sql", "0000_theirs.sql", "theirs.sql"])
def test_a_database_with_another_history_is_refused_and_left_alone(empty_url: str, theirs: str) -> None:
    with psycopg.connect(empty_url) as connection:
        connection.execute(migrations._CREATE_TABLE)
        connection.execute("INSERT INTO schema_migration (name) VALUES (%s), (%s)", (NAMES[0], theirs))
    with pytest.raises(IncompatibleSchemaError, match=theirs):
        migrate(empty_url)
    assert tables(empty_url) == {"schema_migration"}
    with pytest.raises(LedgerUnavailableError, match=theirs):
        bring_up_to_date(load_settings({"DATABASE_URL": empty_url}))


def test_a_database_of_before_the_first_release_is_refused_in_one_line(empty_url: str) -> None:
    """Twelve files had made it; the baseline took their place."""
    with psycopg.connect(empty_url) as connection:
        connection.execute(migrations._CREATE_TABLE)
        connection.execute("CREATE TABLE budget_window (id bigint)")
        connection.execute("INSERT INTO schema_migration (name) VALUES ('0001_ledger.sql'), ('0012_slots.sql')")
    with pytest.raises(IncompatibleSchemaError) as refused:
        migrate(empty_url)
    assert str(refused.value) == (
        "its schema was made by another version of fusewire (0001_ledger.sql was applied), and no migration leads from "
        "there to this version, so start with an empty database"
    )
    assert tables(empty_url) == {"schema_migration", "budget_window"}


def test_a_server_that_cannot_be_reached_is_an_error(database_url: str) -> None:
    with pytest.raises(psycopg.OperationalError):
        migrate(make_conninfo(database_url, host="127.0.0.1", port=1))


def test_money_is_numeric_and_times_have_a_zone(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        columns = connection.execute("""
            SELECT table_name || '.' || column_name, data_type FROM information_schema.columns
            WHERE table_schema = 'public'
        """).fetchall()
    types: dict[str, str] = dict(columns)
    assert not {name for name, kind in types.items() if kind in ("real", "double precision", "money")}
    assert not {name for name, kind in types.items() if kind == "timestamp without time zone"}
    money = ("spent", "reserved", "bound", "cost", "limit_usd")
    assert {kind for name, kind in types.items() if name.partition(".")[2] in money} == {"numeric"}
