"""What isn't proper HTTP, or comes too slowly or too large: refused by the gateway, without a function, in bounds."""

import asyncio
import json
import os
from pathlib import Path

import pytest
import uvloop

from local import gateway
from local.asgi import Message
from local.connection import Connection
from tests.integration.local.serving import Client, Code, serving
from tests.integration.local.test_gateway import ECHO
from tests.support.patience import PATIENCE_SECONDS

_GET = b"GET /echo HTTP/1.1\r\nHost: x\r\n"
_POST = b"POST /echo HTTP/1.1\r\nHost: x\r\n"
_SMUGGLED = b"0\r\n\r\nGET /echo/smuggled HTTP/1.1\r\nHost: x\r\n\r\n"

REFUSED = {
    "both lengths": (400, _POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n" + _SMUGGLED),
    "both lengths, the other way": (
        400,
        _POST + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n" + _SMUGGLED,
    ),
    "two lengths": (400, _POST + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\n" + _SMUGGLED),
    "an unknown coding": (400, _POST + b"Transfer-Encoding: xchunked\r\n\r\n" + _SMUGGLED),
    "a coding after chunked": (400, _POST + b"Transfer-Encoding: chunked, identity\r\n\r\n" + _SMUGGLED),
    "a space before the colon": (400, _POST + b"Transfer-Encoding : chunked\r\n\r\n" + _SMUGGLED),
    "a negative length": (400, _POST + b"Content-Length: -5\r\n\r\n"),
    "a signed length": (400, _POST + b"Content-Length: +5\r\n\r\n12345"),
    "a length past 64 bits": (400, _POST + b"Content-Length: 99999999999999999999999\r\n\r\n"),
    "a negative chunk": (400, _POST + b"Transfer-Encoding: chunked\r\n\r\n-5\r\n12345\r\n0\r\n\r\n"),
    "a chunk past 64 bits": (400, _POST + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff1\r\n1\r\n0\r\n\r\n"),
    "a folded header": (400, _GET + b"X-A: b\r\n c\r\n\r\n"),
    "a bare line feed": (400, b"GET /echo HTTP/1.1\nHost: x\n\n"),
    "a bare carriage return": (400, _GET + b"X-A: b\rX-B: c\r\n\r\n"),
    "NUL in a header": (400, _GET + b"X-A: b\0c\r\n\r\n"),
    "NUL in the path": (400, b"GET /echo\0 HTTP/1.1\r\nHost: x\r\n\r\n"),
    "a raw byte in the path": (400, b"GET /echo/\xff HTTP/1.1\r\nHost: x\r\n\r\n"),
    "an unknown version": (400, b"GET /echo HTTP/9.9\r\nHost: x\r\n\r\n"),
    "HTTP/2": (400, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "TLS": (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    "no host": (400, b"GET /echo HTTP/1.1\r\n\r\n"),
    "two hosts": (400, _GET + b"Host: y\r\n\r\n"),
    "an address without a path": (400, b"GET http://[::1/ HTTP/1.1\r\nHost: x\r\n\r\n"),
    "a tunnel": (400, b"CONNECT evil:443 HTTP/1.1\r\nHost: x\r\n\r\n"),
    "a broken escape": (400, b"GET /echo/%zz HTTP/1.1\r\nHost: x\r\n\r\n"),
    "an escape that isn't UTF-8": (400, b"GET /echo?a=%ff HTTP/1.1\r\nHost: x\r\n\r\n"),
    "line breaks in the path": (400, b"GET /nowhere%0d%0aX-Evil:%201 HTTP/1.1\r\nHost: x\r\n\r\n"),
    "a slash in disguise": (404, b"GET /echo%2fa HTTP/1.1\r\nHost: x\r\n\r\n"),
    "a dot segment": (404, b"GET /echo/../echo HTTP/1.1\r\nHost: x\r\n\r\n"),
    "a dot segment in disguise": (404, b"GET /echo/%2e%2e/echo HTTP/1.1\r\nHost: x\r\n\r\n"),
    "an empty segment": (404, b"GET //echo HTTP/1.1\r\nHost: x\r\n\r\n"),
    "a path parameter": (404, b"GET /echo;a=b HTTP/1.1\r\nHost: x\r\n\r\n"),
    "another method": (405, b"TRACE /echo HTTP/1.1\r\nHost: x\r\n\r\n"),
    "a long path": (431, b"GET /echo/" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n"),
    "a long query string": (431, b"GET /echo?a=" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n"),
    "a long token": (431, _GET + b"Authorization: Bearer " + b"a" * 20_000 + b"\r\n\r\n"),
    "many headers": (431, _GET + b"".join(b"X-%d: a\r\n" % n for n in range(3_000)) + b"\r\n"),
    "a header without an end": (431, _GET + b"X-A: " + b"a" * 100_000),
}


async def answer_to(client: Client, *packets: bytes, pause: float = 0.0) -> bytes:
    """Everything that comes back on a connection of its own, until the gateway or this client ends it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    sending = asyncio.create_task(_send(writer, packets, pause))
    try:
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_SECONDS)
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
        return head + await reader.readexactly(int(length.partition(b":")[2]))
    finally:
        sending.cancel()
        writer.close()


async def _send(writer: asyncio.StreamWriter, packets: tuple[bytes, ...], pause: float) -> None:
    for packet in packets:
        writer.write(packet)
        await writer.drain()
        await asyncio.sleep(pause)


def memory() -> int:
    """Bytes that this process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_no_function_sees_what_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        echo = Code(tmp_path, "echo", ECHO)
        async with serving(echo) as client:
            for name, (status, request) in REFUSED.items():
                answer = await answer_to(client, request)
                head, _, body = answer.partition(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 %d " % status), (name, answer)
                assert b"x-request-id: " in head, name
                assert b"x-evil" not in head.lower(), name
                assert body.endswith(b"}\n"), name
                error = json.loads(body)["error"]
                assert error["type"] == "invalid_request_error", name
                assert len(body) < 500, name
            assert echo.spawned == []

    uvloop.run(scenario())


def test_a_trailer_is_no_header(tmp_path: Path) -> None:
    request = _POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nAuthorization: Bearer late\r\n\r\n"

    async def scenario() -> None:
        async with serving(Code(tmp_path, "echo", ECHO)) as client:
            assert b"late" not in await answer_to(client, request)

    uvloop.run(scenario())


@pytest.mark.parametrize(
    "packets",
    [
        [],
        [_GET],
        [_POST + b"Content-Length: 1000\r\n\r\n", b"x"],
        [_POST + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"],
    ],
)
def test_a_slow_sender_is_told_and_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packets: list[bytes]) -> None:
    monkeypatch.setattr(Connection, "head_seconds", 0.3)
    monkeypatch.setattr(gateway, "_BODY_SECONDS", 0.3)

    async def scenario() -> None:
        echo = Code(tmp_path, "echo", ECHO)
        async with serving(echo) as client:
            answer = await answer_to(client, *packets, pause=0.05)
            assert answer.startswith(b"HTTP/1.1 408 "), answer
            assert b"connection: close" in answer.lower()
            assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "request_timeout"
            await client.arrived(0)
            assert echo.spawned == []

    uvloop.run(scenario())


def test_patience_is_for_the_whole_body(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for each part of it: a drip would hold the connection for ever."""
    monkeypatch.setattr(gateway, "_BODY_SECONDS", 0.2)
    dripped = 0

    async def drip() -> Message:
        nonlocal dripped
        dripped += 1
        await asyncio.sleep(0.01)
        return {"type": "http.request", "body": b"x", "more_body": dripped < 10_000}

    with pytest.raises(gateway._RefusedError, match="in time"):
        uvloop.run(gateway._Body(gateway.Gateway((), {}, (), {}), drip)._content())
    assert dripped > 1


def test_patience_is_for_one_head_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Connection, "head_seconds", 1.0)
    code = "def handler(event, context):\n    time.sleep(1.5)\n    return reply('done')\n"

    async def scenario() -> None:
        async with serving(Code(tmp_path, "slow", code), concurrency=1) as client:
            for _ in range(2):  # on one connection, the second after the gateway's patience for the first
                assert (await client.get("/slow")).text == "done"
                await asyncio.sleep(1.2)

    uvloop.run(scenario())


def test_a_body_without_an_end_takes_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway lives in this process: what it holds is this process's."""
    monkeypatch.setattr(gateway, "_BODY_SECONDS", 5.0)
    chunk = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"

    async def scenario() -> None:
        async with serving(Code(tmp_path, "echo", ECHO)) as client:
            before = most = memory()
            reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
            writer.write(_POST + b"Transfer-Encoding: chunked\r\n\r\n")
            sent = 0
            try:
                while not reader.at_eof() and sent < 500:
                    writer.write(chunk)
                    await writer.drain()
                    sent += 1
                    most = max(most, memory())
            except ConnectionError:
                pass  # it hung up
            writer.close()
            assert most - before < 60_000_000 < sent * 0x100000
            assert (await client.get("/echo")).status_code == 200

    uvloop.run(scenario())
