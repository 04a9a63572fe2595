"""API Gateway for a laptop: an ASGI application that routes requests to functions' pools."""

import asyncio
import json
import logging
import re
import uuid
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Final

from fusewire import logs
from fusewire.http.authorizer import sends_fusewire_key
from fusewire.http.cors import PREFLIGHT_SECONDS
from fusewire.http.headers import ALLOWED
from fusewire.http.paths import no_route, plain_path
from local.asgi import (
    DisconnectedError,
    Message,
    RawHeaders,
    Receive,
    Send,
    error_body,
    header_of,
    json_body,
    send_whole,
)
from local.authorizer import RefusedError, caller_of
from local.console import Console
from local.invocation import Invocation, InvocationError, TooManyRequestsError
from local.pages import page_of
from local.pool import Pool
from local.proxy import Answer, answer_of, request_event, with_body
from local.request_line import (
    HEAD_TOO_LARGE,
    MAX_HEAD_BYTES,
    TOO_SLOW,
    fault_of,
    head_bytes,
    hides_a_slash,
    host_name,
    names_this_machine,
)
from local.template import Refusal, Route

_MAX_BODY_BYTES: Final = 10 * 1024 * 1024  # API Gateway's limit
_BODY_SECONDS: Final = 60.0
_MAX_HELD_BYTES: Final = 256 * 1024 * 1024
"""Of all requests' bodies together, each until a function has it."""
_STALLED_SECONDS: Final = 60.0
"""For how long a client may take nothing of its answer."""
_PIECE_BYTES: Final = 64 * 1024
_ENCODER: Final = json.JSONEncoder(separators=(",", ":"))
_MODELS: Final = ("/api/v1/models/", "/v1/models/")
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
        hosts: Collection[str] = (),
        console: Console | None = None,
    ) -> None:
        """
        :param is_open: whether no key is asked for: then the authorizer is asked only about a fusewire key that is sent
            all the same
        :param hosts: by which names, beside this machine's own, callers with keys may come; `*` for any
        """
        self._pools = pools
        self._refusals = refusals
        self._is_open = is_open
        self._console = Console() if console is None else console
        self._hosts = frozenset(hosts)
        self._origins = frozenset(origins)
        self._literal: dict[str, dict[str, Route]] = {}
        self._patterns: list[tuple[re.Pattern[str], dict[str, Route]]] = []
        for route in routes:
            self._methods(route.path)[route.method] = route
        self._held = 0
        self.in_flight = 0
        self.closing = False
        """Whether new calls are refused."""

    def _methods(self, path: str) -> dict[str, Route]:
        if "{" not in path:
            return self._literal.setdefault(path, {})
        escaped = re.sub(r"\\{(\w+)\\\+\\}", r"(?P<\1>.+)", re.escape(path))
        pattern = re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", escaped))
        for known, methods in self._patterns:
            if known == pattern:
                return methods
        self._patterns.append((pattern, {}))
        return self._patterns[-1][1]

    def _match(self, scope: Message) -> tuple[dict[str, Route], dict[str, str]]:
        path = scope["path"]
        # A model's name may hold one, and OpenAI's SDKs write it so.
        if hides_a_slash(scope) and not path.startswith(_MODELS):
            return {}, {}
        if methods := self._literal.get(path):
            return methods, {}
        for pattern, methods in self._patterns:
            if match := pattern.fullmatch(path):
                return methods, match.groupdict()
        return {}, {}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one HTTP request. A client that hangs up doesn't end a call that a provider was asked for: the ledger
        settles inside it."""
        self.in_flight += 1
        try:
            await self._serve(scope, receive, send)
        except DisconnectedError:
            pass  # half a request is none, and an answer that nobody waits for isn't made
        finally:
            self.in_flight -= 1

    async def _serve(self, scope: Message, receive: Receive, send: Send) -> None:
        request_id = str(uuid.uuid4())
        scope = {**scope, "path": plain_path(scope["path"])}
        extra = [*self._cross_origin(scope), (b"x-request-id", request_id.encode())]
        methods, parameters = self._match(scope)
        body = _Body(self, receive)
        try:
            _screen(scope)
            if scope["method"] == "OPTIONS" and methods:
                await send_whole(send, 204, [*extra, *self._preflight(methods, scope)], b"")
                return
            if (page := page_of(scope, is_open=self._is_open, console=self._console)) is not None:
                await body.drop()
                await send_whole(send, page.status, [*extra, *page.headers], page.body)
                return
            route = self._route(methods, scope)
            event = request_event(scope, route.path, parameters, request_id)
            if route.authorizer is not None and (not self._is_open or sends_fusewire_key(event)):
                # Before the body: nothing of it is kept for a caller without a key.
                event["requestContext"]["authorizer"] = await caller_of(self._pools[route.authorizer], event)
            await self._forward(route, Invocation(request_id, await body.added_to(event)), body, send, extra)
        except _RefusedError as no:
            if _LAST not in no.headers:
                await body.drop()
            await _refuse(send, no.status, no.code, str(no), [*extra, *no.headers])
        except RefusedError as error:
            await body.drop()
            await self._turn_away(error, route, request_id, send, extra)
        finally:
            body.release()

    def _route(self, methods: Mapping[str, Route], scope: Message) -> Route:
        """:raises _RefusedError: where there is none, or none for this host"""
        if self.closing:
            raise _RefusedError(503, "shutting_down", "The gateway is stopping.", (b"retry-after", b"5"))
        if not methods:
            raise _RefusedError(404, "route_not_found", no_route(scope["method"], scope["path"]))
        if scope["method"] not in methods:
            allowed = ", ".join(sorted(methods))
            message = f"{scope['method']} isn't allowed here, only {allowed}."
            raise _RefusedError(405, "method_not_allowed", message, (b"allow", allowed.encode()))
        route = methods[scope["method"]]
        host = header_of(scope, b"host")
        if not route.for_everybody and not self._takes_host(host):
            message = (
                f"This gateway is for this machine alone, as localhost or 127.0.0.1, not {host!r:.200}. "
                "With AUTH_MODE=keys LOCAL_HOSTS opens it to other names."
            )
            raise _RefusedError(403, "permission_denied", message)
        return route

    def _takes_host(self, host: str | None) -> bool:
        """A page may have its own name lead here: what it says of the host is the one thing that tells."""
        named = not self._is_open and not self._hosts.isdisjoint({"*", host_name(host)})
        return named or names_this_machine(host)

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
        body = json_body(refusal.body)
        head = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send_whole(send, refusal.status, [*extra, *own, *head], body)

    async def _forward(
        self, route: Route, invocation: Invocation, body: "_Body", send: Send, extra: RawHeaders
    ) -> None:
        pool = self._pools[route.function]
        if not pool.settles_late:
            # So that the budget, read after an answer, has it: on a laptop nobody minds the milliseconds.
            await asyncio.gather(*(other.settled() for other in self._pools.values()))
        pool.invoke(invocation)
        watching = asyncio.create_task(_tell_when_left(pool, invocation, body))
        try:
            answer = await answer_of(invocation)
        except InvocationError as error:
            _log(error, invocation.id, route)
            if isinstance(error, TooManyRequestsError):
                extra.append((b"retry-after", b"1"))
            await _refuse(send, error.status, error.code, str(error), extra)
            return
        finally:
            watching.cancel()
        body.release()  # the function has it
        try:
            await _pass_on(answer, send)
        except InvocationError as error:
            _log(error, invocation.id, route)
            # Leaving without the last message breaks the connection: the client must not take this for the end.
            raise BrokenAnswerError from error
        except TimeoutError as error:
            logs.event("gateway.client_stalled", logging.WARNING, request_id=invocation.id, path=route.path)
            raise BrokenAnswerError from error
        finally:
            invocation.discard()

    def hold(self, size: int) -> None:
        """Count what a body holds in memory. :raises _RefusedError: when all bodies hold too much already"""
        if self._held + size > _MAX_HELD_BYTES:
            message = "Too many large requests are under way. Retry in a moment."
            raise _RefusedError(503, "gateway_busy", message, (b"retry-after", b"1"))
        self._held += size

    def let_go(self, size: int) -> None:
        """The other way round."""
        self._held -= size

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
            (b"access-control-allow-headers", ", ".join(ALLOWED).encode()),
            (b"access-control-max-age", b"%d" % PREFLIGHT_SECONDS),
        ]


class BrokenAnswerError(Exception):
    """Ends a connection whose answer can't be finished."""


class _RefusedError(Exception):
    """The gateway's own answer to what no function gets to see."""

    def __init__(self, status: int, code: str, message: str, *headers: tuple[bytes, bytes]) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = headers


def _screen(scope: Message) -> None:
    """:raises _RefusedError: for a head that can't be taken"""
    if head_bytes(scope) > MAX_HEAD_BYTES:
        raise _RefusedError(431, "request_headers_too_large", HEAD_TOO_LARGE, _LAST)
    if (fault := fault_of(scope)) is not None:
        raise _RefusedError(400, "invalid_request_error", fault, _LAST)


class _Body:
    """One request's body, and what it holds of the memory that is there for all of them."""

    def __init__(self, gateway: Gateway, receive: Receive) -> None:
        self._gateway = gateway
        self._receive = receive
        self._held = 0
        self._is_read = False
        self._until: float | None = None
        """By the loop's clock, when the whole must have come; None before it is waited for."""

    async def added_to(self, event: Mapping[str, object]) -> bytes:
        """The event as a function gets it, with the body in it.

        :raises DisconnectedError: when the client hangs up before its end
        :raises _RefusedError: when it is too large, doesn't come in time, or there is no room for it
        """
        content = await self._content()
        if self._gateway.closing:
            raise _RefusedError(503, "shutting_down", "The gateway is stopping.", (b"retry-after", b"5"))
        return _ENCODER.encode(with_body(event, content)).encode()

    async def _content(self) -> bytes:
        parts = []
        while (part := await self._next()) is not None:
            if self._held + len(part) > _MAX_BODY_BYTES:
                raise _RefusedError(413, "request_too_large", "The body is larger than 10 MB.")
            self._gateway.hold(len(part))
            self._held += len(part)
            parts.append(part)
        return b"".join(parts)

    async def drop(self) -> None:
        """Read what is left of it, so that the client reads the answer, and keep nothing.

        :raises DisconnectedError: when the client hangs up before its end
        """
        self.release()
        with suppress(_RefusedError):
            while await self._next() is not None:
                pass

    async def _next(self) -> bytes | None:
        """The next part; None after the last.

        :raises DisconnectedError: when the client hangs up before the end
        :raises _RefusedError: when the whole doesn't come in time
        """
        if self._is_read:
            return None
        now = asyncio.get_running_loop().time()
        self._until = self._until or now + _BODY_SECONDS
        try:
            async with asyncio.timeout_at(self._until):
                message = await self._receive()
        except TimeoutError:
            self._is_read = True
            raise _RefusedError(408, "request_timeout", TOO_SLOW, _LAST) from None
        if message["type"] == "http.disconnect":
            raise DisconnectedError
        self._is_read = not message.get("more_body", False)
        return message.get("body") or b""

    async def hung_up(self) -> None:
        """Return when the client hangs up; to be waited for once the whole body is read."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    def release(self) -> None:
        """It is in memory no more."""
        self._gateway.let_go(self._held)
        self._held = 0


async def _tell_when_left(pool: Pool, invocation: Invocation, body: _Body) -> None:
    await body.hung_up()
    pool.caller_left(invocation)


async def _pass_on(answer: Answer, send: Send) -> None:
    """
    :raises InvocationError: when the answer breaks off
    :raises TimeoutError: when the client takes nothing of it any more
    """
    await _sent(send, {"type": "http.response.start", "status": answer.status, "headers": answer.headers})
    async for part in answer.body:
        for start in range(0, len(part), _PIECE_BYTES):
            piece = part[start : start + _PIECE_BYTES]
            await _sent(send, {"type": "http.response.body", "body": piece, "more_body": True})
    await _sent(send, {"type": "http.response.body"})


async def _sent(send: Send, message: Message) -> None:
    async with asyncio.timeout(_STALLED_SECONDS):
        await send(message)


async def _refuse(send: Send, status: int, code: str, message: str, headers: RawHeaders) -> None:
    """An error of the gateway's own, in OpenAI's body."""
    body = error_body(status, code, message)
    head = [*headers, (b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send_whole(send, status, head, body)


def _log(error: InvocationError, request_id: str, route: Route) -> None:
    logs.event(f"gateway.{error.code}", logging.ERROR, request_id=request_id, path=route.path, message=str(error))
