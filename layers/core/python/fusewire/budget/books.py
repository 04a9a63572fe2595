"""What was booked, read back: usage by groups from the rollups, single calls from the ledger; never content.

Each read is one round trip and one snapshot (`migrations/0009_usage.sql`). Usage costs what its days, models and keys
cost, calls what one page costs: neither grows with the ledger.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from fusewire.budget.breaker import Window
from fusewire.config import Settings
from fusewire.db import Database

_STRETCH: Final = 20_000
"""Entries that one page of calls looks at: some 30 ms of work, and two pages of a filter that few entries pass."""


@dataclass(frozen=True, slots=True)
class Spend:
    """What one group, or all of them, came to."""

    cost: Decimal
    """USD."""
    requests: int
    """Attempts that were settled."""
    input_tokens: int
    output_tokens: int

    @classmethod
    def read(cls, told: Sequence[Any]) -> "Spend":
        """From `usage_report`."""
        cost, *counts = told
        return cls(Decimal(cost), *(int(count) for count in counts))


@dataclass(frozen=True, slots=True)
class Usage:
    """Spend by groups, in the order of their names."""

    rows: list[tuple[list[str], Spend]]
    """Each group's values, `''` where an attempt has none, and its spend."""
    total: Spend
    """Of the whole range, whatever page this is."""
    more: bool
    """Whether groups follow after these."""
    first: date | None
    last: date | None
    """The range; None where it is open, or a month's windows were asked for."""
    windows: list[Window] | None
    """The month's windows, whose spent sums are the total; None for a range of days."""


class Books:
    """Reads; books nothing."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._zone = settings.ai_budget_timezone

    def usage(
        self,
        groups: Sequence[str],
        *,
        limit: int,
        after: Sequence[str] = (),
        first: date | None = None,
        last: date | None = None,
        month: date | None = None,
    ) -> Usage:
        """Spend by `day`, `provider`, `model`, `tier`, `key` or `tag:<name>`, each day in the budget's zone.

        :param after: the last group of the page before
        :param first: included; by default the first of its month, or of the current one
        :param last: included
        :param month: the first day of the month whose windows are meant, in place of a range
        :raises LedgerUnavailableError: when Postgres can't be reached
        """
        asked = {"from": first, "to": last, "month": month}
        told = self._database.call(
            "SELECT usage_report($1::jsonb)",
            {
                "timezone": self._zone,
                "groups": groups,
                "after": after,
                "limit": limit + 1,
                **{name: day.isoformat() for name, day in asked.items() if day},
            },
        )
        rows = [(keys, Spend.read(sums)) for keys, *sums in told["rows"]]
        windows = told["windows"]
        return Usage(
            rows[:limit],
            Spend.read(told["total"]),
            more=len(rows) > limit,
            first=_day(told["from"]),
            last=_day(told["to"]),
            windows=None if windows is None else [Window.read(window) for window in windows],
        )

    def calls(
        self,
        filters: Mapping[str, str],
        *,
        limit: int,
        before: UUID | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> tuple[list[dict[str, Any]], UUID | None]:
        """Attempts, the newest first.

        :param filters: by `provider`, `model`, `key`, `status`, `outcome`, `cost_basis`, `tier` or `request_id`
        :param before: where the page before ended
        :param since: of the reservation, included
        :param until: of the reservation, not included
        :return: the attempts, and where the next page begins; a page may be short, or empty, with another to follow
        :raises LedgerUnavailableError: when Postgres can't be reached
        """
        argument = {**filters, "limit": limit, "stretch": _STRETCH, **between(since, until)}
        if before is not None:
            argument["before"] = str(before)
        told = self._database.call("SELECT ledger_calls($1::jsonb)", argument)
        return told["rows"], UUID(told["next"]) if told["next"] else None

    def call(self, request_id: str) -> dict[str, Any] | None:
        """One call, every attempt in its order and what they cost together; None for one that isn't in the ledger.

        :raises LedgerUnavailableError: when Postgres can't be reached
        """
        found: dict[str, Any] | None = self._database.call("SELECT ledger_call($1::jsonb)", {"request_id": request_id})
        return found


def between(since: datetime | None, until: datetime | None) -> dict[str, str]:
    """A range of time as the statements take it."""
    return {name: at.isoformat() for name, at in (("from", since), ("to", until)) if at}


def _day(told: str | None) -> date | None:
    return date.fromisoformat(told) if told else None
