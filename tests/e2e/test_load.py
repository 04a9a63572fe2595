"""200 calls, 32 at a time, a third of them streams, against a vendor that bills: its bill is our books."""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import openai
import pytest

from tests.support.gateway import Books, Gateway, running_gateway
from tests.support.upstream import Upstream

INPUT_USD, OUTPUT_USD = Decimal("0.0001"), Decimal("0.0003")
PRICES = '{"openai/m": {"input_mtok": 100, "output_mtok": 300}}'


def billed(upstream: Upstream) -> Decimal:
    return sum((INPUT_USD * i + OUTPUT_USD * o for i, o in upstream.billed), Decimal(0))


def call(gateway: Gateway, client: openai.OpenAI, number: int) -> str:
    """:return: how it ended: an HTTP status, or `stream`. What has to wait for calls in flight waits."""
    try:
        if number % 3 == 0:
            stream = client.chat.completions.create(
                model="openai/m",
                messages=[{"role": "user", "content": f"question {number}"}],
                max_completion_tokens=5,
                stream=True,
            )
            if number % 12 == 0:
                next(iter(stream))
                stream.close()  # hangs up in mid-answer: it is metered all the same
                return "stream"
            assert "".join(c.choices[0].delta.content or "" for c in stream if c.choices) == "Paris."
            return "stream"
        client.chat.completions.create(
            model="openai/m", messages=[{"role": "user", "content": f"question {number}"}], max_completion_tokens=5
        )
    except openai.RateLimitError as error:
        assert error.code == "budget_reserved"
        time.sleep(0.05)
        return call(gateway, client, number)
    except openai.APIStatusError as error:
        return str(error.status_code)
    return "200"


@pytest.mark.parametrize(("budget", "everything_fits"), [("50", True), ("0.35", False)])
def test_what_the_vendor_bills_is_what_the_books_say(
    tmp_path: Path, upstream: Upstream, database_url: str, budget: str, everything_fits: bool
) -> None:
    upstream.delay = 0.01
    variables = {
        "AI_MODE": "cloud",
        "AI_FALLBACK_CHAIN": "openai",
        "OPENAI_API_KEY": "sk-x",
        "OPENAI_BASE_URL": upstream.url,
        "OPENAI_TEMPLATE_TOKENS": "96",
        "OPENAI_SOTA_MODEL": "m",
        "AI_PRICE_OVERRIDES": PRICES,
        "AI_MONTHLY_BUDGET_USD": budget,
        "DATABASE_URL": database_url,
    }
    with running_gateway(tmp_path / "run", **variables) as gateway:
        client = gateway.openai()
        with ThreadPoolExecutor(32) as threads:
            outcomes = Counter(threads.map(lambda number: call(gateway, client, number), range(200)))
        books = Books(database_url)
        result = gateway.budget()
        for _ in range(100):  # the streams that were left are still being read to their ends
            if not result["reserved_usd"]:
                break
            result = gateway.budget()
        assert result["reserved_usd"] == 0
        spent = books.one("SELECT sum(cost) FROM ledger")
        assert spent == billed(upstream) == books.one("SELECT spent FROM budget_window")
        assert Decimal(str(result["current_spend_usd"])) == spent
        assert spent <= Decimal(budget)
        assert result["request_count"] == len(upstream.billed)
        books.balance()
        if everything_fits:
            assert outcomes == {"200": 133, "stream": 67}
        else:
            assert outcomes.keys() == {"200", "stream", "402"}
            assert spent > Decimal(budget) * Decimal("0.9")
