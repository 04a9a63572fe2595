"""How attempts ended that Postgres couldn't be told of in time: kept, and told before the environment's next call.

What isn't told by then expires, and is settled at its bound.
"""

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from fusewire.budget.wire import Ended
from fusewire.store.db import StatementRefusedError

NOT_SENT: Final = "not_sent"
"""How a reservation ended that nothing was sent on. If its answer was lost, there may be none."""
_MAX_KEPT: Final = 100


class Unsent:
    """What is kept of one execution environment; threads may share it."""

    def __init__(self, settle: Callable[[Ended], object]) -> None:
        """
        :param settle: tells Postgres of one, as sent before; it raises LedgerUnavailableError
        """
        self._settle = settle
        self._kept: list[Ended] = []
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, *ended: Ended) -> None:
        """Keep them until the next `send`."""
        with self._lock:
            self._kept = newest([*self._kept, *ended])

    def send(self) -> None:
        """Tell Postgres of each in its order, by one of the calls that come: what others keep meanwhile comes after.

        :raises LedgerUnavailableError: when Postgres can't be reached; what is left is kept
        """
        if not self._kept:
            return
        with self._lock:
            sending, self._kept = self._kept, []
        try:
            while sending:
                # One that is refused is left to expire at its bound: it must not hold up this environment's calls for
                # good.
                with suppress(StatementRefusedError):
                    self._settle(sending[0])
                del sending[0]
        finally:
            with self._lock:
                self._kept = newest([*sending, *self._kept])


def newest(kept: Sequence[Ended]) -> list[Ended]:
    """So many as are kept through a long outage, in their order.

    What is left out first are the ends of reservations that nothing was sent on: they have no cost, and of those that
    got no answer most were never made.
    """
    spare = len(kept) - _MAX_KEPT
    left = []
    for ended in kept:
        if spare > 0 and ended["settlement"]["outcome"] == NOT_SENT:
            spare -= 1
        else:
            left.append(ended)
    return left[-_MAX_KEPT:]
