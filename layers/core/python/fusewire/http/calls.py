"""`GET /admin/calls[/{request_id}]` and `GET /admin/audit`: single entries, by pages."""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from fusewire.audit import Audit
from fusewire.budget.books import Books
from fusewire.errors import CallNotFoundError
from fusewire.http.query import Stretch, Word


class CallsQuery(Stretch):
    """What is asked of `GET /admin/calls`."""

    provider: Word | None = None
    model: Word | None = None
    key: Word | None = None
    status: Literal["reserved", "settled", "released"] | None = None
    outcome: Word | None = None
    cost_basis: Literal["actual", "bound"] | None = None
    tier: Word | None = None
    request_id: Word | None = None
    cursor: UUID | None = None


class AuditQuery(Stretch):
    """What is asked of `GET /admin/audit`."""

    action: Word | None = None
    actor: Word | None = None
    cursor: Annotated[int, Field(ge=1, lt=2**63)] | None = None


def calls_body(books: Books, query: CallsQuery, zone: str) -> dict[str, object]:
    """A page of attempts, the newest first; amounts in USD."""
    filters = _filters(query)
    rows, following = books.calls(filters, limit=query.limit, before=query.cursor, **query.times(zone))
    return {"rows": rows, "next_cursor": following}


def call_body(books: Books, request_id: str) -> dict[str, object]:
    """One call with every attempt, and what they cost together.

    :raises CallNotFoundError: when the ledger has none of that id
    """
    call = books.call(request_id)
    if call is None:
        raise CallNotFoundError(
            "The ledger has no such call: it was refused before it was reserved, or its month is archived.",
            param="request_id",
        )
    return call


def audit_body(audit: Audit, query: AuditQuery, zone: str) -> dict[str, object]:
    """A page of audit entries, the newest first."""
    filters = _filters(query)
    rows, following = audit.entries(filters, limit=query.limit, before=query.cursor, **query.times(zone))
    return {"rows": rows, "next_cursor": None if following is None else str(following)}


def _filters(query: Stretch) -> dict[str, str]:
    return query.model_dump(exclude={"since", "until", "limit", "cursor"}, exclude_none=True)
