"""API keys: who may call, with which scopes, models, limits and budget of their own.

A secret is shown once, when it is made; only its SHA-256 is kept. It is 256 random bits, so the hash needs neither salt
nor slowness. Every change is audited in its own transaction (`migrations/0010_key_functions.sql`).
"""

import hashlib
import hmac
import logging
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, LiteralString

from fusewire import logs
from fusewire.budget.breaker import KeyBudget, sql_settings
from fusewire.budget.forecast import DailySpend
from fusewire.config import Settings
from fusewire.db import Database
from fusewire.errors import InvalidRequestError, KeyNotFoundError
from fusewire.ids import time_ordered_id

BOOTSTRAP: Final = "bootstrap"
"""The id of ADMIN_API_KEY, which is no row: it works on an empty database, and has neither budget nor limits."""

_PREFIX: Final = "fw_"
_SECRET_BYTES: Final = 32
_SHOWN_CHARACTERS: Final = len(_PREFIX) + 8
_FIELDS: Final = (
    "id", "name", "scopes", "monthly_budget_usd", "requests_per_minute", "tokens_per_minute", "allowed_models",
    "allowed_classifications", "expires_at", "tags", "secrets", "created_at", "created_by", "revoked_at",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Act:
    """Who changes something, from where, in which request: for the audit."""

    actor: str
    source_ip: str | None
    request_id: str

    def argument(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Holder:
    """Whom a valid secret belongs to, and what the key may do."""

    key_id: str
    scopes: tuple[str, ...]
    models: tuple[str, ...] | None = None
    classifications: tuple[str, ...] | None = None
    ends_in_seconds: float | None = None
    """Until the key or this secret of it expires."""


@dataclass(frozen=True, slots=True)
class Key:
    """A key as admins see it."""

    stored: Mapping[str, Any]
    """As `key_json` has it: no secret, no hash."""
    budget: KeyBudget | None
    """None before the first call of the month."""
    history: DailySpend | None = None
    """What its forecast is made of; None in a list."""

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> "Key":
        """From `key_budget_json`."""
        history = DailySpend.read(told["days"]) if "days" in told else None
        return cls({name: told[name] for name in _FIELDS}, KeyBudget.read(told["budget"]), history)

    @property
    def id(self) -> str:
        return str(self.stored["id"])

    @property
    def prefix(self) -> str:
        """The beginning of the newest secret, by which a person tells keys apart."""
        return str(self.stored["secrets"][-1]["prefix"])

    @property
    def limit(self) -> Decimal | None:
        """USD a month; None for a key without a budget of its own."""
        cap = self.stored["monthly_budget_usd"]
        return None if cap is None else Decimal(cap)


class Keys:
    """The keys of one database."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = sql_settings(settings)

    def authenticate(self, secret: str) -> Holder | None:
        """Who has this secret; None when it is unknown, expired or revoked.

        :raises LedgerUnavailableError: when nobody can tell
        """
        asked = _hash(secret)
        told = self._database.call("SELECT key_authenticate($1::jsonb)", {"hash": asked})
        if told is None or not hmac.compare_digest(told["hash"], asked):
            return None
        ends_in = told["ends_in"]
        return Holder(
            told["id"],
            tuple(told["scopes"]),
            _names(told["allowed_models"]),
            _names(told["allowed_classifications"]),
            None if ends_in is None else float(ends_in),
        )

    def create(self, fields: Mapping[str, object], act: Act) -> tuple[Key, str]:
        """:return: the key, and its secret, which is told this once"""
        secret = _new_secret()
        id = f"key_{time_ordered_id().hex}"
        made = self._change("key.created", "SELECT key_create($1::jsonb)", id, act, fields=fields, secret=_kept(secret))
        return made, secret

    def show(self, id: str) -> Key:
        """:raises KeyNotFoundError: there is no such key"""
        return Key.read(self._call("SELECT key_show($1::jsonb)", id))

    def list(self, *, before: str | None, limit: int) -> list[Key]:
        """The newest first.

        :param before: the id of the last key of the page before; None for the first page
        """
        argument = {"settings": self._settings, "before": before, "limit": limit}
        return [Key.read(each) for each in self._database.call("SELECT key_list($1::jsonb)", argument)]

    def update(self, id: str, changes: Mapping[str, object], act: Act) -> Key:
        """Change these fields and leave all others as they are: two admins at once lose nothing of each other's.

        :raises KeyNotFoundError: there is no such key
        :raises InvalidRequestError: it is revoked
        """
        return self._change("key.updated", "SELECT key_update($1::jsonb)", id, act, changes=changes)

    def revoke(self, id: str, act: Act) -> Key:
        """End a key for good. Its calls in flight settle; the ledger reserves nothing for it any more.

        :raises KeyNotFoundError: there is no such key
        """
        return self._change("key.revoked", "SELECT key_revoke($1::jsonb)", id, act)

    def rotate(self, id: str, overlap_seconds: int, act: Act) -> tuple[Key, str]:
        """Give a key a new secret; the one that it replaces goes on for the overlap.

        :return: the key, and its new secret, which is told this once
        :raises KeyNotFoundError: there is no such key
        :raises InvalidRequestError: it is revoked
        """
        secret = _new_secret()
        rotated = self._change(
            "key.rotated",
            "SELECT key_rotate($1::jsonb)",
            id,
            act,
            secret=_kept(secret),
            overlap_seconds=overlap_seconds,
        )
        return rotated, secret

    def refused(self, key_id: str | None, act: Act, *, method: str, path: str, why: str) -> None:
        """Audit a call of an admin route that was refused.

        :param key_id: None for callers without a valid key; of those one an address is written a minute
        """
        asked = {"method": method, "path": path}
        written = self._database.call(
            "SELECT admin_refused($1::jsonb)", {"key_id": key_id, "act": act.argument(), "asked": asked, "why": why}
        )
        if written:
            _tell("admin.refused", act, key_id, path=path, reason=why)

    # --- below: the round trips ---

    def _change(self, action: str, statement: LiteralString, id: str, act: Act, **arguments: object) -> Key:
        told = self._call(statement, id, act=act.argument(), **arguments)
        if (written := told["written"]) is not None:
            _tell(action, act, id, before=written["before"], after=written["after"])
        return Key.read(told)

    def _call(self, statement: LiteralString, id: str, **arguments: object) -> Mapping[str, Any]:
        told: Mapping[str, Any] | None
        told = self._database.call(statement, {"settings": self._settings, "id": id, **arguments})
        if told is None:
            raise KeyNotFoundError("There is no such key. GET /api/v1/admin/keys lists those that there are.")
        if told.get("refused"):
            raise InvalidRequestError("This key is revoked, for good: make another with POST /api/v1/admin/keys.")
        return told


def same_secret(one: str, other: str) -> bool:
    """Compared in constant time, whatever their lengths."""
    return hmac.compare_digest(_hash(one), _hash(other))


def _new_secret() -> str:
    return _PREFIX + secrets.token_urlsafe(_SECRET_BYTES)


def _hash(secret: str) -> str:
    # A caller's header may hold anything, half a surrogate pair included.
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()


def _kept(secret: str) -> dict[str, str]:
    """What the database gets of a secret."""
    return {"hash": _hash(secret), "prefix": secret[:_SHOWN_CHARACTERS]}


def _names(told: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if told is None else tuple(told)


def _tell(action: str, act: Act, key_id: str | None, **fields: object) -> None:
    told: dict[str, object] = {"action": action, "actor": act.actor, "key_id": key_id, "source_ip": act.source_ip}
    logs.event("audit", logging.INFO, **told, **fields)
