"""The saved queries over the log of a bad day at a real gateway: the result of each is what the ledger's books say.

The same text runs in CloudWatch Logs Insights. On a laptop the manual's commands answer the same questions.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from tests.support import upstream as vendor
from tests.support.documents import OPERATIONS, blocks
from tests.support.gateway import PROJECT, Books, Gateway, eventually, running_gateway
from tests.support.insights import Row, parse, saved_queries
from tests.support.patience import PATIENCE_SECONDS
from tests.support.upstream import Upstream, running_upstream

PRICES = '{"openai/m": {"input_mtok": 1000, "output_mtok": 10000}, "vllm/v": {"input_mtok": 500, "output_mtok": 5000}}'
SAVED = saved_queries(PROJECT / "infra/template.yaml")
OF_AWS = {"gateway", "crashes"}
"""Over lines that AWS writes, and a laptop doesn't: tests/unit/infra/test_queries.py runs them."""
QUERIES = {name: text for name, text in SAVED.items() if name not in OF_AWS}


class Day:
    """What a gateway logged in a day with every kind of trouble, and its books."""

    def __init__(self, log: Path, books: Books, address: str) -> None:
        self.log, self.books, self.address = log, books, address

    def ask(self, name: str, request_id: str = "") -> list[Row]:
        """A query's answer."""
        with self.log.open() as lines:
            return parse(QUERIES[name].replace("REQUEST_ID", request_id)).run(lines)


def ask(gateway: Gateway, **fields: object) -> int:
    body = {"model": "sota", "messages": [{"role": "user", "content": "hi"}], "max_completion_tokens": 5} | fields
    return httpx.post(f"{gateway.base}/chat/completions", json=body, timeout=PATIENCE_SECONDS).status_code


def bad_day(gateway: Gateway, first: Upstream, second: Upstream, books: Books) -> None:
    """Answers, failovers, a broken stream, an answer without usage, an outage, and a budget that runs out."""
    assert ask(gateway) == 200
    assert ask(gateway, stream=True) == 200
    first.script.append(vendor.status(500))
    assert ask(gateway) == 200
    first.script.append(vendor.cut_before_answer)
    assert ask(gateway) == 200
    first.script.append(vendor.without_usage)
    assert ask(gateway) == 200
    first.script.append(vendor.cut_stream(1))
    assert ask(gateway, stream=True) == 200
    first.script.append(vendor.status(503))
    second.script.append(vendor.status(503))
    assert ask(gateway) == 503
    books.forget_health()
    with psycopg.connect(books.url, autocommit=True) as connection:
        connection.execute("ALTER FUNCTION ledger_reserve RENAME TO away")
        assert ask(gateway) == 503
        connection.execute("ALTER FUNCTION away RENAME TO ledger_reserve")
    while ask(gateway) == 200:
        pass
    reset = httpx.post(
        f"{gateway.base}/admin/budget/reset", json={"reason": "the day is over"}, timeout=PATIENCE_SECONDS
    )
    assert reset.status_code == 200
    assert ask(gateway) == 200


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Day]:
    home = tmp_path_factory.mktemp("day")
    with running_upstream() as first, running_upstream() as second:
        variables = {
            "AI_MODE": "hybrid",
            "AI_FALLBACK_CHAIN": "openai,vllm",
            "OPENAI_API_KEY": "sk-x",
            "OPENAI_BASE_URL": first.url,
            "OPENAI_SOTA_MODEL": "m",
            "VLLM_BASE_URL": second.url,
            "VLLM_MODEL": "v",
            "OLLAMA_BASE_URL": "http://127.0.0.1:9",
            "AI_PRICE_OVERRIDES": PRICES,
            "AI_MONTHLY_BUDGET_USD": "1.5",
            "OPENAI_TEMPLATE_TOKENS": "96",
            "VLLM_TEMPLATE_TOKENS": "96",
            "LOCAL_CONCURRENCY": "1",
            "FUSEWIRE_METRICS_NAMESPACE": "fusewire/test",
        }
        with running_gateway(home, **variables) as gateway:
            pid_file = (home / "fusewire" / "postgres" / "postmaster.pid").read_text().splitlines()
            books = Books(f"host={pid_file[4]} port={pid_file[3]} user=postgres dbname=fusewire")
            bad_day(gateway, first, second, books)
            eventually(lambda: len(gateway.events("circuit_breaker.manual_reset")) == 1)
            books.balance()
            yield Day(home / "stdout", books, gateway.base.removesuffix("/api/v1"))


def test_spend_by_provider_is_the_ledgers_to_the_last_digit(day: Day) -> None:
    spend: dict[str, Decimal] = {}
    for row in day.ask("spend"):
        assert re.fullmatch(r"20\d\d-\d\d-\d\d 00:00:00", row["day"])
        spend[row["provider"]] = spend.get(row["provider"], Decimal(0)) + row["usd"]
    booked = day.books.rows("SELECT provider, sum(cost) FROM ledger WHERE cost IS NOT NULL GROUP BY provider")
    assert spend == dict(booked)
    tokens = sum(row["input"] + row["output"] for row in day.ask("spend"))
    assert tokens == day.books.one("SELECT sum(input_tokens + output_tokens) FROM ledger")


def test_who_spent_it_adds_up_to_the_same(day: Day) -> None:
    by_model = {row["model"]: row["usd"] for row in day.ask("spenders")}
    assert by_model == dict(day.books.rows("SELECT model, sum(coalesce(cost, 0)) FROM ledger GROUP BY model"))


def test_the_failing_providers_are_those_whose_attempts_failed(day: Day) -> None:
    failing: dict[str, tuple[int, Decimal]] = {}
    for row in day.ask("failures"):
        failures, usd = failing.get(row["provider"], (0, Decimal(0)))
        failing[row["provider"]] = failures + row["failures"], usd + row["usd"]
    booked = day.books.rows(
        "SELECT provider, count(*), sum(coalesce(cost, 0)) FROM ledger WHERE outcome <> 'success' GROUP BY provider"
    )
    assert failing == {provider: (count, usd) for provider, count, usd in booked}
    # The log has what broke a stream, and the ledger books it as one that had begun.
    outcomes = {outcome for (outcome,) in day.books.rows("SELECT outcome FROM ledger")}
    assert {row["kind"] for row in day.ask("failures")} == outcomes - {"success", "stream_broken_late"}
    assert all(row["message"] for row in day.ask("failures"))


def test_who_tripped_the_breaker_is_who_crossed_the_thresholds(day: Day) -> None:
    threshold_events = day.books.rows(
        "SELECT l.request_id, l.provider, l.model, l.cost "
        "FROM budget_threshold_event t JOIN ledger l ON l.id = t.entry_id"
    )
    assert threshold_events
    rows = [(row["request_id"], row["provider"], row["model"], row["usd"]) for row in day.ask("breaker")]
    assert sorted(rows) == sorted(set(threshold_events))
    assert all(row["usage"] >= Decimal("0.8") for row in day.ask("breaker"))


def test_the_resets_and_threshold_events_are_in_order(day: Day) -> None:
    rows = day.ask("windows")
    events = [row["event"] for row in rows]
    assert sorted(events[:2]) == ["audit", "circuit_breaker.manual_reset"]
    assert set(events[2:]) <= {"circuit_breaker.alert", "circuit_breaker.opened"} and events[2:]
    [audited] = [row for row in rows if row["event"] == "audit"]
    assert audited["before.spent_usd"] == day.books.one("SELECT spent FROM budget_window ORDER BY id LIMIT 1")
    assert audited["reason"] == "the day is over"


def test_the_blocked_calls_are_those_that_were_refused(day: Day) -> None:
    [row] = day.ask("blocked")
    assert (row["code"], row["reason"], row["calls"]) == ("budget_exceeded", "budget global", 1)


def test_the_slowest_calls_come_first(day: Day) -> None:
    times = [row["latency_ms"] for row in day.ask("slowest")]
    assert times == sorted(times, reverse=True)
    assert len(times) == min(day.books.one("SELECT count(*) FROM ledger WHERE outcome = 'success'"), 20)
    assert max(row["longest"] for row in day.ask("latency")) == times[0]
    assert all(row["p50"] <= row["p95"] <= row["longest"] for row in day.ask("latency"))


def test_one_requests_story_has_every_attempt_in_order(day: Day) -> None:
    request_id = day.books.one("SELECT request_id FROM ledger WHERE outcome = 'connection_lost'")
    events = [(row["event"], row.get("attempt")) for row in day.ask("request", request_id)]
    assert events == [("router.provider_failed", 1), ("ledger.settled_at_bound", 1), ("router.success", 2)]


def test_the_audit_trail_is_the_tables(day: Day) -> None:
    logged = [(row["action"], row["actor"], row["source_ip"], row["request_id"]) for row in day.ask("audit")]
    kept = day.books.rows("SELECT action, actor, source_ip, request_id FROM audit")
    assert logged == kept


def test_the_calls_at_their_bound_are_the_ledgers(day: Day) -> None:
    by_provider = {row["provider"]: Decimal(0) for row in day.ask("bounds")}
    for row in day.ask("bounds"):
        by_provider[row["provider"]] += row["usd"]
    booked = day.books.rows("SELECT provider, sum(cost) FROM ledger WHERE cost_basis = 'bound' GROUP BY provider")
    assert by_provider == dict(booked)
    kinds = {row["kind"] for row in day.ask("bounds")}
    assert {"connection_lost", "no_usage"} == kinds


def test_an_outage_of_the_ledger_has_its_reason(day: Day) -> None:
    rows = day.ask("ledger")
    assert {row["reason"] for row in rows} == {"UndefinedFunction"}
    assert sum(row["times"] for row in rows) == 1


def test_the_latest_trouble_comes_first_and_has_no_success_in_it(day: Day) -> None:
    rows = day.ask("trouble")
    stamps = [row["@timestamp"] for row in rows]
    assert stamps == sorted(stamps, reverse=True)
    assert {row["level"] for row in rows} == {"WARNING", "ERROR"}


def test_the_metrics_of_the_day_add_up_to_the_ledger(day: Day) -> None:
    def added_up(name: str, dimensions: str) -> Any:  # noqa: ANN401 - a number
        query = parse(f'filter event = "metrics" | stats sum({name}) as total by {dimensions}')
        with day.log.open() as lines:
            return {row.get(dimensions): row["total"] for row in query.run(lines) if "total" in row}

    by_provider = added_up("Spend", "provider")
    whole = by_provider.pop(None)
    booked = dict(day.books.rows("SELECT provider, sum(coalesce(cost, 0)) FROM ledger GROUP BY provider"))
    assert by_provider == booked
    assert whole == sum(booked.values())
    assert added_up("Failures", "provider")["openai"] == day.books.one(
        "SELECT count(*) FROM ledger WHERE provider = 'openai' AND outcome <> 'success'"
    )


@pytest.mark.parametrize("name", QUERIES)
def test_every_query_has_a_result(day: Day, name: str) -> None:
    request_id = day.ask("slowest")[0]["request_id"]
    rows = day.ask(name, request_id)
    assert rows
    columns = parse(QUERIES[name]).columns
    assert columns is not None
    assert all(row.keys() <= set(columns) for row in rows)


# --- on a laptop ---


def manual_commands() -> dict[str, str]:
    """The manual's command for each query, in the lines that end with the query's name as a comment."""
    commands: dict[str, str] = {}
    for block in blocks(OPERATIONS[0]):
        before = ""
        for line in block.text.splitlines():
            named = re.fullmatch(r"(.+) # (\w+)(?::.*)?", line)
            if named and named[2] in QUERIES:
                commands[named[2]] = before + named[1]
                before = ""
            else:
                before += line + "\n"
    return commands


def laptop(day: Day, name: str) -> str:
    """What the manual's command prints."""
    command = manual_commands()[name].replace("fusewire.log", str(day.log))
    ran = subprocess.run(  # noqa: S603 - what our own manual says
        ["bash", "-euo", "pipefail", "-c", command],  # noqa: S607
        cwd=PROJECT,
        env={**os.environ, "FUSEWIRE_URL": day.address},
        capture_output=True,
        text=True,
        check=True,
    )
    return ran.stdout


def test_the_manual_has_a_command_for_each_query() -> None:
    assert manual_commands().keys() == QUERIES.keys()


@pytest.mark.parametrize("name", QUERIES)
def test_each_question_has_an_answer_on_a_laptop(day: Day, name: str) -> None:
    if manual_commands()[name].startswith("jq") and shutil.which("jq") is None:
        pytest.skip("there is no jq on this machine")
    assert laptop(day, name).strip()


def test_the_laptops_answers_are_the_queries(day: Day) -> None:
    spend = {provider: Decimal(0) for provider in ("openai", "vllm")}
    for row in day.ask("spend"):
        spend[row["provider"]] += row["usd"]
    table = laptop(day, "spend")
    assert all(re.search(rf"{provider} .*\b{amount.normalize():f}", table) for provider, amount in spend.items())
    failed: dict[str, int] = {}
    for row in day.ask("failures"):
        pair = f'"provider":"{row["provider"]}"\t"kind":"{row["kind"]}"'
        failed[pair] = failed.get(pair, 0) + row["failures"]
    lines = [line.strip().partition(" ") for line in laptop(day, "failures").splitlines()]
    assert {pair: int(number) for number, _, pair in lines} == failed
    assert len(laptop(day, "ledger").splitlines()) == sum(row["times"] for row in day.ask("ledger"))


@pytest.mark.skipif(shutil.which("jq") is None, reason="there is no jq on this machine")
def test_jqs_answers_are_the_queries(day: Day) -> None:
    slowest = [line.split("\t") for line in laptop(day, "slowest").splitlines()]
    assert [int(row[0]) for row in slowest] == [row["latency_ms"] for row in day.ask("slowest")]
    latency = [line.split("\t") for line in laptop(day, "latency").splitlines()]
    assert sorted((provider, model, int(calls), int(p95)) for provider, model, calls, p95 in latency) == sorted(
        (row["provider"], row["model"], row["calls"], row["p95"]) for row in day.ask("latency")
    )
