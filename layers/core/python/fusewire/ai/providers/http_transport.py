"""HTTP/1.1 beneath the vendors' SDKs, by the client of Python's own library.

httpx2 lets a transport take the place of its own (https://www.python-httpx.org/advanced/transports/#custom-transports),
which keeps a pool for many tasks at once and parses every byte in Python. Here one call at a time goes out over a
connection that is kept (docs/decisions/0014-http-transport.md).

What goes wrong comes out as httpx2's own errors, because they decide what is booked (`faults.unanswered`): before there
is a connection nothing was asked for, from then on all of it may be billed.
"""

import http.client
import math
import select
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from functools import cached_property
from io import BufferedIOBase
from typing import Any, Final

import httpx2

_KEPT_SECONDS: Final = 5.0
"""How long a connection may idle, as with httpx2's own: an environment that was frozen comes back to a dead one."""
_READ_BYTES: Final = 64 * 1024
_HEAD_LINES: Final = 1000
_KEPT_ALIVE: Final = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *(
        (socket.IPPROTO_TCP, getattr(socket, name), value)
        for name, value in {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 60, "TCP_KEEPCNT": 5}.items()
        if hasattr(socket, name)  # not everywhere
    ),
]
"""As Anthropic's SDK has it: who answers after minutes is on the other side of a NAT gateway that forgets sooner."""
_NOT_IN_A_VALUE: Final = frozenset(b"\r\n\0")
_PORTS: Final = {"http": 80, "https": 443}


class Transport(httpx2.BaseTransport):
    """Sends requests one after the other, each over the last connection that is free."""

    def __init__(self) -> None:
        self._free: list[_Connection] = []

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        """Made when it is needed: reading the certificates takes longer than a call."""
        return httpx2.create_ssl_context()

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request, and return once the answer's head has come.

        :raises httpx2.UnsupportedProtocol: for an address that is neither http nor https
        :raises httpx2.TransportError: as httpx2's own transport would
        """
        timeouts: Mapping[str, float | None] = request.extensions["timeout"]
        connection = self._connection(request.url, timeouts)
        try:
            answer = connection.ask(request, timeouts)
        except BaseException:
            connection.close()
            raise
        return httpx2.Response(
            answer.status,
            headers=[
                (name.encode("latin-1"), value.strip().encode("latin-1")) for name, value in answer.headers.items()
            ],
            stream=_Body(answer, connection, self._free),
            extensions={
                "http_version": b"HTTP/1.%d" % (answer.version - 10),
                "reason_phrase": answer.reason.encode("latin-1"),
            },
        )

    def _connection(self, url: httpx2.URL, timeouts: Mapping[str, float | None]) -> "_Connection":
        while self._free:
            connection = self._free.pop()
            if connection.leads_to(url) and connection.is_alive():
                return connection
            connection.close()
        try:
            tls = self._tls if url.scheme == "https" else None
        except OSError as error:  # SSL_CERT_FILE leads nowhere
            raise httpx2.ConnectError(f"the certificates can't be read: {error}") from error
        return _Connection(url, tls, timeouts["connect"])

    def close(self) -> None:
        """Close what is free; what is in use closes with its answer."""
        while self._free:
            self._free.pop().close()


class _Connection:
    """One connection, in one call at a time."""

    def __init__(self, url: httpx2.URL, tls: ssl.SSLContext | None, seconds: float | None) -> None:
        """Connect. :raises httpx2.ConnectError: or one of its like"""
        if url.scheme not in _PORTS or not url.host:
            raise httpx2.UnsupportedProtocol(f"The address {url.scheme}: can't be asked over HTTP")
        self._origin = (url.scheme, url.host, url.port)
        host, port = url.raw_host.decode("ascii"), url.port or _PORTS[url.scheme]
        self._http = (
            http.client.HTTPConnection(host, port, timeout=seconds)
            if tls is None
            else http.client.HTTPSConnection(host, port, timeout=seconds, context=tls)
        )
        self._http.response_class = _Answer
        self._has_sent_all = True
        self._until = 0.0
        try:
            self._http.connect()
            for option in _KEPT_ALIVE:
                self._http.sock.setsockopt(*option)
        except TimeoutError as error:
            self.close()
            raise httpx2.ConnectTimeout(str(error)) from error
        except (OSError, ValueError) as error:  # ValueError: a name that no name server can be asked for
            self.close()
            raise httpx2.ConnectError(str(error)) from error

    def leads_to(self, url: httpx2.URL) -> bool:
        return self._origin == (url.scheme, url.host, url.port)

    def is_alive(self) -> bool:
        """Whether it was used a moment ago, and the server hasn't closed it: between two calls nothing may come."""
        own = self._http.sock
        if time.monotonic() >= self._until or (isinstance(own, ssl.SSLSocket) and own.pending()):
            return False
        look = select.poll()
        look.register(own, select.POLLIN)
        return not look.poll(0)

    def ask(self, request: httpx2.Request, timeouts: Mapping[str, float | None]) -> "_Answer":
        """Send a request and read the answer's head."""
        try:
            self._send(request, timeouts["write"])
            self._http.sock.settimeout(timeouts["read"])
            return self._http.getresponse()  # type: ignore[return-value] # it is of `response_class`
        except TimeoutError as error:
            raise httpx2.ReadTimeout(str(error)) from error
        except http.client.HTTPException as error:
            raise httpx2.RemoteProtocolError(str(error) or type(error).__name__) from error
        except OSError as error:
            raise httpx2.ReadError(str(error)) from error
        except ValueError as error:
            raise httpx2.LocalProtocolError(type(error).__name__) from error

    def _send(self, request: httpx2.Request, seconds: float | None) -> None:
        # http.client would let a value go on in the next line.
        if not all(_NOT_IN_A_VALUE.isdisjoint(value) for _, value in request.headers.raw):
            raise httpx2.LocalProtocolError("a header holds the end of a line, or a NUL")
        self._http.putrequest(
            request.method, request.url.raw_path.decode("ascii"), skip_host=True, skip_accept_encoding=True
        )
        for name, value in request.headers.raw:
            self._http.putheader(name, value)
        self._http.sock.settimeout(seconds)
        try:
            self._http.endheaders(request.content)
        except TimeoutError as error:
            raise httpx2.WriteTimeout(str(error)) from error
        except OSError:
            # A server may say no and hang up before it has read everything: what it says is to be read.
            self._has_sent_all = False

    def may_be_kept(self) -> bool:
        """Whether another call may use it, after an answer that was read to its end; for some seconds from now."""
        self._until = time.monotonic() + _KEPT_SECONDS
        return self._has_sent_all and self._http.sock is not None  # http.client is rid of it where the server closes

    def close(self) -> None:
        self._http.close()


class _Head:
    """The lines of an answer's head, as `http.client` reads them: some time, and so many, and then no more."""

    def __init__(self, file: BufferedIOBase, seconds: float | None) -> None:
        self._file = file
        self._until = math.inf if seconds is None else time.monotonic() + seconds
        self._left = _HEAD_LINES
        self.last = b""

    def readline(self, limit: int = -1) -> bytes:
        self._left -= 1
        if self._left < 0:
            raise http.client.HTTPException("the head has no end")
        if time.monotonic() > self._until:
            raise TimeoutError("the time for the head is over")
        self.last = self._file.readline(limit)
        return self.last

    def close(self) -> None:
        self._file.close()


class _Answer(http.client.HTTPResponse):
    """An answer, after whatever the server says before it (RFC 9110, 15.2). It is whole, and says how it will end."""

    def __init__(self, sock: socket.socket, *rest: Any, **named: Any) -> None:  # noqa: ANN401 - as `http.client` has it
        super().__init__(sock, *rest, **named)
        self._seconds = sock.gettimeout()

    def begin(self) -> None:
        file = self.fp
        head = _Head(file, self._seconds)
        self.fp = head  # type: ignore[assignment] # of a file, no more is asked for here
        try:
            super().begin()
            while 100 <= self.status < 200 and self.status != http.client.SWITCHING_PROTOCOLS:
                self.headers = self.msg = None  # type: ignore[assignment] # else it takes the head for read
                super().begin()
        finally:
            if self.fp is not None:  # else it has been closed
                self.fp = file
        if head.last not in (b"\r\n", b"\n"):
            raise http.client.HTTPException("the server hung up in the middle of the head")
        codings = self.headers.get_all("transfer-encoding", [])
        lengths = {length.strip() for length in self.headers.get_all("content-length", [])}
        if (codings and not self.chunked) or len(lengths) > 1 or not all(map(str.isdecimal, lengths)):
            raise http.client.HTTPException("the head doesn't say how the answer will end")
        if self.status == http.client.SWITCHING_PROTOCOLS:
            raise http.client.HTTPException("the server wants to speak something else")


class _Body(httpx2.SyncByteStream):
    """An answer's body, as it comes."""

    def __init__(self, answer: _Answer, connection: _Connection, free: list[_Connection]) -> None:
        self._answer = answer
        self._connection = connection
        self._free = free
        self._is_whole = False
        self._is_closed = False

    def __iter__(self) -> Iterator[bytes]:
        answer = self._answer
        try:
            # What has no length ends with its last chunk, or where the server hangs up.
            while answer.length != 0 and (part := answer.read1(_READ_BYTES)):
                yield part
        except TimeoutError as error:
            raise httpx2.ReadTimeout(str(error)) from error
        except http.client.HTTPException as error:
            raise httpx2.RemoteProtocolError(type(error).__name__) from error
        except OSError as error:
            raise httpx2.ReadError(str(error)) from error
        if answer.length:
            raise httpx2.RemoteProtocolError("the server hung up before the answer's end")
        self._is_whole = True

    def close(self) -> None:
        """Let the connection serve another call if the answer was read to its end: its rest would be the next one's."""
        if self._is_closed:
            return
        self._is_closed = True
        self._answer.close()
        if self._is_whole and self._connection.may_be_kept():
            self._free.append(self._connection)
        else:
            self._connection.close()
