"""The loop when the handler breaks, or the platform: what is told, what is logged, and what goes on."""

import base64
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest

from fusewire.runtime.api import RuntimeApi, RuntimeApiError
from fusewire.runtime.context import Context
from fusewire.runtime.loop import run, serve_one
from tests.integration.runtime.handlers import (
    SECRET,
    Answer,
    fail,
    log_lines,
    prelude_of,
    returning,
    served,
)
from tests.integration.runtime.runtime_api import API_EVENT, RuntimeApiServer
from tests.support.memory import growing_by_less_than
from tests.support.patience import PATIENCE_SECONDS

# --- failures of the handler --------------------------------------------------------------------------------------


def test_a_failure_before_the_first_byte_is_an_error(
    platform: RuntimeApiServer, api: RuntimeApi, capsys: pytest.CaptureFixture[str]
) -> None:
    platform.give(API_EVENT, "13")
    serve_one(api, fail(lambda: ValueError(f"cannot use {SECRET}")))
    post = platform.posted()
    assert post.path == "/invocation/13/error"
    assert post.headers["lambda-runtime-function-error-type"] == "ValueError"
    assert post.json["errorType"] == "ValueError"
    assert SECRET.encode() not in post.body
    (line,) = log_lines(capsys)
    assert line.keys() == {"timestamp", "level", "event", "request_id", "service", "error_type", "location"}
    assert (line["level"], line["event"], line["request_id"]) == ("ERROR", "function.failed", "13")
    assert line["error_type"] == "ValueError"
    assert "handlers.py" in line["location"]
    assert "handler" in line["location"]
    assert SECRET not in json.dumps(line)


def test_the_text_of_a_cause_stays_out_too(
    platform: RuntimeApiServer, api: RuntimeApi, capsys: pytest.CaptureFixture[str]
) -> None:
    def handler(event: object, context: Context) -> object:
        try:
            raise KeyError(SECRET)
        except KeyError as error:
            raise RuntimeError(SECRET) from error

    platform.give({})
    serve_one(api, handler)
    assert SECRET.encode() not in platform.posted().body
    assert SECRET not in capsys.readouterr().out


def test_what_was_written_for_the_operator_is_shown(
    platform: RuntimeApiServer, api: RuntimeApi, capsys: pytest.CaptureFixture[str]
) -> None:
    platform.give({})
    serve_one(api, fail(lambda: ModuleNotFoundError("No module named 'gone'")))
    assert platform.posted().json["errorMessage"] == "No module named 'gone'"
    assert log_lines(capsys)[0]["message"] == "No module named 'gone'"


def test_a_failure_before_the_first_chunk_is_an_error_as_well(
    platform: RuntimeApiServer, api: RuntimeApi, capsys: pytest.CaptureFixture[str]
) -> None:
    def chunks() -> Iterator[bytes]:
        if SECRET:
            raise ValueError(SECRET)
        yield b""

    platform.give(API_EVENT, "5")
    serve_one(api, returning(Answer(chunks())))
    post = platform.posted()
    assert post.path == "/invocation/5/error"
    assert SECRET.encode() not in post.body
    assert log_lines(capsys)[0]["error_type"] == "ValueError"


def test_a_failure_after_the_first_byte_goes_into_the_trailers(
    platform: RuntimeApiServer, api: RuntimeApi, capsys: pytest.CaptureFixture[str]
) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"first"
        raise ValueError(SECRET)

    platform.give(API_EVENT, "5")
    serve_one(api, returning(Answer(chunks())))
    post = platform.posted()
    assert post.path == "/invocation/5/response"
    assert prelude_of(post)[1] == b"first"
    assert post.trailers["lambda-runtime-function-error-type"] == "ValueError"
    body = json.loads(base64.b64decode(post.trailers["lambda-runtime-function-error-body"]))
    assert body["errorType"] == "ValueError"
    assert SECRET not in json.dumps(body)
    (line,) = log_lines(capsys)
    assert (line["error_type"], line["request_id"]) == ("ValueError", "5")
    assert SECRET not in json.dumps(line)
    assert platform.nothing_more()


@pytest.mark.parametrize(
    "answer",
    [
        None,
        "text",
        {"body": "no status"},
        {"statusCode": 200, "body": {"not": "text"}},
        {"statusCode": 200, "body": "abc", "isBase64Encoded": True},
        {"statusCode": 200, "headers": {"x": object()}},
    ],
)
def test_what_api_gateway_would_not_take_is_an_error(
    platform: RuntimeApiServer, api: RuntimeApi, capsys: pytest.CaptureFixture[str], answer: object
) -> None:
    platform.give(API_EVENT)
    serve_one(api, returning(answer))
    assert platform.posted().path == "/invocation/1/error"
    assert len(log_lines(capsys)) == 1


def test_an_answer_that_is_not_json_is_an_error(
    platform: RuntimeApiServer, api: RuntimeApi, capsys: pytest.CaptureFixture[str]
) -> None:
    platform.give({})
    serve_one(api, returning(object()))
    assert platform.posted().path == "/invocation/1/error"
    assert log_lines(capsys)[0]["error_type"] == "TypeError"


def test_an_event_that_is_not_json_is_an_error(
    platform: RuntimeApiServer, api: RuntimeApi, capsys: pytest.CaptureFixture[str]
) -> None:
    platform.give(None, raw=f"{{{SECRET}".encode())
    serve_one(api, returning({}))
    post = platform.posted()
    assert post.path == "/invocation/1/error"
    assert SECRET.encode() not in post.body
    assert SECRET not in capsys.readouterr().out


def test_it_serves_on_after_a_failure(
    platform: RuntimeApiServer, api: RuntimeApi, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in "123":
        platform.give({"fail": number == "2"}, number)
    with served(api, lambda event, context: 1 // (0 if event["fail"] else 1), events=3):
        posts = [platform.posted() for _ in range(3)]
    assert [post.path for post in posts] == ["/invocation/1/response", "/invocation/2/error", "/invocation/3/response"]
    assert platform.connections == 1
    assert len(log_lines(capsys)) == 1


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_what_ends_the_process_is_not_held_up(
    platform: RuntimeApiServer, api: RuntimeApi, error: BaseException
) -> None:
    def handler(event: object, context: Context) -> object:
        raise error

    platform.give(API_EVENT)
    with pytest.raises(type(error)):
        run(api, handler)


def test_a_process_that_ends_in_mid_answer_does_not_finish_it(platform: RuntimeApiServer, api: RuntimeApi) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"first"
        raise SystemExit(3)

    platform.give(API_EVENT)
    with pytest.raises(SystemExit):
        serve_one(api, returning(Answer(chunks())))
    api.close()  # as the end of the process does
    post = platform.posted()
    assert prelude_of(post)[1] == b"first"
    assert not post.whole


# --- failures of the platform -------------------------------------------------------------------------------------


def test_the_iterator_is_exhausted_though_the_platform_hangs_up(platform: RuntimeApiServer, api: RuntimeApi) -> None:
    made, settled = [], threading.Event()

    def chunks() -> Iterator[bytes]:
        for number in range(4_000):  # more than all buffers on the way hold, so that the hang-up is noticed
            made.append(number)
            yield b"x" * 10_000
        settled.set()

    platform.hang_up_after_chunks = 3
    platform.give(API_EVENT, "1")
    platform.give({"next": True}, "2")
    with served(api, lambda event, context: "fine" if "next" in event else Answer(chunks()), events=2):
        broken = platform.posted()
        after = platform.posted()
    assert settled.is_set()
    assert len(made) == 4_000
    assert not broken.whole
    assert after.json == "fine"
    assert after.connection > broken.connection


def test_a_failure_after_the_platform_hung_up_is_logged(
    platform: RuntimeApiServer, api: RuntimeApi, capsys: pytest.CaptureFixture[str]
) -> None:
    hung_up = threading.Event()

    def chunks() -> Iterator[bytes]:
        yield b"first"
        assert hung_up.wait(PATIENCE_SECONDS)
        for _ in range(100):
            yield b"x" * 100_000
        raise ValueError(SECRET)

    platform.hang_up_after_chunks = 1
    platform.give(API_EVENT)
    with served(api, returning(Answer(chunks()))):
        assert not platform.posted().whole
        hung_up.set()
    (line,) = log_lines(capsys)
    assert line["error_type"] == "ValueError"
    assert SECRET not in json.dumps(line)


@pytest.mark.parametrize("say", [True, False])
def test_a_connection_closed_between_requests_is_renewed(
    platform: RuntimeApiServer, api: RuntimeApi, say: bool
) -> None:
    platform.say_close = say
    platform.hang_up_between_requests = True
    for number in "123":
        platform.give({"number": number}, number)
        with served(api, lambda event, context: event):
            post = platform.posted()
        assert post.json == {"number": number}
    assert platform.connections == 6  # one for each request


def test_one_connection_does_for_all(platform: RuntimeApiServer, api: RuntimeApi) -> None:
    for number in "1234":
        platform.give(API_EVENT if number in "24" else {}, number)
        serve_one(api, returning({"statusCode": 200}))
        platform.posted()
    assert platform.connections == 1


def test_no_platform_no_runtime(platform: RuntimeApiServer, api: RuntimeApi) -> None:
    platform.hang_up_on_next()
    with pytest.raises(RuntimeApiError):
        run(api, returning({}))
    platform.close()
    with pytest.raises(RuntimeApiError):
        run(api, returning({}))


@pytest.mark.parametrize("chunked", [True, False])
def test_half_an_event_is_not_handled(platform: RuntimeApiServer, api: RuntimeApi, chunked: bool) -> None:
    handled: list[object] = []
    platform.chunked_events, platform.cut_events = chunked, True
    platform.give({"text": "x" * 100})
    with pytest.raises(RuntimeApiError):
        run(api, lambda event, context: handled.append(event))
    assert handled == []


@pytest.mark.parametrize("status", [403, 500])
@pytest.mark.parametrize("event", [{}, API_EVENT])
def test_a_platform_that_refuses_an_answer_ends_the_runtime(
    platform: RuntimeApiServer, api: RuntimeApi, status: int, event: dict[str, Any]
) -> None:
    platform.answer_status = status
    platform.give(event)
    with pytest.raises(RuntimeApiError, match=str(status)):
        run(api, returning({"statusCode": 200}))


# --- a platform that takes nothing ---------------------------------------------------------------------------------


def test_a_client_that_reads_nothing_neither_grows_nor_holds_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its answer waits in the socket, and after a while it is discarded; the handler is read to its end."""
    monkeypatch.setattr("fusewire.runtime.api._STALLED_SECONDS", 1)
    made: list[int] = []

    def chunks() -> Iterator[bytes]:
        for number in range(4_000):  # 256 MB
            made.append(number)
            yield b"x" * 65_536

    with socket.create_server(("127.0.0.1", 0)) as listener:
        api = RuntimeApi("{}:{}/secret".format(*listener.getsockname()))
        serving = threading.Thread(target=serve_one, args=(api, lambda event, context: Answer(chunks())))
        with growing_by_less_than(30):
            serving.start()
            first, _ = listener.accept()
            assert first.recv(100).startswith(b"GET /secret/2018-06-01/runtime/invocation/next ")
            event = json.dumps(API_EVENT).encode()
            head = "HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: 1\r\nLambda-Runtime-Deadline-Ms: 1\r\n"
            first.sendall(f"{head}Content-Length: {len(event)}\r\n\r\n".encode() + event)
            serving.join(PATIENCE_SECONDS)
        assert not serving.is_alive()
        assert len(made) == 4_000, "the ledger settles at the end"
        first.close()
        api.close()


@pytest.mark.parametrize(
    ("address", "host", "root"),
    [
        ("127.0.0.1:9001", ("127.0.0.1", 9001), "/2018-06-01/runtime"),
        ("127.0.0.1:9001/a/b", ("127.0.0.1", 9001), "/a/b/2018-06-01/runtime"),
    ],
)
def test_an_address_may_have_a_path(address: str, host: tuple[str, int], root: str) -> None:
    api = RuntimeApi(address)
    assert (api._address, api._root, api._host) == (host, root, "127.0.0.1:9001")


@pytest.mark.parametrize("how", ["the handler", "the stream", "the platform"])
def test_what_is_left_for_afterwards_is_done_whatever_fails(
    platform: RuntimeApiServer, api: RuntimeApi, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    done: list[str] = []

    def fail() -> None:
        raise ValueError(SECRET)

    def handler(event: object, context: Context) -> Answer:
        context.after_response += [lambda: done.append("first"), fail, lambda: done.append("last")]
        if how == "the handler":
            fail()

        def chunks() -> Iterator[bytes]:
            yield b"a"
            if how == "the stream":
                fail()

        return Answer(chunks())

    if how == "the platform":
        platform.answer_status = 403
    platform.give(API_EVENT)
    with nullcontext() if how != "the platform" else pytest.raises(RuntimeApiError):
        serve_one(api, handler)
    assert done == ["first", "last"]
    out = capsys.readouterr().out
    assert "function.failed" in out
    assert SECRET not in out
