"""The loop: next event, handler, answer. An event of API Gateway is answered in streaming mode, others at once."""

import base64
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, Final, NoReturn

from fusewire.runtime import Streamed
from fusewire.runtime.api import Failure, Invocation, RuntimeApi
from fusewire.runtime.context import Context

Handler = Callable[[Any, Context], Any]

_PRELUDE_END: Final = b"\0" * 8
_FRAMES_SHOWN: Final = 4
# Exceptions written for the operator; the text of any other may hold a prompt or a credential.
_SAFE_TO_SHOW: Final = frozenset(
    {"builtins.ImportError", "builtins.ModuleNotFoundError", "fusewire.config.ConfigurationError"}
)


def run(api: RuntimeApi, handler: Handler) -> NoReturn:
    """Serve one event after the other.

    :raises RuntimeApiError: when the platform is gone
    """
    while True:
        serve_one(api, handler)


def serve_one(api: RuntimeApi, handler: Handler) -> None:
    """Wait for one event, have it handled and answer it; whatever the handler raises ends here."""
    invocation = api.next()
    os.environ["_X_AMZN_TRACE_ID"] = invocation.trace_id
    try:
        event = json.loads(invocation.body)
        answer = handler(event, Context(invocation))
        if not (isinstance(event, dict) and "requestContext" in event and "httpMethod" in event):
            api.respond(invocation.request_id, json.dumps(answer).encode())
            return
        prelude, chunks = _opened(answer)
        # The first chunk before the first byte: until then a failure is an ordinary error.
        first = next(chunks, b"")
    except Exception as error:  # noqa: BLE001 - the loop outlives whatever a handler raises
        api.fail(invocation.request_id, report(error, invocation.request_id))
        return
    if isinstance(answer, dict):
        api.stream(invocation.request_id).finish(prelude + first)
    else:
        _pass_on(api, invocation, prelude + first, chunks)


def _pass_on(api: RuntimeApi, invocation: Invocation, head: bytes, chunks: Iterator[bytes]) -> None:
    """Send the chunks as they come. The iterator is always exhausted: the ledger settles inside it."""
    stream = api.stream(invocation.request_id)
    stream.write(head)
    try:
        for chunk in chunks:
            stream.write(chunk)
    except Exception as error:  # noqa: BLE001 - as above
        stream.fail(report(error, invocation.request_id))
    else:
        stream.finish()


def _opened(answer: dict[str, Any] | Streamed) -> tuple[bytes, Iterator[bytes]]:
    """The prelude and the body of what a handler returned.

    :raises TypeError: when it is neither a proxy response nor a Streamed
    """
    if not isinstance(answer, dict):
        if not all(hasattr(answer, name) for name in ("status", "headers", "chunks")):
            raise TypeError("a handler must return a proxy response or a Streamed")
        return _prelude({"statusCode": answer.status, "headers": dict(answer.headers)}), iter(answer.chunks)
    if "statusCode" not in answer:
        raise TypeError("a proxy response needs a statusCode")
    head = {name: answer[name] for name in ("headers", "multiValueHeaders") if answer.get(name)}
    body = answer.get("body") or ""
    content = base64.b64decode(body) if answer.get("isBase64Encoded") else body.encode()
    return _prelude({"statusCode": answer["statusCode"], **head}), iter((content,))


def _prelude(head: dict[str, Any]) -> bytes:
    return json.dumps(head).encode() + _PRELUDE_END


def report(error: BaseException, request_id: str | None = None) -> Failure:
    """Log an exception as one JSON line, by its type and place only, and return what the platform may know."""
    kind = type(error)
    shown = f"{kind.__module__}.{kind.__qualname__}" in _SAFE_TO_SHOW
    place = " < ".join(
        f"{frame.filename}:{frame.lineno} {frame.name}"
        for frame in reversed(traceback.extract_tb(error.__traceback__)[-_FRAMES_SHOWN:])
    )
    line = {
        "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "level": "ERROR",
        "event": "function.failed",
        "request_id": request_id,
        "service": "fusewire",
        "error_type": kind.__name__,
        "location": place,
    }
    if shown:
        line["message"] = str(error)
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()
    return Failure(kind.__name__, str(error) if shown else f"{kind.__name__} at {place.partition(' < ')[0]}")
