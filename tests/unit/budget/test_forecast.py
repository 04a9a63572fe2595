"""The forecast: a week's shape, at the last week's level, with a trend that fades; in exact numbers."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusewire.budget.breaker import Window
from fusewire.budget.forecast import NONE_YET, DailySpend, Forecast, forecast
from fusewire.budget.wire import DailySpendRow

TODAY = date(2026, 11, 23)  # a Monday
NOW = datetime(2026, 11, 23, tzinfo=UTC)
DECEMBER = datetime(2026, 12, 1, tzinfo=UTC)
WORKING_WEEK = [Decimal(each) for each in ("10", "20", "30", "40", "50", "0", "0.5")]

amounts = st.decimals(0, 10**6, places=9)


def window(spent: Decimal, resets_at: datetime = DECEMBER) -> Window:
    opened = datetime(2026, 11, 1, tzinfo=UTC)
    return Window(1, opened, "period_end", resets_at, None, spent, Decimal(0), 0)


def history(*costs: Decimal, today: date = TODAY) -> DailySpend:
    """Of the days up to yesterday, the last one last; the day before them was the first."""
    days = {today - timedelta(days=len(costs) - place): cost for place, cost in enumerate(costs)}
    return DailySpend(today, today - timedelta(days=len(costs) + 1), days)


def ahead(
    past: DailySpend,
    *,
    spent: Decimal = Decimal(0),
    limit: Decimal | None = None,
    now: datetime = NOW,
    end: datetime = DECEMBER,
    zone: str = "UTC",
) -> Forecast:
    return forecast(window(spent, end), limit, past, opens_at=Decimal("0.95"), zone=zone, now=now)


@pytest.mark.parametrize("days", range(7))
def test_fewer_than_seven_whole_days_say_nothing(days: int) -> None:
    assert ahead(history(*[Decimal(100)] * days), limit=Decimal(1)) == NONE_YET
    assert ahead(DailySpend(TODAY, None, {})) == NONE_YET
    assert ahead(DailySpend(TODAY, TODAY, {TODAY: Decimal(5)})) == NONE_YET


@pytest.mark.parametrize("weeks", [1, 2, 3, 4])
def test_a_week_like_the_last_ones_follows(weeks: int) -> None:
    # From Monday 23 November to Monday 30 November: a week and one Monday.
    result = ahead(history(*WORKING_WEEK * weeks), spent=Decimal("400.25"))
    assert result == Forecast(Decimal("400.25") + Decimal("150.5") + 10, None)


def test_weeks_far_ahead_are_counted_whole_and_the_one_in_which_it_runs_out_by_its_days() -> None:
    result = ahead(
        history(*WORKING_WEEK * 4),
        spent=Decimal("950") - (5 * Decimal("150.5") + 10 + 20 + 15),
        limit=Decimal(1000),
        end=NOW + timedelta(weeks=10, days=3),
    )
    spent = Decimal("152.5") + 10 * Decimal("150.5") + 10 + 20 + 30
    assert result == Forecast(spent, NOW + timedelta(weeks=5, days=2, hours=12))


def test_a_day_that_isnt_over_counts_by_what_is_left_of_it() -> None:
    noon = NOW + timedelta(hours=12)
    past = history(*WORKING_WEEK * 2)
    assert ahead(past, now=noon, end=datetime(2026, 11, 25, tzinfo=UTC)).month_end_usd == 5 + 20
    assert ahead(past, now=noon, end=NOW + timedelta(hours=18)).month_end_usd == Decimal("2.5")
    assert ahead(past, now=noon, end=noon, spent=Decimal(7)).month_end_usd == 7


def test_the_budget_runs_out_where_calls_begin_to_be_refused() -> None:
    past = history(*WORKING_WEEK * 4)
    # 0.95 of 200 is 190. 160 are spent, Monday adds 10, and Tuesday 20: reached at its end.
    assert ahead(past, spent=Decimal(160), limit=Decimal(200)).exhausted_at == datetime(2026, 11, 25, tzinfo=UTC)
    assert ahead(past, spent=Decimal(170), limit=Decimal(200)).exhausted_at == datetime(2026, 11, 24, 12, tzinfo=UTC)
    assert ahead(past, spent=Decimal(190), limit=Decimal(200)).exhausted_at == NOW
    assert ahead(past, spent=Decimal(900), limit=Decimal(200)).exhausted_at == NOW
    assert ahead(past, spent=Decimal(160), limit=Decimal(10_000)).exhausted_at is None
    assert ahead(past, spent=Decimal(160), limit=None).exhausted_at is None
    assert ahead(past, spent=Decimal(160), limit=Decimal(200)).month_end_usd == Decimal("320.5")


def test_growth_goes_on_and_fades() -> None:
    past = history(*[Decimal(7)] * 7, *[Decimal(14)] * 7)
    # Twice as much as the week before: the first week ahead at 98 x 1.5, the second at that x 1.25.
    end = NOW + timedelta(days=14)
    assert ahead(past, end=end).month_end_usd == 147 + Decimal("183.75")
    fallen = history(*[Decimal(14)] * 7, *[Decimal(7)] * 7)
    assert ahead(fallen, end=NOW + timedelta(days=7)).month_end_usd == Decimal(49) * Decimal("0.75")
    # One week of ten times as much doubles, and no more.
    leap = history(*[Decimal(1)] * 7, *[Decimal(10)] * 7)
    assert ahead(leap, end=NOW + timedelta(days=7)).month_end_usd == 105
    # What begins anew has no trend yet.
    anew = history(*[Decimal(0)] * 7, *[Decimal(10)] * 7)
    assert ahead(anew, end=NOW + timedelta(days=7)).month_end_usd == 70


def test_the_shape_is_of_four_weeks_and_the_level_of_the_last() -> None:
    old = history(*[Decimal(1000)] * 60, *WORKING_WEEK * 4)
    assert ahead(old) == ahead(history(*WORKING_WEEK * 4))


def test_days_are_those_of_the_budgets_zone_whatever_their_length() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    today = date(2026, 10, 24)  # the clocks go back on the 25th, which has 25 hours
    end = datetime(2026, 11, 1, tzinfo=berlin)
    past = history(*[Decimal(24)] * 28, today=today)
    midnight = datetime(2026, 10, 24, tzinfo=berlin)
    assert ahead(past, now=midnight, end=end, zone="Europe/Berlin").month_end_usd == 8 * 24
    # Half of the long day is over after twelve and a half hours.
    half = datetime(2026, 10, 24, 22, tzinfo=UTC) + timedelta(hours=12, minutes=30)
    assert ahead(past, now=half, end=datetime(2026, 10, 26, tzinfo=berlin), zone="Europe/Berlin").month_end_usd == 12


def test_a_day_without_a_row_is_a_day_without_spend() -> None:
    spent = {TODAY - timedelta(days=3): Decimal(70)}
    sparse = DailySpend(TODAY, TODAY - timedelta(days=8), spent)
    assert ahead(sparse, end=NOW + timedelta(days=7)).month_end_usd == 70
    silent = DailySpend(TODAY, TODAY - timedelta(days=100), {})
    assert ahead(silent, spent=Decimal(3), limit=Decimal(4)) == Forecast(Decimal(3), None)


@given(st.lists(amounts, min_size=7, max_size=40), amounts, st.integers(1, 1000))
def test_it_is_never_below_what_is_spent_and_scales_with_everything(
    costs: list[Decimal], spent: Decimal, factor: int
) -> None:
    one = ahead(history(*costs), spent=spent).month_end_usd
    many = ahead(history(*[cost * factor for cost in costs]), spent=spent * factor).month_end_usd
    assert one is not None and many is not None
    assert type(one) is Decimal
    rounded = Decimal("0.0000005")
    assert one >= spent - rounded
    assert abs(many - one * factor) <= rounded * (factor + 1)
    # A trend of 2 fades to less than 2.4 of the last week, for ever.
    weeks = sum(costs[-7:]) * Decimal("2.4") * 2
    assert one <= spent + weeks + rounded


@given(st.lists(amounts, min_size=7, max_size=40), amounts, st.decimals("0.000001", 10**8, places=6))
def test_it_runs_out_exactly_where_the_spending_meets_the_ceiling(
    costs: list[Decimal], spent: Decimal, limit: Decimal
) -> None:
    past, ceiling = history(*costs), limit * Decimal("0.95")
    result = ahead(past, spent=spent, limit=limit)
    assert result.month_end_usd is not None
    slack = Decimal("0.001")  # a microsecond's spend, and the rounding
    if result.exhausted_at is None:
        assert result.month_end_usd <= ceiling + slack
    elif result.exhausted_at == NOW:
        assert spent >= ceiling - slack
    else:
        assert NOW < result.exhausted_at < DECEMBER
        met = ahead(past, spent=spent, end=result.exhausted_at).month_end_usd
        assert met is not None
        assert abs(met - ceiling) <= slack


@given(st.integers(0, 10**30), st.integers(1, 10**6))
def test_money_keeps_every_digit(whole: int, cents: int) -> None:
    spent = Decimal(f"{whole}.{cents:06}")
    assert ahead(history(*[Decimal(0)] * 7), spent=spent).month_end_usd == spent


def test_what_the_ledger_tells_is_read_exactly() -> None:
    row: DailySpendRow = {
        "today": "2026-11-23",
        "since": "2026-11-01",
        "days": {"2026-11-22": Decimal("0.1"), "2026-11-23": 2},
    }
    read = DailySpend.read(row)
    assert read == DailySpend(TODAY, date(2026, 11, 1), {date(2026, 11, 22): Decimal("0.1"), TODAY: Decimal(2)})
    assert all(type(cost) is Decimal for cost in read.days.values())
    assert DailySpend.read({**row, "since": None}).since is None
