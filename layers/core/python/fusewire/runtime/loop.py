"""The loop: next event, handler, response. An event of API Gateway gets it in streaming mode, others at once."""

import base64
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from typing import Any, Final, NoReturn

from fusewire.runtime import Streamed
from fusewire.runtime.api import Invocation, RuntimeApi
from fusewire.runtime.context import Context
from fusewire.runtime.keep_alive import KeepAlive
from fusewire.runtime.report import report

Handler = Callable[[Any, Context], Any]

_PRELUDE_END: Final = b"\0" * 8
_EVENTS: Final = "text/event-stream"
_keep_alive: Final = KeepAlive()


def run(api: RuntimeApi, handler: Handler) -> NoReturn:
    """Serve one event after the other.

    :raises RuntimeApiError: when the platform is gone
    """
    while True:
        serve_one(api, handler)


def serve_one(api: RuntimeApi, handler: Handler) -> None:
    """Wait for one event, call the handler and send its response, then do what it left for afterwards; whatever the
    handler raises ends here."""
    invocation = api.next()
    os.environ["_X_AMZN_TRACE_ID"] = invocation.trace_id
    context = Context(invocation, api.is_closed)
    try:
        _answer(api, handler, invocation, context)
    finally:
        # Whether or not somebody takes the response: the ledger settles here.
        for work in context.after_response:
            try:
                work()
            except Exception as error:  # noqa: BLE001 - the response has left, and the rest has to be done
                report(error, invocation.request_id)


def _answer(api: RuntimeApi, handler: Handler, invocation: Invocation, context: Context) -> None:
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
        _pass_on(api, invocation, prelude + first, chunks, is_event_stream=_is_events(response.headers))


def _pass_on(
    api: RuntimeApi, invocation: Invocation, head: bytes, chunks: Iterator[bytes], *, is_event_stream: bool
) -> None:
    """Send the chunks as they come. The iterator is always exhausted: the ledger settles inside it.

    :param is_event_stream: whether comments may stand between the chunks
    """
    stream = api.stream(invocation.request_id)
    stream.write(head)
    try:
        with _keep_alive.during(stream) if is_event_stream else nullcontext():
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
