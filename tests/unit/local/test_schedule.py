"""When a schedule is due: month ends, leap years, daylight saving, and expressions that AWS reads differently."""

from datetime import UTC, datetime, timedelta

import pytest
from cronsim import CronSimError

from local.schedule import next_time
from local.template import Schedule


def at(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type, misc] # year, month, day and so on


def due(expression: str, zone: str, after: datetime) -> datetime:
    return next_time(Schedule(expression, zone, "{}", "f"), after)


@pytest.mark.parametrize(
    ("expression", "zone", "after", "expected"),
    [
        ("cron(0 0 1 * ? *)", "UTC", at(2026, 11, 15), at(2026, 12, 1)),
        ("cron(0 0 1 * ? *)", "UTC", at(2026, 12, 31, 23, 59, 59), at(2027, 1, 1)),
        ("cron(0 0 1 * ? *)", "UTC", at(2026, 12, 1), at(2027, 1, 1)),
        ("cron(0 0 1 * ? *)", "Asia/Tokyo", at(2026, 1, 31, 14, 59, 59), at(2026, 1, 31, 15)),
        ("cron(0 0 1 * ? *)", "Asia/Tokyo", at(2026, 1, 31, 15), at(2026, 2, 28, 15)),
        # New York leaves daylight saving on the first of November 2026.
        ("cron(0 0 1 * ? *)", "America/New_York", at(2026, 10, 31, 23), at(2026, 11, 1, 4)),
        ("cron(0 0 1 * ? *)", "America/New_York", at(2026, 11, 1, 4), at(2026, 12, 1, 5)),
        # 02:30 doesn't exist in Berlin on 29 March 2026, and is there twice on 25 October.
        ("cron(30 2 * * ? *)", "Europe/Berlin", at(2026, 3, 28, 12), at(2026, 3, 29, 1)),
        ("cron(30 2 * * ? *)", "Europe/Berlin", at(2026, 10, 24, 12), at(2026, 10, 25, 0, 30)),
        ("cron(30 2 * * ? *)", "Europe/Berlin", at(2026, 10, 25, 0, 30), at(2026, 10, 26, 1, 30)),
        # Midnight itself doesn't exist in Cairo on 24 April 2026.
        ("cron(0 0 * * ? *)", "Africa/Cairo", at(2026, 4, 23, 12), at(2026, 4, 23, 22)),
        ("cron(0 0 29 2 ? *)", "UTC", at(2026, 1, 1), at(2028, 2, 29)),
        ("cron(0 0 L * ? *)", "UTC", at(2026, 2, 1), at(2026, 2, 28)),
        ("cron(15 9 ? * MON-FRI *)", "UTC", at(2026, 11, 28), at(2026, 11, 30, 9, 15)),
        ("cron(*/5 * * * ? *)", "UTC", at(2026, 11, 28, 10, 4, 59), at(2026, 11, 28, 10, 5)),
    ],
)
def test_the_next_time(expression: str, zone: str, after: datetime, expected: datetime) -> None:
    assert due(expression, zone, after) == expected


def test_a_whole_year_of_month_ends() -> None:
    now, times = at(2027, 12, 31, 12), []
    for _ in range(12):
        now = due("cron(0 0 1 * ? *)", "Europe/Berlin", now)
        times.append(now)
    # Midnight in Berlin is 23:00 or, in summer, 22:00 UTC of the day before.
    assert {(time + timedelta(hours=2)).month for time in times} == set(range(1, 13))
    assert {(time + timedelta(hours=2)).day for time in times} == {1}
    assert [time.hour for time in times] == [23, 23, 23, 22, 22, 22, 22, 22, 22, 22, 23, 23]


@pytest.mark.parametrize(
    "expression",
    [
        "rate(1 day)",
        "at(2026-12-01T00:00:00)",
        "0 0 1 * *",
        "cron(0 0 1 * ?)",
        "cron(0 0 1 * ? 2027)",
        # AWS calls Sunday 1 and cron calls it 0: a number would run on another day here.
        "cron(0 0 ? * 2 *)",
        "cron(0 0 ? * 2-6 *)",
        "cron(0 0 ? * FRI#2 *)",
    ],
)
def test_what_is_not_run_here_is_refused(expression: str) -> None:
    with pytest.raises(ValueError, match="cron"):
        due(expression, "UTC", at(2026, 1, 1))


@pytest.mark.parametrize("expression", ["cron(60 0 1 * ? *)", "cron(x 0 1 * ? *)", "cron(0 0 32 * ? *)"])
def test_what_cannot_be_read_is_refused(expression: str) -> None:
    with pytest.raises(CronSimError):
        due(expression, "UTC", at(2026, 1, 1))
