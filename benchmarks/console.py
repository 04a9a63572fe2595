"""`python -m benchmarks.console`: the console over a large ledger.

Fills a database of its own with so many attempts of so many keys, under a tree of budgets, and opens each of the
console's pages in a Chromium: what it asks the API for, how long each answer takes, and how soon after the last of them
the page has its content. Needs what `make console-test` installs.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any, Final

import httpx
import psycopg

from benchmarks import machine
from benchmarks.peers import ROOT
from fusewire.store.migrate import migrate
from local.postgres import embedded_postgres
from tests.support.gateway import Gateway, eventually
from tests.support.guarded import ADMIN, Admin, guarded
from tests.support.past_calls import Share, book
from tests.support.upstream import running_upstream

_FOLDER: Final = ROOT / ".fusewire-bench" / "console"
_NODE: Final = ROOT / ".venv-console" / "node" / "bin" / "node"
_MODELS: Final = tuple(
    (provider, f"{provider}-model-{number}", tier, 0.5 + 2 * number, 2.0 + 8 * number)
    for provider in ("openai", "azure", "anthropic", "aws")
    for number, tier in enumerate(("cost_effective", "sota"))
)
_DEPARTMENTS: Final = 8
_TEAMS: Final = 10
"""In each department."""


@contextmanager
def large(rows: int, keys: int) -> Iterator[tuple[Gateway, Admin, str]]:
    """A gateway with its console over so many calls, until the block ends; and a key's id."""
    shutil.rmtree(_FOLDER, ignore_errors=True)
    _FOLDER.mkdir(parents=True)
    try:
        with embedded_postgres(_FOLDER / "postgres", connections=20) as url, running_upstream() as vendor:
            migrate(url)
            with guarded(_FOLDER, vendor, url, CONSOLE="on", AI_MONTHLY_BUDGET_USD="10000000") as (gateway, admin):
                made = [key["id"] for key in _keys(admin, keys)]
                with psycopg.connect(url, autocommit=True) as session:
                    book(session, _shares(made, rows))
                page = f"http://127.0.0.1:{gateway.port}/"
                eventually(lambda: 'id="root"' in httpx.get(page, headers={"accept": "text/html"}).text, seconds=600)
                yield gateway, admin, made[0]
    finally:
        shutil.rmtree(_FOLDER, ignore_errors=True)


def _keys(admin: Admin, keys: int) -> Iterator[dict[str, Any]]:
    """So many, in the teams of a company; all but every tenth has a budget of its own."""
    teams = []
    for department in range(_DEPARTMENTS):
        above = admin.ask("POST", "/budgets", {"name": f"Department {department}", "limit_usd": "1000000"})["id"]
        for team in range(_TEAMS):
            body = {"name": f"Team {department}.{team}", "limit_usd": "100000", "parent_id": above}
            teams.append(admin.ask("POST", "/budgets", body)["id"])

    def make(number: int) -> dict[str, Any]:
        team = teams[number % len(teams)]
        limit = None if number % 10 == 0 else "50000"
        tags = {"team": f"t{number % len(teams)}", "env": "prod"}
        return admin.make(name=f"service-{number:04}", budget_id=team, monthly_budget_usd=limit, tags=tags)

    with ThreadPoolExecutor(4) as pool:
        yield from pool.map(make, range(keys))


def _shares(keys: Sequence[str], rows: int) -> list[Share]:
    """Three models for each key; the busiest keys have most of the calls."""
    random = Random(7)  # noqa: S311 - nothing secret
    weights = [1 / (place + 20) for place in range(len(keys))]
    each = rows / sum(weights) / 3
    return [
        Share(key, provider, model, tier, max(1, round(each * weight)), random.randint(200, 4000), cheap, dear)
        for key, weight in zip(keys, weights, strict=True)
        for provider, model, tier, cheap, dear in random.sample(_MODELS, 3)
    ]


def measure(gateway: Gateway, admin: Admin, key: str, rounds: int) -> list[dict[str, Any]]:
    """By page: {page, rounds: [{content, requests: [{path, start, end, bytes}]}]}, times in milliseconds."""
    request = admin.ask("GET", "/calls?limit=1")["rows"][0]["request_id"]
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    keys = {f"CONSOLE_{name}": ADMIN for name in ("ADMIN", "READ", "PLAIN", "BOUND")}
    about = {"CONSOLE_URL": f"http://127.0.0.1:{gateway.port}/", "CONSOLE_KEY": key, "CONSOLE_FAILED": request}
    done = subprocess.run(  # noqa: S603 - Node.js, in its environment
        [str(_NODE), "pace.ts"],
        cwd=ROOT / "tests" / "console",
        env=kept | keys | about | {"CONSOLE_ROUNDS": str(rounds)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def figures(measured: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """By page: medians, in milliseconds, of its slowest answer and of its content after the last; and its requests."""
    found = []
    for page in measured:
        rounds = [
            (
                each["content"],
                [one for one in each["requests"] if one["path"] != "/me" and one["end"] <= each["content"]],
            )
            for each in page["rounds"]
        ]
        asked: dict[str, list[dict[str, float]]] = {}
        for _, requests in rounds:
            for one in requests:
                asked.setdefault(one["path"], []).append(one)
        found.append(
            {
                "page": page["page"],
                "content_after_answers_ms": _median(
                    content - max(one["end"] for one in requests) for content, requests in rounds
                ),
                "slowest_answer_ms": _median(
                    max(one["end"] - one["start"] for one in requests) for _, requests in rounds
                ),
                "kilobytes": round(sum(one["bytes"] for one in rounds[-1][1]) / 1000, 1),
                "requests": {
                    path: {
                        "ms": _median(one["end"] - one["start"] for one in all_),
                        "kilobytes": round(all_[-1]["bytes"] / 1000, 1),
                    }
                    for path, all_ in asked.items()
                },
            }
        )
    return found


def _median(values: Iterator[float]) -> float:
    return round(statistics.median(values), 1)


def report(found: Sequence[dict[str, Any]]) -> str:
    """Tables in Markdown: the pages, and their requests."""
    lines = [
        "| page | slowest answer, ms | content after the answers, ms | answers, kB |",
        "| --- | ---: | ---: | ---: |",
    ]
    for one in found:
        lines.append(
            f"| {one['page']} | {one['slowest_answer_ms']} | {one['content_after_answers_ms']} | {one['kilobytes']} |"
        )
    lines += ["", "| request | ms | kB |", "| --- | ---: | ---: |"]
    asked = {path: cost for one in found for path, cost in one["requests"].items()}
    lines += [f"| `{path}` | {cost['ms']} | {cost['kilobytes']} |" for path, cost in asked.items()]
    return "\n".join(lines)


def main() -> int:
    """:return: the exit status"""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.console", description="The console on a large ledger.")
    parser.add_argument("--rows", type=int, default=1_000_000, help="attempts (default: a million)")
    parser.add_argument("--keys", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=5, help="visits of each page")
    parser.add_argument("--write", type=Path, help="a JSON file for the figures")
    options = parser.parse_args()
    began = time.monotonic()
    with large(options.rows, options.keys) as (gateway, admin, key):
        filled = round(time.monotonic() - began, 1)
        found = figures(measure(gateway, admin, key, options.rounds))
    sys.stdout.write(f"{options.rows:,} attempts and {options.keys:,} keys, made in {filled} s\n\n{report(found)}\n")
    if options.write:
        results = {
            "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
            "machine": machine.described(),
            "commit": machine.commit(),
            **{name: getattr(options, name) for name in ("rows", "keys", "rounds")},
            "pages": found,
        }
        options.write.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
