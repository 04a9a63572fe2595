"""The audit: one chain, written by whoever changes something, and by nobody rewritten."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import LiteralString

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from fusewire.budget.ledger import Ledger
from tests.integration.budget.books import Books, Clock, a_call, candidate, released, settled
from tests.integration.budget.conftest import OpenLedger
from tests.integration.budget.keys import Keys

_BROKEN = """
    SELECT a.n FROM (SELECT a, lag(a.hash, 1, '') OVER (ORDER BY a.n) AS previous FROM audit a) chained
    JOIN audit a ON a.n = (chained.a).n
    WHERE a.hash <> audit_hash(chained.previous, chained.a)
"""


@pytest.fixture
def app_url(database_url: str) -> str:
    """As the functions' own role."""
    return make_conninfo(database_url, options="-c role=fusewire_app")


def intact(books: Books) -> int:
    """:return: how many entries the chain has; fails where it is broken, has a gap or lost its end"""
    rows = books.rows("SELECT n, hash FROM audit ORDER BY n")
    assert [row["n"] for row in rows] == list(range(1, len(rows) + 1))
    assert books.rows(_BROKEN) == []
    [head] = books.rows("SELECT n, hash FROM audit_head")
    assert (head["n"], head["hash"]) == ((rows[-1]["n"], rows[-1]["hash"]) if rows else (0, b""))
    return len(rows)


def reset(ledger: Ledger, budget: str = "global") -> None:
    ledger.reset(actor="key-admin", source_ip="127.0.0.1", request_id="r", reason="ünicode\n\x00", budget=budget)


def test_resets_and_months_ends_of_both_budgets_are_links(
    clock: Clock, open_ledger: OpenLedger, books: Books, keys: Keys
) -> None:
    ledger, key = open_ledger(), keys.make()
    ledger.reserve(a_call(key_id=key), [candidate("0.1")])
    reset(ledger)
    reset(ledger, key)
    clock.set(datetime(2026, 12, 1, tzinfo=UTC))
    ledger.reserve(a_call(key_id=key), [candidate("0.1")])
    assert intact(books) == 4
    rows = books.rows("SELECT actor, after->>'budget' AS budget, after->>'why' AS why FROM audit ORDER BY n")
    assert [tuple(row.values()) for row in rows] == [
        ("key-admin", "global", "admin"),
        ("key-admin", key, "admin"),
        ("system", "global", "period_end"),
        ("system", key, "period_end"),
    ]


TAMPERED: list[tuple[LiteralString, bool]] = [
    ("UPDATE audit SET actor = 'nobody' WHERE n = 2", False),
    ("UPDATE audit SET at = at + interval '1 microsecond' WHERE n = 2", False),
    ("UPDATE audit SET source_ip = NULL WHERE n = 2", False),
    ("UPDATE audit SET after = after || '{\"spent\": 1}' WHERE n = 2", False),
    ("DELETE FROM audit WHERE n = 2", False),
    ("DELETE FROM audit WHERE n = 3", False),
    ("DELETE FROM audit", False),
    ("UPDATE audit SET n = n + 10", False),
    ("SET TimeZone = 'Asia/Tokyo'", True),
]


def test_a_changed_a_deleted_and_a_lost_entry_show(open_ledger: OpenLedger, books: Books, database_url: str) -> None:
    ledger = open_ledger()
    for _ in range(3):
        reset(ledger)
    assert intact(books) == 3
    with psycopg.connect(database_url) as owner:
        for statement, harmless in TAMPERED:
            owner.execute(statement)
            broken = owner.execute(_BROKEN).fetchall()
            place = owner.execute("SELECT count(*), max(n), (SELECT n FROM audit_head) FROM audit").fetchone()
            assert (broken == [] and place == (3, 3, 3)) == harmless, statement
            owner.rollback()


FORBIDDEN: list[LiteralString] = [
    "UPDATE audit SET actor = 'x'",
    "DELETE FROM audit",
    "TRUNCATE audit",
    "INSERT INTO audit (at, actor, action, n, hash) VALUES (now(), 'x', 'x', 99, '')",
    "UPDATE audit_head SET n = 0",
    "DELETE FROM ledger",
    "DELETE FROM usage_rollup",
    "DELETE FROM budget_window",
    "UPDATE budget_threshold_event SET state = 'OPEN'",
    "DELETE FROM api_key",
    "ALTER TABLE audit DISABLE TRIGGER ALL",
    "CREATE OR REPLACE FUNCTION audit_hash(previous bytea, a audit) RETURNS bytea LANGUAGE sql AS 'SELECT previous'",
]


def test_the_functions_role_does_the_ledgers_work_and_nothing_to_its_past(
    open_ledger: OpenLedger, books: Books, keys: Keys, app_url: str
) -> None:
    ledger, key = open_ledger(app_url, AI_RESERVATION_TTL_SECONDS="0.001"), keys.make(budget="0.5")
    first = ledger.reserve(a_call(key_id=key), [candidate("0.45")])
    second = ledger.reserve(a_call(key_id=key), [candidate("0")], attempt=2, after=settled(first, "0.44"))
    ledger.settle(released(second))
    ledger.budget()
    reset(ledger, key)
    ledger.scheduled_reset(due=datetime.now(UTC) + timedelta(minutes=1), request_id="schedule")
    books.check()
    with psycopg.connect(app_url) as app:
        for statement in FORBIDDEN:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                app.execute(statement)
            app.rollback()
    assert intact(books) == 2


def test_a_table_of_ones_own_is_not_taken_for_the_chains_head(
    open_ledger: OpenLedger, books: Books, app_url: str
) -> None:
    """Temporary tables come first wherever nobody says otherwise, and anybody may make them."""
    reset(open_ledger())
    with psycopg.connect(app_url) as app:
        app.execute("CREATE TEMPORARY TABLE audit_head AS SELECT true AS single, 41::bigint AS n, ''::bytea AS hash")
        app.execute("GRANT ALL ON pg_temp.audit_head TO PUBLIC")
        app.execute("SELECT audit_append(now(), 'key-b', 'key.created', NULL, NULL, NULL, NULL)")
    assert intact(books) == 2


@pytest.mark.usefixtures("patience")
def test_sixteen_writers_at_once_make_one_chain(
    open_ledger: OpenLedger, books: Books, keys: Keys, database_url: str
) -> None:
    made = [keys.make(f"key-{number}") for number in range(4)]
    ledgers = [open_ledger(AI_MAX_OUTPUT_TOKENS=str(number + 1)) for number in range(16)]

    def write(number: int) -> None:
        ledger = ledgers[number]
        ledger.reserve(a_call(key_id=made[number % 4]), [candidate("0.001")])
        for _ in range(3):
            reset(ledger, made[number % 4] if number % 2 else "global")
        with psycopg.connect(database_url) as other:  # rolled back: it must leave no gap
            other.execute("SELECT audit_append(now(), 'x', 'key.changed', NULL, NULL, NULL, NULL)")
            other.rollback()

    with ThreadPoolExecutor(len(ledgers)) as pool:
        list(pool.map(write, range(len(ledgers))))
    # Sixteen environments with settings of their own: the first changes nothing, each of the others does.
    assert intact(books) == 16 * 3 + 15


def test_settings_are_audited_once_for_each_change(open_ledger: OpenLedger, books: Books) -> None:
    def start(**variables: str) -> None:
        ledger = open_ledger(**variables)
        for _ in range(2):
            ledger.settle(released(ledger.reserve(a_call(), [candidate("0.1")])))

    start()
    start()
    assert intact(books) == 0
    start(AI_MONTHLY_BUDGET_USD="2", OPENAI_SOTA_MODEL="gpt", OPENAI_API_KEY="sk-secret")
    start(AI_MONTHLY_BUDGET_USD="2", OPENAI_SOTA_MODEL="gpt", OPENAI_API_KEY="sk-another")
    assert intact(books) == 1
    start(AI_MONTHLY_BUDGET_USD="2")
    rows = books.rows("SELECT actor, action, before, after FROM audit ORDER BY n")
    assert [tuple(row.values()) for row in rows] == [
        (
            "system",
            "settings.changed",
            {"ai_monthly_budget_usd": "1"},
            {"ai_monthly_budget_usd": "2", "openai_sota_model": "gpt"},
        ),
        ("system", "settings.changed", {"openai_sota_model": "gpt"}, None),
    ]


def test_environments_that_start_together_tell_of_a_change_once(open_ledger: OpenLedger, books: Books) -> None:
    open_ledger().reserve(a_call(), [candidate("0.1")])
    ledgers = [open_ledger(AI_MONTHLY_BUDGET_USD="2") for _ in range(16)]
    with ThreadPoolExecutor(len(ledgers)) as pool:
        list(pool.map(lambda ledger: ledger.reserve(a_call(), [candidate("0.001")]), ledgers))
    assert intact(books) == 1
