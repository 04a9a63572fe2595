"""`GET /admin/calls[/{request_id}]` and `GET /admin/audit`: single entries, by pages."""

from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from pydantic import Field, WithJsonSchema

from fusewire.budget.audit import Audit
from fusewire.budget.usage import Books, CallRow, RefusedRow
from fusewire.errors import CallNotFoundError
from fusewire.http.admin.query import TimeRange, Word
from fusewire.http.schema import Money, ResponseModel, Time

Status = Literal["reserved", "settled", "released"]
CostBasis = Literal["actual", "bound", "adjustment"]
_OF_ATTEMPTS: Final = {"provider", "model", "status", "cost_basis", "tier"}
"""Filters that no refused call has."""
Day = Annotated[str, WithJsonSchema({"type": "string", "format": "date"})]


class CallsQuery(TimeRange):
    """The query string of `GET /admin/calls`."""

    provider: Word | None = None
    model: Word | None = None
    key: Word | None = None
    status: Status | Literal["refused"] | None = None
    """`refused`: the calls that nothing was reserved for, alone and by pages."""
    outcome: Word | None = None
    cost_basis: CostBasis | None = None
    tier: Word | None = None
    request_id: Word | None = None
    cursor: UUID | None = None


class AuditQuery(TimeRange):
    """The query string of `GET /admin/audit`."""

    action: Word | None = None
    actor: Word | None = None
    cursor: Annotated[int, Field(ge=1, lt=2**63)] | None = None


class AttemptResponse(ResponseModel):
    """One attempt at one provider, or an adjustment; the amounts are null until it is settled, and there is never any
    content."""

    id: Annotated[str, WithJsonSchema({"type": "string", "format": "uuid"})]
    request_id: str
    attempt: int
    operation: Literal["chat", "embedding", "probe", "adjustment"]
    provider: str
    model: str
    tier: str | None
    key_id: str | None
    status: Status
    outcome: str | None
    bound_usd: Money
    cost_usd: Money | None
    cost_basis: CostBasis | None
    input_tokens: int | None
    output_tokens: int | None
    cached_input_tokens: int | None
    cache_write_tokens: int | None
    reasoning_tokens: int | None
    reserved_at: Time
    expires_at: Time
    ended_at: Time | None
    day: Day | None
    window_id: int
    key_window_id: int | None
    path_window_ids: list[int] | None
    """Of its user's budget and of the tree's, from the key up; null where there is none."""


class RefusedCallsResponse(ResponseModel):
    """The calls of one key that were refused with one code in one minute. Nothing was reserved for them."""

    key_id: str | None
    code: str
    minute: Time
    calls: int
    last_at: Time
    last_request_id: str | None

    @classmethod
    def of(cls, row: RefusedRow) -> "RefusedCallsResponse":
        return cls.model_validate(row | {"key_id": row["key_id"] or None})


class CallPage(ResponseModel):
    """Attempts, the newest first; and on the first page, unless they are filtered by what only attempts have, refused
    calls, the newest first."""

    rows: list[AttemptResponse]
    refused: list[RefusedCallsResponse]
    next_cursor: str | None


class CallResponse(ResponseModel):
    """One call with every attempt, and what they cost together."""

    request_id: str
    cost_usd: Money
    attempts: list[AttemptResponse]


class AuditEntry(ResponseModel):
    """Who did what. `hash` covers the entry and the one before it."""

    n: int
    at: Time
    actor: str
    action: str
    source_ip: str | None
    request_id: str | None
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    hash: str


class AuditPage(ResponseModel):
    """Audit entries, the newest first."""

    rows: list[AuditEntry]
    next_cursor: str | None


def call_page(books: Books, query: CallsQuery, zone: str, within: str | None) -> CallPage:
    """A page of attempts.

    :param zone: of the days that the query names
    :param within: the node that the caller's scopes are bound to; None: they aren't
    """
    filters, times = _filters(query), query.times(zone)
    rows: Sequence[CallRow] = ()
    refused: Sequence[RefusedRow] = ()
    following: UUID | None = None
    if query.status == "refused":
        refused, following = books.refused(filters, limit=query.limit, before=query.cursor, within=within, **times)
    else:
        rows, following = books.calls(filters, limit=query.limit, before=query.cursor, within=within, **times)
        if query.cursor is None and not filters.keys() & _OF_ATTEMPTS:
            refused, _ = books.refused(filters, limit=query.limit, before=None, within=within, **times)
    return CallPage(
        rows=[AttemptResponse.model_validate(row) for row in rows],
        refused=[RefusedCallsResponse.of(row) for row in refused],
        next_cursor=None if following is None else str(following),
    )


def call_response(books: Books, request_id: str, within: str | None) -> CallResponse:
    """
    :param within: the node that the caller's scopes are bound to; None: they aren't
    :raises CallNotFoundError: when the ledger has no call of that id
    """
    call = books.call(request_id, within=within)
    if call is None:
        raise CallNotFoundError(
            "The ledger has no such call: it was refused before it was reserved, or its month is archived.",
            param="request_id",
        )
    return CallResponse.model_validate(call)


def audit_page(audit: Audit, query: AuditQuery, zone: str, within: str | None) -> AuditPage:
    """A page of audit entries.

    :param zone: of the days that the query names
    :param within: the node that the caller's scopes are bound to; None: they aren't
    """
    filters = _filters(query)
    rows, following = audit.entries(filters, limit=query.limit, before=query.cursor, within=within, **query.times(zone))
    return AuditPage.model_validate({"rows": rows, "next_cursor": None if following is None else str(following)})


def _filters(query: TimeRange) -> dict[str, str]:
    return query.model_dump(exclude={"since", "until", "limit", "cursor"}, exclude_none=True)
