"""The one connection: what goes through it unharmed, and what happens when it breaks."""

import time
from collections.abc import Iterator
from decimal import Decimal
from typing import LiteralString

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from pydantic import SecretStr

from fusewire.errors import LedgerUnavailableError
from fusewire.store.db import Database, Statement, StatementRefusedError
from tests.support.database import ask

PROBES = """
    CREATE SEQUENCE runs;
    CREATE FUNCTION probe_echo(p jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT p';
    CREATE FUNCTION probe_backend(p jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT to_jsonb(pg_backend_pid())';
    CREATE FUNCTION probe_prepared(p jsonb) RETURNS jsonb LANGUAGE sql AS
        'SELECT to_jsonb(count(*)) FROM pg_prepared_statements';
    CREATE FUNCTION probe_dies_once(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
    BEGIN
        -- A sequence isn't rolled back: it counts the tries that failed, too.
        IF nextval('runs') = 1 THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF;
        RETURN p || jsonb_build_object('runs', currval('runs'));
    END $$;
    CREATE FUNCTION probe_dies(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM nextval('runs');
        PERFORM pg_terminate_backend(pg_backend_pid());
        RETURN p;
    END $$;
    CREATE FUNCTION probe_raises(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM nextval('runs');
        RAISE EXCEPTION 'no' USING ERRCODE = p->>'code';
    END $$;
"""


@pytest.fixture
def owner(database_url: str) -> Iterator[psycopg.Connection[tuple[int]]]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(PROBES)
        yield connection


@pytest.fixture
def database(database_url: str, owner: object) -> Iterator[Database]:
    made = Database(SecretStr(database_url))
    yield made
    made.close()


def runs(owner: psycopg.Connection[tuple[int]]) -> int:
    row = owner.execute("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM runs").fetchone()
    assert row is not None
    return row[0]


def backend(database: Database) -> int:
    pid: int = ask(database, "SELECT probe_backend($1::jsonb)", {})
    return pid


def test_numbers_come_back_exactly(database: Database) -> None:
    result = {
        "whole": 7,
        "tenth": Decimal("0.1"),
        "tiny": Decimal("1e-30"),
        "long": Decimal("12345678901234567890.123456789012345678901234567891"),
        "large": Decimal("1E+3"),
        "list": [Decimal("0.30"), None, True, "0.1"],
    }
    found = ask(database, "SELECT probe_echo($1::jsonb)", result)
    assert found == result
    assert {type(found[name]) for name in ("tenth", "tiny", "long")} == {Decimal}
    assert str(found["long"]) == "12345678901234567890.123456789012345678901234567891"


def test_text_that_postgres_cannot_hold_is_replaced_and_all_other_text_kept(database: Database) -> None:
    found = ask(
        database,
        "SELECT probe_echo($1::jsonb)",
        {"nul": "a\0b\0\0", "half": "a\ud800b", "escape": r"\u0000 \\u0000", "both": "\\\0", "text": 'ü"\n\\日本 🎉'},
    )
    assert found == {
        "nul": "a\ufffdb\ufffd\ufffd",
        "half": "a?b",
        "escape": r"\u0000 \\u0000",
        "both": "\\\ufffd",
        "text": 'ü"\n\\日本 🎉',
    }


def test_text_is_utf_8_whatever_the_environment_says(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    # Text that is taken for another encoding on its way in comes back right, and is stored wrong.
    assert ask(database, "SELECT to_jsonb(length($1::jsonb->>'text'))", {"text": "é 日本"}) == 4


def test_an_argument_larger_than_the_sockets_buffers_goes_and_comes_whole(database: Database) -> None:
    text = "0123456789" * 1_000_000
    assert ask(database, "SELECT probe_echo($1::jsonb)", {"text": text}) == {"text": text}


def test_one_connection_is_opened_on_first_use_and_kept(database: Database) -> None:
    assert len({backend(database) for _ in range(3)}) == 1


def test_nothing_is_prepared_on_it(database: Database) -> None:
    assert [ask(database, "SELECT probe_prepared($1::jsonb)", {}) for _ in range(12)] == [0] * 12


def test_a_closed_one_opens_again(database: Database) -> None:
    first = backend(database)
    database.close()
    database.close()
    assert backend(database) != first


def test_a_connection_that_died_while_idle_is_renewed(
    database: Database, owner: psycopg.Connection[tuple[int]]
) -> None:
    first = backend(database)
    owner.execute("SELECT pg_terminate_backend(%s, 10000)", (first,))
    assert backend(database) != first


def test_a_statement_whose_answer_was_lost_is_sent_once_more_and_says_so(
    database: Database, owner: psycopg.Connection[tuple[int]]
) -> None:
    backend(database)
    assert ask(database, "SELECT probe_dies_once($1::jsonb)", {"a": 1}) == {"a": 1, "resent": True, "runs": 2}
    assert runs(owner) == 2


def test_a_statement_that_always_loses_its_connection_is_given_up(
    database: Database, owner: psycopg.Connection[tuple[int]]
) -> None:
    backend(database)
    with pytest.raises(LedgerUnavailableError):
        ask(database, "SELECT probe_dies($1::jsonb)", {})
    assert runs(owner) == 2
    assert backend(database)


@pytest.mark.parametrize(
    ("code", "name", "refused"),
    [
        ("55P03", "LockNotAvailable", False),
        ("40P01", "DeadlockDetected", False),
        ("53100", "DiskFull", False),
        ("42883", "UndefinedFunction", False),
        ("22003", "NumericValueOutOfRange", True),
        ("23514", "CheckViolation", True),
        ("FW001", "DatabaseError", False),
    ],
)
def test_an_answer_of_no_is_an_answer(
    database: Database, owner: psycopg.Connection[tuple[int]], code: str, name: str, refused: bool
) -> None:
    """Postgres was there and declined: asking again at once would only double the wait."""
    backend(database)
    with pytest.raises(LedgerUnavailableError, match=name) as caught:
        ask(database, "SELECT probe_raises($1::jsonb)", {"code": code})
    assert isinstance(caught.value, StatementRefusedError) == refused
    assert runs(owner) == 1
    assert backend(database)


def test_a_refused_argument_costs_no_new_connection(database: Database, owner: object) -> None:
    first = backend(database)
    with pytest.raises(StatementRefusedError):
        ask(database, "SELECT probe_raises($1::jsonb)", {"code": "22003"})
    assert backend(database) == first


def test_without_a_url_nothing_is_tried() -> None:
    with pytest.raises(LedgerUnavailableError, match="DATABASE_URL is not set"):
        ask(Database(None), "SELECT probe_echo($1::jsonb)", {})


def test_an_unreachable_server_is_told_of_without_its_address(database_url: str) -> None:
    url = make_conninfo(database_url, host="127.0.0.1", port=1, user="somebody", password="s3cret")  # noqa: S106
    with pytest.raises(LedgerUnavailableError) as caught:
        ask(Database(SecretStr(url)), "SELECT probe_echo($1::jsonb)", {})
    assert caught.value.status == 503
    assert caught.value.retry_after == 1
    message = f"{caught.value} {caught.value.message} {caught.value!r}"
    assert not any(secret in message for secret in ("127.0.0.1", "somebody", "s3cret"))


def test_what_is_sent_ahead_is_done_and_its_answer_is_nobodys(
    database: Database, owner: psycopg.Connection[tuple[int]]
) -> None:
    send_ahead(database, "SELECT probe_echo(to_jsonb(nextval('runs'))) FROM pg_sleep(0.1) WHERE $1::jsonb IS NULL")
    assert runs(owner) == 0  # without a connection nothing is sent
    first = backend(database)
    began = time.monotonic()
    for _ in range(2):  # the second finds the first's answer due
        send_ahead(database, "SELECT to_jsonb(nextval('runs')) FROM pg_sleep(0.3) WHERE $1::jsonb IS NOT NULL")
    assert time.monotonic() - began < 0.2
    assert backend(database) == first
    assert (runs(owner), time.monotonic() - began >= 0.3) == (1, True)


@pytest.mark.parametrize("ahead", ["SELECT probe_raises($1::jsonb)", "SELECT probe_dies($1::jsonb)"])
def test_what_is_sent_ahead_and_fails_is_left_undone(
    database: Database, owner: psycopg.Connection[tuple[int]], ahead: LiteralString
) -> None:
    backend(database)
    send_ahead(database, ahead)
    assert ask(database, "SELECT probe_echo($1::jsonb)", {"after": 1}) == {"after": 1}  # not as one that is sent again
    assert runs(owner) == 1


def send_ahead(database: Database, sql: LiteralString) -> None:
    argument: dict[str, object] = {"code": "40001"}
    database.send(Statement[dict[str, object], object](sql), argument)
