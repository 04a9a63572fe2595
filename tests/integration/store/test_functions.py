"""The files in `store/functions` are what the database holds, and a set of them never replaces a newer one."""

import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Final, LiteralString

import psycopg
import pytest

import fusewire.store
from fusewire.budget.ledger import Ledger
from fusewire.budget.reservation import Call, Candidate, Settlement
from fusewire.store import migrate as migrations
from fusewire.store.db import Database
from fusewire.store.migrate import Functions, functions, migrate
from scripts.schema import SCHEMA, VERSION, counted, tables
from tests.conftest import CoreFactory, as_app_role
from tests.integration.budget.books import Books
from tests.support.patience import PATIENCE_SECONDS

FOLDER: Final = Path(fusewire.store.__path__[0]) / "functions"
_FUNCTION: Final = re.compile(r"^CREATE OR REPLACE FUNCTION (\w+)\(.*?AS \$\$(.*?)\$\$;\n", re.MULTILINE | re.DOTALL)
_FOUND: Final = "SELECT proname, prosrc FROM pg_proc WHERE pronamespace = 'public'::regnamespace ORDER BY proname"


@dataclass(frozen=True, slots=True)
class Written:
    """A function as its file has it."""

    name: str
    file: str
    text: str
    body: str


def written() -> list[Written]:
    found = []
    for file in sorted(FOLDER.glob("*.sql")):
        found += [
            Written(match[1], file.name, match[0], match[2])
            for match in _FUNCTION.finditer(file.read_text(encoding="utf-8"))
        ]
    return sorted(found, key=lambda function: function.name)


def held(database_url: str) -> list[tuple[str, str]]:
    """Each function of the database, by name, with its body."""
    with psycopg.connect(database_url) as connection:
        return [(name, body) for name, body in connection.execute(_FOUND)]


def recorded(database_url: str) -> tuple[int, str]:
    with psycopg.connect(database_url) as connection:
        [row] = connection.execute("SELECT version, hash FROM schema_functions").fetchall()
        return row[0], row[1]


def test_each_function_of_the_database_is_in_one_file_with_that_text(database_url: str) -> None:
    names = [function.name for function in written()]
    assert len(set(names)) == len(names)
    assert held(database_url) == [(function.name, function.body) for function in written()]


@pytest.mark.parametrize("function", written(), ids=lambda function: function.name)
def test_a_functions_file_makes_what_the_database_holds(database_url: str, function: Written) -> None:
    """Not its body alone: its arguments, result, volatility, settings and security."""
    definition = "SELECT pg_get_functiondef(oid) FROM pg_proc WHERE proname = %s AND pronamespace = %s::regnamespace"
    with psycopg.connect(database_url) as connection:
        before = connection.execute(definition, (function.name, "public")).fetchall()
        connection.execute("CREATE SCHEMA another")
        connection.execute("SET LOCAL check_function_bodies = off")
        connection.execute("SET LOCAL search_path = another, public")
        connection.execute(function.text.encode())
        [after] = connection.execute(definition, (function.name, "another")).fetchall()
    assert before == [(after[0].replace("another.", "public."),)]


def test_the_files_hold_nothing_but_functions_and_comments() -> None:
    for file in FOLDER.glob("*.sql"):
        rest = _FUNCTION.sub("", file.read_text(encoding="utf-8"))
        others = [line for line in rest.splitlines() if line and not line.startswith("--")]
        if file.name == "dropped.sql":
            others = [line for line in others if not re.fullmatch(r"DROP FUNCTION IF EXISTS \w+\(.*\);", line)]
        assert others == [], file.name


def test_postgres_finds_no_fault_in_any_body(database_url: str) -> None:
    """They are applied unchecked, since each may call one of a later file."""
    with psycopg.connect(database_url) as connection:
        found = connection.execute("""
            SELECT p.oid, l.lanname FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
            WHERE p.pronamespace = 'public'::regnamespace
        """).fetchall()
        for oid, language in found:
            validator = {"sql": "fmgr_sql_validator", "plpgsql": "plpgsql_validator"}[language]
            connection.execute(f"SELECT {validator}(%s::oid)".encode(), (oid,))
    assert len(found) == len(written())


def test_the_schema_file_is_what_the_migrations_make(database_url: str) -> None:
    assert SCHEMA.read_text(encoding="utf-8") == tables(database_url), "run `make schema`"


def test_the_version_is_of_these_functions(database_url: str) -> None:
    assert VERSION.read_text(encoding="utf-8") == f"{functions().version} {functions().hash}\n", "run `make schema`"
    assert recorded(database_url) == (functions().version, functions().hash)


def test_a_change_is_a_new_version_and_the_same_text_is_not() -> None:
    ours = functions()
    assert counted(ours, f"7 {ours.hash}\n") == f"7 {ours.hash}\n"
    assert counted(ours, "7 another\n") == f"8 {ours.hash}\n"


# --- which set stands -------------------------------------------------------------------------------------------------


@pytest.fixture
def release(monkeypatch: pytest.MonkeyPatch) -> Iterator["Release"]:
    yield Release(monkeypatch)


class Release:
    """What `migrate` applies, as another release has it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self.ours = functions()

    def has(self, version: int, sql: LiteralString) -> Functions:
        other = Functions(version, sql)
        self._monkeypatch.setattr(migrations, "functions", lambda: other)
        return other

    def pings(self, version: int, answer: LiteralString) -> Functions:
        """A release whose `ledger_ping` answers something else."""
        return self.has(version, self.ours.sql.replace("SELECT '{}'::jsonb", answer))

    def alternates(self, *sets: Functions) -> None:
        """Each run of `migrate` is the next release's."""
        turns = iter(sets)
        self._monkeypatch.setattr(migrations, "functions", lambda: next(turns))


def pinged(database_url: str) -> object:
    with psycopg.connect(as_app_role(database_url)) as connection:
        [(answer,)] = connection.execute("SELECT ledger_ping('{}'::jsonb)").fetchall()
        return answer


NEWER: Final = """SELECT '{"newer": true}'::jsonb"""
OLDER: Final = """SELECT '{"older": true}'::jsonb"""


def test_newer_functions_replace_older_ones_and_a_rollback_leaves_them(database_url: str, release: Release) -> None:
    newer = release.pings(release.ours.version + 1, NEWER)
    assert migrate(database_url) == [f"functions {newer.version}"]
    assert pinged(database_url) == {"newer": True}
    assert recorded(database_url) == (newer.version, newer.hash)

    release.pings(release.ours.version, OLDER)
    assert migrate(database_url) == []
    assert pinged(database_url) == {"newer": True}
    assert recorded(database_url) == (newer.version, newer.hash)

    release.pings(release.ours.version + 1, NEWER)
    migrate(database_url)
    assert recorded(database_url) == (newer.version, newer.hash)


def test_another_text_of_the_same_version_is_applied(database_url: str, release: Release) -> None:
    other = release.pings(release.ours.version, NEWER)
    migrate(database_url)
    assert pinged(database_url) == {"newer": True}
    assert recorded(database_url) == (other.version, other.hash)


def test_the_same_text_is_not_applied_again(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        before = connection.execute("SELECT xmin::text, applied_at FROM schema_functions").fetchall()
    migrate(database_url)
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT xmin::text, applied_at FROM schema_functions").fetchall() == before


def test_a_set_that_fails_leaves_the_one_before_it_whole(database_url: str, release: Release) -> None:
    before = held(database_url)
    release.has(release.ours.version + 1, release.ours.sql + "\nSELECT 1 / 0;")
    with pytest.raises(psycopg.errors.DivisionByZero):
        migrate(database_url)
    assert held(database_url) == before
    assert recorded(database_url) == (release.ours.version, release.ours.hash)


def test_what_is_dropped_goes_with_the_set_that_says_so(database_url: str, release: Release) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("CREATE FUNCTION of_yesterday(p jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT p'")
    migrate(database_url)
    assert "of_yesterday" in dict(held(database_url)), "the code of the release before may call it"

    release.has(release.ours.version + 1, "DROP FUNCTION IF EXISTS of_yesterday(jsonb);\n" + release.ours.sql)
    migrate(database_url)
    assert "of_yesterday" not in dict(held(database_url))


def test_two_runs_at_once_leave_the_newer_set(database_url: str, release: Release) -> None:
    newer = release.pings(release.ours.version + 1, NEWER)
    release.alternates(*[newer, release.ours] * 4)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: migrate(database_url), range(8)))
    assert pinged(database_url) == {"newer": True}
    assert recorded(database_url) == (newer.version, newer.hash)


def test_rights_stay_as_they_are(database_url: str, release: Release) -> None:
    rights = """
        SELECT proname, proowner, proacl::text, prosecdef, proconfig FROM pg_proc
        WHERE pronamespace = 'public'::regnamespace ORDER BY proname
    """
    with psycopg.connect(database_url, autocommit=True) as connection:
        before = connection.execute(rights).fetchall()
        release.pings(release.ours.version + 1, NEWER)
        migrate(database_url)
        assert connection.execute(rights).fetchall() == before


def test_calls_go_on_while_functions_are_replaced(database_url: str, core: CoreFactory, release: Release) -> None:
    """A call that is under way finishes with the body that it began with, and nobody waits for anybody."""
    settings = core.settings(DATABASE_URL=as_app_role(database_url), AI_LEDGER_SLOTS="2")
    done = threading.Event()

    def calls() -> int:
        database = Database(settings.database_url)
        ledger, made = Ledger(database, settings), 0
        while not done.is_set():
            reservation = ledger.reserve(Call(f"r-{made}", "chat", "sota"), [Candidate("openai", "m", Decimal("0.01"))])
            booked = ledger.settle(Settlement(reservation, "actual", "success", cost=Decimal("0.001")))
            assert booked.budget is not None, "a settlement was kept: Postgres refused it"
            made += 1
        database.close()
        return made

    with ThreadPoolExecutor(2) as pool:
        callers = [pool.submit(calls) for _ in range(2)]
        for version in range(release.ours.version + 1, release.ours.version + 11):
            release.pings(version, f"""SELECT '{{"version": {version}}}'::jsonb""")
            migrate(database_url)
        done.set()
        made = sum(caller.result(timeout=PATIENCE_SECONDS) for caller in callers)
    assert made > 10
    assert recorded(database_url)[0] == release.ours.version + 10
    books = Books(database_url)
    assert books.only_window().spent == made * Decimal("0.001")
    books.close()
