"""The 3 a.m. cases: a worker that dies in mid-call, a Postgres that goes and comes back."""

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import httpx
import pytest

from local.postgres_server import PostgresServer
from tests.support.expiry import expire_reservations
from tests.support.gateway import Books, Gateway, alive, eventually, running_gateway
from tests.support.patience import PATIENCE_SECONDS
from tests.support.upstream import Upstream, hang

PRICES = '{"openai/m": {"input_mtok": 100, "output_mtok": 300}}'


@pytest.fixture
def variables(upstream: Upstream, database_url: str) -> dict[str, str]:
    return {
        "AI_MODE": "cloud",
        "AI_FALLBACK_CHAIN": "openai",
        "OPENAI_API_KEY": "sk-x",
        "OPENAI_BASE_URL": upstream.url,
        "OPENAI_SOTA_MODEL": "m",
        "AI_PRICE_OVERRIDES": PRICES,
        "DATABASE_URL": database_url,
        "LOCAL_CONCURRENCY": "4",
    }


def ask(gateway: Gateway) -> httpx.Response:
    body = {"model": "sota", "messages": [{"role": "user", "content": "hi"}], "max_completion_tokens": 5}
    return httpx.post(f"{gateway.base}/chat/completions", json=body, timeout=PATIENCE_SECONDS)


def test_a_worker_killed_in_mid_call_costs_its_bound_and_nobody_else(
    tmp_path: Path, variables: dict[str, str], upstream: Upstream, database_url: str
) -> None:
    books = Books(database_url)
    with running_gateway(tmp_path / "run", **variables) as gateway:
        upstream.script.append(hang(30))
        with ThreadPoolExecutor() as threads:
            lost = threads.submit(ask, gateway)
            eventually(lambda: len(upstream.requests) == 1)
            [worker] = gateway.workers("complete")
            os.kill(worker, signal.SIGKILL)
            answer = lost.result()
        assert (answer.status_code, answer.json()["error"]["code"]) == (502, "function_crashed")
        bound = books.one("SELECT bound FROM ledger")
        assert gateway.budget()["reserved_usd"] == float(bound)
        assert ask(gateway).status_code == 200

        expire_reservations(database_url)
        assert gateway.budget()["reserved_usd"] == 0
        assert books.rows("SELECT status, cost, cost_basis, outcome FROM ledger ORDER BY reserved_at LIMIT 1") == [
            ("settled", bound, "bound", "expired")
        ]
        [lines] = gateway.events("ledger.settled_at_bound")
        assert (lines["cost_basis"], Decimal(str(lines["cost_usd"]))) == ("bound", bound)
        assert lines["request_id"] == answer.headers["x-request-id"]
        assert not alive(worker)
        books.balance()


@pytest.fixture
def own_postgres(tmp_path: Path) -> Iterator["OwnPostgres"]:
    server = OwnPostgres(tmp_path / "pg")
    yield server
    server.stop()


class OwnPostgres:
    """A server of this test's own, to stop and start."""

    def __init__(self, folder: Path) -> None:
        self._server = PostgresServer(folder)
        self.url = ""
        self.start()

    def start(self) -> None:
        self._server.start()
        self.url = self._server.uri

    def stop(self) -> None:
        self._server.stop()


def test_postgres_stops_in_mid_load_and_comes_back(
    tmp_path: Path, variables: dict[str, str], upstream: Upstream, own_postgres: OwnPostgres
) -> None:
    variables |= {"DATABASE_URL": own_postgres.url}
    upstream.delay = 0.02
    with running_gateway(tmp_path / "run", **variables) as gateway, ThreadPoolExecutor(8) as threads:
        running = [threads.submit(ask, gateway) for _ in range(120)]
        eventually(lambda: len(upstream.requests) > 20)
        own_postgres.stop()
        statuses = {future.result().status_code for future in running}
        assert statuses <= {200, 503} and 503 in statuses

        forwarded = len(upstream.requests)
        refused = ask(gateway)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "ledger_unavailable")
        assert refused.headers["x-should-retry"] == "true"
        assert httpx.get(f"{gateway.base}/health", timeout=PATIENCE_SECONDS).status_code == 503
        assert len(upstream.requests) == forwarded
        assert gateway.events("ledger.unavailable")

        own_postgres.start()
        assert own_postgres.url == variables["DATABASE_URL"]
        assert ask(gateway).status_code == 200
        expire_reservations(own_postgres.url)
        assert gateway.budget()["reserved_usd"] == 0
        books = Books(own_postgres.url)
        books.balance()
        # Every answer that the vendor billed is booked, at its cost or, where the news was lost, at its bound.
        input_usd, output_usd = Decimal("0.0001"), Decimal("0.0003")
        bill = sum((input_usd * i + output_usd * o for i, o in upstream.billed), Decimal(0))
        assert books.one("SELECT sum(cost) FROM ledger") >= bill
        assert books.one("SELECT count(*) FROM ledger WHERE status = 'settled'") >= len(upstream.billed)
