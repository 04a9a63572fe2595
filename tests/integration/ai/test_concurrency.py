"""Sixteen execution environments at once: what the vendors billed is what the books hold, and never over the limit."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from decimal import Decimal
from queue import Empty, SimpleQueue

import psycopg

from fusewire.errors import BudgetExceededError, BudgetReservedError
from fusewire.services import Services
from tests.conftest import CoreFactory
from tests.integration.ai.contract import chat
from tests.integration.ai.observing import Books, LogLines, caller, price_of, two_clouds
from tests.support.upstream import Upstream, error_in_stream, status

CALLS, THREADS, LIMIT = 200, 16, Decimal("1.5")
PATIENCE_SECONDS = 60


def serve(services: Services, number: int) -> str:
    """One call with a client's manners: 402 stops it, 429 lets it wait."""
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            if number % 3 == 0:
                for _ in services.router.stream(chat(stream=True, max_tokens=50), caller()).chunks:
                    pass
            else:
                services.router.complete(chat(max_tokens=50), caller())
        except BudgetExceededError:
            return "refused"
        except BudgetReservedError:
            assert time.monotonic() < end, "calls in flight never let go of the budget"
            time.sleep(0.01)
        else:
            return "served"


@contextmanager
def watched(database_url: str) -> Iterator[list[Decimal]]:
    """What was spent and reserved together, seen again and again."""
    seen: list[Decimal] = []
    over = threading.Event()

    def watch() -> None:
        with psycopg.connect(database_url, autocommit=True) as connection:
            while not over.is_set():
                row = connection.execute("SELECT max(spent + reserved) FROM budget_window").fetchone()
                seen.append((row and row[0]) or Decimal(0))
                over.wait(0.01)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def test_the_bill_equals_the_books_and_stays_within_the_budget(
    upstream: Upstream, second_upstream: Upstream, core: CoreFactory, books: Books, log: LogLines, database_url: str
) -> None:
    # Four failures are too few for a cooldown; each makes its call fall over in mid-load.
    upstream.script.extend([status(500), status(500), error_in_stream(0), status(429)])
    variables = two_clouds(upstream, second_upstream, AI_MONTHLY_BUDGET_USD=str(LIMIT))
    environments = [core(**variables) for _ in range(THREADS)]
    numbers: SimpleQueue[int] = SimpleQueue()
    for number in range(CALLS):
        numbers.put(number)

    def work(services: Services) -> Counter[str]:
        ends: Counter[str] = Counter()
        while True:
            try:
                ends[serve(services, numbers.get_nowait())] += 1
            except Empty:
                return ends

    with watched(database_url) as seen, ThreadPoolExecutor(THREADS) as pool:
        ends = sum(pool.map(work, environments), Counter())

    assert ends.total() == CALLS
    assert ends["served"] == len(upstream.billed) + len(second_upstream.billed)
    assert ends["refused"] > 0, "the limit was never met: the test shows nothing"
    bills = [price_of("azure", *bill) for bill in upstream.billed]
    bills += [price_of("openai", *bill) for bill in second_upstream.billed]
    at_bound = sum(entry["cost"] for entry in books.entries() if entry["cost_basis"] == "bound")
    assert books.spent() == sum(bills) + at_bound
    assert LIMIT * Decimal("0.8") < books.spent() <= LIMIT
    assert max(seen) <= LIMIT
    books.check()
    assert len(log.events("circuit_breaker.alert")) == 1
    assert len(log.events("circuit_breaker.opened")) <= 1
    assert len(log.events("router.success")) == ends["served"]
