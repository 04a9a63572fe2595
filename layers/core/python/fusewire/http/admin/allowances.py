"""`/admin/allowances`: what servers add to prompts, where a usage has shown that it is more than the settings say."""

from urllib.parse import unquote

from fusewire.budget.audit_context import AuditContext
from fusewire.budget.raised_allowances import RaisedAllowances
from fusewire.http.admin.query import Page, Word
from fusewire.http.schema import ResponseModel, Time


class AllowancesQuery(Page):
    """The query string of `GET /admin/allowances`."""

    cursor: Word | None = None


class AllowanceResponse(ResponseModel):
    """The tokens that a model's server is allowed to add to a prompt, since a call's usage was beyond its bound."""

    id: str
    """`provider/model`, the model in small letters."""
    provider: str
    model: str
    tokens: int
    raised_at: Time
    request_id: str | None
    """Of that call, while the ledger has it."""


class AllowancePage(ResponseModel):
    """Raised allowances, by provider and model."""

    rows: list[AllowanceResponse]
    next_cursor: str | None


def allowance_page(allowances: RaisedAllowances, query: AllowancesQuery) -> AllowancePage:
    """A page of raised allowances."""
    rows = allowances.list(after=query.cursor, limit=query.limit + 1)
    shown = [AllowanceResponse.model_validate(row) for row in rows[: query.limit]]
    return AllowancePage(rows=shown, next_cursor=shown[-1].id if len(rows) > query.limit else None)


def remove_allowance(allowances: RaisedAllowances, id: str, audit_context: AuditContext) -> AllowanceResponse:
    """Take one back.

    :param id: `provider/model`, with its slashes as they are or as %2F
    """
    return AllowanceResponse.model_validate(allowances.remove(unquote(id), audit_context))
