"""HTTP as API Gateway's REST proxy events, and functions' answers as HTTP.

https://docs.aws.amazon.com/apigateway/latest/developerguide/set-up-lambda-proxy-integrations.html
"""

import base64
import json
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import parse_qsl

from local.invocation import Invocation, InvocationError

_PRELUDE_END: Final = b"\0" * 8

RawHeaders = list[tuple[bytes, bytes]]


def request_event(
    scope: Mapping[str, Any], body: bytes, resource: str, path_parameters: Mapping[str, str], request_id: str
) -> bytes:
    """The event's JSON for one HTTP request (an ASGI scope and its whole body)."""
    headers: dict[str, str] = {}
    many_headers: dict[str, list[str]] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        headers[name] = value
        many_headers.setdefault(name, []).append(value)
    query: dict[str, list[str]] = {}
    for name, value in parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True):
        query.setdefault(name, []).append(value)
    try:
        text, encoded = body.decode(), False
    except UnicodeDecodeError:
        text, encoded = base64.b64encode(body).decode(), True
    now = time.time()
    event = {
        "resource": resource,
        "path": scope["path"],
        "httpMethod": scope["method"],
        "headers": headers,
        "multiValueHeaders": many_headers,
        "queryStringParameters": {name: values[-1] for name, values in query.items()} or None,
        "multiValueQueryStringParameters": query or None,
        "pathParameters": dict(path_parameters) or None,
        "stageVariables": None,
        "requestContext": {
            "accountId": "000000000000",
            "apiId": "local",
            "stage": "local",
            "protocol": f"HTTP/{scope['http_version']}",
            "resourcePath": resource,
            "path": scope["path"],
            "httpMethod": scope["method"],
            "requestId": request_id,
            "requestTime": datetime.fromtimestamp(now, UTC).strftime("%d/%b/%Y:%H:%M:%S +0000"),
            "requestTimeEpoch": int(now * 1000),
            "identity": {"sourceIp": scope["client"][0], "userAgent": headers.get("user-agent")},
        },
        "body": text or None,
        "isBase64Encoded": encoded,
    }
    return json.dumps(event, separators=(",", ":")).encode()


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer that has begun. `body` raises InvocationError where it breaks off."""

    status: int
    headers: RawHeaders
    body: AsyncIterator[bytes]


async def answer_of(invocation: Invocation) -> Answer:
    """The answer to an invocation, as soon as its status and headers are there.

    :raises InvocationError: when there is none, or none that API Gateway would take
    """
    parts = invocation.parts()
    head = await anext(parts, b"")
    if not invocation.streamed:
        return _buffered(head)
    while _PRELUDE_END not in head:
        part = await anext(parts, None)
        if part is None:
            raise InvocationError("The function streamed an answer without a prelude.")
        head += part
    prelude, _, first = head.partition(_PRELUDE_END)
    told = _document(prelude)
    return Answer(told["statusCode"], _headers(told), _continued(first, parts))


def _buffered(text: bytes) -> Answer:
    told = _document(text)
    content = (told.get("body") or "").encode()
    if told.get("isBase64Encoded"):
        content = base64.b64decode(content)
    headers = [*_headers(told), (b"content-length", b"%d" % len(content))]
    return Answer(told["statusCode"], headers, _once(content))


def _document(text: bytes) -> dict[str, Any]:
    try:
        told = json.loads(text)
    except ValueError as error:
        raise InvocationError("The function's answer isn't JSON.") from error
    if not isinstance(told, dict) or not isinstance(told.get("statusCode"), int):
        raise InvocationError("The function's answer isn't a proxy response.")
    return told


def _headers(told: Mapping[str, Any]) -> RawHeaders:
    many: dict[str, list[str]] = {name: [str(value)] for name, value in (told.get("headers") or {}).items()}
    many |= told.get("multiValueHeaders") or {}
    return [(name.lower().encode(), value.encode("latin-1")) for name, values in many.items() for value in values]


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def _continued(first: bytes, parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    if first:
        yield first
    async for part in parts:
        yield part
