"""More callers than workers, most of whom wait, at two gateways over one database with a tree of budgets; and then all
that can happen to those who wait. Each ends with its answer, none is sent twice, and no budget is passed meanwhile.
"""

import asyncio
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import httpx
import psycopg
import pytest

from tests.e2e.test_crash import OwnPostgres
from tests.support.expiry import expire_reservations
from tests.support.gateway import Books, Gateway, eventually, running_gateway
from tests.support.patience import PATIENCE_SECONDS
from tests.support.upstream import Upstream

CALLERS: Final = 40
GATEWAYS: Final = 2
WORKERS: Final = 5
"""Of each gateway."""
IN_FLIGHT: Final = 4
"""That fit a dollar: 2,048 tokens of output at 0.0001 USD each."""
WAITING: Final = GATEWAYS * WORKERS - IN_FLIGHT
OUTPUT_USD: Final = Decimal("0.0001")
VARIABLES: Final = {
    "OLLAMA_SOTA_MODEL": "m",
    "AI_PRICE_OVERRIDES": '{"ollama/*": {"input_mtok": 0, "output_mtok": 100}}',
    "AI_MONTHLY_BUDGET_USD": "1",
    "AI_ADMISSION_WAIT_SECONDS": "160",
    "AI_MAX_WAITING_PER_KEY": "100",
    "AI_REQUEST_TIMEOUT_SECONDS": "170",
    "AI_RESERVATION_TTL_SECONDS": "300",
    "LOCAL_CONCURRENCY": str(WORKERS),
    "LOCAL_CALLS_PER_WORKER": "1",
}
_WINDOWS: Final = """
    SELECT w.budget, w.spent + w.reserved + coalesce(s.held, 0) FROM budget_window w
    LEFT JOIN (SELECT window_id, sum(spent + reserved) AS held FROM budget_slot GROUP BY 1) s ON s.window_id = w.id
"""


@pytest.fixture
def own_postgres(tmp_path: Path) -> Iterator[OwnPostgres]:
    server = OwnPostgres(tmp_path / "pg")
    yield server
    server.stop()


def plant(gateway: Gateway) -> tuple[list[str], dict[str, Decimal]]:
    """Three levels and twelve keys: the keys' secrets, and the limits of the budgets.

    The company's dollar is what most wait for; one team's keys wait for their team.
    """
    limits: dict[str, Decimal] = {}
    secrets: list[str] = []

    def make(route: str, **fields: Any) -> dict[str, Any]:  # noqa: ANN401 - as the admin API has them
        answer = httpx.post(f"{gateway.base}/admin/{route}", json=fields, timeout=PATIENCE_SECONDS)
        assert answer.status_code == 201, answer.text
        body: dict[str, Any] = answer.json()
        return body

    def node(name: str, limit: str, above: str | None) -> str:
        id = str(make("budgets", name=name, limit_usd=float(limit), parent_id=above, period="month")["id"])
        limits[id] = Decimal(limit)
        return id

    top = node("top", "3.5", None)
    for division in ("one", "two"):
        above = node(division, "2.5", top)
        for team, limit in (("a", "1.7"), ("b", "0.45" if division == "two" else "1.7")):
            below = node(team, limit, above)
            for number in range(3):
                name = f"{division} {team} {number}"
                secrets.append(str(make("keys", name=name, scopes=["complete"], budget_id=below)["key"]))
    return secrets, limits


class Callers:
    """Each calls until it is served, and notes what it was statuses."""

    def __init__(self, gateways: list[Gateway], keys: list[str]) -> None:
        self.statuses: Counter[int] = Counter()
        self._bases = [gateway.base for gateway in gateways]
        self._keys = keys
        self._thread = threading.Thread(target=lambda: asyncio.run(self._all()))
        self._thread.start()

    def join(self) -> None:
        self._thread.join(4 * PATIENCE_SECONDS)
        assert not self._thread.is_alive(), self.statuses

    async def _all(self) -> None:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        async with httpx.AsyncClient(limits=limits, timeout=2 * PATIENCE_SECONDS) as client:
            await asyncio.gather(*(self._one(client, number) for number in range(CALLERS)))

    async def _one(self, client: httpx.AsyncClient, number: int) -> None:
        question = {"role": "user", "content": f"caller {number}"}
        body = {"model": "sota", "messages": [question], "max_tokens": 32_000}
        headers = {"authorization": f"Bearer {self._keys[number % len(self._keys)]}"}
        url = f"{self._bases[number % len(self._bases)]}/chat/completions"
        status = 0
        while status != 200:
            status = (await client.post(url, json=body, headers=headers)).status_code
            self.statuses[status] += 1
            assert status in (200, 429, 502, 503)
            if status != 200:
                await asyncio.sleep(0.5)


class Onlooker:
    """Looks at every budget again and again."""

    def __init__(self, url: str, limits: dict[str, Decimal]) -> None:
        self.passed: list[tuple[str, Decimal]] = []
        self.looks = 0
        self._url = url
        self._limits = limits
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def end(self) -> None:
        self._ends.set()
        self._thread.join()
        assert self.looks > 0
        assert self.passed == []

    def _look(self) -> None:
        while not self._ends.wait(0.1):
            with suppress(psycopg.OperationalError):  # it is dead for a while
                rows = Books(self._url).rows(_WINDOWS)
                self.passed += [(name, held) for name, held in rows if held > self._limits.get(name, held)]
                self.looks += 1


def one_that_waits(gateway: Gateway, upstream: Upstream) -> int:
    """A worker that has nothing open to the vendor."""
    port = f":{upstream.port:04X}"
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    to_vendor = {f"socket:[{fields[9]}]" for fields in lines if fields[2].endswith(port)}

    def is_open(worker: int) -> bool:
        return any(os.readlink(each) in to_vendor for each in Path(f"/proc/{worker}/fd").iterdir())

    return next(worker for worker in gateway.workers("complete") if not is_open(worker))


def test_each_ends_well_and_none_twice(tmp_path: Path, upstream: Upstream, own_postgres: OwnPostgres) -> None:
    variables = VARIABLES | {"OLLAMA_BASE_URL": upstream.url, "DATABASE_URL": own_postgres.url}
    books = Books(own_postgres.url)
    with ExitStack() as stack:
        gateways = [
            stack.enter_context(running_gateway(tmp_path / f"run-{number}", **variables)) for number in range(GATEWAYS)
        ]
        first = gateways[0]
        keys, limits = plant(first)
        onlooker = Onlooker(own_postgres.url, limits | {"global": Decimal(2)})
        stack.callback(onlooker.end)
        upstream.going_on.clear()
        stack.callback(upstream.going_on.set)
        callers = Callers(gateways, keys)
        eventually(lambda: first.budget()["waiting"] == WAITING and len(upstream.requests) == IN_FLIGHT)

        # A worker dies while its call waits: its caller is told so, and nothing was sent.
        crashed = callers.statuses[502]
        os.kill(one_that_waits(first, upstream), signal.SIGKILL)
        eventually(lambda: callers.statuses[502] > crashed)
        assert len(upstream.requests) == IN_FLIGHT

        # The next window has a dollar of its own.
        first.reset()
        eventually(lambda: len(upstream.requests) == 2 * IN_FLIGHT)

        more = {"monthly_limit_usd": 2, "until": "window", "reason": "more"}
        httpx.patch(f"{first.base}/admin/budget", json=more, timeout=PATIENCE_SECONDS).raise_for_status()
        eventually(lambda: len(upstream.requests) > 2 * IN_FLIGHT)

        # Who waits while Postgres is dead is told to come again; what is in flight goes on.
        own_postgres.stop()
        eventually(lambda: callers.statuses[503] > 0)
        in_flight = len(upstream.requests)
        own_postgres.start()
        assert callers.statuses[200] == 0 and in_flight < CALLERS
        upstream.going_on.set()
        callers.join()
        assert callers.statuses[200] == CALLERS

        asked = Counter(request["messages"][-1]["content"] for request in upstream.requests)
        assert asked == Counter(f"caller {number}" for number in range(CALLERS))
        expire_reservations(own_postgres.url)
        assert first.budget()["waiting"] == 0
        books.balance()
        bases = dict(books.rows("SELECT cost_basis, count(*) FROM ledger WHERE status = 'settled' GROUP BY 1"))
        assert bases == {"actual": CALLERS}
        bill = sum((OUTPUT_USD * tokens for _, tokens in upstream.billed), Decimal(0))
        assert len(upstream.billed) == CALLERS
        of_the_tree = (
            "SELECT sum(w.spent) FROM budget_window w JOIN budget_node n ON n.id = w.budget WHERE n.name = 'top'"
        )
        assert books.one("SELECT sum(cost) FROM ledger") == books.one(of_the_tree) == bill
        assert books.one("SELECT count(*) FROM admission_wait WHERE alive_until > now()") == 0
