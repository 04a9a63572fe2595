"""Usage from the rollups: any groups over any days, by pages, and a month whose sum is its windows'."""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, localcontext
from itertools import combinations

import psycopg
import pytest
from psycopg.types.json import Jsonb

from fusewire.budget.reservation import Call, Reservation
from fusewire.budget.usage import Books as Reports
from fusewire.budget.usage import Spend
from fusewire.store.db import Database
from tests.conftest import CoreFactory
from tests.integration.budget.books import Books, Clock, candidate, settled
from tests.integration.budget.conftest import OpenLedger

GROUPS = ("day", "provider", "model", "tier", "key", "tag:team")
NOVEMBER = date(2026, 11, 1)


class Desk:
    """Books calls under a clock, and reads them back."""

    def __init__(self, core: CoreFactory, open_ledger: OpenLedger, zone: str) -> None:
        settings = core.settings(AI_BUDGET_TIMEZONE=zone)
        self.ledger = open_ledger(AI_MONTHLY_BUDGET_USD="1000", AI_BUDGET_TIMEZONE=zone)
        self.database = Database(settings.database_url)
        self.reports = Reports(self.database, settings)

    def reserve(
        self, provider: str = "openai", model: str = "gpt", tier: str | None = "sota", key: str | None = None
    ) -> Reservation:
        return self.ledger.reserve(Call("request", "chat", tier, key), [candidate("9", provider, model)])

    def spend(self, cost: str, *what: str | None) -> None:
        self.ledger.settle(settled(self.reserve(*what), cost))  # type: ignore[arg-type] # of reserve, in its order


@pytest.fixture
def zone() -> str:
    return "UTC"


@pytest.fixture
def desk(core: CoreFactory, clock: Clock, open_ledger: OpenLedger, zone: str) -> Iterator[Desk]:
    made = Desk(core, open_ledger, zone)
    yield made
    made.database.close()


@pytest.fixture
def keys(database_url: str) -> None:
    """Two keys: one of a team, one of none."""
    with psycopg.connect(database_url) as connection:
        for key_id, tags in (("key-a", {"team": "search", "=cmd": "+1"}), ("key-b", {})):
            connection.execute(
                "INSERT INTO api_key (id, name, scopes, tags, created_at, created_by)"
                " VALUES (%s, %s, '{complete}', %s, now(), 'test')",
                (key_id, key_id, Jsonb(tags)),
            )


@pytest.mark.usefixtures("keys")
def test_any_groups_are_sums_of_what_was_booked(desk: Desk, clock: Clock) -> None:
    booked: list[tuple[dict[str, str], Decimal]] = []
    teams = {"key-a": "search"}
    number = 0
    for day in (14, 15, 20):
        clock.set(datetime(2026, 11, day, 12, tzinfo=UTC))
        for provider, model, tier in (("openai", "gpt", "sota"), ("azure", "gpt", None), ("openai", "mini", "sota")):
            for key in ("key-a", "key-b", None):
                number += 1
                exact = f"0.{number:02}000000000{number}"
                desk.spend(exact, provider, model, tier, key)
                values = (f"2026-11-{day}", provider, model, tier or "", key or "", teams.get(key or "", ""))
                booked.append((dict(zip(GROUPS, values, strict=True)), Decimal(exact)))
    total = Spend(sum((cost for _, cost in booked), Decimal(0)), 27, 270, 540)
    for groups in (*combinations(GROUPS, 1), *combinations(GROUPS, 2), GROUPS, GROUPS[::-1]):
        sums: dict[tuple[str, ...], Decimal] = {}
        calls: Counter[tuple[str, ...]] = Counter()
        for values_of, cost in booked:
            group = tuple(values_of[name] for name in groups)
            sums[group] = sums.get(group, Decimal(0)) + cost
            calls[group] += 1
        usage = desk.reports.usage(groups, limit=100)
        assert [tuple(keys) for keys, _ in usage.rows] == sorted(sums)
        assert {tuple(keys): spend.cost for keys, spend in usage.rows} == sums
        assert {tuple(keys): spend.requests for keys, spend in usage.rows} == calls
        assert {spend.output_tokens for _, spend in usage.rows} == {20 * each for each in calls.values()}
        assert (usage.total, usage.more) == (total, False)
    of_one = desk.reports.usage(["key"], limit=100, key="key-a")
    assert of_one.rows == [row for row in desk.reports.usage(["key"], limit=100).rows if row[0] == ["key-a"]]
    assert of_one.total == of_one.rows[0][1]
    assert desk.reports.usage(["key"], limit=100, key="key-a", budget="bud_of_nobody").rows == []


@pytest.mark.usefixtures("keys")
def test_pages_are_the_whole_in_order_each_with_the_whole_total(desk: Desk, clock: Clock) -> None:
    for day in (3, 14, 15, 20):
        clock.set(datetime(2026, 11, day, 12, tzinfo=UTC))
        desk.spend("0.1", "openai", "gpt", "sota", "key-a")
        desk.spend("0.2", "azure", "Ärger", None, None)
    groups = ["key", "day"]
    whole = desk.reports.usage(groups, limit=8)
    assert (len(whole.rows), whole.more) == (8, False)
    paged: list[tuple[list[str], Spend]] = []
    after: list[str] = []
    more = True
    while more:
        page = desk.reports.usage(groups, limit=3, after=after)
        assert page.total == whole.total
        paged += page.rows
        after, more = page.rows[-1][0], page.more
    assert paged == whole.rows


def test_days_are_included_and_the_current_month_is_what_is_meant(desk: Desk, clock: Clock) -> None:
    for day in (datetime(2026, 10, 31, 23, tzinfo=UTC), *(datetime(2026, 11, d, tzinfo=UTC) for d in (1, 2, 15))):
        clock.set(day)
        desk.spend("1")

    def days(first: date | None = None, last: date | None = None) -> list[str]:
        usage = desk.reports.usage(["day"], limit=10, first=first, last=last)
        assert usage.total.requests == len(usage.rows)
        return [keys[0] for keys, _ in usage.rows]

    assert days() == ["2026-11-01", "2026-11-02", "2026-11-15"]
    assert days(date(2026, 11, 2)) == ["2026-11-02", "2026-11-15"]
    assert days(date(2026, 10, 31), date(2026, 11, 2)) == ["2026-10-31", "2026-11-01", "2026-11-02"]
    assert days(last=date(2026, 10, 31)) == ["2026-10-31"]
    assert days(date(2027, 1, 1)) == []
    usage = desk.reports.usage(["day"], limit=10)
    assert (usage.first, usage.last, usage.windows) == (NOVEMBER, None, None)
    none = desk.reports.usage(["day"], limit=10, last=date(2020, 2, 29))
    assert (none.rows, none.total, none.first) == ([], Spend(Decimal(0), 0, 0, 0), date(2020, 2, 1))


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/New_York"])
@pytest.mark.usefixtures("keys")
def test_a_months_usage_is_its_windows_to_the_last_digit(desk: Desk, clock: Clock, books: Books, zone: str) -> None:
    for month in (10, 11):
        clock.set(datetime(2026, month, 20, 12, tzinfo=UTC))
        desk.spend("1.00000000000000000000000000001", "openai", "gpt", "sota", "key-a")
        late = desk.reserve("azure", "gpt", "sota", "key-b")
        forgotten = desk.reserve()
        desk.ledger.reset(actor="admin", source_ip=None, request_id="reset", reason="inside the month")
        desk.spend("2.5")
        clock.set(datetime(2026, month + 1, 3, 12, tzinfo=UTC))
        desk.ledger.budget()  # turns the month, and books what was forgotten at its bound
        desk.spend("0.7")
        desk.ledger.settle(settled(late, "0.123456789012345678901234567890123456789"))
        desk.ledger.settle(settled(forgotten, "0.000000000000000001"))
    books.check()

    usage = desk.reports.usage(["tag:team", "key", "model"], limit=100, month=NOVEMBER)

    windows = books.rows(
        "SELECT id, spent, request_count FROM budget_window WHERE budget = 'global'"
        " AND opened_at >= '2026-11-03' AND opened_at < '2026-12-02' ORDER BY id"
    )
    assert [row["id"] for row in windows] == [window.id for window in usage.windows or []]
    assert len(windows) == 2
    with localcontext(prec=100):  # Python's usual 28 digits would round
        assert usage.total.cost == sum(spend.cost for _, spend in usage.rows) == sum(row["spent"] for row in windows)
        exact = Decimal("0.7") + Decimal("1.00000000000000000000000000001") + Decimal("2.5")
        exact += Decimal("0.123456789012345678901234567890123456789") + Decimal("0.000000000000000001")
        assert str(usage.total.cost) == str(exact)
    assert usage.total.requests == sum(row["request_count"] for row in windows) == 5
    # The same by days: what was settled in December is counted on November's last day.
    days = desk.reports.usage(["day"], limit=100, first=NOVEMBER, last=date(2026, 11, 30))
    assert days.total == usage.total
    assert days.rows[-1][0] == ["2026-11-30"]


def test_a_month_without_windows_is_empty(desk: Desk) -> None:
    usage = desk.reports.usage(["day"], limit=1, month=date(2031, 5, 1))
    assert usage.rows == []
    assert usage.windows == []
    assert usage.total == Spend(Decimal(0), 0, 0, 0)


def test_a_tags_name_is_only_a_name(desk: Desk) -> None:
    desk.spend("1")
    for name in ("'", "x') || (SELECT hash::text FROM audit_head) || ('", "%s", "$1", "日本"):
        assert [keys for keys, _ in desk.reports.usage([f"tag:{name}"], limit=1).rows] == [[""]]


def test_the_forecasts_days_are_the_rollups(desk: Desk, clock: Clock, database_url: str) -> None:
    for day in (datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC), clock.now):
        clock.set(day)
        desk.spend("0.10", "openai", "gpt", "sota", "somebody")
        desk.spend("0.20")
    *_, days, _ = desk.ledger.budget()
    assert (days.today, days.since) == (date(2026, 11, 15), date(2026, 10, 1))
    assert days.days == {NOVEMBER: Decimal("0.3"), date(2026, 11, 15): Decimal("0.3")}
    with psycopg.connect(database_url) as connection:
        row = connection.execute("SELECT usage_days('somebody', 'UTC')").fetchone()
    assert row and row[0]["days"] == {"2026-11-01": 0.1, "2026-11-15": 0.1}
    assert days.today - timedelta(days=14) in days.days


def test_a_months_windows_hold_what_their_slots_hold(desk: Desk, open_ledger: OpenLedger, database_url: str) -> None:
    slotted = open_ledger(AI_MONTHLY_BUDGET_USD="1000", AI_LEDGER_SLOTS="2")
    for _ in range(3):
        slotted.settle(settled(slotted.reserve(Call("r", "chat", None), [candidate("9")]), "0.1"))
    with psycopg.connect(database_url) as connection:
        row = connection.execute("SELECT sum(spent) FROM budget_slot").fetchone()
    assert row and row[0] > 0, "nothing went through a slot"
    usage = desk.reports.usage(["day"], limit=10, month=NOVEMBER)
    [window] = usage.windows or []
    assert (window.spent, window.request_count) == (usage.total.cost, usage.total.requests) == (Decimal("0.3"), 3)
