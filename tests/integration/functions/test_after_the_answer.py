"""A function's process that dies, or is frozen, between an answer and its settlement: what the books say then."""

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.conftest import CoreFactory
from tests.integration.ai.observing import Books, two_clouds
from tests.integration.functions.conftest import ROOT, asked
from tests.integration.runtime.process import runtime
from tests.integration.runtime.runtime_api import Post, RuntimeApiServer, runtime_api
from tests.support.expiry import expire_reservations
from tests.support.gateway import eventually
from tests.support.upstream import Upstream

# The process stops itself, as SIGSTOP freezes it, before or after what it was left to do.
CODE = f"""
import os, signal
from importlib.util import module_from_spec, spec_from_file_location
spec = spec_from_file_location("complete", {str(ROOT / "functions" / "complete" / "app.py")!r})
complete = module_from_spec(spec)
spec.loader.exec_module(complete)

def handler(event, context):
    answer = complete.handler(event, context)
    left, stop = context.after_response, os.environ.pop("STOP", None)
    if stop:
        left.insert(0 if stop == "before" else len(left), lambda: os.kill(os.getpid(), signal.SIGSTOP))
    return answer
"""


Serve = Callable[..., Any]


@pytest.fixture
def serve(tmp_path: Path, core: CoreFactory, upstream: Upstream) -> Serve:
    """`with serve(stop="before") as (process, platform)`: a function's process that has answered one event."""

    @contextmanager
    def serving(stop: str, *, stream: bool = False) -> Iterator[tuple[subprocess.Popen[str], RuntimeApiServer]]:
        variables = two_clouds(upstream, upstream) | {"DATABASE_URL": core.database_url, "AUTH_MODE": "open"}
        with runtime_api() as platform:
            platform.give(asked(stream=True) if stream else asked())
            with runtime(tmp_path, platform, CODE, STOP=stop, **variables) as process:
                yield process, platform

    return serving


@pytest.fixture
def read_budget(core: CoreFactory, upstream: Upstream) -> Callable[[], object]:
    """The next reader of the budget, who books what has expired."""
    return lambda: core(**two_clouds(upstream, upstream)).ledger.budget()


def cost_in(post: Post) -> Decimal:
    """The cost that the answer names."""
    assert post.whole
    return Decimal(json.loads(post.body.partition(b"\0" * 8)[2], parse_float=Decimal)["usage"]["cost"])


def stopped(process: subprocess.Popen[str]) -> bool:
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_killed_before_its_settlement_a_call_is_booked_at_its_bound(
    serve: Serve, books: Books, database_url: str, read_budget: Callable[[], object], stream: bool
) -> None:
    with serve("before", stream=stream) as (process, platform):
        post = platform.posted()
        eventually(lambda: stopped(process))
        [entry] = books.entries()
        assert (post.whole, entry["status"]) == (True, "reserved")
        assert stream or cost_in(post) < entry["bound"]
        process.kill()
    expire_reservations(database_url)
    read_budget()
    assert books.ends() == [("azure", "settled", "bound", "expired")]
    books.check()


def test_killed_after_its_settlement_a_call_is_booked_at_its_cost(serve: Serve, books: Books) -> None:
    with serve("after") as (process, platform):
        cost = cost_in(platform.posted())
        eventually(lambda: stopped(process))
        process.kill()
    [entry] = books.entries()
    assert (entry["status"], entry["cost"]) == ("settled", cost)
    books.check()


def test_killed_while_it_settles_a_call_is_booked_once(
    serve: Serve, books: Books, database_url: str, read_budget: Callable[[], object]
) -> None:
    with psycopg.connect(database_url) as other, serve("before") as (process, platform):
        cost = cost_in(platform.posted())
        eventually(lambda: stopped(process))
        other.execute("SELECT FROM budget_window FOR UPDATE")
        os.kill(process.pid, signal.SIGCONT)
        waits = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        eventually(lambda: bool(books.query(waits)))
        process.kill()
        process.wait()
        other.rollback()
    # Its session may still do what it was sent.
    sessions = "SELECT FROM pg_stat_activity WHERE application_name = 'fusewire' AND datname = current_database()"
    eventually(lambda: not books.query(sessions))
    expire_reservations(database_url)
    read_budget()
    [entry] = books.entries()
    assert (entry["status"], entry["cost"]) in (("settled", cost), ("settled", entry["bound"]))
    books.check()


def test_a_frozen_environment_settles_when_it_is_thawed(
    serve: Serve, books: Books, database_url: str, read_budget: Callable[[], object]
) -> None:
    """Meanwhile its reservation has expired: the books had the bound, and get the cost."""
    with serve("before") as (process, platform):
        cost = cost_in(platform.posted())
        eventually(lambda: stopped(process))
        expire_reservations(database_url)
        read_budget()
        assert books.ends() == [("azure", "settled", "bound", "expired")]
        os.kill(process.pid, signal.SIGCONT)
        platform.give(asked())
        assert cost_in(platform.posted()) == cost
        eventually(lambda: [each["cost"] for each in books.entries()] == [cost, cost])
    assert books.ends() == [("azure", "settled", "actual", "success")] * 2
    books.check()


def test_what_cannot_be_sent_is_kept_and_sent_with_the_next_event(
    serve: Serve, books: Books, database_url: str
) -> None:
    """Somebody holds the window for longer than a late settlement may wait for it, and its sessions end meanwhile."""
    sessions = "FROM pg_stat_activity WHERE application_name = 'fusewire' AND datname = current_database()"
    with psycopg.connect(database_url) as other, serve("before") as (process, platform):
        cost = cost_in(platform.posted())
        eventually(lambda: stopped(process))
        other.execute("SELECT FROM budget_window FOR UPDATE")
        os.kill(process.pid, signal.SIGCONT)
        assert process.stdout is not None
        lines = map(json.loads, iter(process.stdout.readline, ""))
        kept = next(line for line in lines if line.get("event") == "ledger.unavailable")
        assert Decimal(str(kept["cost_usd"])) == cost
        eventually(lambda: not books.query(f"SELECT pg_terminate_backend(pid) {sessions}"))
        other.rollback()
        assert [entry["status"] for entry in books.entries()] == ["reserved"]
        platform.give(asked())
        assert cost_in(platform.posted()) == cost
        eventually(lambda: [each["cost"] for each in books.entries()] == [cost, cost])
    books.check()
