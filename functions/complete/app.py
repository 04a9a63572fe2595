"""POST /api/v1/chat/completions, /messages and /responses: an answer from the first provider that can give one, as JSON
or as a stream, in the caller's format."""

from typing import Any

from aws_lambda_powertools.event_handler import Response

from fusewire.ai.vocabulary import ChatRequest
from fusewire.http.completions import caller_of, served_headers, stream_headers
from fusewire.http.doors import Door, chat_door
from fusewire.http.invocation import LambdaContext
from fusewire.http.resolver import Resolver, StreamedAnswer, json_response
from fusewire.services import services

_core = services()
app = Resolver(_core.settings)


@app.post("/api/v1/chat/completions")
def complete() -> Response[str]:
    app.require("complete")
    return _answer(chat_door(app.body(ChatRequest)))


@app.post("/api/v1/messages")
def messages() -> Response[str]:
    # Here, because most cold starts never need the other formats.
    from fusewire.http.messages_answers import messages_door, tell_error

    app.tell_error = tell_error
    app.require("complete")
    return _answer(messages_door(app, _core.registry))


@app.post("/api/v1/responses")
def responses() -> Response[str]:
    from fusewire.http.responses_answers import responses_door, tell_error

    app.tell_error = tell_error
    app.require("complete")
    return _answer(responses_door(app))


def _answer(door: Door) -> Response[str]:
    caller = caller_of(app, door.dropped)
    if door.request.stream:
        streaming = _core.router.stream(door.request, caller)
        return app.stream(door.events(streaming.chunks), stream_headers(streaming, app, door.names) | door.headers)
    response, served = _core.router.complete(door.request, caller)
    body = door.whole(response, served.booked.cost)
    return json_response(200, body, served_headers(served, app, door.names) | door.headers)


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any] | StreamedAnswer:
    return app.serve(event, context)
