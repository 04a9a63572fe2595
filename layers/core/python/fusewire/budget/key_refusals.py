"""Why a key isn't made or changed as it is asked for: what `store/functions/scopes.sql` and `keys.sql` refuse."""

from collections.abc import Mapping
from typing import Final, Literal

from fusewire.errors import FusewireError, InvalidRequestError, PermissionDeniedError

KeyRefusal = Literal["revoked", "no_budget", "no_scope_budget", "nothing_bound", "beyond"]

_NO_BUDGET: Final = "There is no such budget. GET /api/v1/admin/budgets lists those that there are."
_INVALID: Final[Mapping[str, tuple[str, str | None]]] = {
    "revoked": ("This key is revoked, for good: make another with POST /api/v1/admin/keys.", None),
    "no_budget": (_NO_BUDGET, "budget_id"),
    "no_scope_budget": (_NO_BUDGET, "scope_budget_id"),
    "nothing_bound": (
        "scope_budget_id binds the scopes read and admin, and the key has neither. Null takes it away.",
        "scope_budget_id",
    ),
}


def key_refused(refusal: KeyRefusal) -> FusewireError:
    """The error of a refusal; `PermissionDeniedError` where the caller may not do that to this key."""
    if refusal == "beyond":
        return PermissionDeniedError(
            "Your key's scopes are bound to a budget. They reach keys that stay under it and whose own read and admin, "
            "if any, are bound within it."
        )
    message, param = _INVALID[refusal]
    return InvalidRequestError(message, param=param)
