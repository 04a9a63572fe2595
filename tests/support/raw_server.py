"""A server that does to a connection what a script says, byte by byte."""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import NoReturn

Script = Callable[[socket.socket], None]
OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"


class Server:
    """Does to its first connection what the first script says, and so on."""

    def __init__(self, *scripts: Script) -> None:
        self._scripts = list(scripts)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._current = self._listening
        self.address = f"http://127.0.0.1:{self.port}"
        self.url = f"{self.address}/v1/x?y=1"
        self.accepted = 0
        self.errors: list[Exception] = []
        self.over = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        for script in self._scripts:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self.accepted += 1
            self._current = connection
            with connection:
                try:
                    script(connection)
                except OSError:
                    pass  # the client hung up
                except Exception as error:  # noqa: BLE001 - told by the test's end
                    self.errors.append(error)

    def close(self) -> None:
        self.over.set()
        for waited_on in (self._listening, self._current):
            with contextlib.suppress(OSError):
                waited_on.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(5)
        assert self.errors == []


@contextlib.contextmanager
def serving(*scripts: Script) -> Iterator[Server]:
    server = Server(*scripts)
    try:
        yield server
    finally:
        server.close()


def _gone() -> NoReturn:
    raise ConnectionError("the client hung up")


def read_request(connection: socket.socket) -> bytes:
    """A whole request, by its Content-Length."""
    result = b""
    while b"\r\n\r\n" not in result:
        result += connection.recv(65536) or _gone()
    head, _, body = result.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def saying(*parts: bytes, wait: float = 0.02, reset: bool = False) -> Script:
    """Read a request, say this, and hang up."""

    def script(connection: socket.socket) -> None:
        read_request(connection)
        for number, part in enumerate(parts):
            if number:
                time.sleep(wait)
            connection.sendall(part)
        if reset:
            time.sleep(wait)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    return script


def and_then_silence(*parts: bytes) -> Script:
    def script(connection: socket.socket) -> None:
        saying(*parts)(connection)
        connection.recv(1)  # until the client has had enough

    return script


def answering(*answers: bytes) -> Script:
    """One request after the other over this connection."""

    def script(connection: socket.socket) -> None:
        for answer in answers:
            read_request(connection)
            connection.sendall(answer)
        connection.recv(1)

    return script
