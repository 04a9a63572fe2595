"""Real models by their names, at their listed prices, over each of the seven providers, through the front door."""

from collections.abc import Iterator
from contextlib import ExitStack
from decimal import Decimal
from typing import Final

import httpx
import pytest

from tests.e2e.test_seven_providers import SEVEN, Running, socket_url
from tests.integration.ai.test_tight_bounds import MODELS, picture
from tests.support.gateway import Books, running_gateway
from tests.support.patience import PATIENCE_SECONDS
from tests.support.pictures import png
from tests.support.wires import Answer

CLOUDS: Final = ("openai", "azure", "anthropic", "aws", "gcp")
ANSWER: Final = 6_000
"""Tokens, nearly all of them reasoning: six times what every call without a cap once got."""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    home = tmp_path_factory.mktemp("real")
    variables = {
        "AI_MODE": "hybrid",
        "AI_FALLBACK_CHAIN": ",".join(row.provider for row in SEVEN),
        "AI_MONTHLY_BUDGET_USD": "500",
        "LOCAL_CONCURRENCY": "1",
    }
    with ExitStack() as stack:
        wires = {row.provider: stack.enter_context(row.wire.running()) for row in SEVEN}
        for row in SEVEN:
            variables |= row.variables(wires[row.provider].url) | wires[row.provider].environment
            variables |= dict([MODELS[row.provider]])
        gateway = stack.enter_context(running_gateway(home, **variables))
        yield Running(gateway, gateway.openai(), Books(socket_url(home)), wires)


@pytest.mark.parametrize("provider", MODELS)
def test_a_picture_of_a_megabyte_on_a_budget_of_a_dollar(running: Running, provider: str) -> None:
    fields = {"name": provider, "scopes": ["complete"], "monthly_budget_usd": 1}
    made = httpx.post(f"{running.gateway.base}/admin/keys", json=fields, timeout=PATIENCE_SECONDS).json()
    wire, asked = running.wires[provider], picture(png(1920, 1080, size=1_000_000), "png")
    wire.reset()
    client = running.gateway.openai(key=made["key"])
    answer = client.chat.completions.create(model=f"{provider}/{MODELS[provider][1]}", **asked)
    assert answer.choices[0].message.content == "Paris."
    assert len(wire.requests) == 1
    assert dict(running.books.rows("SELECT key_id, bound FROM ledger"))[made["id"]] < Decimal("0.2")
    running.books.balance()


@pytest.mark.parametrize("provider", CLOUDS)
def test_a_reasoning_models_call_without_a_cap_gets_its_whole_answer(running: Running, provider: str) -> None:
    wire = running.wires[provider]
    wire.reset()
    wire.will_answer(Answer(completion=ANSWER, reasoning=ANSWER - 4))
    answer = running.client.chat.completions.create(
        model=f"{provider}/{MODELS[provider][1]}", messages=[{"role": "user", "content": "Where is the Louvre?"}]
    )
    cap = wire.cap(0)
    assert cap is not None and cap > ANSWER
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("Paris.", "stop")
    assert answer.usage is not None and answer.usage.completion_tokens >= ANSWER
    running.books.balance()
