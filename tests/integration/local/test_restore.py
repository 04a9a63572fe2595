"""Restores into a real server: whole or not at all, after a question, and not over what the backup lacks."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from fusewire.budget.audit_context import AuditContext
from fusewire.services import Services
from fusewire.store.migrate import migrate
from local.books import books as every_book
from local.latest import lacking, latest_of
from local.postgres import as_app
from local.restore import _restore
from tests.conftest import CoreFactory, as_app_role, cloned
from tests.integration.budget.books import a_call, candidate, settled
from tests.integration.local.ledgers import a_home, books, environment, reset, run, running
from tests.integration.local.processes import arguments, descendants, wait_until_none_mentions
from tests.integration.local.trees import a_tree
from tests.support.gateway import eventually
from tests.support.patience import PATIENCE_SECONDS
from tests.support.terminal import at_a_terminal

_PASSWORD = "sentinel-4711"  # noqa: S105 - looked for where it must not be


@pytest.fixture
def empty_url(postgres: str) -> Iterator[str]:
    """A database with nothing in it."""
    name = f"fusewire_nothing_{os.getpid()}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    yield make_conninfo(postgres, dbname=name)
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return a_home(tmp_path_factory.mktemp("home"))


def test_a_round_trip(home: Path, tmp_path: Path) -> None:
    with running(home) as url:
        old = books(url)
    assert old
    saved = run("backup", tmp_path, FUSEWIRE_HOME=str(home))  # starts the server for as long as it takes
    assert (saved.returncode, saved.stderr) == (0, b"")
    wait_until_none_mentions(str(home))
    with running(home) as url:
        assert run("backup", tmp_path, FUSEWIRE_HOME=str(home)).returncode == 0  # joins the server that runs
        reset(url)
        new = books(url)
        assert len(new) > len(old)
        restored = run("restore --yes --force", tmp_path, saved.stdout, FUSEWIRE_HOME=str(home))
        assert (restored.returncode, restored.stdout) == (0, b"")
        folder = home / "postgres"
        assert restored.stderr.decode() == f"Restoring into socket folder {folder}, port 5432, database fusewire ...\n"
        assert books(url) == old
        # What came back is a ledger, not only its rows, and open to the functions' role.
        reset(as_app(url))
        assert migrate(url) == []
    restored = run("restore --yes --force", tmp_path, saved.stdout, FUSEWIRE_HOME=str(home))
    assert restored.returncode == 0
    wait_until_none_mentions(str(home))
    with running(home) as url:
        assert books(url) == old


def test_a_dump_that_is_not_whole_changes_nothing(home: Path, tmp_path: Path) -> None:
    with running(home) as url:
        whole = run("backup", tmp_path, FUSEWIRE_HOME=str(home)).stdout
        old = books(url)
        half = whole[: len(whole) // 2]
        for dump in (
            b"",
            b"\n",
            half,
            half[: half.rindex(b"\n\n")],
            whole[: whole.index(b"CREATE TABLE")],
            b"\x00\xff",
        ):
            refused = run("restore --yes", tmp_path, dump, FUSEWIRE_HOME=str(home))
            assert refused.returncode == 1
            assert refused.stderr.decode().splitlines() == [
                "restore isn't possible. Standard input isn't a whole backup; nothing was changed."
            ]
            assert books(url) == old


def test_a_dump_that_fails_changes_nothing(home: Path, tmp_path: Path) -> None:
    with running(home) as url:
        whole = run("backup", tmp_path, FUSEWIRE_HOME=str(home)).stdout
        old = books(url)
        at = whole.index(b"\n-- PostgreSQL database dump complete")
        refused = run("restore --yes", tmp_path, whole[:at] + b"\nSELECT 1/0;\n" + whole[at:], FUSEWIRE_HOME=str(home))
        assert refused.returncode != 0
        assert b"division by zero" in refused.stderr
        assert books(url) == old


def saved_from(url: str, folder: Path) -> bytes:
    saved = run("backup", folder, DATABASE_URL=url)
    assert (saved.returncode, saved.stderr) == (0, b"")
    return saved.stdout


def result(url: str) -> list[str]:
    with psycopg.connect(url, autocommit=True) as connection:
        return list(every_book(connection))


def asked(
    folder: Path, dump: bytes, answer: str, url: str, *options: str
) -> tuple[subprocess.CompletedProcess[str], str]:
    command = [sys.executable, "-m", "local.restore", *options]
    return at_a_terminal(
        command, answer, cwd=folder, env=environment(DATABASE_URL=url), seconds=PATIENCE_SECONDS, stdin=dump
    )


@pytest.fixture
def booked(core: CoreFactory) -> Services:
    """Some of everything: a window that was reset, an audit entry, an attempt that ended and one that hasn't."""
    made = core(AI_MONTHLY_BUDGET_USD="1")
    made.ledger.settle(settled(made.ledger.reserve(a_call("one"), [candidate("0.3")]), "0.2"))
    made.ledger.reset(actor="admin", source_ip=None, request_id="reset", reason="to have an audit entry")
    made.ledger.settle(settled(made.ledger.reserve(a_call("two"), [candidate("0.3")]), "0.1"))
    return made


def test_it_names_its_target_and_restores_after_a_yes(booked: Services, database_url: str, tmp_path: Path) -> None:
    dump, before = saved_from(database_url, tmp_path), result(database_url)
    where = psycopg.conninfo.conninfo_to_dict(database_url)
    for answer in ("no\n", "y\n", "\n", "\x04"):
        ended, shown = asked(tmp_path, dump, answer, database_url)
        assert (ended.returncode, ended.stdout) == (1, "")
        assert ended.stderr == "restore isn't possible. The answer wasn't yes; nothing was changed.\n"
        assert f"socket folder {where['host']}" in shown and f"database {where['dbname']}?" in shown
        assert "Open connections of fusewire to it: 1." in shown, "that of the fixture"
    with psycopg.connect(database_url) as connection:
        [tables] = connection.execute("SELECT 'ledger'::regclass::oid").fetchall()
    ended, _ = asked(tmp_path, dump, "yes\n", make_conninfo(database_url, password=_PASSWORD))
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.startswith("Restoring into socket folder ") and _PASSWORD not in ended.stderr
    assert result(database_url) == before
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT 'ledger'::regclass::oid").fetchall() != [tables], "it was restored"


def test_without_a_terminal_it_is_refused_unless_told_not_to_ask(
    booked: Services, database_url: str, tmp_path: Path
) -> None:
    dump = saved_from(database_url, tmp_path)
    refused = run("restore", tmp_path, dump, DATABASE_URL=database_url)
    assert refused.returncode == 1
    line = refused.stderr.decode()
    assert "there is no terminal to ask on: YES=1 doesn't ask. Nothing was changed." in line
    assert len(line.splitlines()) == 1
    assert run("restore --yes", tmp_path, dump, DATABASE_URL=database_url).returncode == 0


def _an_audit_entry(booked: Services) -> None:
    booked.keys.create({"name": "later", "scopes": ["complete"], "tags": {}}, AuditContext("admin", None, "later"))


def _a_call(booked: Services) -> None:
    booked.ledger.reserve(a_call("later"), [candidate("0.01")])


def _a_window(booked: Services) -> None:
    with psycopg.connect(booked.settings.database_url.get_secret_value()) as connection:  # type: ignore[union-attr]
        connection.execute(
            "INSERT INTO budget_window (budget, opened_at, opened_by, resets_at) "
            "VALUES ('key_x', clock_timestamp(), 'use', 'infinity')"
        )


@pytest.mark.parametrize(
    ("write", "lacks"), [(_an_audit_entry, "an audit entry"), (_a_call, "a call"), (_a_window, "a budget window")]
)
def test_whatever_the_backup_lacks_is_not_lost_unless_forced(
    booked: Services, database_url: str, tmp_path: Path, write: Callable[[Services], None], lacks: str
) -> None:
    dump, point = saved_from(database_url, tmp_path), result(database_url)
    write(booked)
    before = result(database_url)
    assert before != point
    refused = run("restore --yes", tmp_path, dump, DATABASE_URL=database_url)
    assert refused.returncode == 1
    [line] = refused.stderr.decode().splitlines()
    assert line.startswith("restore isn't possible. The backup lacks what ") and f"holds: {lacks} of 20" in line
    assert "FORCE=1" in line
    assert result(database_url) == before
    forced = run("restore --yes --force", tmp_path, dump, DATABASE_URL=database_url)
    assert forced.returncode == 0, forced.stderr
    assert result(database_url) == point


def test_an_end_that_the_backup_lacks(booked: Services, database_url: str, tmp_path: Path) -> None:
    under_way = booked.ledger.reserve(a_call("three"), [candidate("0.01")])
    dump = saved_from(database_url, tmp_path)
    booked.ledger.settle(settled(under_way, "0.005"))
    refused = run("restore --yes", tmp_path, dump, DATABASE_URL=database_url)
    assert refused.returncode == 1
    assert "holds: the end of a call of 20" in refused.stderr.decode()


def test_books_that_are_all_in_the_backup_are_replaced(
    booked: Services, database_url: str, empty_url: str, tmp_path: Path
) -> None:
    """Into nothing, and then into the same ledger of an earlier time, both without force."""
    first = saved_from(database_url, tmp_path)
    assert run("restore --yes", tmp_path, first, DATABASE_URL=empty_url).returncode == 0
    assert result(empty_url) == result(database_url)
    for write in (_an_audit_entry, _a_call):
        write(booked)
    second = saved_from(database_url, tmp_path)
    assert run("restore --yes", tmp_path, second, DATABASE_URL=empty_url).returncode == 0
    assert result(empty_url) == result(database_url)
    assert migrate(empty_url) == []


def test_a_trees_books_come_back_with_its_users_and_its_calls_in_flight(
    core: CoreFactory, database_url: str, empty_url: str, tmp_path: Path
) -> None:
    tree = a_tree(core(AI_MONTHLY_BUDGET_USD="9", AI_LEDGER_SLOTS="2"))
    tree.spend("one", "alice", "0.123456789012345678901234567890123456789")
    tree.spend("two", "bob", "0.01", tier="cost_effective")
    in_flight = tree.reserve("three", "alice")
    dump = saved_from(database_url, tmp_path)
    for _ in range(2):  # into nothing, and over itself
        assert run("restore --yes", tmp_path, dump, DATABASE_URL=empty_url).returncode == 0
        assert result(empty_url) == result(database_url)
    # A window that only a node's call opened counts as what the backup lacks, like any other.
    tree.services.ledger.reset(actor="a", source_ip=None, request_id="r", reason=None, budget=tree.team)
    refused = run("restore --yes", tmp_path, dump, DATABASE_URL=database_url)
    assert (refused.returncode, b"a budget window of 20" in refused.stderr) == (1, True)
    made = CoreFactory(as_app_role(empty_url))  # as the functions are
    there = replace(tree, services=made(AI_MONTHLY_BUDGET_USD="9", AI_LEDGER_SLOTS="2"))
    users = "SELECT budget, spent, reserved FROM budget_window WHERE budget LIKE 'user:%' ORDER BY id"
    with psycopg.connect(empty_url, autocommit=True) as connection:
        before = connection.execute(users).fetchall()
        there.services.ledger.settle(settled(in_flight, "0.02"))
        there.spend("four", "alice", "0.03")
        after = connection.execute(users).fetchall()
    made.close()
    assert [row[0] for row in after] == [row[0] for row in before], "alice is who she was"
    assert str(after[0][1]) == "0.173456789012345678901234567890123456789" and after[0][2] == 0
    assert after[1] == before[1]
    assert not [line for line in result(empty_url) if line.startswith("BROKEN")]


def test_other_books_are_refused_though_they_are_older(
    postgres: str, template: str, core: CoreFactory, database_url: str, tmp_path: Path
) -> None:
    """The two have the same numbers of everything, and nobody has called the older since."""
    with cloned(postgres, template) as other:
        reset(other)
        before = result(other)
        core().ledger.reset(actor="test", source_ip=None, request_id="r", reason="to have something to keep")
        dump = saved_from(database_url, tmp_path)
        refused = run("restore --yes", tmp_path, dump, DATABASE_URL=other)
        assert refused.returncode == 1
        assert "an audit entry of 20" in refused.stderr.decode()
        assert result(other) == before


def test_what_is_no_backup_of_a_ledger(booked: Services, database_url: str, empty_url: str, tmp_path: Path) -> None:
    with psycopg.connect(empty_url) as connection:
        connection.execute("CREATE TABLE audit (n int)")
    foreign, before = saved_from(empty_url, tmp_path), result(database_url)
    for options in ("--yes", "--yes --force"):
        refused = run(f"restore {options}", tmp_path, foreign, DATABASE_URL=database_url)
        assert refused.returncode == 1
        assert b"isn't a backup of a ledger; nothing was changed" in refused.stderr
    assert result(database_url) == before
    # And a target that is another program's.
    refused = run("restore --yes", tmp_path, saved_from(database_url, tmp_path), DATABASE_URL=empty_url)
    assert refused.returncode == 1
    assert b"tables that aren't this version's" in refused.stderr
    with psycopg.connect(empty_url) as connection:
        assert connection.execute("SELECT count(*) FROM audit").fetchone() == (0,)


def test_what_is_written_after_the_look_makes_it_fail(
    booked: Services, database_url: str, empty_url: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    dump = tmp_path / "dump"
    dump.write_bytes(saved_from(database_url, tmp_path))
    with dump.open("rb") as file, psycopg.connect(database_url, autocommit=True) as connection:
        seen = latest_of(connection)
        assert lacking(file, seen) == []
        _a_call(booked)
        before = result(database_url)
        assert _restore(connection, file, seen) != 0
        assert "the target was written to meanwhile; nothing was changed" in capfd.readouterr().err
        assert result(database_url) == before
        assert _restore(connection, file, latest_of(connection)) == 0, "as it is now"
    with dump.open("rb") as file, psycopg.connect(empty_url, autocommit=True) as connection:
        nothing = latest_of(connection)
        migrate(empty_url)
        assert _restore(connection, file, nothing) != 0
        assert "the target is no longer empty; nothing was changed" in capfd.readouterr().err


def test_broken_off_it_leaves_what_was_there(booked: Services, database_url: str, tmp_path: Path) -> None:
    """Killed in the midst, with all tables replaced: psql, which is all that talks to the database."""
    whole, before = saved_from(database_url, tmp_path), result(database_url)
    at = whole.index(b"\n-- PostgreSQL database dump complete")
    dump = tmp_path / "dump"
    dump.write_bytes(whole[:at] + b"\nDELETE FROM public.ledger; SELECT pg_sleep(60);\n" + whole[at:])
    with dump.open("rb") as stdin:
        process = subprocess.Popen(
            [sys.executable, "-m", "local.restore", "--yes"],
            cwd=tmp_path,
            env=environment(DATABASE_URL=database_url),
            stdin=stdin,
            stderr=subprocess.PIPE,
        )
    pids: list[int] = []

    def asleep() -> bool:
        rows = watching.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"
        )
        pids[:] = [pid for (pid,) in rows]
        return bool(pids)

    with process, psycopg.connect(database_url, autocommit=True) as watching:
        eventually(asleep)
        [psql] = [pid for pid in descendants(process.pid) if "psql" in arguments(pid)[0]]
        os.kill(psql, signal.SIGKILL)
        process.communicate(timeout=PATIENCE_SECONDS)
        watching.execute("SELECT pg_terminate_backend(%s)", (pids[0],))  # it would sleep on without its client
        eventually(lambda: not asleep())
    assert process.returncode != 0
    assert result(database_url) == before
    with psycopg.connect(database_url, options="-c role=fusewire_app") as functions:
        functions.execute("SELECT ledger_ping('{}'::jsonb)")


def test_the_functions_may_use_what_was_restored_as_soon_as_it_is_there(
    booked: Services, database_url: str, tmp_path: Path
) -> None:
    """Their rights come in the same transaction: there is no moment without them for a crash to keep."""
    with psycopg.connect(database_url) as connection, (tmp_path / "dump").open("w+b") as dump:
        dump.write(saved_from(database_url, tmp_path))
        dump.flush()
        assert _restore(connection, dump, None) == 0
    with psycopg.connect(database_url, options="-c role=fusewire_app") as functions:
        functions.execute("SELECT ledger_ping('{}'::jsonb)")


def test_a_service_that_the_shell_names_does_not_move_it(
    booked: Services, database_url: str, empty_url: str, tmp_path: Path
) -> None:
    """To libpq a service wins over the variables that psql is told by."""
    elsewhere = psycopg.conninfo.conninfo_to_dict(empty_url)
    services = tmp_path / "services"
    services.write_text("[live]\n" + "".join(f"{name}={value}\n" for name, value in elsewhere.items()))
    dump = saved_from(database_url, tmp_path)
    _a_call(booked)
    ended = run(
        "restore --yes --force", tmp_path, dump,
        DATABASE_URL=database_url, PGSERVICE="live", PGSERVICEFILE=str(services),
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    with psycopg.connect(empty_url) as connection:
        assert connection.execute("SELECT to_regclass('public.ledger')").fetchone() == (None,)
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT count(*) FROM ledger").fetchone() == (2,)


def test_usage(tmp_path: Path) -> None:
    refused = run("restore --maybe", tmp_path)
    assert (refused.returncode, refused.stdout) == (2, b"")
    assert refused.stderr.startswith(b"usage: ")
