"""One Postgres connection per execution environment, opened on first use and renewed when it breaks.

The ledger's statements are PL/pgSQL functions that take and return one jsonb object (see `migrations/`), so a round
trip is a call by name. Nothing here pins a proxy's connection: no prepared statements, no session settings.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, LiteralString, TypeVar

import psycopg
from psycopg import generators
from psycopg.abc import PQGen
from psycopg.conninfo import make_conninfo
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus
from pydantic import SecretStr

from fusewire import tracing
from fusewire.errors import LedgerUnavailableError
from fusewire.json import dumps, loads

_CONNECT_TIMEOUT_SECONDS: Final = 3
_UNACKNOWLEDGED_MILLISECONDS: Final = 5_000
"""A connection that idled while its environment was frozen may lead nowhere: TCP's own patience is 15 minutes."""
_ANSWER_SECONDS: Final = 7.0
"""A server may take what is sent and never answer: a failover that nobody announced, a proxy without a target. Longer
than the 5 seconds for which the ledger's functions wait for a lock, so that a busy server still says so itself."""

Credentials = Callable[[bool], Mapping[str, str]]
"""The `user` and `password` for a new connection; True asks for fresh ones, because the last were refused.

:raises LedgerUnavailableError: when they can't be had
"""

_T = TypeVar("_T")

_NUL: Final = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")


class StatementRefusedError(LedgerUnavailableError):
    """Postgres was reached and refuses this very argument (a number out of range): sending it again is no use."""


class AnswerTimeout(psycopg.OperationalError):
    """A statement was sent, and no answer came: whether it was done is unknown."""


class _Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection whose every statement is answered in time, or given up. It costs nothing: the wait is psycopg's."""

    def wait(self, gen: PQGen[_T], interval: float = 0.1, timeout: float | None = None) -> _T:
        try:
            return super().wait(gen, interval, _ANSWER_SECONDS if timeout is None else timeout)
        except psycopg.errors._WaitTimeout as error:
            # What it answers later would be taken for the next statement's answer.
            self.close()
            raise AnswerTimeout from error


class Database:
    """Calls the ledger's functions; money goes in and comes out as Decimal."""

    def __init__(self, url: SecretStr | None, credentials: Credentials | None = None) -> None:
        self._url = url
        self._credentials = credentials
        self._connection: _Connection | None = None

    def call(self, statement: LiteralString, argument: Mapping[str, object]) -> Any:  # noqa: ANN401 - jsonb is anything
        """Run `SELECT function($1::jsonb)` as a transaction of its own.

        A connection that turns out to be dead, or that brings no answer in time, is renewed once and the statement sent
        again, marked as `resent`: every ledger function books at most once for the ids it is given.

        :return: the function's result, numbers with a fraction as Decimal
        :raises LedgerUnavailableError: when Postgres can't be reached or can't do it
        :raises StatementRefusedError: when it will never take this argument
        """
        try:
            with tracing.statement(statement):
                return self._sent(statement, argument)
        except (psycopg.DataError, psycopg.IntegrityError) as error:
            raise StatementRefusedError(type(error).__name__) from error
        except psycopg.Error as error:
            self.close()
            # The class, not the text: a connection error's text holds the address and the user.
            raise LedgerUnavailableError(type(error).__name__) from error

    def _sent(self, statement: LiteralString, argument: Mapping[str, object]) -> Any:  # noqa: ANN401 - as above
        if self._connection is not None:
            try:
                return self._run(self._connection, statement, argument)
            except (psycopg.OperationalError, psycopg.InterfaceError):
                if not self._connection.closed:
                    raise  # it answered, and said no: a lock that it waited for too long
                self.close()
                argument = {**argument, "resent": True}
        return self._run(self._connect(), statement, argument)

    def close(self) -> None:
        """Drop the connection; the next call opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _connect(self) -> _Connection:
        if self._url is None:
            raise LedgerUnavailableError("DATABASE_URL is not set")
        url = self._url.get_secret_value()
        self._connection = _opened(url, {}) if self._credentials is None else _admitted(url, self._credentials)
        return self._connection

    @staticmethod
    def _run(connection: _Connection, statement: LiteralString, argument: Mapping[str, object]) -> Any:  # noqa: ANN401
        # By psycopg's own parts rather than by a cursor, which looks up anew each time how to adapt what goes out and
        # comes back: here it is always one text each (docs/decisions/0013-hot-path.md).
        session = connection.pgconn
        session.send_query_params(statement.encode(), [_storable(dumps(argument))])
        result = connection.wait(generators.execute(session))[-1]
        if result.status != ExecStatus.TUPLES_OK:
            raise error_from_result(result)
        told = result.get_value(0, 0)
        return None if told is None else loads(told)


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
    return _Connection.connect(
        make_conninfo(url, **credentials),
        autocommit=True,
        connect_timeout=_CONNECT_TIMEOUT_SECONDS,
        tcp_user_timeout=_UNACKNOWLEDGED_MILLISECONDS,
        prepare_threshold=None,
        application_name="fusewire",
        client_encoding="utf8",
    )


def _storable(text: str) -> bytes:
    """JSON as jsonb takes it: no NUL, and no half of a surrogate pair, which a vendor's text may hold."""
    encoded = text.encode("utf-8", errors="replace")
    return _NUL.sub(rb"\1\\ufffd", encoded) if rb"\u0000" in encoded else encoded
