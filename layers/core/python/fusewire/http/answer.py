"""A call answered in the caller's API format, whole or as a stream."""

from typing import Any

from aws_lambda_powertools.event_handler import Response

from fusewire.ai.router import Router
from fusewire.http.app import json_response, stream_response
from fusewire.http.formats import ApiFormat
from fusewire.http.headers import CallResult, call_headers
from fusewire.http.request import Request


def answer(router: Router, request: Request, call: ApiFormat) -> Response[Any]:
    """Have the router answer the call, and render that.

    :raises FusewireError: one of the tree in `fusewire.errors`
    """
    caller, is_admin = request.caller(call.dropped), request.identity.is_admin
    if call.request.stream:
        streaming = router.stream(call.request, caller)
        headers = call_headers(CallResult(streaming, is_admin, call.names))
        return stream_response(call.render_stream(streaming.chunks), {**headers, **call.headers})
    response, served = router.complete(call.request, caller)
    headers = call_headers(CallResult(served, is_admin, call.names))
    return json_response(200, call.render(response, served.booked.cost), {**headers, **call.headers})
