"""The loop: next event, handler, response. An event of API Gateway gets it in streaming mode, others at once.

Where the platform gives an execution environment several events at once, as on Lambda Managed Instances, each of that
many threads has a loop, with a connection of its own to the Runtime API (docs/decisions/0026-many-calls.md).
"""

import base64
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from queue import SimpleQueue
from typing import Any, Final, NoReturn

from fusewire.runtime import Streamed
from fusewire.runtime.api import Invocation, RuntimeApi
from fusewire.runtime.context import Context
from fusewire.runtime.keep_alive import KeepAlive
from fusewire.runtime.report import report

Handler = Callable[[Any, Context], Any]

_PRELUDE_END: Final = b"\0" * 8
_EVENTS: Final = "text/event-stream"
_SWITCH_SECONDS: Final = 0.0005
"""For which a thread may compute while others wait for the interpreter. By Python's own 5 ms, Postgres' answer to one
call waits for so long behind another's JSON (docs/decisions/0026-many-calls.md)."""
_keep_alive: Final = KeepAlive()
"""Of the loop of a process that has one."""


def run(api: RuntimeApi, handler: Handler, concurrency: int = 1) -> NoReturn:
    """Serve one event after the other, or so many at once.

    :raises RuntimeApiError: when the platform is gone; calls of other threads may be under way then
    """
    if concurrency == 1:
        _serve(api, handler)
    sys.setswitchinterval(_SWITCH_SECONDS)
    ended: SimpleQueue[BaseException] = SimpleQueue()

    def serve(own: RuntimeApi) -> None:
        try:
            _serve(own, handler, KeepAlive())
        except BaseException as error:  # noqa: BLE001 - it ends the process, as it does where there is one loop
            ended.put(error)

    for number in range(concurrency):
        threading.Thread(target=serve, args=(api.another(),), name=f"loop-{number + 1}", daemon=True).start()
    raise ended.get()


def _serve(api: RuntimeApi, handler: Handler, own: KeepAlive | None = None) -> NoReturn:
    while True:
        serve_one(api, handler, own)


def serve_one(api: RuntimeApi, handler: Handler, own: KeepAlive | None = None) -> None:
    """Wait for one event, call the handler and send its response, then do what it left for afterwards; whatever the
    handler raises ends here.

    :param own: this loop's, where the process has several; None: no other event is handled meanwhile, so that its trace
        can be where AWS's SDK looks for it
    """
    invocation = api.next()
    if own is None:
        os.environ["_X_AMZN_TRACE_ID"] = invocation.trace_id
    context = Context(invocation, api.is_closed)
    try:
        _answer(api, handler, invocation, context, own or _keep_alive)
    finally:
        # Whether or not somebody takes the response: the ledger settles here.
        for work in context.after_response:
            try:
                work()
            except Exception as error:  # noqa: BLE001 - the response has left, and the rest has to be done
                report(error, invocation.request_id)


def _answer(api: RuntimeApi, handler: Handler, invocation: Invocation, context: Context, keep_alive: KeepAlive) -> None:
    try:
        event = json.loads(invocation.body)
        response = handler(event, context)
        if not (isinstance(event, dict) and "requestContext" in event and "httpMethod" in event):
            api.respond(invocation.request_id, json.dumps(response).encode())
            return
        prelude, chunks = _prelude_and_body(response)
        # The first chunk before the first byte: until then a failure is an ordinary error.
        first = next(chunks, b"")
    except Exception as error:  # noqa: BLE001 - the loop outlives whatever a handler raises
        api.fail(invocation.request_id, report(error, invocation.request_id))
        return
    if isinstance(response, dict):
        api.stream(invocation.request_id).finish(prelude + first)
    else:
        kept_alive = keep_alive if _is_events(response.headers) else None
        _pass_on(api, invocation, prelude + first, chunks, kept_alive)


def _pass_on(
    api: RuntimeApi, invocation: Invocation, head: bytes, chunks: Iterator[bytes], keep_alive: KeepAlive | None
) -> None:
    """Send the chunks as they come. The iterator is always exhausted: the ledger settles inside it.

    :param keep_alive: what writes comments between the chunks; None where none may stand there
    """
    stream = api.stream(invocation.request_id)
    stream.write(head)
    try:
        with nullcontext() if keep_alive is None else keep_alive.during(stream):
            for chunk in chunks:
                stream.write(chunk)
    except Exception as error:  # noqa: BLE001 - as above
        stream.fail(report(error, invocation.request_id))
    else:
        stream.finish()


def _is_events(headers: Mapping[str, str]) -> bool:
    return any(name.lower() == "content-type" and value.startswith(_EVENTS) for name, value in headers.items())


def _prelude_and_body(response: dict[str, Any] | Streamed) -> tuple[bytes, Iterator[bytes]]:
    """The prelude and the body of what a handler returned.

    :raises TypeError: when it is neither a proxy response nor a Streamed
    """
    if not isinstance(response, dict):
        if not all(hasattr(response, name) for name in ("status", "headers", "chunks")):
            raise TypeError("a handler must return a proxy response or a Streamed")
        return _prelude({"statusCode": response.status, "headers": dict(response.headers)}), iter(response.chunks)
    if "statusCode" not in response:
        raise TypeError("a proxy response needs a statusCode")
    head = {name: response[name] for name in ("headers", "multiValueHeaders") if response.get(name)}
    body = response.get("body") or ""
    content = base64.b64decode(body) if response.get("isBase64Encoded") else body.encode()
    return _prelude({"statusCode": response["statusCode"], **head}), iter((content,))


def _prelude(head: dict[str, Any]) -> bytes:
    return json.dumps(head).encode() + _PRELUDE_END
