"""Handlers for the loop, a thread to run it in, and what it told."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from fusewire.runtime.api import RuntimeApi
from fusewire.runtime.context import Context
from fusewire.runtime.loop import Handler, serve_one
from tests.integration.runtime.runtime_api import Post

SECRET = "sk-sentinel-4711"  # noqa: S105 - looked for where it must not be
ANY_BYTES = bytes(range(256))


@dataclass
class Answer:
    """A streamed answer."""

    chunks: Iterator[bytes]
    status: int = 200
    headers: dict[str, str] | None = None

    def __post_init__(self) -> None:
        self.headers = self.headers or {"content-type": "text/event-stream"}


def returning(value: object) -> Handler:
    return lambda event, context: value


@contextmanager
def served(api: RuntimeApi, handler: Handler, events: int = 1) -> Iterator[None]:
    """Handle so many events in a thread, and see it end well."""
    failures: list[BaseException] = []

    def serve() -> None:
        try:
            for _ in range(events):
                serve_one(api, handler)
        except BaseException as error:  # noqa: BLE001 - shown below, in the test's own thread
            failures.append(error)

    thread = threading.Thread(target=serve)
    thread.start()
    yield
    thread.join(10)
    assert not thread.is_alive()
    assert failures == []


def prelude_of(post: Post) -> tuple[dict[str, Any], bytes]:
    head, end, body = post.body.partition(b"\0" * 8)
    assert end
    return json.loads(head), body


def log_lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def fail(make: Callable[[], Exception]) -> Handler:
    def handler(event: object, context: Context) -> object:
        raise make()

    return handler
