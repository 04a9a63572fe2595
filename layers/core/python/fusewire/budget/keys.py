"""API keys: who may call, with which scopes, models, limits and budget of their own.

A secret is shown once, when it is made; only its SHA-256 is kept. It is 256 random bits, so the hash needs neither salt
nor slowness. Every change is audited in its own transaction (`store/functions/keys.sql`).
"""

import hashlib
import hmac
import logging
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Final, Literal, NotRequired, TypedDict, TypeVar, cast

from fusewire import logs
from fusewire.budget.breaker import KeyBudget, announce
from fusewire.budget.refusals import rate_limited
from fusewire.budget.refused_calls import CALL_REFUSED, CallRefusedArgument, RefusedCallArgument
from fusewire.budget.wire import Amount, DailySpendRow, KeyBudgetRow, RolloverRow, SettingsArgument, sql_settings
from fusewire.config import Settings
from fusewire.errors import AuthenticationError, KeyNotFoundError
from fusewire.ids import time_ordered_id
from fusewire.store.db import Database, Statement

if TYPE_CHECKING:
    from fusewire.budget.forecast import DailySpend
    from fusewire.budget.key_refusals import KeyRefusal

BOOTSTRAP: Final = "bootstrap"
"""The id of ADMIN_API_KEY, which is no row: it works on an empty database, and has neither budget nor limits."""

PREFIX: Final = "fw_"
"""What every secret that is made here begins with; other vendors' keys don't."""
_SECRET_BYTES: Final = 32
_MAX_PATH: Final = 200
_SHOWN_CHARACTERS: Final = len(PREFIX) + 8


class AuditContextArgument(TypedDict):
    """Who changes something, as the statements take it."""

    actor: str
    source_ip: str | None
    request_id: str


@dataclass(frozen=True, slots=True)
class AuditContext:
    """Who changes something, from where, in which request: for the audit."""

    actor: str
    source_ip: str | None
    request_id: str

    def argument(self) -> AuditContextArgument:
        return {"actor": self.actor, "source_ip": self.source_ip, "request_id": self.request_id}

    def log(self, action: str, **fields: object) -> None:
        """Log a change that stands in the audit now: the `audit` line."""
        logs.event("audit", logging.INFO, action=action, actor=self.actor, source_ip=self.source_ip, **fields)


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


class SecretArgument(TypedDict):
    """What the database gets of a secret."""

    hash: str
    """In hex."""
    prefix: str


class SecretRow(TypedDict):
    """What is shown of a secret."""

    prefix: str
    created_at: str
    expires_at: str | None


class KeyRow(TypedDict):
    """`key_json`: a key without its hashes. Beside what is read here it holds every column, by its name."""

    id: str
    monthly_budget_usd: Amount | None
    per_user_limit_usd: Amount | None
    secrets: list[SecretRow]


class KeyBudgetsRow(KeyRow):
    """`key_budget_json`, and `key_show`, which adds the days."""

    budget: KeyBudgetRow | None
    days: NotRequired[DailySpendRow]


class OwnRow(KeyBudgetsRow):
    """`key_own`."""

    scope_budget_name: str | None


class WrittenRow(TypedDict):
    """What a change wrote into the audit."""

    before: KeyRow | None
    after: KeyRow


class ChangedRow(KeyBudgetsRow):
    """What the functions that change a key return; with `refused`, nothing else."""

    written: WrittenRow | None
    rolled_over: NotRequired[RolloverRow | None]
    refused: "NotRequired[KeyRefusal]"


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


class KeyArgument(TypedDict):
    """For `key_show` and `key_own`."""

    settings: SettingsArgument
    id: str
    within: NotRequired[str]
    """The node that the caller's scopes are bound to (`scopes.sql`)."""


class ChangeArgument(KeyArgument):
    """For the functions that change a key; each takes what it needs."""

    audit_context: AuditContextArgument
    fields: NotRequired[Mapping[str, object]]
    changes: NotRequired[Mapping[str, object]]
    secret: NotRequired[SecretArgument]
    overlap_seconds: NotRequired[int]


class ListArgument(TypedDict):
    """For `key_list`."""

    settings: SettingsArgument
    before: str | None
    limit: int
    within: NotRequired[str]


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
    audit_context: AuditContextArgument
    call: dict[str, str]
    """Its `method` and `path`."""
    reason: str


_NOT_THE_KEYS: Final = ChangedRow.__annotations__.keys() - KeyRow.__annotations__.keys()
"""What the functions' results hold beside the key."""
_Row = TypeVar("_Row", bound=KeyBudgetsRow)
Change = Statement[ChangeArgument, ChangedRow | None]
_AUTHENTICATE: Final = Statement[AuthenticateArgument, AuthenticatedRow | None]("SELECT key_authenticate($1::jsonb)")
_SHOW: Final = Statement[KeyArgument, KeyBudgetsRow | None]("SELECT key_show($1::jsonb)")
_OWN: Final = Statement[KeyArgument, OwnRow | None]("SELECT key_own($1::jsonb)")
_LIST: Final = Statement[ListArgument, list[KeyBudgetsRow]]("SELECT key_list($1::jsonb)")
_CREATE: Final = Change("SELECT key_create($1::jsonb)")
_UPDATE: Final = Change("SELECT key_update($1::jsonb)")
_REVOKE: Final = Change("SELECT key_revoke($1::jsonb)")
_ROTATE: Final = Change("SELECT key_rotate($1::jsonb)")
_COUNT_REFUSED: Final = Statement[CountArgument, CountResult]("SELECT key_count_refused($1::jsonb)")
_REFUSED: Final = Statement[RefusedArgument, bool]("SELECT admin_refused($1::jsonb)")


@dataclass(frozen=True, slots=True)
class Key:
    """A key as admins see it."""

    stored: KeyRow
    """With every column, also one that only a later release knows: who shows it chooses."""
    budget: KeyBudget | None
    """None before the first call of the period."""
    history: "DailySpend | None" = None
    """What its forecast is made of; None in a list."""

    @classmethod
    def read(cls, row: KeyBudgetsRow) -> "Key":
        """From `key_budget_json`."""
        from fusewire.budget.forecast import DailySpend  # here, because no call needs it

        history = DailySpend.read(row["days"]) if "days" in row else None
        fields = {name: value for name, value in row.items() if name not in _NOT_THE_KEYS}
        return cls(cast(KeyRow, fields), KeyBudget.read(row["budget"]), history)

    @property
    def id(self) -> str:
        return self.stored["id"]

    @property
    def prefix(self) -> str:
        """The beginning of the newest secret, by which a person tells keys apart."""
        return self.stored["secrets"][-1]["prefix"]

    @property
    def limit(self) -> Decimal | None:
        """USD a period; None for a key without a budget of its own."""
        limit = self.stored["monthly_budget_usd"]
        return None if limit is None else Decimal(limit)


class Keys:
    """The keys of one database."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = sql_settings(settings)

    def authenticate(self, secret: str, request_id: str | None = None) -> AuthenticatedKey | None:
        """Who has this secret; None when it is unknown, expired or revoked.

        :param request_id: of the call that is refused then, to be gathered where the key is known
        :raises LedgerUnavailableError: when nobody can tell
        """
        wanted = _hash(secret)
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

    def create(
        self, fields: Mapping[str, object], audit_context: AuditContext, *, within: str | None = None
    ) -> tuple[Key, str]:
        """
        :param within: the node that the caller's scopes are bound to, here and below; None: they aren't
        :return: the key, and its secret, which is told this once
        :raises InvalidRequestError: a budget that it names isn't there
        :raises PermissionDeniedError: it would be more than the caller may give
        """
        secret = _new_secret()
        id = f"key_{time_ordered_id().hex}"
        argument = self._argument(id, audit_context, within)
        argument |= {"fields": fields, "secret": _kept(secret)}
        return self._change("key.created", _CREATE, argument, audit_context), secret

    def show(self, id: str, *, within: str | None = None) -> Key:
        """:raises KeyNotFoundError: there is no such key"""
        argument: KeyArgument = {"settings": self._settings, "id": id}
        if within is not None:
            argument["within"] = within
        return Key.read(_found(self._database.call(_SHOW, argument)))

    def own(self, id: str) -> tuple[Key, str | None]:
        """A key as its holder may see it, without what a forecast is made of.

        :return: the key, and the name of the node that its scopes are bound to
        :raises AuthenticationError: when it is revoked or has expired
        """
        argument: KeyArgument = {"settings": self._settings, "id": id}
        row = self._database.call(_OWN, argument)
        if row is None:
            raise AuthenticationError("This API key is no longer valid: it is revoked or has expired.")
        return Key.read(row), row["scope_budget_name"]

    def list(self, *, before: str | None, limit: int, within: str | None = None) -> list[Key]:
        """The newest first.

        :param before: the id of the last key of the page before; None for the first page
        """
        argument: ListArgument = {"settings": self._settings, "before": before, "limit": limit}
        if within is not None:
            argument["within"] = within
        return [Key.read(row) for row in self._database.call(_LIST, argument)]

    def update(
        self, id: str, changes: Mapping[str, object], audit_context: AuditContext, *, within: str | None = None
    ) -> Key:
        """Change these fields and leave all others as they are: two admins at once lose nothing of each other's.

        :raises KeyNotFoundError: there is no such key
        :raises InvalidRequestError: it is revoked, or a budget that is named isn't there
        :raises PermissionDeniedError: it is more, or would become more, than the caller may change
        """
        argument = self._argument(id, audit_context, within)
        argument["changes"] = changes
        return self._change("key.updated", _UPDATE, argument, audit_context)

    def revoke(self, id: str, audit_context: AuditContext, *, within: str | None = None) -> Key:
        """End a key for good. Its calls in flight settle; the ledger reserves nothing for it any more.

        :raises KeyNotFoundError: there is no such key
        :raises PermissionDeniedError: it is more than the caller may change
        """
        return self._change("key.revoked", _REVOKE, self._argument(id, audit_context, within), audit_context)

    def rotate(
        self, id: str, overlap_seconds: int, audit_context: AuditContext, *, within: str | None = None
    ) -> tuple[Key, str]:
        """Give a key a new secret; the one that it replaces goes on for the overlap.

        :return: the key, and its new secret, which is told this once
        :raises KeyNotFoundError: there is no such key
        :raises InvalidRequestError: it is revoked
        :raises PermissionDeniedError: it is more than the caller may change
        """
        secret = _new_secret()
        argument = self._argument(id, audit_context, within)
        argument |= {"secret": _kept(secret), "overlap_seconds": overlap_seconds}
        return self._change("key.rotated", _ROTATE, argument, audit_context), secret

    def refused(self, key_id: str | None, audit_context: AuditContext, *, method: str, path: str, why: str) -> None:
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
        self._database.call(CALL_REFUSED, argument)

    # --- below: the round trips ---

    def _rate(self, argument: CountArgument) -> None:
        result = self._database.call(_COUNT_REFUSED, argument)
        key = KeyBudget.read(result["key"])
        if result["used_up"] and key is not None:
            error = rate_limited("requests", key.rate_limit.ends_in_seconds)
            error.rate_limit = key.rate_limit
            raise error

    def _argument(self, id: str, audit_context: AuditContext, within: str | None) -> ChangeArgument:
        argument: ChangeArgument = {
            "settings": self._settings,
            "id": id,
            "audit_context": audit_context.argument(),
        }
        if within is not None:
            argument["within"] = within
        return argument

    def _change(self, action: str, statement: Change, argument: ChangeArgument, audit_context: AuditContext) -> Key:
        row = _found(self._database.call(statement, argument))
        announce({"rolled_over": row.get("rolled_over")})
        if (refusal := row.get("refused")) is not None:
            # Here, since most functions and calls have no use for it.
            from fusewire.budget.key_refusals import key_refused

            raise key_refused(refusal)
        if (written := row["written"]) is not None:
            audit_context.log(action, key_id=argument["id"], before=written["before"], after=written["after"])
        return Key.read(row)


def _found(row: _Row | None) -> _Row:
    if row is None:
        raise KeyNotFoundError("There is no such key. GET /api/v1/admin/keys lists those that there are.")
    return row


def same_secret(one: str, other: str) -> bool:
    """Compared in constant time, whatever their lengths."""
    return hmac.compare_digest(_hash(one), _hash(other))


def _new_secret() -> str:
    return PREFIX + secrets.token_urlsafe(_SECRET_BYTES)


def _hash(secret: str) -> str:
    # A caller's header may hold anything, half a surrogate pair included.
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()


def _kept(secret: str) -> SecretArgument:
    return {"hash": _hash(secret), "prefix": secret[:_SHOWN_CHARACTERS]}


def _names(names: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if names is None else tuple(names)
