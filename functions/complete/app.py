"""POST /api/v1/chat/completions: an answer from the first provider that can give one, as JSON or as a stream."""

from typing import Any

from aws_lambda_powertools.event_handler import Response

from fusewire.ai.vocabulary import ChatRequest
from fusewire.http.completions import caller_of, served_headers, stream_headers
from fusewire.http.resolver import LambdaContext, Resolver, StreamedAnswer, json_response
from fusewire.http.sse import chat_events
from fusewire.services import services

_core = services()
app = Resolver(_core.settings)


@app.post("/api/v1/chat/completions")
def complete() -> Response[str]:
    request = app.body(ChatRequest)
    caller = caller_of(app)
    if request.stream:
        streaming = _core.router.stream(request, caller)
        include_usage = bool(request.stream_options and request.stream_options.include_usage)
        return app.stream(chat_events(streaming.chunks, include_usage=include_usage), stream_headers(streaming, app))
    response, served = _core.router.complete(request, caller)
    return json_response(200, response.model_dump(exclude_unset=True), served_headers(served, app))


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any] | StreamedAnswer:
    return app.serve(event, context)
