"""API Gateway for a laptop: an ASGI application that routes requests to functions' pools."""

import asyncio
import json
import logging
import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Final

from fusewire import logs
from fusewire.http.cors import ALLOWED_HEADERS, PREFLIGHT_SECONDS
from local.asgi import (
    DisconnectedError,
    Message,
    RawHeaders,
    Receive,
    Send,
    body_parts,
    error_body,
    header_of,
    send_whole,
)
from local.authorizer import RefusedError, caller_of
from local.invocation import Invocation, InvocationError, TooManyRequestsError
from local.pool import Pool
from local.proxy import answer_of, request_event
from local.request_line import (
    HEAD_TOO_LARGE,
    LARGEST_HEAD_BYTES,
    TOO_SLOW,
    fault_of,
    head_bytes,
    hides_a_slash,
    names_this_machine,
)
from local.template import Refusal, Route

_LARGEST_BODY_BYTES: Final = 10 * 1024 * 1024  # API Gateway's limit
_BODY_SECONDS: Final = 60.0
_ENCODER: Final = json.JSONEncoder(separators=(",", ":"))
_LAST: Final = (b"connection", b"close")  # of a client that doesn't speak as it should nothing more is read


class Gateway:
    """Routes as the template has them, `{parameter}` included."""

    def __init__(
        self,
        routes: Sequence[Route],
        pools: Mapping[str, Pool],
        origins: Sequence[str],
        refusals: Mapping[str, Refusal],
        *,
        is_open: bool = False,
    ) -> None:
        """:param is_open: whether no key is asked for, so that nobody may come but by a name of this machine"""
        self._pools = pools
        self._refusals = refusals
        self._is_open = is_open
        self._origins = frozenset(origins)
        self._literal: dict[str, dict[str, Route]] = {}
        self._patterns: list[tuple[re.Pattern[str], dict[str, Route]]] = []
        for route in routes:
            self._methods(route.path)[route.method] = route
        self.in_flight = 0
        self.closing = False
        """Whether new calls are refused."""

    def _methods(self, path: str) -> dict[str, Route]:
        if "{" not in path:
            return self._literal.setdefault(path, {})
        pattern = re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(path)))
        for known, methods in self._patterns:
            if known == pattern:
                return methods
        self._patterns.append((pattern, {}))
        return self._patterns[-1][1]

    def _match(self, scope: Message) -> tuple[dict[str, Route], dict[str, str]]:
        path = scope["path"]
        if hides_a_slash(scope):
            return {}, {}
        if methods := self._literal.get(path):
            return methods, {}
        for pattern, methods in self._patterns:
            if match := pattern.fullmatch(path):
                return methods, match.groupdict()
        return {}, {}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one HTTP request. A client that hangs up doesn't end the call: the ledger settles inside it."""
        self.in_flight += 1
        try:
            await self._serve(scope, receive, send)
        except DisconnectedError:
            pass  # half a request is none
        finally:
            self.in_flight -= 1

    async def _serve(self, scope: Message, receive: Receive, send: Send) -> None:
        request_id = str(uuid.uuid4())
        extra = [*self._cross_origin(scope), (b"x-request-id", request_id.encode())]
        methods, parameters = self._match(scope)
        try:
            _screen(scope)
            if scope["method"] == "OPTIONS" and methods:
                await send_whole(send, 204, [*extra, *self._preflight(methods, scope)], b"")
                return
            body = await _body(receive)
            route = self._route(methods, scope)
        except _TurnedDownError as no:
            await _refuse(send, no.status, no.code, str(no), [*extra, *no.headers])
            return
        event = request_event(scope, body, route.path, parameters, request_id)
        try:
            if route.authorizer is not None:
                event["requestContext"]["authorizer"] = await caller_of(self._pools[route.authorizer], event)
        except RefusedError as error:
            await self._turn_away(error, route, request_id, send, extra)
            return
        payload = _ENCODER.encode(event).encode()
        await self._forward(route, Invocation(request_id, payload), send, extra)

    def _route(self, methods: Mapping[str, Route], scope: Message) -> Route:
        """:raises _TurnedDownError: where there is none, or none for this host"""
        if self.closing:
            raise _TurnedDownError(503, "shutting_down", "The gateway is stopping.", (b"retry-after", b"5"))
        if not methods:
            raise _TurnedDownError(404, "route_not_found", f"There is no route {scope['path'][:200]}.")
        if scope["method"] not in methods:
            allowed = ", ".join(sorted(methods))
            told = f"{scope['method']} isn't allowed here, only {allowed}."
            raise _TurnedDownError(405, "method_not_allowed", told, (b"allow", allowed.encode()))
        route = methods[scope["method"]]
        host = header_of(scope, b"host")
        if self._is_open and not route.for_everybody and not names_this_machine(host):
            told = (
                f"Without keys this gateway is for this machine alone, as localhost or 127.0.0.1, not {host!r:.200}. "
                "AUTH_MODE=keys opens it to other names."
            )
            raise _TurnedDownError(403, "permission_denied", told)
        return route

    async def _turn_away(
        self, refused: RefusedError, route: Route, request_id: str, send: Send, extra: RawHeaders
    ) -> None:
        """Answer as the template has it; the id and what concerns other origins are the gateway's own already."""
        if (error := refused.failure) is not None:
            _log(error, request_id, route)
        refusal = self._refusals[refused.kind]
        own = [
            (name.lower().encode(), value.strip("'").encode())
            for name, value in refusal.headers.items()
            if value.startswith("'") and not name.startswith("Access-Control-")
        ]
        body = refusal.body.encode()
        head = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send_whole(send, refusal.status, [*extra, *own, *head], body)

    async def _forward(self, route: Route, invocation: Invocation, send: Send, extra: RawHeaders) -> None:
        self._pools[route.function].invoke(invocation)
        try:
            answer = await answer_of(invocation)
        except InvocationError as error:
            _log(error, invocation.id, route)
            if isinstance(error, TooManyRequestsError):
                extra.append((b"retry-after", b"1"))
            await _refuse(send, error.status, error.code, str(error), extra)
            return
        await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
        try:
            async for part in answer.body:
                await send({"type": "http.response.body", "body": part, "more_body": True})
        except InvocationError as error:
            _log(error, invocation.id, route)
            # Leaving without the last message breaks the connection: the client must not take this for the end.
            raise BrokenAnswerError from error
        await send({"type": "http.response.body"})

    def _cross_origin(self, scope: Message) -> RawHeaders:
        origin = header_of(scope, b"origin")
        if origin is None or not ({"*", origin} & self._origins):
            return []
        return [(b"access-control-allow-origin", origin.encode("latin-1")), (b"vary", b"Origin")]

    def _preflight(self, methods: Mapping[str, Route], scope: Message) -> RawHeaders:
        if not self._cross_origin(scope):
            return []
        return [
            (b"access-control-allow-methods", ", ".join(sorted([*methods, "OPTIONS"])).encode()),
            (b"access-control-allow-headers", ", ".join(ALLOWED_HEADERS).encode()),
            (b"access-control-max-age", b"%d" % PREFLIGHT_SECONDS),
        ]


class BrokenAnswerError(Exception):
    """Ends a connection whose answer can't be finished."""


class _TurnedDownError(Exception):
    """The gateway's own answer to what no function gets to see."""

    def __init__(self, status: int, code: str, message: str, *headers: tuple[bytes, bytes]) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = headers


def _screen(scope: Message) -> None:
    """:raises _TurnedDownError: for a head that can't be taken"""
    if head_bytes(scope) > LARGEST_HEAD_BYTES:
        raise _TurnedDownError(431, "request_headers_too_large", HEAD_TOO_LARGE, _LAST)
    if (fault := fault_of(scope)) is not None:
        raise _TurnedDownError(400, "invalid_request_error", fault, _LAST)


async def _body(receive: Receive) -> bytes:
    """The request's body. One that is too large is read to its end, so that the client reads the answer.

    :raises DisconnectedError: when the client hangs up before its end
    :raises _TurnedDownError: when it is too large, or doesn't come in time
    """
    parts, size = [], 0
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for part in body_parts(receive):
                size += len(part)
                if size <= _LARGEST_BODY_BYTES:
                    parts.append(part)
    except TimeoutError:
        raise _TurnedDownError(408, "request_timeout", TOO_SLOW, _LAST) from None
    if size > _LARGEST_BODY_BYTES:
        raise _TurnedDownError(413, "request_too_large", "The body is larger than 10 MB.")
    return b"".join(parts)


async def _refuse(send: Send, status: int, code: str, message: str, headers: RawHeaders) -> None:
    """An error of the gateway's own, in OpenAI's body."""
    body = json.dumps(error_body(status, code, message)).encode()
    head = [*headers, (b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send_whole(send, status, head, body)


def _log(error: InvocationError, request_id: str, route: Route) -> None:
    logs.event(f"gateway.{error.code}", logging.ERROR, request_id=request_id, path=route.path, message=str(error))
