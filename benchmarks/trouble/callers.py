"""Callers: a third wants a whole answer, a third a stream, and a third hangs up early. Each call's end is noted."""

import http.client
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from typing import Final, Literal

from benchmarks.trouble import MAX_CALLS, Question

Manner = Literal["whole", "stream", "leaves"]

_SILENCE_SECONDS: Final = 60.0
_WAIT_SECONDS: Final = 1.0
"""What a caller waits after an answer that says "not now", as `Retry-After` has it."""
_KEPT_NUMBERS: Final = 2_000
"""For the calls at the end."""
_NOT_NOW: Final = ("429", "503")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call ended, as its caller saw it."""

    number: int
    tier: str
    end: str
    """`200`, `stream`, `stream that says it broke`, `stream cut`, `left`, a status with its code, or `silence`."""
    request_id: str | None
    after: float
    """Seconds from the request."""

    @property
    def is_answer(self) -> bool:
        return self.end != "silence"


class Callers:
    """Threads that call in a closed loop."""

    def __init__(self, port: int, number: int) -> None:
        self.outcomes: list[Outcome] = []
        self._port = port
        self._threads = number
        self._numbers = count()

    def call_until(self, deadline: float) -> None:
        """By `time.monotonic()`; calls that have begun are finished."""

        def work() -> None:
            while time.monotonic() < deadline and (number := next(self._numbers)) < MAX_CALLS - _KEPT_NUMBERS:
                outcome = self._call(number, "sota")
                if outcome.end.startswith(_NOT_NOW):
                    time.sleep(_WAIT_SECONDS)

        self._together(work)

    def call_until_refused(self, tier: str, code: str, seconds: float) -> None:
        """Until a call is refused for this reason, or for so long; calls that have begun are finished."""
        refused = threading.Event()
        deadline = time.monotonic() + seconds

        def work() -> None:
            while not refused.is_set() and time.monotonic() < deadline and (n := next(self._numbers)) < MAX_CALLS:
                outcome = self._call(n, tier)
                if outcome.end.endswith(code):
                    refused.set()
                elif outcome.end.startswith(_NOT_NOW):
                    refused.wait(_WAIT_SECONDS)

        self._together(work)

    def _together(self, work: Callable[[], None]) -> None:
        with ThreadPoolExecutor(self._threads) as pool:
            for thread in [pool.submit(work) for _ in range(self._threads)]:
                thread.result()

    def _call(self, number: int, tier: str) -> Outcome:
        manner: Manner = ("whole", "stream", "leaves")[number % 3]
        began = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_SILENCE_SECONDS)
        try:
            end, request_id = _ended(connection, Question(number), tier, manner)
        except (OSError, http.client.HTTPException):
            end, request_id = "silence", None
        finally:
            connection.close()
        outcome = Outcome(number, tier, end, request_id, time.monotonic() - began)
        self.outcomes.append(outcome)
        return outcome


def _ended(
    connection: http.client.HTTPConnection, question: Question, tier: str, manner: Manner
) -> tuple[str, str | None]:
    """:raises OSError, HTTPException: where nothing came that is an answer"""
    body = {
        "model": tier,
        "messages": [{"role": "user", "content": question.prompt}],
        "max_completion_tokens": question.cap,
        "stream": manner != "whole",
    }
    head = {"content-type": "application/json"}
    connection.request("POST", "/api/v1/chat/completions", json.dumps(body), head)
    if manner == "leaves" and question.number % 2:
        return "left", None
    response = connection.getresponse()
    request_id = response.headers["x-request-id"]
    if response.status != 200:
        return f"{response.status} {json.loads(response.read())['error']['code']}", request_id
    if manner == "whole":
        response.read()
        return "200", request_id
    if manner == "leaves":
        response.readline()
        return "left", request_id
    return _end_of(response), request_id


def _end_of(response: http.client.HTTPResponse) -> str:
    last = b""
    try:
        for line in response:
            if line.startswith(b"data:"):
                last = line
    except (OSError, http.client.HTTPException):
        return "stream cut"
    if last == b"data: [DONE]\n":
        return "stream"
    return "stream that says it broke" if b'"error"' in last else "stream cut"
