"""More callers than workers, most of whom wait, at two gateways over one database with a tree of budgets; and then all
that can happen to those who wait. Each ends with its answer, none is sent twice, and no budget is passed meanwhile.
"""

import asyncio
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Size:
    """How many of everything. Who isn't in flight and doesn't wait for room waits for a worker."""

    callers: int
    gateways: int
    workers: int
    """Of each gateway."""
    seconds: float
    """For which each of the things that have to happen is waited for."""

    @property
    def waiting(self) -> int:
        """Calls that wait for room."""
        return self.gateways * self.workers - IN_FLIGHT


SIZES: Final = {
    "64 callers, 6 wait for room": Size(64, 2, 5, PATIENCE_SECONDS),
    "1,000 callers, 64 wait for room": Size(1000, 4, 17, 4 * PATIENCE_SECONDS),
}
PROVED: Final = "1,000 callers, 64 wait for room"
"""By `make prove` alone: it starts some 140 workers, and has a machine's processors busy for minutes."""
IN_FLIGHT: Final = 4
"""That fit a dollar: 2,048 tokens of output at 0.0001 USD each."""
OUTPUT_USD: Final = Decimal("0.0001")
VARIABLES: Final = {
    "OLLAMA_SOTA_MODEL": "m",
    "AI_PRICE_OVERRIDES": '{"ollama/*": {"input_mtok": 0, "output_mtok": 100}}',
    "AI_MONTHLY_BUDGET_USD": "1",
    "AI_ADMISSION_WAIT_SECONDS": "600",
    "AI_MAX_WAITING_PER_KEY": "100",
    "LOCAL_CALLS_PER_WORKER": "1",
}
_WINDOWS: Final = """
    SELECT w.budget, w.spent + w.reserved + coalesce(s.held, 0) FROM budget_window w
    LEFT JOIN (SELECT window_id, sum(spent + reserved) AS held FROM budget_slot GROUP BY 1) s ON s.window_id = w.id
"""


@pytest.fixture
def own_postgres(tmp_path: Path) -> Iterator[OwnPostgres]:
    server = OwnPostgres(tmp_path / "pg")
    with psycopg.connect(server.url, autocommit=True) as session:
        session.execute("ALTER SYSTEM SET max_connections = 300")  # each worker that serves or checks a key has one
    server.stop()
    server.start()
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
    """Each calls until it is served; `codes` has what they were answered, `served` or an error's code."""

    def __init__(self, size: Size, gateways: list[Gateway], keys: list[str]) -> None:
        self.codes: Counter[str] = Counter()
        self.unsure: set[str] = set()
        """The ids of requests for whom Postgres couldn't be asked, or its answer was lost."""
        self._size = size
        self._bases = [gateway.base for gateway in gateways]
        self._keys = keys
        self._executor = ThreadPoolExecutor(1)
        self._calling = self._executor.submit(lambda: asyncio.run(self._all()))

    def go_on_until(self, holds: Callable[[], bool]) -> None:
        """Wait for what has to happen while they call."""

        def so_far() -> bool:
            assert not self._calling.done() or self._calling.exception() is None, self._calling.exception()
            return holds()

        try:
            eventually(so_far, self._size.seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; answered: {self.codes}") from error

    def join(self) -> None:
        self.go_on_until(self._calling.done)

    async def _all(self) -> None:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        async with httpx.AsyncClient(limits=limits, timeout=4 * self._size.seconds) as client:
            await asyncio.gather(*(self._one(client, number) for number in range(self._size.callers)))

    async def _one(self, client: httpx.AsyncClient, number: int) -> None:
        question = {"role": "user", "content": f"caller {number}"}
        body = {"model": "sota", "messages": [question], "max_tokens": 32_000}
        headers = {"authorization": f"Bearer {self._keys[number % len(self._keys)]}"}
        url = f"{self._bases[number % len(self._bases)]}/chat/completions"
        while (answer := await client.post(url, json=body, headers=headers)).status_code != 200:
            assert answer.status_code in (429, 502, 503), answer.text
            code = answer.json()["error"]["code"]
            self.codes[code] += 1
            if code == "ledger_unavailable":
                self.unsure.add(answer.headers["x-request-id"])
            await asyncio.sleep(0.5)
        self.codes["served"] += 1


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
                with psycopg.connect(self._url) as session:
                    rows = session.execute(_WINDOWS).fetchall()
                self.passed += [(name, held) for name, held in rows if held > self._limits.get(name, held)]
                self.looks += 1


def waiting_in(url: str) -> int:
    """Calls that wait for room, without a word to a gateway, whose workers are all at work."""
    with psycopg.connect(url) as session:
        [(calls,)] = session.execute("SELECT count(*) FROM admission_wait WHERE alive_until > now()").fetchall()
    return int(calls)


def one_that_waits(gateway: Gateway, upstream: Upstream) -> int:
    """A worker that has nothing open to the vendor."""
    port = f":{upstream.port:04X}"
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    to_vendor = {f"socket:[{fields[9]}]" for fields in lines if fields[2].endswith(port)}

    def is_open(worker: int) -> bool:
        return any(os.readlink(each) in to_vendor for each in Path(f"/proc/{worker}/fd").iterdir())

    return next(worker for worker in gateway.workers("complete") if not is_open(worker))


@pytest.mark.parametrize("name", [name for name in SIZES if name != PROVED or os.environ.get("FUSEWIRE_PROVE")])
def test_each_ends_well_and_none_twice(
    name: str, tmp_path: Path, upstream: Upstream, own_postgres: OwnPostgres
) -> None:
    size = SIZES[name]
    variables = VARIABLES | {"OLLAMA_BASE_URL": upstream.url, "DATABASE_URL": own_postgres.url}
    variables["LOCAL_CONCURRENCY"] = str(size.workers)
    books = Books(own_postgres.url)
    with ExitStack() as stack:
        gateways = [
            stack.enter_context(running_gateway(tmp_path / f"run-{number}", **variables))
            for number in range(size.gateways)
        ]
        first = gateways[0]
        keys, limits = plant(first)
        onlooker = Onlooker(own_postgres.url, limits | {"global": Decimal(2)})
        stack.callback(onlooker.end)
        upstream.going_on.clear()
        stack.callback(upstream.going_on.set)
        callers = Callers(size, gateways, keys)
        callers.go_on_until(
            lambda: waiting_in(own_postgres.url) == size.waiting and len(upstream.requests) == IN_FLIGHT
        )
        assert first.budget()["waiting"] > 0

        # A worker dies while its call waits: its caller is told so, and nothing was sent.
        os.kill(one_that_waits(first, upstream), signal.SIGKILL)
        callers.go_on_until(lambda: callers.codes["function_crashed"] == 1)
        assert len(upstream.requests) == IN_FLIGHT

        # The next window has a dollar of its own.
        first.reset()
        callers.go_on_until(lambda: len(upstream.requests) == 2 * IN_FLIGHT)

        more = {"monthly_limit_usd": 2, "until": "window", "reason": "more"}
        httpx.patch(f"{first.base}/admin/budget", json=more, timeout=PATIENCE_SECONDS).raise_for_status()
        callers.go_on_until(lambda: len(upstream.requests) > 2 * IN_FLIGHT)

        # Who waits while Postgres is dead is told to come again; what is in flight goes on.
        own_postgres.stop()
        callers.go_on_until(lambda: callers.codes["ledger_unavailable"] > 0)
        in_flight = len(upstream.requests)
        own_postgres.start()
        assert callers.codes["served"] == 0 and in_flight < size.callers
        upstream.going_on.set()
        callers.join()
        assert callers.codes["served"] == size.callers

        asked = Counter(request["messages"][-1]["content"] for request in upstream.requests)
        assert asked == Counter(f"caller {number}" for number in range(size.callers))
        expire_reservations(own_postgres.url)
        assert first.budget()["waiting"] == 0
        books.balance()
        assert books.one("SELECT count(*) FROM ledger WHERE cost_basis = 'actual'") == size.callers
        # Whose answer was lost may be reserved: sent to nobody, released by its worker's next call, or else expired.
        expired = books.rows("SELECT request_id FROM ledger WHERE cost_basis = 'bound'")
        assert {request_id for (request_id,) in expired} <= callers.unsure
        bill = sum((OUTPUT_USD * tokens for _, tokens in upstream.billed), Decimal(0))
        assert len(upstream.billed) == size.callers
        of_the_tree = (
            "SELECT sum(w.spent) FROM budget_window w JOIN budget_node n ON n.id = w.budget WHERE n.name = 'top'"
        )
        assert books.one("SELECT sum(cost) FROM ledger WHERE cost_basis = 'actual'") == bill
        assert books.one("SELECT sum(cost) FROM ledger") == books.one(of_the_tree)
        assert books.one("SELECT count(*) FROM admission_wait WHERE alive_until > now()") == 0
