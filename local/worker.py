"""One execution environment: a process that runs the real Lambda runtime client, and what it is at."""

import asyncio
import contextlib
import secrets
import signal
import sys
import time
from asyncio.subprocess import Process
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from local.invocation import DeadlineExceededError, FunctionCrashedError, Invocation, InvocationError
from local.template import Function

_CLIENT: Final = Path(__file__).with_name("lambda_client.py")
_INIT_SECONDS: Final = 10.0  # as on Lambda
_MAX_INIT_SECONDS: Final = 120.0
"""Where the processors are busy with something else, a start may take this long."""

Give = Callable[[Invocation, float, str], None]
"""Answers a process that wants an event, with its deadline in seconds since the epoch, and the function's ARN."""


@dataclass(eq=False, slots=True)
class _Call:
    """An event that a thread of the process has, until that thread asks for the next."""

    id: str
    invocation: Invocation | None
    """None once it has its answer."""
    give: Give
    """Of the connection that it was given by."""
    timer: asyncio.TimerHandle
    overran: bool = False
    is_lost: bool = False
    """Whether that connection is gone."""
    settling: asyncio.Future[None] | None = None
    """From its answer on; done when it is settled."""


class Worker:
    """Starts its process, gives it as many events at once as it may have, and kills it when one overruns the function's
    timeout: at once where there is no other, else when the others are over."""

    def __init__(self, function: Function, port: int, variables: Mapping[str, str], capacity: int = 1) -> None:
        """:param capacity: how many events at once, each in a thread of the process"""
        self._function = function
        self.capacity = capacity
        self.host = f"127.0.0.1:{port}"
        """The Runtime API's, as its process calls it."""
        self.secret = secrets.token_urlsafe(32)
        """The first part of every path of it: the port is open to other users of this machine, and to web pages."""
        self._variables = {
            **variables,
            "AWS_LAMBDA_RUNTIME_API": f"{self.host}/{self.secret}",
            "AWS_LAMBDA_FUNCTION_NAME": function.name,
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory_mb),
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{function.name}",
            "AWS_LAMBDA_LOG_STREAM_NAME": f"local/{port}",
            "AWS_LAMBDA_LOG_FORMAT": "JSON",
            "AWS_LAMBDA_LOG_LEVEL": "INFO",  # Lambda's own default for JSON
            "LAMBDA_TASK_ROOT": str(function.folder),
            "_HANDLER": function.handler,
        }
        if capacity > 1:
            self._variables["AWS_LAMBDA_MAX_CONCURRENCY"] = str(capacity)
        self._arn = f"arn:aws:lambda:local:000000000000:function:{function.name}"
        self._process: Process | None = None
        self._watch: asyncio.Task[None] | None = None  # from the start of a process to its end
        self._threads = 0
        """Those that have asked for an event."""
        self._resting = 0
        """Those of them that wait for one."""
        self._gives: list[Give] = []
        """Theirs, but for those whose connection is lost; the one that asked last is the last."""
        self._calls: dict[str, _Call] = {}
        """The events that the process is at, by their ids."""
        self._is_retired = False
        """Whether it gets no event any more, since one overran."""
        self.generation = 0
        """Counts its processes."""
        self._timer: asyncio.TimerHandle | None = None
        """Of a start."""
        self._initialised = False
        self._stopping = False
        self._init_error = ""
        self.is_held_up: Callable[[], bool] = lambda: False
        """Says whether the machine is too busy for a start to be as quick as on Lambda."""
        self.on_ready: Callable[[Worker, bool], None] = lambda worker, first: None
        """Called when one more of its threads waits for an event; `first` the first time."""
        self.on_exit: Callable[[Worker, str | None], None] = lambda worker, why_not: None
        """Called when the process is gone; with the reason when it never asked for an event."""

    # --- the process ----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin; `on_ready` or `on_exit` follows."""
        self._initialised = False
        self._init_error = ""
        self.generation += 1
        self._watch = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        command = [sys.executable, str(_CLIENT), self._function.handler]
        if self._function.wrapper is not None:
            command = [str(self._function.wrapper), *command]
        self._timer = asyncio.get_running_loop().call_later(_INIT_SECONDS, self._overrun_init, _INIT_SECONDS)
        try:
            # A session of its own: Ctrl-C in the terminal is for the gateway, which lets calls finish.
            self._process = await asyncio.create_subprocess_exec(
                *command, cwd=self._function.folder, env=self._variables, start_new_session=True
            )
        except OSError as error:
            self._exited(f"it can't be started: {error.strerror}")
            return
        if self._stopping:
            self.kill()
        status = await self._process.wait()
        self._exited(_exit_reason(status))

    def _overrun_init(self, seconds: float) -> None:
        if seconds < _MAX_INIT_SECONDS and self.is_held_up():
            later = asyncio.get_running_loop().call_later
            self._timer = later(_INIT_SECONDS, self._overrun_init, seconds + _INIT_SECONDS)
            return
        self._init_error = f"it wasn't ready after {seconds:.0f} s"
        self.kill()

    def _exited(self, reason: str) -> None:
        self._stop_timer()
        for call in list(self._calls.values()):
            self._end(call, FunctionCrashedError(f"The function {self._function.name} broke down: {reason}."))
            self._over(call)
        self._threads = self._resting = 0
        self._gives.clear()
        self._is_retired = False
        self._process = self._watch = None
        not_started = None
        if not self._initialised:
            not_started = f"The function {self._function.name} doesn't start: {self._init_error or reason}."
        self.on_exit(self, not_started)

    def kill(self) -> None:
        """End the process at once, as Lambda does; what it was at is answered by `on_exit`'s time."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def stop(self) -> None:
        """End the process, even one that is only about to start, and wait until it is gone."""
        self._stopping = True
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)
            asyncio.get_running_loop().call_later(2, self.kill)
        if self._watch is not None:
            await self._watch

    # --- its events -----------------------------------------------------------------------------------------------

    @property
    def room(self) -> int:
        """How many events more it takes now."""
        return 0 if self._is_retired else self._resting

    @property
    def busy(self) -> int:
        """How many events its process is at, settling included."""
        return self._threads - self._resting

    @property
    def settling(self) -> list[asyncio.Future[None]]:
        """Of what is answered, and may not be settled: done when the thread asks for another event, or is gone."""
        return [call.settling for call in self._calls.values() if call.settling is not None]

    def handle(self, invocation: Invocation) -> None:
        """Give the waiting process an event; the function's timeout runs from now."""
        self._resting -= 1
        if not self._gives:
            invocation.fail(FunctionCrashedError(f"The function {self._function.name} is gone."))
            return
        give = self._gives.pop()
        timer = asyncio.get_running_loop().call_later(self._function.timeout_seconds, self._overrun, invocation.id)
        self._calls[invocation.id] = _Call(invocation.id, invocation, give, timer)
        give(invocation, time.time() + self._function.timeout_seconds, self._arn)

    def _overrun(self, id: str) -> None:
        call = self._calls[id]
        call.overran = self._is_retired = True
        seconds = self._function.timeout_seconds
        message = f"The function {self._function.name} took longer than its {seconds:.0f} s."
        self._end(call, DeadlineExceededError(message))
        self._kill_once_alone()

    def _kill_once_alone(self) -> None:
        """Nothing else ends a thread that hangs: its process goes, once nobody else's call goes with it."""
        if self._is_retired and all(call.overran for call in self._calls.values()):
            self.kill()

    def _end(self, call: _Call, error: InvocationError | None) -> None:
        """The event has its response, or never will; only the first call counts."""
        invocation, call.invocation = call.invocation, None
        if invocation is None:
            return
        if error is None:
            invocation.finish()
        else:
            invocation.fail(error)

    def _over(self, call: _Call) -> None:
        """Its thread is done with it."""
        del self._calls[call.id]
        call.timer.cancel()
        if call.settling is not None:
            call.settling.set_result(None)
        self._end(call, InvocationError(f"The function {self._function.name} lost its answer on the way."))

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # --- what its process calls, by the Runtime API (local/runtime_api.py) -------------------------------------------

    @property
    def settles_late(self) -> bool:
        """Whether its process runs `fusewire.runtime`, which may settle after the answer."""
        return self._function.wrapper is not None

    @property
    def is_started(self) -> bool:
        """Whether it has a process, or is about to."""
        return self._watch is not None

    def wait_for_event(self, give: Give) -> None:
        """A thread waits for an event; the one before is over. It may do so again, by another connection."""
        first = not self._initialised
        self._initialised = True
        self._stop_timer()
        is_new = self._threads < self.capacity
        call = self._before(give, is_new=is_new)
        if call is not None:
            self._over(call)
        elif is_new:
            self._threads += 1
        elif self._resting == self._threads:
            if len(self._gives) == self._resting:
                del self._gives[0]
            self._gives.append(give)
            return
        self._gives.append(give)
        self._resting += 1
        self._kill_once_alone()
        self.on_ready(self, first)

    def _before(self, give: Give, *, is_new: bool) -> _Call | None:
        """The event that the thread which asks now was given last; None where it was given none."""
        calls = list(self._calls.values())
        own = [call for call in calls if call.give == give]
        if own or is_new or self.busy > len(calls):
            return own[0] if own else None
        # By another connection: its own is lost, or about to be.
        return min(calls, key=lambda call: not call.is_lost, default=None)

    def hung_up(self, give: Give) -> None:
        """The connection is lost that a thread asked by: it is about to end, or to ask again."""
        if give in self._gives:
            self._gives.remove(give)
        for call in self._calls.values():
            call.is_lost |= call.give == give

    def open_call(self, id: str) -> Invocation | None:
        """The event of this id, while its answer is to come."""
        call = self._calls.get(id)
        return call.invocation if call is not None else None

    def init_failed(self, reason: str) -> None:
        """The function can't be loaded."""
        self._init_error = reason

    def responded(self, invocation: Invocation, broken: str | None) -> None:
        """The response has been written.

        :param broken: why it is incomplete; None where it is complete
        """
        call = self._calls[invocation.id]
        call.settling = call.settling or asyncio.get_running_loop().create_future()
        self._end(call, InvocationError(f"The function failed in mid-answer: {broken}.") if broken else None)

    def failed(self, invocation: Invocation, reason: str | None) -> None:
        """The handler raised."""
        message = f"The function {self._function.name} failed; its log says where."
        self._end(self._calls[invocation.id], InvocationError(message, reason))


def _exit_reason(status: int) -> str:
    return f"it was killed by {signal.Signals(-status).name}" if status < 0 else f"it exited with status {status}"
