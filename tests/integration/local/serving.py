"""Tiny functions written for a test, and the real gateway that serves them with real worker processes."""

import asyncio
import json
import os
import socket
import textwrap
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from fusewire import logs
from local.gateway import Gateway
from local.platform import Platform
from local.pool import Pool
from local.template import Function, Route, Template
from tests.support.gateway import alive
from tests.support.patience import PATIENCE_SECONDS

LAYER: Final = Path(__file__).resolve().parents[3] / "layers" / "core"
STREAM: Final = LAYER / "bin" / "stream"
# Every function writes down its processes, and whatever else it notes.
_HEAD: Final = """
import json, os, signal, sys, time
from pathlib import Path

def note(name, text):
    with Path(__file__).with_name(name).open("a") as file:
        file.write(f"{text}\\n")

def wait_for(name):
    while not Path(__file__).with_name(name).exists():
        time.sleep(0.01)

def reply(body="", status=200, **headers):
    return {"statusCode": status, "headers": headers, "body": body}

note("spawned", os.getpid())
"""


class Code:
    """A function in a folder of its own."""

    def __init__(self, parent: Path, name: str, code: str, *, timeout: float = 20, wrapper: Path | None = None) -> None:
        self.folder = parent / name
        self.folder.mkdir()
        (self.folder / "app.py").write_text(_HEAD + textwrap.dedent(code))
        self.function = Function(name, self.folder, "app.handler", timeout, 512, wrapper)

    def notes(self, name: str) -> list[str]:
        """What the function noted so far, in order."""
        file = self.folder / name
        return file.read_text().splitlines() if file.exists() else []

    @property
    def spawned(self) -> list[int]:
        """The ids of its processes, in the order of their starts."""
        return [int(pid) for pid in self.notes("spawned")]

    @property
    def running(self) -> list[int]:
        return [pid for pid in self.spawned if alive(pid)]

    def let(self, name: str) -> None:
        """End a `wait_for` in the function."""
        (self.folder / name).touch()


@asynccontextmanager
async def serving(
    *codes: Code, concurrency: int = 2, origins: tuple[str, ...] = (), calls_per_worker: int = 1
) -> AsyncIterator["Client"]:
    """A gateway that serves each function at `GET` and `POST /<its name>` and `/<its name>/{item}`."""
    routes = tuple(
        Route(method, f"/{code.function.name}{rest}", code.function.name)
        for code in codes
        for method in ("GET", "POST")
        for rest in ("", "/{item}")
    )
    template = Template(tuple(code.function for code in codes), routes, ())
    async with serving_template(
        template, {}, concurrency=concurrency, origins=origins, calls_per_worker=calls_per_worker
    ) as client:
        yield client


@asynccontextmanager
async def serving_template(
    template: Template,
    variables: Mapping[str, str],
    *,
    concurrency: int = 1,
    origins: tuple[str, ...] = (),
    calls_per_worker: int = 1,
) -> AsyncIterator["Client"]:
    """A gateway that serves what a template has, in an environment of these variables only."""
    public = socket.create_server(("127.0.0.1", 0))
    port = public.getsockname()[1]
    kept = {"PATH": os.environ["PATH"], "PYTHONPATH": str(LAYER / "python"), "PYTHONDONTWRITEBYTECODE": "1"}
    platform = Platform(
        template,
        public,
        concurrency,
        kept | dict(variables),
        origins,
        hosts=("x",),
        calls_per_worker=calls_per_worker,
    )
    async with Client(platform, port) as client:
        await platform.start()
        try:
            yield client
        finally:
            await platform.stop()


class Client(httpx.AsyncClient):
    """A client of a gateway in this process."""

    def __init__(self, platform: Platform, port: int) -> None:
        super().__init__(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_SECONDS, trust_env=False)
        self.port = port
        self._platform = platform

    @property
    def gateway(self) -> Gateway:
        return self._platform._gateway

    def pool(self, function: str) -> Pool:
        """What EventBridge invokes."""
        return self._platform._pools[function]

    async def stop(self) -> None:
        """Stop the gateway while this client lives on."""
        await self._platform.stop()

    async def arrived(self, calls: int) -> None:
        """Wait until so many calls are in the gateway."""
        await eventually(lambda: self._platform._gateway.in_flight == calls)


async def eventually(holds: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> None:
    """Wait until `holds()`; :raises AssertionError: when it doesn't in time"""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not so after {seconds} s"
        await asyncio.sleep(0.02)


def logged(caplog: pytest.LogCaptureFixture, event: str, field: str) -> list[str]:
    """One field of every event of that name that the gateway logged."""
    return [line[field] for line in logged_lines(caplog) if line["event"] == event]


def logged_lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """What the gateway logged, as it was printed."""
    return [json.loads(logs.logger.registered_handler.format(record)) for record in caplog.records]


def code_of(answer: httpx.Response) -> str:
    """The code of an error in OpenAI's body."""
    error = answer.json()["error"]
    assert error.keys() == {"message", "type", "code", "param"}
    code: str = error["code"]
    return code
