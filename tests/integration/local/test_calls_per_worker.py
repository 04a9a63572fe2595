"""Several calls in one worker: they share its process, and nothing that one of them does becomes another's."""

import asyncio
from pathlib import Path

import httpx
import uvloop

from tests.integration.local.serving import STREAM, Client, Code, code_of, eventually, serving
from tests.support.gateway import alive

SOURCE = """
def handler(event, context):
    item = event["pathParameters"]["item"]
    note("begun", item)
    if item == "hang":
        wait_for("never")
    if item.startswith("slow"):
        wait_for("go on")
    if item == "fail":
        raise ValueError
    if item == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    return reply(f"{item} {os.getpid()}")
"""


async def begun(client: Client, code: Code, *items: str) -> list[asyncio.Task[httpx.Response]]:
    """Calls of these that are all under way."""
    calls = [asyncio.create_task(client.get(f"/f/{item}")) for item in items]
    await eventually(lambda: set(items) <= set(code.notes("begun")))
    return calls


def test_they_share_a_process_until_all_of_its_threads_are_taken(tmp_path: Path) -> None:
    async def scenario() -> None:
        code = Code(tmp_path, "f", SOURCE, wrapper=STREAM)
        async with serving(code, concurrency=1, calls_per_worker=3) as client:
            calls = await begun(client, code, "slow-1", "slow-2", "slow-3")
            waits = asyncio.create_task(client.get("/f/next"))
            await asyncio.sleep(0.2)
            assert not waits.done()
            code.let("go on")
            texts = [(await call).text for call in (*calls, waits)]
            assert texts == [f"{item} {code.spawned[0]}" for item in ("slow-1", "slow-2", "slow-3", "next")]
            assert len(code.spawned) == 1

    uvloop.run(scenario())


def test_an_overrun_ends_its_own_call_and_the_process_once_the_others_are_over(tmp_path: Path) -> None:
    async def scenario() -> None:
        code = Code(tmp_path, "f", SOURCE, timeout=4, wrapper=STREAM)
        async with serving(code, concurrency=1, calls_per_worker=3) as client:
            [hangs] = await begun(client, code, "hang")
            await asyncio.sleep(2)
            slow = await begun(client, code, "slow-1", "slow-2")
            late = await hangs
            assert (late.status_code, code_of(late)) == (504, "deadline_exceeded")
            after = asyncio.create_task(client.get("/f/next"))
            await asyncio.sleep(0.2)
            assert alive(code.spawned[0])
            code.let("go on")
            assert [(await call).text for call in slow] == [f"{n} {code.spawned[0]}" for n in ("slow-1", "slow-2")]
            answer = await after
            assert answer.text == f"next {code.spawned[1]}"
            await eventually(lambda: not alive(code.spawned[0]))
            assert len(code.spawned) == 2

    uvloop.run(scenario())


def test_a_process_that_dies_takes_all_of_its_calls_and_is_replaced(tmp_path: Path) -> None:
    async def scenario() -> None:
        code = Code(tmp_path, "f", SOURCE, wrapper=STREAM)
        async with serving(code, concurrency=1, calls_per_worker=4) as client:
            calls = await begun(client, code, "slow-1", "slow-2", "slow-3")
            calls.append(asyncio.create_task(client.get("/f/die")))
            assert [(each.status_code, code_of(each)) for each in await asyncio.gather(*calls)] == [
                (502, "function_crashed")
            ] * 4
            assert (await client.get("/f/next")).text == f"next {code.spawned[1]}"

    uvloop.run(scenario())


def test_an_event_that_fails_is_its_callers_alone(tmp_path: Path) -> None:
    async def scenario() -> None:
        code = Code(tmp_path, "f", SOURCE, wrapper=STREAM)
        async with serving(code, concurrency=1, calls_per_worker=3) as client:
            calls = await begun(client, code, "slow-1", "slow-2")
            for _ in range(3):
                failed = await client.get("/f/fail")
                assert (failed.status_code, code_of(failed)) == (502, "function_failed")
            code.let("go on")
            assert [(await call).status_code for call in calls] == [200, 200]
            assert len(code.spawned) == 1

    uvloop.run(scenario())


def test_awss_client_has_one_at_a_time(tmp_path: Path) -> None:
    async def scenario() -> None:
        code = Code(tmp_path, "f", SOURCE)
        async with serving(code, concurrency=2, calls_per_worker=4) as client:
            calls = await begun(client, code, "slow-1", "slow-2")
            code.let("go on")
            assert {(await call).text.split()[1] for call in calls} == {str(pid) for pid in code.spawned}
            assert len(code.spawned) == 2

    uvloop.run(scenario())
