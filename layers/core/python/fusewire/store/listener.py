"""Notifications for calls that share connections: one connection of their own listens for all of them.

A thread reads from it while calls wait. The first that waits starts both, and both end once none has waited for some
seconds. Where the connection leads to a pooler, which lends sessions for a transaction, nothing can be listened to, and
calls ask again by themselves. The other side is `functions/admission.sql`.
"""

import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Final, LiteralString, cast
from uuid import UUID

import psycopg

from fusewire.errors import LedgerUnavailableError

_IDLE_SECONDS: Final = 10.0
"""For which the connection stays open without a call that waits."""
_STATEMENT_SECONDS: Final = 5.0
_RETRY_SECONDS: Final = 5.0
"""After a connection that was lost, or couldn't be had."""
_SUBSCRIBE: Final = "SELECT admission_subscribe($1::jsonb)"
_UNSUBSCRIBE: Final = "SELECT admission_unsubscribe($1::jsonb)"

_Connection = psycopg.Connection[tuple[Any, ...]]
_Run = Callable[[_Connection, LiteralString, Mapping[str, object], float], object]


class Subscription:
    """One call that is notified when there is room for it."""

    def __init__(self, listener: "Listener", entry_id: UUID) -> None:
        self.entry_id = entry_id
        self.is_live = False
        """Whether it is notified: once the session listens, and as long as that goes on."""
        self._listener = listener
        self._notified = threading.Event()

    def rest(self, seconds: float) -> None:
        """Wait until it is notified, or is notified no more, and no longer than this."""
        self._notified.wait(seconds)
        self._notified.clear()

    def end(self) -> None:
        """Be notified no more."""
        self._listener.end(self)

    def notify(self) -> None:
        """It may ask again."""
        self._notified.set()


class Listener:
    """The connection that listens, and its thread."""

    def __init__(self, connect: Callable[[], _Connection], run: _Run) -> None:
        """
        :param connect: opens the connection
        :param run: runs a statement on it, and takes no longer than so many seconds; it raises psycopg.Error
        """
        self._connect = connect
        self._run = run
        self._lock = threading.Lock()
        """For what follows."""
        self._live: dict[str, Subscription] = {}
        """Who is notified, by its channel."""
        self._asked: deque[tuple[Subscription, Future[bool] | None]] = deque()
        """Who is to be notified, with a future for whether it is; or no more, without one."""
        self._wakers: tuple[socket.socket, socket.socket] | None = None
        """By which the thread is woken; None while there is no thread."""
        self._closes = False
        self._is_possible = True
        self._retry_at = 0.0

    def subscribe(self, entry_id: UUID) -> Subscription | None:
        """
        :param entry_id: of a call that has a ticket
        :return: None where it can't be notified
        """
        if not self._is_possible or time.monotonic() < self._retry_at:
            return None
        one, answer = Subscription(self, entry_id), Future[bool]()
        self._ask(one, answer)
        return one if answer.result() else None

    def end(self, one: Subscription) -> None:
        """As `Subscription.end`."""
        with self._lock:
            was_live, one.is_live = one.is_live, False
            self._live.pop(_channel(one.entry_id), None)
        if was_live:
            self._ask(one, None)

    def close(self) -> None:
        """Close the connection, unless somebody is notified over it."""
        with self._lock:
            self._closes = True
            self._wake()

    def _ask(self, one: Subscription, answer: "Future[bool] | None") -> None:
        with self._lock:
            self._asked.append((one, answer))
            if self._wakers is None:
                self._closes, self._wakers = False, socket.socketpair()
                for each in self._wakers:
                    each.setblocking(False)
                threading.Thread(target=self._serve, args=self._wakers[:1], name="listener", daemon=True).start()
            self._wake()

    def _wake(self) -> None:
        if self._wakers is not None:
            with suppress(BlockingIOError):  # it was woken so often and has yet to look
                self._wakers[1].send(b"!")

    def _end_thread(self) -> None:
        """Under the lock: who asks from now on starts another."""
        for each in self._wakers or ():
            each.close()
        self._wakers = None

    # --- in the thread ---

    def _serve(self, alarm: socket.socket) -> None:
        connection: _Connection | None = None
        is_over = False
        try:
            connection = self._connect()
            needed_at = time.monotonic()
            while not is_over:
                if self._answer(connection):
                    needed_at = time.monotonic()
                self._deliver(connection)
                is_over = self._is_over(needed_at)
                if not is_over:
                    _sleep(connection, alarm)
        except (psycopg.Error, LedgerUnavailableError):
            pass  # the calls ask again by themselves, and the next that waits tries again
        finally:
            if not is_over:
                self._forget_all()
            if connection is not None:
                connection.close()

    def _answer(self, connection: _Connection) -> bool:
        """:return: whether anybody had asked, or is notified"""
        had_asked = False
        while True:
            with self._lock:
                if not self._asked:
                    return had_asked or bool(self._live)
                one, answer = self._asked[0]
            self._do(connection, one, answer)
            with self._lock:
                self._asked.popleft()
            had_asked = True

    def _do(self, connection: _Connection, one: Subscription, answer: "Future[bool] | None") -> None:
        argument = {"id": str(one.entry_id), "session": _session(connection)}
        if answer is None:
            self._run(connection, _UNSUBSCRIBE, argument, _STATEMENT_SECONDS)
            return
        with self._lock:
            self._live[_channel(one.entry_id)] = one  # before it: a notification may come with the answer
        result = cast(Mapping[str, object], self._run(connection, _SUBSCRIBE, argument, _STATEMENT_SECONDS))
        with self._lock:
            one.is_live = self._is_possible = bool(result.get("listens"))
            if not one.is_live:
                del self._live[_channel(one.entry_id)]
        answer.set_result(one.is_live)

    def _deliver(self, connection: _Connection) -> None:
        while (arrived := connection.pgconn.notifies()) is not None:
            with self._lock:
                one = self._live.get(arrived.relname.decode())
            if one is not None:
                one.notify()

    def _is_over(self, needed_at: float) -> bool:
        with self._lock:
            is_over = not self._asked and not self._live
            is_over = is_over and (self._closes or time.monotonic() - needed_at > _IDLE_SECONDS)
            if is_over:
                self._end_thread()
            return is_over

    def _forget_all(self) -> None:
        """The connection is lost: nobody is notified any more, and each looks by itself now."""
        with self._lock:
            self._end_thread()
            self._retry_at = time.monotonic() + _RETRY_SECONDS
            lost, self._live = [*self._live.values()], {}
            asked, self._asked = self._asked, deque()
        for one in lost:
            one.is_live = False
            one.notify()
        for _, answer in asked:
            if answer is not None:
                answer.set_result(False)


def _sleep(connection: _Connection, alarm: socket.socket) -> None:
    """Until something arrives, somebody asks, or it may be over."""
    arrivals = select.poll()
    arrivals.register(connection.pgconn.socket, select.POLLIN)
    arrivals.register(alarm, select.POLLIN)
    arrivals.poll(1000 * _IDLE_SECONDS)
    with suppress(BlockingIOError):
        alarm.recv(4096)
    connection.pgconn.consume_input()


def _session(connection: _Connection) -> int:
    """The process of the server that the connection was told of. Behind a pooler statements run in another."""
    return connection.pgconn.backend_pid


def _channel(entry_id: UUID) -> str:
    return f"fusewire_{entry_id}"
