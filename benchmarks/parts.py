"""`python -m benchmarks.parts`: where one call's time goes, part by part, in one run.

The parts are timed alone (the vendor by itself and by its SDK, reserve and settle, the handler without a platform, the
platform without a call) beside the whole, in turn, so that the machine's noise hits them alike. The last of them is the
floor of a call in this shape (`benchmarks.shape`): no code of ours could make it cheaper.
"""

import argparse
import cProfile
import http.client
import json
import pstats
import shutil
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib.util import module_from_spec, spec_from_file_location
from os import devnull, environ
from pathlib import Path
from statistics import median
from typing import Any, ClassVar, Final
from unittest.mock import patch

import openai

from benchmarks import BenchmarkError, peers, upstream
from benchmarks.peers import ROOT
from fusewire import logs
from fusewire.ai.provider import Timeouts
from fusewire.ai.providers.openai import OpenAIProvider
from fusewire.ai.schema import ChatRequest
from fusewire.budget.price import TokenCounts
from fusewire.budget.reservation import Call, Candidate, HealthUpdate, Settlement
from fusewire.config import load_settings
from fusewire.services import Services, assemble
from fusewire.store.migrate import migrate
from local.postgres import embedded_postgres

_FOLDER: Final = ROOT / ".fusewire-bench" / "parts"
_CALLS: Final = 40
_WARM_UP: Final = 100
_TIMEOUTS: Final = Timeouts(connect=5, first=20, total=20)
_CAP: Final = 64
_HANDLER: Final = 4
"""Its place among the parts."""


@dataclass(slots=True)
class Part:
    """One thing that is timed: what it is, how to do it once, and what it took."""

    name: str
    once: Callable[[], object]
    afterwards: Callable[[], object] = lambda: None
    """What is done after each time, and isn't timed."""
    milliseconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    """Of this process, by call; it says nothing of what other processes do meanwhile."""

    def repeat(self, times: int) -> None:
        """Do it so often, and note the times."""
        began = time.process_time()
        for _ in range(times):
            at = time.perf_counter()
            self.once()
            self.milliseconds.append((time.perf_counter() - at) * 1e3)
            self.afterwards()
        self.cpu.append((time.process_time() - began) / times * 1e3)


def report(parts: Sequence[Part]) -> str:
    """The table: median milliseconds of each part, and of this process' own processor time where the part is in it."""
    lines = ["| part | p50, ms | processor, ms |", "| --- | ---: | ---: |"]
    for part in parts:
        lines.append(f"| {part.name} | {median(part.milliseconds):.2f} | {median(part.cpu):.2f} |")
    return "\n".join(lines)


def measure(parts: Sequence[Part], rounds: int) -> None:
    """Warm each up, then time them in turn."""
    for part in parts:
        for _ in range(_WARM_UP):
            part.once()
            part.afterwards()
    for number in range(rounds):
        for part in parts if number % 2 else reversed(parts):
            part.repeat(_CALLS)


def profile(part: Part, calls: int) -> dict[str, float]:
    """Have `cProfile` watch so many calls: the processor's seconds in each package's own code, ours by module."""
    watched = cProfile.Profile(time.process_time)
    watched.enable()
    for _ in range(calls):
        part.once()
    watched.disable()
    return by_package(pstats.Stats(watched).stats)  # type: ignore[attr-defined] # pstats has it, its stub hasn't


def by_package(stats: Mapping[tuple[str, int, str], Any]) -> dict[str, float]:
    """Own time by package, from `pstats.Stats.stats`. A built-in function's is its callers'."""
    seconds: dict[str, float] = defaultdict(float)
    for (file, _, _), (_, _, own, _, callers) in stats.items():
        if file != "~":
            seconds[_package(file)] += own
        for (caller, _, _), of_caller in callers.items() if file == "~" else ():
            seconds[_package(caller)] += of_caller[2]
    return seconds


def _package(file: str) -> str:
    if "site-packages/" in file:
        return file.partition("site-packages/")[2].partition("/")[0]
    return "fusewire" if "/fusewire/" in file or file.endswith("app.py") else "Python"


def profile_report(seconds: Mapping[str, float]) -> str:
    """Each package's share, the largest first; what is below a hundredth stays out."""
    total = sum(seconds.values())
    lines = ["| code of | share of the handler's processor time |", "| --- | ---: |"]
    for name, own in sorted(seconds.items(), key=lambda each: -each[1]):
        if own > total / 100:
            lines.append(f"| {name} | {own / total:.0%} |")
    return "\n".join(lines)


def _posting(port: int, path: str, body: bytes, key: str, status: int) -> Callable[[], object]:
    """A call over a connection that is kept, by the standard library's client."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    headers = {"content-type": "application/json", "authorization": f"Bearer {key}"}

    def post() -> None:
        connection.request("POST", path, body, headers)
        response = connection.getresponse()
        content = response.read()
        if response.status != status:
            raise BenchmarkError(f"{path} answered {response.status}: {content[:300].decode(errors='replace')}")

    return post


def _body(model: str) -> bytes:
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    return json.dumps({"model": model, "messages": messages, "max_tokens": _CAP}).encode()


def _by_the_sdk(core: Services, *, as_it_comes: bool = False) -> Callable[[], object]:
    """:param as_it_comes: with the HTTP client that the SDK makes for itself"""
    provider = OpenAIProvider(core.settings)
    if as_it_comes:
        # In the place of the one that it would make on its first call.
        own = openai.OpenAI(base_url=provider.base_url(), api_key=provider.api_key(), max_retries=0)
        vars(provider)["_client"] = own
    request = ChatRequest.model_validate_json(_body("sota"))
    return lambda: provider.complete(request, upstream.MODEL, _CAP, _TIMEOUTS)


def _reserve_and_settle(core: Services) -> Callable[[], object]:
    candidate = Candidate("openai", upstream.MODEL, peers.CALL_USD * 5, 200)
    counts = TokenCounts(upstream.INPUT_TOKENS, upstream.OUTPUT_TOKENS)
    health_update = HealthUpdate("openai", "ok")

    def book() -> None:
        held = core.ledger.reserve(Call("parts", "chat", "sota", None), [candidate])
        core.ledger.settle(
            Settlement(held, "actual", "success", cost=peers.CALL_USD, counts=counts, health_update=health_update)
        )

    return book


def _handlers(variables: dict[str, str]) -> list[Part]:
    """The function, called as AWS's client calls it, and as our runtime does, which is left to settle."""
    spec = spec_from_file_location("benchmarked", ROOT / "functions" / "complete" / "app.py")
    if spec is None or spec.loader is None:
        raise BenchmarkError("functions/complete/app.py is gone")
    module = module_from_spec(spec)
    with patch.dict(environ, variables):
        spec.loader.exec_module(module)
    event = json.loads((ROOT / "events" / "complete.json").read_text(encoding="utf-8"))
    event["body"] = _body("sota").decode()

    class Context:
        aws_request_id = "parts"

        @staticmethod
        def get_remaining_time_in_millis() -> int:
            return 29_000

    class OurContext(Context):
        after_response: ClassVar[list[Callable[[], None]]] = []

    def handle(context: Context) -> None:
        response = module.handler(event, context)
        if response["statusCode"] != 200:
            raise BenchmarkError(f"the handler answered {response['statusCode']}: {response['body'][:300]}")

    def settle() -> None:
        left = OurContext.after_response
        if not left:
            raise BenchmarkError("the handler left nothing for afterwards")
        while left:
            left.pop(0)()

    return [
        Part("the handler: all of that, validated, priced, logged", lambda: handle(Context())),
        Part("the handler, until its answer may leave", lambda: handle(OurContext()), settle),
    ]


@contextmanager
def _parts() -> Iterator[list[Part]]:
    shutil.rmtree(_FOLDER, ignore_errors=True)
    (_FOLDER / "gateway").mkdir(parents=True)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, _FOLDER, ignore_errors=True)
        # A call's log line is made and written, only not among the results.
        nowhere = stack.enter_context(Path(devnull).open("w", encoding="utf-8"))
        logs.logger.registered_handler.setStream(nowhere)  # type: ignore[attr-defined] # it is a StreamHandler
        vendor = stack.enter_context(peers.vendor())
        server = peers.fusewire(vendor, _FOLDER / "gateway")
        stack.callback(server.stop)
        server.start()
        (_FOLDER / "shape").mkdir()
        shape = peers.shape(vendor, _FOLDER / "shape")
        stack.callback(shape.stop)
        shape.start()
        url = stack.enter_context(embedded_postgres(_FOLDER / "postgres", connections=4))
        migrate(url)
        variables = peers.fusewire_settings(vendor) | {"DATABASE_URL": url, "AUTH_MODE": "open"}
        core = assemble(load_settings(variables))
        stack.callback(core.database.close)
        chat, key = "/api/v1/chat/completions", server.target.key
        yield [
            Part("the vendor, over one connection", _posting(vendor, "/v1/chat/completions", _body("m"), key, 200)),
            Part("the vendor, by its SDK as it comes", _by_the_sdk(core, as_it_comes=True)),
            Part("the vendor, by its SDK over our client", _by_the_sdk(core)),
            Part("reserve and settle, two durable commits", _reserve_and_settle(core)),
            *_handlers(variables),
            Part("the platform: gateway, Runtime API, a request refused", _posting(server.port, chat, b"{}", key, 400)),
            Part("a call through the gateway", _posting(server.port, chat, _body("sota"), key, 200)),
            Part("the same, with nothing of ours in its function", _posting(shape.port, chat, _body("m"), key, 200)),
        ]


def main() -> int:
    """:return: the exit status"""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.parts", description="Where one call's time goes.")
    parser.add_argument("--profile", action="store_true", help="the handler's code, package by package, instead")
    parser.add_argument("--rounds", type=int, default=15, help=f"of {_CALLS} calls of each part (default: 15)")
    options = parser.parse_args()
    try:
        with _parts() as parts:
            if options.profile:
                measure([parts[_HANDLER]], 1)
                table = profile_report(profile(parts[_HANDLER], 600))
            else:
                measure(parts, options.rounds)
                table = report(parts)
    except BenchmarkError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{table}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
