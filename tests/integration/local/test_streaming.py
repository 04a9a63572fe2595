"""Streamed answers from a real worker: when chunks leave, who may be slow, and what a break looks like."""

import asyncio
import socket
import textwrap
from functools import partial
from pathlib import Path

import httpx
import pytest
import uvloop

from local import gateway, invocation
from local.invocation import Invocation
from tests.integration.local.serving import STREAM, Client, Code, code_of, eventually, logged, logged_lines, serving
from tests.support.memory import growing_by_less_than

_STREAMED = """
class Streamed:
    def __init__(self, chunks, status=200, **headers):
        self.status, self.headers, self.chunks = status, headers, chunks
"""


def streaming(parent: Path, code: str, *, timeout: float = 20) -> Code:
    return Code(parent, "f", _STREAMED + textwrap.dedent(code), timeout=timeout, wrapper=STREAM)


async def read_until_it_breaks(client: Client, path: str) -> bytes:
    """What came of an answer that doesn't end well."""
    received = b""
    with pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
        async with client.stream("GET", path) as answer:
            assert answer.status_code == 200
            async for part in answer.aiter_raw():
                received += part
    return received


def test_a_chunk_arrives_before_the_next_is_made(tmp_path: Path) -> None:
    code = """
    def chunks():
        for number in range(3):
            yield b"chunk %d" % number
            wait_for(f"seen-{number}")

    def handler(event, context):
        return Streamed(chunks(), 207, **{"content-type": "text/event-stream", "x-a": "b"})
    """

    async def scenario() -> None:
        function = streaming(tmp_path, code)
        async with serving(function) as client, client.stream("GET", "/f") as answer:
            assert answer.status_code == 207
            assert (answer.headers["content-type"], answer.headers["x-a"]) == ("text/event-stream", "b")
            parts = answer.aiter_raw()
            for number in range(3):
                assert await anext(parts) == b"chunk %d" % number
                function.let(f"seen-{number}")
            assert [part async for part in parts] == []

    uvloop.run(scenario())


def test_a_slow_reader_does_not_hold_a_worker(tmp_path: Path) -> None:
    code = """
    def handler(event, context):
        if event["pathParameters"]["item"] == "long":
            return Streamed((b"%09d" % number) * 10_000 for number in range(200))
        return reply("quick")
    """

    async def scenario() -> None:
        function = streaming(tmp_path, code)
        async with serving(function, concurrency=1) as client, client.stream("GET", "/f/long") as answer:
            parts = answer.aiter_raw()
            received = await anext(parts)
            # 18 MB are on their way to a client that doesn't read, and the only worker has time again.
            assert (await client.get("/f/other")).text == "quick"
            received += b"".join([part async for part in parts])
            assert received == b"".join((b"%09d" % number) * 10_000 for number in range(200))
            assert len(function.spawned) == 1

    uvloop.run(scenario())


@pytest.mark.parametrize(
    ("end", "processes", "reason"),
    [
        ("raise ValueError('secret words')", 1, "failed in mid-answer: ValueError"),
        ("os._exit(3)", 2, "broke down: it exited with status 3"),
        ("os.kill(os.getpid(), signal.SIGKILL)", 2, "broke down: it was killed by SIGKILL"),
        ("time.sleep(60)", 2, "took longer than its 1 s"),
    ],
)
def test_an_answer_that_breaks_off(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, end: str, processes: int, reason: str
) -> None:
    code = f"""
    def chunks():
        yield b"first"
        yield b"second"
        {end}

    def handler(event, context):
        return Streamed(chunks()) if event["pathParameters"] else reply("fine")
    """

    async def scenario() -> None:
        function = streaming(tmp_path, code, timeout=1)
        async with serving(function, concurrency=1) as client:
            assert await read_until_it_breaks(client, "/f/break") == b"firstsecond"
            assert (await client.get("/f")).text == "fine"
            assert len(function.spawned) == processes

    uvloop.run(scenario())
    messages = [line["message"] for line in logged_lines(caplog) if "message" in line]
    assert len(messages) == 1
    assert reason in messages[0]
    assert "secret" not in messages[0]


def test_a_failure_before_the_first_chunk_has_a_status(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    code = """
    def chunks():
        raise ValueError("no")
        yield b""

    def handler(event, context):
        return Streamed(chunks())
    """

    async def scenario() -> None:
        async with serving(streaming(tmp_path, code)) as client:
            answer = await client.get("/f")
            assert (answer.status_code, code_of(answer)) == (502, "function_failed")

    uvloop.run(scenario())
    assert logged(caplog, "gateway.function_failed", "path") == ["/f"]


def test_a_client_that_hangs_up_does_not_stop_the_stream(tmp_path: Path) -> None:
    code = """
    def chunks():
        yield b"first"
        wait_for("gone")
        for _ in range(100):
            yield b"x" * 10_000
        note("settled", "yes")

    def handler(event, context):
        return Streamed(chunks()) if event["pathParameters"] else reply("fine")
    """

    async def scenario() -> None:
        function = streaming(tmp_path, code)
        async with serving(function, concurrency=1) as client:
            async with client.stream("GET", "/f/long") as answer:
                assert await anext(answer.aiter_raw()) == b"first"
            function.let("gone")
            await eventually(lambda: function.notes("settled") == ["yes"])
            assert (await client.get("/f")).text == "fine"
            assert len(function.spawned) == 1

    uvloop.run(scenario())


def test_answers_without_a_byte(tmp_path: Path) -> None:
    code = """
    def handler(event, context):
        return Streamed(iter(())) if event["pathParameters"] else reply("", 204)
    """

    async def scenario() -> None:
        async with serving(streaming(tmp_path, code)) as client:
            empty = await client.get("/f/empty")
            assert (empty.status_code, empty.content) == (200, b"")
            nothing = await client.get("/f")
            assert (nothing.status_code, nothing.content) == (204, b"")

    uvloop.run(scenario())


def test_streams_side_by_side(tmp_path: Path) -> None:
    code = """
    def chunks(item):
        for number in range(50):
            yield f"{item}-{number} ".encode()

    def handler(event, context):
        return Streamed(chunks(event["pathParameters"]["item"]))
    """

    async def scenario() -> None:
        async with serving(streaming(tmp_path, code), concurrency=3) as client:
            answers = await asyncio.gather(*(client.get(f"/f/{item}") for item in range(20)))
            for item, answer in enumerate(answers):
                assert answer.text.split() == [f"{item}-{number}" for number in range(50)]

    uvloop.run(scenario())


ENDLESS = """
    def chunks():
        for number in range(20_000):
            if number % 100 == 0:
                note("made", number)
            yield b"x" * 65_536
        note("over", "all")

    def handler(event, context):
        return Streamed(chunks())
"""


async def asked_and_not_read(client: Client) -> socket.socket:
    """A client with a small window that reads nothing of its answer."""
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.setblocking(False)
    await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", client.port))
    await asyncio.get_running_loop().sock_sendall(raw, b"GET /f HTTP/1.1\r\nHost: x\r\n\r\n")
    return raw


def test_a_client_that_reads_nothing_does_not_grow_the_gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(invocation, "_MAX_WAITING_BYTES", 2_000_000)

    async def scenario() -> None:
        function = streaming(tmp_path, ENDLESS)
        async with serving(function, concurrency=1) as client:
            with growing_by_less_than(40):
                raw = await asked_and_not_read(client)
                await eventually(lambda: len(function.notes("made")) > 0)
                before = -1
                while (now := len(function.notes("made"))) != before:  # until it waits for the client
                    before = now
                    await asyncio.sleep(0.5)
            assert 0 < before < 20, "of 200, which are 1.3 GB"
            raw.close()
            await eventually(lambda: function.notes("over") == ["all"])

    uvloop.run(scenario())


def test_a_client_that_takes_nothing_for_long_is_left_and_its_call_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(invocation, "_MAX_WAITING_BYTES", 2_000_000)
    monkeypatch.setattr(gateway, "_STALLED_SECONDS", 1.0)

    async def scenario() -> None:
        function = streaming(tmp_path, ENDLESS)
        async with serving(function, concurrency=1) as client:
            with growing_by_less_than(40):
                raw = await asked_and_not_read(client)
                await eventually(lambda: function.notes("over") == ["all"])
            assert logged(caplog, "gateway.client_stalled", "path") == ["/f"]
            assert Invocation.waiting_in_all == 0
            raw.close()

    uvloop.run(scenario())


def test_all_answers_together_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(invocation, "_MAX_WAITING_IN_ALL", 1_000_000)
    paused: list[str] = []

    async def scenario() -> None:
        answers = [Invocation(f"id-{number}", b"") for number in range(3)]
        for answer in answers:
            answer.on_full = partial(paused.append, answer.id)
            answer.on_room = partial(paused.remove, answer.id)
        answers[0].write(b"x" * 900_000)
        assert paused == []
        answers[1].write(b"x" * 200_000)
        assert paused == ["id-1"]
        answers[2].write(b"x")
        assert paused == ["id-1"], "what has hardly anything waiting goes on"
        assert await answers[0].part() == b"x" * 900_000
        await answers[1].part()
        assert paused == []
        answers[2].discard()
        answers[2].write(b"x")
        assert Invocation.waiting_in_all == 0

    uvloop.run(scenario())
