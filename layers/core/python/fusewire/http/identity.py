"""Who calls: what the authorizer found out about the caller's key, as API Gateway hands it on.

API Gateway passes an authorizer's context as strings in `requestContext.authorizer`, so lists travel as JSON. No key is
ever in it, only its id. The authorizer refuses by route already; each route asks again by what it needs.

Scopes that are bound to a budget travel under another name than those for the whole company: code that doesn't know of
them takes their holder for somebody without them.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from fusewire.ai.permissions import EVERYTHING, Permissions
from fusewire.config import Settings
from fusewire.errors import AuthenticationError, PermissionDeniedError
from fusewire.http.route import Access

Scope = Literal["complete", "read", "admin"]
BINDABLE: Final[frozenset[str]] = frozenset({"read", "admin"})
"""The scopes that may be for one budget and what is below it."""
EVERY_SCOPE: Final[frozenset[str]] = frozenset({"complete", "admin"})
"""Those of whoever may do everything; `admin` has all that `read` has."""
_SUFFICIENT: Final[Mapping[Access, tuple[Scope, ...]]] = {
    "complete": ("complete",),
    "read": ("read", "admin"),
    "admin": ("admin",),
    "company_read": ("read", "admin"),
    "company_admin": ("admin",),
}
"""Any of which will do; absent where every key will do."""
_COMPANY: Final[frozenset[Access]] = frozenset({"company_read", "company_admin"})


@dataclass(frozen=True, slots=True)
class Identity:
    """A caller that may call."""

    key_id: str | None
    """None where no key is asked for and none is sent."""
    scopes: frozenset[str]
    permissions: Permissions = EVERYTHING
    scope_budget_id: str | None = None
    """The budget that its scopes `read` and `admin` are bound to; None: they are for the whole company."""

    @property
    def actor(self) -> str:
        """The caller's name in the audit."""
        return self.key_id or "open"

    @property
    def is_admin(self) -> bool:
        """Whether the caller may learn the company's spend and settings from what calls are answered."""
        return "admin" in self.scopes and self.scope_budget_id is None

    def lacks(self, access: Access) -> str | None:
        """What the key needs beyond what it has, to use a route of this access; None where it may use it."""
        wanted = _SUFFICIENT.get(access)
        if wanted is None:
            return None
        if self.scopes.isdisjoint(wanted):
            return f"the scope {' or '.join(wanted)}"
        if access in _COMPANY and self.scope_budget_id is not None:
            return f"the scope {' or '.join(wanted)} for the whole company"
        return None

    def require(self, access: Access) -> None:
        """:raises PermissionDeniedError: when the key may not use a route of this access"""
        if (lacking := self.lacks(access)) is not None:
            raise PermissionDeniedError(
                f"This API key doesn't have {lacking}, which this route needs. An admin can give it that, or make a "
                "key that has it."
            )

    def context(self) -> dict[str, str]:
        """The authorizer's context, which `identity_of` reads."""
        bound = self.scopes & BINDABLE if self.scope_budget_id is not None else frozenset()
        context = {"key_id": self.actor, "scopes": json.dumps(sorted(self.scopes - bound))}
        if self.scope_budget_id is not None:
            context |= {"bound_scopes": json.dumps(sorted(bound)), "scope_budget_id": self.scope_budget_id}
        if self.permissions.models is not None:
            context["allowed_models"] = json.dumps(self.permissions.models)
        if self.permissions.classifications is not None:
            context["allowed_classifications"] = json.dumps(self.permissions.classifications)
        return context


_THIS_MACHINE: Final = ("localhost", "127.0.0.1", "::1")

OPEN: Final = Identity(None, EVERY_SCOPE)


def identity_of(event: Mapping[str, Any], settings: Settings) -> Identity:
    """The caller of this event.

    :raises AuthenticationError: with AUTH_MODE=keys, when no authorizer has identified the caller
    """
    context = (event.get("requestContext") or {}).get("authorizer") or {}
    if not context.get("key_id"):
        if settings.auth_mode == "open":
            return OPEN
        raise AuthenticationError(
            "No valid API key was given. Send it as Authorization: Bearer <key>, or as x-api-key or api-key."
        )
    return Identity(
        context["key_id"],
        frozenset((*json.loads(context["scopes"]), *(_names(context, "bound_scopes") or ()))),
        Permissions(_names(context, "allowed_models"), _names(context, "allowed_classifications")),
        context.get("scope_budget_id"),
    )


def refuse_unknown_page(origin: str | None, site: str | None, settings: Settings) -> None:
    """With AUTH_MODE=open, a browser would let any web page spend and reset: only those that are known may.

    What pages may read is for CORS; this is about requests that change something or spend, which browsers send without
    asking.

    :param origin: the request's `Origin`, which browsers send and other clients don't; not with an image's GET
    :param site: its `Sec-Fetch-Site`, which they send with that too
    :raises PermissionDeniedError: for a page that is neither of this machine nor in `CORS_ORIGINS`
    """
    if settings.auth_mode != "open" or "*" in settings.cors_origins:
        return
    if origin is None:
        unknown = site == "cross-site"
    else:
        unknown = origin not in settings.cors_origins and _host_of(origin) not in _THIS_MACHINE
    if unknown:
        page = f"Web pages of {origin[:200]!r}" if origin is not None else "Other sites' web pages"
        raise PermissionDeniedError(f"{page} may not call this gateway. CORS_ORIGINS names those that may.")


def _host_of(origin: str) -> str | None:
    try:
        return urlsplit(origin).hostname
    except ValueError:
        return None


def _names(context: Mapping[str, str], name: str) -> tuple[str, ...] | None:
    return tuple(json.loads(context[name])) if name in context else None
