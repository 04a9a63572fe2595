"""One client's connection, with an end to the patience for its request's head; a body's is the gateway's to end."""

import asyncio
import uuid
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from local.asgi import error_body
from local.request_line import HEAD_TOO_LARGE, TOO_SLOW

HEAD_SECONDS: Final = 20.0
_MAX_UNFINISHED_BYTES: Final = 64 * 1024


class Connection(HttpToolsProtocol):
    """uvicorn's, which alone would keep an unfinished head for ever and let it grow without bounds."""

    head_seconds = HEAD_SECONDS
    _patience: asyncio.TimerHandle | None = None
    _in_head = True
    _unfinished = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self._in_head or self.transport.is_closing():
            return
        self._unfinished += len(data)
        if self._unfinished > _MAX_UNFINISHED_BYTES:
            self._hang_up(b"431 Request Header Fields Too Large", "request_headers_too_large", HEAD_TOO_LARGE)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._unfinished = True, 0
        if self._patience is None:
            self._await_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        # A trailer comes after whoever looked at the headers: it must not pass for one.
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._stop_waiting()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """uvicorn's response to what isn't HTTP, in the format of every other error."""
        self._hang_up(b"400 Bad Request", "invalid_request_error", "That isn't an HTTP request.")

    def _await_head(self) -> None:
        self._patience = self.loop.call_later(self.head_seconds, self._out_of_patience)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _out_of_patience(self) -> None:
        self._patience = None
        if self.cycle is not None and not self.cycle.response_complete:
            self._await_head()  # nothing more is read before the answer to the request before
        else:
            self._hang_up(b"408 Request Timeout", "request_timeout", TOO_SLOW)

    def _hang_up(self, status: bytes, code: str, message: str) -> None:
        body = error_body(int(status[:3]), code, message)
        head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\nx-request-id: %b\r\n"
        self.transport.write(
            head % (status, len(body), str(uuid.uuid4()).encode()) + b"connection: close\r\n\r\n" + body
        )
        self.transport.close()
