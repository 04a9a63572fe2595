"""A closed month moves into a file: what is there is what was booked, and what isn't stays in the ledger."""

import csv
import gzip
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest

from fusewire.budget.adjustments import Adjustments
from fusewire.budget.audit_context import AuditContext
from fusewire.budget.ledger import Ledger
from fusewire.budget.reservation import Call
from fusewire.budget.usage import Books as Reports
from fusewire.errors import InvalidRequestError
from fusewire.store.db import Database
from local import StartError
from local import archive as archiving
from local.archive import archive
from local.audit import verify
from local.books import books
from tests.conftest import CoreFactory
from tests.integration.budget.books import Clock, candidate, released, settled
from tests.integration.local.serving import LAYER
from tests.integration.local.trees import Tree, a_tree
from tests.support.gateway import PROJECT, eventually
from tests.support.patience import PATIENCE_SECONDS

Session = psycopg.Connection[tuple[object, ...]]
OCTOBER = date(2026, 10, 1)


@pytest.fixture
def clock(database_url: str) -> Iterator[Clock]:
    made = Clock(database_url, datetime(2026, 10, 31, 23, 59, tzinfo=UTC))
    yield made
    made.close()


@pytest.fixture
def ledger(core: CoreFactory, clock: Clock) -> Iterator[Ledger]:
    """October with a reset inside and a call that ended in November, and November."""
    settings = core.settings()
    database = Database(settings.database_url)
    ledger = Ledger(database, settings)

    def spend(cost: str, request_id: str) -> None:
        call = Call(request_id, "chat", "sota" if len(cost) % 2 else None, "key-1" if len(cost) > 4 else None)
        ledger.settle(settled(ledger.reserve(call, [candidate("9", "azure", 'a "model", so\ncalled')]), cost))

    spend("0.123456789012345678901234567890123456789", "october")
    spend("1.5", "october")
    ledger.settle(released(ledger.reserve(Call("october", "chat", None), [candidate("1")])))
    ledger.reset(actor="admin", source_ip=None, request_id="reset", reason="inside the month")
    late = ledger.reserve(Call("late", "chat", "sota"), [candidate("1")])
    clock.set(datetime(2026, 11, 1, tzinfo=UTC))
    spend("0.7", "november")
    ledger.settle(settled(late, "0.25"))
    clock.set(datetime(2026, 11, 9, tzinfo=UTC))
    yield ledger
    database.close()


@pytest.fixture
def session(ledger: Ledger, database_url: str) -> Iterator[Session]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


def rows(session: Session, table: str) -> list[tuple[object, ...]]:
    return session.execute(f"SELECT t::text FROM {table} t ORDER BY 1".encode()).fetchall()  # noqa: S608 - our own names


def test_a_month_moves_into_a_file_and_its_sums_stay(session: Session, core: CoreFactory, tmp_path: Path) -> None:
    before = {name: rows(session, name) for name in ("usage_rollup", "ledger")}
    reports = Reports(Database(core.settings().database_url), core.settings())

    done = archive(session, OCTOBER, "UTC", tmp_path / "new" / "october.csv.gz")

    cost = Decimal("0.123456789012345678901234567890123456789") + Decimal("1.75")
    assert (done.entries, str(done.cost)) == (4, "1.873456789012345678901234567890123456789")
    assert cost != done.cost, "this test's own sum is the one that is rounded"
    assert rows(session, "usage_rollup") == before["usage_rollup"]
    [left] = session.execute("SELECT request_id FROM ledger").fetchall()
    assert left == ("november",)
    assert reports.call("october") is None
    assert reports.usage(["day"], limit=9, month=OCTOBER).total.cost == done.cost
    reports._database.close()
    marked = session.execute("SELECT archived_at IS NOT NULL FROM budget_window WHERE budget = 'global' ORDER BY id")
    assert [row[0] for row in marked] == [True, True, False]
    with gzip.open(done.file, "rt", newline="") as text:
        kept = list(csv.DictReader(text))
    assert [row["request_id"] for row in kept] == ["october", "october", "october", "late"]
    assert {row["model"] for row in kept} == {'a "model", so\ncalled', "gpt"}
    # The audit has the file's hash, under its own chain.
    [(result,)] = session.execute("SELECT after FROM audit WHERE action = 'ledger.archived'").fetchall()
    assert result == {
        "month": "2026-10",
        "file": "october.csv.gz",
        "sha256": hashlib.sha256(done.file.read_bytes()).hexdigest(),
        "entries": 4,
        "cost_usd": "1.873456789012345678901234567890123456789",
    }
    assert verify(session).problem is None
    with pytest.raises(StartError, match="archived already"):
        archive(session, OCTOBER, "UTC", tmp_path / "again.csv.gz")
    # And back again, row for row.
    with gzip.open(done.file, "rb") as packed, session.cursor() as cursor:
        with cursor.copy("COPY ledger FROM STDIN (FORMAT csv, HEADER MATCH)") as copy:
            copy.write(packed.read())
    assert rows(session, "ledger") == before["ledger"]


def test_only_its_user_can_read_the_file(session: Session, tmp_path: Path) -> None:
    """Whatever the mask is, and whatever a run left that was broken off."""
    file = tmp_path / "october.csv.gz"
    left = file.with_name(f"{file.name}.part")
    left.write_bytes(b"half")
    left.chmod(0o644)
    mask = os.umask(0)
    try:
        done = archive(session, OCTOBER, "UTC", file)
    finally:
        os.umask(mask)
    assert done.file == file
    assert oct(file.stat().st_mode & 0o777) == "0o600"
    assert not left.exists()


def test_adjustments_move_with_their_month_and_no_more_can_be_made(
    session: Session, core: CoreFactory, tmp_path: Path
) -> None:
    database = Database(core.settings().database_url)
    adjustments = Adjustments(database, core.settings())
    [(first,)] = session.execute("SELECT min(id) FROM budget_window WHERE budget = 'global'").fetchall()
    window = int(str(first))
    admin = AuditContext("admin", None, "adjusted")
    for amount in ("0.3", "-0.1", "-0.2"):
        adjustments.book(Decimal(amount), "invoice", window, admin)
    done = archive(session, OCTOBER, "UTC", tmp_path / "october.csv.gz")
    assert (done.entries, str(done.cost)) == (7, "1.873456789012345678901234567890123456789")
    assert len(adjustments.list(before=None, limit=10)) == 3
    with pytest.raises(InvalidRequestError, match="archived"):
        adjustments.book(Decimal(1), "invoice", window, admin)
    database.close()


@pytest.mark.parametrize(
    ("month", "now", "row"),
    [
        (date(2026, 11, 1), "2026-11-09", "can be archived 7 days after its window"),
        (OCTOBER, "2026-11-07", "can be archived 7 days after its window"),
        (date(2026, 9, 1), "2026-11-09", "2026-09 has no budget window in UTC"),
    ],
)
def test_a_month_that_isnt_over_stays(
    session: Session, clock: Clock, tmp_path: Path, month: date, now: str, row: str
) -> None:
    clock.set(datetime.fromisoformat(f"{now}T00:00:00+00:00"))
    before = rows(session, "ledger")
    with pytest.raises(StartError, match=row):
        archive(session, month, "UTC", tmp_path / "file.csv.gz")
    assert rows(session, "ledger") == before
    assert list(tmp_path.iterdir()) == []


def test_a_month_with_a_reservation_stays(session: Session, ledger: Ledger, clock: Clock, tmp_path: Path) -> None:
    clock.set(datetime(2026, 11, 30, 23, 59, 59, tzinfo=UTC))
    ledger.reserve(Call("forgotten", "chat", None), [candidate("1")])
    clock.set(datetime(2026, 12, 9, tzinfo=UTC))
    ledger.reserve(Call("december", "chat", None), [candidate("0.1")])
    clock.advance(seconds=timedelta(days=8).total_seconds())
    with pytest.raises(StartError, match="still holds reservations"):
        archive(session, date(2026, 11, 1), "UTC", tmp_path / "file.csv.gz")
    ledger.budget()
    assert archive(session, date(2026, 11, 1), "UTC", tmp_path / "file.csv.gz").entries == 2


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE ledger SET cost = cost + 1e-30 WHERE request_id = 'late'",
        "UPDATE ledger SET input_tokens = 11 WHERE request_id = 'late'",
        "UPDATE ledger SET model = 'other' WHERE request_id = 'late'",
        "DELETE FROM ledger WHERE request_id = 'late'",
        "UPDATE usage_rollup SET requests = requests + 1 WHERE window_id = 2",
        "UPDATE budget_window SET spent = spent + 1 WHERE id = 2",
    ],
)
def test_books_that_dont_agree_are_not_archived(session: Session, tmp_path: Path, change: str) -> None:
    session.execute(change.encode())
    before = rows(session, "ledger")
    with pytest.raises(StartError, match="isn't what was booked"):
        archive(session, OCTOBER, "UTC", tmp_path / "file.csv.gz")
    assert rows(session, "ledger") == before
    assert not (tmp_path / "file.csv.gz").exists()


def test_what_changes_between_writing_and_deleting_is_not_deleted(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = archiving._sync

    def meanwhile(folder: Path) -> None:
        session.execute("UPDATE ledger SET cost = cost * 2 WHERE request_id = 'late'")
        real(folder)

    monkeypatch.setattr(archiving, "_sync", meanwhile)
    before = len(rows(session, "ledger"))
    with pytest.raises(StartError, match="changed meanwhile"):
        archive(session, OCTOBER, "UTC", tmp_path / "file.csv.gz")
    assert len(rows(session, "ledger")) == before
    assert session.execute("SELECT FROM budget_window WHERE archived_at IS NOT NULL").fetchall() == []
    assert session.execute("SELECT FROM audit WHERE action = 'ledger.archived'").fetchall() == []


def test_who_settles_late_meanwhile_is_waited_for_and_waits_for_nobody(
    session: Session, database_url: str, tmp_path: Path
) -> None:
    """As `ledger_settle` does: the window's lock, then the entry's. The other way round the two wait for each other."""
    with (
        psycopg.connect(database_url) as late,
        psycopg.connect(database_url, autocommit=True) as watching,
        ThreadPoolExecutor() as threads,
    ):
        late.execute("SELECT FROM budget_window WHERE id = 2 FOR NO KEY UPDATE")
        moving = threads.submit(archive, session, OCTOBER, "UTC", tmp_path / "file.csv.gz")
        waiting = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        eventually(lambda: watching.execute(waiting).rowcount == 1)
        late.execute("SELECT FROM ledger WHERE request_id = 'late' FOR UPDATE NOWAIT")
        late.commit()
        assert moving.result().entries == 4


@pytest.fixture
def planted(core: CoreFactory, clock: Clock, database_url: str) -> Iterator[Tree]:
    """A tree's October, with a call that ended in November, and its November."""
    clock.set(datetime(2026, 10, 31, 12, tzinfo=UTC))
    tree = a_tree(core(AI_MONTHLY_BUDGET_USD="9", AI_LEDGER_SLOTS="2"))
    tree.spend("october", "alice", "0.123456789012345678901234567890123456789")
    tree.spend("october", "bob", "0.5", tier="cost_effective")
    clock.set(datetime(2026, 10, 31, 23, 59, tzinfo=UTC))
    late = tree.reserve("late", "alice")
    clock.set(datetime(2026, 11, 1, 0, 0, 30, tzinfo=UTC))
    tree.services.ledger.settle(settled(late, "0.02"))
    clock.set(datetime(2026, 11, 2, tzinfo=UTC))
    tree.spend("november", "alice", "0.03")
    tree.reserve("in flight", "bob")
    clock.set(datetime(2026, 11, 9, tzinfo=UTC))
    yield tree


def test_a_trees_month_moves_with_its_paths(planted: Tree, database_url: str, tmp_path: Path) -> None:
    with psycopg.connect(database_url, autocommit=True) as session:
        before = rows(session, "ledger")
        windows = "SELECT id, budget, spent, reserved, request_count FROM budget_window ORDER BY id"
        held = session.execute(windows).fetchall()
        planted.services.ledger.budget()  # what was in flight has expired
        held = session.execute(windows).fetchall()
        before = rows(session, "ledger")
        assert not broken(session)
        done = archive(session, OCTOBER, "UTC", tmp_path / "october.csv.gz")
        assert (done.entries, str(done.cost)) == (3, "0.643456789012345678901234567890123456789")
        assert session.execute(windows).fetchall() == held
        assert not broken(session), "though the windows' attempts are gone"
        # And back again, each path in its row.
        with gzip.open(done.file, "rb") as packed, session.cursor() as cursor:
            with cursor.copy("COPY ledger FROM STDIN (FORMAT csv, HEADER MATCH)") as copy:
                copy.write(packed.read())
        assert rows(session, "ledger") == before


def test_after_it_the_windows_that_hold_none_of_it_are_still_compared(
    planted: Tree, database_url: str, tmp_path: Path
) -> None:
    planted.services.ledger.budget()
    with psycopg.connect(database_url, autocommit=True) as session:
        archive(session, OCTOBER, "UTC", tmp_path / "october.csv.gz")
        of_november = "(SELECT id FROM budget_window WHERE budget = %s ORDER BY id DESC LIMIT 1)"
        for node, is_compared in ((planted.division, True), (planted.team, True), (planted.tier, False)):
            change = f"UPDATE budget_window SET spent = spent + 1 WHERE id = {of_november} RETURNING id"  # noqa: S608
            [(id,)] = session.execute(change.encode(), (node,)).fetchall()
            assert [line.startswith(f"BROKEN: window {id} ") for line in broken(session)] == [True] * is_compared
            session.execute("UPDATE budget_window SET spent = spent - 1 WHERE id = %s", (id,))


@pytest.mark.parametrize("budget", ["division", "team", "tier", "user"])
def test_a_window_of_the_tree_that_doesnt_agree_stops_it(
    planted: Tree, database_url: str, tmp_path: Path, budget: str
) -> None:
    """It is the last time that anybody can tell."""
    name = "user:%" if budget == "user" else getattr(planted, budget)
    planted.services.ledger.budget()
    with psycopg.connect(database_url, autocommit=True) as session:
        session.execute(
            """
            UPDATE budget_window SET spent = spent + 1e-30
            WHERE id = (SELECT min(id) FROM budget_window WHERE budget LIKE %s)
            """,
            (name,),
        )
        before = rows(session, "ledger")
        with pytest.raises(StartError, match=r"don't agree; nothing was deleted\. BROKEN: window "):
            archive(session, OCTOBER, "UTC", tmp_path / "october.csv.gz")
        assert rows(session, "ledger") == before
        assert not (tmp_path / "october.csv.gz").exists()


def test_users_windows_go_with_the_last_of_their_attempts(
    planted: Tree, database_url: str, clock: Clock, tmp_path: Path
) -> None:
    clock.set(datetime(2026, 11, 20, tzinfo=UTC))
    planted.services.ledger.budget()  # what was in flight has expired
    of_users = "SELECT resets_at::date FROM budget_window WHERE budget LIKE 'user:%' ORDER BY 1"
    with psycopg.connect(database_url, autocommit=True) as session:
        week, later = (date(2026, 11, 2),), (date(2026, 11, 9),)
        assert session.execute(of_users).fetchall() == [week] * 2 + [later] * 2
        session.execute(
            "INSERT INTO budget_threshold_event (window_id, state, crossed_at, spent, limit_usd)"
            " SELECT id, 'OPEN', now(), 1, 1 FROM budget_window WHERE budget LIKE 'user:%'"
        )
        session.execute(
            "INSERT INTO budget_slot (window_id, slot, ceiling, allocated)"
            " SELECT id, 1, 1, 0 FROM budget_window WHERE budget LIKE 'user:%'"
        )
        archive(session, OCTOBER, "UTC", tmp_path / "october.csv.gz")
        assert session.execute(of_users).fetchall() == [later] * 2
        assert not broken(session)
    planted.spend("back again", "alice", "0.01")


def broken(session: Session) -> list[str]:
    return [line for line in books(session) if line.startswith("BROKEN")]


def test_the_functions_role_may_not(session: Session, tmp_path: Path) -> None:
    session.execute("SET ROLE fusewire_app")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        archive(session, OCTOBER, "UTC", tmp_path / "file.csv.gz")
    session.execute("RESET ROLE")
    assert len(rows(session, "ledger")) == 5


def run(folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "local.archive"],
        cwd=folder,  # where no .env is
        env={"PYTHONPATH": f"{PROJECT}{os.pathsep}{LAYER / 'python'}", **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_SECONDS,
    )


def test_the_command_says_what_it_did(session: Session, database_url: str, tmp_path: Path) -> None:
    refused = run(tmp_path, DATABASE_URL=database_url)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == "archive isn't possible. Say which month: make archive MONTH=2026-10\n"
    done = run(tmp_path, DATABASE_URL=database_url, MONTH="2026-10", FUSEWIRE_HOME=str(tmp_path / "home"))
    assert (done.returncode, done.stderr) == (0, "")
    file = tmp_path / "home/archive/ledger-2026-10.csv.gz"
    assert done.stdout.startswith(f"{file}: 4 entries, 1.8734567890123456789012345678901234567")
    assert hashlib.sha256(file.read_bytes()).hexdigest() in done.stdout
