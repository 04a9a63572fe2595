"""The budget as Python sees it, and one event for each thing that a ledger statement says happened."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusewire import logs
from fusewire.budget.breaker import Budget, Window, announce, announce_reset, ratio
from fusewire.budget.wire import ExpiredRow, RolloverRow, WindowRow, sql_settings
from fusewire.config import load_settings

ROW: WindowRow = {
    "id": 7,
    "opened_at": "2026-11-01T00:00:00.12345+00:00",
    "opened_by": "period_end",
    "resets_at": "2026-12-01T09:00:00+09:00",
    "closed_at": None,
    "spent": Decimal("0.30"),
    "reserved": 0,
    "request_count": 3,
    "budget": "global",
}


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, object]]]:
    logged: list[tuple[str, dict[str, object]]] = []
    monkeypatch.setattr(logs, "event", lambda name, level=0, **fields: logged.append((name, fields)))
    return logged


def window(spent: str, reserved: str = "0") -> Window:
    return Window.read({**ROW, "spent": Decimal(spent), "reserved": Decimal(reserved)})


def test_a_window_is_read_exactly() -> None:
    read = Window.read(ROW)
    assert read.opened_at == datetime(2026, 11, 1, 0, 0, 0, 123450, tzinfo=UTC)
    assert read.resets_at == datetime(2026, 12, 1, tzinfo=UTC)
    assert (read.closed_at, read.spent, read.reserved) == (None, Decimal("0.3"), Decimal(0))
    assert type(read.reserved) is Decimal
    assert read.public() == {
        "id": 7,
        "opened_at": "2026-11-01T00:00:00.123450+00:00",
        "resets_at": "2026-12-01T09:00:00+09:00",
        "closed_at": None,
        "spent_usd": Decimal("0.3"),
        "reserved_usd": Decimal(0),
        "request_count": 3,
    }
    closed = Window.read({**ROW, "closed_at": "2026-11-20T12:00:00+00:00"})
    assert closed.public()["closed_at"] == "2026-11-20T12:00:00+00:00"


@pytest.mark.parametrize(
    ("spent", "reserved", "limit", "remaining", "usage_ratio"),
    [
        ("0", "0", "500", "500", "0"),
        ("0.1", "0.2", "0.3", "0", "0.333333"),
        ("400", "0", "500", "100", "0.8"),
        ("499", "5", "500", "0", "0.998"),
        ("600", "0", "500", "0", "1.2"),
        ("0", "0", "0", "0", "1"),
        ("5", "0", "0", "0", "1"),
        ("500", "0", "1e-25", "0", "5e27"),
        ("1e-30", "0", "100", "99.999999999999999999999999999999", "0"),
    ],
)
def test_what_remains_and_what_share_is_spent(
    spent: str, reserved: str, limit: str, remaining: str, usage_ratio: str
) -> None:
    budget = Budget(window(spent, reserved), "CLOSED", Decimal(limit))
    assert budget.remaining == Decimal(remaining)
    assert budget.usage_ratio == Decimal(usage_ratio)


@given(st.decimals(0, 10**12, places=30), st.decimals(0, 10**12, places=30))
def test_a_ratio_is_spent_by_limit_to_six_digits(spent: Decimal, limit: Decimal) -> None:
    found = ratio(spent, limit)
    if limit:
        exact = spent.as_integer_ratio(), limit.as_integer_ratio()
        numerator, denominator = exact[0][0] * exact[1][1], exact[0][1] * exact[1][0]
        millionths = int(found.scaleb(6)) if found < 10**20 else None
        assert millionths is None or abs(2 * (numerator * 10**6 - millionths * denominator)) <= denominator
    else:
        assert found == 1


def test_the_statements_get_every_setting_of_the_budget_exactly() -> None:
    settings = load_settings(
        {
            "AI_MONTHLY_BUDGET_USD": "0.30",
            "AI_MONTHLY_BUDGET_MAX_USD": "0.70",
            "AI_BUDGET_ALERT_THRESHOLD": "0.1",
            "AI_CIRCUIT_BREAKER_THRESHOLD": "0.2",
            "AI_BUDGET_TIMEZONE": "Asia/Tokyo",
            "AI_REQUEST_TIMEOUT_SECONDS": "60",
            "AI_RESERVATION_TTL_SECONDS": "90",
        }
    )
    assert sql_settings(settings) == {
        "limit": Decimal("0.3"),
        "max_limit": Decimal("0.7"),
        "alert": Decimal("0.1"),
        "open": Decimal("0.2"),
        "timezone": "Asia/Tokyo",
        "ttl_seconds": 90,
        "slots": None,
    }


def test_nothing_happened_is_no_event(events: list[tuple[str, dict[str, object]]]) -> None:
    announce({"rolled_over": None, "expired": None, "threshold_events": None})
    announce({})
    assert events == []


def test_everything_that_happened_is_told_in_its_order(events: list[tuple[str, dict[str, object]]]) -> None:
    entry: ExpiredRow = {
        "request_id": "r",
        "provider": "p",
        "model": "m",
        "tier": None,
        "key_id": "k",
        "attempt": 2,
        "cost": 1,
    }
    closed: WindowRow = {**ROW, "closed_at": "2026-12-01T00:00:00+00:00"}
    announce(
        {
            "rolled_over": {"closed": closed, "opened": {**ROW, "id": 8}},
            "expired": [entry],
            "threshold_events": [
                {"state": "HALF_OPEN", "window_id": 8, "budget": "global", "spent": Decimal("0.8"), "limit": 1},
                {"state": "OPEN", "window_id": 8, "budget": "global", "spent": Decimal("0.95"), "limit": 1},
            ],
        }
    )
    assert [name for name, _ in events] == [
        "circuit_breaker.monthly_reset",
        "audit",
        "ledger.settled_at_bound",
        "circuit_breaker.alert",
        "circuit_breaker.opened",
    ]
    assert (events[1][1]["actor"], events[1][1]["action"]) == ("system", "budget.reset")
    assert (events[2][1]["cost_usd"], events[2][1]["cost_basis"], events[2][1]["attempt"]) == (Decimal(1), "bound", 2)
    assert [events[n][1]["usage_ratio"] for n in (3, 4)] == [Decimal("0.8"), Decimal("0.95")]


def test_a_reset_says_who_from_where_and_why(events: list[tuple[str, dict[str, object]]]) -> None:
    rollover: RolloverRow = {"closed": ROW, "opened": {**ROW, "id": 8}}
    announce_reset("circuit_breaker.manual_reset", rollover, actor="key-1", source_ip="192.0.2.7", reason="because")
    assert [name for name, _ in events] == ["circuit_breaker.manual_reset", "audit"]
    assert events[0][1]["window_id"] == 8
    assert (events[1][1]["actor"], events[1][1]["source_ip"], events[1][1]["reason"]) == (
        "key-1",
        "192.0.2.7",
        "because",
    )
