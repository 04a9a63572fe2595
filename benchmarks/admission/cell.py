"""One cell of the matrix: a budget, what callers ask for, and who keeps the budget."""

import asyncio
import json
import os
import re
import socket
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import uvloop

from benchmarks import BenchmarkError, machine, overshoot, peers
from benchmarks.admission.count import Count, count
from benchmarks.admission.replay import Outcome, replay
from benchmarks.admission.rule import Paper
from benchmarks.admission.trace import (
    INPUT_USD_PER_MTOK,
    OUTPUT_USD_PER_MTOK,
    Call,
    read_trace,
    until_spent,
    with_longer_answers,
    without_idle_time,
)
from benchmarks.admission.vendor import Vendor, serving
from benchmarks.comparison import empty
from benchmarks.peers import Server

FACTOR: Final = 4.0
"""How many times faster than the trace: the bursts of 40 calls a second are within what the gateway can."""
WAIT_SECONDS: Final = 20
"""AI_ADMISSION_WAIT_SECONDS, of the trace."""
NEVER_REACHED: Final = Decimal(1000)
MAX_OUTPUT_TOKENS: Final = 32_768
"""Output tokens that the model may put out where nobody names a cap."""
WORKERS: Final = 32
"""The most that `make run` has of each function."""

FIT: Final = "fit"
STRICT: Final = "strict"
LITELLM: Final = "litellm"

_MODEL: Final = "trace-model"
"""No tokenizer is known for it: its input is bounded by bytes."""
_MODEL_OF_KNOWN_SIZE: Final = "gpt-4.1"
"""For callers who name no cap: it is bounded by the largest output that is known of it, `MAX_OUTPUT_TOKENS`."""
_PRICES: Final = {
    "input_mtok": INPUT_USD_PER_MTOK,
    "cached_input_mtok": INPUT_USD_PER_MTOK,
    "output_mtok": OUTPUT_USD_PER_MTOK,
}
_CALLS_WHERE_NEVER_REACHED: Final = 800
_OFFERED: Final = Decimal("1.05")
"""As many calls as cost this much of the budget: those after them are refused by everybody, rightly."""
_LONGER: Final = 10
_LAST_ANSWER_SECONDS: Final = 50
"""Of the trace, after the last call's arrival: its wait and its answer."""
_START_SECONDS: Final = 15
_SETTLED_SECONDS: Final = 15.0
_REFUSALS: Final = {402, 429}
_WAITED: Final = re.compile(r'"waited_ms":(\d+)')


@dataclass(frozen=True, slots=True)
class Cell:
    """What is run. `cap` None: callers name none."""

    cap: int | None
    budget: Decimal
    keeper: str = FIT
    """Waiting and fitting (`fit`), fusewire without either (`strict`), or `litellm`."""
    change_at: int | None = None
    """From this call on, answers are ten times as long."""

    def calls(self) -> list[Call]:
        """What is offered."""
        calls = without_idle_time(read_trace())
        if self.change_at is not None:
            calls = with_longer_answers(calls, self.change_at, _LONGER)
        if self.budget >= NEVER_REACHED:
            return calls[:_CALLS_WHERE_NEVER_REACHED]
        return until_spent(calls, self.budget * _OFFERED)

    def seconds(self, factor: float) -> float:
        """How long it takes, roughly: until the last call is answered, and to start and stop what keeps the budget."""
        return (self.calls()[-1].at + _LAST_ANSWER_SECONDS) / factor + _START_SECONDS

    def name(self) -> str:
        """Of its folder, and in what is printed."""
        changed = "" if self.change_at is None else f", answers x{_LONGER} from call {self.change_at}"
        return f"{self.keeper}, cap {self.cap or 'none'}, {self.budget} USD{changed}"


@dataclass(frozen=True, slots=True)
class Result:
    """A cell's count, and under what it was taken."""

    cell: Cell
    count: Count
    paper: Count | None
    """Of the rule alone; None for another's budget."""
    seconds: float
    load: float
    """The machine's mean load of a minute, at the end."""
    others_percent: float
    """What others used of the processors meanwhile."""

    def as_json(self) -> dict[str, Any]:
        """Amounts as text: exact."""
        return {
            "cap": self.cell.cap,
            "budget": f"{self.cell.budget:f}",
            "keeper": self.cell.keeper,
            "change_at": self.cell.change_at,
            "count": _plain(self.count),
            "paper": _plain(self.paper) if self.paper else None,
            "seconds": round(self.seconds, 1),
            "load": round(self.load, 1),
            "others_percent": self.others_percent,
        }


def _plain(count: Count) -> dict[str, Any]:
    figures = {name: f"{value:f}" if isinstance(value, Decimal) else value for name, value in asdict(count).items()}
    return figures | {"lost_percent": round(count.lost_percent, 2)}


def run(cell: Cell, work: Path, factor: float, litellm: Path | None = None) -> Result:
    """Start the keeper of the budget with nothing booked, replay the calls, and count.

    :param litellm: its environment's `python`, for a cell of LiteLLM's
    :raises BenchmarkError: when a call is neither served nor refused for the budget, or the money isn't right
    """
    calls = cell.calls()
    vendor = Vendor({call.number: call for call in calls}, factor)
    folder = empty(work / "admission")
    with ExitStack() as stack:
        # Bound from the beginning, so that nobody else is given its port before the first call.
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        server = _keeper(cell, listener.getsockname()[1], folder, factor, litellm)
        stack.callback(server.stop)
        server.start()
        if cell.keeper != LITELLM:
            # Every worker is started by calls of a model that nobody serves: they cost nothing.
            asyncio.run(overshoot.burst(server.target.url, "nobody/s-model"))
        began = time.monotonic()
        bystanders = machine.Bystanders(lambda: [*peers.own_processes(), *server.processes()])
        outcomes = uvloop.run(_replayed(calls, cell, server, vendor, listener, factor))
        others = bystanders.share()
        seconds = time.monotonic() - began
        _check_answers(outcomes, cell.keeper, server)
        counted = count(
            calls, outcomes, vendor.bills,
            cap=cell.cap, largest=MAX_OUTPUT_TOKENS, budget=cell.budget, factor=factor, change_at=cell.change_at or 0,
            waits=[seconds * factor for seconds in _waits(server.log())],
        )  # fmt: skip
        if cell.keeper != LITELLM:
            _check_books(server.port, counted.billed)
    paper = None if cell.keeper == LITELLM else on_paper(cell)
    return Result(cell, counted, paper, seconds, os.getloadavg()[0], others)


def on_paper(cell: Cell) -> Count:
    """What the rule alone would count, were a gateway without delay and without workers."""
    calls = cell.calls()
    fits, cap = cell.keeper == FIT, cell.cap or MAX_OUTPUT_TOKENS
    paper = Paper(calls, cap, int(cell.budget * 1_000_000), wait=WAIT_SECONDS * fits, fits=fits)
    return count(
        calls, paper.outcomes, paper.bills,
        cap=cell.cap, largest=MAX_OUTPUT_TOKENS, budget=cell.budget, factor=1, change_at=cell.change_at or 0,
    )  # fmt: skip


async def _replayed(
    calls: list[Call], cell: Cell, server: Server, vendor: Vendor, listener: socket.socket, factor: float
) -> list[Outcome]:
    async with serving(vendor, listener):
        return await replay(calls, cell.cap, server.target, factor)


def _keeper(cell: Cell, vendor_port: int, folder: Path, factor: float, litellm: Path | None) -> Server:
    if cell.keeper != LITELLM:
        return _fusewire(cell, vendor_port, folder, factor)
    if litellm is None:
        raise BenchmarkError("LiteLLM isn't installed.")
    return _litellm(cell, vendor_port, folder, litellm)


def _fusewire(cell: Cell, vendor_port: int, folder: Path, factor: float) -> Server:
    model = _MODEL_OF_KNOWN_SIZE if cell.cap is None else _MODEL
    settings = {
        "LOCAL_CONCURRENCY": str(WORKERS),
        "OPENAI_SOTA_MODEL": model,
        "AI_MONTHLY_BUDGET_USD": f"{cell.budget:f}",
        "AI_PRICE_OVERRIDES": json.dumps({f"openai/{model}": _PRICES}),
        "AI_ADMISSION_WAIT_SECONDS": f"{WAIT_SECONDS / factor:g}" if cell.keeper == FIT else "0",
        "AI_MAX_WAITING_PER_KEY": "1000",  # who calls is one key here, and many people in the trace
        "AI_OUTPUT_CAP_POLICY": cell.keeper,
    }
    return peers.fusewire(vendor_port, folder, settings)


def _litellm(cell: Cell, vendor_port: int, folder: Path, python: Path) -> Server:
    """Its proxy, with a budget for its provider: the one that it keeps without a database."""
    budget = {"openai": {"budget_limit": float(cell.budget), "time_period": "1d"}}
    prices = (Decimal(INPUT_USD_PER_MTOK), Decimal(OUTPUT_USD_PER_MTOK))
    return peers.litellm(vendor_port, folder, python, 1, usd_per_mtok=prices, router={"provider_budget_config": budget})


def _check_answers(outcomes: list[Outcome], keeper: str, server: Server) -> None:
    unserved = [outcome for outcome in outcomes if outcome.status != 200]
    wrong = [
        outcome
        for outcome in unserved
        if "budget" not in outcome.text.lower() or (keeper != LITELLM and outcome.status not in _REFUSALS)
    ]
    if wrong:
        raise BenchmarkError(
            f"{server.name}: {len(wrong)} calls were neither served nor refused for the budget; the first: "
            f"{wrong[0].status} {wrong[0].text}\n{server.last_lines()}"
        )


def _waits(log: str) -> list[float]:
    """Seconds that calls waited for room before they were served, by the gateway's own log."""
    lines = (line for line in log.splitlines() if '"event":"router.success"' in line)
    return [int(found[1]) / 1000 for found in map(_WAITED.search, lines) if found]


def _check_books(port: int, billed: Decimal) -> None:
    deadline = time.monotonic() + _SETTLED_SECONDS
    while True:
        budget = peers.get_json(port, "/api/v1/admin/budget")
        if budget["current_spend_usd"] == billed and budget["reserved_usd"] == 0:
            return
        if time.monotonic() > deadline:
            booked = f"{budget['current_spend_usd']} USD and holds {budget['reserved_usd']} USD"
            raise BenchmarkError(f"fusewire booked {booked}, and was billed {billed} USD.")
        time.sleep(0.1)
