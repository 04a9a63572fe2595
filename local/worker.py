"""One execution environment: a process that runs the real Lambda runtime client, and the Runtime API that it talks to.

https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
"""

import asyncio
import contextlib
import json
import signal
import sys
import time
from asyncio.subprocess import Process
from collections.abc import Callable, Mapping
from typing import Any, Final

from local.asgi import DisconnectedError, Receive, Send, body_parts, header_of, send_whole, trailer_of
from local.invocation import DeadlineExceededError, FunctionCrashedError, Invocation, InvocationError
from local.template import Function

_ROOT: Final = "/2018-06-01/runtime"
_INIT_SECONDS: Final = 10.0  # as on Lambda
_ERROR_TRAILER: Final = b"lambda-runtime-function-error-type"


class Worker:
    """Starts its process, gives it one event at a time, and kills it when it overruns the function's timeout."""

    def __init__(self, function: Function, port: int, variables: Mapping[str, str]) -> None:
        self._function = function
        self._variables = {
            **variables,
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{port}",
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
        self._arn = f"arn:aws:lambda:local:000000000000:function:{function.name}"
        self._process: Process | None = None
        self._watch: asyncio.Task[None] | None = None  # from the start of a process to its end
        self._poll: asyncio.Future[Invocation] | None = None
        self._current: Invocation | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._initialised = False
        self._stopping = False
        self._init_error = ""
        self.on_ready: Callable[[Worker, bool], None] = lambda worker, first: None
        """Called when the process asks for an event; `first` the first time."""
        self.on_exit: Callable[[Worker, str | None], None] = lambda worker, why_not: None
        """Called when the process is gone; with the reason when it never asked for an event."""

    # --- the process ----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin; `on_ready` or `on_exit` follows."""
        self._initialised = False
        self._init_error = ""
        self._watch = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        command = [sys.executable, "-m", "awslambdaric", self._function.handler]
        if self._function.wrapper is not None:
            command = [str(self._function.wrapper), *command]
        self._timer = asyncio.get_running_loop().call_later(_INIT_SECONDS, self._overrun_init)
        try:
            # A session of its own: Ctrl-C in the terminal is for the gateway, which lets calls finish.
            self._process = await asyncio.create_subprocess_exec(
                *command, cwd=self._function.folder, env=self._variables, start_new_session=True
            )
        except OSError as error:
            self._gone(f"it can't be started: {error.strerror}")
            return
        if self._stopping:
            self.kill()
        status = await self._process.wait()
        self._gone(_told(status))

    def _overrun_init(self) -> None:
        self._init_error = f"it wasn't ready after {_INIT_SECONDS:.0f} s"
        self.kill()

    def _gone(self, how: str) -> None:
        self._stop_timer()
        if self._poll is not None and not self._poll.done():
            self._poll.cancel()
        self._end(self._current, FunctionCrashedError(f"The function {self._function.name} broke down: {how}."))
        self._process = self._watch = None
        why_not = None
        if not self._initialised:
            why_not = f"The function {self._function.name} doesn't start: {self._init_error or how}."
        self.on_exit(self, why_not)

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

    def handle(self, invocation: Invocation) -> None:
        """Give the waiting process an event; the function's timeout runs from now."""
        if self._poll is None or self._poll.done():
            invocation.fail(FunctionCrashedError(f"The function {self._function.name} is gone."))
            return
        self._current = invocation
        self._timer = asyncio.get_running_loop().call_later(self._function.timeout_seconds, self._overrun)
        self._poll.set_result(invocation)

    def _overrun(self) -> None:
        seconds = self._function.timeout_seconds
        told = f"The function {self._function.name} took longer than its {seconds:.0f} s."
        self._end(self._current, DeadlineExceededError(told))
        self.kill()

    def _end(self, invocation: Invocation | None, error: InvocationError | None) -> None:
        """The event is answered, or never will be, unless that has been said already."""
        if invocation is None or invocation is not self._current:
            return
        self._stop_timer()
        self._current = None
        if error is None:
            invocation.finish()
        else:
            invocation.fail(error)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # --- the Runtime API ------------------------------------------------------------------------------------------

    async def serve(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Answer the process: an ASGI application of four routes."""
        path: str = scope["path"].removeprefix(_ROOT)
        status = 202
        try:
            if self._watch is None:
                status = 403  # an orphan of a gateway that had this port before
            elif path == "/invocation/next":
                await self._next(send)
                return
            elif path == "/init/error":
                told = json.loads(await _body(receive))
                self._init_error = str(told.get("errorMessage") or told.get("errorType"))
            elif self._current is not None and path == f"/invocation/{self._current.id}/response":
                await self._response(self._current, scope, receive)
            elif self._current is not None and path == f"/invocation/{self._current.id}/error":
                reason = json.loads(await _body(receive)).get("errorMessage")
                failed = f"The function {self._function.name} failed; its log says where."
                self._end(self._current, InvocationError(failed, reason))
            else:
                status = 403
        except DisconnectedError:
            return  # the end of the process, or its next `next`, ends the event
        await send_whole(send, status, [(b"content-type", b"application/json"), (b"content-length", b"2")], b"{}")

    async def _next(self, send: Send) -> None:
        first = not self._initialised
        self._initialised = True
        self._stop_timer()
        self._end(self._current, InvocationError(f"The function {self._function.name} lost its answer on the way."))
        self._poll = asyncio.get_running_loop().create_future()
        self.on_ready(self, first)
        try:
            invocation = await self._poll
        except asyncio.CancelledError:
            return  # the process is gone, so nobody waits for this
        deadline = time.time() + self._function.timeout_seconds
        headers = [
            (b"lambda-runtime-aws-request-id", invocation.id.encode()),
            (b"lambda-runtime-deadline-ms", b"%d" % (deadline * 1000)),
            (b"lambda-runtime-invoked-function-arn", self._arn.encode()),
            (
                b"lambda-runtime-trace-id",
                b"Root=1-%08x-%s;Sampled=0" % (int(time.time()), invocation.id[-24:].encode()),
            ),
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(invocation.payload)),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": invocation.payload})

    async def _response(self, invocation: Invocation, scope: Mapping[str, Any], receive: Receive) -> None:
        invocation.streamed = header_of(scope, b"lambda-runtime-function-response-mode") == "streaming"
        if not invocation.streamed:
            invocation.write(await _body(receive))
            self._end(invocation, None)
            return
        async for part in body_parts(receive):
            invocation.write(part)
        failed = trailer_of(scope, _ERROR_TRAILER)
        self._end(invocation, InvocationError(f"The function failed in mid-answer: {failed}.") if failed else None)


def _told(status: int) -> str:
    return f"it was killed by {signal.Signals(-status).name}" if status < 0 else f"it exited with status {status}"


async def _body(receive: Receive) -> bytes:
    return b"".join([part async for part in body_parts(receive)])
