"""Administrators' prices: a reservation is made at those in force by Postgres' clock, or not at all."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import count
from uuid import UUID, uuid4

import psycopg
import pytest

from fusewire.budget.audit_context import AuditContext
from fusewire.budget.ledger import Ledger
from fusewire.budget.price_history import PriceHistory, PriceRow
from fusewire.budget.price_table import NO_PRICES, PriceTable, StalePricesError
from fusewire.budget.reservation import Reservation
from fusewire.budget.wire import PricesArgument
from fusewire.errors import InvalidRequestError, PriceNotFoundError
from fusewire.json import dumps, loads
from fusewire.store.db import Database
from tests.conftest import CoreFactory
from tests.integration.budget.books import Books, Clock, Events, a_call, at_bound, candidate, settled, wait_for_a_lock
from tests.integration.budget.conftest import OpenLedger

ADMIN = AuditContext("key_boss", "192.0.2.7", "request-of-the-admin")
OpenHistory = Callable[[], PriceHistory]
_calls = count(1)


@pytest.fixture
def open_history(core: CoreFactory) -> Iterator[OpenHistory]:
    databases: list[Database] = []

    def make() -> PriceHistory:
        settings = core.settings(DATABASE_URL=core.database_url)
        databases.append(Database(settings.database_url))
        return PriceHistory(databases[-1], settings)

    yield make
    for database in databases:
        database.close()


@pytest.fixture
def history(open_history: OpenHistory) -> PriceHistory:
    """For every session opened after a clock, name the clock first."""
    return open_history()


def add(
    history: PriceHistory,
    output: str = "10",
    model: str = "gpt",
    *,
    effective_from: datetime | None = None,
    staged: bool = False,
    source: str = "admin",
) -> PriceRow:
    entry = {"input_mtok": Decimal(1), "output_mtok": Decimal(output)}
    return history.add(
        "openai", model, entry, source=source, effective_from=effective_from, staged=staged, audit_context=ADMIN
    )


def reserve(ledger: Ledger, prices: PricesArgument | None = None, bound: str = "0.01") -> Reservation:
    return ledger.reserve(a_call(f"request-{next(_calls)}"), [candidate(bound)], prices=prices)


def output_of(table: PriceTable, model: str = "openai/gpt") -> object:
    return table.entries[model]["output_mtok"] if model in table.entries else None


def test_where_nobody_set_a_price_no_version_is_asked_for(open_ledger: OpenLedger, history: PriceHistory) -> None:
    reserve(open_ledger())
    reserve(open_ledger(), NO_PRICES.stamp)
    assert history.table() == NO_PRICES


def test_a_stale_environment_reserves_nothing_and_is_told_the_prices(
    open_ledger: OpenLedger, history: PriceHistory, books: Books
) -> None:
    add(history, "10.5")
    ledger = open_ledger()
    for stale in (None, NO_PRICES.stamp):
        with pytest.raises(StalePricesError) as refusal:
            reserve(ledger, stale)
        assert output_of(refusal.value.table) == Decimal("10.5")
    assert books.only_window().reserved == 0
    reserve(ledger, refusal.value.table.stamp)
    assert books.only_window().reserved == Decimal("0.01")


def test_the_settings_are_audited_though_the_first_reservation_was_stale(
    open_ledger: OpenLedger, history: PriceHistory, books: Books
) -> None:
    add(history)
    ledger = open_ledger()
    with pytest.raises(StalePricesError) as refusal:
        reserve(ledger)
    reserve(ledger, refusal.value.table.stamp)
    assert len(books.rows("SELECT FROM settings_snapshot")) == 1


def test_a_failed_attempt_is_not_ended_by_a_statement_that_is_refused_as_stale(
    open_ledger: OpenLedger, history: PriceHistory, books: Books
) -> None:
    ledger = open_ledger()
    first = reserve(ledger)
    add(history)
    for prices in (None, history.table().stamp):
        try:
            ledger.reserve(a_call("again"), [candidate("0.02")], attempt=2, after=at_bound(first), prices=prices)
        except StalePricesError:
            assert books.entry(first.id)["status"] == "reserved"
    assert books.entry(first.id)["cost_basis"] == "bound"
    assert books.only_window().spent == Decimal("0.01")


def test_what_is_reserved_is_settled_whatever_prices_are_in_force_by_then(
    open_ledger: OpenLedger, history: PriceHistory, books: Books
) -> None:
    ledger = open_ledger()
    held = reserve(ledger)
    add(history)
    assert ledger.settle(settled(held, "0.007")).cost == Decimal("0.007")
    assert books.only_window().spent == Decimal("0.007")


def test_a_scheduled_price_begins_by_postgres_clock_without_another_change(
    clock: Clock, open_ledger: OpenLedger, history: PriceHistory
) -> None:
    add(history, "10")
    add(history, "20", effective_from=clock.now + timedelta(hours=1))
    ledger, known = open_ledger(), history.table()
    assert output_of(known) == 10
    clock.advance(seconds=3599)
    reserve(ledger, known.stamp)
    clock.advance(seconds=1)
    with pytest.raises(StalePricesError) as refusal:
        reserve(ledger, known.stamp)
    assert output_of(refusal.value.table) == 20
    assert refusal.value.table.stamp["until"] is None
    reserve(ledger, refusal.value.table.stamp)
    assert [row["status"] for row in listed(history)] == ["in_force", "superseded"]


def test_a_reservation_that_waits_for_a_price_change_is_not_made_at_the_old_price(
    open_ledger: OpenLedger, history: PriceHistory, books: Books, database_url: str
) -> None:
    known = history.table().stamp
    argument = {
        "settings": history._settings, "id": str(uuid4()), "provider": "openai", "model": "gpt",
        "entry": {"input_mtok": 1, "output_mtok": 2}, "source": "admin", "staged": False,
        "audit_context": ADMIN.argument(),
    }  # fmt: skip
    with psycopg.connect(database_url) as admin, ThreadPoolExecutor(1) as pool:
        admin.execute("SELECT price_add(%s::jsonb)", (dumps(argument),))
        waiting = pool.submit(reserve, open_ledger(), known)
        wait_for_a_lock(books)
        admin.commit()
        with pytest.raises(StalePricesError):
            waiting.result()
    assert books.only_window().reserved == 0


def test_a_slot_reserves_at_no_older_price_either(open_ledger: OpenLedger, history: PriceHistory, books: Books) -> None:
    ledger = open_ledger(AI_MONTHLY_BUDGET_USD="100", AI_LEDGER_SLOTS="2")
    for _ in range(3):
        reserve(ledger)
    assert books.rows("SELECT FROM budget_slot WHERE reserved > 0")
    add(history)
    with pytest.raises(StalePricesError) as refusal:
        reserve(ledger)
    for _ in range(3):
        reserve(ledger, refusal.value.table.stamp)
    assert books.rows("SELECT FROM budget_slot WHERE reserved > 0")
    assert books.only_window().reserved == Decimal("0.06")


def test_a_slot_whose_scheduled_price_has_begun_reserves_nothing(
    clock: Clock, open_ledger: OpenLedger, history: PriceHistory, books: Books
) -> None:
    add(history, effective_from=clock.now + timedelta(hours=1))
    known = history.table().stamp
    ledger = open_ledger(AI_MONTHLY_BUDGET_USD="100", AI_LEDGER_SLOTS="2")
    for _ in range(3):
        reserve(ledger, known)
    assert books.rows("SELECT FROM budget_slot WHERE reserved > 0")
    clock.advance(seconds=3600)
    with pytest.raises(StalePricesError):
        reserve(ledger, known)
    assert books.only_window().reserved == Decimal("0.03")


def test_a_reservation_whose_answer_was_lost_stands_though_prices_changed(
    open_ledger: OpenLedger, history: PriceHistory, books: Books
) -> None:
    ledger = open_ledger()
    held = reserve(ledger)
    add(history)
    row = books.entry(held.id)
    argument = {
        "settings": ledger._settings, "probe_seconds": 30, "resent": True,
        "entry": {"id": str(held.id), "request_id": row["request_id"], "attempt": 1, "operation": "chat",
                  "tier": "sota", "key_id": None},
        "candidates": [{"provider": "openai", "model": "gpt", "bound": Decimal("0.01"), "tokens": 0}],
    }  # fmt: skip
    with psycopg.connect(books.connection.info.dsn) as connection:
        [result] = connection.execute("SELECT ledger_reserve(%s::jsonb)::text", (dumps(argument),)).fetchone() or [""]
    assert loads(result)["candidate"] == 0
    assert books.only_window().reserved == Decimal("0.01")


def listed(history: PriceHistory, status: str | None = None) -> list[PriceRow]:
    return history.list(before=None, limit=100, status=status, provider=None, model=None)[1]


def test_a_price_is_added_superseded_and_removed_and_its_history_stays(history: PriceHistory, books: Books) -> None:
    first, second = add(history, "10"), add(history, "20", "GPT")
    assert output_of(history.table()) == 20
    assert [row["status"] for row in listed(history)] == ["in_force", "superseded"]
    removed = history.remove(UUID(second["id"]), ADMIN)
    assert (removed["status"], removed["removed_by"]) == ("removed", "key_boss")
    assert output_of(history.table()) == 10
    history.remove(UUID(first["id"]), ADMIN)
    assert history.table().entries == {}
    assert [row["status"] for row in listed(history)] == ["removed", "removed"]
    audited = books.rows("SELECT action, actor, before, after FROM audit ORDER BY n")
    assert [entry["action"] for entry in audited] == ["price.added", "price.added", "price.removed", "price.removed"]
    assert {entry["actor"] for entry in audited} == {"key_boss"}
    assert (audited[2]["before"]["removed_at"], audited[2]["after"]["status"]) == (None, "removed")


def test_every_change_gives_another_version_which_no_restore_brings_back(history: PriceHistory, books: Books) -> None:
    versions = [history.table().stamp["version"]]
    add(history)
    versions.append(history.table().stamp["version"])
    history.remove(UUID(listed(history)[0]["id"]), ADMIN)
    versions.append(history.table().stamp["version"])
    assert versions == sorted(set(versions))
    books.rows("UPDATE price_version SET version = %s RETURNING version", versions[1])
    add(history)
    assert history.table().stamp["version"] > versions[-1]


def test_what_is_staged_prices_nobody_until_a_person_applies_it(
    open_ledger: OpenLedger, history: PriceHistory, books: Books
) -> None:
    staged = add(history, "30", staged=True, source="data.json")
    assert (staged["status"], staged["effective_from"]) == ("staged", None)
    reserve(open_ledger())  # at no version: nothing changed
    assert history.table() == NO_PRICES
    applied = history.apply(UUID(staged["id"]), None, ADMIN)
    assert (applied["status"], applied["applied_by"], applied["source"]) == ("in_force", "key_boss", "data.json")
    assert output_of(history.table()) == 30
    with pytest.raises(InvalidRequestError, match="applied already"):
        history.apply(UUID(staged["id"]), None, ADMIN)
    actions = [entry["action"] for entry in books.rows("SELECT action FROM audit ORDER BY n")]
    assert actions == ["price.staged", "price.applied"]


def test_a_pull_that_is_repeated_stages_one_proposal_for_each_model(history: PriceHistory, books: Books) -> None:
    first = add(history, "30", staged=True, source="data.json")
    assert add(history, "30", staged=True, source="data.json")["id"] == first["id"]
    assert len(books.rows("SELECT FROM audit")) == 1
    second = add(history, "31", staged=True, source="data.json")
    assert [row["id"] for row in listed(history, "staged")] == [second["id"]]
    with pytest.raises(InvalidRequestError, match="is removed"):
        history.apply(UUID(first["id"]), None, ADMIN)


def test_a_price_never_begins_in_the_past(clock: Clock, history: PriceHistory) -> None:
    staged = add(history, staged=True)
    before = clock.now - timedelta(seconds=1)
    with pytest.raises(InvalidRequestError, match="past") as refused:
        add(history, effective_from=before)
    assert refused.value.param == "effective_from"
    with pytest.raises(InvalidRequestError, match="past"):
        history.apply(UUID(staged["id"]), before, ADMIN)
    assert [row["status"] for row in listed(history)] == ["staged"]


def test_a_price_that_isnt_there(history: PriceHistory) -> None:
    with pytest.raises(PriceNotFoundError):
        history.remove(uuid4(), ADMIN)
    with pytest.raises(PriceNotFoundError):
        history.apply(uuid4(), None, ADMIN)


def test_a_change_is_logged_for_the_audit(history: PriceHistory, events: Events) -> None:
    add(history)
    [line] = events.of("audit")
    assert (line["action"], line["provider"], line["model"]) == ("price.added", "openai", "gpt")


@pytest.mark.usefixtures("patience")
@pytest.mark.parametrize("slots", ["1", "2"])
def test_beside_changes_every_reservation_is_at_the_price_in_force_when_it_was_made(
    open_ledger: OpenLedger, open_history: OpenHistory, books: Books, slots: str
) -> None:
    """A call's bound is the price that its environment knows, so each entry tells at which price it was reserved."""
    changes = 12

    def change(history: PriceHistory) -> None:
        for number in range(1, changes + 1):
            add(history, f"0.0{number:02}")

    def call(ledger: Ledger) -> int:
        known, stale = NO_PRICES, 0
        for _ in range(25):
            while True:
                bound = str(output_of(known) or "0.5")
                try:
                    held = reserve(ledger, known.stamp, bound)
                except StalePricesError as refusal:
                    known, stale = refusal.table, stale + 1
                else:
                    break
            ledger.settle(settled(held, held.candidate.bound))
        return stale

    ledgers = [open_ledger(AI_MONTHLY_BUDGET_USD="1000", AI_LEDGER_SLOTS=slots) for _ in range(6)]
    with ThreadPoolExecutor(7) as pool:
        done = [pool.submit(call, ledger) for ledger in ledgers]
        pool.submit(change, open_history()).result()
        stale = [each.result() for each in done]
    wrong = books.rows("""
        SELECT l.bound, l.reserved_at FROM ledger l
        WHERE l.bound <> COALESCE((SELECT (p.entry->>'output_mtok')::numeric FROM price p
                                   WHERE p.effective_from <= l.reserved_at ORDER BY p.effective_from DESC LIMIT 1), 0.5)
    """)
    assert wrong == []
    assert sum(stale) >= len(ledgers)
    books.check()
