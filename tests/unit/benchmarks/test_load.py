"""The load against the real upstream: it counts every call, and refuses to time a bad answer."""

import asyncio
import itertools
import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from benchmarks import peers, upstream
from benchmarks.load import LoadError, Target, Timings, offer
from benchmarks.measure import SCENARIOS, Plan, measure, order, warm_up


@pytest.fixture(scope="module")
def vendor() -> Iterator[int]:
    with peers.vendor() as port:
        yield port


def _target(port: int, key: str) -> Target:
    return Target(f"http://127.0.0.1:{port}/v1/chat/completions", key, upstream.MODEL)


def _billed(port: int) -> dict[str, int]:
    billed: dict[str, int] = peers.get_json(port, "/billed")
    return billed


@pytest.mark.parametrize(("callers", "stream"), [(1, False), (16, False), (1, True), (4, True)])
def test_every_call_is_timed_once_and_billed_once(vendor: int, callers: int, stream: bool) -> None:
    key = f"{callers}-{stream}"
    timings = asyncio.run(offer(_target(vendor, key), callers=callers, stream=stream, seconds=60, max_calls=100))
    assert timings.calls == len(timings.first_tokens) == _billed(vendor)[key] == 100
    assert all(0 < first <= whole for first, whole in zip(timings.first_tokens, timings.latencies, strict=True))
    assert max(timings.latencies) <= timings.elapsed


def test_a_round_ends_with_its_time(vendor: int) -> None:
    timings = asyncio.run(offer(_target(vendor, "timed"), callers=4, stream=False, seconds=0.05))
    assert timings.elapsed >= 50_000_000
    assert timings.calls == _billed(vendor)["timed"] > 0


def test_an_error_answer_ends_the_run(vendor: int) -> None:
    lost = Target(f"http://127.0.0.1:{vendor}/nowhere", "k", "m")
    with pytest.raises(LoadError, match=r"HTTP 404.*no such route"):
        asyncio.run(offer(lost, callers=3, stream=False, seconds=10))


def test_nobody_there_is_an_error() -> None:
    with pytest.raises(LoadError, match="can't connect"):
        asyncio.run(offer(_target(peers.free_port(), "k"), callers=1, stream=False, seconds=10))


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"", "lost in mid-call"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{", "lost in mid-call"),
        (b"this is no HTTP\r\n\r\n", "not an HTTP answer"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nLondon.", "HTTP 200: London"),
        (
            b'HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 23\r\n\r\n"content": "The (Paris)"',
            "keep its connections",
        ),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nParis.", "HTTP 200: Paris"),
    ],
)
def test_a_server_that_answers_badly_ends_the_run(answer: bytes, why: str) -> None:
    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    async def run() -> None:
        async with await asyncio.start_server(reply, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            await offer(_target(port, "k"), callers=1, stream=False, seconds=10)

    with pytest.raises(LoadError, match=why):
        asyncio.run(run())


def test_a_role_is_no_token() -> None:
    """Everything that a subject may do to the chunks on their way: written anew, joined, cut in two."""
    pieces = (
        (b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n', 0.0),
        (b'data: {"choices":[{"delta":{"content":"Th', 0.0),
        (b'e capital"}}]}\n\ndata: {"choices":[{"delta":{"content":" Paris"}}]}\n\n', 0.05),
        (b"data: [DONE]\n\n", 0.0),
    )

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for piece, seconds in pieces:
            await asyncio.sleep(seconds)
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        writer.close()

    async def run() -> Timings:
        async with await asyncio.start_server(reply, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            return await offer(_target(port, "k"), callers=1, stream=True, seconds=10, max_calls=1)

    timings = asyncio.run(run())
    assert 49_000_000 <= timings.first_tokens[0] <= timings.latencies[0]


def test_a_target_may_want_headers_of_its_own() -> None:
    target = Target("http://127.0.0.1:1/v1", "k", "m", (("x-portkey-provider", "openai"), ("x-other", "1")))
    head = target.request(stream=False).partition(b"\r\n\r\n")[0].split(b"\r\n")
    assert {b"x-portkey-provider: openai", b"x-other: 1", b"authorization: Bearer k"} <= set(head)


def test_every_subject_gets_the_same_body(vendor: int) -> None:
    def body(key: str) -> object:
        asked: dict[str, object] = json.loads(_target(vendor, key).request(stream=True).partition(b"\r\n\r\n")[2])
        return asked

    assert body("one") == body("another")


def test_a_whole_run_counts_what_each_subject_was_sent(vendor: int) -> None:
    subjects = {name: _target(vendor, f"run-{name}") for name in ("direct", "one", "another")}
    plan = Plan(rounds=2, seconds=0.02, warm_up_calls=20, starts=1)

    async def run() -> None:
        sent = await warm_up(subjects, plan)
        assert set(sent.values()) == {20 * len(SCENARIOS)}
        clock = itertools.count()
        measured = await measure(subjects, plan, sent, {"one": lambda: next(clock) / 4})
        billed = _billed(vendor)
        assert {one.subject: one.processor_seconds for one in measured.rounds} == {
            "direct": None, "one": 0.25, "another": None,
        }  # fmt: skip
        assert measured.calls == {name: billed[target.key] for name, target in subjects.items()}
        assert len(measured.rounds) == plan.rounds * len(SCENARIOS) * len(subjects)
        assert [one.subject for one in measured.rounds[:3]] == ["direct", "one", "another"]

    asyncio.run(run())


def test_who_does_not_stream_is_not_asked_to(vendor: int) -> None:
    subjects = {"direct": _target(vendor, "talks"), "one": replace(_target(vendor, "mute"), streams=False)}
    plan = Plan(rounds=1, seconds=0.02, warm_up_calls=5, starts=1)

    async def run() -> None:
        sent = await warm_up(subjects, plan)
        measured = await measure(subjects, plan, sent, {})
        asked = [one.scenario for one in measured.rounds if one.subject == "one"]
        assert asked == [scenario.name for scenario in SCENARIOS if not scenario.stream]
        assert sent == {"direct": 5 * len(SCENARIOS), "one": 5 * len(asked)}

    asyncio.run(run())


def test_subjects_take_turns_in_following_each_other() -> None:
    subjects = ("direct", "one", "another")
    assert order(subjects, 0) == ("direct", "one", "another")
    assert order(subjects, 1) == ("direct", "another", "one")
    assert order(subjects, 2) == order(subjects, 0)
