"""X-Ray: how much of a traced request was spent in each attempt at a provider and in each statement of the ledger.

Lambda traces an invocation as one piece, the segment. What is sent from here are subsegments below it, each a datagram
to the daemon that Lambda runs beside a function, in the format that AWS documents. AWS's SDK, which Powertools' Tracer
needs, would cost more to import than the rest of a function (docs/decisions/0010-tracing.md). Where tracing is off, or
a request isn't sampled, nothing is made, opened or sent.

A subsegment says who, what and how long; like the log it never holds content, a key or an address.
"""

import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final, Literal, LiteralString

from fusewire.json import dumps

Flag = Literal["fault", "error", "throttle"]
"""X-Ray's flags for what failed: the server, the caller's request, or too many requests at once."""

_HEADER: Final = b'{"format": "json", "version": 1}\n'
_MAX_VALUE: Final = 250


@dataclass(frozen=True, slots=True)
class _Trace:
    """A request that is sampled."""

    id: str
    segment: str
    """The id of Lambda's segment of this invocation, the parent of all that is sent here."""
    request_id: str
    daemon: tuple[str, int]


class Subsegment:
    """Work that is in progress; `end` sends it, once. Without a trace it does nothing."""

    __slots__ = ("_annotations", "_began", "_clock", "_name", "_sql", "_trace")

    def __init__(
        self, trace: _Trace | None, name: str, annotations: Mapping[str, object], sql: Mapping[str, str] | None = None
    ) -> None:
        """:param annotations: what traces can be searched by"""
        self._trace = trace
        self._name = name
        self._annotations = annotations
        self._sql = sql
        self._began, self._clock = time.time(), time.perf_counter()

    def end(self, outcome: str | None = None, flag: Flag = "fault") -> None:
        """:param outcome: what went wrong, None for nothing; `flag` says who caused it"""
        trace, self._trace = self._trace, None
        if trace is None:
            return
        annotations = {"request_id": trace.request_id, **self._annotations}
        document: dict[str, object] = {
            "name": self._name,
            "id": os.urandom(8).hex(),
            "trace_id": trace.id,
            "parent_id": trace.segment,
            "type": "subsegment",
            "namespace": "remote",
            "start_time": self._began,
            "end_time": self._began + time.perf_counter() - self._clock,
            "annotations": annotations,
        }
        if self._sql is not None:
            document["sql"] = self._sql
        if outcome is not None:
            annotations["outcome"] = outcome
            document[flag] = True
        # A trace is never worth a request: what can't be sent at once is lost.
        with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            out.setblocking(False)
            out.sendto(_HEADER + dumps(document).encode(), trace.daemon)


_enabled = False
_current: Final[ContextVar[_Trace | None]] = ContextVar("trace", default=None)
"""Of the call that this thread is at."""


def set_enabled(enabled: bool) -> None:
    """Whether this process traces what is sampled."""
    global _enabled
    _enabled = enabled


def begin(request_id: str, header: str | None = None) -> None:
    """A request starts, and may be sampled; what the one before left open is dropped.

    :param header: the invocation's, `Root=...;Parent=...;Sampled=1`; None where the runtime sets it as a variable
    """
    if not _enabled:
        _current.set(None)
        return
    # These variables aren't settings: Lambda's runtime sets them for each invocation.
    _current.set(_sampled(request_id, os.environ.get("_X_AMZN_TRACE_ID", "") if header is None else header))


def attempt(provider: str, model: str, number: int) -> Subsegment:
    """Begin the subsegment of an attempt at a provider."""
    if (trace := _current.get()) is None:
        return _NONE
    return Subsegment(trace, provider, {"model": model[:_MAX_VALUE], "attempt": number})


def statement(sql: LiteralString) -> AbstractContextManager[None]:
    """A subsegment around a statement of the ledger, with connecting where that has to be done."""
    return _NOTHING if (trace := _current.get()) is None else _traced_statement(trace, sql)


@contextmanager
def _traced_statement(trace: _Trace, sql: LiteralString) -> Iterator[None]:
    traced = Subsegment(trace, "ledger", {}, {"sanitized_query": sql, "database_type": "PostgreSQL"})
    try:
        yield
    except Exception as error:
        traced.end(type(error).__name__)
        raise
    traced.end()


def _sampled(request_id: str, header: str) -> _Trace | None:
    """The trace of the invocation; None where it isn't sampled."""
    parts = dict(part.partition("=")[::2] for part in header.split(";"))
    daemon = os.environ.get("AWS_XRAY_DAEMON_ADDRESS", "")
    addresses = [each.removeprefix("udp:") for each in daemon.split() if not each.startswith("tcp:")]
    if parts.get("Sampled") != "1" or not (parts.get("Root") and parts.get("Parent") and addresses):
        return None
    host, _, port = addresses[0].rpartition(":")
    return _Trace(parts["Root"], parts["Parent"], request_id, (host, int(port))) if port.isdigit() else None


_NONE: Final = Subsegment(None, "", {})
_NOTHING: Final = nullcontext()
