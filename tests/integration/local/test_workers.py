"""Pools of real worker processes: one event at a time, started on demand, replaced when they die or overrun."""

import asyncio
import gc
import os
import signal
from pathlib import Path

import httpx
import pytest
import uvloop

from local import platform, pool, worker
from local.invocation import Invocation, TooManyRequestsError
from local.processors import Processors
from tests.integration.local.serving import STREAM, Code, code_of, eventually, logged, serving
from tests.support.gateway import alive
from tests.support.patience import PATIENCE_SECONDS

PID = "def handler(event, context):\n    return reply(str(os.getpid()))\n"
NOTED = """
def handler(event, context):
    number = event["pathParameters"]["item"]
    note("calls", f"begin {os.getpid()} {number}")
    wait_for("go")
    note("calls", f"end {os.getpid()} {number}")
    return reply(number)
"""
BOTH = pytest.mark.parametrize("wrapper", [None, STREAM], ids=["awslambdaric", "stream"])


def test_nothing_runs_before_it_is_asked_for_and_a_warm_worker_is_used_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        code = Code(tmp_path, "f", PID)
        async with serving(code, concurrency=4) as client:
            assert code.spawned == []
            pids = {(await client.get("/f")).text for _ in range(5)}
            assert pids == {str(pid) for pid in code.spawned}
            assert len(code.spawned) == 1

    uvloop.run(scenario())


@BOTH
def test_one_event_at_a_time_and_never_more_workers(tmp_path: Path, wrapper: Path | None) -> None:
    async def scenario() -> None:
        code = Code(tmp_path, "f", NOTED, wrapper=wrapper)
        async with serving(code, concurrency=2) as client:
            calls = []
            for number in range(7):
                calls.append(asyncio.create_task(client.get(f"/f/{number}")))
                await client.arrived(number + 1)
            await eventually(lambda: len(code.notes("calls")) == 2)
            code.let("go")
            answers = await asyncio.gather(*calls)
            assert [answer.text for answer in answers] == [str(number) for number in range(7)]
            assert len(code.spawned) == 2
        notes = [note.split() for note in code.notes("calls")]
        begun = [int(number) for what, _, number in notes if what == "begin"]
        assert sorted(begun) == list(range(7))
        for pid in code.spawned:
            own = [what for what, of, _ in notes if of == str(pid)]
            assert own == ["begin", "end"] * (len(own) // 2)

    uvloop.run(scenario())


def test_a_queue_is_first_in_first_out(tmp_path: Path) -> None:
    async def scenario() -> None:
        code = Code(tmp_path, "f", NOTED)
        async with serving(code, concurrency=1) as client:
            calls = []
            for number in range(6):
                calls.append(asyncio.create_task(client.get(f"/f/{number}")))
                await client.arrived(number + 1)
            await eventually(lambda: len(code.notes("calls")) == 1)
            code.let("go")
            await asyncio.gather(*calls)
        begun = [note.split()[2] for note in code.notes("calls") if note.startswith("begin")]
        assert begun == ["0", "1", "2", "3", "4", "5"]

    uvloop.run(scenario())


def test_what_was_answered_is_forgotten(tmp_path: Path) -> None:
    async def scenario() -> None:
        code = Code(tmp_path, "f", PID)
        async with serving(code, concurrency=1) as client:
            await asyncio.gather(*(client.post("/f", content=b"x" * 1000) for _ in range(10)))
            gc.collect()
            assert [kept for kept in gc.get_objects() if type(kept) is Invocation] == []

    uvloop.run(scenario())


@BOTH
@pytest.mark.parametrize(
    ("how", "row"),
    [("os._exit(3)", "exited with status 3"), ("os.kill(os.getpid(), signal.SIGKILL)", "killed by SIGKILL")],
)
def test_a_crash_in_mid_call(tmp_path: Path, wrapper: Path | None, how: str, row: str) -> None:
    source = f"""
    def handler(event, context):
        if event["pathParameters"]["item"] == "crash":
            {how}
        return reply(str(os.getpid()))
    """

    async def scenario() -> None:
        code = Code(tmp_path, "f", source, wrapper=wrapper)
        async with serving(code, concurrency=1) as client:
            assert (await client.get("/f/one")).text == str(code.spawned[0])
            crashed = await client.get("/f/crash")
            assert (crashed.status_code, code_of(crashed)) == (502, "function_crashed")
            assert row in crashed.json()["error"]["message"]
            assert (await client.get("/f/two")).text == str(code.spawned[1])
            assert len(code.spawned) == 2

    uvloop.run(scenario())


def test_those_who_wait_behind_a_crash_are_served(tmp_path: Path) -> None:
    source = """
    def handler(event, context):
        if event["pathParameters"]["item"] == "0":
            wait_for("go")
            os._exit(1)
        return reply("fine")
    """

    async def scenario() -> None:
        code = Code(tmp_path, "f", source)
        async with serving(code, concurrency=1) as client:
            calls = [asyncio.create_task(client.get("/f/0"))]
            await eventually(lambda: len(code.spawned) == 1)
            calls += [asyncio.create_task(client.get(f"/f/{number}")) for number in (1, 2, 3)]
            await client.arrived(4)
            code.let("go")
            answers = await asyncio.gather(*calls)
            assert [answer.status_code for answer in answers] == [502, 200, 200, 200]
            assert len(code.spawned) == 2

    uvloop.run(scenario())


def test_a_worker_that_dies_while_it_rests_is_replaced(tmp_path: Path) -> None:
    async def scenario() -> None:
        code = Code(tmp_path, "f", PID)
        async with serving(code, concurrency=1) as client:
            await client.get("/f")
            os.kill(code.spawned[0], signal.SIGKILL)
            # The gateway knows as soon as it has taken the exit status, which ends the zombie.
            await eventually(lambda: not Path(f"/proc/{code.spawned[0]}").exists())
            assert (await client.get("/f")).text == str(code.spawned[1])

    uvloop.run(scenario())


@BOTH
def test_an_overrun_ends_the_process(tmp_path: Path, wrapper: Path | None) -> None:
    source = """
    def handler(event, context):
        while event["pathParameters"]["item"] == "hang":
            time.sleep(0.01)
        return reply(str(os.getpid()))
    """

    async def scenario() -> None:
        code = Code(tmp_path, "f", source, timeout=1, wrapper=wrapper)
        async with serving(code, concurrency=1) as client:
            calls = [asyncio.create_task(client.get(f"/f/{item}")) for item in ("hang", "next")]
            late, after = await asyncio.gather(*calls)
            assert (late.status_code, code_of(late)) == (504, "deadline_exceeded")
            assert not alive(code.spawned[0])
            assert after.text == str(code.spawned[1])
            assert len(code.spawned) == 2

    uvloop.run(scenario())


@BOTH
def test_a_function_knows_how_much_time_it_has(tmp_path: Path, wrapper: Path | None) -> None:
    source = "def handler(event, context):\n    return reply(str(context.get_remaining_time_in_millis()))\n"

    async def scenario() -> None:
        async with serving(Code(tmp_path, "f", source, timeout=70, wrapper=wrapper)) as client:
            for _ in range(2):
                assert 50_000 < int((await client.get("/f")).text) <= 70_000

    uvloop.run(scenario())


@BOTH
def test_a_function_that_does_not_start(
    tmp_path: Path, wrapper: Path | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pool, "_FIRST_BACKOFF_SECONDS", 30.0)

    async def scenario() -> None:
        code = Code(tmp_path, "f", "import nothing_of_that_name\n", wrapper=wrapper)
        async with serving(code, concurrency=3) as client:
            # All at once, then one after the other while it backs off.
            burst = await asyncio.gather(*(client.get("/f") for _ in range(12)))
            after = [await client.get("/f") for _ in range(10)]
            for answer in burst + after:
                assert (answer.status_code, code_of(answer)) == (502, "function_not_started")
                assert "No module named 'nothing_of_that_name'" in answer.json()["error"]["message"]
            assert len(code.spawned) == 3
            assert code.running == []

    uvloop.run(scenario())
    assert len(logged(caplog, "gateway.function_not_started", "message")) == 22


def test_a_function_that_exits_at_its_start(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(Code(tmp_path, "f", "os._exit(4)\n"), concurrency=1) as client:
            refused = await client.get("/f")
            assert (refused.status_code, code_of(refused)) == (502, "function_not_started")
            assert "exited with status 4" in refused.json()["error"]["message"]

    uvloop.run(scenario())


def test_a_wrapper_that_cannot_be_run(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(Code(tmp_path, "f", PID, wrapper=tmp_path / "missing"), concurrency=1) as client:
            refused = await client.get("/f")
            assert (refused.status_code, code_of(refused)) == (502, "function_not_started")
            assert "No such file" in refused.json()["error"]["message"]

    uvloop.run(scenario())


def test_it_tries_again_after_a_while_and_recovers(tmp_path: Path) -> None:
    source = "if not Path(__file__).with_name('fixed').exists():\n    raise ValueError('broken')\n" + PID

    async def scenario() -> None:
        code = Code(tmp_path, "f", source)
        async with serving(code, concurrency=2) as client:
            assert (await client.get("/f")).status_code == 502
            code.let("fixed")
            answers: list[httpx.Response] = []
            deadline = asyncio.get_running_loop().time() + PATIENCE_SECONDS
            while not answers or answers[-1].status_code == 502:
                assert asyncio.get_running_loop().time() < deadline
                answers.append(await client.get("/f"))
                await asyncio.sleep(0.05)
            assert answers[-1].status_code == 200
            assert len(code.spawned) == 2

    uvloop.run(scenario())


def test_a_worker_that_serves_is_not_overtaken_by_one_that_does_not_start(tmp_path: Path) -> None:
    source = """
    if len(Path(__file__).with_name("spawned").read_text().splitlines()) > 1:
        os._exit(1)
    def handler(event, context):
        wait_for("go")
        return reply("served")
    """

    async def scenario() -> None:
        code = Code(tmp_path, "f", source)
        async with serving(code, concurrency=2) as client:
            calls = [asyncio.create_task(client.get("/f"))]
            await eventually(lambda: len(code.spawned) == 1)
            calls.append(asyncio.create_task(client.get("/f")))
            await eventually(lambda: len(code.spawned) == 2)
            await eventually(lambda: len(code.running) == 1)
            code.let("go")
            answers = await asyncio.gather(*calls)
            assert [answer.text for answer in answers] == ["served", "served"]
            assert len(code.spawned) == 2

    uvloop.run(scenario())


def test_an_init_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_INIT_SECONDS", 1.0)
    monkeypatch.setattr(Processors, "have_room", lambda self: True)

    async def scenario() -> None:
        code = Code(tmp_path, "f", "wait_for('never')\n")
        async with serving(code, concurrency=1) as client:
            refused = await client.get("/f")
            assert (refused.status_code, code_of(refused)) == (502, "function_not_started")
            assert "wasn't ready after 1 s" in refused.json()["error"]["message"]
            assert code.running == []

    uvloop.run(scenario())


def test_an_init_that_the_machine_is_too_busy_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_INIT_SECONDS", 0.5)
    monkeypatch.setattr(worker, "_MAX_INIT_SECONDS", 2.0)
    monkeypatch.setattr(pool, "_QUEUE_SECONDS", 0.2)  # nor is who waits for it told that the workers are busy
    monkeypatch.setattr(Processors, "have_room", lambda self: False)

    async def scenario() -> None:
        slow = Code(tmp_path, "slow", "time.sleep(1)\n" + PID)
        hangs = Code(tmp_path, "hangs", "wait_for('never')\n")
        async with serving(slow, hangs, concurrency=1) as client:
            served = await client.get("/slow")
            assert (served.status_code, served.text) == (200, str(slow.spawned[0]))
            refused = await client.get("/hangs")
            assert (refused.status_code, code_of(refused)) == (502, "function_not_started")
            assert "wasn't ready after 2 s" in refused.json()["error"]["message"]

    uvloop.run(scenario())


def test_a_call_that_waits_too_long_for_a_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_QUEUE_SECONDS", 1.0)

    async def scenario() -> None:
        code = Code(tmp_path, "f", NOTED)
        async with serving(code, concurrency=1) as client:
            first = asyncio.create_task(client.get("/f/first"))
            await eventually(lambda: len(code.notes("calls")) == 1)
            refused = await client.get("/f/second")
            assert (refused.status_code, code_of(refused)) == (503, "function_busy")
            assert refused.headers["retry-after"] == "1"
            code.let("go")
            assert (await first).text == "first"
            assert (await client.get("/f/third")).text == "third"
            assert [note.split()[2] for note in code.notes("calls")] == ["first", "first", "third", "third"]

    uvloop.run(scenario())


# --- the end ------------------------------------------------------------------------------------------------------


def test_no_process_is_left_and_a_call_in_flight_is_finished(tmp_path: Path) -> None:
    async def scenario() -> None:
        slow, idle = Code(tmp_path, "slow", NOTED), Code(tmp_path, "idle", PID)
        async with serving(slow, idle) as client:
            await client.get("/idle")
            call = asyncio.create_task(client.get("/slow/1"))
            await eventually(lambda: len(slow.notes("calls")) == 1)
            asyncio.get_running_loop().call_later(0.3, slow.let, "go")
            # Leaving the block stops the gateway.
        assert (await call).text == "1"
        assert slow.running + idle.running == []

    uvloop.run(scenario())


def test_calls_that_come_while_it_stops_are_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        code = Code(tmp_path, "f", NOTED)
        async with serving(code) as client:
            call = asyncio.create_task(client.get("/f/1"))
            await eventually(lambda: len(code.notes("calls")) == 1)
            stopping = asyncio.create_task(client.stop())
            await asyncio.sleep(0)
            refused = await client.get("/f/2")
            assert (refused.status_code, code_of(refused)) == (503, "shutting_down")
            assert refused.headers["retry-after"] == "5"
            code.let("go")
            await stopping
            assert (await call).text == "1"

    uvloop.run(scenario())


def test_a_call_that_does_not_end_is_broken_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "_DRAIN_SECONDS", 0.2)

    async def scenario() -> None:
        code = Code(tmp_path, "f", NOTED)
        async with serving(code, concurrency=1) as client:
            served = asyncio.create_task(client.get("/f/served"))
            await eventually(lambda: len(code.notes("calls")) == 1)
            waiting = asyncio.create_task(client.get("/f/waiting"))
            await client.arrived(2)
            await client.stop()
            assert code_of(await served) == "function_crashed"
            assert code_of(await waiting) == "function_busy"
            assert code.running == []

    uvloop.run(scenario())


def test_a_stop_while_workers_are_about_to_start(tmp_path: Path) -> None:
    async def scenario() -> None:
        endless = tmp_path / "endless"
        endless.write_text("#!/bin/sh\nexec sleep 300\n")
        endless.chmod(0o755)
        code = Code(tmp_path, "f", PID, wrapper=endless)
        workers = [worker.Worker(code.function, 1, {"PATH": os.environ["PATH"]}) for _ in range(3)]
        started = pool.Pool(workers, Processors())
        waiting = [Invocation(str(number), b"{}") for number in range(5)]
        for invocation in waiting:
            started.invoke(invocation)
        await asyncio.wait_for(started.close(), PATIENCE_SECONDS)
        for invocation in waiting:
            with pytest.raises(TooManyRequestsError):
                await invocation.part()

    uvloop.run(scenario())


def test_workers_that_ignore_being_told_to_stop_are_killed(tmp_path: Path) -> None:
    async def scenario() -> None:
        code = Code(tmp_path, "f", "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + PID)
        async with serving(code) as client:
            await client.get("/f")
        assert code.running == []

    uvloop.run(scenario())
