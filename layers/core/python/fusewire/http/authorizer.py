"""The Lambda authorizer's verdict on a request: who calls, and whether the route is for them.

A verdict on a secret is kept for a minute in this environment, so a revoked key is let in for as long by an environment
that has just seen it; the ledger, which reads the key with every reservation, spends nothing for it even so. For admin
routes none is kept: a minute is time enough to make another key. Nothing is kept by API Gateway
(docs/decisions/0008-authorizer.md).
"""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Final, Generic, TypeVar

from pydantic import SecretStr

from fusewire.ai.tiers import Allowance
from fusewire.http.identity import SCOPES, Identity, Scope
from fusewire.keys import BOOTSTRAP, Act, Keys, same_secret

VERDICT_SECONDS: Final = 60.0
_REFUSAL_SECONDS: Final = 5.0
"""A key that is made right after somebody tried it works soon."""
_AUDITED_SECONDS: Final = 60.0
_MOST_KEPT: Final = 1024
_BOOTSTRAP: Final = Identity(BOOTSTRAP, frozenset(SCOPES))

_T = TypeVar("_T")


class UnauthorizedError(Exception):
    """API Gateway answers 401 to an authorizer that fails with this very word, and 500 to any other failure."""

    def __init__(self) -> None:
        super().__init__("Unauthorized")


class Authorizer:
    """Judges one request after the other, with what this environment remembers."""

    def __init__(self, keys: Keys, bootstrap: Callable[[], SecretStr | None]) -> None:
        """:param bootstrap: gives the value of ADMIN_API_KEY"""
        self._keys = keys
        self._bootstrap = bootstrap
        self._known: _Kept[Identity] = _Kept()
        self._unknown: _Kept[bool] = _Kept()
        self._audited: _Kept[bool] = _Kept()

    def policy(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to a REQUEST event: whether this one request may pass, and who makes it.

        :raises UnauthorizedError: for a key that is missing, wrong, expired or revoked, all alike
        :raises LedgerUnavailableError: when nobody can tell
        """
        scope = scope_of(event["resource"])
        identity = self._identified(event, anew=scope == "admin")
        if identity is None:
            if scope == "admin":
                self._audit_unknown(event)
            raise UnauthorizedError
        allowed = scope is None or scope in identity.scopes
        if not allowed and scope == "admin":
            self._audit(event, identity.key_id, "the key doesn't have the scope admin")
        statement = {
            "Action": "execute-api:Invoke",
            "Effect": "Allow" if allowed else "Deny",
            "Resource": event["methodArn"],
        }
        return {
            "principalId": identity.actor,
            "policyDocument": {"Version": "2012-10-17", "Statement": [statement]},
            "context": identity.context(),
        }

    def _identified(self, event: Mapping[str, Any], *, anew: bool) -> Identity | None:
        """:param anew: whether Postgres has to say that the key is valid now"""
        secret = secret_of(event)
        if secret is None:
            return None
        # What is kept doesn't hold the secret itself.
        digest = hashlib.sha256(secret.encode(errors="surrogatepass")).digest()
        if not anew and (known := self._known.get(digest)) is not None:
            return known
        bootstrap = self._bootstrap()
        if bootstrap is not None and same_secret(secret, bootstrap.get_secret_value()):
            return _BOOTSTRAP
        if self._unknown.get(digest):
            return None
        holder = self._keys.authenticate(secret)
        if holder is None:
            self._unknown.keep(digest, True, _REFUSAL_SECONDS)
            return None
        allowance = Allowance(holder.models, holder.classifications)
        identity = Identity(holder.key_id, frozenset(holder.scopes), allowance)
        left = VERDICT_SECONDS if holder.ends_in_seconds is None else min(holder.ends_in_seconds, VERDICT_SECONDS)
        self._known.keep(digest, identity, left)
        return identity

    def _audit_unknown(self, event: Mapping[str, Any]) -> None:
        """The database keeps the count for all environments; this one doesn't ask it more often than need be."""
        address = str(_act(event, None).source_ip).encode()
        if self._audited.get(address):
            return
        self._audit(event, None, "no valid key")
        self._audited.keep(address, True, _AUDITED_SECONDS)

    def _audit(self, event: Mapping[str, Any], key_id: str | None, why: str) -> None:
        act = _act(event, key_id)
        self._keys.refused(key_id, act, method=event["httpMethod"], path=event["path"], why=why)


class _Kept(Generic[_T]):
    """The values that were kept last, each until its time is over."""

    def __init__(self) -> None:
        self._kept: OrderedDict[bytes, tuple[float, _T]] = OrderedDict()

    def get(self, name: bytes) -> _T | None:
        until, value = self._kept.get(name, (0.0, None))
        return value if time.monotonic() < until else None

    def keep(self, name: bytes, value: _T, seconds: float) -> None:
        self._kept[name] = (time.monotonic() + seconds, value)
        self._kept.move_to_end(name)
        while len(self._kept) > _MOST_KEPT:
            self._kept.popitem(last=False)


def scope_of(resource: str) -> Scope | None:
    """What a route needs, by its path as API Gateway has it; None where any valid key will do."""
    if resource.startswith("/api/v1/admin/"):
        return "admin"
    return None if resource == "/api/v1/models" else "complete"


def secret_of(event: Mapping[str, Any]) -> str | None:
    """The key in `Authorization: Bearer`, or else in `x-api-key`, as Anthropic's SDK sends it; None without one."""
    headers = {name.lower(): value for name, value in (event.get("headers") or {}).items()}
    scheme, _, bearer = (headers.get("authorization") or "").strip().partition(" ")
    if scheme.lower() == "bearer" and bearer.strip():
        return bearer.strip()
    return (headers.get("x-api-key") or "").strip() or None


def _act(event: Mapping[str, Any], key_id: str | None) -> Act:
    context = event["requestContext"]
    return Act(key_id or "unknown", (context.get("identity") or {}).get("sourceIp"), context["requestId"])
