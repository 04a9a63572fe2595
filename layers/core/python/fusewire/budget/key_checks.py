"""What each request asks of the keys: whose a secret is, whether its minute is used up, and who was refused.

The keys themselves are made and changed in `keys.py`; `store/functions/keys.sql` is the other side of both.
"""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, NotRequired, TypedDict

from fusewire.budget.breaker import KeyBudget
from fusewire.budget.wire import Amount, KeyBudgetRow, SettingsArgument, sql_settings
from fusewire.config import Settings
from fusewire.store.db import Database, Statement

if TYPE_CHECKING:
    from fusewire.budget.audit_context import AuditContext, AuditContextArgument

BOOTSTRAP: Final = "bootstrap"
"""The id of ADMIN_API_KEY, which is no row: it works on an empty database, and has neither budget nor limits."""

_MAX_PATH: Final = 200


@dataclass(frozen=True, slots=True)
class AuthenticatedKey:
    """Whom a valid secret belongs to, and what the key may do."""

    key_id: str
    scopes: tuple[str, ...]
    models: tuple[str, ...] | None = None
    classifications: tuple[str, ...] | None = None
    ends_in_seconds: float | None = None
    """Until the key or this secret of it expires."""
    scope_budget_id: str | None = None
    """The budget of the tree that its scopes `read` and `admin` are bound to; None: the whole company."""


class AuthenticateArgument(TypedDict):
    """For `key_authenticate`."""

    hash: str
    request_id: NotRequired[str]
    """Of the call that is refused if the key is revoked or has expired."""
    knows_bound: NotRequired[Literal[True]]
    """Code that doesn't know of bound scopes isn't told of them."""


class AuthenticatedRow(TypedDict):
    """What `key_authenticate` returns."""

    hash: str
    id: str
    scopes: list[str]
    scope_budget_id: str | None
    allowed_models: list[str] | None
    allowed_classifications: list[str] | None
    ends_in: Amount | None


class RefusedCallArgument(TypedDict):
    """A refused call, for a statement that counts it in its key's rate limit too."""

    code: str | None
    """None where it is refused only if the rate limit is used up."""
    request_id: str


class CallRefusedArgument(TypedDict):
    """For `call_refused`."""

    key_id: str
    code: str
    request_id: str


class CountArgument(TypedDict):
    """For `key_count_refused`."""

    settings: SettingsArgument
    key_id: str
    look: NotRequired[Literal[True]]
    refusal: NotRequired[RefusedCallArgument]


class CountResult(TypedDict):
    """What `key_count_refused` returns."""

    used_up: bool
    key: KeyBudgetRow | None


class RefusedArgument(TypedDict):
    """For `admin_refused`."""

    settings: SettingsArgument
    key_id: str | None
    audit_context: "AuditContextArgument"
    call: dict[str, str]
    """Its `method` and `path`."""
    reason: str


_AUTHENTICATE: Final = Statement[AuthenticateArgument, AuthenticatedRow | None]("SELECT key_authenticate($1::jsonb)")
_COUNT_REFUSED: Final = Statement[CountArgument, CountResult]("SELECT key_count_refused($1::jsonb)")
_CALL_REFUSED: Final = Statement[CallRefusedArgument, bool]("SELECT call_refused($1::jsonb)")
_REFUSED: Final = Statement[RefusedArgument, bool]("SELECT admin_refused($1::jsonb)")


class KeyChecks:
    """The keys of one database, as requests meet them."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = sql_settings(settings)

    def authenticate(self, secret: str, request_id: str | None = None) -> AuthenticatedKey | None:
        """Who has this secret; None when it is unknown, expired or revoked.

        :param request_id: of the call that is refused then, to be gathered where the key is known
        :raises LedgerUnavailableError: when nobody can tell
        """
        wanted = hash_of(secret)
        argument: AuthenticateArgument = {"hash": wanted, "knows_bound": True}
        if request_id is not None:
            argument["request_id"] = request_id
        row = self._database.call(_AUTHENTICATE, argument)
        if row is None or not hmac.compare_digest(row["hash"], wanted):
            return None
        ends_in_seconds: float | None = None if row["ends_in"] is None else float(row["ends_in"])
        return AuthenticatedKey(
            row["id"],
            tuple(row["scopes"]),
            _names(row["allowed_models"]),
            _names(row["allowed_classifications"]),
            ends_in_seconds,
            row["scope_budget_id"],
        )

    def refused(self, key_id: str | None, audit_context: "AuditContext", *, method: str, path: str, why: str) -> None:
        """Audit a call of an admin route that was refused, and count it in its key's rate limit.

        :param key_id: None for callers without a valid key; of those one an address is written a minute
        :param path: of which the first 200 characters are kept
        """
        path = path[:_MAX_PATH]
        argument: RefusedArgument = {
            "settings": self._settings,
            "key_id": key_id,
            "audit_context": audit_context.argument(),
            "call": {"method": method, "path": path},
            "reason": why,
        }
        if self._database.call(_REFUSED, argument):
            audit_context.log("admin.refused", key_id=key_id, path=path, reason=why)

    def check_rate(self, key_id: str, request_id: str | None = None) -> None:
        """
        :param request_id: of the call that is refused then, to be gathered
        :raises RateLimitedError: when the key's requests of this minute are used up
        """
        argument: CountArgument = {"settings": self._settings, "key_id": key_id, "look": True}
        if request_id is not None:
            argument["refusal"] = {"code": None, "request_id": request_id}
        self._rate(argument)

    def count_refused(self, key_id: str, refusal: RefusedCallArgument | None = None) -> None:
        """Count a request for which nothing was reserved.

        :param refusal: of a call that was refused, to be gathered in the same statement
        :raises RateLimitedError: when the key's requests of this minute were used up before it
        """
        argument: CountArgument = {"settings": self._settings, "key_id": key_id}
        if refusal is not None:
            argument["refusal"] = refusal
        self._rate(argument)

    def record_refused(self, key_id: str, code: str, request_id: str) -> None:
        """Gather a refused call that counts in no rate limit.

        :param code: of the error that the caller gets
        :raises LedgerUnavailableError: when Postgres can't be reached
        """
        argument: CallRefusedArgument = {"key_id": key_id, "code": code, "request_id": request_id}
        self._database.call(_CALL_REFUSED, argument)

    # --- below: the round trips ---

    def _rate(self, argument: CountArgument) -> None:
        result = self._database.call(_COUNT_REFUSED, argument)
        key = KeyBudget.read(result["key"])
        if result["used_up"] and key is not None:
            # Here, since most requests have no use for it.
            from fusewire.budget.refusals import rate_limited

            error = rate_limited("requests", key.rate_limit.ends_in_seconds)
            error.rate_limit = key.rate_limit
            raise error


def hash_of(secret: str) -> str:
    """SHA-256, in hex: all that the database has of a secret."""
    # A caller's header may hold anything, half a surrogate pair included.
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()


def same_secret(one: str, other: str) -> bool:
    """Compared in constant time, whatever their lengths."""
    return hmac.compare_digest(hash_of(one), hash_of(other))


def _names(names: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if names is None else tuple(names)
