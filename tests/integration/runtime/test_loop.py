"""The loop against a Runtime API over real HTTP: what it sends, when, and what a handler learns."""

import base64
import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from fusewire.runtime.api import RuntimeApi
from fusewire.runtime.context import Context
from fusewire.runtime.loop import serve_one
from tests.integration.runtime.handlers import (
    ANY_BYTES,
    Answer,
    prelude_of,
    returning,
    served,
)
from tests.integration.runtime.runtime_api import API_EVENT, RuntimeApiServer
from tests.support.patience import PATIENCE_SECONDS


def test_an_event_that_is_not_api_gateways_is_answered_at_once(platform: RuntimeApiServer, api: RuntimeApi) -> None:
    platform.give({"time": "2026-11-01T00:00:00Z"}, "7")
    serve_one(api, lambda event, context: {"seen": event["time"], "text": "日本"})
    post = platform.posted()
    assert post.path == "/invocation/7/response"
    assert post.headers["content-type"] == "application/json"
    assert "lambda-runtime-function-response-mode" not in post.headers
    assert post.json == {"seen": "2026-11-01T00:00:00Z", "text": "日本"}


@pytest.mark.parametrize("event", [None, 5, "text", [1], ["requestContext", "httpMethod"]])
def test_any_json_is_an_event(platform: RuntimeApiServer, api: RuntimeApi, event: object) -> None:
    platform.give(event)
    serve_one(api, lambda event, context: {"seen": event})
    assert platform.posted().json == {"seen": event}


def test_a_proxy_response_leaves_in_streaming_mode(platform: RuntimeApiServer, api: RuntimeApi) -> None:
    answer = {
        "statusCode": 201,
        "headers": {"x-one": "1"},
        "multiValueHeaders": {"x-two": ["2", "3"]},
        "body": "grüße",
        "isBase64Encoded": False,
    }
    platform.give(API_EVENT, "42")
    serve_one(api, returning(answer))
    post = platform.posted()
    assert post.path == "/invocation/42/response"
    assert post.headers["lambda-runtime-function-response-mode"] == "streaming"
    assert post.headers["content-type"] == "application/vnd.awslambda.http-integration-response"
    assert post.headers["transfer-encoding"] == "chunked"
    assert {name.strip() for name in post.headers["trailer"].split(",")} == {
        "Lambda-Runtime-Function-Error-Type",
        "Lambda-Runtime-Function-Error-Body",
    }
    result = {"statusCode": 201, "headers": {"x-one": "1"}, "multiValueHeaders": {"x-two": ["2", "3"]}}
    assert prelude_of(post) == (result, "grüße".encode())
    assert post.whole
    assert post.trailers == {}


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        ({"statusCode": 204}, b""),
        ({"statusCode": 200, "body": None}, b""),
        ({"statusCode": 200, "body": base64.b64encode(ANY_BYTES).decode(), "isBase64Encoded": True}, ANY_BYTES),
    ],
)
def test_bodies_of_proxy_responses(
    platform: RuntimeApiServer, api: RuntimeApi, answer: dict[str, Any], body: bytes
) -> None:
    platform.give(API_EVENT)
    serve_one(api, returning(answer))
    assert prelude_of(platform.posted()) == ({"statusCode": answer["statusCode"]}, body)


def test_a_chunk_leaves_before_the_next_is_made(platform: RuntimeApiServer, api: RuntimeApi) -> None:
    seen = [threading.Event() for _ in range(3)]

    def chunks() -> Iterator[bytes]:
        for number, event in enumerate(seen):
            yield b"chunk %d" % number
            assert event.wait(PATIENCE_SECONDS)

    platform.give(API_EVENT)
    with served(api, returning(Answer(chunks(), 202, {"x-a": "b"}))):
        first = platform.chunk()
        assert first == b'{"statusCode": 202, "headers": {"x-a": "b"}}' + b"\0" * 8 + b"chunk 0"
        seen[0].set()
        assert platform.chunk() == b"chunk 1"
        seen[1].set()
        assert platform.chunk() == b"chunk 2"
        assert platform.nothing_more()
        seen[2].set()
    post = platform.posted()
    assert post.whole
    assert len(post.chunks) == 3
    assert post.trailers == {}


def test_empty_chunks_do_not_end_the_answer(platform: RuntimeApiServer, api: RuntimeApi) -> None:
    platform.give(API_EVENT)
    serve_one(api, returning(Answer(iter([b"", b"a", b"", b"b"]))))
    post = platform.posted()
    assert prelude_of(post)[1] == b"ab"
    assert post.chunks[1:] == [b"a", b"b"]


def test_an_answer_of_no_chunk_at_all_has_a_prelude(platform: RuntimeApiServer, api: RuntimeApi) -> None:
    platform.give(API_EVENT)
    serve_one(api, returning(Answer(iter(()))))
    assert prelude_of(platform.posted())[1] == b""


def test_bodies_of_many_megabytes(platform: RuntimeApiServer, api: RuntimeApi) -> None:
    text = "ä" * 6_000_000
    platform.give(API_EVENT | {"body": text}, "1")
    serve_one(api, lambda event, context: {"statusCode": 200, "body": event["body"]})
    assert prelude_of(platform.posted())[1] == text.encode()
    block = os.urandom(1_000_000)
    platform.give(API_EVENT, "2")
    serve_one(api, returning(Answer(block for _ in range(12))))
    assert prelude_of(platform.posted())[1] == block * 12


def test_an_event_that_comes_in_chunks(platform: RuntimeApiServer, api: RuntimeApi) -> None:
    platform.chunked_events = True
    for number in "12":
        platform.give({"number": number, "text": "é" * 1000}, number)
        serve_one(api, lambda event, context: event)
        assert platform.posted().json == {"number": number, "text": "é" * 1000}


def test_the_context_of_an_invocation(
    platform: RuntimeApiServer, api: RuntimeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("_X_AMZN_TRACE_ID", "before")
    seen: list[Context] = []
    times: list[int] = []

    def handler(event: object, context: Context) -> object:
        seen.append(context)
        times.append(context.get_remaining_time_in_millis())
        return os.environ["_X_AMZN_TRACE_ID"]

    platform.give({}, "8f3a", seconds=30)
    serve_one(api, handler)
    assert platform.posted().json == "Root=8f3a"
    context = seen[0]
    assert context.aws_request_id == "8f3a"
    assert context.invoked_function_arn == "arn:aws:lambda:here:0:function:f"
    assert context.streams
    assert 0 < times[0] <= 30_000
    assert context.get_remaining_time_in_millis() <= times[0]
    platform.give({}, "late", seconds=-5)
    serve_one(api, handler)
    assert times[1] == 0


def test_what_a_handler_leaves_follows_its_answer_and_precedes_the_next_event(
    platform: RuntimeApiServer, api: RuntimeApi
) -> None:
    seen: list[str] = []

    def handler(event: dict[str, Any], context: Context) -> Answer:
        def chunks() -> Iterator[bytes]:
            yield b"a"
            context.after_response.append(lambda: seen.append(platform.posted().body[-1:].decode()))
            context.after_response.append(lambda: seen.append("then"))
            yield b"b"

        seen.append("event")
        return Answer(chunks())

    platform.give(API_EVENT, "1")
    platform.give(API_EVENT, "2")
    with served(api, handler, events=2):
        pass
    assert seen == ["event", "b", "then"] * 2
