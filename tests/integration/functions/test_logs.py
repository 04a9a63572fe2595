"""What a call leaves in the log: the same request id everywhere, the contract's keys, and nothing that is secret."""

import io
import logging
import re
from collections.abc import Iterator
from datetime import datetime

import pytest
from psycopg.conninfo import make_conninfo

from tests.integration.ai.observing import Books, LogLines
from tests.integration.functions.conftest import Functions, asked, sample
from tests.support.upstream import (
    Reply,
    Upstream,
    cut_before_answer,
    cut_stream,
    error_in_stream,
    raw,
    status,
    without_usage,
)

PROMPT, ANSWER, PASSWORD = "sentinel-prompt", "sentinel-answer", "sentinel-password"
FIELDS = {
    "timestamp", "level", "event", "request_id", "service", "provider", "model", "tier", "cost_usd", "cost_basis",
    "input_tokens", "output_tokens", "latency_ms", "attempt", "key_id", "usage_ratio", "kind", "status", "code",
    "message", "cooldown_until", "window_id", "dropped", "actor", "action", "source_ip", "before", "after", "reason",
    "expires_on", "path", "error_type", "location",
}  # fmt: skip


@pytest.fixture
def everything() -> Iterator[io.StringIO]:
    """What any logger at all says at DEBUG, the SDK's and its HTTP client's too."""
    root, buffer = logging.getLogger(), io.StringIO()
    handler, level = logging.StreamHandler(buffer), root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield buffer
    root.setLevel(level)
    root.removeHandler(handler)


def test_a_calls_lines_carry_the_id_of_its_answer(functions: Functions, upstream: Upstream, log: LogLines) -> None:
    for number, name in enumerate(("complete", "embed", "admin_providers", "admin_budget_reset", "complete")):
        upstream.script.append(status(503))
        event = sample(name)
        event["requestContext"]["requestId"] = f"gateway-{number}"
        before = len(log.lines)
        functions(name.removesuffix("_reset"), event)
        upstream.script.clear()
        lines = log.lines[before:]
        assert lines
        assert {line["request_id"] for line in lines} == {f"gateway-{number}"}


def test_a_streams_lines_do_too_to_its_end(functions: Functions, upstream: Upstream, log: LogLines) -> None:
    upstream.script.append(status(500))
    event = asked(stream=True)
    streamed = functions.stream("complete", event)
    assert list(streamed.chunks)
    ids = {line["request_id"] for line in log.lines}
    assert ids == {event["requestContext"]["requestId"]} == {streamed.headers["x-request-id"]}
    assert [line["event"] for line in log.lines] == ["router.provider_failed", "router.success"]


def test_a_line_has_the_contracts_keys(functions: Functions, upstream: Upstream, log: LogLines) -> None:
    upstream.script.append(status(429, {"Retry-After": "5"}))
    functions("complete", sample("complete"))
    functions("admin_budget", sample("admin_budget_reset"))
    assert len(log.lines) >= 4
    for line in log.lines:
        assert list(line)[:5] == ["timestamp", "level", "event", "request_id", "service"]
        assert datetime.fromisoformat(line["timestamp"]).utcoffset() is not None
        assert line["service"] == "fusewire"
        assert set(line) <= FIELDS
        assert re.fullmatch(r"[a-z_]+(\.[a-z_]+)?", line["event"])
    (success,) = log.events("router.success")
    needed = {"provider", "model", "tier", "cost_usd", "cost_basis", "input_tokens", "output_tokens", "latency_ms"}
    assert needed | {"attempt", "usage_ratio"} <= set(success)


REPLIES: list[Reply] = [
    status(400, error={"message": ANSWER, "param": ANSWER}),
    status(401, error={"message": ANSWER}),
    status(404, error={"message": ANSWER}),
    status(429, {"Retry-After": "0"}, error={"message": ANSWER}),
    status(500, error={"message": ANSWER, "code": ANSWER}),
    raw(f"<html>{ANSWER}".encode()),
    raw(f'{{"choices": "{ANSWER}"}}'.encode()),
    cut_before_answer,
    cut_stream(1),
    error_in_stream(1),
    without_usage,
]


@pytest.mark.parametrize("streamed", [False, True], ids=["chat", "stream"])
@pytest.mark.parametrize("place", range(len(REPLIES)))
def test_no_prompt_answer_key_or_connection_string_is_written_anywhere(
    functions: Functions,
    upstream: Upstream,
    second_upstream: Upstream,
    books: Books,
    log: LogLines,
    everything: io.StringIO,
    capfd: pytest.CaptureFixture[str],
    place: int,
    streamed: bool,
) -> None:
    functions.set(DATABASE_URL=make_conninfo(functions.variables["DATABASE_URL"], password=PASSWORD))
    upstream.words = second_upstream.words = [ANSWER]
    upstream.script.append(REPLIES[place])
    tool = {"type": "function", "function": {"name": PROMPT, "description": PROMPT}}
    event = asked(messages=[{"role": "user", "content": PROMPT, "name": PROMPT}], tools=[tool], stream=streamed)
    event["headers"]["Authorization"] = "Bearer sentinel-callers-key"
    functions("complete", event)
    functions("complete", asked(messages=PROMPT))
    functions("embed", sample("embed", {"model": "sota", "input": PROMPT}))
    functions("admin_budget", sample("admin_budget"))
    functions("admin_providers", sample("admin_providers", queryStringParameters=None))
    assert log.lines
    assert everything.getvalue(), "the test listens to nobody"
    written = capfd.readouterr()
    for result in (log.text, everything.getvalue(), written.out, written.err):
        assert "sentinel" not in result
    for table in (books.entries(), books.query("SELECT * FROM provider_health"), books.query("SELECT * FROM audit")):
        assert "sentinel" not in str(table)
    books.check()
