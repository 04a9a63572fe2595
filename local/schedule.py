"""EventBridge Scheduler for a laptop: invokes a function when its cron expression says so."""

import asyncio
import json
import logging
import uuid
from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo

from cronsim import CronSim

from fusewire import logs
from local.invocation import Invocation, InvocationError
from local.pool import Pool
from local.template import Schedule

_MAX_SLEEP_SECONDS: Final = 60.0
_SCHEDULED_TIME: Final = "<aws.scheduler.scheduled-time>"


def next_time(schedule: Schedule, after: datetime) -> datetime:
    """The first moment after `after` (both in UTC) at which the schedule is due.

    :raises ValueError: for an expression other than `cron(...)` with every year and weekdays by name
    :raises cronsim.CronSimError: for one that can't be read
    """
    fields = schedule.expression.removeprefix("cron(").removesuffix(")").split()
    if not schedule.expression.startswith("cron(") or len(fields) != 6 or fields[5] != "*":
        raise ValueError(f"{schedule.expression}: only cron(minutes hours day month weekday *) is run here")
    if any(c.isdecimal() for c in fields[4]):
        # AWS counts from Sunday = 1, cron from Sunday = 0.
        raise ValueError(f"{schedule.expression}: weekdays must be named (MON-FRI)")
    # AWS writes ? where either day may be left open; cron itself has * for both.
    cron = " ".join(fields[:5]).replace("?", "*")
    return next(CronSim(cron, after.astimezone(ZoneInfo(schedule.timezone)))).astimezone(UTC)


async def run_schedule(schedule: Schedule, pool: Pool) -> None:
    """Invoke the function at each due time, for ever."""
    due = next_time(schedule, datetime.now(UTC))
    while True:
        # In short naps: a laptop's clock jumps when it wakes up.
        wait = (due - datetime.now(UTC)).total_seconds()
        if wait > 0:
            await asyncio.sleep(min(wait, _MAX_SLEEP_SECONDS))
            continue
        await invoke(schedule, pool, due)
        due = next_time(schedule, datetime.now(UTC))


async def invoke(schedule: Schedule, pool: Pool, due: datetime) -> None:
    """Invoke the function once, for the time at which it was due; a failure is logged."""
    text = schedule.input.replace(_SCHEDULED_TIME, due.strftime("%Y-%m-%dT%H:%M:%SZ"))
    invocation = Invocation(str(uuid.uuid4()), json.dumps(json.loads(text)).encode())
    pool.invoke(invocation)
    try:
        while await invocation.part() is not None:
            pass  # Scheduler, too, does nothing with the answer
    except InvocationError as error:
        logs.event(
            "schedule.failed", logging.ERROR, request_id=invocation.id, path=schedule.function, message=str(error)
        )
