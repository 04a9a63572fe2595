"""`make chaos`: everything that can go wrong at once, and afterwards every cent is looked for.

`make run`'s gateway serves tens of callers, a third of them streams, a third of which hang up early, from three vendors
that fail in every way there is. Meanwhile workers are killed with -9, Postgres is killed with -9 and started again, the
ledger's clock passes a month's end, and an admin resets the budget. At the end the budget is used up. Then:

* what the vendors billed <= what the books say <= the budget, in each window;
* the difference is exactly the attempts that are booked at their bound, each of which is listed;
* no reservation is left, and no call was without an answer;
* no log, and no row of the ledger, holds a secret or a word of what was asked and answered.

It ends with 1 when any of that isn't so.
"""

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from decimal import Decimal
from pathlib import Path
from typing import Final

import psycopg
from psycopg import sql

from benchmarks import BenchmarkError
from benchmarks.load import Target
from benchmarks.peers import ROOT, Server, free_port, get_json
from benchmarks.trouble import DEAR, INPUT_USD, OUTPUT_USD, PROVIDERS, SECRETS, Question
from benchmarks.trouble.callers import Callers, Outcome
from benchmarks.trouble.postgres import MortalPostgres, mortal_postgres
from benchmarks.trouble.troubles import Troubles
from benchmarks.trouble.vendor import Bills, running_vendor
from benchmarks.trouble.verdict import Books, Verdict, counted, judge, read_books
from fusewire.ai.bounds import chat_input_bound
from fusewire.ai.counting import TOKENS_PER_REQUEST
from fusewire.ai.schema import ChatRequest

_BUDGET: Final = Decimal(1000)
_USED_UP: Final = "402 budget_exceeded"
_DEAR_SECONDS: Final = 90.0
"""For using the budget up: each call is bound at 2 to 200 USD, and a provider may be cooling down at first."""
_PATIENCE_SECONDS: Final = 6
"""For a call: long enough that a busy machine answers, short enough that whoever hangs is left in time."""
_TTL_SECONDS: Final = 8
_HOUR_SECONDS: Final = 3600
_GRACE_SECONDS: Final = 30.0
_SLOT_SECONDS: Final = 60.0
"""A reservation in a slot doesn't expire within a minute of the window's last search for what has expired."""
_SERVED: Final = {"200", "stream", "stream that says it broke", "left"}
_TABLES: Final = ("ledger", "provider_health", "audit", "settings_snapshot", "budget_threshold_event")


def main() -> int:
    """:return: the exit status: 1 when something is wrong, 2 when the run says nothing"""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.chaos", description="Everything that can go wrong, at once."
    )
    parser.add_argument("--seconds", type=float, default=150.0, help="of load (150)")
    parser.add_argument("--callers", type=int, default=24)
    parser.add_argument("--workers", type=int, default=8, help="of each function (8)")
    parser.add_argument("--seed", type=int, default=1, help="of the vendors' failures and of whom is killed (1)")
    arguments = parser.parse_args()
    try:
        return _run(arguments.seconds, arguments.callers, arguments.workers, arguments.seed)
    except BenchmarkError as error:
        sys.stderr.write(f"chaos: {error}\n")
        return 2


def _run(seconds: float, callers: int, workers: int, seed: int) -> int:
    bills = Bills()
    with tempfile.TemporaryDirectory(prefix="fwc", ignore_cleanup_errors=True) as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)  # Postgres runs as a user of its own
        ports = {provider: stack.enter_context(running_vendor(provider, bills, seed)) for provider in PROVIDERS}
        postgres = stack.enter_context(mortal_postgres(folder / "pg"))
        gateway = _gateway(folder / "gateway", ports, postgres, workers)
        stack.callback(gateway.stop)
        gateway.start()
        # The first window is open before its month may end, however long a busy machine takes for the first call.
        postgres.set_month_end(_HOUR_SECONDS)
        get_json(gateway.port, "/api/v1/admin/budget")
        postgres.set_month_end(seconds * 0.35)
        _print(f"chaos: {seconds:.0f} s, {callers} callers, {workers} workers, seed {seed}")
        calling = Callers(gateway.port, callers)
        chance = random.Random(seed)  # noqa: S311 - the same in every run
        troubles = Troubles(gateway, postgres, seconds, chance, _print)
        with troubles:
            calling.call_until(time.monotonic() + seconds)
        in_trouble = list(calling.outcomes)
        bills.all_well = True
        calling.call_until_refused("cost_effective", _USED_UP, _DEAR_SECONDS)
        _wait_for_the_ledger(gateway.port, postgres)
        books = read_books(postgres.owner_url, _allowance())
        logs = {"the gateway's log": gateway.log(), "Postgres' log": postgres.log.read_text(errors="replace")}
        logs |= {f"the table {table}": _rows(postgres.owner_url, table) for table in _TABLES}
        verdict = judge(books, bills.usd, calling.outcomes, _BUDGET, logs)
        verdict.wrong += _missing(troubles, books, in_trouble, calling.outcomes)
        _report(verdict, books, bills, calling.outcomes)
    return 1 if verdict.wrong else 0


def _gateway(folder: Path, ports: dict[str, int], postgres: MortalPostgres, workers: int) -> Server:
    """`make run` over a Postgres of one's own and three vendors."""
    folder.mkdir()
    urls = {provider: f"http://127.0.0.1:{port}/v1" for provider, port in ports.items()}
    price = {"input_mtok": int(INPUT_USD * 10**6), "output_mtok": int(OUTPUT_USD * 10**6)}
    dear = {name: amount * DEAR for name, amount in price.items()}
    key, port = SECRETS["vendor's key"], free_port()
    kept = ("PATH", "HOME", "LANG", "TMPDIR")
    variables = {name: os.environ[name] for name in kept if name in os.environ} | {
        "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "layers" / "core" / "python"))),
        "PORT": str(port),
        "FUSEWIRE_HOME": str(folder / "home"),
        "LOCAL_CONCURRENCY": str(workers),
        "DATABASE_URL": postgres.app_url,
        "MIGRATION_DATABASE_URL": postgres.owner_url,
        "AI_MODE": "hybrid",
        "AI_DEFAULT_PROVIDER": PROVIDERS[0],
        "AI_FALLBACK_CHAIN": ",".join(PROVIDERS),
        "AI_MONTHLY_BUDGET_USD": str(_BUDGET),
        "AI_REQUEST_TIMEOUT_SECONDS": str(_PATIENCE_SECONDS),
        "AI_RESERVATION_TTL_SECONDS": str(_TTL_SECONDS),
        "AI_PRICE_OVERRIDES": json.dumps(
            {f"{provider}/{model}": cost for provider in PROVIDERS for model, cost in (("m", price), ("dear", dear))}
        ),
        "AZURE_AI_ENDPOINT": urls["azure"],
        "AZURE_AI_API_KEY": key,
        "AZURE_SOTA_DEPLOYMENT": "m",
        "AZURE_COST_EFFECTIVE_DEPLOYMENT": "dear",
        "OPENAI_BASE_URL": urls["openai"],
        "OPENAI_API_KEY": key,
        "OPENAI_SOTA_MODEL": "m",
        "OPENAI_COST_EFFECTIVE_MODEL": "dear",
        # Every vendor's bound has the same allowance, so that a call's number follows from it.
        "OPENAI_TEMPLATE_TOKENS": str(TOKENS_PER_REQUEST),
        "CONSOLE": "off",
        "VLLM_BASE_URL": urls["vllm"],
        "VLLM_API_KEY": key,
        "VLLM_MODEL": "m",
        "VLLM_TEMPLATE_TOKENS": str(TOKENS_PER_REQUEST),
    }
    target = Target(f"http://127.0.0.1:{port}/api/v1/chat/completions", "none", "sota")
    command = [sys.executable, "-m", "local"]
    return Server("fusewire", command, variables, port=port, ready_path="/api/v1/health", target=target, folder=folder)


def _allowance() -> int:
    """The tokens that a call's bound has beyond its prompt's bytes."""
    prompt = Question(0).prompt
    request = ChatRequest.model_validate({"model": "m", "messages": [{"role": "user", "content": prompt}]})
    return chat_input_bound(request) - len(prompt)


def _wait_for_the_ledger(port: int, postgres: MortalPostgres) -> None:
    """Until nothing is reserved any more: what is under way ends, and what died expires."""
    deadline = time.monotonic() + _TTL_SECONDS + _SLOT_SECONDS + _GRACE_SECONDS
    while time.monotonic() < deadline:
        with suppress(BenchmarkError):
            get_json(port, "/api/v1/admin/budget")
        with psycopg.connect(postgres.owner_url) as connection:
            if connection.execute("SELECT FROM ledger WHERE status = 'reserved' LIMIT 1").fetchone() is None:
                return
        time.sleep(0.2)


def _rows(database_url: str, table: str) -> str:
    with psycopg.connect(database_url) as connection:
        rows = connection.execute(sql.SQL("SELECT t::text FROM {} t").format(sql.Identifier(table))).fetchall()
    return "\n".join(row[0] for row in rows)


def _missing(troubles: Troubles, books: Books, in_trouble: Sequence[Outcome], outcomes: Sequence[Outcome]) -> list[str]:
    """What didn't happen, so that the run doesn't show what it should."""
    opened = {window.opened_by for window in books.windows}
    reached = [outcome for outcome in in_trouble if outcome.end != "503 ledger_unavailable"]
    served = sum(outcome.end in _SERVED for outcome in reached)
    happened = {
        "no worker was killed": troubles.workers_killed > 0,
        "Postgres wasn't killed": troubles.postgres_killed > 0,
        "the month didn't end": "period_end" in opened,
        "no admin reset the budget": "admin" in opened,
        "no call hung up early": any(outcome.end == "left" for outcome in outcomes),
        "the budget was never used up": any(outcome.end == _USED_UP for outcome in outcomes),
        f"only {served} of {len(reached)} calls were served": served > len(reached) / 2,
    }
    return [missing for missing, is_so in happened.items() if not is_so]


def _report(verdict: Verdict, books: Books, bills: Bills, outcomes: Sequence[Outcome]) -> None:
    _print(f"{len(outcomes)} calls ended: {_list(counted(outcomes))}")
    _print(f"the vendors were asked {sum(bills.kinds.values())} times: {_list(bills.kinds)}")
    for w in books.windows:
        sums = f"billed {verdict.billed[w.id]:f} <= booked {w.spent:f} <= budget {_BUDGET}, reserved {w.reserved:f}"
        _print(f"window {w.id} (opened by {w.opened_by}): {sums}")
    _print(f"{len(verdict.at_bound)} attempts are booked at their bound:")
    for each in verdict.at_bound:
        e = each.entry
        cause = f"{e.outcome}, booked {e.cost:f}, billed {each.billed:f}, difference {each.difference:f}"
        _print(f"  call {e.number} at {e.provider} ({e.request_id}): {cause}")
    difference = sum(each.difference for each in verdict.at_bound)
    for wrong in verdict.wrong:
        _print(f"WRONG: {wrong}")
    if not verdict.wrong:
        _print(
            f"RIGHT: billed <= booked <= budget in each of {len(books.windows)} windows; booked less billed is "
            f"{difference:f} USD, all of it in the {len(verdict.at_bound)} attempts above; nothing is reserved; every "
            "call had its answer; no log holds a secret or content"
        )


def _list(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {number}" for name, number in sorted(counts.items(), key=lambda item: -item[1]))


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
