"""`GET /me`: what the caller's key may do and has spent. Nothing of any budget above its own is in it."""

from typing import Any

from fusewire.budget.key_checks import BOOTSTRAP
from fusewire.budget.keys import Keys
from fusewire.budget.wire import Period, State
from fusewire.http.admin.budget import WindowResponse
from fusewire.http.admin.keys import KeyRateLimit, KeyResponse
from fusewire.http.identity import Identity
from fusewire.http.schema import Money, ResponseModel, Time


class ScopeBudget(ResponseModel):
    """A budget of the tree, by its name."""

    id: str
    name: str


class MeResponse(ResponseModel):
    """The caller's own key, by the names of the admin API's keys; a limit that is null isn't set.

    `ADMIN_API_KEY` (`bootstrap`), and whoever needs no key (`id` is null), have no limits and no budget of their own:
    their amounts are null. `window` and `minute` are null before the key's first call of its period.
    """

    id: str | None
    name: str | None
    scopes: list[str]
    scope_budget: ScopeBudget | None
    """The budget of the tree that `read` and `admin` are bound to; null: they are for the whole company."""
    monthly_budget_usd: Money | None
    period: Period | None
    per_user_limit_usd: Money | None
    requests_per_minute: int | None
    tokens_per_minute: int | None
    allowed_models: list[str] | None
    allowed_classifications: list[str] | None
    expires_at: Time | None
    current_spend_usd: Money | None
    reserved_usd: Money | None
    remaining_usd: Money | None
    state: State | None
    window: WindowResponse | None
    minute: KeyRateLimit | None
    timezone: str
    """The zone that the gateway's days and months are in (`AI_BUDGET_TIMEZONE`), by its name."""


def me_response(keys: Keys, identity: Identity, timezone: str) -> MeResponse:
    """
    :param timezone: the budget's, by its name
    :raises AuthenticationError: when the key was revoked or has expired since the authorizer saw it
    :raises LedgerUnavailableError: when Postgres can't be reached
    """
    fields: dict[str, Any] = dict.fromkeys(MeResponse.model_fields) | {"timezone": timezone}
    if identity.key_id is None or identity.key_id == BOOTSTRAP:
        fields |= {"id": identity.key_id, "scopes": sorted(identity.scopes)}
    else:
        key, bound_to = keys.own(identity.key_id)
        # The key's own answer, of which only what concerns its holder is told.
        shown = dict(KeyResponse.of(key))
        fields |= {name: value for name, value in shown.items() if name in fields}
        if bound_to is not None:
            fields["scope_budget"] = ScopeBudget(id=shown["scope_budget_id"], name=bound_to)
    return MeResponse.model_construct(**fields)
