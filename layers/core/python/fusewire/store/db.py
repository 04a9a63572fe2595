"""The connections of an execution environment to Postgres: one, or a few where it handles several events at once.

Each is opened on first use and renewed when it breaks.

The ledger's statements are PL/pgSQL functions that take and return one jsonb object (see `functions/`), so a round
trip is a call by name. Nothing here pins a proxy's connection: no prepared statements, no session settings.

psycopg opens the connection. A statement is sent by `psycopg.pq`, psycopg's public wrapper of libpq: a cursor has no
time-out, and a server that takes statements and never answers would hold the call for ever.
"""

import re
import select
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, LiteralString, TypeVar, cast

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import DiagnosticField, ExecStatus
from psycopg.pq.abc import PGconn, PGresult
from pydantic import SecretStr

from fusewire import tracing
from fusewire.errors import LedgerUnavailableError
from fusewire.json import dumps, loads

if TYPE_CHECKING:
    from uuid import UUID

    from fusewire.store.groups import Groups
    from fusewire.store.listener import Listener, Subscription

_CONNECT_TIMEOUT_SECONDS: Final = 3
"""Unless `DATABASE_URL` has a `connect_timeout`: a database that pauses takes its time to resume."""
_UNACKNOWLEDGED_MILLISECONDS: Final = 5_000
"""A connection that idled while its environment was frozen may lead nowhere: TCP's own patience is 15 minutes."""
_ANSWER_SECONDS: Final = 7.0
"""A server may take what is sent and never answer: a failover that nobody announced, a proxy without a target. Longer
than the 5 s for which the ledger's functions wait for a lock (`lock_timeout`), so that a busy server still says so
itself."""

Credentials = Callable[[bool], Mapping[str, str]]
"""The `user` and `password` for a new connection; True asks for fresh ones, because the last were refused.

:raises LedgerUnavailableError: when they can't be had
"""

Argument = TypeVar("Argument", bound=Mapping[str, object])
Result = TypeVar("Result")

_OF_ONE_CALL: Final = frozenset({"20", "21", "22", "23", "2B", "38", "39", "40", "44", "54", "55", "P0"})
"""The classes of errors (https://www.postgresql.org/docs/current/errcodes-appendix.html) for which Postgres takes a
whole group back though one of its calls is at fault: by its data, its rows, its locks."""
_LOCK_OF_ALL: Final = "ledger_lock_for_group"
"""The function (`functions/groups.sql`) that waits for the row that every call of a group needs."""

_NUL: Final = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")


@dataclass(frozen=True)
class Statement(Generic[Argument, Result]):
    """`SELECT function($1::jsonb)`: a jsonb object goes in, one comes out. Whoever uses it declares their shapes."""

    sql: LiteralString
    in_group: Literal["reserve", "settle"] | None = None
    """What it is called where it may be sent together with others (`groups.py`)."""


GROUP: Final = Statement[Mapping[str, object], Mapping[str, Any]]("SELECT ledger_group($1::jsonb)")
_PROBE: Final = Statement[Mapping[str, object], object]("SELECT ledger_probe($1::jsonb)")


class StatementRefusedError(LedgerUnavailableError):
    """Postgres was reached and refuses this very argument (a number out of range): sending it again is no use."""


class AnswerTimeout(psycopg.OperationalError):
    """A statement was sent, and no answer came: whether it was done is unknown."""


_UNTRACED: Final[AbstractContextManager[None]] = nullcontext()
_Connection = psycopg.Connection[tuple[Any, ...]]


class Database:
    """Calls the ledger's functions; money goes in and comes out as Decimal.

    Threads may share it. A call has a connection for one statement at a time: while a vendor answers, or while it waits
    for room, others have it.
    """

    def __init__(
        self,
        url: SecretStr | None,
        credentials: Credentials | None = None,
        *,
        connections: int = 1,
        groups: bool = True,
    ) -> None:
        """
        :param connections: how many are opened at most, each when it is first needed
        :param groups: whether statements that come together may be sent as one, where there are several connections
        """
        self._free = [_Link(url, credentials) for _ in range(connections)]
        """Those that no statement has; the one that was used last comes last, and is used next."""
        self._returned = threading.Condition()
        self._only = self._free[0] if connections == 1 else None
        self._url, self._credentials = url, credentials
        self._listener: Listener | None = None
        self._groups = self._grouping() if connections > 1 and groups else None

    def call(
        self, statement: Statement[Argument, Result], argument: Argument, *, seconds: float | None = None
    ) -> Result:
        """Run a statement as a transaction of its own, or with others of this environment's that come together.

        A connection that turns out to be dead, or that brings no answer in time, is renewed once and the statement sent
        again, marked as `resent`: every ledger function books at most once for the ids it is given.

        :param seconds: for which its answer is waited for, each time that it is sent, and before that a connection,
            where others have them all; None: as long as a lock may take
        :return: the function's result, numbers with a fraction as Decimal
        :raises LedgerUnavailableError: when Postgres can't be reached or can't do it
        :raises StatementRefusedError: when it will never take this argument
        """
        seconds = seconds or _ANSWER_SECONDS
        if self._groups is not None and statement.in_group is not None:
            argument = cast(Argument, {**argument, "grouped": True})
            if self._groups.takes(statement, argument):
                with tracing.statement(statement.sql):
                    return self._groups.call(statement, argument, seconds)
        return self._alone(statement, argument, seconds, tracing.statement(statement.sql))

    def _grouping(self) -> "Groups":
        from fusewire.store.groups import Groups  # here, since most environments have one connection

        return Groups(
            self._alone,
            self._together,
            connections=len(self._free),
            connect_seconds=_CONNECT_TIMEOUT_SECONDS,
        )

    def _together(self, argument: Mapping[str, object], seconds: float) -> Mapping[str, Any] | None:
        try:
            return self._alone(GROUP, argument, seconds)
        except LedgerUnavailableError as error:
            if isinstance(error.__cause__, psycopg.Error) and _is_of_one_call(error.__cause__):
                return None
            raise

    def _alone(
        self,
        statement: Statement[Argument, Result],
        argument: Argument,
        seconds: float,
        traced: AbstractContextManager[None] = _UNTRACED,
    ) -> Result:
        with self._link(seconds) as link:
            try:
                with traced:
                    return cast(Result, link.ask(statement.sql, argument, seconds))
            except (psycopg.DataError, psycopg.IntegrityError) as error:
                raise StatementRefusedError(type(error).__name__) from error
            except psycopg.Error as error:
                link.close()
                # The class, not the text: a connection error's text holds the address and the user.
                raise LedgerUnavailableError(type(error).__name__, may_be_done=link.has_sent) from error
            except LedgerUnavailableError as error:
                error.may_be_done = link.has_sent
                raise

    def send(self, statement: Statement[Argument, Result], argument: Argument) -> None:
        """Send a statement and go on: its answer is taken before its connection's next statement is sent, and says
        nothing.

        It is for what may be left undone. Where no connection is open and without a due answer, nothing is sent; a
        refusal by Postgres leaves it undone.
        """
        with self._returned:
            link = next((each for each in reversed(self._free) if each.is_ready), None)
            if link is None:
                return
            self._free.remove(link)
        try:
            link.send(statement.sql, argument)
        finally:
            self._give_back(link)

    @contextmanager
    def _link(self, seconds: float) -> Iterator["_Link"]:
        with self._returned:
            if not self._returned.wait_for(lambda: self._free, seconds):
                raise LedgerUnavailableError("every connection is in use", may_be_done=False)
            link = self._free.pop()
        try:
            yield link
        finally:
            self._give_back(link)

    def _give_back(self, link: "_Link") -> None:
        with self._returned:
            # Who takes one with a due answer waits for that first.
            self._free.insert(0 if link.is_answer_due else len(self._free), link)
            self._returned.notify()

    @property
    def session(self) -> int | None:
        """The process of the server that the connection was told of when it was opened; None without a connection, and
        where there may be several: the next statement may run in another.

        Behind a pooler it isn't the one that its statements run in (`pg_backend_pid()`).
        """
        return None if self._only is None else self._only.session

    def rest(self, seconds: float) -> None:
        """Wait until this session is notified, or its connection breaks, and no longer than this."""
        if self._only is None:
            time.sleep(seconds)
        else:
            self._only.rest(seconds)

    def subscribe(self, entry_id: "UUID") -> "Subscription | None":
        """Have a call that waits for room notified over a connection that listens for all of them.

        :param entry_id: of a call that has a ticket
        :return: None where nothing can be listened to, and where there is one connection, which listens itself
        """
        if self._only is not None:
            return None
        with self._returned:
            if self._listener is None:
                from fusewire.store.listener import Listener  # here, since most environments have one connection

                self._listener = Listener(lambda: _connected(self._url, self._credentials), _Link.run)
        return self._listener.subscribe(entry_id)

    def probe(self) -> None:
        """Write, and take it back.

        :raises LedgerUnavailableError: when Postgres can't be reached, wasn't migrated, or can't write
        """
        self.call(_PROBE, {})

    def close(self) -> None:
        """Drop the connections that no statement has; the next call opens another."""
        with self._returned:
            for link in self._free:
                link.close()
            if self._listener is not None:
                self._listener.close()


class _Link:
    """One connection, opened on first use and renewed when it breaks. One thread has it at a time."""

    def __init__(self, url: SecretStr | None, credentials: Credentials | None) -> None:
        self._url = url
        self._credentials = credentials
        self._connection: _Connection | None = None
        self.is_answer_due = False
        """Whether a statement was sent whose answer is still to be taken from the connection."""
        self.has_sent = False
        """Whether anything of the statement that was asked last may have reached a server."""

    def ask(self, sql: LiteralString, argument: Mapping[str, object], seconds: float) -> object:
        """:raises psycopg.Error: what Postgres, or the lack of it, answers; :raises LedgerUnavailableError: where there
        is no address or no credential
        """
        self.has_sent = False
        self._take_due_answer(seconds)
        if self._connection is not None:
            self.has_sent = True
            try:
                return self.run(self._connection, sql, argument, seconds)
            except (psycopg.OperationalError, psycopg.InterfaceError):
                if not self._connection.closed:
                    raise  # it answered, and said no: a lock that it waited for too long
                self.close()
                argument = {**argument, "resent": True}
        connection = self._connect()
        self.has_sent = True
        return self.run(connection, sql, argument, seconds)

    @property
    def is_ready(self) -> bool:
        """Whether it is open, and no answer is due."""
        return self._connection is not None and not self.is_answer_due

    def send(self, sql: LiteralString, argument: Mapping[str, object]) -> None:
        """As `Database.send`."""
        if self._connection is None:
            return
        try:
            _send(self._connection.pgconn, sql.encode(), _storable(dumps(argument)), _deadline(_ANSWER_SECONDS))
            self.is_answer_due = True
        except psycopg.Error:
            self.close()  # the next statement opens another
        except BaseException:
            self.close()
            raise

    def _take_due_answer(self, seconds: float) -> None:
        """Without an answer the connection is of no more use, and the next statement opens another."""
        if self._connection is None or not self.is_answer_due:
            return
        self.is_answer_due = False
        try:
            _answer(self._connection.pgconn, _deadline(seconds))
        except psycopg.Error:
            self.close()
        except BaseException:
            self.close()
            raise

    @property
    def session(self) -> int | None:
        """As `Database.session`."""
        return None if self._connection is None else self._connection.pgconn.backend_pid

    def rest(self, seconds: float) -> None:
        """As `Database.rest`."""
        self._take_due_answer(_ANSWER_SECONDS)
        connection = self._connection
        if connection is None:
            time.sleep(seconds)
            return
        try:
            if connection.pgconn.notifies() is None:  # one that came with an answer is with libpq already
                next(connection.notifies(timeout=seconds, stop_after=1), None)
        except psycopg.Error:
            self.close()

    def close(self) -> None:
        """Drop the connection; the next statement opens another."""
        connection, self._connection = self._connection, None
        self.is_answer_due = False
        if connection is not None:
            connection.close()

    def _connect(self) -> _Connection:
        self._connection = _connected(self._url, self._credentials)
        return self._connection

    @staticmethod
    def run(connection: _Connection, sql: LiteralString, argument: Mapping[str, object], seconds: float) -> object:
        try:
            result = _result(connection.pgconn, sql.encode(), _storable(dumps(argument)), seconds)
        except BaseException:
            # What it answers later would be taken for the next statement's answer.
            connection.close()
            raise
        if result.status != ExecStatus.TUPLES_OK:
            raise _error(result)
        row = result.get_value(0, 0)
        return None if row is None else loads(row)


def _is_of_one_call(error: psycopg.Error) -> bool:
    """Whether a group's other calls may be done by themselves."""
    if isinstance(error, psycopg.errors.LockNotAvailable) and _LOCK_OF_ALL in (error.diag.context or ""):
        return False
    return (error.diag.sqlstate or "")[:2] in _OF_ONE_CALL


def _result(session: PGconn, statement: bytes, argument: bytes, seconds: float) -> PGresult:
    """Send a statement and wait for its last result, as libpq's manual has it
    (https://www.postgresql.org/docs/current/libpq-async.html).

    :raises AnswerTimeout: when it isn't there in time
    :raises psycopg.OperationalError: when the connection breaks
    """
    deadline = _deadline(seconds)
    _send(session, statement, argument, deadline)
    return _answer(session, deadline)


def _deadline(seconds: float) -> float:
    return time.monotonic() + seconds


def _send(session: PGconn, statement: bytes, argument: bytes, deadline: float) -> None:
    session.send_query_params(statement, [argument])
    while session.flush():
        _wait(session, select.POLLIN | select.POLLOUT, deadline)
        session.consume_input()


def _answer(session: PGconn, deadline: float) -> PGresult:
    last: PGresult | None = None
    while True:
        while session.is_busy():
            _wait(session, select.POLLIN, deadline)
            session.consume_input()
        result = session.get_result()
        if result is None:
            break
        last = result
    if last is None:
        raise psycopg.OperationalError("the connection brought no result")
    return last


def _wait(session: PGconn, events: int, deadline: float) -> None:
    poll = select.poll()
    poll.register(session.socket, events)
    if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
        raise AnswerTimeout


def _error(result: PGresult) -> psycopg.Error:
    state = result.error_field(DiagnosticField.SQLSTATE)
    if state is None:  # libpq's own: the connection broke
        return psycopg.OperationalError(result.get_error_message())
    try:
        return psycopg.errors.lookup(state.decode())(result.get_error_message(), info=result)
    except KeyError:
        return psycopg.DatabaseError(result.get_error_message(), info=result)


def _connected(url: SecretStr | None, credentials: Credentials | None) -> _Connection:
    """:raises psycopg.Error, LedgerUnavailableError: as `_Link.ask`"""
    if url is None:
        raise LedgerUnavailableError("DATABASE_URL is not set")
    plain = url.get_secret_value()
    return _opened(plain, {}) if credentials is None else _admitted(plain, credentials)


def _admitted(url: str, credentials: Credentials) -> _Connection:
    known = credentials(False)
    try:
        return _opened(url, known)
    except psycopg.errors.ConnectionTimeout:
        raise
    except psycopg.OperationalError:
        # Refused, perhaps because the password was changed meanwhile; the reason comes as text only.
        if (fresh := credentials(True)) == known:
            raise
        return _opened(url, fresh)


def _opened(url: str, credentials: Mapping[str, str]) -> _Connection:
    patience = {"connect_timeout": _CONNECT_TIMEOUT_SECONDS} if "connect_timeout" not in conninfo_to_dict(url) else {}
    return psycopg.Connection.connect(
        make_conninfo(url, **credentials, **patience),
        autocommit=True,
        tcp_user_timeout=_UNACKNOWLEDGED_MILLISECONDS,
        prepare_threshold=None,
        application_name="fusewire",
        client_encoding="utf8",
    )


def _storable(text: str) -> bytes:
    """JSON as jsonb takes it: no NUL, and no half of a surrogate pair, which a vendor's text may hold."""
    encoded = text.encode("utf-8", errors="replace")
    return _NUL.sub(rb"\1\\ufffd", encoded) if rb"\u0000" in encoded else encoded
