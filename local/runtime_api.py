"""The Lambda Runtime API as one execution environment's process sees it.

https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html

Not an ASGI application: each event is two requests, `next` and its answer, from one client that we start ourselves, and
what an ASGI server does for any client whatsoever would be unneeded work for every call.
"""

import asyncio
import hmac
import json
import time
from functools import partial
from typing import TYPE_CHECKING, Final, cast

import httptools

from fusewire.http.invocation import log_unexpected
from local.invocation import Invocation

if TYPE_CHECKING:
    from local.worker import Worker

_ROOT: Final = b"/2018-06-01/runtime"
_ERROR_TRAILER: Final = b"lambda-runtime-function-error-type"
_RESPONSE_MODE: Final = b"lambda-runtime-function-response-mode"
_CLOSED_FOR_CALLERS: Final = "fusewire-closed-when-caller-left"
"""Our own header of an event, for `fusewire.runtime`: Lambda doesn't learn that a caller has left."""
_ACCEPTED: Final = b"HTTP/1.1 202 Accepted\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
_FORBIDDEN: Final = _ACCEPTED.replace(b"202 Accepted", b"403 Forbidden")


class RuntimeConnection(asyncio.Protocol):
    """One connection of a worker's process; a request is answered before the next one comes."""

    def __init__(self, worker: "Worker") -> None:
        self._worker = worker
        self._generation = worker.generation
        self._secret = f"/{worker.secret}".encode()
        self._parser = httptools.HttpRequestParser(self)
        self._begin()

    def _begin(self) -> None:
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._trailers: dict[bytes, bytes] = {}
        self._parts: list[bytes] = []
        self._in_head = True
        self._is_known = False
        self._is_whole = False

    # --- what asyncio and httptools call; nothing is done before a packet is read, for an error would be lost here ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are of no asyncio class.
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._worker.hung_up(self.give)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
            self._go_on()
        except httptools.HttpParserError:
            self._transport.close()
        except Exception as error:  # noqa: BLE001 - the process is the one to suffer, not the gateway
            log_unexpected(error)
            self._transport.close()

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        (self._headers if self._in_head else self._trailers)[name.lower()] = value

    def on_headers_complete(self) -> None:
        self._in_head = False
        # Nothing is kept of what a stranger sends.
        self._is_known = self._comes_from_the_process()

    def on_body(self, part: bytes) -> None:
        if self._is_known:
            self._parts.append(part)

    def on_message_complete(self) -> None:
        self._is_whole = True

    # --- the requests ---

    def _go_on(self) -> None:
        if self._in_head:
            return
        if not self._is_known:
            self._transport.write(_FORBIDDEN)
            self._transport.close()
            return
        if b"expect" in self._headers:
            del self._headers[b"expect"]
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if self._headers.get(_RESPONSE_MODE) == b"streaming" and (invocation := self._invocation_of(b"response")):
            invocation.streamed = True
            self._pass_on(invocation)
        if self._is_whole:
            self._respond()

    def _respond(self) -> None:
        path = self._url.removeprefix(self._secret + _ROOT)
        accepted = True
        if not self._worker.is_started or self._generation != self._worker.generation:
            accepted = False  # a process that is gone, or an orphan of a gateway that had this port before
        elif path == b"/invocation/next":
            self._begin()
            self._worker.wait_for_event(self.give)
            return
        elif path == b"/init/error":
            error = json.loads(b"".join(self._parts))
            self._worker.init_failed(str(error.get("errorMessage") or error.get("errorType")))
        elif invocation := self._invocation_of(b"response"):
            self._pass_on(invocation)
            failed = self._trailers.get(_ERROR_TRAILER)
            self._worker.responded(invocation, failed.decode("latin-1") if failed else None)
        elif invocation := self._invocation_of(b"error"):
            self._worker.failed(invocation, json.loads(b"".join(self._parts)).get("errorMessage"))
        else:
            accepted = False
        self._begin()
        self._transport.write(_ACCEPTED if accepted else _FORBIDDEN)

    def _comes_from_the_process(self) -> bool:
        """Whether the request has the secret that the process was given, and its name for this host.

        The one keeps other users of the machine out, the other a web page whose own name leads here.
        """
        given = self._url[: len(self._secret) + 1]
        is_secret = hmac.compare_digest(given, self._secret + b"/")
        return is_secret and self._headers.get(b"host", b"").decode("latin-1") == self._worker.host

    def _invocation_of(self, kind: bytes) -> Invocation | None:
        """The event that this request's path names, if it is one that the process is at."""
        before, after = b"%b%b/invocation/" % (self._secret, _ROOT), b"/%b" % kind
        if not (self._url.startswith(before) and self._url.endswith(after)):
            return None
        return self._worker.open_call(self._url[len(before) : -len(after)].decode("latin-1"))

    def _pass_on(self, invocation: Invocation) -> None:
        if self._parts:
            invocation.on_full, invocation.on_room = self._pause, self._resume
            invocation.write(b"".join(self._parts))
            self._parts.clear()

    def _pause(self) -> None:
        self._transport.pause_reading()

    def _resume(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def give(self, invocation: Invocation, deadline: float, function_arn: str) -> None:
        """Answer `next` with an event, which has to be handled by `deadline` (seconds since the epoch)."""
        if self._transport.is_closing():
            return  # its process ends, or asks again: either ends the event
        trace = f"Root=1-{int(time.time()):08x}-{invocation.id[-24:]};Sampled=0"
        head = (
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
            f"content-length: {len(invocation.payload)}\r\n"
            f"lambda-runtime-aws-request-id: {invocation.id}\r\n"
            f"lambda-runtime-deadline-ms: {int(deadline * 1000)}\r\n"
            f"lambda-runtime-invoked-function-arn: {function_arn}\r\n"
            f"lambda-runtime-trace-id: {trace}\r\n"
            f"{_CLOSED_FOR_CALLERS}: yes\r\n\r\n"
        )
        self._transport.write(head.encode() + invocation.payload)
        invocation.payload = b""
        invocation.on_left = partial(self._caller_left, invocation)

    def _caller_left(self, invocation: Invocation) -> None:
        """Hang up, as the header has announced: so the process sees it when it looks, and isn't disturbed."""
        if self._worker.open_call(invocation.id) is invocation:
            self._transport.close()
