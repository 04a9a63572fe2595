"""The Lambda Runtime API, seen from inside the function: one keep-alive connection, one packet where one will do.

Requests are written by hand and responses parsed by hand because this runs twice for every call: `http.client` takes
about 0.1 ms for what is two short texts here.
"""

import base64
import json
import select
import socket
import struct
import threading
import time
from dataclasses import dataclass
from typing import Final

_ROOT: Final = "/2018-06-01/runtime"
_ERROR_TYPE: Final = "Lambda-Runtime-Function-Error-Type"
_ERROR_BODY: Final = "Lambda-Runtime-Function-Error-Body"
_STREAM_HEADERS: Final = (
    "Lambda-Runtime-Function-Response-Mode: streaming\r\n"
    "Content-Type: application/vnd.awslambda.http-integration-response\r\n"
    "Transfer-Encoding: chunked\r\n"
    f"Trailer: {_ERROR_TYPE}, {_ERROR_BODY}\r\n"
)
_LAST_CHUNK: Final = b"0\r\n\r\n"
_STALLED_SECONDS: Final = 60
"""A platform that takes nothing for so long waits for a client that reads nothing."""
_READ_BYTES: Final = 256 * 1024


class RuntimeApiError(Exception):
    """The platform's response isn't one of the protocol's, or there was none."""


@dataclass(frozen=True, slots=True)
class Invocation:
    """One event to handle, as `next` gave it."""

    request_id: str
    deadline_ms: int
    function_arn: str
    trace_id: str
    body: bytes
    shows_caller: bool = False
    """Whether the platform closes the connection when the event's caller has left: `make run` does, Lambda doesn't."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong, in text that is safe to show: never that of an arbitrary exception."""

    error_type: str
    message: str

    def document(self) -> bytes:
        """The Runtime API's error object."""
        return json.dumps({"errorType": self.error_type, "errorMessage": self.message, "stackTrace": []}).encode()


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _accepted(status: int) -> None:
    """:raises RuntimeApiError: when the platform refuses a response: it takes this process for another, or for dead"""
    if status != 202:
        raise RuntimeApiError(f"the platform answered a response with {status}")


def _is_readable(connection: socket.socket) -> bool:
    poll = select.poll()  # `select` takes no file number above 1023
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(0))


class RuntimeApi:
    """The platform's side of the conversation, at AWS_LAMBDA_RUNTIME_API: `host:port`, or `host:port/path`."""

    def __init__(self, address: str) -> None:
        self._host, slash, path = address.partition("/")
        host, _, port = self._host.rpartition(":")
        self._address = (host, int(port))
        self._root = f"{slash}{path}{_ROOT}"
        self._socket: socket.socket | None = None
        self._unread = bytearray()

    def another(self) -> "RuntimeApi":
        """The same by a connection of its own, for another thread."""
        return RuntimeApi(f"{self._host}{self._root.removesuffix(_ROOT)}")

    def next(self) -> Invocation:
        """Wait for the next event.

        :raises RuntimeApiError: when the platform is gone
        """
        try:
            status, headers, body = self._exchange(self._head("GET", "/invocation/next", ""))
        except OSError as error:
            raise RuntimeApiError("the Runtime API can't be reached") from error
        if status != 200:
            raise RuntimeApiError(f"next answered {status}")
        return Invocation(
            request_id=headers["lambda-runtime-aws-request-id"],
            deadline_ms=int(headers["lambda-runtime-deadline-ms"]),
            function_arn=headers.get("lambda-runtime-invoked-function-arn", ""),
            trace_id=headers.get("lambda-runtime-trace-id", ""),
            body=body,
            shows_caller="fusewire-closed-when-caller-left" in headers,
        )

    def is_closed(self) -> bool:
        """Whether the platform has closed the connection; asked between an event and its response."""
        return self._socket is None or _is_readable(self._socket)

    def respond(self, request_id: str, body: bytes) -> None:
        """Answer with the whole result at once."""
        self._post(f"/invocation/{request_id}/response", body)

    def fail(self, request_id: str, failure: Failure) -> None:
        """Answer that the handler failed."""
        self._post(f"/invocation/{request_id}/error", failure.document(), failure.error_type)

    def fail_init(self, failure: Failure) -> None:
        """Tell that this process can't serve; it should exit then."""
        self._post("/init/error", failure.document(), failure.error_type)

    def wait_for_restore(self) -> None:
        """Tell that this process may be frozen for good; returns in each copy of it that is thawed.

        :raises RuntimeApiError: when the platform is gone
        """
        try:
            status, *_ = self._exchange(self._head("GET", "/restore/next", ""))
        except OSError as error:
            raise RuntimeApiError("the Runtime API can't be reached") from error
        if status != 200:
            raise RuntimeApiError(f"restore/next answered {status}")
        self.close()  # every copy has this connection; each opens one of its own

    def fail_restore(self, failure: Failure) -> None:
        """Tell that this copy can't serve; it should exit then."""
        self._post("/restore/error", failure.document(), failure.error_type)

    def stream(self, request_id: str) -> "ResponseStream":
        """Begin an answer in streaming response mode; nothing leaves before its first write."""
        return ResponseStream(self, self._head("POST", f"/invocation/{request_id}/response", _STREAM_HEADERS))

    def _post(self, path: str, body: bytes, error_type: str = "") -> None:
        typed = f"{_ERROR_TYPE}: {error_type}\r\n" if error_type else ""
        head = self._head("POST", path, f"{typed}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n")
        try:
            status, *_ = self._exchange(head + body)
        except OSError:
            # Nobody is left to tell; `next` finds out whether the platform is gone or only this request.
            self.close()
        else:
            _accepted(status)

    def _head(self, method: str, path: str, headers: str) -> bytes:
        return f"{method} {self._root}{path} HTTP/1.1\r\nHost: {self._host}\r\n{headers}\r\n".encode()

    def _exchange(self, request: bytes) -> tuple[int, dict[str, str], bytes]:
        """Send a request and wait for its response; once more where an old connection breaks under it."""
        is_old = self._socket is not None
        try:
            self._send(request)
            return self._receive()
        except OSError:
            self.close()
            if not is_old:
                raise
        self._send(request)
        return self._receive()

    def _send(self, data: bytes) -> None:
        """Begin a request, on the open connection unless the platform closed it meanwhile."""
        # Between two requests nothing may come: readable means closed.
        if self._socket is not None and _is_readable(self._socket):
            self.close()
        if self._socket is None:
            self._socket = socket.create_connection(self._address)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # Reading has no limit: the next event comes when it comes.
            limit = struct.pack("ll", _STALLED_SECONDS, 0)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        self._socket.sendall(data)

    def _send_more(self, data: bytes) -> None:
        if self._socket is None:
            raise ConnectionError("the connection is closed")
        self._socket.sendall(data)

    def _receive(self) -> tuple[int, dict[str, str], bytes]:
        """One response: status, headers by lower-case name, body."""
        status_line, *lines = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        headers: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        if headers.get("transfer-encoding", "").lower() == "chunked":
            body = self._chunked_body()
        else:
            body = self._exactly(int(headers.get("content-length", 0)))
        if headers.get("connection", "").lower() == "close":
            self.close()
        return int(status_line.split(None, 2)[1]), headers, body

    def _chunked_body(self) -> bytes:
        parts = []
        while size := int(self._until(b"\r\n").partition(b";")[0], 16):
            parts.append(self._exactly(size))
            self._until(b"\r\n")
        while self._until(b"\r\n"):
            pass  # trailers, which have no use here
        return b"".join(parts)

    def _until(self, mark: bytes) -> bytes:
        while (end := self._unread.find(mark)) < 0:
            self._read()
        found = bytes(self._unread[:end])
        del self._unread[: end + len(mark)]
        return found

    def _exactly(self, size: int) -> bytes:
        while len(self._unread) < size:
            self._read()
        found = bytes(self._unread[:size])
        del self._unread[:size]
        return found

    def _read(self) -> None:
        data = self._socket.recv(_READ_BYTES) if self._socket is not None else b""
        if not data:
            raise ConnectionError("the platform hung up")
        self._unread += data

    def close(self) -> None:
        """Drop the connection; the next request opens another."""
        if self._socket is not None:
            self._socket.close()
        self._socket = None
        self._unread.clear()


class ResponseStream:
    """One streamed response. `write` never raises: once the platform hung up, or takes nothing any more, what is
    written is discarded.

    Two threads may write: each write is a whole chunk.
    """

    def __init__(self, api: RuntimeApi, head: bytes) -> None:
        self._api = api
        self._head = head
        self._lost = False
        self._writing = threading.Lock()
        self.written_at = 0.0
        """When something was written last, by `time.monotonic`."""

    def write(self, data: bytes) -> None:
        """Send bytes now."""
        if data:
            self._transmit(_chunk(data))

    def finish(self, data: bytes = b"") -> None:
        """Send the last bytes, if any, and end the response."""
        self._end((_chunk(data) if data else b"") + _LAST_CHUNK)

    def fail(self, failure: Failure) -> None:
        """End a response that broke after its first byte: the error goes into the trailers."""
        document = base64.b64encode(failure.document()).decode()
        self._end(f"0\r\n{_ERROR_TYPE}: {failure.error_type}\r\n{_ERROR_BODY}: {document}\r\n\r\n".encode())

    def _transmit(self, data: bytes) -> None:
        with self._writing:
            self.written_at = time.monotonic()
            if self._lost:
                return
            head, self._head = self._head, b""
            try:
                if head:
                    self._api._send(head + data)
                else:
                    self._api._send_more(data)
            except OSError:
                self._lost = True
                self._api.close()

    def _end(self, data: bytes) -> None:
        self._transmit(data)
        if self._lost:
            return
        try:
            status, *_ = self._api._receive()
        except OSError:
            self._api.close()
        else:
            _accepted(status)
