"""What may stand between a function and Postgres: a proxy over TCP, with or without TLS, that can fall silent."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.support.certificates import Certificate

_TLS_REQUEST: Final = (8).to_bytes(4, "big") + (80877103).to_bytes(4, "big")


class PostgresProxy:
    """Listens on 127.0.0.1 and passes on to a server's Unix socket; the attributes say how it misbehaves."""

    def __init__(self, url: str, certificate: Certificate | None) -> None:
        parameters = conninfo_to_dict(url)
        self._target = f"{parameters['host']}/.s.PGSQL.{parameters.get('port', 5432)}"
        self._certificate = certificate
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._url = url
        self.connections = 0
        self.said = bytearray()
        """What clients have sent, where that isn't encrypted."""
        self.silent_to_new = False
        """Connections are taken, and nothing is passed on."""
        self.silent = threading.Event()
        """Set: statements are passed on, and no answer comes back."""
        self.reading = threading.Event()
        """Cleared: what clients send piles up before the proxy."""
        self.reading.set()
        self._start(self._accept)

    def url(self, **parameters: str) -> str:
        """The same database, by way of the proxy."""
        port = self._listener.getsockname()[1]
        return make_conninfo(self._url, **{"host": "127.0.0.1", "port": str(port), **parameters})

    def break_off(self) -> None:
        """End every connection."""
        for connection in self._open:
            _hang_up(connection)

    def close(self) -> None:
        self.reading.set()
        _hang_up(self._listener)
        self._listener.close()
        self.break_off()
        for thread in self._threads:
            thread.join(10)
        for connection in self._open:
            connection.close()

    def _start(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments)  # type: ignore[arg-type] # one of the methods below
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(client)
            if not self.silent_to_new:
                self._start(self._connect, client)

    def _connect(self, client: socket.socket) -> None:
        if self._certificate is not None:
            if client.recv(8) != _TLS_REQUEST:
                return _hang_up(client)
            client.sendall(b"S")
            try:
                client = self._certificate.context().wrap_socket(client, server_side=True)
            except (ssl.SSLError, OSError):
                return None  # the client doesn't trust us
            self._open.append(client)
        server = socket.socket(socket.AF_UNIX)
        server.connect(self._target)
        self._open.append(server)
        self._start(self._pass_on, client, server, False)
        self._start(self._pass_on, server, client, True)
        return None

    def _pass_on(self, source: socket.socket, to: socket.socket, answers: bool) -> None:
        try:
            while data := source.recv(65536):
                if not answers:
                    self.said += data
                if not (answers and self.silent.is_set()):
                    to.sendall(data)
                if not answers:
                    self.reading.wait()
        except OSError:
            pass  # either side hung up
        _hang_up(to)


def _hang_up(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it is closed already


@contextmanager
def postgres_proxy(url: str, certificate: Certificate | None = None) -> Iterator[PostgresProxy]:
    proxy = PostgresProxy(url, certificate)
    try:
        yield proxy
    finally:
        proxy.close()
