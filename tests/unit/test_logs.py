"""Each line that comes out: one JSON object with the contract's keys, and no other."""

import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from fusewire import logs

ALWAYS = ["timestamp", "level", "event", "request_id", "service"]
CONTRACT = [
    *("provider", "model", "tier", "cost_usd", "cost_basis", "input_tokens", "output_tokens", "latency_ms", "attempt"),
    *("key_id", "usage_ratio"),
]


@pytest.fixture
def lines() -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """What was printed since, by the very formatter and handler that print in production."""
    stream = io.StringIO()
    [handler] = [h for h in logs.logger.handlers if isinstance(h, logging.StreamHandler)]
    before = handler.setStream(stream)
    level = logs.logger.log_level
    logs.start_request("request-1", "DEBUG")
    yield lambda: [json.loads(line, parse_float=Decimal) for line in stream.getvalue().split("\n")[:-1]]
    handler.setStream(before)
    logs.logger.setLevel(level)


Lines = Callable[[], list[dict[str, Any]]]


def test_a_bare_event_has_exactly_these_keys(lines: Lines) -> None:
    logs.event("router.all_failed", logging.ERROR)
    [line] = lines()
    assert list(line) == ALWAYS
    assert (line["level"], line["event"], line["service"]) == ("ERROR", "router.all_failed", "fusewire")
    stamp = datetime.fromisoformat(line["timestamp"])
    assert stamp.utcoffset() == timedelta(0)
    assert len(line["timestamp"]) == len("2026-11-01T12:00:00.000+00:00")


def test_the_contracts_fields_come_first_and_in_its_order(lines: Lines) -> None:
    fields = dict.fromkeys(reversed([*CONTRACT, "kind", "message"]), "x")
    logs.event("router.provider_failed", logging.WARNING, **fields)
    [line] = lines()
    assert list(line) == [*ALWAYS, *CONTRACT, "kind", "message"]


def test_money_is_exact_and_a_zero_stays(lines: Lines) -> None:
    logs.event("router.success", cost_usd=Decimal("0.00000012"), usage_ratio=Decimal(0), tier=None, key_id=None)
    [line] = lines()
    assert (line["cost_usd"], line["usage_ratio"]) == (Decimal("0.00000012"), 0)
    assert "tier" not in line
    assert "key_id" not in line


def test_every_line_of_a_call_has_its_request_id_and_nothing_of_the_call_before(lines: Lines) -> None:
    logs.event("router.success", tier="sota")
    logs.start_request("request-2", "INFO")
    logs.event("router.success")
    first, second = lines()
    assert (first["request_id"], second["request_id"]) == ("request-1", "request-2")
    assert list(second) == ALWAYS


def test_an_event_of_another_call_keeps_that_calls_id(lines: Lines) -> None:
    logs.event("ledger.settled_at_bound", logging.WARNING, request_id="crashed-1")
    [line] = lines()
    assert list(line) == ALWAYS
    assert line["request_id"] == "crashed-1"


def test_an_event_outside_a_call_has_no_request_id() -> None:
    run = printed_by(
        "from fusewire import logs; logs.event('function.failed', path='p', location='f.py:1', message='m')"
    )
    [line] = map(json.loads, run.stdout.splitlines())
    assert list(line) == [*ALWAYS, "message", "path", "location"]
    assert (line["request_id"], line["message"], line["location"]) == (None, "m", "f.py:1")


def test_what_no_saved_query_knows_is_refused(lines: Lines) -> None:
    with pytest.raises(TypeError, match="unknown log fields: answer, prompt"):
        logs.event("router.success", prompt="secret", answer="secret", model="gpt")
    assert lines() == []


def test_the_level_is_the_requests(lines: Lines) -> None:
    logs.start_request("request-2", "WARNING")
    logs.event("router.success")
    logs.event("circuit_breaker.alert", logging.WARNING)
    assert [line["event"] for line in lines()] == ["circuit_breaker.alert"]


def test_one_event_is_one_line_whatever_is_in_it(lines: Lines) -> None:
    logs.event("audit", reason='new\ncontract "x"\u2028\r\n', after={"a": [Decimal("1.10"), None]}, actor="100%s %d")
    [line] = lines()
    assert line["reason"] == 'new\ncontract "x"\u2028\r\n'
    assert line["after"] == {"a": [Decimal("1.1"), None]}
    assert line["actor"] == "100%s %d"


def printed_by(program: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """What a process of its own prints."""
    return subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}; {program}"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env=os.environ | variables,
    )


def test_a_process_prints_its_lines_to_standard_output() -> None:
    run = printed_by(
        "from fusewire import logs; logs.start_request('r', 'INFO'); logs.event('router.success', cost_usd=0)"
    )
    [line] = run.stdout.splitlines()
    assert list(json.loads(line)) == [*ALWAYS, "cost_usd"]
    assert run.stderr == ""


@pytest.mark.parametrize(("level", "events"), [("INFO", ["router.success", "ledger.unavailable", "metrics", "metrics"]),
                                               ("WARNING", ["ledger.unavailable", "metrics", "metrics"])])  # fmt: skip
def test_under_awss_runtime_the_level_is_ours_and_libraries_are_quiet(level: str, events: list[str]) -> None:
    run = printed_by(
        f"""
import logging
from awslambdaric.bootstrap import _setup_logging, StandardLogSink
from awslambdaric.lambda_runtime_log_utils import LogFormat
_setup_logging(LogFormat.JSON, "INFO", StandardLogSink())
from fusewire import logs, metrics
metrics.configure("fusewire/test")
logs.start_request("r", "{level}")
logging.getLogger("httpx2").info("HTTP Request: POST https://vendor.example")
logs.event("router.success", provider="p", cost_usd=0, latency_ms=1)
logs.event("ledger.unavailable", logging.WARNING)
logs.end_request()
""",
        AWS_LAMBDA_LOG_LEVEL="INFO",
        AWS_LAMBDA_LOG_FORMAT="JSON",
    )
    assert [json.loads(line)["event"] for line in run.stdout.splitlines()] == events
    assert run.stderr == ""
