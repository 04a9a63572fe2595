"""A schedule invokes a real function with the time that it was due, and a failure is logged."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import uvloop

from local import schedule as module
from local.schedule import invoke, run_schedule
from local.template import Schedule
from tests.integration.local.serving import Code, eventually, logged, serving

DUE = datetime(2026, 12, 1, tzinfo=UTC)
NOTED = "def handler(event, context):\n    note('events', json.dumps(event))\n    return {'fine': True}\n"


def monthly(text: str = '{"time": "<aws.scheduler.scheduled-time>"}') -> Schedule:
    return Schedule("cron(0 0 1 * ? *)", "UTC", text, "f")


def test_the_function_gets_the_scheduled_time(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        code = Code(tmp_path, "f", NOTED)
        async with serving(code) as client:
            await invoke(monthly(), client.pool("f"), DUE)
            await invoke(monthly('{"a": [1, "é"]}'), client.pool("f"), DUE)
        assert [json.loads(event) for event in code.notes("events")] == [
            {"time": "2026-12-01T00:00:00Z"},
            {"a": [1, "é"]},
        ]

    uvloop.run(scenario())
    assert logged(caplog, "schedule.failed", "path") == []


@pytest.mark.parametrize("code", ["def handler(event, context):\n    raise ValueError\n", "os._exit(1)\n"])
def test_a_failure_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture, code: str) -> None:
    async def scenario() -> None:
        async with serving(Code(tmp_path, "f", code)) as client:
            await invoke(monthly(), client.pool("f"), DUE)

    uvloop.run(scenario())
    assert logged(caplog, "schedule.failed", "path") == ["f"]


def test_it_runs_when_due_and_then_waits_for_the_next_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[datetime] = []

    def soon(schedule: Schedule, after: datetime) -> datetime:
        """Due now, and after that in an hour."""
        asked.append(after)
        return DUE if len(asked) == 1 else after + timedelta(hours=1)

    monkeypatch.setattr(module, "next_time", soon)
    monkeypatch.setattr(module, "_MAX_SLEEP_SECONDS", 0.01)

    async def scenario() -> None:
        code = Code(tmp_path, "f", NOTED)
        async with serving(code) as client:
            # As after a night with the lid closed: due long ago, by a clock that is far ahead.
            monkeypatch.setattr(module, "datetime", _Later)
            running = asyncio.create_task(run_schedule(monthly(), client.pool("f")))
            await eventually(lambda: len(asked) == 2)
            await asyncio.sleep(0.1)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
        assert [json.loads(event) for event in code.notes("events")] == [{"time": "2026-12-01T00:00:00Z"}]

    uvloop.run(scenario())


class _Later(datetime):
    @classmethod
    def now(cls, tz: object = None) -> "_Later":
        return cls(2026, 12, 1, 9, tzinfo=UTC)
