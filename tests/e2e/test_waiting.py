"""A burst on a small budget, through the SDKs: who waits is served, and what was fitted is told."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from tests.support.gateway import Books, Gateway, eventually, running_gateway
from tests.support.patience import PATIENCE_SECONDS
from tests.support.upstream import Upstream

# Per token of output: 0.0001 USD. 2,048 of them are 0.2048 USD: four fit a dollar.
VARIABLES = {
    "OLLAMA_SOTA_MODEL": "m",
    "AI_PRICE_OVERRIDES": '{"ollama/*": {"input_mtok": 0, "output_mtok": 100}}',
    "AI_MONTHLY_BUDGET_USD": "1",
    "LOCAL_CONCURRENCY": "9",
    "LOCAL_CALLS_PER_WORKER": "1",
}
QUESTION: Any = {"role": "user", "content": "ten bytes."}


def test_a_burst_on_a_small_budget_is_served(tmp_path: Path, upstream: Upstream, database_url: str) -> None:
    books = Books(database_url)
    variables = VARIABLES | {"OLLAMA_BASE_URL": upstream.url, "DATABASE_URL": database_url}
    caps: list[str | None] = []
    with running_gateway(tmp_path / "run", **variables) as gateway:
        upstream.going_on.clear()

        def ask() -> None:
            answer = gateway.openai().chat.completions.with_raw_response.create(
                model="sota", messages=[QUESTION], max_tokens=32_000
            )
            assert answer.parse().choices[0].message.content == "Paris."
            caps.append(answer.headers.get("x-fusewire-output-cap"))

        callers = [threading.Thread(target=ask) for _ in range(8)]
        for each in callers:
            each.start()
        eventually(lambda: gateway.budget()["waiting"] == 4 and len(upstream.requests) == 4)
        budget = gateway.budget()
        assert budget["reserved_usd"] <= 1
        with asking(gateway):
            eventually(lambda: gateway.budget()["waiting"] == 5)
            with asking(gateway):  # every worker is busy
                time.sleep(0.5)
        eventually(lambda: gateway.budget()["waiting"] == 4)
        assert len(gateway.events("admission.caller_left")) == 1
        assert budget["longest_wait_seconds"] > 0
        upstream.going_on.set()
        for each in callers:
            each.join(PATIENCE_SECONDS)
        assert caps == ["2048"] * 8
        assert {request["max_tokens"] for request in upstream.requests} == {2048}
        successes = gateway.events("router.success")
        assert len(successes) == 8
        assert sum("waited_ms" in line for line in successes) == 4
        assert gateway.budget()["waiting"] == 0
        assert gateway.events("circuit_breaker.blocked") == []
        # Who hung up while it waited, for room or for a worker, was sent to nobody, and is in no book.
        assert len(upstream.requests) == books.one("SELECT count(*) FROM ledger") == 8
        books.balance()


@contextmanager
def asking(gateway: Gateway) -> Iterator[None]:
    """A caller who asks, and hangs up at the block's end."""
    body = json.dumps({"model": "sota", "messages": [QUESTION], "max_tokens": 32_000})
    head = f"POST /api/v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", gateway.port)) as caller:
        caller.sendall(f"{head}{body}".encode())
        yield


def test_a_dead_worker_a_reset_and_the_callers_own_limits(
    tmp_path: Path, upstream: Upstream, database_url: str
) -> None:
    variables = VARIABLES | {
        "OLLAMA_BASE_URL": upstream.url,
        "DATABASE_URL": database_url,
        "AI_ADMISSION_WAIT_SECONDS": "60",
    }
    books = Books(database_url)
    with running_gateway(tmp_path / "run", **variables) as gateway:
        _the_callers_own_limits(gateway, upstream)
        upstream.going_on.clear()
        asked = len(upstream.requests)
        outcomes: list[str] = []

        def ask() -> None:
            try:
                gateway.openai().chat.completions.create(model="sota", messages=[QUESTION], max_tokens=32_000)
            except openai.APIStatusError as error:
                outcomes.append(str(error.status_code))
            else:
                outcomes.append("served")

        callers = [threading.Thread(target=ask) for _ in range(7)]
        for each in callers:
            each.start()
        eventually(lambda: gateway.budget()["waiting"] == 3 and len(upstream.requests) - asked == 4)
        # The next window has a dollar of its own: who waits is admitted to it.
        gateway.reset()
        eventually(lambda: len(upstream.requests) - asked == 7)
        assert gateway.budget()["waiting"] == 0
        upstream.going_on.set()
        for each in callers:
            each.join(PATIENCE_SECONDS)
        assert outcomes == ["served"] * 7
        books.balance()


def _the_callers_own_limits(gateway: Gateway, upstream: Upstream) -> None:
    client = gateway.openai(max_retries=2)
    create = client.chat.completions.with_raw_response.create
    answer = create(
        model="sota", messages=[QUESTION], max_tokens=5000, extra_headers={"x-fusewire-max-cost-usd": "0.1"}
    )
    assert upstream.requests[-1]["max_tokens"] == 1000
    assert answer.headers["x-fusewire-output-cap"] == "1000"

    asked = len(upstream.requests)
    with pytest.raises(openai.APIStatusError) as stopped:
        create(model="sota", messages=[QUESTION], max_tokens=5000, extra_headers={"x-fusewire-max-cost-usd": "0.001"})
    assert (stopped.value.status_code, stopped.value.code) == (402, "max_cost_exceeded")
    strict = {"x-fusewire-output-cap": "strict"}
    with pytest.raises(openai.APIStatusError) as stopped:
        create(model="sota", messages=[QUESTION], max_tokens=32_000, extra_headers=strict)
    assert (stopped.value.status_code, stopped.value.code) == (402, "budget_exceeded")
    for name in ("x-fusewire-output-cap", "x-fusewire-max-cost-usd"):
        with pytest.raises(openai.BadRequestError) as refused:
            create(model="sota", messages=[QUESTION], extra_headers={name: "lots"})
        assert refused.value.param == name
    assert len(upstream.requests) == asked

    answer = create(model="sota", messages=[QUESTION], max_tokens=5000, extra_headers=strict)
    assert upstream.requests[-1]["max_tokens"] == 5000
    assert "x-fusewire-output-cap" not in answer.headers
    claude = anthropic.Anthropic(api_key="none", base_url=gateway.base.removesuffix("/api/v1"), max_retries=0)
    message = claude.messages.with_raw_response.create(model="sota", messages=[QUESTION], max_tokens=20_000)
    assert message.headers["x-fusewire-output-cap"] == str(upstream.requests[-1]["max_tokens"]) == "2048"
