"""`GET /admin/usage`: spend by groups, as JSON by pages or as a whole CSV file."""

import base64
import csv
import io
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from typing import Annotated, Any, Final, Literal, Self, cast

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    SkipValidation,
    WithJsonSchema,
    model_validator,
)
from typing_extensions import TypedDict

from fusewire.budget.usage import SEPARATOR, Books, Spend, Usage
from fusewire.errors import InvalidRequestError, usd
from fusewire.http.admin.budget import WindowTotals
from fusewire.http.admin.query import BudgetId, Day, Page, Word
from fusewire.http.schema import Money, ResponseModel
from fusewire.json import dumps

_COLUMNS: Final = {"key": ("key", "key_name"), "budget": ("budget", "budget_id")}
"""Of the groups that have two."""
_GROUPS: Final = ("day", "provider", "model", "tier", "key", "budget")
_OWN_GROUPS: Final = ("day", "provider", "model", "tier")
_TAG: Final = "tag:"
_MAX_GROUPS: Final = 10
_MAX_TAG: Final = 100
_MONTH: Final = re.compile(r"[2-8]\d{3}-(0[1-9]|1[0-2])")
_MAX_LINES: Final = 50_000
_MAX_BYTES: Final = 5_500_000  # of the 6 MB that Lambda can answer
_FORMULA: Final = re.compile(
    r"(?:^|[,;|\t\r\n])"
    r"[\s\"'\x00-\x20\x7f\u200b-\u200f\u2060\ufeff]*"
    r"[=+\-@\uff1d\uff0b\uff0d\uff20\u2212]"
    r"|^[\t\r\n]"
)
"""Where a spreadsheet may find a formula: its signs, in full width too, at the beginning of a cell or behind what it
may take for the end of one, and behind what it skips (OWASP, "CSV Injection")."""


def _split(text: Any) -> Any:  # noqa: ANN401 - whatever was sent
    return text.split(",") if isinstance(text, str) else text


def _own_groups(names: tuple[str, ...]) -> tuple[str, ...]:
    if not set(names) <= set(_OWN_GROUPS) or len(set(names)) < len(names):
        raise ValueError(f"must be of {', '.join(_OWN_GROUPS)}, each once, separated by commas")
    return names


def _groups(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        tag = name.removeprefix(_TAG) if name.startswith(_TAG) else None
        if name not in _GROUPS and (not tag or len(tag) > _MAX_TAG):
            raise ValueError(f"must be of {', '.join(_GROUPS)} and tag:<name>, separated by commas")
    if len(set(names)) < len(names) or len(names) > _MAX_GROUPS:
        raise ValueError(f"must name each group once, and {_MAX_GROUPS} at most")
    return names


def _month(text: Any) -> date | None:  # noqa: ANN401
    if not isinstance(text, str) or not _MONTH.fullmatch(text):
        raise ValueError("must be a month, YYYY-MM")
    return date.fromisoformat(f"{text}-01")


def _decode_cursor(text: Any) -> Any:  # noqa: ANN401
    try:
        keys = json.loads(base64.urlsafe_b64decode(text))
    except (TypeError, ValueError, RecursionError):  # not base64, not UTF-8, not JSON, or endlessly nested
        keys = None
    if not isinstance(keys, list):
        raise ValueError("must be a next_cursor that this gateway gave")
    return keys


_described: Final = {
    "type": "array",
    "items": {"anyOf": [{"enum": list(_GROUPS)}, {"type": "string", "pattern": f"^{_TAG}.+$"}]},
    "default": ["day"],
}
Groups = Annotated[tuple[str, ...], BeforeValidator(_split), AfterValidator(_groups), WithJsonSchema(_described)]
_described_own: Final = {"type": "array", "items": {"enum": list(_OWN_GROUPS)}, "default": ["day"]}
OwnGroups = Annotated[
    tuple[str, ...], BeforeValidator(_split), AfterValidator(_own_groups), WithJsonSchema(_described_own)
]
Month = Annotated[date, BeforeValidator(_month), WithJsonSchema({"type": "string", "pattern": f"^{_MONTH.pattern}$"})]
Cursor = Annotated[tuple[str, ...], BeforeValidator(_decode_cursor), WithJsonSchema({"type": "string"})]


class OwnUsageQuery(Page):
    """The query string of `GET /me/usage`."""

    first: Annotated[Day | None, Field(alias="from")] = None
    last: Annotated[Day | None, Field(alias="to")] = None
    groups: Annotated[OwnGroups, Field(alias="group_by")] = ("day",)
    after: Annotated[Cursor, Field(alias="cursor")] = ()

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.first and self.last and self.first > self.last:
            raise ValueError("from is after to")
        if self.after and len(self.after) != len(self.groups):
            raise ValueError("cursor belongs to another group_by")
        return self


class UsageQuery(OwnUsageQuery):
    """The query string of `GET /admin/usage`."""

    month: Month | None = None
    groups: Annotated[Groups, Field(alias="group_by")] = ("day",)
    budget: BudgetId | None = None
    """Of the keys alone that are under this budget now, or under one below it."""
    key: Word | None = None
    """Of this key alone, by its id."""
    provider: Word | None = None
    """Of calls of this provider alone."""
    model: Word | None = None
    """Of calls of this model alone, as the provider calls it."""
    sort: Literal["cost"] | None = None
    """`cost`: the `limit` dearest groups, without a cursor; by default by the groups' names."""

    @model_validator(mode="after")
    def _one_range(self) -> Self:
        if self.month and (self.first or self.last):
            raise ValueError("month takes the place of from and to: leave one or the other out")
        if self.sort and self.after:
            raise ValueError("sort takes the place of a cursor: leave one or the other out")
        return self


class Sums(ResponseModel):
    """What one group, or all of them, came to."""

    cost_usd: Money
    requests: int
    input_tokens: int
    output_tokens: int

    @classmethod
    def of(cls, spend: Spend) -> "Sums":
        return cls(
            cost_usd=spend.cost,
            requests=spend.requests,
            input_tokens=spend.input_tokens,
            output_tokens=spend.output_tokens,
        )


class UsageRow(TypedDict):
    """By each group its value, or null; then the sums. The group `budget` has the names on the way to the budget that
    the key is under now, and `budget_id`; the group `key` has the key's id, and its name now as `key_name`."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc] # the groups, which the query names
    cost_usd: Money
    requests: int
    input_tokens: int
    output_tokens: int


class _UsagePage(ResponseModel):
    rows: list[SkipValidation[UsageRow]]
    """Not validated, which would put the sums before the groups."""
    total: Sums
    next_cursor: str | None


class UsageOfDays(_UsagePage):
    """Spend by groups; null where the range is open."""

    first: Annotated[date | None, Field(alias="from")]
    last: Annotated[date | None, Field(alias="to")]


class UsageOfMonth(_UsagePage):
    """Spend by groups of a month's windows, whose spent sums are the total; no windows where it is of a part of the
    tree of budgets, or of one key, provider or model."""

    windows: list[WindowTotals]


UsageResponse = UsageOfDays | UsageOfMonth


def usage_response(books: Books, query: UsageQuery, within: str | None) -> UsageResponse:
    """One page, with the total of the whole range; amounts in USD.

    :param within: the budget that the caller's scopes are bound to; None: they aren't
    """
    usage = _usage(books, query, query.limit, query.after, within)
    if query.sort:
        usage = replace(usage, more=False)  # a cursor names a group, which says no place in this order
    if usage.windows is None:
        return _of_days(query.groups, usage)
    windows = [WindowTotals.of(window) for window in usage.windows]
    return UsageOfMonth(**_page(query.groups, usage), windows=windows)


def own_usage_response(books: Books, query: OwnUsageQuery, key_id: str | None) -> UsageOfDays:
    """One page of what was booked for a caller's own calls; amounts in USD.

    :param key_id: None where the caller has no key: then it is what was booked without one
    """
    usage = books.usage(
        query.groups, limit=query.limit, after=query.after, first=query.first, last=query.last, key=key_id or ""
    )
    return _of_days(query.groups, usage)


def usage_csv(books: Books, query: UsageQuery, within: str | None) -> str:
    """All rows as a file, without a line for the total: the sum of `cost_usd` is the total, to the last digit.

    :raises InvalidRequestError: when it would be too long; a part of a bill is worse than none
    """
    usage = _usage(books, query, _MAX_LINES, (), within)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow([_cell(name) for name in (*_columns(query.groups), *Sums.model_fields)])
    for keys, spend in usage.rows:
        counts = (spend.requests, spend.input_tokens, spend.output_tokens)
        writer.writerow([*map(_cell, _values(query.groups, keys)), usd(spend.cost), *counts])
    written = text.getvalue()
    if usage.more or len(written.encode()) > _MAX_BYTES:
        raise InvalidRequestError(
            f"That is more than {_MAX_LINES:,} lines or {_MAX_BYTES:,} bytes. Ask for fewer days or coarser groups.",
            param="group_by",
        )
    return written


def _usage(books: Books, query: UsageQuery, limit: int, after: Sequence[str], within: str | None) -> Usage:
    return books.usage(
        ["named_key" if group == "key" else group for group in query.groups],
        limit=limit,
        after=after,
        by_cost=query.sort == "cost",
        first=query.first,
        last=query.last,
        month=query.month,
        budget=query.budget,
        key=query.key,
        provider=query.provider,
        model=query.model,
        within=within,
    )


def _of_days(groups: Sequence[str], usage: Usage) -> UsageOfDays:
    return UsageOfDays(**_page(groups, usage), first=usage.first, last=usage.last)


def _page(groups: Sequence[str], usage: Usage) -> dict[str, Any]:
    """The fields of `_UsagePage`."""
    return {
        "rows": [_row(groups, keys, spend) for keys, spend in usage.rows],
        "total": Sums.of(usage.total),
        "next_cursor": _encode_cursor(usage.rows[-1][0]) if usage.more else None,
    }


def _columns(groups: Sequence[str]) -> list[str]:
    """The columns of these groups: a budget has its path and its id, a key its id and its name."""
    return [name for group in groups for name in _COLUMNS.get(group, (group,))]


def _values(groups: Sequence[str], keys: Sequence[str]) -> list[str]:
    """What stands in these columns."""
    return [
        value
        for group, key in zip(groups, keys, strict=True)
        for value in (key.partition(SEPARATOR)[::2] if group in _COLUMNS else (key,))
    ]


def _row(groups: Sequence[str], keys: Sequence[str], spend: Spend) -> UsageRow:
    shown = zip(_columns(groups), _values(groups, keys), strict=True)
    values: dict[str, Any] = {name: value or None for name, value in shown}
    return cast(UsageRow, values | Sums.of(spend).body())


def _cell(text: str) -> str:
    """Text that no spreadsheet takes for a formula."""
    return f"'{text}" if _FORMULA.search(text) else text


def _encode_cursor(keys: Sequence[str]) -> str:
    return base64.urlsafe_b64encode(dumps(keys).encode()).decode()
