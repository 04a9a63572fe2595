"""A wire between the ledger and Postgres that breaks at the worst moment."""

import select
import socket
from collections.abc import Sequence
from contextlib import suppress
from threading import Lock, Thread
from typing import Final, Literal

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.support.patience import PATIENCE_SECONDS

Break = Literal["before", "after"]

_READY: Final = b"Z\0\0\0\x05I"
"""ReadyForQuery outside a transaction: everything before it is committed."""


class Wire:
    """Passes bytes both ways. `break_at` cuts the connection that next carries a marker.

    `before`: the statement is swallowed, and `deliver_late` hands it to Postgres afterwards, on the same session.
    `after`: Postgres runs the statement, and its answer is swallowed.
    """

    def __init__(self, database_url: str) -> None:
        self._target = conninfo_to_dict(database_url)
        self._lock = Lock()
        self._breaks: list[tuple[bytes, Break]] = []
        self._late: list[tuple[socket.socket, bytes]] = []
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads = [Thread(target=self._accept, daemon=True)]
        self._threads[0].start()
        # In the clear, since the wire has to see which statement passes.
        self.url = make_conninfo(
            database_url,
            host="127.0.0.1",
            port=self._listener.getsockname()[1],
            sslmode="disable",
            gssencmode="disable",
        )

    def break_at(self, *markers: str, when: Break | Sequence[Break]) -> None:
        """Cut at the first marker, then at the second, and so on; `when` is one for all or one for each."""
        each: Sequence[Break] = [when] * len(markers) if isinstance(when, str) else when
        with self._lock:
            self._breaks += [(marker.encode(), at) for marker, at in zip(markers, each, strict=True)]

    @property
    def all_broken(self) -> bool:
        with self._lock:
            return not self._breaks

    def deliver_late(self) -> None:
        """Hand over what was swallowed, and wait until Postgres has answered it."""
        with self._lock:
            late, self._late = self._late, []
        assert late, "nothing was swallowed"
        for server, statement in late:
            with server:
                _run(server, statement)

    def drop_late(self) -> None:
        """What was swallowed never arrives."""
        with self._lock:
            late, self._late = self._late, []
        for server, _ in late:
            server.close()

    def close(self) -> None:
        # On Linux shutdown wakes whoever waits in accept or select; close alone doesn't.
        for held in (self._listener, *self._open):
            with suppress(OSError):
                held.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(timeout=PATIENCE_SECONDS)
        for held in (self._listener, *self._open):
            held.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = self._connect()
            self._open += [client, server]
            thread = Thread(target=self._pass_on, args=(client, server), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _connect(self) -> socket.socket:
        host, port = str(self._target.get("host") or "localhost"), int(self._target.get("port") or 5432)
        if not host.startswith("/"):
            return socket.create_connection((host, port), timeout=PATIENCE_SECONDS)
        server = socket.socket(socket.AF_UNIX)
        server.connect(f"{host}/.s.PGSQL.{port}")
        return server

    def _pass_on(self, client: socket.socket, server: socket.socket) -> None:
        with client, suppress(OSError):
            while True:
                for source in select.select([client, server], [], [])[0]:
                    data = source.recv(1 << 20)
                    when = self._due(data) if source is client else None
                    if when is not None:
                        self._cut(client, server, data, when)
                        return
                    if not data:
                        server.close()
                        return
                    (server if source is client else client).sendall(data)

    def _due(self, data: bytes) -> Break | None:
        with self._lock:
            if not self._breaks or self._breaks[0][0] not in data:
                return None
            return self._breaks.pop(0)[1]

    def _cut(self, client: socket.socket, server: socket.socket, data: bytes, when: Break) -> None:
        if when == "before":
            with self._lock:
                self._late.append((server, data))
        else:
            with server:
                _run(server, data)
        client.shutdown(socket.SHUT_RDWR)


def _run(server: socket.socket, statement: bytes) -> None:
    server.settimeout(30)
    server.sendall(statement)
    answer = b""
    while not answer.endswith(_READY):
        received = server.recv(1 << 20)
        assert received, "Postgres hung up on the statement"
        answer += received
