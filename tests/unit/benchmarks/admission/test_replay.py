"""The calls reach the vendor at their times, it ends answers at the cap, and refusals are read."""

import asyncio
import json
import socket
import time

import pytest

from benchmarks import BenchmarkError
from benchmarks.admission.replay import Outcome, replay
from benchmarks.admission.trace import Call
from benchmarks.admission.vendor import Vendor, serving
from benchmarks.load import Target


def _replayed(calls: list[Call], cap: int | None, factor: float) -> tuple[list[Outcome], Vendor]:
    """Straight to the vendor."""
    vendor = Vendor({call.number: call for call in calls}, factor)

    async def run(listener: socket.socket) -> list[Outcome]:
        target = Target(f"http://127.0.0.1:{listener.getsockname()[1]}/v1/chat/completions", "k", "m")
        async with serving(vendor, listener):
            return await replay(calls, cap, target, factor)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        return asyncio.run(run(listener)), vendor


def test_calls_come_when_the_trace_says_and_take_as_long() -> None:
    calls = [Call(0, 0.0, 5000, 50), Call(1, 1.0, 10, 5)]
    outcomes, vendor = _replayed(calls, None, 10.0)
    assert [outcome.status for outcome in outcomes] == [200, 200]
    assert [(bill.number, bill.cap, bill.written) for bill in vendor.bills] == [(0, None, 50), (1, None, 5)]
    first, second = vendor.bills
    assert 0.09 < second.arrived - first.arrived < 1.0
    assert first.answered is not None
    assert 0.19 < first.answered - first.arrived < 1.0


def test_the_vendor_ends_an_answer_at_the_cap_that_it_is_sent() -> None:
    vendor = Vendor({0: Call(0, 0.0, 100, 50)}, 1.0)
    message = {"role": "user", "content": [{"type": "text", "text": "0\nsome code"}]}
    for name, cap, written, finish in (("max_tokens", 20, 20, "length"), ("max_completion_tokens", 50, 50, "stop")):
        bill, _, answer = vendor.take({"model": "m", "messages": [message], name: cap})
        body = json.loads(answer.partition(b"\r\n\r\n")[2])
        assert (bill.cap, bill.written) == (cap, written)
        assert body["choices"][0]["finish_reason"] == finish
        assert body["usage"] == {"prompt_tokens": 100, "completion_tokens": written, "total_tokens": 100 + written}


def test_what_is_no_call_is_not_billed() -> None:
    vendor = Vendor({0: Call(0, 0.0, 100, 50)}, 1.0)

    async def run(listener: socket.socket) -> list[Outcome]:
        target = Target(f"http://127.0.0.1:{listener.getsockname()[1]}/v1/models", "k", "m")
        async with serving(vendor, listener):
            return await replay([Call(0, 0.0, 100, 50)], None, target, 1.0)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert [outcome.status for outcome in asyncio.run(run(listener))] == [404]
    assert vendor.bills == []


def _answered(answer: bytes) -> Outcome:
    async def run() -> list[Outcome]:
        async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
            writer.close()

        async with await asyncio.start_server(reply, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            return await replay([Call(0, 0.0, 10, 1)], 5, Target(f"http://127.0.0.1:{port}/", "k", "m"), 1.0)

    return asyncio.run(run())[0]


def test_a_refusals_code_is_read() -> None:
    body = b'{"error": {"message": "the budget", "code": "budget_exceeded"}}'
    refused = _answered(b"HTTP/1.1 402 Payment Required\r\ncontent-length: 63\r\n\r\n" + body)
    assert (refused.status, refused.code) == (402, "budget_exceeded")
    assert refused.sent <= refused.ended <= time.monotonic()
    assert _answered(b"HTTP/1.1 502 Bad Gateway\r\n\r\nno JSON").code == "?"


def test_a_call_without_an_answer_voids_the_run() -> None:
    with pytest.raises(BenchmarkError, match="was not answered"):
        _answered(b"")
