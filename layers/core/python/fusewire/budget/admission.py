"""How a call waits for room in its budgets: it asks again, and holds nothing in between (`functions/admission.sql`).

It is notified when there is room, where its connection leads to one session of Postgres, or, where calls share
connections, over one that listens for all (`store/listener.py`). Behind a pooler, which lends a connection for a
transaction, it asks in short pauses.
"""

import time
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol
from uuid import UUID

from fusewire.budget.wire import WaitArgument, WaitingRow
from fusewire.ids import time_ordered_id
from fusewire.store.db import Database

if TYPE_CHECKING:
    from fusewire.store.listener import Subscription

LEASE_SECONDS: Final = 4
"""How long a ticket counts whose call doesn't ask any more."""
_FIRST_PAUSE_MS: Final = 25
_MAX_PAUSE_MS: Final = 250
_LISTENING_PAUSE_MS: Final = 500
"""A notification may be lost, and a raised limit or a reset sends none."""


class Line(NamedTuple):
    """The calls that wait for room."""

    calls: int
    longest_seconds: Decimal
    """For which the first of them has waited."""

    @classmethod
    def read(cls, row: WaitingRow) -> "Line":
        """From `admission_json`."""
        return cls(row["calls"], Decimal(row["longest_seconds"]))


NOBODY: Final = Line(0, Decimal(0))


class Rest(Protocol):
    """Waits so many seconds, or until there is a notification."""

    def __call__(self, seconds: float, /) -> object: ...


class Waiting:
    """The wait of one reservation: for how long it may go on, and by which entry's id it keeps its place."""

    def __init__(
        self, seconds: float = 0, max_per_key: int = 0, caller_has_left: Callable[[], bool] | None = None
    ) -> None:
        """
        :param seconds: that it may wait; 0 to be refused at once
        :param max_per_key: how many calls of one key may wait
        :param caller_has_left: whether nobody waits for the answer any more; None where that isn't known
        """
        self.entry_id: UUID = time_ordered_id()
        self._seconds = seconds
        self._max_per_key = max_per_key
        self._caller_has_left = caller_has_left
        self._pause_ms = _FIRST_PAUSE_MS
        self._since_seconds: float | None = None
        self._asks_last = False
        self._session: int | None = None
        """In which the last ask was made."""
        self._listens_in: int | None = None
        """The session that is notified when there is room."""
        self._subscription: Subscription | None = None
        """How it is notified over another connection."""
        self.waited_seconds: float = 0
        """How long it has waited."""

    @property
    def waited_ms(self) -> int | None:
        """The same for the log; None where it didn't wait."""
        return round(self.waited_seconds * 1000) if self.holds_ticket else None

    @property
    def holds_ticket(self) -> bool:
        """Whether it has a place in the line."""
        return self._since_seconds is not None

    @property
    def is_in_vain(self) -> bool:
        """Whether its caller has left, as far as that is known."""
        return self._caller_has_left is not None and self._caller_has_left()

    @property
    def _is_notified(self) -> bool:
        if self._subscription is not None:
            return self._subscription.is_live
        return self._session is not None and self._session == self._listens_in

    def argument(self, session: int | None = None) -> WaitArgument | None:
        """What the next ask says of it; None where it doesn't wait.

        :param session: of the connection (`Database.session`)
        """
        self._session = session
        if self._seconds <= 0:
            return None
        argument: WaitArgument = {
            "max_per_key": self._max_per_key,
            "lease_seconds": LEASE_SECONDS,
            "waited_percent": min(int(100 * self.waited_seconds / self._seconds), 100),
        }
        if self._since_seconds is not None:
            argument["holds"] = True
        if self._asks_last:
            argument["last"] = True
        if session is not None:
            argument["session"] = session
        if self._is_notified:
            argument["listens"] = True
        return argument

    def wait(self, database: Database, *, listens: bool) -> None:
        """Wait until it is time to ask again.

        :param database: which the last ask was made of
        :param listens: whether that ask had its session notified from then on
        """
        if listens:
            self._listens_in = self._session
        elif not self._is_notified:
            self._since_seconds = self._since_seconds or time.monotonic()
            self._subscription = database.subscribe(self.entry_id)
            if self._subscription is not None:
                return  # what has ended since the ask notified nobody
        self.pause(database.rest)

    def end(self) -> None:
        """It waits no more."""
        if self._subscription is not None:
            self._subscription.end()

    def pause(self, rest: Rest = time.sleep) -> None:
        """Wait until it is time to ask again. After the last pause it asks for the last time."""
        since = self._since_seconds = self._since_seconds or time.monotonic()
        left = self._seconds - (time.monotonic() - since)
        if self._subscription is not None:
            rest = self._subscription.rest
        pause_ms = _LISTENING_PAUSE_MS if self._is_notified else self._pause_ms
        rest(max(0, min(pause_ms / 1000, left)))
        self._pause_ms = min(self._pause_ms * 3 // 2, _MAX_PAUSE_MS)
        self.waited_seconds = time.monotonic() - since
        self._asks_last = self.waited_seconds >= self._seconds
