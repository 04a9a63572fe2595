"""What X-Ray's daemon is sent of a sampled request, held against AWS's "segment documents" and "sending trace data"."""

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from fusewire import tracing
from fusewire.http.identity import Identity
from tests.integration.functions.conftest import ROOT as PROJECT
from tests.integration.functions.conftest import Functions, StreamingContext, as_caller, asked, sample
from tests.integration.runtime.process import runtime
from tests.integration.runtime.runtime_api import runtime_api
from tests.support.upstream import Upstream, cut_stream, status

FUNCTIONS: Final = PROJECT / "functions"
ROOT: Final = "1-67891233-abcdef012345678912345678"
SEGMENT: Final = "53995c3f42cd8ad8"
SAMPLED: Final = f"Root={ROOT};Parent={SEGMENT};Sampled=1;Lineage=1:a87bd80c:0"
REQUEST_ID: Final = sample("complete")["requestContext"]["requestId"]
SECRETS: Final = "sentinel|Capital|capital|France"


class Daemon:
    """Receives what Lambda's would, on a port of this test's own."""

    def __init__(self, listening: socket.socket) -> None:
        self._socket = listening
        host, port = listening.getsockname()
        self.address = f"{host}:{port}"

    def received(self, count: int) -> list[dict[str, Any]]:
        """The next `count` documents in the order of their beginnings, after which nothing more has come."""
        found = [document(self._socket.recv(65_536)) for _ in range(count)]
        self._socket.sendto(b"end", self._socket.getsockname())
        assert self._socket.recv(65_536) == b"end"
        return sorted(found, key=lambda each: each["start_time"])


def document(datagram: bytes) -> dict[str, Any]:
    """The subsegment in a datagram, once all that AWS's documentation asks of one has been checked."""
    header, _, body = datagram.partition(b"\n")
    assert json.loads(header) == {"format": "json", "version": 1}
    assert len(body) < 64_000
    result: dict[str, Any] = json.loads(body)
    required = {"name", "id", "start_time", "end_time", "trace_id", "parent_id", "type"}
    optional = {"namespace", "annotations", "sql", "fault", "error", "throttle"}
    assert required <= result.keys() <= required | optional
    assert re.fullmatch(r"[\w\s.:/%&#=+\\@-]{1,200}", result["name"])
    assert re.fullmatch("[0-9a-f]{16}", result["id"])
    assert (result["trace_id"], result["parent_id"], result["type"]) == (ROOT, SEGMENT, "subsegment")
    assert result["namespace"] in ("aws", "remote")
    assert 1.7e9 < result["start_time"] <= result["end_time"] < result["start_time"] + 60, "seconds since 1970"
    for name, value in result["annotations"].items():
        assert re.fullmatch("[A-Za-z0-9_]+", name)
        assert isinstance(value, str | int | float)
    assert result.get("sql", {}).keys() <= {"sanitized_query", "database_type"}
    assert all(result[flag] is True for flag in ("fault", "error", "throttle") if flag in result)
    assert not re.search(SECRETS, body.decode())
    return result


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    """Tracing as it is on Lambda: an address, and a header that says whether this invocation is sampled."""
    monkeypatch.setenv("_X_AMZN_TRACE_ID", SAMPLED)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.settimeout(30)
        yield Daemon(listening)
    tracing.set_enabled(False)


@pytest.fixture
def traced(functions: Functions, daemon: Daemon) -> Functions:
    functions.set(FUSEWIRE_TRACING="on", AWS_XRAY_DAEMON_ADDRESS=daemon.address)
    return functions


def shapes(documents: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Name, statement or attempt, and what went wrong, of each."""
    return [
        (
            each["name"],
            re.sub(r"SELECT (\w+)\(.*", r"\1", each["sql"]["sanitized_query"])
            if "sql" in each
            else each["annotations"]["attempt"],
            each["annotations"].get("outcome"),
            *sorted({"fault", "error", "throttle"} & each.keys()),
        )
        for each in documents
    ]


RESERVE: Final = ("ledger", "ledger_reserve", None)
END: Final = ("ledger", "ledger_settle", None)


def test_a_trace_tells_the_vendors_time_from_ours(traced: Functions, daemon: Daemon, upstream: Upstream) -> None:
    upstream.delay = 0.2
    assert traced("complete", sample("complete"))["statusCode"] == 200
    documents = daemon.received(3)
    assert shapes(documents) == [RESERVE, ("azure", 1, None), END]
    reserve, attempt, end = documents
    assert attempt["end_time"] - attempt["start_time"] >= 0.2
    # Each begins by the wall's clock, which is set now and then, and lasts by one that isn't.
    assert reserve["end_time"] <= attempt["start_time"] + 0.01
    assert attempt["end_time"] <= end["start_time"] + 0.01
    assert attempt["annotations"] == {"request_id": REQUEST_ID, "model": "first", "attempt": 1}
    assert len({each["id"] for each in documents}) == 3


def test_each_attempt_is_told_with_what_became_of_it(traced: Functions, daemon: Daemon, upstream: Upstream) -> None:
    upstream.script += [status(500), status(429)]
    for _ in range(2):
        assert traced("complete", sample("complete"))["statusCode"] == 200
    served = [RESERVE, ("azure", 1, "server_error", "fault"), RESERVE, ("openai", 2, None), END]
    limited = [RESERVE, ("azure", 1, "rate_limited", "throttle"), RESERVE, ("openai", 2, None), END]
    assert shapes(daemon.received(10)) == served + limited


def test_the_callers_own_mistake_is_no_fault_of_the_vendor(
    traced: Functions, daemon: Daemon, upstream: Upstream
) -> None:
    upstream.script.append(status(400))
    assert traced("complete", sample("complete"))["statusCode"] == 400
    assert shapes(daemon.received(3)) == [RESERVE, ("azure", 1, "unknown_refusal", "error"), END]


def test_a_stream_is_the_vendors_until_its_last_chunk(traced: Functions, daemon: Daemon, upstream: Upstream) -> None:
    answer = traced.stream("complete", asked(stream=True))
    assert shapes(daemon.received(1)) == [RESERVE]
    assert list(answer.chunks)[-1] == b"data: [DONE]\n\n"
    assert shapes(daemon.received(2)) == [("azure", 1, None), END]
    upstream.script.append(cut_stream(2))
    list(traced.stream("complete", asked(stream=True)).chunks)
    assert shapes(daemon.received(3)) == [RESERVE, ("azure", 1, "stream_broken_late", "fault"), END]


def test_a_ledger_that_is_away_is_a_fault(traced: Functions, daemon: Daemon) -> None:
    traced.set(DATABASE_URL="host=127.0.0.1 port=1 user=x dbname=x")
    assert traced("complete", sample("complete"))["statusCode"] == 503
    assert shapes(daemon.received(1)) == [("ledger", "ledger_reserve", "OperationalError", "fault")]


@pytest.mark.parametrize(
    ("header", "on"),
    [
        (SAMPLED.replace("Sampled=1", "Sampled=0"), "on"),
        (f"Root={ROOT}", "on"),
        ("", "on"),
        ("Sampled=1", "on"),
        # Where tracing is off, whoever calls can't switch it on by a header.
        (SAMPLED, "off"),
    ],
)
def test_what_is_not_to_be_traced_makes_and_sends_nothing(
    traced: Functions, daemon: Daemon, monkeypatch: pytest.MonkeyPatch, header: str, on: str
) -> None:
    traced.set(FUSEWIRE_TRACING=on)
    monkeypatch.setenv("_X_AMZN_TRACE_ID", header)
    assert traced("complete", sample("complete"))["statusCode"] == 200
    assert tracing._current.get() is None
    daemon.received(0)


@pytest.mark.parametrize("address", ["", "nonsense", "127.0.0.1:port", "127.0.0.1:1", "tcp:127.0.0.1:2000"])
def test_a_daemon_that_is_not_there_costs_no_answer(traced: Functions, address: str) -> None:
    traced.set(AWS_XRAY_DAEMON_ADDRESS=address)
    assert traced("complete", sample("complete"))["statusCode"] == 200


def test_a_daemons_address_comes_in_two_forms(traced: Functions, daemon: Daemon) -> None:
    traced.set(AWS_XRAY_DAEMON_ADDRESS=f"tcp:127.0.0.1:1 udp:{daemon.address}")
    assert traced("admin_budget", sample("admin_budget"))["statusCode"] == 200
    assert shapes(daemon.received(1)) == [("ledger", "ledger_budget", None)]


def test_each_environment_of_a_snapshot_tells_the_trace_of_its_own_invocation(
    tmp_path: Path, database_url: str, upstream: Upstream, daemon: Daemon
) -> None:
    variables = {
        "AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start",
        "AWS_XRAY_DAEMON_ADDRESS": daemon.address,
        "FUSEWIRE_TRACING": "on",
        "DATABASE_URL": database_url,
    }
    code = (FUNCTIONS / "admin_budget/app.py").read_text()
    with runtime_api() as platform, runtime(tmp_path, platform, code, **variables):
        platform.frozen()
        platform.thaw()
        for number, header in enumerate((SAMPLED, f"Root={ROOT};Parent={SEGMENT};Sampled=0", SAMPLED)):
            platform.trace = header
            event = as_caller(Identity("bootstrap", frozenset({"admin"})), sample("admin_budget"))
            platform.give(event, str(number))
            assert b'"statusCode": 200' in platform.posted().body
            daemon.received(1 if header is SAMPLED else 0)


def test_one_requests_trace_is_not_the_nexts(
    traced: Functions, daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = StreamingContext()
    traced("complete", sample("complete"), context)
    daemon.received(3)
    monkeypatch.setenv("_X_AMZN_TRACE_ID", "")
    traced("complete", sample("complete"), context)
    daemon.received(0)
