"""The little of ASGI that the gateway needs."""

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
RawHeaders = list[tuple[bytes, bytes]]


class DisconnectedError(Exception):
    """The other side hung up before its request was whole, or before anybody had begun to answer it."""


def header_of(scope: Mapping[str, Any], name: bytes) -> str | None:
    """The first header of that name, which is in lower case."""
    return next((value.decode("latin-1") for found, value in scope["headers"] if found == name), None)


async def send_whole(send: Send, status: int, headers: RawHeaders, body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def error_body(status: int, code: str, message: str) -> bytes:
    """An error of the gateway's own, in OpenAI's shape and Anthropic's at once."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    error = {"message": message, "type": kind, "code": code, "param": None}
    return json_body(json.dumps({"type": "error", "error": error}))


def json_body(text: str) -> bytes:
    """JSON that the gateway itself answers with: it ends with a newline, as functions' JSON does."""
    return f"{text}\n".encode()
