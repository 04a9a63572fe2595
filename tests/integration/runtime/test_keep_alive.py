"""A stream of events that falls silent is kept alive by comments between its events, and by nothing within them."""

import threading
import time
from collections.abc import Iterator

import pytest

from fusewire.runtime import loop
from fusewire.runtime.api import RuntimeApi
from fusewire.runtime.keep_alive import SECONDS, KeepAlive
from fusewire.runtime.loop import serve_one
from tests.integration.runtime.handlers import Answer, prelude_of, returning, served
from tests.integration.runtime.runtime_api import API_EVENT, RuntimeApiServer
from tests.support.patience import PATIENCE_SECONDS

COMMENT = b": still here\n\n"


@pytest.fixture(autouse=True)
def keep_alive(monkeypatch: pytest.MonkeyPatch) -> KeepAlive:
    keep_alive = KeepAlive(0.02)
    monkeypatch.setattr(loop, "_keep_alive", keep_alive)
    return keep_alive


def test_the_interval_is_far_below_every_limit_in_between() -> None:
    assert 10 <= SECONDS <= 20  # API Gateway: 300; proxies and balancers: 60, and some 30


def test_it_comments_while_the_provider_is_silent(platform: RuntimeApiServer, api: RuntimeApi) -> None:
    go_on = threading.Event()

    def chunks() -> Iterator[bytes]:
        yield b"data: 1\n\n"
        assert go_on.wait(PATIENCE_SECONDS)
        yield b"data: 2\n\n"

    platform.give(API_EVENT)
    with served(api, returning(Answer(chunks()))):
        assert platform.chunk().endswith(b"data: 1\n\n")
        assert [platform.chunk() for _ in range(3)] == [COMMENT] * 3
        go_on.set()
    post = platform.posted()
    assert post.whole
    assert prelude_of(post)[1].replace(COMMENT, b"") == b"data: 1\n\ndata: 2\n\n"


def test_it_does_not_comment_in_a_stream_that_flows(
    platform: RuntimeApiServer, api: RuntimeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "_keep_alive", KeepAlive(30))
    platform.give(API_EVENT)
    serve_one(api, returning(Answer(iter([b"data: x\n\n"] * 50))))
    assert prelude_of(platform.posted())[1] == b"data: x\n\n" * 50


def test_it_does_not_comment_in_other_content(platform: RuntimeApiServer, api: RuntimeApi) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"a,b\n"
        time.sleep(0.1)  # five intervals long
        yield b"c,d\n"

    platform.give(API_EVENT)
    serve_one(api, returning(Answer(chunks(), headers={"content-type": "text/csv"})))
    assert prelude_of(platform.posted())[1] == b"a,b\nc,d\n"


def test_it_stops_with_the_response_and_one_thread_does_for_all(
    platform: RuntimeApiServer, api: RuntimeApi, keep_alive: KeepAlive
) -> None:
    assert keep_alive._thread is None, "a snapshot holds no thread"
    threads: set[object] = set()

    def chunks() -> Iterator[bytes]:
        yield b"data: x\n\n"
        time.sleep(0.05)

    for number in "123":
        platform.give(API_EVENT, number)
        serve_one(api, returning(Answer(chunks(), headers={"Content-Type": "text/event-stream; charset=utf-8"})))
        post = platform.posted()
        assert post.whole
        assert COMMENT in post.body
        threads.add(keep_alive._thread)
    time.sleep(0.1)  # a comment after the end would break the connection
    platform.give({}, "4")
    serve_one(api, returning("fine"))
    assert platform.posted().json == "fine"
    assert platform.connections == 1
    assert len(threads) == 1


def test_a_stream_that_nobody_reads_any_more_goes_on_to_its_end(platform: RuntimeApiServer, api: RuntimeApi) -> None:
    settled = threading.Event()

    def chunks() -> Iterator[bytes]:
        for _ in range(5):
            yield b"data: x\n\n"
            time.sleep(0.05)
        settled.set()

    platform.hang_up_after_chunks = 2
    platform.give(API_EVENT, "1")
    platform.give({}, "2")
    with served(api, lambda event, context: Answer(chunks()) if "path" in event else "fine", events=2):
        assert not platform.posted().whole
        assert platform.posted().json == "fine"
    assert settled.is_set()
