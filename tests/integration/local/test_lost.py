"""What a restore or a failover lost of the books, found in the log and booked by hand."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest

from fusewire.budget.audit_context import AuditContext
from local import StartError
from local.archive import archive
from local.books import books as every_book
from local.lost import archived, booked, lost
from tests.conftest import CoreFactory
from tests.integration.budget.books import Books, a_call, candidate, settled
from tests.integration.local.ledgers import run
from tests.integration.local.trees import a_tree

SINCE = datetime(2026, 11, 25, 3, tzinfo=UTC)
ADMIN = AuditContext("admin", "192.0.2.1", "request-adjust")


def line(event: str, request_id: str, cost: str | None, *, at: str = "2026-11-25T03:00:01.000+00:00", attempt: int = 1,
         **fields: object) -> str:  # fmt: skip
    row = {"timestamp": at, "level": "INFO", "event": event, "request_id": request_id, "attempt": attempt, **fields}
    text = json.dumps(row)
    return text if cost is None else f'{text[:-1]}, "cost_usd": {cost}}}'


def test_only_bookings_count_and_each_attempt_once() -> None:
    lines = [
        line("router.success", "a", "0.1"),
        line("router.provider_failed", "b", "0.2", kind="read_timeout"),
        line("ledger.settled_at_bound", "b", "0.2", kind="read_timeout"),  # repeats the line before
        "2026-11-25T03:00:01 " + line("router.success", "b", "0.03", attempt=2),  # as `aws logs tail` writes it
        line("ledger.settled_at_bound", "c", "0.9", kind="expired"),
        line("router.success", "c", "0.4"),  # its late end corrects the bound
        line("router.provider_failed", "d", None, kind="connect_failed"),
        line("router.success", "e", "0"),
        line("router.success", "f", "7", at="2026-11-25T02:59:59.999+00:00"),
        line("router.success", "g", "5", at="2026-12-01T00:00:00.000+00:00"),
        line("metrics", "a", "3"),
        "Traceback (most recent call last):",
        "[]",
    ]
    assert booked(lines, SINCE) == {
        ("a", 1): ("2026-11", Decimal("0.1")),
        ("b", 1): ("2026-11", Decimal("0.2")),
        ("b", 2): ("2026-11", Decimal("0.03")),
        ("c", 1): ("2026-11", Decimal("0.4")),
        ("g", 1): ("2026-12", Decimal("5")),
    }


def test_what_the_ledger_has_is_not_lost_and_the_rest_is_booked_by_hand(core: CoreFactory, database_url: str) -> None:
    made = core(AI_MONTHLY_BUDGET_USD="1")
    held = made.ledger.reserve(a_call("kept"), [candidate("0.1")])
    made.ledger.settle(settled(held, "0.05"))
    made.ledger.reserve(a_call("in flight"), [candidate("0.1")])
    said = {
        ("kept", 1): ("2026-11", Decimal("0.05")),
        ("kept", 2): ("2026-11", Decimal("0.000000000007")),
        ("in flight", 1): ("2026-11", Decimal("0.02")),
        ("gone", 1): ("2026-11", Decimal("0.3")),
        ("gone, and of the month before", 1): ("2026-10", Decimal("0.4")),
    }
    with psycopg.connect(database_url, autocommit=True) as connection:
        sums = lost(connection, said)
        assert sums == {"2026-11": Decimal("0.300000000007"), "2026-10": Decimal("0.4")}
        assert lost(connection, {}) == {}
    done = made.adjustments.book(sums["2026-11"], "lost in the failover of November 25", None, ADMIN)
    assert done.budget.window.spent == Decimal("0.350000000007")
    books = Books(database_url)
    assert books.only_window().spent == Decimal("0.350000000007")
    books.close()


def test_what_an_archive_has_is_not_lost(core: CoreFactory, database_url: str, tmp_path: Path) -> None:
    made = core(AI_MONTHLY_BUDGET_USD="1")
    made.ledger.settle(settled(made.ledger.reserve(a_call("kept"), [candidate("0.1")]), "0.05"))
    made.ledger.reset(actor="admin", source_ip=None, request_id="reset", reason=None)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            "UPDATE budget_window SET closed_at = now() - interval '30 days', opened_at = now() - interval '40 days'"
            " WHERE closed_at IS NOT NULL"
        )
        [(opened,)] = connection.execute("SELECT opened_at FROM budget_window WHERE closed_at IS NOT NULL").fetchall()
        month = opened.astimezone(UTC).date().replace(day=1)
        done = archive(connection, month, "UTC", tmp_path / "archive.csv.gz")
        said = {(name, 1): ("2026-10", Decimal("0.05")) for name in ("kept", "gone")}
        elsewhere = archived(connection, opened, tmp_path)
        assert lost(connection, said, elsewhere) == {"2026-10": Decimal("0.05")}
        assert archived(connection, opened + timedelta(days=70), tmp_path) == set()
        done.file.write_bytes(b"another")
        with pytest.raises(StartError, match="SHA-256"):
            archived(connection, opened, tmp_path)
        done.file.unlink()
        with pytest.raises(StartError, match="isn't there"):
            archived(connection, opened, tmp_path)


def test_in_a_tree_what_is_lost_is_booked_in_the_companys_window_alone(core: CoreFactory, database_url: str) -> None:
    tree = a_tree(core(AI_MONTHLY_BUDGET_USD="9"))
    tree.spend("kept", "alice", "0.05")
    tree.reserve("in flight", "alice")
    of_december = ("2026-12", Decimal("0.3"))
    said = {("kept", 1): of_december, ("in flight", 1): of_december, ("gone", 1): of_december}
    with psycopg.connect(database_url, autocommit=True) as connection:
        assert lost(connection, said) == dict([of_december])
        below = "SELECT w::text FROM budget_window w WHERE budget <> 'global' ORDER BY id"
        before = connection.execute(below).fetchall()
        tree.services.adjustments.book(Decimal("0.3"), "lost in the failover", None, ADMIN)
        assert connection.execute(below).fetchall() == before
        assert not [line for line in every_book(connection) if line.startswith("BROKEN")]
    books = Books(database_url)
    assert {window.budget: window.spent for window in books.check()}["global"] == Decimal("0.35")
    books.close()


def test_the_command_says_so_and_its_status_too(core: CoreFactory, database_url: str, tmp_path: Path) -> None:
    core(AI_MONTHLY_BUDGET_USD="1").ledger.budget()
    log = f"not JSON\n{line('router.success', 'gone', '0.25')}\n".encode()
    found = run("lost --since 2026-11-25T03:00:00Z", tmp_path, log, DATABASE_URL=database_url)
    assert (found.returncode, found.stdout) == (1, b"2026-11: 0.25 USD are in the log and not in the ledger.\n")
    later = run("lost --since 2026-11-26T03:00:00Z", tmp_path, log, DATABASE_URL=database_url)
    assert (later.returncode, later.stdout.startswith(b"The ledger has all 0 attempts")) == (0, True)
    without_offset = run("lost --since 2026-11-25T03:00:00", tmp_path, log, DATABASE_URL=database_url)
    assert without_offset.returncode == 2
    nowhere = run("lost --since 2026-11-25T03:00:00Z", tmp_path, log, DATABASE_URL="postgresql://127.0.0.1:1/x")
    assert nowhere.returncode == 2
