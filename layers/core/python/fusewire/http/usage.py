"""`GET /admin/usage`: who spent what, as JSON by pages or as a whole CSV file."""

import base64
import csv
import io
import json
import re
from collections.abc import Sequence
from datetime import date
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from fusewire.budget.books import Books, Spend, Usage
from fusewire.errors import InvalidRequestError, usd
from fusewire.http.query import Day, Page
from fusewire.json import dumps

_GROUPS: Final = ("day", "provider", "model", "tier", "key")
_TAG: Final = "tag:"
_MOST_GROUPS: Final = 10
_LONGEST_TAG: Final = 100
_MONTH: Final = re.compile(r"[2-8]\d{3}-(0[1-9]|1[0-2])")
_SUMS: Final = ("cost_usd", "requests", "input_tokens", "output_tokens")
_MOST_LINES: Final = 50_000
_MOST_BYTES: Final = 5_500_000  # of the 6 MB that Lambda can answer
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n")


def _split(text: Any) -> Any:  # noqa: ANN401 - whatever was sent
    return text.split(",") if isinstance(text, str) else text


def _groups(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        tag = name.removeprefix(_TAG) if name.startswith(_TAG) else None
        if name not in _GROUPS and (not tag or len(tag) > _LONGEST_TAG):
            raise ValueError(f"must be of {', '.join(_GROUPS)} and tag:<name>, separated by commas")
    if len(set(names)) < len(names) or len(names) > _MOST_GROUPS:
        raise ValueError(f"must name each group once, and {_MOST_GROUPS} at most")
    return names


def _month(text: Any) -> date | None:  # noqa: ANN401
    if not isinstance(text, str) or not _MONTH.fullmatch(text):
        raise ValueError("must be a month, YYYY-MM")
    return date.fromisoformat(f"{text}-01")


def _opened(text: Any) -> Any:  # noqa: ANN401
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
Month = Annotated[date, BeforeValidator(_month), WithJsonSchema({"type": "string", "pattern": f"^{_MONTH.pattern}$"})]
Cursor = Annotated[tuple[str, ...], BeforeValidator(_opened), WithJsonSchema({"type": "string"})]


class UsageQuery(Page):
    """What is asked of `GET /admin/usage`."""

    first: Annotated[Day | None, Field(alias="from")] = None
    last: Annotated[Day | None, Field(alias="to")] = None
    month: Month | None = None
    groups: Annotated[Groups, Field(alias="group_by")] = ("day",)
    after: Annotated[Cursor, Field(alias="cursor")] = ()

    @model_validator(mode="after")
    def _agree(self) -> "UsageQuery":
        if self.month and (self.first or self.last):
            raise ValueError("month takes the place of from and to: leave one or the other out")
        if self.first and self.last and self.first > self.last:
            raise ValueError("from is after to")
        if self.after and len(self.after) != len(self.groups):
            raise ValueError("cursor belongs to another group_by")
        return self


def usage_body(books: Books, query: UsageQuery) -> dict[str, object]:
    """One page, with the total of the whole range; amounts in USD."""
    usage = _asked(books, query, query.limit, query.after)
    told: dict[str, object] = {
        "rows": [_row(query.groups, keys, spend) for keys, spend in usage.rows],
        "total": _sums(usage.total),
        "next_cursor": _closed(usage.rows[-1][0]) if usage.more else None,
    }
    if usage.windows is not None:
        return told | {"windows": [window.public() for window in usage.windows]}
    return told | {"from": usage.first, "to": usage.last}


def usage_csv(books: Books, query: UsageQuery) -> str:
    """All rows as a file, without a line for the total: the sum of `cost_usd` is the total, to the last digit.

    :raises InvalidRequestError: when it would be too long; a part of a bill is worse than none
    """
    usage = _asked(books, query, _MOST_LINES, ())
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow([_cell(name) for name in (*query.groups, *_SUMS)])
    for keys, spend in usage.rows:
        counts = (spend.requests, spend.input_tokens, spend.output_tokens)
        writer.writerow([*map(_cell, keys), usd(spend.cost), *counts])
    written = text.getvalue()
    if usage.more or len(written.encode()) > _MOST_BYTES:
        raise InvalidRequestError(
            f"That is more than {_MOST_LINES:,} lines or {_MOST_BYTES:,} bytes. Ask for fewer days or coarser groups.",
            param="group_by",
        )
    return written


def _asked(books: Books, query: UsageQuery, limit: int, after: Sequence[str]) -> Usage:
    return books.usage(query.groups, limit=limit, after=after, first=query.first, last=query.last, month=query.month)


def _row(groups: Sequence[str], keys: Sequence[str], spend: Spend) -> dict[str, object]:
    return {name: value or None for name, value in zip(groups, keys, strict=True)} | _sums(spend)


def _sums(spend: Spend) -> dict[str, object]:
    values = (spend.cost, spend.requests, spend.input_tokens, spend.output_tokens)
    return dict(zip(_SUMS, values, strict=True))


def _cell(text: str) -> str:
    """Text that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def _closed(keys: Sequence[str]) -> str:
    return base64.urlsafe_b64encode(dumps(keys).encode()).decode()
