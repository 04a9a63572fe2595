"""`/admin/prices`: the prices that administrators set, dated, beside the settings' and the snapshot's."""

from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Final
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, ConfigDict, Field, WithJsonSchema

from fusewire.budget.audit_context import AuditContext
from fusewire.budget.model_names import name_of
from fusewire.budget.price_history import PriceHistory, PriceRow, PriceStatus
from fusewire.budget.pricing import PriceBook, PriceEntryError
from fusewire.errors import InvalidRequestError
from fusewire.http.admin.query import Page, Word
from fusewire.http.schema import RequestModel, ResponseModel, Time
from fusewire.price_overrides import PriceOverride

if TYPE_CHECKING:
    from fusewire.ai.registry import Registry

_FLOAT_DIGITS: Final = 15


def _readable(text: str) -> str:
    if not text.isprintable() or text != text.strip():
        raise ValueError("it must be text that can be read, on one line")
    return text


def _parsed(value: Any) -> Any:  # noqa: ANN401 - whatever was sent
    # Lists as tuples, integers as decimals: what strict mode keeps apart, and JSON doesn't.
    return PriceOverride.model_validate(_exact(value), strict=False) if isinstance(value, dict) else value


def _exact(value: Any) -> Any:  # noqa: ANN401
    """The numbers as they were written: pydantic hands a validator floats, whose shortest text is what was sent.

    :raises ValueError: for one with more digits than a float holds
    """
    if isinstance(value, dict):
        return {name: _exact(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_exact(each) for each in value]
    if not isinstance(value, float):
        return value
    number = Decimal(repr(value))
    if len(number.as_tuple().digits) > _FLOAT_DIGITS:
        raise ValueError(f"a number of more than {_FLOAT_DIGITS} digits must be sent as a string")
    return number


Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_readable)]
Entry = Annotated[PriceOverride, BeforeValidator(_parsed)]
Uuid = Annotated[str, WithJsonSchema({"type": "string", "format": "uuid"})]


class AddPriceRequest(RequestModel):
    """`POST /admin/prices`."""

    model_config = ConfigDict(defer_build=True)

    provider: Name
    model: Name
    """In small letters, as names are compared. `*`: each model of the provider that has no price of its own here."""
    price: Entry
    """As an entry of `AI_PRICE_OVERRIDES`."""
    effective_from: AwareDatetime | None = None
    """Now, or later; by default now."""
    staged: bool = False
    """Only proposed: `POST /admin/prices/{id}` applies it."""
    source: Name = "admin"
    """Where it was found."""


class ApplyPriceRequest(RequestModel):
    """`POST /admin/prices/{id}`."""

    model_config = ConfigDict(defer_build=True)

    effective_from: AwareDatetime | None = None
    """Now, or later; by default now."""


class PricesQuery(Page):
    """The query string of `GET /admin/prices`."""

    status: PriceStatus | None = None
    provider: Word | None = None
    model: Word | None = None
    cursor: UUID | None = None


class PriceResponse(ResponseModel):
    """A price that an administrator set: USD per million tokens, from when on, by whom."""

    id: Uuid
    provider: str
    model: str
    price: dict[str, Any]
    source: str
    status: PriceStatus
    effective_from: Time | None
    created_at: Time
    created_by: str
    applied_by: str | None
    removed_at: Time | None
    removed_by: str | None

    @classmethod
    def of(cls, row: PriceRow) -> "PriceResponse":
        return cls.model_validate({**row, "price": row["entry"]})


class PricePage(ResponseModel):
    """Prices, the newest first, and the version that is in force."""

    version: int
    rows: list[PriceResponse]
    next_cursor: str | None


def price_page(history: PriceHistory, query: PricesQuery) -> PricePage:
    """A page of prices."""
    version, rows = history.list(
        before=query.cursor, limit=query.limit + 1, status=query.status, provider=query.provider, model=query.model
    )
    shown = [PriceResponse.of(row) for row in rows[: query.limit]]
    return PricePage(version=version, rows=shown, next_cursor=shown[-1].id if len(rows) > query.limit else None)


def add_price(
    history: PriceHistory,
    prices: PriceBook,
    registry: "Registry",
    request: AddPriceRequest,
    audit_context: AuditContext,
) -> PriceResponse:
    """Add or stage a price.

    :raises InvalidRequestError: no provider is called that, or the entry can't be the model's price
    """
    if request.provider not in registry.ids():
        raise InvalidRequestError(f"provider must be one of {', '.join(registry.ids())}.", param="provider")
    if request.staged and request.effective_from is not None:
        raise InvalidRequestError(
            "A staged price begins when it is applied: say effective_from there.", param="effective_from"
        )
    model = name_of(request.provider, request.model)
    try:
        prices.accept(request.provider, model, request.price)
    except PriceEntryError as error:
        raise InvalidRequestError(f"price: {error}.", param="price") from error
    row = history.add(
        request.provider,
        model,
        request.price.model_dump(exclude_none=True),
        source=request.source,
        effective_from=request.effective_from,
        staged=request.staged,
        audit_context=audit_context,
    )
    return PriceResponse.of(row)


def apply_price(
    history: PriceHistory, id: str, effective_from: datetime | None, audit_context: AuditContext
) -> PriceResponse:
    """Put a staged price in force."""
    return PriceResponse.of(history.apply(_uuid(id), effective_from, audit_context))


def remove_price(history: PriceHistory, id: str, audit_context: AuditContext) -> PriceResponse:
    """End a price."""
    return PriceResponse.of(history.remove(_uuid(id), audit_context))


def _uuid(id: str) -> UUID:
    try:
        return UUID(id)
    except ValueError:
        raise InvalidRequestError(
            "The id of a price is a UUID: GET /api/v1/admin/prices lists them.", param="id"
        ) from None
