"""`GET /health`: whether the gateway can serve calls."""

import time
from collections.abc import Callable
from typing import Final, Literal

from fusewire.errors import LedgerUnavailableError
from fusewire.http.schema import ResponseModel

GOOD_SECONDS: Final = 10.0
"""How old a good state may be that callers without `admin` are told."""
_BAD_SECONDS: Final = 1.0
"""A database that is back is told soon."""


class Health(ResponseModel):
    """The gateway and its database are up."""

    status: Literal["ok"] = "ok"
    database: Literal["ok"] = "ok"
    version: str


class Unavailable(ResponseModel):
    """Not an error's body: what monitors read is where they read it at 200."""

    status: Literal["unavailable"] = "unavailable"
    database: Literal["unreachable"] = "unreachable"
    version: str
    message: str


class DatabaseState:
    """The database's last known state in this environment, found out no more often than need be."""

    def __init__(self, probe: Callable[[], None]) -> None:
        """:param probe: raises LedgerUnavailableError when no call can be booked"""
        self._probe = probe
        self._until = 0.0
        self._error: LedgerUnavailableError | None = None

    def get(self, *, live: bool) -> LedgerUnavailableError | None:
        """
        :param live: whether to find it out now
        :return: why no call can be booked; None when one can
        """
        if live or time.monotonic() >= self._until:
            try:
                self._probe()
            except LedgerUnavailableError as error:
                self.note(error)
            else:
                self._error, self._until = None, time.monotonic() + GOOD_SECONDS
        return self._error

    def note(self, error: LedgerUnavailableError) -> None:
        """Something else found that no call can be booked."""
        self._error, self._until = error, time.monotonic() + _BAD_SECONDS
