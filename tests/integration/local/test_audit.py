"""The audit's chain: whole as it is written, broken by whatever is changed, deleted, put in or cut off."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest
from psycopg.types.json import Jsonb

from local.audit import Seen, verify
from tests.integration.local.serving import LAYER
from tests.support.gateway import PROJECT
from tests.support.patience import PATIENCE_SECONDS

Session = psycopg.Connection[tuple[object, ...]]
ENTRIES = 12


@pytest.fixture
def session(database_url: str) -> Iterator[Session]:
    """Entries with all that can make a text differ: quotes, controls, other scripts, numbers' scales, times, none."""
    result = [
        Jsonb({"b": 1, "aa": "x", "a": [True, None, {"spent": 1}]}),
        None,
        Jsonb('"\\/\x01\x1f\x7f\u2028\n\t\r\b\f é 日本 😀'),
        Jsonb([]),
    ]
    with psycopg.connect(database_url, autocommit=True) as connection:
        for number in range(ENTRIES):
            connection.execute(
                "SELECT audit_append(clock_timestamp() + %s * interval '0.1 s', %s, %s, %s, %s, %s, %s)",
                (
                    number,
                    f'key-{number} \\ "é" \x01\t日本 😀',
                    "budget.reset",
                    None if number % 2 else "192.0.2.1",
                    None if number % 3 else f"r{number}",
                    result[number % 4],
                    result[(number + 1) % 4],
                ),
            )
        connection.execute(
            """SELECT audit_append('2026-11-01 00:00:00+09', 'a', 'b', NULL, NULL, '{"cost": 1.50, "n": 1e-30}',
                                   '{"cost": 100000000000000000000000000000000000.000}')"""
        )
        yield connection


def test_what_was_written_is_whole(session: Session) -> None:
    verdict = verify(session)
    assert verdict.problem is None
    assert verdict.entries == ENTRIES + 1
    row = session.execute("SELECT encode(hash, 'hex') FROM audit_head").fetchone()
    assert row is not None
    assert str(verdict) == f"audit: whole. {ENTRIES + 1} entries, the last is {ENTRIES + 1}:{row[0]}"
    assert verify(session, Seen(ENTRIES + 1, verdict.last)) == verdict


def test_an_empty_audit_is_whole(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        assert str(verify(connection)) == "audit: whole, and empty."


@pytest.mark.parametrize(
    ("tampering", "problem"),
    [
        ("UPDATE audit SET actor = 'somebody' WHERE n = 5", "Entry 5 isn't as it was written, or was put in later."),
        ("UPDATE audit SET at = at + interval '1 us' WHERE n = 1", "Entry 1 isn't as it was written"),
        ("UPDATE audit SET source_ip = '' WHERE n = 2", "Entry 2 isn't as it was written"),
        ("UPDATE audit SET after = '{\"cost\": 1.5}' WHERE n = 13", "Entry 13 isn't as it was written"),
        ('UPDATE audit SET before = \'{"cost": 1.5, "n": 1e-30}\' WHERE n = 13', "Entry 13 isn't as it was written"),
        ("UPDATE audit SET hash = sha256(hash) WHERE n = 7", "Entry 7 isn't as it was written"),
        ("UPDATE audit SET n = 99 WHERE n = 3", "Entry 3 is missing."),
        ("DELETE FROM audit WHERE n = 4", "Entry 4 is missing."),
        ("DELETE FROM audit WHERE n BETWEEN 4 AND 6", "Entry 4 is missing, and all up to 6."),
        ("DELETE FROM audit WHERE n = 1", "Entry 1 is missing."),
        ("DELETE FROM audit WHERE n > 12", "Entry 13 is missing at the end."),
        ("DELETE FROM audit WHERE n > 10", "Entries 11 to 13 are missing at the end."),
        ("DELETE FROM audit", "Entries 1 to 13 are missing at the end."),
        ("TRUNCATE audit", "Entries 1 to 13 are missing at the end."),
        ("DELETE FROM audit_head", "The head of the chain is missing, its last entry 13."),
        ("UPDATE audit_head SET n = 12", "The head of the chain is 12, its last entry 13."),
        ("UPDATE audit_head SET hash = sha256(hash)", "The head of the chain is 13, its last entry 13."),
        (
            "INSERT INTO audit (at, actor, action, n, hash) SELECT at, 'x', action, 14, hash FROM audit WHERE n = 13",
            "Entry 14 isn't as it was written, or was put in later.",
        ),
        (
            # In the middle, with all after it moved on.
            "UPDATE audit SET n = -n - 1 WHERE n > 5; UPDATE audit SET n = -n WHERE n < 0;"
            "INSERT INTO audit (at, actor, action, n, hash) SELECT at, 'x', action, 6, hash FROM audit WHERE n = 5",
            "Entry 6 isn't as it was written, or was put in later.",
        ),
        (
            # Two entries change places.
            "UPDATE audit SET n = 0 WHERE n = 5; UPDATE audit SET n = 5 WHERE n = 6;UPDATE audit SET n = 6 WHERE n = 0",
            "Entry 5 isn't as it was written",
        ),
    ],
)
def test_whatever_is_done_to_it_shows(session: Session, tampering: LiteralString, problem: str) -> None:
    session.execute(tampering)
    verdict = verify(session)
    assert verdict.problem is not None
    assert verdict.problem.startswith(problem)
    assert str(verdict) == f"audit: BROKEN. {verdict.problem}"


def test_a_chain_that_its_owner_wrote_anew_isnt_the_one_that_was_seen(session: Session) -> None:
    before = verify(session)
    session.execute("""
        DO $$ DECLARE a audit; link bytea := ''; BEGIN
            DELETE FROM audit WHERE n > 11;
            UPDATE audit SET actor = 'nobody' WHERE n = 9;
            FOR a IN SELECT * FROM audit ORDER BY n LOOP
                link := audit_hash(link, a);
                UPDATE audit SET hash = link WHERE n = a.n;
            END LOOP;
            UPDATE audit_head SET n = 11, hash = link;
        END $$
    """)
    assert verify(session).problem is None
    result = verify(session, Seen(13, before.last)).problem
    assert result == "Entry 13 was seen, and the chain ends at 11."
    result = verify(session, Seen(10, before.last)).problem
    assert result == "Entry 10 isn't the one that was seen: the chain was written anew."


def run(folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "local.audit"],
        cwd=folder,  # where no .env is
        env={"PYTHONPATH": f"{PROJECT}:{LAYER / 'python'}", **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_SECONDS,
    )


def test_the_command_tells_its_verdict_in_one_line_and_by_its_status(
    session: Session, database_url: str, tmp_path: Path
) -> None:
    whole = run(tmp_path, DATABASE_URL=database_url)
    assert (whole.returncode, whole.stderr) == (0, "")
    assert whole.stdout.startswith(f"audit: whole. {ENTRIES + 1} entries, the last is {ENTRIES + 1}:")
    seen = whole.stdout.split()[-1]
    assert run(tmp_path, DATABASE_URL=database_url, SEEN=seen).returncode == 0
    mistyped = run(tmp_path, DATABASE_URL=database_url, SEEN="13")
    assert (mistyped.returncode, mistyped.stdout) == (2, "")
    assert "SEEN is <n>:<hash>" in mistyped.stderr
    session.execute("DELETE FROM audit WHERE n = 4")
    broken = run(tmp_path, DATABASE_URL=database_url, SEEN=seen)
    assert (broken.returncode, broken.stdout) == (1, "audit: BROKEN. Entry 4 is missing.\n")


@pytest.mark.parametrize(
    ("variables", "row"),
    [
        ({"DATABASE_URL": "postgresql://u:sentinel@127.0.0.1:1/db"}, "The ledger can't be reached (OperationalError)"),
        ({"FUSEWIRE_HOME": "none"}, "There is no ledger in"),
    ],
)
def test_what_cannot_be_told_is_neither_whole_nor_broken(tmp_path: Path, variables: dict[str, str], row: str) -> None:
    refused = run(tmp_path, **variables)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith(f"The audit can't be verified. {row}")
    assert "sentinel" not in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
