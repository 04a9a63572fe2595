"""A request's trailers are kept apart from its headers; `local.worker` learns of broken streams by them."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvicorn
import uvloop

from local.asgi import Message, Receive, Send, body_parts, header_of, send_whole, trailer_of
from local.connection import Connection

_HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: X-Late\r\n\r\n"
_BODY = b"3\r\none\r\n3\r\ntwo\r\n0\r\n"


class Seen:
    """What an application saw of its requests."""

    def __init__(self) -> None:
        self.at_first: list[str | None] = []
        self.at_last: list[str | None] = []
        self.bodies: list[bytes] = []

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        parts = body_parts(receive)
        first = await anext(parts)
        self.at_first.append(trailer_of(scope, b"x-late"))
        self.bodies.append(first + b"".join([part async for part in parts]))
        self.at_last.append(trailer_of(scope, b"x-late"))
        assert header_of(scope, b"x-late") is None
        await send_whole(send, 200, [(b"content-length", b"2")], b"{}")


@asynccontextmanager
async def served(seen: Seen) -> AsyncIterator[int]:
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(seen, http=Connection, ws="none", lifespan="off", interface="asgi3", log_config=None)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        yield listening.getsockname()[1]
    finally:
        server.should_exit = True
        await task


@pytest.mark.parametrize(
    "packets",
    [
        [_HEAD + _BODY + b"X-Late: why\r\n\r\n"],
        [_HEAD + _BODY, b"X-Late: why\r\n\r\n"],
        [_HEAD + _BODY[:8], _BODY[8:] + b"X-La", b"te: wh", b"y\r\n\r", b"\n"],
    ],
)
def test_trailers_are_there_when_the_body_has_ended(packets: list[bytes]) -> None:
    async def scenario() -> None:
        seen = Seen()
        async with served(seen) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for packet in packets:
                writer.write(packet)
                await writer.drain()
            assert (await reader.readuntil(b"{}")).startswith(b"HTTP/1.1 200")
            # On the same connection the next request has none of them.
            writer.write(_HEAD + _BODY + b"\r\n")
            await reader.readuntil(b"{}")
            writer.close()
            await writer.wait_closed()
        assert seen.bodies == [b"onetwo", b"onetwo"]
        assert seen.at_last == ["why", None]
        assert seen.at_first[1] is None

    uvloop.run(scenario())
