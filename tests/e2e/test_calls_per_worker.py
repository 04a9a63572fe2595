"""64 callers at two environments, over a tree of budgets: the books are the vendor's bill, whatever dies meanwhile."""

import os
import signal
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Final

import httpx

from tests.e2e.test_many_callers import plant
from tests.support.expiry import expire_reservations
from tests.support.gateway import Books, Gateway, eventually, running_gateway
from tests.support.patience import PATIENCE_SECONDS
from tests.support.upstream import Upstream

CALLERS: Final = 64
INPUT_USD, OUTPUT_USD = Decimal("0.000001"), Decimal("0.0001")
VARIABLES: Final = {
    "OLLAMA_SOTA_MODEL": "m",
    "AI_PRICE_OVERRIDES": '{"ollama/*": {"input_mtok": 1, "output_mtok": 100}}',
    "AI_MONTHLY_BUDGET_USD": "1000",
    "LOCAL_CONCURRENCY": "2",
    "LOCAL_CALLS_PER_WORKER": "32",
}
_TREE: Final = "SELECT sum(w.spent) FROM budget_window w JOIN budget_node n ON n.id = w.budget WHERE n.name = 'top'"


def ask(gateway: Gateway, key: str, number: int) -> int:
    body = {"model": "sota", "messages": [{"role": "user", "content": f"caller {number}"}], "max_tokens": 20}
    headers = {"authorization": f"Bearer {key}"}
    answer = httpx.post(f"{gateway.base}/chat/completions", json=body, headers=headers, timeout=2 * PATIENCE_SECONDS)
    if answer.status_code == 200:
        assert answer.json()["usage"]["prompt_tokens"] == len(f"caller {number}"), "another call's answer"
    return answer.status_code


def test_the_books_are_the_bill_and_a_dead_environment_costs_its_own_calls(
    tmp_path: Path, upstream: Upstream, database_url: str
) -> None:
    books = Books(database_url)
    variables = VARIABLES | {"OLLAMA_BASE_URL": upstream.url, "DATABASE_URL": database_url}
    with running_gateway(tmp_path / "run", **variables) as gateway, ThreadPoolExecutor(CALLERS) as threads:
        keys, _ = plant(gateway)

        def begin(of: range) -> list[int]:
            return list(threads.map(lambda number: ask(gateway, keys[number % len(keys)], number), of))

        assert Counter(begin(range(2 * CALLERS))) == {200: 2 * CALLERS}
        assert len(gateway.workers("complete")) <= 2

        upstream.going_on.clear()
        calls = [threads.submit(ask, gateway, keys[number % len(keys)], number) for number in range(CALLERS)]
        eventually(lambda: len(upstream.requests) == 3 * CALLERS)
        victim = gateway.workers("complete")[0]
        os.kill(victim, signal.SIGKILL)
        eventually(lambda: any(call.done() for call in calls))
        upstream.going_on.set()
        statuses = Counter(call.result(2 * PATIENCE_SECONDS) for call in calls)
        assert statuses.keys() == {200, 502} and statuses[502] <= 32

        gateway.settle()
        expire_reservations(database_url)
        assert gateway.budget()["reserved_usd"] == 0
        books.balance()
        ends = dict(books.rows("SELECT coalesce(outcome, '') || cost_basis, count(*) FROM ledger GROUP BY 1"))
        assert ends == {"successactual": 2 * CALLERS + statuses[200], "expiredbound": statuses[502]}
        # The vendor has billed the lost ones too, at less than their bounds.
        bill = sum((INPUT_USD * i + OUTPUT_USD * o for i, o in upstream.billed), Decimal(0))
        actual = books.one("SELECT sum(cost) FROM ledger WHERE cost_basis = 'actual'")
        assert actual < bill <= books.one("SELECT sum(cost) FROM ledger")
        assert books.one(_TREE) == books.one("SELECT sum(cost) FROM ledger")
