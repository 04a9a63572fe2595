"""What `POST /responses` keeps, encrypted, for as long as `AI_RESPONSES_RETENTION_HOURS` says.

Each response is sealed with AES-256-GCM under a key of its own, derived from `AI_RESPONSES_KEY` and the response's id
with HMAC-SHA256, and bound to the id of the fusewire key that made it: a row that is moved to another key or id doesn't
open. The database sees ids, sizes and times (`functions/responses.sql`).
"""

import base64
import hmac
import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NotRequired, TypedDict

from pydantic import SecretStr

from fusewire.errors import PreviousResponseNotFoundError, RequestTooLargeError
from fusewire.json import dumps, loads
from fusewire.store.db import Database, Statement

_PURPOSE: Final = b"fusewire: a kept response, 1\0"
_NONCE_BYTES: Final = 12
"""As SP 800-38D, 8.2, recommends for GCM."""
_MAX_BYTES: Final = 6_000_000
"""Of a conversation that is put together, as of a request's body."""

Content = dict[str, Any]


class _KeepArgument(TypedDict):
    """For `response_keep`."""

    key_id: str
    id: str
    previous_id: str | None
    sealed: str
    """In base64."""
    size: int
    seconds: int


class _ReadArgument(TypedDict):
    """For `response_read`."""

    key_id: str
    ids: Sequence[str]
    max_bytes: int
    last: NotRequired[str]


class _Row(TypedDict):
    id: str
    previous_id: str | None
    sealed: str
    """In base64."""


class _ReadResult(TypedDict):
    """What `response_read` returns; with `too_large`, nothing else."""

    chain: list[_Row]
    others: list[_Row]
    too_large: NotRequired[int]


class _DeleteArgument(TypedDict):
    """For `response_delete`."""

    key_id: str
    id: str


class _DeleteResult(TypedDict):
    deleted: bool


_KEEP: Final = Statement[_KeepArgument, object]("SELECT response_keep($1::jsonb)")
_READ: Final = Statement[_ReadArgument, _ReadResult]("SELECT response_read($1::jsonb)")
_DELETE: Final = Statement[_DeleteArgument, _DeleteResult]("SELECT response_delete($1::jsonb)")


@dataclass(frozen=True, slots=True)
class KeptResponse:
    """One response, as it was kept."""

    id: str
    content: Content


class KeptResponses:
    """The responses that are kept, as one execution environment sees them."""

    def __init__(self, database: Database, hours: int, secret: Callable[[], SecretStr | None]) -> None:
        """
        :param hours: how long a response is kept; 0 keeps none
        :param secret: `AI_RESPONSES_KEY` as it is known by now
        """
        self._database = database
        self._hours = hours
        self._secret = secret

    @property
    def is_enabled(self) -> bool:
        """Whether responses are kept.

        :raises SecretsUnavailableError: when the key can't be read
        """
        return self._hours > 0 and self._secret() is not None

    def keep(self, key_id: str, id: str, previous_id: str | None, content: Mapping[str, object]) -> None:
        """
        :param key_id: whose it is; empty without a key
        :raises LedgerUnavailableError: when Postgres can't be reached
        """
        text = dumps(content).encode(errors="backslashreplace")
        argument: _KeepArgument = {
            "key_id": key_id,
            "id": id,
            "previous_id": previous_id,
            "sealed": base64.b64encode(self._sealed(text, key_id, id)).decode(),
            "size": len(text),
            "seconds": self._hours * 3600,
        }
        self._database.call(_KEEP, argument)

    def read(
        self, key_id: str, *, last: str | None = None, ids: Sequence[str] = ()
    ) -> tuple[list[KeptResponse], dict[str, KeptResponse]]:
        """
        :param last: a response that is read with all that it goes on from
        :param ids: of responses that are read alone
        :return: the first, in the order of the conversation, and the others by their ids, those that there are
        :raises PreviousResponseNotFoundError: `last`, or one that it goes on from, isn't there
        :raises RequestTooLargeError: together they hold more than a request may
        :raises LedgerUnavailableError: when Postgres can't be reached
        """
        argument: _ReadArgument = {"key_id": key_id, "ids": ids, "max_bytes": _MAX_BYTES}
        if last is not None:
            argument["last"] = last
        result = self._database.call(_READ, argument)
        if "too_large" in result:
            raise RequestTooLargeError(
                f"The earlier responses hold {result['too_large']:,} bytes together, and a request may hold "
                f"{_MAX_BYTES:,}: begin a new conversation with a summary of this one.",
                param="input" if last is None else "previous_response_id",
            )
        chain = result["chain"]
        missing = last if not chain else chain[0]["previous_id"]
        opened = [self._opened(row, key_id) for row in chain]
        if missing is None:
            missing = next((row["id"] for row, found in zip(chain, opened, strict=True) if found is None), None)
        if missing is not None:
            raise PreviousResponseNotFoundError(
                f"Previous response with id '{missing[:100]}' not found. It has expired, was deleted, or is another "
                "key's: send the conversation as input.",
                param="previous_response_id",
            )
        others = [found for row in result["others"] if (found := self._opened(row, key_id)) is not None]
        return [found for found in opened if found is not None], {found.id: found for found in others}

    def delete(self, key_id: str, id: str) -> bool:
        """
        :return: whether it was there
        :raises LedgerUnavailableError: when Postgres can't be reached
        """
        argument: _DeleteArgument = {"key_id": key_id, "id": id}
        return self._database.call(_DELETE, argument)["deleted"]

    def _sealed(self, text: bytes, key_id: str, id: str) -> bytes:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce = os.urandom(_NONCE_BYTES)
        return nonce + AESGCM(self._key(id)).encrypt(nonce, zlib.compress(text, 1), _bound_to(key_id, id))

    def _opened(self, row: _Row, key_id: str) -> KeptResponse | None:
        """None where it was sealed with another `AI_RESPONSES_KEY`."""
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        id, sealed = row["id"], base64.b64decode(row["sealed"])
        try:
            packed = AESGCM(self._key(id)).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], _bound_to(key_id, id))
        except InvalidTag:
            return None
        return KeptResponse(id, loads(zlib.decompress(packed)))

    def _key(self, id: str) -> bytes:
        secret = self._secret()
        if secret is None:
            raise RuntimeError("nothing is kept without AI_RESPONSES_KEY")
        return hmac.digest(
            secret.get_secret_value().encode(), _PURPOSE + id.encode(errors="backslashreplace"), "sha256"
        )


def _bound_to(key_id: str, id: str) -> bytes:
    return f"{key_id}\0{id}".encode(errors="backslashreplace")
