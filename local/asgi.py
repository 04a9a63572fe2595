"""The little of ASGI that the gateway needs."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
RawHeaders = list[tuple[bytes, bytes]]


class DisconnectedError(Exception):
    """The other side hung up before its request was whole."""


def header_of(scope: Mapping[str, Any], name: bytes) -> str | None:
    """The first header of that name, which is in lower case."""
    return next((value.decode("latin-1") for found, value in scope["headers"] if found == name), None)


async def body_parts(receive: Receive) -> AsyncIterator[bytes]:
    """The request's body as it comes.

    :raises DisconnectedError: instead of taking what came so far for the whole
    """
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise DisconnectedError
        if part := message.get("body"):
            yield part
        more = message.get("more_body", False)


async def send_whole(send: Send, status: int, headers: RawHeaders, body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def error_body(status: int, code: str, message: str) -> dict[str, object]:
    """An error of the gateway's own, in OpenAI's shape."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    return {"error": {"message": message, "type": kind, "code": code, "param": None}}
