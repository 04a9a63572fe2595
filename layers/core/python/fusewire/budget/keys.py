"""API keys: who may call, with which scopes, models, limits and budget of their own.

A secret is shown once, when it is made; only its SHA-256 is kept. It is 256 random bits, so the hash needs neither salt
nor slowness. Every change is audited in its own transaction (`store/functions/keys.sql`).
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Final, NotRequired, TypedDict, TypeVar, cast

from fusewire.budget.audit_context import AuditContext, AuditContextArgument
from fusewire.budget.breaker import KeyBudget, announce
from fusewire.budget.key_checks import hash_of
from fusewire.budget.wire import Amount, DailySpendRow, KeyBudgetRow, RolloverRow, SettingsArgument, sql_settings
from fusewire.config import Settings
from fusewire.errors import AuthenticationError, KeyNotFoundError
from fusewire.ids import time_ordered_id
from fusewire.store.db import Database, Statement

if TYPE_CHECKING:
    from fusewire.budget.forecast import DailySpend
    from fusewire.budget.key_refusals import KeyRefusal

PREFIX: Final = "fw_"
"""What every secret that is made here begins with; other vendors' keys don't."""
_SECRET_BYTES: Final = 32
_SHOWN_CHARACTERS: Final = len(PREFIX) + 8


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
    search: NotRequired[str]
    within: NotRequired[str]


_NOT_THE_KEYS: Final = ChangedRow.__annotations__.keys() - KeyRow.__annotations__.keys()
"""What the functions' results hold beside the key."""
_Row = TypeVar("_Row", bound=KeyBudgetsRow)
Change = Statement[ChangeArgument, ChangedRow | None]
_SHOW: Final = Statement[KeyArgument, KeyBudgetsRow | None]("SELECT key_show($1::jsonb)")
_OWN: Final = Statement[KeyArgument, OwnRow | None]("SELECT key_own($1::jsonb)")
_LIST: Final = Statement[ListArgument, list[KeyBudgetsRow]]("SELECT key_list($1::jsonb)")
_CREATE: Final = Change("SELECT key_create($1::jsonb)")
_UPDATE: Final = Change("SELECT key_update($1::jsonb)")
_REVOKE: Final = Change("SELECT key_revoke($1::jsonb)")
_ROTATE: Final = Change("SELECT key_rotate($1::jsonb)")


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

    def list(
        self, *, before: str | None, limit: int, search: str | None = None, within: str | None = None
    ) -> list[Key]:
        """The newest first.

        :param before: the id of the last key of the page before; None for the first page
        :param search: a part of a name, an id, a secret's prefix or a tag, in letters of either case
        """
        argument: ListArgument = {"settings": self._settings, "before": before, "limit": limit}
        if search is not None:
            argument["search"] = search
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

    # --- below: the round trips ---

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


def _new_secret() -> str:
    return PREFIX + secrets.token_urlsafe(_SECRET_BYTES)


def _kept(secret: str) -> SecretArgument:
    return {"hash": hash_of(secret), "prefix": secret[:_SHOWN_CHARACTERS]}
