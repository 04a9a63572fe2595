"""Where a window's spending leads: the month's end, and the day on which the budget runs out.

What the last four weeks say of a weekday, at the level of the last seven days:

- The days that count are whole ones in the budget's zone: from the day after the first use to yesterday, and of those
  the last 7, 14, 21 or 28, so that each weekday counts alike. With fewer than 7 there is no forecast.
- A weekday's share is what it cost on these days, of what all of them cost.
- The level is what the last 7 days cost. Its trend is that by what the 7 days before cost, held between 1/2 and 2; 1
  where there is no such week or it cost nothing. The first week ahead is expected at the level x (1 + (trend - 1) / 2),
  the next at that x (1 + (trend - 1) / 4), then / 8, and so on: a trend fades.
- A coming day costs its week's level x its weekday's share; what is left of today, by its share of the day's time.

All of it in fractions, which are exact; the answer is rounded once, to six digits.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Context, Decimal
from fractions import Fraction
from itertools import count
from typing import Final
from zoneinfo import ZoneInfo

from fusewire.budget.breaker import Window
from fusewire.budget.wire import DailySpendRow

_WEEK: Final = 7
_MAX_DAYS: Final = 28
_MIN_TREND: Final = Fraction(1, 2)
_MAX_TREND: Final = Fraction(2)
_TICK: Final = timedelta(microseconds=1)
_HORIZON: Final = timedelta(days=366)
"""How far a window that never ends is looked ahead."""
_EXACT: Final = Context(prec=1000)


@dataclass(frozen=True, slots=True)
class DailySpend:
    """What a budget's days came to, in the budget's zone."""

    today: date
    since: date | None
    """The day of the first use; None before it."""
    days: Mapping[date, Decimal]
    """USD by day, of the last 28 days and today; a day without spend may be missing."""

    @classmethod
    def read(cls, row: DailySpendRow) -> "DailySpend":
        """From `usage_days`."""
        return cls(
            today=date.fromisoformat(row["today"]),
            since=date.fromisoformat(row["since"]) if row["since"] else None,
            days={date.fromisoformat(day): Decimal(cost) for day, cost in row["days"].items()},
        )

    def whole(self) -> list[tuple[date, Fraction]]:
        """The days that count, the oldest first: 28, 21, 14, 7 or none."""
        if self.since is None:
            return []
        known = (self.today - self.since).days - 1  # neither the first day nor today is a whole one
        counted = min(known // _WEEK * _WEEK, _MAX_DAYS)
        days = [self.today - timedelta(days=back) for back in range(counted, 0, -1)]
        return [(day, Fraction(self.days.get(day, Decimal(0)))) for day in days]


@dataclass(frozen=True, slots=True)
class Forecast:
    """Both None while there is too little data."""

    month_end_usd: Decimal | None
    """Spent at the window's end, to six digits; the limit doesn't cut it off. None where it never ends."""
    exhausted_at: datetime | None
    """When calls begin to be refused; None, too, when that isn't before the window's end."""


NONE_YET: Final = Forecast(None, None)


def forecast(
    window: Window, limit: Decimal | None, history: DailySpend, *, opens_at: Decimal, zone: str, now: datetime
) -> Forecast:
    """What becomes of a window; reservations, which are brief, don't count.

    :param limit: USD; None for a key without a budget of its own, which never runs out
    :param history: the same budget's days
    :param opens_at: the share of the limit from which calls are refused
    :param zone: the budget's time zone
    """
    whole = history.whole()
    if not whole:
        return NONE_YET
    ends_at = window.resets_at or now + _HORIZON
    end, place = ends_at.astimezone(UTC), ZoneInfo(zone)
    spent = Fraction(window.spent)
    room = None if limit is None else Fraction(limit) * Fraction(opens_at) - spent
    exhausted = None if room is None or room > 0 else now
    shares = _shares(whole)
    begins_at = now.astimezone(UTC)
    for first, level in _weeks(begins_at.astimezone(place).date(), _levels(whole)):
        left = None if exhausted else room
        if left is None and window.resets_at is None:
            break  # nothing more is asked of it
        dawn, dusk = _midnight(first, place), _midnight(first + timedelta(days=_WEEK), place)
        if dawn >= end:
            break
        if begins_at <= dawn and dusk <= end and (left is None or level < left):
            # A whole week costs its level, whatever its days' shares are.
            spent += level
            room = None if room is None else room - level
            continue
        for begins, ends, weekday, of_the_day in _days(first, begins_at, end, place):
            costs = level * shares[weekday] * of_the_day
            if room is not None and exhausted is None and costs >= room:
                exhausted = begins + _TICK * int((ends - begins) // _TICK * room / costs)
            room = None if room is None else room - costs
            spent += costs
    return Forecast(
        None if window.resets_at is None else _rounded(spent), exhausted if exhausted and exhausted < ends_at else None
    )


def _weeks(today: date, levels: Iterator[Fraction]) -> Iterator[tuple[date, Fraction]]:
    """The first day of each week from today on, and its level in USD."""
    for week in count():
        yield today + timedelta(days=_WEEK * week), next(levels)


def _days(
    first: date, now: datetime, end: datetime, zone: ZoneInfo
) -> Iterator[tuple[datetime, datetime, int, Fraction]]:
    """(from, to, weekday, share of the day) of what is left of each day of a week, until the window's end."""
    for ahead in range(_WEEK):
        day = first + timedelta(days=ahead)
        dawn, dusk = _midnight(day, zone), _midnight(day + timedelta(days=1), zone)
        begins, ends = max(dawn, now), min(dusk, end)
        if begins >= end:
            return
        yield begins, ends, day.weekday(), Fraction((ends - begins) // _TICK, (dusk - dawn) // _TICK)


def _shares(whole: Sequence[tuple[date, Fraction]]) -> list[Fraction]:
    """Each weekday's share of a week, Monday first."""
    sums = [sum((cost for day, cost in whole if day.weekday() == weekday), Fraction(0)) for weekday in range(_WEEK)]
    total = sum(sums)
    return [each / total if total else Fraction(0) for each in sums]


def _levels(whole: Sequence[tuple[date, Fraction]]) -> Iterator[Fraction]:
    """USD of the first week ahead, the second, and so on."""
    level = sum((cost for _, cost in whole[-_WEEK:]), Fraction(0))
    before = sum((cost for _, cost in whole[-2 * _WEEK : -_WEEK]), Fraction(0))
    trend = min(max(level / before, _MIN_TREND), _MAX_TREND) if before else Fraction(1)
    for week in count(1):
        level *= 1 + (trend - 1) / 2**week
        yield level


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    # In UTC, where a difference counts the hour that a day gains or loses.
    return datetime.combine(day, time.min, zone).astimezone(UTC)


def _rounded(amount: Fraction) -> Decimal:
    millionths = amount * 1_000_000
    whole, rest = divmod(millionths.numerator, millionths.denominator)
    whole += 2 * rest >= millionths.denominator
    return Decimal(whole).scaleb(-6, _EXACT)
