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

from local.asgi import RawHeaders
from local.invocation import Invocation, InvocationError

_PRELUDE_END: Final = b"\0" * 8
_OF_THE_CONNECTION: Final = frozenset({"connection", "content-length", "transfer-encoding"})


def request_event(
    scope: Mapping[str, Any],
    resource: str,
    path_parameters: Mapping[str, str],
    request_id: str,
) -> dict[str, Any]:
    """The event for one HTTP request (an ASGI scope), without its body, which comes later (`with_body`)."""
    headers: dict[str, str] = {}
    many_headers: dict[str, list[str]] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        headers[name] = value
        many_headers.setdefault(name, []).append(value)
    query: dict[str, list[str]] = {}
    for name, value in parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True):
        query.setdefault(name, []).append(value)
    now = time.time()
    return {
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
        "body": None,
        "isBase64Encoded": False,
    }


def with_body(event: Mapping[str, Any], body: bytes) -> dict[str, Any]:
    """The event with its request's body."""
    try:
        text, encoded = body.decode(), False
    except UnicodeDecodeError:
        text, encoded = base64.b64encode(body).decode(), True
    return {**event, "body": text or None, "isBase64Encoded": encoded}


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
    head = part = await invocation.part() or b""
    if not invocation.streamed:
        return _parsed(head, None)
    while part and _PRELUDE_END not in head:
        part = await invocation.part() or b""
        head += part
    if not part:
        raise InvocationError("The function streamed an answer without a prelude.")
    prelude, _, first = head.partition(_PRELUDE_END)
    return _parsed(prelude, _rest(first, invocation))


def _parsed(text: bytes, body: AsyncIterator[bytes] | None) -> Answer:
    """:param body: None when it is in the text"""
    try:
        response = json.loads(text)
        headers = _headers(response)
        if body is None:
            content = (response.get("body") or "").encode()
            if response.get("isBase64Encoded"):
                content = base64.b64decode(content)
            headers.append((b"content-length", b"%d" % len(content)))
            body = _once(content)
        status = int(response["statusCode"])
        if not 200 <= status <= 599:
            raise ValueError(status)
        return Answer(status, headers, body)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise InvocationError("The function's answer isn't a proxy response.") from error


def _headers(response: Mapping[str, Any]) -> RawHeaders:
    """Both kinds of headers as one list, as API Gateway merges them."""
    many: dict[str, list[str]] = {}
    for name, values in (response.get("multiValueHeaders") or {}).items():
        many.setdefault(name.lower(), []).extend(map(str, values))
    for name, value in (response.get("headers") or {}).items():
        values = many.setdefault(name.lower(), [])
        if str(value) not in values:
            values.append(str(value))
    return [
        (name.encode("latin-1"), value.encode("latin-1"))
        for name, values in many.items()
        if name not in _OF_THE_CONNECTION
        for value in values
    ]


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def _rest(first: bytes, invocation: Invocation) -> AsyncIterator[bytes]:
    if first:
        yield first
    while (part := await invocation.part()) is not None:
        yield part
