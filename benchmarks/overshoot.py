"""What is billed past a budget when everybody calls at once, by the vendor's own count.

A call costs exactly its output: the price of input is nothing, and the caller's `max_tokens` is what the vendor
answers. So a call's worst case, which fusewire reserves, is its price, and the same number of calls fits everybody's
budget. Bursts follow each other on the same budget, each call answered after `upstream.SLOW_SECONDS`.
"""

import asyncio
import json
import re
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from benchmarks import BenchmarkError, peers, upstream
from benchmarks.comparison import Installations, empty
from benchmarks.peers import ROOT

CALL_USD: Final = Decimal("0.01")
FITTING_CALLS: Final = 8
LIMIT_USD: Final = CALL_USD * FITTING_CALLS + CALL_USD / 2
CALLERS: Final = 64
BURSTS: Final = 3
WORKERS: Final = 32
"""The most that `make run` has of each function. Callers beyond them wait for one, milliseconds where it refuses."""

_OUTPUT_USD_PER_MTOK: Final = CALL_USD / upstream.OUTPUT_TOKENS * 1_000_000
_KEY: Final = "overshoot-{}"
_ROUTER_SECONDS: Final = 120.0
_BURST_SECONDS: Final = 60.0
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_PROGRAM: Final = ROOT / "benchmarks" / "router_burst.py"


@dataclass(frozen=True, slots=True)
class Overshoot:
    """What one subject let through. Money in USD."""

    served: tuple[int, ...]
    """Calls answered with 200, by burst."""
    billed_calls: int
    """By the vendor's count."""
    limit: Decimal = LIMIT_USD
    call: Decimal = CALL_USD

    @property
    def billed(self) -> Decimal:
        return self.billed_calls * self.call

    @property
    def past_the_limit(self) -> Decimal:
        """What was billed beyond the budget; 0 when it held."""
        return max(self.billed - self.limit, Decimal(0))

    def as_json(self) -> dict[str, object]:
        """Amounts as text: exact."""
        money = {"limit": self.limit, "call": self.call, "billed": self.billed, "past_the_limit": self.past_the_limit}
        return asdict(self) | {name: f"{amount:f}" for name, amount in money.items()}


def overshoot(places: Installations, work: Path) -> dict[str, Any]:
    """fusewire's gateway, and LiteLLM's Router with a budget for its provider. Portkey's gateway keeps no budgets.

    :raises BenchmarkError: when one doesn't start, or nobody is served, or served and billed differ
    """
    with peers.vendor() as vendor:
        subjects = {"fusewire": _fusewire(vendor, work), "litellm": _litellm(vendor, places.litellm)}
    return {
        "callers": CALLERS,
        "seconds": upstream.SLOW_SECONDS,
        "fitting_calls": FITTING_CALLS,
        "subjects": {name: subject.as_json() for name, subject in subjects.items()},
    }


def _fusewire(vendor: int, work: Path) -> Overshoot:
    settings = {
        "LOCAL_CONCURRENCY": str(WORKERS),
        "OPENAI_API_KEY": _KEY.format("fusewire"),
        "OPENAI_SOTA_MODEL": upstream.SLOW_MODEL,
        "AI_MONTHLY_BUDGET_USD": f"{LIMIT_USD:f}",
        "AI_PRICE_OVERRIDES": json.dumps(
            {f"openai/{upstream.SLOW_MODEL}": {"input_mtok": 0, "output_mtok": int(_OUTPUT_USD_PER_MTOK)}}
        ),
    }
    server = peers.fusewire(vendor, empty(work / "overshoot"), settings)
    with ExitStack() as stack:
        stack.callback(server.stop)
        server.start()
        # Every worker is started by calls of a model that nobody serves: they cost nothing.
        asyncio.run(burst(server.target.url, "nobody/s-model"))
        served = tuple(asyncio.run(burst(server.target.url, server.target.model))[200] for _ in range(BURSTS))
        budget = peers.get_json(server.port, "/api/v1/admin/budget")
    found = Overshoot(served, _billed(vendor, "fusewire", served))
    if budget["current_spend_usd"] != found.billed or budget["reserved_usd"] != 0:
        raise BenchmarkError(f"fusewire booked {budget['current_spend_usd']} USD and was billed {found.billed} USD.")
    return found


async def burst(url: str, model: str) -> Counter[int]:
    """All callers at once, each on a connection of its own that is open before the first of them calls.

    :return: how often each status was answered
    :raises BenchmarkError: when a call isn't answered
    """
    parts = urlsplit(url)
    body = json.dumps(chat_request(model)).encode()
    head = f"POST {parts.path} HTTP/1.1\r\nhost: {parts.netloc}\r\ncontent-type: application/json\r\n"
    request = f"{head}content-length: {len(body)}\r\n\r\n".encode() + body
    opened = await asyncio.gather(*(asyncio.open_connection(parts.hostname, parts.port) for _ in range(CALLERS)))

    async def call(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
        writer.write(request)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = _LENGTH.search(head)
            await reader.readexactly(int(length[1]) if length else 0)
        finally:
            writer.close()
        return int(head.split(b" ", 2)[1])

    try:
        async with asyncio.timeout(_BURST_SECONDS):
            return Counter(await asyncio.gather(*(call(*connection) for connection in opened)))
    except (OSError, EOFError) as error:
        raise BenchmarkError(f"A call of the burst was not answered: {type(error).__name__} {error}") from error


def chat_request(model: str) -> dict[str, object]:
    """The call that everybody makes; its answer takes the whole of `max_tokens`."""
    return {
        "model": model,
        "messages": [{"role": "user", "content": "What is the capital of France?"}],
        "max_tokens": upstream.OUTPUT_TOKENS,
    }


def _litellm(vendor: int, python: Path) -> Overshoot:
    arguments = {
        "url": f"http://127.0.0.1:{vendor}/v1",
        "key": _KEY.format("litellm"),
        "request": chat_request(upstream.SLOW_MODEL),
        "output_usd": float(CALL_USD / upstream.OUTPUT_TOKENS),
        "limit_usd": float(LIMIT_USD),
        "callers": CALLERS,
        "bursts": BURSTS,
    }
    done = subprocess.run(  # noqa: S603 - our own arguments
        [str(python), str(_PROGRAM), json.dumps(arguments)],
        env=peers.plain_environment() | {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "CRITICAL"},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_ROUTER_SECONDS, check=False,
    )  # fmt: skip
    if done.returncode:
        raise BenchmarkError(f"LiteLLM's Router failed:\n{done.stderr[-1000:]}")
    served = tuple(json.loads(done.stdout.splitlines()[-1]))
    return Overshoot(served, _billed(vendor, "litellm", served))


def _billed(vendor: int, name: str, served: Sequence[int]) -> int:
    """The vendor's count, once it has been given all that it answered."""
    counts: Mapping[str, int] = peers.get_json(vendor, "/billed")
    billed = counts.get(_KEY.format(name), 0)
    if billed != sum(served) or not billed:
        raise BenchmarkError(f"{name}: {billed} calls were billed and {sum(served)} were answered.")
    return billed
