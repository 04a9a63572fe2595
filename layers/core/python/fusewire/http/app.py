"""API Gateway's events in, API Gateway's answers out.

Powertools' event handler finds the route; this module adds what every function of ours shares: who may call, the
request's models, its id, errors in the route's format, CORS, and streams. Nothing of one request is kept here.
"""

import re
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from aws_lambda_powertools.event_handler.api_gateway import ResponseBuilder
from aws_lambda_powertools.event_handler.api_gateway import Route as PowertoolsRoute
from aws_lambda_powertools.event_handler.exceptions import NotFoundError
from aws_lambda_powertools.utilities.data_classes import APIGatewayProxyEvent

from fusewire import logs, metrics
from fusewire.budget.key_checks import KeyChecks
from fusewire.config import Settings
from fusewire.errors import FusewireError, LedgerUnavailableError
from fusewire.http.errors import in_both_formats, openai_error
from fusewire.http.headers import REQUEST_ID
from fusewire.http.invocation import (
    LambdaContext,
    after_response,
    log_ledger_unavailable,
    log_unexpected,
    request_id_of,
    trace_of,
)
from fusewire.http.paths import no_route, plain_path
from fusewire.http.refused_requests import RefusedRequests
from fusewire.http.request import Request
from fusewire.http.route import Route, named
from fusewire.http.schema import ResponseModel
from fusewire.json import dumps

_SAFE_METHODS: Final = ("GET", "HEAD", "OPTIONS")
_Answer = ResponseModel | Response[Any]
_Handler = TypeVar("_Handler", bound=Callable[..., _Answer])


@dataclass(frozen=True, slots=True)
class StreamingResponse:
    """An answer in pieces: `fusewire.runtime` sends each as it comes, and reads them to their end whoever hangs up."""

    status: int
    headers: dict[str, str]
    chunks: Iterator[bytes]

    def buffered(self) -> dict[str, object]:
        """The same as an ordinary proxy response, for a runtime that can't stream."""
        return {
            "statusCode": self.status,
            "headers": self.headers,
            "body": b"".join(self.chunks).decode(),
            "isBase64Encoded": False,
        }


class Resolver(APIGatewayRestResolver):
    """A function's routes. `resolver.serve` is its handler."""

    def __init__(self, settings: Settings, keys: KeyChecks | None = None) -> None:
        """:param keys: where the requests are counted that are refused before they are reserved for; None: nowhere"""
        cors = None
        if settings.cors_origins:
            from fusewire.http.cors import cors_of

            cors = cors_of(settings)
        super().__init__(serializer=dumps, cors=cors)
        self._settings = settings
        self._limits = RefusedRequests(keys)
        self._call = threading.local()
        self.not_found(self._answer_not_found)

    # Powertools keeps the event in its class, of which a process has one, and builds what calls a route at its first
    # call. Calls in several threads need a place each, and no moment at which it is half built.

    @property
    def current_event(self) -> APIGatewayProxyEvent:  # type: ignore[override] # theirs is a variable
        event: APIGatewayProxyEvent = self._call.event
        return event

    @property
    def lambda_context(self) -> LambdaContext:  # type: ignore[override] # as above
        context: LambdaContext = self._call.context
        return context

    def _call_route(self, route: PowertoolsRoute, route_arguments: dict[str, str]) -> ResponseBuilder[Any]:
        return ResponseBuilder(route.func(**route_arguments), dumps, route)

    def handles(self, route: Route) -> Callable[[_Handler], _Handler]:
        """Register the handler of a route.

        It is called with the `Request`, the path's parameters by name, and `body` and `query` where the route declares
        their models; by then the caller is known to be allowed. It returns a `ResponseModel`, or a `Response` where
        there is more to say than the route declares.
        """

        def register(handler: _Handler) -> _Handler:
            def answer(**parameters: str) -> Response[Any]:
                event = self.current_event.raw_event
                request = Request(event, self.lambda_context, self._settings)
                given = parameters | route.greedy_parameter(event["path"])
                return _answered(route, handler, request, given, self._limits)

            for path in route.paths:
                # Powertools' own parameters hold no slash.
                rule = re.sub(r"{\w+\+}", ".+", path).replace("{", "<").replace("}", ">")
                self.route(rule, method=route.method)(answer)
            return handler

        return register

    def _answer_not_found(self, error: NotFoundError) -> Response[Any]:
        event = self.current_event.raw_event
        message = no_route(event["httpMethod"], event["path"])
        body = in_both_formats(openai_error(message, type="invalid_request_error", code="route_not_found"))
        return json_response(404, body, {"x-should-retry": "false"})

    def serve(self, event: dict[str, Any], context: LambdaContext) -> "dict[str, Any] | StreamingResponse":
        """The handler: one event in, an API Gateway answer out, whatever happens."""
        request_id = request_id_of(event, context)
        logs.start_request(request_id, self._settings.log_level, trace_of(context))
        plain = event | {"path": plain_path(event["path"])}
        self._call.event, self._call.context = self._to_proxy_event(plain), context
        answer: dict[str, Any] = self.resolve(plain, context)  # type: ignore[arg-type] # their context is a class, ours a protocol
        headers = _single(answer) | {REQUEST_ID.name: request_id}
        chunks = answer["body"] if not isinstance(answer["body"], str) else None
        metrics.mark_first_byte(streamed=chunks is not None)
        if chunks is None:
            _end_request(context)
            return answer | {"headers": headers, "multiValueHeaders": {}}
        streamed = StreamingResponse(answer["statusCode"], headers, _until_the_end(chunks, context))
        return streamed if getattr(context, "streams", False) else streamed.buffered()


def _answered(
    route: Route,
    handler: Callable[..., _Answer],
    request: Request,
    parameters: Mapping[str, str],
    limits: RefusedRequests,
) -> Response[Any]:
    try:
        check_access(route, request)
        key_id = request.identity.key_id if route.access != "everybody" else None
        with limits.counting(key_id, request.id):
            models: dict[str, object] = {}
            if route.body is not None:
                models["body"] = request.body(named(route.body), empty=route.empty_body, max_values=route.max_values)
            if route.query is not None:
                models["query"] = request.query(named(route.query))
            answer = handler(request, **parameters, **models)
    except LedgerUnavailableError as error:
        log_ledger_unavailable(error)
        return _error_response(error, route, request)
    except FusewireError as error:
        return _error_response(error, route, request)
    except Exception as error:  # noqa: BLE001 - a bug is logged, and answered in the caller's format
        log_unexpected(error)
        message = "Something failed inside the gateway. The log has the place, under this request id."
        return _error_response(FusewireError(message), route, request)
    if isinstance(answer, ResponseModel):
        return json_response(route.status, answer.body())
    return answer


def check_access(route: Route, request: Request) -> None:
    """
    :raises AuthenticationError: when no authorizer has identified the caller
    :raises PermissionDeniedError: when its key doesn't have the route's scope, or for an unknown web page
    """
    if route.access == "everybody":
        return
    if route.method not in _SAFE_METHODS:
        request.refuse_unknown_page()
    request.identity.require(route.access)


def json_response(status: int, body: object, headers: Mapping[str, str] | None = None) -> Response[Any]:
    """A JSON answer whose money is exact. It ends with a newline, so that a shell prompt begins on its own line."""
    return Response(status, "application/json", f"{dumps(body)}\n", dict(headers or {}))


def stream_response(chunks: Iterator[bytes], headers: Mapping[str, str]) -> Response[Any]:
    """An answer of server-sent events, which leave once the handler has returned."""
    return Response(
        200,
        "text/event-stream; charset=utf-8",
        chunks,  # Powertools hands it on as it is, and `serve` takes it from there
        {**headers, "Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )


def _error_response(error: FusewireError, route: Route, request: Request) -> Response[Any]:
    return json_response(error.status, *named(route.render_error)(error, request.id))


def _until_the_end(chunks: Iterator[bytes], context: LambdaContext) -> Iterator[bytes]:
    """A stream's request is over when its last chunk has left."""
    try:
        yield from chunks
    finally:
        _end_request(context)


def _end_request(context: LambdaContext) -> None:
    """Once all is done that the request left for later."""
    later = after_response(context)
    if later is None:
        logs.end_request()
    else:
        later(logs.end_request)


def _single(answer: Mapping[str, Any]) -> dict[str, str]:
    """Powertools answers a REST API in `multiValueHeaders`; none of ours has more than one value."""
    headers = dict(answer.get("headers") or {})
    for name, values in (answer.get("multiValueHeaders") or {}).items():
        headers[name] = values if isinstance(values, str) else ", ".join(values)
    return headers
