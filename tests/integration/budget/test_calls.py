"""Single attempts, the newest first: filters, pages, and every attempt of one call."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import psycopg
import pytest

from fusewire.budget import usage as reading
from fusewire.budget.ledger import Ledger
from fusewire.budget.reservation import Call
from fusewire.budget.usage import Books as Reports
from fusewire.budget.usage import CallRow
from fusewire.store.db import Database
from tests.conftest import CoreFactory
from tests.integration.budget.books import at_bound, candidate, released, settled
from tests.integration.budget.conftest import OpenLedger


@pytest.fixture
def reports(core: CoreFactory) -> Iterator[Reports]:
    settings = core.settings()
    database = Database(settings.database_url)
    yield Reports(database, settings)
    database.close()


@pytest.fixture
def ledger(open_ledger: OpenLedger) -> Ledger:
    return open_ledger(AI_MONTHLY_BUDGET_USD="1000")


def spend(ledger: Ledger, request_id: str, provider: str = "openai", key: str | None = None) -> None:
    reservation = ledger.reserve(Call(request_id, "chat", "sota", key), [candidate("0.2", provider)])
    ledger.settle(settled(reservation, "0.1"))


def ids(page: tuple[list[CallRow], UUID | None]) -> list[str]:
    return [row["request_id"] for row in page[0]]


def test_one_call_is_told_with_every_attempt(ledger: Ledger, reports: Reports) -> None:
    call = Call("story", "chat", "sota", "key-1")
    first = ledger.reserve(call, [candidate("0.3", "azure")])
    second = ledger.reserve(call, [candidate("0.2")], attempt=2, after=released(first))
    third = ledger.reserve(call, [candidate("0.1", "vllm")], attempt=3, after=at_bound(second))
    ledger.settle(settled(third, "0.05"))
    spend(ledger, "another")

    row = reports.call("story")

    assert row is not None
    assert (row["request_id"], row["cost_usd"]) == ("story", Decimal("0.25"))
    shown = [(a["attempt"], a["provider"], a["status"], a["outcome"], a["cost_basis"]) for a in row["attempts"]]
    assert shown == [
        (1, "azure", "released", "connect_failed", None),
        (2, "openai", "settled", "read_timeout", "bound"),
        (3, "vllm", "settled", "success", "actual"),
    ]
    assert [(a["bound_usd"], a["cost_usd"]) for a in row["attempts"]] == [
        (Decimal("0.3"), None),
        (Decimal("0.2"), Decimal("0.2")),
        (Decimal("0.1"), Decimal("0.05")),
    ]
    assert {a["key_id"] for a in row["attempts"]} == {"key-1"}
    assert reports.call("nobody's") is None


def test_what_is_in_flight_is_shown_as_reserved(ledger: Ledger, reports: Reports) -> None:
    ledger.reserve(Call("open", "chat", None), [candidate("0.3")])
    row = reports.call("open")
    assert row is not None
    assert row["cost_usd"] == 0
    [attempt] = row["attempts"]
    assert (attempt["status"], attempt["cost_usd"], attempt["ended_at"]) == ("reserved", None, None)


def test_filters_leave_what_was_asked_for(ledger: Ledger, reports: Reports) -> None:
    spend(ledger, "a", "azure", "key-1")
    spend(ledger, "b", "openai", "key-2")
    ledger.settle(at_bound(ledger.reserve(Call("c", "chat", None, "key-1"), [candidate("0.1", model="mini")])))
    ledger.settle(released(ledger.reserve(Call("d", "chat", "sota"), [candidate("0.1")])))
    ledger.reserve(Call("e", "chat", "sota"), [candidate("0.1")])
    for filters, expected in (
        ({}, "edcba"),
        ({"provider": "azure"}, "a"),
        ({"model": "mini"}, "c"),
        ({"key": "key-1"}, "ca"),
        ({"status": "reserved"}, "e"),
        ({"status": "settled"}, "cba"),
        ({"outcome": "connect_failed"}, "d"),
        ({"cost_basis": "bound"}, "c"),
        ({"tier": "sota"}, "edba"),
        ({"request_id": "b"}, "b"),
        ({"request_id": "b", "key": "key-1"}, ""),
        ({"key": "key-1", "cost_basis": "actual", "provider": "azure"}, "a"),
        ({"provider": "nobody"}, ""),
    ):
        page = reports.calls(filters, limit=100)
        assert (ids(page), page[1]) == (list(expected), None), filters


def test_pages_follow_each_other_while_calls_come_in(ledger: Ledger, reports: Reports) -> None:
    for number in range(7):
        spend(ledger, f"r{number}")
    found: list[str] = []
    rows, following = reports.calls({}, limit=3)
    while True:
        found += [row["request_id"] for row in rows]
        if following is None:
            break
        spend(ledger, "meanwhile")
        rows, following = reports.calls({}, limit=3, before=following)
    assert found == [f"r{number}" for number in reversed(range(7))]
    assert reports.calls({"request_id": "r3"}, limit=1) == (reports.calls({"request_id": "r3"}, limit=9)[0], None)


def test_a_page_looks_at_a_bounded_stretch_and_says_where_to_go_on(
    ledger: Ledger, reports: Reports, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "SCAN_LIMIT", 4)
    for number in range(9):
        spend(ledger, f"r{number}", "azure" if number == 1 else "openai")
    pages = []
    following = None
    while True:
        rows, following = reports.calls({"provider": "azure"}, limit=10, before=following)
        pages.append([row["request_id"] for row in rows])
        if following is None:
            break
    assert pages == [[], ["r1"], []]


def test_a_stretch_of_time_has_its_beginning_and_not_its_end(
    ledger: Ledger, reports: Reports, database_url: str
) -> None:
    start = datetime.now(UTC)
    with psycopg.connect(database_url) as connection:
        spend(ledger, "window")
        for hours in range(6):
            # As a caller's clock makes the ids that Postgres' clock disagrees with by up to a quarter of an hour.
            at = start - timedelta(hours=hours)
            for skew in (-14, 0, 14):
                connection.execute(
                    "INSERT INTO ledger (id, window_id, request_id, attempt, operation, provider, model, status, bound,"
                    " outcome, reserved_at, expires_at, ended_at) SELECT (substr(ledger_id_at(%s)::text, 1, 14) ||"
                    " '7000-8000-' || lpad(%s::text, 12, '0'))::uuid, window_id, %s, 1, 'chat', 'openai', 'gpt',"
                    " 'released', 1, 'connect_failed', %s, %s, %s FROM ledger WHERE request_id = 'window'",
                    (at + timedelta(minutes=skew), hours, f"h{hours}", at, at, at),
                )
    result = reports.calls({}, limit=100, since=start - timedelta(hours=4), until=start - timedelta(hours=1))
    assert sorted(ids(result)) == ["h2"] * 3 + ["h3"] * 3 + ["h4"] * 3
    assert result[1] is None
    ancient = datetime(2000, 1, 1, tzinfo=UTC)
    assert len(reports.calls({}, limit=100, since=ancient)[0]) == 19
    assert reports.calls({}, limit=100, until=ancient) == ([], None)
