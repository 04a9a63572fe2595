"""An answer that leaves before its settlement: what it says is what is booked, by whoever runs the function."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest

from fusewire.http.app import StreamingResponse
from tests.integration.ai.observing import Books, LogLines
from tests.integration.functions.conftest import Functions, StreamingContext, asked, sample
from tests.support.upstream import Upstream, without_usage


@dataclass
class LoopContext(StreamingContext):
    """As `fusewire.runtime` makes it: what is left to be done follows the answer."""

    after_response: list[Callable[[], None]] = field(default_factory=list)

    def go_on(self) -> None:
        for work in self.after_response:
            work()


def answered(functions: Functions, event: dict[str, Any], context: LoopContext, name: str = "complete") -> Decimal:
    """:return: the cost that the body names, where it is the last thing"""
    answer = functions.load(name).handler(event, context)
    if isinstance(answer, StreamingResponse):
        body = b"".join(answer.chunks).decode()
        last = body.split("\n\n")[-3].removeprefix("data: ")
        return Decimal(json.loads(last, parse_float=Decimal)["usage"]["cost"])
    assert answer["statusCode"] == 200
    cost = json.loads(answer["body"], parse_float=Decimal)["usage"]["cost"]
    assert Decimal(answer["headers"]["x-fusewire-cost-usd"]) == cost
    assert Decimal(answer["headers"]["x-fusewire-budget-remaining-usd"]) == 500 - cost
    return Decimal(cost)


@pytest.mark.parametrize("kind", ["whole", "stream", "embeddings"])
def test_the_answer_leaves_first_and_its_cost_is_booked(
    functions: Functions, books: Books, log: LogLines, kind: str
) -> None:
    functions.set(FUSEWIRE_METRICS_NAMESPACE="fusewire/test")
    context = LoopContext()
    if kind == "embeddings":
        cost = answered(functions, sample("embed", {"model": "sota", "input": "x"}), context, "embed")
    else:
        more = {"stream": True, "stream_options": {"include_usage": True}} if kind == "stream" else {}
        cost = answered(functions, asked(**more), context)
    [entry] = books.entries()
    assert (entry["status"], entry["cost"]) == ("reserved", None)
    assert log.events("router.success") == []

    context.go_on()
    [entry] = books.entries()
    assert (entry["status"], entry["cost"], entry["cost_basis"]) == ("settled", cost, "actual")
    assert cost > 0
    [line] = log.events("router.success")
    assert (line["cost_usd"], line["request_id"]) == (cost, entry["request_id"])
    assert sum(line["Spend"] for line in log.events("metrics") if "provider" not in line) == cost
    books.check()


@pytest.mark.parametrize(
    "variables",
    [{"AI_MONTHLY_BUDGET_USD": "0.5"}, {"AI_ADMISSION_WAIT_SECONDS": "0"}, {}],
    ids=["a tight budget", "nobody may wait", "no usage"],
)
def test_what_has_to_be_settled_first_is(
    functions: Functions, upstream: Upstream, books: Books, variables: dict[str, str]
) -> None:
    functions.set(**variables)
    if not variables:
        upstream.script.append(without_usage)
    context = LoopContext()
    assert functions.load("complete").handler(asked(), context)["statusCode"] == 200
    [entry] = books.entries()
    assert entry["status"] == "settled"
    if "AI_MONTHLY_BUDGET_USD" in variables:
        assert entry["bound"] < Decimal("0.5") < 2 * entry["bound"] / Decimal("0.8")
    context.go_on()
    books.check()
