"""`/admin/keys`: what callers may do and spend. An attribute of a key is declared once, in `KeyAttributes`."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Final, Self

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, WithJsonSchema

from fusewire.ai.permissions import Classification
from fusewire.ai.schema import Items
from fusewire.budget.forecast import NONE_YET
from fusewire.budget.keys import Key, Keys
from fusewire.budget.wire import Period, State
from fusewire.config import Settings
from fusewire.http.admin.budget import ForecastResponse, WindowResponse, forecast_of
from fusewire.http.admin.query import BudgetId, Page, Word
from fusewire.http.identity import Scope
from fusewire.http.schema import Money, RequestModel, ResponseModel, Time
from fusewire.rate_limit import RateLimitState

_MAX_LIFETIME: Final = timedelta(days=100 * 365)
_MAX_OVERLAP_SECONDS: Final = 30 * 24 * 60 * 60


def _distinct(names: list[Any]) -> list[Any]:
    if len(set(names)) < len(names):
        raise ValueError("each may be named once")
    return names


def _in_the_future(moment: datetime) -> datetime:
    ahead = moment - datetime.now(UTC)
    if not timedelta(0) < ahead < _MAX_LIFETIME:
        raise ValueError("it must lie in the future, within 100 years; DELETE ends a key at once")
    return moment


def _readable(text: str) -> str:
    if not text.isprintable() or not text.strip():
        raise ValueError("it must be text that can be read, on one line")
    return text


Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_readable)]
Scopes = Annotated[Items[Scope], Field(min_length=1), AfterValidator(_distinct)]
# Within what a JSON number holds exactly whoever reads it.
Budget = Annotated[
    Decimal,
    Field(ge=0, le=10**9, decimal_places=6),
    WithJsonSchema({"type": "number", "description": "USD, exact"}, mode="serialization"),
]
Requests = Annotated[int, Field(ge=1, le=10**9)]
Tokens = Annotated[int, Field(ge=1, le=10**15)]
Models = Annotated[list[Name], Field(min_length=1, max_length=200), AfterValidator(_distinct)]
Classifications = Annotated[Items[Classification], Field(min_length=1), AfterValidator(_distinct)]
Expiry = Annotated[AwareDatetime, AfterValidator(_in_the_future)]
Tags = Annotated[dict[Name, Annotated[str, Field(max_length=200)]], Field(max_length=50)]


class KeyAttributes(BaseModel):
    """What an admin says of a key. A null or an absent limit sets none.

    A new attribute is a line here, and a migration that adds a column of that name to `api_key`; requests, answers, the
    statements that write and read it, the OpenAPI document and what the command line shows follow.
    """

    model_config = ConfigDict(defer_build=True)

    name: Name
    scopes: Scopes
    scope_budget_id: BudgetId | None = None
    """The node of the tree that the scopes `read` and `admin` are bound to: its holder sees and changes that
    subtree alone; null: the whole company."""
    monthly_budget_usd: Budget | None = None
    """USD a `period`."""
    period: Period = "month"
    budget_id: BudgetId | None = None
    """The node of the tree of budgets that the key is under; null: the company's budget."""
    per_user_limit_usd: Budget | None = None
    """USD that each `user` of its requests may spend in a period; each then has to name one."""
    requests_per_minute: Requests | None = None
    tokens_per_minute: Tokens | None = None
    allowed_models: Models | None = None
    allowed_classifications: Classifications | None = None
    expires_at: Expiry | None = None
    tags: Tags = {}


class CreateKeyRequest(KeyAttributes, RequestModel):
    """`POST /admin/keys`."""

    def attributes(self) -> dict[str, Any]:
        """Every attribute, as the database takes them."""
        return self.model_dump()


class UpdateKeyRequest(KeyAttributes, RequestModel):
    """`PATCH /admin/keys/{id}`: the attributes that it names change, null takes a limit away."""

    name: Name = ""
    scopes: Scopes = []

    def attributes(self) -> dict[str, Any]:
        """The attributes that were sent, as the database takes them."""
        return self.model_dump(exclude_unset=True)


class RotateKeyRequest(RequestModel):
    """`POST /admin/keys/{id}/rotate`."""

    overlap_seconds: Annotated[int, Field(ge=0, le=_MAX_OVERLAP_SECONDS)]
    """For how long the secret that is replaced goes on."""


class KeysQuery(Page):
    """The query string of `GET /admin/keys`."""

    search: Word | None = None
    """Keys alone whose name, id, secret's prefix or tags hold this text, in letters of either case."""
    cursor: Annotated[str, Field(pattern="^key_[0-9a-f]{32}$")] | None = None


class KeySecret(ResponseModel):
    """A secret of a key, by its beginning; the one that is replaced expires."""

    prefix: str
    created_at: Time
    expires_at: Time | None


class KeyRateLimit(ResponseModel):
    """What is left of this minute; null where the key has no such limit."""

    requests_left: int | None
    tokens_left: int | None
    ends_in_seconds: int


class _KeyId(ResponseModel):
    id: str


class KeyResponse(KeyAttributes, _KeyId):
    """A key, and how its budget stands. `window` and `minute` are null before its first call of the period."""

    expires_at: Time | None  # type: ignore[assignment] # as Postgres writes it
    secrets: list[KeySecret]
    created_at: Time
    created_by: str
    revoked_at: Time | None
    prefix: str
    current_spend_usd: Money
    reserved_usd: Money
    remaining_usd: Money | None
    state: State
    window: WindowResponse | None
    minute: KeyRateLimit | None

    @classmethod
    def of(cls, shown: Key, /, **more: object) -> Self:
        """:param more: the fields that a subclass adds"""
        # Not validated: what is stored is shown, also where the rules for requests have become stricter since.
        fields: dict[str, Any] = {**shown.stored, **_standing(shown), **more}
        return cls.model_construct(**fields)  # type: ignore[return-value] # mypy's plugin


class KeyWithSecret(KeyResponse):
    """A key right after a secret of it was made; `key` is that secret, shown this once."""

    key: str


class KeyWithForecast(KeyResponse):
    """A key, and where its spending leads."""

    forecast: ForecastResponse


class KeyPage(ResponseModel):
    """Keys, the newest first."""

    rows: list[KeyResponse]
    next_cursor: str | None


def key_forecast(key: Key, settings: Settings) -> ForecastResponse:
    """Where the key's spending leads; nulls before its first call of the period."""
    if key.budget is None or key.history is None:
        return ForecastResponse.of(NONE_YET)
    return ForecastResponse.of(forecast_of(settings, key.budget.window, key.limit, key.history))


def key_page(keys: Keys, query: KeysQuery, within: str | None) -> KeyPage:
    """A page of keys.

    :param within: the node that the caller's scopes are bound to; None: they aren't
    """
    # One more than asked for shows whether there is a next page.
    found = keys.list(before=query.cursor, limit=query.limit + 1, search=query.search, within=within)
    page = found[: query.limit]
    return KeyPage(
        rows=[KeyResponse.of(key) for key in page], next_cursor=page[-1].id if len(found) > len(page) else None
    )


def _standing(key: Key) -> dict[str, object]:
    """What is shown of a key beside its stored attributes; amounts in USD."""
    budget, per_user = key.budget, key.stored.get("per_user_limit_usd")
    return {
        "monthly_budget_usd": key.limit,
        "per_user_limit_usd": None if per_user is None else Decimal(per_user),
        "secrets": [KeySecret.model_validate(secret) for secret in key.stored["secrets"]],
        "prefix": key.prefix,
        "current_spend_usd": budget.window.spent if budget else Decimal(0),
        "reserved_usd": budget.window.reserved if budget else Decimal(0),
        "remaining_usd": budget.remaining if budget else key.limit,
        "state": budget.state if budget else "OPEN" if key.limit == 0 else "CLOSED",
        "window": WindowResponse.of(budget.window) if budget else None,
        "minute": _rate_limit(budget.rate_limit) if budget else None,
    }


def _rate_limit(limit: RateLimitState) -> KeyRateLimit:
    return KeyRateLimit(
        requests_left=limit.requests_left, tokens_left=limit.tokens_left, ends_in_seconds=limit.ends_in_seconds
    )
