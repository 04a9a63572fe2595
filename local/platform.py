"""Everything that serves, on one event loop: the gateway, the workers' Runtime API, and the schedules."""

import asyncio
import socket
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, Final

import uvicorn

from fusewire.http.invocation import log_unexpected
from local.connection import Connection
from local.console import Console
from local.environment import for_function, takes_several
from local.gateway import BrokenAnswerError, Gateway
from local.pool import Pool
from local.processors import Processors
from local.runtime_api import RuntimeConnection
from local.schedule import run_schedule
from local.spelling import vendors_names
from local.template import Template
from local.worker import Worker

_DRAIN_SECONDS: Final = 10.0


class Platform:
    """Serves `template` on `public`, with `concurrency` workers a function."""

    def __init__(
        self,
        template: Template,
        public: socket.socket,
        concurrency: int,
        variables: Mapping[str, str],
        origins: Sequence[str],
        hosts: Sequence[str] = (),
        console: Console | None = None,
        *,
        calls_per_worker: int = 1,
    ) -> None:
        """
        :param variables: of which each function gets what it needs
        :param calls_per_worker: that a worker may have at once, where its function's runtime takes several
        """
        self._public = public
        self._workers: list[tuple[Worker, socket.socket]] = []
        self._pools: dict[str, Pool] = {}
        # The others are called by a deployment alone.
        called = {route.function for route in template.routes} | {each.function for each in template.schedules}
        called |= {route.authorizer for route in template.routes if route.authorizer}
        processors, vendors = Processors(), vendors_names()
        for function in template.functions:
            if function.name not in called:
                continue
            workers = []
            own_variables = for_function(variables, function, vendors)
            capacity = calls_per_worker if takes_several(function, own_variables) else 1
            for _ in range(concurrency):
                # A port of its own tells which worker asks: the Runtime API has no other name for it.
                own = _bound()
                worker = Worker(function, own.getsockname()[1], own_variables, capacity)
                self._workers.append((worker, own))
                workers.append(worker)
            self._pools[function.name] = Pool(workers, processors)
        is_open = variables.get("AUTH_MODE", "").strip() == "open"
        self._gateway = Gateway(
            template.routes, self._pools, origins, template.refusals, is_open=is_open, hosts=hosts, console=console
        )
        self._schedules = template.schedules
        self._background: list[asyncio.Task[None]] = []
        self._runtime_apis: list[asyncio.Server] = []
        config = uvicorn.Config(
            self._application,
            loop="uvloop",
            http=Connection,
            ws="none",
            interface="asgi3",
            lifespan="off",
            log_config=None,
            log_level="critical",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=2,
        )
        self._server = _Server(config)

    async def _application(self, scope: dict[str, Any], receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI's own
        try:
            await self._gateway(scope, receive, send)
        except BrokenAnswerError:
            raise
        except Exception as error:
            log_unexpected(error)
            raise

    async def start(self) -> None:
        """Begin to serve; returns when connections are accepted."""
        loop = asyncio.get_running_loop()
        for worker, own in self._workers:
            self._runtime_apis.append(await loop.create_server(partial(RuntimeConnection, worker), sock=own))
        serving = loop.create_task(self._server.serve(sockets=[self._public]))
        self._background.append(serving)
        while not self._server.started:
            if serving.done():
                serving.result()  # raises what it failed with
            await asyncio.sleep(0.01)
        for schedule in self._schedules:
            self._background.append(loop.create_task(run_schedule(schedule, self._pools[schedule.function])))

    async def stop(self) -> None:
        """Let the calls in flight finish, for some seconds, then end every worker and the server."""
        self._gateway.closing = True
        serving, *schedules = self._background
        for task in schedules:
            task.cancel()
        deadline = asyncio.get_running_loop().time() + _DRAIN_SECONDS
        while self._gateway.in_flight and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.05)
        await asyncio.gather(*(pool.close() for pool in self._pools.values()))
        for runtime_api in self._runtime_apis:
            runtime_api.close()
        self._server.should_exit = True
        await serving


class _Server(uvicorn.Server):
    def capture_signals(self) -> Any:  # noqa: ANN401 - a context manager
        """Leave signals to `__main__`: workers must go before the server does."""
        return nullcontext()


def _bound() -> socket.socket:
    own = socket.socket()
    own.bind(("127.0.0.1", 0))
    own.setblocking(False)
    return own
