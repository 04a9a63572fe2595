"""Who calls: what the authorizer found out about the caller's key, as API Gateway hands it on.

API Gateway passes an authorizer's context as strings in `requestContext.authorizer`, so lists travel as JSON. No key is
ever in it, only its id. The authorizer refuses by route already; each route asks again by what it needs.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from fusewire.ai.permissions import EVERYTHING, Permissions
from fusewire.config import Settings
from fusewire.errors import AuthenticationError, PermissionDeniedError

Scope = Literal["complete", "admin"]
SCOPES: Final[tuple[Scope, ...]] = ("complete", "admin")


@dataclass(frozen=True, slots=True)
class Identity:
    """A caller that may call."""

    key_id: str | None
    """None where no key is asked for and none is sent."""
    scopes: frozenset[str]
    permissions: Permissions = EVERYTHING

    @property
    def actor(self) -> str:
        """The caller's name in the audit."""
        return self.key_id or "open"

    @property
    def is_admin(self) -> bool:
        """Whether the caller may learn the company's spend."""
        return "admin" in self.scopes

    def require(self, scope: Scope) -> None:
        """:raises PermissionDeniedError: when the key doesn't have this scope"""
        if scope not in self.scopes:
            raise PermissionDeniedError(
                f"This API key doesn't have the scope {scope}, which this route needs. An admin can give it that, or "
                "make a key that has it."
            )

    def context(self) -> dict[str, str]:
        """The authorizer's context, which `identity_of` reads."""
        context = {"key_id": self.actor, "scopes": json.dumps(sorted(self.scopes))}
        if self.permissions.models is not None:
            context["allowed_models"] = json.dumps(self.permissions.models)
        if self.permissions.classifications is not None:
            context["allowed_classifications"] = json.dumps(self.permissions.classifications)
        return context


_THIS_MACHINE: Final = ("localhost", "127.0.0.1", "::1")

OPEN: Final = Identity(None, frozenset(SCOPES))


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
        frozenset(json.loads(context["scopes"])),
        Permissions(_names(context, "allowed_models"), _names(context, "allowed_classifications")),
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
