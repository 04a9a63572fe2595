"""The Lambda authorizer: who calls, and whether the key's scopes allow the route.

An environment caches what it knows of a secret for a minute, so one that has just seen a key lets it in for that long
after it is revoked; the ledger reads the key with every reservation and spends nothing for it even so. For admin routes
nothing is cached: a minute is time enough to make another key. API Gateway caches nothing
(docs/decisions/0008-authorizer.md).
"""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Final, Generic, TypeVar

from pydantic import SecretStr

from fusewire.ai.permissions import Permissions
from fusewire.budget.audit_context import AuditContext
from fusewire.budget.key_checks import BOOTSTRAP, KeyChecks, same_secret
from fusewire.budget.keys import PREFIX
from fusewire.errors import LedgerUnavailableError, PermissionDeniedError
from fusewire.http.identity import EVERY_SCOPE, Identity
from fusewire.http.invocation import log_ledger_unavailable
from fusewire.http.paths import access_to
from fusewire.http.route import ADMINISTRATIVE

CACHE_SECONDS: Final = 60.0
_REFUSAL_SECONDS: Final = 5.0
"""A key that is made right after somebody tried it works soon."""
_AUDITED_SECONDS: Final = 60.0
_LOOKUP_SECONDS: Final = 1.0
_MAX_CACHED: Final = 1024
_BOOTSTRAP: Final = Identity(BOOTSTRAP, EVERY_SCOPE)

_T = TypeVar("_T")


class UnauthorizedError(Exception):
    """API Gateway answers 401 to an authorizer that fails with this very word, and 500 to any other failure."""

    def __init__(self) -> None:
        super().__init__("Unauthorized")


class Authorizer:
    """Authorizes one request after the other, with this environment's caches."""

    def __init__(self, keys: KeyChecks, bootstrap: Callable[[], SecretStr | None]) -> None:
        """:param bootstrap: gives the value of ADMIN_API_KEY"""
        self._keys = keys
        self._bootstrap = bootstrap
        self._known: _Cache[Identity] = _Cache()
        self._unknown: _Cache[bool] = _Cache()
        self._audited: _Cache[bool] = _Cache()
        self._next_lookup = 0.0

    def policy(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to a REQUEST event: whether this one request may pass, and who makes it.

        :raises UnauthorizedError: for a key that is missing, wrong, expired or revoked, all alike
        :raises LedgerUnavailableError: when Postgres can't be reached
        """
        access = access_to(event["httpMethod"], event["resource"], event["path"])
        identity = self._identify(event, cached=access not in ADMINISTRATIVE)
        if identity is None:
            if access in ADMINISTRATIVE:
                self._audit_unknown(event)
            raise UnauthorizedError
        lacking = identity.lacks(access)
        if lacking is not None and access in ADMINISTRATIVE:
            self._audit(event, identity.key_id, f"the key doesn't have {lacking}")
        elif lacking is not None:
            self._record_denied(event, identity.key_id or "")
        statement = {
            "Action": "execute-api:Invoke",
            "Effect": "Allow" if lacking is None else "Deny",
            "Resource": event["methodArn"],
        }
        return {
            "principalId": identity.actor,
            "policyDocument": {"Version": "2012-10-17", "Statement": [statement]},
            "context": identity.context(),
        }

    def is_admin(self, event: Mapping[str, Any]) -> bool:
        """Whether the caller is an admin of the whole company, on a route that everybody may call.

        Keys that this environment doesn't know are looked up once a second at most: anybody can send any number.
        :raises LedgerUnavailableError: when Postgres can't be reached
        """
        secret = secret_of(event)
        if secret is None:
            return False
        digest = _digest(secret)
        if self._known.get(digest) is None and not self._is_bootstrap(secret):
            if self._unknown.get(digest) or time.monotonic() < self._next_lookup:
                return False
            self._next_lookup = time.monotonic() + _LOOKUP_SECONDS
        identity = self._identify(event, cached=True)
        return identity is not None and identity.is_admin

    def _identify(self, event: Mapping[str, Any], *, cached: bool) -> Identity | None:
        """:param cached: whether a cached answer will do, rather than one that Postgres gives now"""
        secret = secret_of(event)
        if secret is None:
            return None
        digest = _digest(secret)
        if cached and (known := self._known.get(digest)) is not None:
            return known
        if self._is_bootstrap(secret):
            return _BOOTSTRAP
        if self._unknown.get(digest):
            return None
        key = self._keys.authenticate(secret, event["requestContext"]["requestId"])
        if key is None:
            self._unknown.put(digest, True, _REFUSAL_SECONDS)
            return None
        permissions = Permissions(key.models, key.classifications)
        identity = Identity(key.key_id, frozenset(key.scopes), permissions, key.scope_budget_id)
        left = CACHE_SECONDS if key.ends_in_seconds is None else min(key.ends_in_seconds, CACHE_SECONDS)
        self._known.put(digest, identity, left)
        return identity

    def _is_bootstrap(self, secret: str) -> bool:
        bootstrap = self._bootstrap()
        return bootstrap is not None and same_secret(secret, bootstrap.get_secret_value())

    def _audit_unknown(self, event: Mapping[str, Any]) -> None:
        """The database keeps the count for all environments; this one doesn't ask it more often than need be."""
        address = str(_audit_context(event, None).source_ip).encode()
        if self._audited.get(address):
            return
        self._audit(event, None, "no valid key")
        self._audited.put(address, True, _AUDITED_SECONDS)

    def _record_denied(self, event: Mapping[str, Any], key_id: str) -> None:
        try:
            self._keys.record_refused(key_id, PermissionDeniedError.code, event["requestContext"]["requestId"])
        except LedgerUnavailableError as unavailable:
            log_ledger_unavailable(unavailable)  # it is refused whether or not it can be counted

    def _audit(self, event: Mapping[str, Any], key_id: str | None, why: str) -> None:
        audit_context = _audit_context(event, key_id)
        self._keys.refused(key_id, audit_context, method=event["httpMethod"], path=event["path"], why=why)


class _Cache(Generic[_T]):
    """The values that were put last, each until it expires."""

    def __init__(self) -> None:
        self._entries: OrderedDict[bytes, tuple[float, _T]] = OrderedDict()

    def get(self, name: bytes) -> _T | None:
        until, value = self._entries.get(name, (0.0, None))
        return value if time.monotonic() < until else None

    def put(self, name: bytes, value: _T, seconds: float) -> None:
        self._entries[name] = (time.monotonic() + seconds, value)
        self._entries.move_to_end(name)
        while len(self._entries) > _MAX_CACHED:
            self._entries.popitem(last=False)


def _digest(secret: str) -> bytes:
    """The caches don't hold the secret itself."""
    return hashlib.sha256(secret.encode(errors="surrogatepass")).digest()


def secret_of(event: Mapping[str, Any]) -> str | None:
    """The key in `Authorization: Bearer`, or else in `x-api-key` or `api-key`, as Anthropic's SDK and Azure's clients
    send it; None without one.

    A client may have to send something in the one and the key in the other: of two, a fusewire key is the one.
    """
    headers = {name.lower(): value for name, value in (event.get("headers") or {}).items()}
    scheme, _, bearer = (headers.get("authorization") or "").strip().partition(" ")
    sent = [bearer if scheme.lower() == "bearer" else "", headers.get("x-api-key") or "", headers.get("api-key") or ""]
    given = [key for each in sent if (key := each.strip())]
    return next((each for each in given if each.startswith(PREFIX)), given[0] if given else None)


def sends_fusewire_key(event: Mapping[str, Any]) -> bool:
    """Whether the caller sends a key of ours, valid or not: where none is asked for, only such a key counts."""
    return (secret_of(event) or "").startswith(PREFIX)


def _audit_context(event: Mapping[str, Any], key_id: str | None) -> AuditContext:
    context = event["requestContext"]
    return AuditContext(key_id or "unknown", (context.get("identity") or {}).get("sourceIp"), context["requestId"])
