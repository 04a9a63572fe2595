"""HTTP requests as REST proxy events, and functions' answers as HTTP."""

import asyncio
import base64
import json
from typing import Any

import pytest
from aws_lambda_powertools.utilities.parser.models import APIGatewayProxyEventModel

from local.invocation import Invocation, InvocationError
from local.proxy import Answer, answer_of, request_event, with_body

# https://docs.aws.amazon.com/apigateway/latest/developerguide/set-up-lambda-proxy-integrations.html
_DOCUMENTED = {
    "resource", "path", "httpMethod", "headers", "multiValueHeaders", "queryStringParameters",
    "multiValueQueryStringParameters", "pathParameters", "stageVariables", "requestContext", "body", "isBase64Encoded",
}  # fmt: skip
_DOCUMENTED_CONTEXT = {
    "accountId", "apiId", "authorizer", "domainName", "domainPrefix", "extendedRequestId", "httpMethod", "identity",
    "path", "protocol", "requestId", "requestTime", "requestTimeEpoch", "resourceId", "resourcePath", "stage",
}  # fmt: skip


def event_of(
    *,
    path: str = "/api/v1/models",
    query: bytes = b"",
    headers: tuple[tuple[bytes, bytes], ...] = (),
    body: bytes = b"",
    resource: str = "/api/v1/models",
    parameters: dict[str, str] | None = None,
) -> dict[str, Any]:
    scope = {
        "method": "POST",
        "path": path,
        "query_string": query,
        "headers": list(headers),
        "http_version": "1.1",
        "client": ("127.0.0.9", 4711),
    }
    event = with_body(request_event(scope, resource, parameters or {}, "the-id"), body)
    json.dumps(event)
    return event


def test_it_has_the_documented_keys() -> None:
    event = event_of(headers=((b"user-agent", b"curl/8"),))
    assert event.keys() == _DOCUMENTED
    context = event["requestContext"]
    assert context.keys() <= _DOCUMENTED_CONTEXT
    assert (context["requestId"], context["httpMethod"], context["resourcePath"]) == (
        "the-id",
        "POST",
        "/api/v1/models",
    )
    assert context["identity"] == {"sourceIp": "127.0.0.9", "userAgent": "curl/8"}
    assert context["protocol"] == "HTTP/1.1"
    APIGatewayProxyEventModel.model_validate(event)


@pytest.mark.parametrize(
    ("query", "single", "many"),
    [
        (b"", None, None),
        (b"probe=true", {"probe": "true"}, {"probe": ["true"]}),
        (b"a=1&b=2&a=3", {"a": "3", "b": "2"}, {"a": ["1", "3"], "b": ["2"]}),
        (b"a=", {"a": ""}, {"a": [""]}),
        (b"a", {"a": ""}, {"a": [""]}),
        (b"from=2026-11-01&q=%2B", {"from": "2026-11-01", "q": "+"}, {"from": ["2026-11-01"], "q": ["+"]}),
        (b"q=%E6%97%A5+1", {"q": "日 1"}, {"q": ["日 1"]}),
        (b"x=%FF", {"x": "\ufffd"}, {"x": ["\ufffd"]}),
    ],
)  # fmt: skip
def test_query_strings(query: bytes, single: object, many: object) -> None:
    event = event_of(query=query)
    assert event["queryStringParameters"] == single
    assert event["multiValueQueryStringParameters"] == many


def test_repeated_headers() -> None:
    event = event_of(headers=((b"x-a", b"1"), (b"accept", b"*/*"), (b"x-a", b"2"), (b"x-latin", b"\xe9")))
    assert event["headers"] == {"x-a": "2", "accept": "*/*", "x-latin": "é"}
    assert event["multiValueHeaders"] == {"x-a": ["1", "2"], "accept": ["*/*"], "x-latin": ["é"]}


@pytest.mark.parametrize(
    ("body", "row", "encoded"),
    [
        (b"", None, False),
        (b'{"a": 1}', '{"a": 1}', False),
        ("日本 🗼".encode(), "日本 🗼", False),
        (b"\x00\x1f", "\x00\x1f", False),
        (b"\xff\x00\xfe", base64.b64encode(b"\xff\x00\xfe").decode(), True),
    ],
)
def test_bodies(body: bytes, row: str | None, encoded: bool) -> None:
    event = event_of(body=body)
    assert (event["body"], event["isBase64Encoded"]) == (row, encoded)


def test_paths_and_their_parameters() -> None:
    event = event_of(path="/calls/日本", resource="/calls/{request_id}", parameters={"request_id": "日本"})
    assert (event["path"], event["resource"]) == ("/calls/日本", "/calls/{request_id}")
    assert event["pathParameters"] == {"request_id": "日本"}
    assert event["requestContext"]["resourcePath"] == "/calls/{request_id}"
    assert event_of()["pathParameters"] is None


# --- answers ------------------------------------------------------------------------------------------------------


def answered(*parts: bytes, streamed: bool = False, error: InvocationError | None = None) -> tuple[Answer, bytes]:
    """What a client would get of an answer that came in these parts."""

    async def read() -> tuple[Answer, bytes]:
        invocation = Invocation("1", b"{}")
        invocation.streamed = streamed
        for part in parts:
            invocation.write(part)
        if error is None:
            invocation.finish()
        else:
            invocation.fail(error)
        answer = await answer_of(invocation)
        return answer, b"".join([part async for part in answer.body])

    return asyncio.run(read())


def buffered(**row: object) -> tuple[Answer, bytes]:
    return answered(json.dumps(row).encode())


def test_a_buffered_answer() -> None:
    answer, body = buffered(statusCode=201, headers={"X-A": "b", "Content-Length": "7"}, body="grüße")
    assert (answer.status, body) == (201, "grüße".encode())
    assert answer.headers == [(b"x-a", b"b"), (b"content-length", b"7")]


def test_a_buffered_answer_of_bytes() -> None:
    answer, body = buffered(statusCode=200, body=base64.b64encode(b"\xff\x00").decode(), isBase64Encoded=True)
    assert body == b"\xff\x00"
    assert answer.headers == [(b"content-length", b"2")]


@pytest.mark.parametrize("body", [None, ""])
def test_a_buffered_answer_without_a_body(body: str | None) -> None:
    answer, content = buffered(statusCode=200, body=body)
    assert (answer.headers, content) == ([(b"content-length", b"0")], b"")


def test_both_kinds_of_headers_are_merged() -> None:
    many = {"Vary": ["Origin", "Accept"], "x-n": [1, 2]}
    answer, _ = buffered(statusCode=200, headers={"vary": "Origin", "X-One": 1, "x-é": "ü"}, multiValueHeaders=many)
    assert answer.headers[:-1] == [
        (b"vary", b"Origin"),
        (b"vary", b"Accept"),
        (b"x-n", b"1"),
        (b"x-n", b"2"),
        (b"x-one", b"1"),
        ("x-é".encode("latin-1"), "ü".encode("latin-1")),
    ]


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"{",
        b"{}",
        b'{"statusCode": null}',
        b'{"statusCode": "ok"}',
        b'{"statusCode": 99}',
        b'{"statusCode": 101}',
        b'{"statusCode": 600}',
        b'{"statusCode": 200, "body": {"a": 1}}',
        b'{"statusCode": 200, "body": "abc", "isBase64Encoded": true}',
        b'{"statusCode": 200, "headers": ["x"]}',
        b'{"statusCode": 200, "multiValueHeaders": {"x": 1}}',
        '{"statusCode": 200, "headers": {"x": "日本"}}'.encode(),
        b"\xff",
    ],
)
@pytest.mark.parametrize("streamed", [True, False])
def test_what_is_no_proxy_response(text: bytes, streamed: bool) -> None:
    if streamed and b'"body"' in text:
        return  # a prelude's body is not looked at
    with pytest.raises(InvocationError, match="isn't a proxy response"):
        answered(text + b"\0" * 8 if streamed else text, streamed=streamed)


@pytest.mark.parametrize("status", [200, 299, 402, "429", 529])
def test_statuses(status: int | str) -> None:
    assert buffered(statusCode=status)[0].status == int(status)


def test_a_streamed_answer_however_it_is_cut() -> None:
    whole = json.dumps({"statusCode": 200, "headers": {"x": "\0y", "Transfer-Encoding": "chunked"}}).encode()
    whole += b"\0" * 8 + b"\0" * 9 + b"body"
    for size in (1, 3, 7, len(whole)):
        parts = [whole[start : start + size] for start in range(0, len(whole), size)]
        answer, body = answered(*parts, streamed=True)
        assert (answer.status, answer.headers) == (200, [(b"x", b"\0y")])
        assert body == b"\0" * 9 + b"body"


def test_a_stream_that_ends_before_its_prelude_does() -> None:
    with pytest.raises(InvocationError, match="without a prelude"):
        answered(b'{"statusCode": 200}', b"\0" * 7, streamed=True)
    with pytest.raises(InvocationError, match="without a prelude"):
        answered(streamed=True)


@pytest.mark.parametrize("parts", [(), (b'{"statusCode": 200}' + b"\0" * 8, b"half")])
def test_a_failure_is_told_wherever_it_comes(parts: tuple[bytes, ...]) -> None:
    with pytest.raises(InvocationError, match="broke"):
        answered(*parts, streamed=True, error=InvocationError("it broke"))


def test_every_refusal_has_a_status_and_a_code() -> None:
    kinds: list[type[InvocationError]] = [InvocationError, *InvocationError.__subclasses__()]
    assert len({kind.code for kind in kinds}) == len(kinds)
    assert {kind.status for kind in kinds} == {502, 503, 504}
