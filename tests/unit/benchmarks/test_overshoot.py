"""What is past a budget, and the burst that shows it."""

import asyncio
import json
import math
from collections.abc import Iterator
from decimal import Decimal

import pytest

from benchmarks import BenchmarkError, overshoot, peers, upstream
from benchmarks.overshoot import CALLERS, FITTING_CALLS, LIMIT_USD, Overshoot, burst
from fusewire.ai.bounds import chat_input_bound
from fusewire.ai.schema import ChatRequest


@pytest.fixture(scope="module")
def vendor() -> Iterator[int]:
    with peers.vendor() as port:
        yield port


def test_what_is_billed_beyond_the_limit_is_past_it() -> None:
    result = Overshoot((64, 0, 0), 64).as_json()
    assert (result["billed"], result["past_the_limit"], result["limit"]) == ("0.64", "0.555", "0.085")
    assert json.loads(json.dumps(result))["served"] == [64, 0, 0]


def test_a_budget_that_held_has_nothing_past_it() -> None:
    assert Overshoot((8, 0, 0), 8).past_the_limit == 0
    assert Overshoot((8, 1, 0), 9).past_the_limit == Decimal("0.005")


def test_eight_calls_fit_and_nine_do_not() -> None:
    assert overshoot.CALL_USD * FITTING_CALLS <= LIMIT_USD < overshoot.CALL_USD * (FITTING_CALLS + 1)
    # After the eighth call but one, fusewire is not yet OPEN: 7 of 8.5 is below 95 %.
    assert overshoot.CALL_USD * (FITTING_CALLS - 1) / LIMIT_USD < Decimal("0.95")


def test_a_calls_worst_case_is_its_price() -> None:
    request = ChatRequest.model_validate(overshoot.chat_request("sota"))
    assert request.max_tokens == upstream.OUTPUT_TOKENS
    assert chat_input_bound(request) > 0  # which costs nothing
    assert overshoot._OUTPUT_USD_PER_MTOK * upstream.OUTPUT_TOKENS / 1_000_000 == overshoot.CALL_USD
    # Whole, because a setting takes it as a number.
    assert math.isclose(int(overshoot._OUTPUT_USD_PER_MTOK), overshoot._OUTPUT_USD_PER_MTOK)


def test_a_burst_is_all_at_once() -> None:
    """Nobody is answered before the last has called: a burst that waited for an answer would never end."""

    async def run() -> dict[int, int]:
        everybody = asyncio.Barrier(CALLERS)

        async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            await everybody.wait()
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
            await writer.drain()
            writer.close()

        async with await asyncio.start_server(reply, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            return dict(await burst(f"http://127.0.0.1:{port}/v1/chat/completions", "m"))

    assert asyncio.run(run()) == {200: CALLERS}


def test_a_call_that_is_not_answered_voids_the_run() -> None:
    async def run() -> None:
        async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.close()

        async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
            await burst(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", "m")

    with pytest.raises(BenchmarkError, match=r"was not answered: (Incomplete|Connection)"):
        asyncio.run(run())


def test_every_answers_status_is_counted(vendor: int) -> None:
    assert dict(asyncio.run(burst(f"http://127.0.0.1:{vendor}/nowhere", "m"))) == {404: CALLERS}


def test_answers_that_were_not_billed_void_the_run(vendor: int) -> None:
    with pytest.raises(BenchmarkError, match="nobody: 0 calls were billed and 3 were answered"):
        overshoot._billed(vendor, "nobody", (3, 0))
