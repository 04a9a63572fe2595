"""A function's process that handles many events at once: nothing of one call is in another's answer, log or trace."""

import json
import socket
import threading
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pytest

from fusewire.http.identity import Identity
from tests.conftest import as_app_role
from tests.integration.ai.observing import Books, price_of, two_clouds
from tests.integration.functions.conftest import ROOT, as_caller, asked, make_key
from tests.integration.runtime.process import runtime
from tests.integration.runtime.runtime_api import runtime_api
from tests.support.patience import PATIENCE_SECONDS
from tests.support.upstream import Handler, Reply, Upstream, chunk

CALLS: Final = 12
ROUNDS: Final = 2
CODE: Final = f"""
from importlib.util import module_from_spec, spec_from_file_location
spec = spec_from_file_location("complete", {str(ROOT / "functions" / "complete" / "app.py")!r})
complete = module_from_spec(spec)
spec.loader.exec_module(complete)
handler = complete.handler
"""


def echo(parties: int) -> Reply:
    """Answers each call with the question's own mark, once all of a round are under way."""
    barrier = threading.Barrier(parties)

    def reply(handler: Handler, body: dict[str, Any]) -> None:
        barrier.wait(PATIENCE_SECONDS)
        mark = body["messages"][-1]["content"]
        usage = {"prompt_tokens": len(mark), "completion_tokens": 3, "total_tokens": len(mark) + 3}
        if not body.get("stream"):
            message = {"role": "assistant", "content": mark}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            answer = chunk(body["model"], {}) | {"object": "chat.completion", "choices": [choice], "usage": usage}
            handler.reply(200, answer)
            return
        handler.begin_events()
        handler.event(chunk(body["model"], {"role": "assistant", "content": mark}))
        barrier.wait(PATIENCE_SECONDS)
        handler.event(chunk(body["model"], {}, "stop"))
        handler.event(chunk(body["model"], {}) | {"choices": [], "usage": usage})
        handler.event("[DONE]")
        handler.end_events()

    return reply


def mark_of(number: int) -> str:
    return f"mark-{number:03}-{'x' * number}y"


def trace_of(number: int) -> str:
    return f"Root=1-67891233-{number:024x};Parent={number:016x};Sampled=1"


def event_of(number: int) -> dict[str, Any]:
    streamed = {"stream": True, "stream_options": {"include_usage": True}} if number < CALLS else {}
    event = asked(messages=[{"role": "user", "content": mark_of(number)}], **streamed)
    event["requestContext"] = event["requestContext"] | {"requestId": f"request-{number}"}
    return as_caller(Identity(f"key_{number}", frozenset({"complete"})), event)


@pytest.fixture
def daemon() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.settimeout(PATIENCE_SECONDS)
        yield listening


def test_nothing_of_one_call_is_in_another(
    tmp_path: Path, database_url: str, upstream: Upstream, books: Books, daemon: socket.socket
) -> None:
    for number in range(CALLS * ROUNDS):
        make_key(database_url, id=f"key_{number}", name=f"team {number}")
    upstream.otherwise = echo(CALLS)
    variables = two_clouds(upstream, upstream, DATABASE_URL=as_app_role(database_url), AUTH_MODE="keys")
    variables |= {
        "AWS_LAMBDA_MAX_CONCURRENCY": str(CALLS),
        "FUSEWIRE_METRICS_NAMESPACE": "fusewire/test",
        "FUSEWIRE_TRACING": "on",
        "AWS_XRAY_DAEMON_ADDRESS": "{}:{}".format(*daemon.getsockname()),
    }
    with runtime_api() as platform, runtime(tmp_path, platform, CODE, **variables) as process:
        for number in range(CALLS * ROUNDS):
            platform.trace = trace_of(number)
            platform.give(event_of(number), f"invocation-{number}")
        posts = [platform.posted() for _ in range(CALLS * ROUNDS)]
        assert platform.connections == CALLS
        documents = [json.loads(daemon.recv(65_536).partition(b"\n")[2]) for _ in range(3 * CALLS * ROUNDS)]
        assert process.stdout is not None
        lines = [json.loads(process.stdout.readline(), parse_float=Decimal) for _ in range(3 * CALLS * ROUNDS)]

    costs = {}
    for post in posts:
        number = int(post.path.split("/")[2].removeprefix("invocation-"))
        head, _, body = post.body.partition(b"\0" * 8)
        headers = {name.lower(): value for name, value in json.loads(head)["headers"].items()}
        assert headers["x-request-id"] == f"request-{number}"
        found = {other for other in range(CALLS * ROUNDS) if mark_of(other) in body.decode()}
        assert found == {number}
        costs[number] = price_of("azure", len(mark_of(number)), 3)
    assert sorted(costs) == list(range(CALLS * ROUNDS))

    for number, cost in costs.items():
        own = [line for line in lines if line["request_id"] == f"request-{number}"]
        success, *metrics = sorted(own, key=lambda line: line["event"], reverse=True)
        assert (success["event"], success["key_id"], success["cost_usd"]) == ("router.success", f"key_{number}", cost)
        assert [(line["event"], line["Spend"], line.get("Requests", 1)) for line in metrics] == [
            ("metrics", cost, 1)
        ] * 2
        traced = [each for each in documents if each["annotations"]["request_id"] == f"request-{number}"]
        root, parent, _ = (part.partition("=")[2] for part in trace_of(number).split(";"))
        assert {(each["trace_id"], each["parent_id"]) for each in traced} == {(root, parent)}
        assert sorted(each["name"] for each in traced) == ["azure", "ledger", "ledger"]
    entries = {entry["request_id"]: entry for entry in books.entries()}
    assert {f"request-{number}": cost for number, cost in costs.items()} == {
        name: entry["cost"] for name, entry in entries.items()
    }
    assert all(entry["key_id"] == name.replace("request-", "key_") for name, entry in entries.items())
    assert {entry["status"] for entry in entries.values()} == {"settled"}
