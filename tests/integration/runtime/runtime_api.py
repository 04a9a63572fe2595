"""Lambda's side of the Runtime API for tests: real HTTP over sockets, which shows every chunk as it was framed."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BufferedReader
from queue import Empty, SimpleQueue
from typing import Any, Final

from tests.support.patience import PATIENCE_SECONDS

ROOT: Final = "/2018-06-01/runtime"

ApiEvent = dict[str, Any]
API_EVENT: Final[ApiEvent] = {"httpMethod": "POST", "path": "/", "requestContext": {"requestId": "r"}, "body": None}


@dataclass
class Post:
    """What the runtime posted."""

    path: str
    headers: dict[str, str]
    connection: int
    """The number of the connection that it came by."""
    chunks: list[bytes] = field(default_factory=list)
    trailers: dict[str, str] = field(default_factory=dict)
    whole: bool = False
    """Whether it was seen to its end."""

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    @property
    def json(self) -> Any:  # noqa: ANN401 - whatever was posted
        return json.loads(self.body)


class RuntimeApiServer:
    """Hands out events and takes answers; the attributes say how it misbehaves."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._events: SimpleQueue[tuple[str, bytes, dict[str, str]] | None] = SimpleQueue()
        self._chunks: SimpleQueue[bytes] = SimpleQueue()
        self._posts: SimpleQueue[Post] = SimpleQueue()
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()
        self.connections = 0
        self.chunked_events = False
        self.answer_status = 202
        self.hang_up_after_chunks: int | None = None
        self.hang_up_between_requests = False
        self.say_close = False
        self.cut_events = False
        self.restore_status = 200
        self.trace = ""
        """X-Ray's header of the events that are given from here on, where a test wants one of its own."""
        self._frozen: SimpleQueue[int] = SimpleQueue()
        self._thawed = threading.Event()

    @property
    def address(self) -> str:
        host, port = self._listener.getsockname()
        return f"{host}:{port}"

    def give(self, event: object, request_id: str = "1", *, raw: bytes | None = None, seconds: float = 60) -> None:
        """Let the next `next` answer with this event."""
        headers = {
            "Lambda-Runtime-Aws-Request-Id": request_id,
            "Lambda-Runtime-Deadline-Ms": str(int((time.time() + seconds) * 1000)),
            "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:here:0:function:f",
            "Lambda-Runtime-Trace-Id": self.trace or f"Root={request_id}",
            "Content-Type": "application/json",
        }
        self._events.put((request_id, json.dumps(event).encode() if raw is None else raw, headers))

    def hang_up_on_next(self) -> None:
        """Let the next `next` end in a closed connection."""
        self._events.put(None)

    def frozen(self) -> int:
        """Wait until the runtime may be frozen.

        :return: the number of the connection that it waits on
        """
        return self._frozen.get(timeout=PATIENCE_SECONDS)

    def thaw(self) -> None:
        """Let every wait for the restore end."""
        self._thawed.set()

    def posted(self) -> Post:
        """The next thing that was posted to its end, or broken off."""
        return self._posts.get(timeout=PATIENCE_SECONDS)

    def chunk(self) -> bytes:
        """The next chunk, as soon as it arrives."""
        return self._chunks.get(timeout=PATIENCE_SECONDS)

    def nothing_more(self) -> bool:
        """Whether every post was looked at."""
        try:
            self._posts.get_nowait()
        except Empty:
            return True
        return False

    def close(self) -> None:
        self.thaw()
        _hang_up(self._listener)
        self._listener.close()
        for connection in self._open:
            _hang_up(connection)
            self._events.put(None)
        for thread in self._threads:
            thread.join(PATIENCE_SECONDS)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            thread = threading.Thread(target=self._talk, args=(connection, self.connections))
            self._threads.append(thread)
            thread.start()

    def _talk(self, connection: socket.socket, number: int) -> None:
        with connection, connection.makefile("rb") as reader:
            try:
                while line := reader.readline():
                    method, path, _ = line.decode().split()
                    self._answer(connection, reader, method, path.removeprefix(ROOT), number)
                    if self.hang_up_between_requests:
                        return
            except OSError:
                return  # either side hung up

    def _answer(self, connection: socket.socket, reader: BufferedReader, method: str, path: str, number: int) -> None:
        headers = _headers(reader)
        if path == "/restore/next":
            self._frozen.put(number)
            self._thawed.wait()
            connection.sendall(f"HTTP/1.1 {self.restore_status} X\r\nContent-Length: 0\r\n\r\n".encode())
            return
        if method == "GET":
            event = self._events.get()
            if event is None:
                raise ConnectionAbortedError
            connection.sendall(self._event(*event))
            if self.cut_events:
                raise ConnectionAbortedError
            return
        post = Post(path, headers, number)
        try:
            self._read(reader, post)
        finally:
            self._posts.put(post)
        close = "Connection: close\r\n" if self.say_close else ""
        connection.sendall(f"HTTP/1.1 {self.answer_status} X\r\n{close}Content-Length: 2\r\n\r\n{{}}".encode())

    def _event(self, request_id: str, body: bytes, headers: dict[str, str]) -> bytes:
        if self.chunked_events:
            parts = [body[:5], body[5:]]
            framed = b"".join(b"%x;extension=1\r\n%b\r\n" % (len(part), part) for part in parts if part)
            body, headers = framed + b"0\r\nA-Trailer: x\r\n\r\n", headers | {"Transfer-Encoding": "chunked"}
        else:
            headers = headers | {"Content-Length": str(len(body))}
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"HTTP/1.1 200 OK\r\n{head}\r\n".encode() + body[: -20 if self.cut_events else None]

    def _read(self, reader: BufferedReader, post: Post) -> None:
        if post.headers.get("transfer-encoding") != "chunked":
            post.chunks.append(reader.read(int(post.headers["content-length"])))
            post.whole = True
            return
        while size := int(reader.readline() or _gone(), 16):
            post.chunks.append(reader.read(size))
            reader.readline()
            self._chunks.put(post.chunks[-1])
            if len(post.chunks) == self.hang_up_after_chunks:
                raise ConnectionAbortedError
        post.trailers = _headers(reader)
        post.whole = True


def _headers(reader: BufferedReader) -> dict[str, str]:
    headers = {}
    while line := reader.readline().strip():
        name, _, value = line.decode().partition(": ")
        headers[name.lower()] = value
    return headers


def _gone() -> bytes:
    raise ConnectionResetError("the runtime hung up")


def _hang_up(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it is closed already


@contextmanager
def runtime_api() -> Iterator[RuntimeApiServer]:
    server = RuntimeApiServer()
    try:
        yield server
    finally:
        server.close()
