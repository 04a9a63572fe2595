"""The finance owner's questions: one dollar, a model that costs, and what happens on the way to its end."""

from decimal import Decimal
from pathlib import Path

import httpx
import openai
import pytest

from tests.support.gateway import Books, Gateway, eventually, running_gateway
from tests.support.patience import PATIENCE_SECONDS
from tests.support.upstream import Upstream

# Per token: 0.001 USD in, 0.01 USD out. One call of ours is 10 bytes in and 3 words out: 0.04 USD.
PRICES = '{"ollama/*": {"input_mtok": 1000, "output_mtok": 10000}}'
QUESTION = "ten bytes."
COST = Decimal("0.04")


@pytest.fixture
def variables(upstream: Upstream, database_url: str) -> dict[str, str]:
    return {
        "OLLAMA_BASE_URL": upstream.url,
        "OLLAMA_SOTA_MODEL": "m",
        "AI_PRICE_OVERRIDES": PRICES,
        "OLLAMA_TEMPLATE_TOKENS": "96",
        "AI_MONTHLY_BUDGET_USD": "1",
        "DATABASE_URL": database_url,
        "LOCAL_CONCURRENCY": "2",
    }


def ask(gateway: Gateway, cap: int = 3) -> httpx.Response:
    body = {"model": "sota", "messages": [{"role": "user", "content": QUESTION}], "max_tokens": cap}
    return httpx.post(f"{gateway.base}/chat/completions", json=body, timeout=PATIENCE_SECONDS)


def test_a_dollar_is_spent_through_every_state_and_never_passed(
    tmp_path: Path, variables: dict[str, str], upstream: Upstream, database_url: str
) -> None:
    books = Books(database_url)
    with running_gateway(tmp_path / "run", **variables) as gateway:
        states, answered = [], 0
        while (answer := ask(gateway)).status_code == 200:
            answered += 1
            states.append(answer.headers["x-fusewire-budget-state"])
            budget = gateway.budget()
            assert Decimal(str(budget["current_spend_usd"])) == answered * COST
            assert budget["state"] == states[-1]
            assert budget["current_spend_usd"] <= 1
        # 20 calls make 0.80, 24 make 0.96. The bound of one more (input 96 + 8 + 10 bytes) no longer fits before that.
        assert dict.fromkeys(states) == dict.fromkeys(["CLOSED", "HALF_OPEN"])
        assert (states.index("HALF_OPEN") + 1) * COST >= Decimal("0.8")

        refused = answer
        assert refused.status_code == 402
        assert refused.json()["error"]["code"] == "budget_exceeded"
        assert refused.json()["error"]["type"] == "insufficient_quota"
        assert refused.headers["x-should-retry"] == "false"
        assert "resets" in refused.json()["error"]["message"]
        asked_before = len(upstream.requests)
        with pytest.raises(openai.APIStatusError) as raised:
            gateway.openai(max_retries=2).chat.completions.create(
                model="sota", messages=[{"role": "user", "content": QUESTION}], max_tokens=3
            )
        assert raised.value.status_code == 402
        assert len(upstream.requests) == asked_before == answered

        assert len(gateway.events("circuit_breaker.alert")) == 1
        assert gateway.events("circuit_breaker.alert")[0]["level"] == "WARNING"
        assert len(gateway.events("circuit_breaker.blocked")) == 2
        assert gateway.budget()["request_count"] == answered
        books.balance()

        result = gateway.reset()
        assert Decimal(str(result["closed"]["spent_usd"])) == answered * COST
        assert result["opened"]["spent_usd"] == 0
        assert ask(gateway).status_code == 200
        assert Decimal(str(gateway.budget()["current_spend_usd"])) == COST
        assert len(gateway.events("circuit_breaker.manual_reset")) == 1
        [audit] = gateway.events("audit")
        assert audit["action"] == "budget.reset"
        assert books.one("SELECT count(*) FROM audit") == 1
        assert len(gateway.events("circuit_breaker.alert")) == 1
        books.balance()


def test_the_breaker_opens_once_and_blocks(tmp_path: Path, variables: dict[str, str], upstream: Upstream) -> None:
    # Cheap input, so that the bound is near the cost and spending can get past 95 %.
    variables |= {"AI_PRICE_OVERRIDES": '{"ollama/*": {"input_mtok": 0, "output_mtok": 10000}}'}
    upstream.words = ["word "] * 8
    with running_gateway(tmp_path / "run", **variables) as gateway:
        for _ in range(12):
            assert ask(gateway, cap=8).status_code == 200
        assert gateway.budget()["state"] == "OPEN"
        assert float(gateway.budget()["usage_ratio"]) == 0.96
        refused = ask(gateway, cap=1)
        assert refused.status_code == 402
        assert refused.json()["error"]["code"] == "budget_exceeded"
        [opened] = gateway.events("circuit_breaker.opened")
        assert (opened["level"], opened["usage_ratio"]) == ("ERROR", 0.96)
        assert len(gateway.events("circuit_breaker.alert")) == 1


def test_what_is_in_flight_is_told_from_what_is_spent(
    tmp_path: Path, variables: dict[str, str], upstream: Upstream
) -> None:
    variables |= {
        "AI_MONTHLY_BUDGET_USD": "0.2",
        "AI_ADMISSION_WAIT_SECONDS": "0",
        "AI_PRICE_OVERRIDES": '{"ollama/*": {"input_mtok": 1000, "output_mtok": 10}}',
        "OLLAMA_TEMPLATE_TOKENS": "96",
    }
    upstream.going_on.clear()
    with running_gateway(tmp_path / "run", **variables) as gateway:
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor() as threads:
            # A bound is 0.114 and some: one fits, a second has to wait for the first.
            first = threads.submit(ask, gateway)
            eventually(lambda: len(upstream.requests) == 1)
            second = ask(gateway)
            upstream.going_on.set()
            assert second.status_code == 429
            assert second.json()["error"]["code"] == "budget_reserved"
            assert second.headers["retry-after"] == "1"
            assert first.result().status_code == 200
        assert ask(gateway).status_code == 200


def test_an_unpriced_model_is_refused_before_a_byte_is_sent(
    tmp_path: Path, variables: dict[str, str], upstream: Upstream
) -> None:
    variables |= {
        "AI_MODE": "cloud",
        "AI_FALLBACK_CHAIN": "openai",
        "OPENAI_API_KEY": "sk-x",
        "OPENAI_BASE_URL": upstream.url,
        "OPENAI_SOTA_MODEL": "nobody-has-priced-this",
    }
    with running_gateway(tmp_path / "run", **variables) as gateway:
        refused = ask(gateway)
        assert refused.status_code == 400
        assert refused.json()["error"]["code"] == "model_not_priced"
        assert upstream.requests == []
