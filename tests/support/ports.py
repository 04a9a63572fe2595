"""Ports of 127.0.0.1 at which no vendor will ever answer."""

import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager


@contextmanager
def closed_port() -> Iterator[int]:
    """Taken, so that nobody else listens there either: connections are refused."""
    with closing(socket.socket()) as holder:
        holder.bind(("127.0.0.1", 0))
        yield int(holder.getsockname()[1])


@contextmanager
def full_port() -> Iterator[int]:
    """A listener whose queue is full: the kernel answers no more connections."""
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = [socket.socket() for _ in range(8)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(listener.getsockname())
        yield int(listener.getsockname()[1])
        for each in waiting:
            each.close()
