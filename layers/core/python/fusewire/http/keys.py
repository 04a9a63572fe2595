"""The admin API's bodies for keys."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Final

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from fusewire.ai.tiers import Classification
from fusewire.budget.breaker import Minute
from fusewire.budget.forecast import NONE_YET
from fusewire.config import Settings
from fusewire.http.budget import forecast_body, forecast_told
from fusewire.http.identity import Scope
from fusewire.http.query import Page
from fusewire.keys import Key, Keys

_LONGEST: Final = timedelta(days=100 * 365)
_MOST_OVERLAP_SECONDS: Final = 30 * 24 * 60 * 60


def _distinct(names: list[Any]) -> list[Any]:
    if len(set(names)) < len(names):
        raise ValueError("each may be named once")
    return names


def _to_come(moment: datetime) -> datetime:
    ahead = moment - datetime.now(UTC)
    if not timedelta(0) < ahead < _LONGEST:
        raise ValueError("it must lie in the future, within 100 years; DELETE ends a key at once")
    return moment


def _filled(text: str) -> str:
    if not text.isprintable() or not text.strip():
        raise ValueError("it must be text that can be read, on one line")
    return text


Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_filled)]
Scopes = Annotated[list[Scope], Field(min_length=1), AfterValidator(_distinct)]
# Within what a JSON number holds exactly whoever reads it.
Budget = Annotated[Decimal, Field(ge=0, le=10**9, decimal_places=6)]
Requests = Annotated[int, Field(ge=1, le=10**9)]
Tokens = Annotated[int, Field(ge=1, le=10**15)]
Models = Annotated[list[Name], Field(min_length=1, max_length=200), AfterValidator(_distinct)]
Classifications = Annotated[list[Classification], Field(min_length=1), AfterValidator(_distinct)]
Expiry = Annotated[AwareDatetime, AfterValidator(_to_come)]
Tags = Annotated[dict[Name, Annotated[str, Field(max_length=200)]], Field(max_length=50)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    def given(self) -> dict[str, Any]:
        """The fields that were sent, as the database takes them."""
        return self.model_dump(exclude_unset=True)


class _Limits(_Body):
    monthly_budget_usd: Budget | None = None
    requests_per_minute: Requests | None = None
    tokens_per_minute: Tokens | None = None
    allowed_models: Models | None = None
    allowed_classifications: Classifications | None = None
    expires_at: Expiry | None = None
    tags: Tags = {}


class CreateKeyRequest(_Limits):
    """`POST /admin/keys`. What is left out or null sets no limit."""

    name: Name
    scopes: Scopes

    def given(self) -> dict[str, Any]:
        return self.model_dump()


class UpdateKeyRequest(_Limits):
    """`PATCH /admin/keys/{id}`: the fields that it names change, null takes a limit away."""

    name: Name = ""
    scopes: Scopes = []


class RotateKeyRequest(_Body):
    """`POST /admin/keys/{id}/rotate`."""

    overlap_seconds: Annotated[int, Field(ge=0, le=_MOST_OVERLAP_SECONDS)]
    """For how long the secret that is replaced goes on."""


class KeysQuery(Page):
    """What is asked of `GET /admin/keys`."""

    cursor: Annotated[str, Field(pattern="^key_[0-9a-f]{32}$")] | None = None


def key_body(key: Key, secret: str | None = None) -> dict[str, object]:
    """A key, and right after it was made its secret; amounts in USD."""
    budget = key.budget
    stored = {**key.stored, "monthly_budget_usd": key.limit, "prefix": key.prefix}
    told = stored | {
        "current_spend_usd": budget.window.spent if budget else Decimal(0),
        "reserved_usd": budget.window.reserved if budget else Decimal(0),
        "remaining_usd": budget.remaining if budget else key.limit,
        "state": budget.state if budget else "OPEN" if key.limit == 0 else "CLOSED",
        "window": {
            "id": budget.window.id,
            "opened_at": budget.window.opened_at.isoformat(),
            "resets_at": budget.window.resets_at.isoformat(),
        }
        if budget
        else None,
        "minute": _minute(budget.minute) if budget else None,
    }
    return told if secret is None else told | {"key": secret}


def key_forecast(key: Key, settings: Settings) -> dict[str, object]:
    """Where the key's spending leads; nulls before its first call of the month."""
    if key.budget is None or key.history is None:
        return forecast_told(NONE_YET)
    return forecast_body(settings, key.budget.window, key.limit, key.history)


def keys_body(keys: Keys, query: KeysQuery) -> dict[str, object]:
    """A page of keys, the newest first."""
    # One more than asked for tells whether there is a next page.
    found = keys.list(before=query.cursor, limit=query.limit + 1)
    page = found[: query.limit]
    return {"rows": [key_body(key) for key in page], "next_cursor": page[-1].id if len(found) > len(page) else None}


def _minute(minute: Minute) -> dict[str, object]:
    return {
        "requests_left": minute.requests_left,
        "tokens_left": minute.tokens_left,
        "ends_in_seconds": minute.ends_in_seconds,
    }
