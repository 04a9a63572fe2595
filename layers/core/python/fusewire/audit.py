"""The audit, read back. It is written by Postgres alone, in the transactions of what it describes (`audit_append`)."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from fusewire.budget.books import between
from fusewire.db import Database

_STRETCH: Final = 20_000


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
    ) -> tuple[list[dict[str, Any]], int | None]:
        """
        :param filters: by `action` or `actor`
        :param before: where the page before ended
        :return: the entries, and where the next page begins; a page may be short, or empty, with another to follow
        :raises LedgerUnavailableError: when Postgres can't be reached
        """
        argument = {**filters, "limit": limit, "stretch": _STRETCH, **between(since, until)}
        if before is not None:
            argument["before"] = before
        told = self._database.call("SELECT audit_entries($1::jsonb)", argument)
        return told["rows"], told["next"]
