"""What the admin routes' query strings hold: days, moments, pages."""

import re
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any, Final
from zoneinfo import ZoneInfo

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

_DAY: Final = re.compile(r"\d{4}-\d\d-\d\d")
_EARLIEST: Final = date(2000, 1, 1)
_LATEST: Final = date(9000, 1, 1)  # with room for arithmetic, here and in Postgres


def _day(text: Any) -> date:  # noqa: ANN401 - whatever was sent
    """:raises ValueError: for anything but `YYYY-MM-DD`; pydantic would take a number for seconds"""
    if not isinstance(text, str) or not _DAY.fullmatch(text):
        raise ValueError("must be a day, YYYY-MM-DD")
    try:
        found = date.fromisoformat(text)
    except ValueError:
        raise ValueError("there is no such day") from None
    return _possible(found)


def _possible(day: date) -> date:
    if not _EARLIEST <= day <= _LATEST:
        raise ValueError(f"must be from {_EARLIEST} to {_LATEST}")
    return day


def _moment(text: Any) -> date | datetime:  # noqa: ANN401
    """:raises ValueError: for anything but a day, or a time with its offset"""
    if isinstance(text, str) and not _DAY.fullmatch(text):
        try:
            # A plus sign that wasn't escaped arrives as a space.
            found = datetime.fromisoformat(text.replace(" ", "+"))
        except ValueError:
            found = datetime.min
        if found.tzinfo is None:
            raise ValueError("must be a day, YYYY-MM-DD, or a time with its offset, such as 2026-11-25T09:00:00Z")
        _possible(found.date())
        # In UTC, because Postgres reads offsets up to 16 hours only.
        return found.astimezone(UTC)
    return _day(text)


Day = Annotated[date, BeforeValidator(_day)]
Moment = Annotated[date | datetime, BeforeValidator(_moment)]
BudgetId = Annotated[str, Field(pattern="^bud_[0-9a-f]{32}$")]
"""A node's of the tree."""
Word = Annotated[str, Field(min_length=1, max_length=200)]


class Query(BaseModel):
    """A query string: unknown names are refused, as in bodies."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True, defer_build=True)


class Page(Query):
    """Rows by pages."""

    limit: Annotated[int, Field(ge=1, le=1000)] = 100


class TimeRange(Page):
    """Rows of a stretch of time: `from` is included, `to` isn't; a day as `to` means its end."""

    since: Annotated[Moment | None, Field(alias="from")] = None
    until: Annotated[Moment | None, Field(alias="to")] = None

    def times(self, zone: str) -> dict[str, datetime | None]:
        """`since` and `until` as moments; days are those of the budget's zone."""
        until = self.until
        if until is not None and not isinstance(until, datetime):
            until += timedelta(days=1)
        return {"since": _at(self.since, zone), "until": _at(until, zone)}


def _at(moment: date | datetime | None, zone: str) -> datetime | None:
    if moment is None or isinstance(moment, datetime):
        return moment
    return datetime.combine(moment, time.min, ZoneInfo(zone))
