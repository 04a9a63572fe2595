"""What was booked, read back: usage by groups from the rollups, single calls from the ledger; never content.

Each read is one round trip and one snapshot (`store/functions/usage.sql`). Usage costs what its days, models and
keys cost, calls what one page costs: neither grows with the ledger.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Final, Literal, NotRequired, TypedDict, cast
from uuid import UUID

from fusewire.budget.breaker import Window
from fusewire.budget.wire import Amount, WindowRow
from fusewire.config import Settings
from fusewire.store.db import Database, Statement

SCAN_LIMIT: Final = 20_000
"""Entries that one page looks at: some 30 ms of work, and two pages of a filter that few entries pass."""

SEPARATOR: Final = "\x1f"
"""Between a node's path and its id, and a key's id and its name; neither holds it, since names are printable."""

Sums = list[Amount]
"""Cost, requests, input tokens, output tokens."""


ReportArgument = TypedDict(
    "ReportArgument",
    {
        "timezone": str,
        "groups": Sequence[str],
        "after": Sequence[str],
        "limit": int,
        "by_cost": NotRequired[Literal[True]],
        "from": NotRequired[str],
        "to": NotRequired[str],
        "windows_of": NotRequired[tuple[str, str]],  # their first and last day
        "budget": NotRequired[str],
        "key": NotRequired[str],
        "provider": NotRequired[str],
        "model": NotRequired[str],
        "within": NotRequired[str],
    },
)

ReportResult = TypedDict(
    "ReportResult",
    {
        "rows": list[tuple[list[str], Amount, int, int, int]],  # a group, then its sums
        "total": Sums,
        "windows": list[WindowRow] | None,
        "from": str | None,
        "to": str | None,
    },
)


class PageArgument(TypedDict):
    """What is asked of the ledger's and the audit's entries, beside filters and a range of time."""

    limit: int
    scan_limit: int


class CallsArgument(PageArgument):
    """For `ledger_calls`: a page, filters by name, and a range of time."""

    before: NotRequired[str]
    within: NotRequired[str]
    """The node that the caller's scopes are bound to (`scopes.sql`)."""


class CallRow(TypedDict):
    """`ledger_call_json`: one attempt."""

    id: str
    request_id: str
    attempt: int
    operation: str
    provider: str
    model: str
    tier: str | None
    key_id: str | None
    status: Literal["reserved", "settled", "released"]
    outcome: str | None
    bound_usd: Amount
    cost_usd: Amount | None
    cost_basis: Literal["actual", "bound", "adjustment"] | None
    input_tokens: int
    output_tokens: int
    cached_input_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    reserved_at: str
    expires_at: str
    ended_at: str | None
    day: str | None
    window_id: int
    key_window_id: int | None
    path_window_ids: list[int] | None


class CallsResult(TypedDict):
    """What `ledger_calls` returns."""

    rows: list[CallRow]
    next: str | None


class RefusedRow(TypedDict):
    """A row of `refused_calls`: the calls of one key that were refused with one code in one minute."""

    id: str
    key_id: str
    """Empty for none."""
    code: str
    minute: str
    calls: int
    last_at: str
    last_request_id: str | None


class CallResult(TypedDict):
    """What `ledger_call` returns."""

    request_id: str
    cost_usd: Amount
    attempts: list[CallRow]


class CallArgument(TypedDict):
    """For `ledger_call`."""

    request_id: str
    within: NotRequired[str]


_REPORT: Final = Statement[ReportArgument, ReportResult]("SELECT usage_report($1::jsonb)")
_CALLS: Final = Statement[CallsArgument, CallsResult]("SELECT ledger_calls($1::jsonb)")
_REFUSED: Final = Statement[CallsArgument, list[RefusedRow]]("SELECT refused_calls($1::jsonb)")
_CALL: Final = Statement[CallArgument, CallResult | None]("SELECT ledger_call($1::jsonb)")


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
    def read(cls, sums: Sequence[Amount]) -> "Spend":
        """From `usage_report`."""
        cost, *counts = sums
        return cls(Decimal(cost), *(int(count) for count in counts))


@dataclass(frozen=True, slots=True)
class Usage:
    """Spend by groups, in the order of their names or of their cost."""

    rows: list[tuple[list[str], Spend]]
    """Each group's values, `''` where an attempt has none, and its spend."""
    total: Spend
    """Of the whole range, whatever page this is."""
    more: bool
    """Whether groups follow after these."""
    first: date | None
    last: date | None
    """The range; None where it is open, or the windows of a month were asked for."""
    windows: list[Window] | None
    """The windows of the month, whose spent sums are the total; none where it is of a part of the company's calls, and
    None for a range of days."""


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
        by_cost: bool = False,
        first: date | None = None,
        last: date | None = None,
        month: date | None = None,
        budget: str | None = None,
        key: str | None = None,
        provider: str | None = None,
        model: str | None = None,
        within: str | None = None,
    ) -> Usage:
        """Spend by `day`, `provider`, `model`, `tier`, `key`, `named_key`, `budget` or `tag:<name>`, each day in the
        budget's zone.

        The value of the group `budget` is the names on the way down to the key's node, `SEPARATOR` and its id; that of
        `named_key` is the key's id, `SEPARATOR` and its name.

        :param after: the last group of the page before
        :param by_cost: the dearest groups in place of the first by name, without a page after
        :param first: included; by default the first of its month, or of the current one
        :param last: included
        :param month: the first day of the month whose windows are meant, in place of a range
        :param budget: of the keys alone that are under this node now, or under one below it
        :param key: of this key alone, by its id; `""`: of calls without a key
        :param provider: of calls of this provider alone
        :param model: of calls of this model alone
        :param within: the node that the caller's scopes are bound to; None: they aren't
        :raises LedgerUnavailableError: when Postgres can't be reached
        """
        argument: ReportArgument = {
            "timezone": self._zone,
            "groups": groups,
            "after": after,
            "limit": limit + 1,
        }
        if by_cost:
            argument["by_cost"] = True
        if first:
            argument["from"] = first.isoformat()
        if last:
            argument["to"] = last.isoformat()
        if month:
            argument["windows_of"] = month.isoformat(), _last_day(month).isoformat()
        if budget:
            argument["budget"] = budget
        if key is not None:
            argument["key"] = key
        if provider:
            argument["provider"] = provider
        if model:
            argument["model"] = model
        if within:
            argument["within"] = within
        result = self._database.call(_REPORT, argument)
        rows = [(keys, Spend.read(sums)) for keys, *sums in result["rows"]]
        windows = result["windows"]
        return Usage(
            rows[:limit],
            Spend.read(result["total"]),
            more=len(rows) > limit,
            first=_day(result["from"]),
            last=_day(result["to"]),
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
        within: str | None = None,
    ) -> tuple[list[CallRow], UUID | None]:
        """Attempts, the newest first.

        :param filters: by `provider`, `model`, `key`, `status`, `outcome`, `cost_basis`, `tier` or `request_id`
        :param before: where the page before ended
        :param since: of the reservation, included
        :param until: of the reservation, not included
        :return: the attempts, and where the next page begins; a page may be short, or empty, with another to follow
        :raises LedgerUnavailableError: when Postgres can't be reached
        """
        page = {**filters, "limit": limit, "scan_limit": SCAN_LIMIT, **between(since, until)}
        argument = cast(CallsArgument, page)
        if within is not None:
            argument["within"] = within
        if before is not None:
            argument["before"] = str(before)
        result = self._database.call(_CALLS, argument)
        return result["rows"], UUID(result["next"]) if result["next"] else None

    def refused(
        self,
        filters: Mapping[str, str],
        *,
        limit: int,
        before: UUID | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        within: str | None = None,
    ) -> tuple[list[RefusedRow], UUID | None]:
        """Refused calls by key, code and minute, the newest first.

        :param filters: by `key`, `outcome` (the code) or `request_id` (of the last call in a row)
        :param before: where the page before ended
        :return: the rows, and where the next page begins
        :raises LedgerUnavailableError: when Postgres can't be reached
        """
        argument = cast(CallsArgument, {**filters, "limit": limit + 1, **between(since, until)})
        if within is not None:
            argument["within"] = within
        if before is not None:
            argument["before"] = str(before)
        rows = self._database.call(_REFUSED, argument)
        return rows[:limit], UUID(rows[limit - 1]["id"]) if len(rows) > limit else None

    def call(self, request_id: str, *, within: str | None = None) -> CallResult | None:
        """One call, every attempt in its order and what they cost together; None for one that isn't in the ledger.

        :raises LedgerUnavailableError: when Postgres can't be reached
        """
        argument: CallArgument = {"request_id": request_id}
        if within is not None:
            argument["within"] = within
        return self._database.call(_CALL, argument)


def between(since: datetime | None, until: datetime | None) -> dict[str, str]:
    """A range of time as the statements take it."""
    return {name: at.isoformat() for name, at in (("from", since), ("to", until)) if at}


def _last_day(month: date) -> date:
    return (month.replace(day=1) + timedelta(days=31)).replace(day=1) - timedelta(days=1)


def _day(text: str | None) -> date | None:
    return date.fromisoformat(text) if text else None
