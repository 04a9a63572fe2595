"""The audit, read back. Postgres alone writes it, in the transactions of what it describes (`audit_append`)."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, NotRequired, TypedDict, cast

from fusewire.budget.usage import SCAN_LIMIT, PageArgument, between
from fusewire.store.db import Database, Statement


class EntriesArgument(PageArgument):
    """For `audit_entries`."""

    before: NotRequired[int]
    within: NotRequired[str]
    """The node that the caller's scopes are bound to (`scopes.sql`)."""
    action: NotRequired[str]
    actor: NotRequired[str]


class AuditRow(TypedDict):
    """An entry."""

    n: int
    at: str
    actor: str
    action: str
    source_ip: str | None
    request_id: str | None
    before: dict[str, Any] | None
    """What the action changed, of a shape that the action names; `after` too."""
    after: dict[str, Any] | None
    hash: str


class EntriesResult(TypedDict):
    """What `audit_entries` returns."""

    rows: list[AuditRow]
    next: int | None


_ENTRIES: Final = Statement[EntriesArgument, EntriesResult]("SELECT audit_entries($1::jsonb)")


class Audit:
    """Who did what, the newest first."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def entries(
        self,
        filters: Mapping[str, str],
        *,
        limit: int,
        before: int | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        within: str | None = None,
    ) -> tuple[list[AuditRow], int | None]:
        """
        :param filters: by `action` or `actor`
        :param before: where the page before ended
        :param within: the node that the caller's scopes are bound to; None: they aren't
        :return: the entries, and where the next page begins; a page may be short, or empty, with another to follow
        :raises LedgerUnavailableError: when Postgres can't be reached
        """
        page = {**filters, "limit": limit, "scan_limit": SCAN_LIMIT, **between(since, until)}
        argument = cast(EntriesArgument, page)
        if before is not None:
            argument["before"] = before
        if within is not None:
            argument["within"] = within
        result = self._database.call(_ENTRIES, argument)
        return result["rows"], result["next"]
