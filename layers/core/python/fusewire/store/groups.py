"""Statements of several calls that come together, sent as one transaction (`functions/groups.sql`).

While one is under way, those that come meanwhile are collected, and sent together once it is answered. So where calls
are few, nobody waits for company; where they are many, they wait for one commit and not each for its own.
"""

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
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
_SENT_TWICE: Final = 2
"""How often a statement is sent at most, each time for its own seconds."""
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
    began: float = field(default_factory=time.monotonic)
    woken: SimpleQueue[None] = field(default_factory=SimpleQueue)
    sends: "_Group | None" = None
    """What its thread is to send."""
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

    def seconds_left(self, most: float) -> float:
        """Of so many since it came."""
        return self.began + most - time.monotonic()


@dataclass(frozen=True, slots=True, eq=False)
class _Group:
    """Calls that are sent together, or one."""

    calls: list[_Call]
    began: float = field(default_factory=time.monotonic)

    @property
    def holds_up(self) -> bool:
        """Whether those that come meanwhile wait for its answer."""
        return time.monotonic() - self.began < _HELD_UP_SECONDS


class Groups:
    """The statements of one environment that may be sent together."""

    def __init__(self, alone: Alone, together: Together, *, connections: int, connect_seconds: float) -> None:
        """
        :param connections: how many groups can be under way at once
        :param connect_seconds: what a new connection may take, which a statement is sent again by
        """
        self._alone = alone
        self._together = together
        self._connections = connections
        self._connect_seconds = connect_seconds
        self._lock = threading.Lock()
        self._collected: list[_Call] = []
        self._under_way: list[_Group] = []
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
        try:
            with self._lock:
                self._collected.append(call)
                self._choose(call)
            while not call.is_done:
                self._go_on(call)
        except BaseException:
            self._give_up(call)
            raise
        if call.error is not None:
            raise call.error
        if call.result is None:
            return cast("Result", self._left_alone(call))
        return cast("Result", call.result)

    def _go_on(self, call: _Call) -> None:
        """Send what this call's thread is to send, or wait for its answer for a moment.

        A reservation that is under way is waited for, however long its group takes: its release could overtake it.
        """
        if call.sends is not None:
            self._send(call.sends)
            call.sends = None
            return
        with suppress(Empty):
            call.woken.get(timeout=_HELD_UP_SECONDS)
        with self._lock:
            if call.is_done or call.sends is not None:
                return
            if call not in self._collected:
                if call.statement.in_group == "settle" and call.seconds_left(self._most_seconds(call)) <= 0:
                    raise LedgerUnavailableError("AnswerTimeout")
            elif call.seconds_left(call.seconds) <= 0:
                self._collected.remove(call)  # before anybody else may send it
                raise LedgerUnavailableError("every connection is in use", may_be_done=False)
            else:
                self._choose(call)

    def _most_seconds(self, call: _Call) -> float:
        return _SENT_TWICE * call.seconds + self._connect_seconds

    def _choose(self, call: _Call) -> None:
        """Have the collected sent, who came first before the others; nothing while a statement holds them up.

        One of them sends, whose answer may take the longest: the others may give up before that.

        :param call: one of the collected, whose thread this is
        """
        if len(self._under_way) >= self._connections or any(group.holds_up for group in self._under_way):
            return
        settings = self._collected[0].argument["settings"]
        calls = [each for each in self._collected if each.argument["settings"] is settings][:_MAX_CALLS]
        self._collected = [each for each in self._collected if each not in calls]
        most = max(each.seconds for each in calls)
        sender = (
            call if call in calls and call.seconds == most else next(each for each in calls if each.seconds == most)
        )
        sender.sends = _Group(calls)
        self._under_way.append(sender.sends)
        if sender is not call:
            sender.woken.put(None)

    def _send(self, group: _Group) -> None:
        try:
            if len(group.calls) == 1:
                [call] = group.calls
                call.result = self._alone(call.statement, call.argument, call.seconds)
            else:
                self._send_together(group.calls)
        except LedgerUnavailableError as error:
            for call in group.calls:
                call.error = error if len(group.calls) == 1 else _same(error)
        finally:
            self._end(group)

    def _send_together(self, calls: list[_Call]) -> None:
        argument = {"settings": calls[0].argument["settings"], "calls": [call.part() for call in calls]}
        try:
            answer = self._together(argument, max(call.seconds for call in calls))
        except (TypeError, ValueError):  # an argument that no JSON can hold is told so by itself
            answer = {"results": [None] * len(calls), "resent": True}
        if answer is None:
            answer = {"results": [None] * len(calls)}  # the one that is refused is told so by itself
        if answer.get("slots"):
            self._apart_until = time.monotonic() + _APART_SECONDS
        for call, result in zip(calls, answer["results"], strict=True):
            call.result = result
            call.may_be_done = "resent" in answer

    def _left_alone(self, call: _Call) -> object:
        """The result of a call that its group left.

        :raises LedgerUnavailableError: also where the group has taken all the time
        """
        seconds = min(call.seconds, call.seconds_left(self._most_seconds(call)))
        if seconds <= 0:
            raise LedgerUnavailableError("AnswerTimeout", may_be_done=call.may_be_done)
        if not call.may_be_done:
            return self._alone(call.statement, call.argument, seconds)
        try:
            return self._alone(call.statement, {**call.argument, "resent": True}, seconds)
        except LedgerUnavailableError as error:
            error.may_be_done = True
            raise

    def _end(self, group: _Group) -> None:
        with self._lock:
            if group in self._under_way:
                self._under_way.remove(group)
            following = [] if any(each.holds_up for each in self._under_way) else self._collected[:1]
            for call in group.calls:
                call.is_done = True
        for call in (*following, *group.calls):
            call.woken.put(None)

    def _give_up(self, call: _Call) -> None:
        """Leave nothing behind of a call that waits no more: nobody would send on what is reserved for it."""
        with self._lock:
            if call in self._collected:
                self._collected.remove(call)
            following = self._collected[:1]
        for each in following:  # it may have been this one's turn
            each.woken.put(None)
        if call.sends is not None:
            self._end(call.sends)


def _same(error: LedgerUnavailableError) -> LedgerUnavailableError:
    """For another thread: a traceback belongs to one."""
    own = type(error)(error.reason, may_be_done=error.may_be_done)
    own.__cause__ = error.__cause__
    return own
