"""The callers: each call is sent when the trace says so, whatever has become of those before it."""

import asyncio
import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from benchmarks import BenchmarkError
from benchmarks.admission.trace import Call
from benchmarks.load import Target

_ANSWER_SECONDS: Final = 300.0
_SHOWN_OF_A_BAD_ANSWER: Final = 300
_LEAD_SECONDS: Final = 0.5
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call ended, as its caller saw it. Times are of `time.monotonic`."""

    number: int
    sent: float
    ended: float
    status: int
    code: str
    """Of the error; empty where there is none."""
    text: str
    """The beginning of an error's body."""


async def replay(calls: Sequence[Call], cap: int | None, target: Target, factor: float) -> list[Outcome]:
    """Send the calls at their times, `factor` times faster than the trace, and wait for all answers.

    :param cap: the output cap that callers ask for; None where they name none
    :return: the outcomes, in the calls' order
    :raises BenchmarkError: when a call gets no answer at all
    """
    began = time.monotonic() + _LEAD_SECONDS

    async def send(call: Call) -> Outcome:
        await asyncio.sleep(began + call.at / factor - time.monotonic())
        return await _ask(call, cap, target)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(send(call)) for call in calls]
    except ExceptionGroup as errors:  # not except*: before Python 3.11.4 it wraps what is raised in it
        if errors.split((OSError, EOFError, TimeoutError, ValueError))[1] is not None:
            raise
        raise BenchmarkError(f"A call was not answered: {errors.exceptions[0]!r}") from errors
    return [task.result() for task in tasks]


async def _ask(call: Call, cap: int | None, target: Target) -> Outcome:
    request = _request(call, cap, target)
    parts = urlsplit(target.url)
    sent = time.monotonic()
    async with asyncio.timeout(_ANSWER_SECONDS):
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        try:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = _LENGTH.search(head)
            body = await (reader.readexactly(int(length[1])) if length else reader.read())
        finally:
            writer.close()
    ended = time.monotonic()
    status = int(head.split(b" ", 2)[1])
    text = body.decode(errors="replace") if status != 200 else ""
    return Outcome(call.number, sent, ended, status, _code(text), text[:_SHOWN_OF_A_BAD_ANSWER])


def _request(call: Call, cap: int | None, target: Target) -> bytes:
    fields: dict[str, object] = {"model": target.model, "messages": [{"role": "user", "content": call.prompt()}]}
    if cap is not None:
        fields["max_tokens"] = cap
    body = json.dumps(fields).encode()
    parts = urlsplit(target.url)
    head = (
        f"POST {parts.path} HTTP/1.1\r\nhost: {parts.netloc}\r\nauthorization: Bearer {target.key}\r\n"
        f"content-type: application/json\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _code(text: str) -> str:
    """The error's code, where the body has one as OpenAI's has."""
    if not text:
        return ""
    try:
        found = json.loads(text[text.find("{") : text.rfind("}") + 1])
        return str(found["error"]["code"])
    except (ValueError, KeyError, TypeError):
        return "?"
