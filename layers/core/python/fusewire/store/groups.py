"""Statements of several calls that come together, sent as one transaction (`functions/groups.sql`).

While one is under way, those that come meanwhile are collected, and sent together once it is answered. So where calls
are few, nobody waits for company; where they are many, they wait for one commit and not each for its own.
"""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final, cast

from fusewire.errors import LedgerUnavailableError

if TYPE_CHECKING:
    from fusewire.store.db import Argument, Result, Statement

_MAX_CALLS: Final = 16
"""In one group: each waits for all of them."""
_HELD_UP_SECONDS: Final = 0.05
"""A statement that has no answer after so long holds up those that come after it no more."""
_APART_SECONDS: Final = 10.0
"""For which nothing is grouped once the ledger says that its room is spread over slots: each group takes them back."""
_BY_THEMSELVES: Final = ("settlement", "settings_snapshot", "resent")
"""What a reservation has beside itself that no group takes; a settlement's own `settlement` is no such thing."""
_NOT_PLAIN: Final = ("allowance", "refusal")

Alone = Callable[["Statement[Any, Any]", Mapping[str, Any], float], Any]
"""Sends one statement, within so many seconds."""
Together = Callable[[Mapping[str, object], float], Mapping[str, Any] | None]
"""Sends a group; None where Postgres refuses something in it."""


@dataclass(slots=True, eq=False)
class _Call:
    """A statement that is to be sent."""

    statement: "Statement[Any, Any]"
    argument: Mapping[str, object]
    seconds: float
    woken: SimpleQueue[None] = field(default_factory=SimpleQueue)
    is_done: bool = False
    result: object = None
    """None where it has to be sent alone."""
    may_be_done: bool = True
    """Whether something of it may have been sent before that."""
    error: BaseException | None = None

    def part(self) -> dict[str, object]:
        """In a group's argument."""
        own = {name: value for name, value in self.argument.items() if name != "settings"}
        return {cast(str, self.statement.in_group): own}


class Groups:
    """The statements of one environment that may be sent together."""

    def __init__(self, alone: Alone, together: Together) -> None:
        self._alone = alone
        self._together = together
        self._lock = threading.Lock()
        self._collected: list[_Call] = []
        self._under_way = 0
        self._sent_at = 0.0
        self._apart_until = 0.0

    def takes(self, statement: "Statement[Any, Any]", argument: Mapping[str, Any]) -> bool:
        """Whether it may be sent with others: a call's first reservation, or how one ends, sent for the first time."""
        if time.monotonic() < self._apart_until:
            return False
        if statement.in_group == "settle":
            return "resent" not in argument and not any(name in argument["settlement"] for name in _NOT_PLAIN)
        return not any(name in argument for name in _BY_THEMSELVES) and "holds" not in argument.get("wait", ())

    def call(self, statement: "Statement[Argument, Result]", argument: "Argument", seconds: float) -> "Result":
        """As `Database.call`, of a statement that `takes` says yes to."""
        call = _Call(statement, argument, seconds)
        with self._lock:
            self._collected.append(call)
            calls = self._taken()
        while True:
            if calls:
                self._send(calls)
            if call.is_done:
                break
            try:
                call.woken.get(timeout=_HELD_UP_SECONDS)
            except Empty:
                pass
            with self._lock:
                calls = [] if call.is_done else self._taken()
        if call.error is not None:
            raise call.error
        if call.result is None:
            left = {**argument, "resent": True} if call.may_be_done else argument
            return cast("Result", self._alone(statement, left, seconds))
        return cast("Result", call.result)

    def _taken(self) -> list[_Call]:
        """Those that are sent now, who came first before the others; none while a statement is under way."""
        now = time.monotonic()
        if not self._collected or (self._under_way and now - self._sent_at < _HELD_UP_SECONDS):
            return []
        settings = self._collected[0].argument["settings"]
        calls = [call for call in self._collected if call.argument["settings"] is settings][:_MAX_CALLS]
        self._collected = [call for call in self._collected if call not in calls]
        self._under_way += 1
        self._sent_at = now
        return calls

    def _send(self, calls: list[_Call]) -> None:
        try:
            if len(calls) == 1:
                calls[0].result = self._alone(calls[0].statement, calls[0].argument, calls[0].seconds)
            else:
                self._send_together(calls)
        except LedgerUnavailableError as error:
            calls[0].error = error
            for call in calls[1:]:
                call.error = LedgerUnavailableError(str(error))
                call.error.__cause__ = error.__cause__
        finally:
            self._end(calls)

    def _send_together(self, calls: list[_Call]) -> None:
        argument = {"settings": calls[0].argument["settings"], "calls": [call.part() for call in calls]}
        answer = self._together(argument, max(call.seconds for call in calls))
        if answer is None:
            answer = {"results": [None] * len(calls)}  # the one that is refused is told so by itself
        if answer.get("slots"):
            self._apart_until = time.monotonic() + _APART_SECONDS
        for call, result in zip(calls, answer["results"], strict=True):
            call.result = result
            call.may_be_done = "resent" in answer

    def _end(self, calls: list[_Call]) -> None:
        with self._lock:
            self._under_way -= 1
            following = self._collected[:1] if self._under_way == 0 else []
        for call in calls:
            call.is_done = True
        for call in (*following, *calls):
            call.woken.put(None)
