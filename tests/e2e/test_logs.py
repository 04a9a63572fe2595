"""The saved queries over the log of a bad day at a real gateway: what each answers is what the ledger's books say.

The same text runs in CloudWatch Logs Insights; here it is asked as an operator asks it, through `python -m local.logs`.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from local.insights import Row, parse
from local.logs import main
from local.template import saved_queries
from tests.support import upstream as vendor
from tests.support.gateway import PROJECT, Books, Gateway, eventually, running_gateway
from tests.support.upstream import Upstream, running_upstream

PRICES = '{"openai/m": {"input_mtok": 1000, "output_mtok": 10000}, "vllm/v": {"input_mtok": 500, "output_mtok": 5000}}'
QUERIES = saved_queries(PROJECT / "infra/template.yaml")


class Day:
    """What a gateway logged in a day with every kind of trouble, and its books."""

    def __init__(self, log: Path, books: Books) -> None:
        self.log, self.books = log, books

    def ask(self, name: str, request_id: str = "") -> list[Row]:
        """A query's answer."""
        with self.log.open() as lines:
            return parse(QUERIES[name].replace("REQUEST_ID", request_id)).run(lines)


def ask(gateway: Gateway, **fields: object) -> int:
    body = {"model": "sota", "messages": [{"role": "user", "content": "hi"}], "max_completion_tokens": 5} | fields
    return httpx.post(f"{gateway.base}/chat/completions", json=body, timeout=30).status_code


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
    reset = httpx.post(f"{gateway.base}/admin/budget/reset", json={"reason": "the day is over"}, timeout=30)
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
            "LOCAL_CONCURRENCY": "1",
            "FUSEWIRE_METRICS_NAMESPACE": "fusewire/test",
        }
        with running_gateway(home, **variables) as gateway:
            pid_file = (home / "fusewire" / "postgres" / "postmaster.pid").read_text().splitlines()
            books = Books(f"host={pid_file[4]} port={pid_file[3]} user=postgres dbname=fusewire")
            bad_day(gateway, first, second, books)
            eventually(lambda: len(gateway.events("circuit_breaker.manual_reset")) == 1)
            books.balance()
            yield Day(home / "stdout", books)


def test_spend_by_provider_is_the_ledgers_to_the_last_digit(day: Day) -> None:
    told: dict[str, Decimal] = {}
    for row in day.ask("spend"):
        assert re.fullmatch(r"20\d\d-\d\d-\d\d 00:00:00", row["day"])
        told[row["provider"]] = told.get(row["provider"], Decimal(0)) + row["usd"]
    booked = day.books.rows("SELECT provider, sum(cost) FROM ledger WHERE cost IS NOT NULL GROUP BY provider")
    assert told == dict(booked)
    tokens = sum(row["input"] + row["output"] for row in day.ask("spend"))
    assert tokens == day.books.one("SELECT sum(input_tokens + output_tokens) FROM ledger")


def test_who_spent_it_adds_up_to_the_same(day: Day) -> None:
    told = {row["model"]: row["usd"] for row in day.ask("spenders")}
    assert told == dict(day.books.rows("SELECT model, sum(coalesce(cost, 0)) FROM ledger GROUP BY model"))


def test_the_failing_providers_are_those_whose_attempts_failed(day: Day) -> None:
    told: dict[str, tuple[int, Decimal]] = {}
    for row in day.ask("failures"):
        failures, usd = told.get(row["provider"], (0, Decimal(0)))
        told[row["provider"]] = failures + row["failures"], usd + row["usd"]
    booked = day.books.rows(
        "SELECT provider, count(*), sum(coalesce(cost, 0)) FROM ledger WHERE outcome <> 'success' GROUP BY provider"
    )
    assert told == {provider: (count, usd) for provider, count, usd in booked}
    # A stream that broke is told by what broke it, and booked as one that had begun.
    outcomes = {outcome for (outcome,) in day.books.rows("SELECT outcome FROM ledger")}
    assert {row["kind"] for row in day.ask("failures")} == outcomes - {"success", "stream_broken_late"}
    assert all(row["message"] for row in day.ask("failures"))


def test_who_tripped_the_breaker_is_who_crossed_the_thresholds(day: Day) -> None:
    crossings = day.books.rows(
        "SELECT l.request_id, l.provider, l.model, l.cost FROM budget_crossing c JOIN ledger l ON l.id = c.entry_id"
    )
    assert crossings
    told = [(row["request_id"], row["provider"], row["model"], row["usd"]) for row in day.ask("breaker")]
    assert sorted(told) == sorted(set(crossings))
    assert all(row["usage"] >= Decimal("0.8") for row in day.ask("breaker"))


def test_the_resets_and_crossings_are_told_in_order(day: Day) -> None:
    told = day.ask("windows")
    events = [row["event"] for row in told]
    assert sorted(events[:2]) == ["audit", "circuit_breaker.manual_reset"]
    assert set(events[2:]) <= {"circuit_breaker.alert", "circuit_breaker.opened"} and events[2:]
    [audited] = [row for row in told if row["event"] == "audit"]
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
    told = [(row["event"], row.get("attempt")) for row in day.ask("request", request_id)]
    assert told == [("router.provider_failed", 1), ("ledger.settled_at_bound", 1), ("router.success", 2)]


def test_the_audit_trail_is_the_tables(day: Day) -> None:
    told = [(row["action"], row["actor"], row["source_ip"], row["request_id"]) for row in day.ask("audit")]
    kept = day.books.rows("SELECT action, actor, source_ip, request_id FROM audit")
    assert told == kept


def test_the_calls_at_their_bound_are_the_ledgers(day: Day) -> None:
    told = {row["provider"]: Decimal(0) for row in day.ask("bounds")}
    for row in day.ask("bounds"):
        told[row["provider"]] += row["usd"]
    booked = day.books.rows("SELECT provider, sum(cost) FROM ledger WHERE cost_basis = 'bound' GROUP BY provider")
    assert told == dict(booked)
    kinds = {row["kind"] for row in day.ask("bounds")}
    assert {"connection_lost", "no_usage"} == kinds


def test_an_outage_of_the_ledger_is_told_with_its_reason(day: Day) -> None:
    told = day.ask("ledger")
    assert {row["reason"] for row in told} == {"UndefinedFunction"}
    assert sum(row["times"] for row in told) == 1


def test_the_latest_trouble_comes_first_and_has_no_success_in_it(day: Day) -> None:
    told = day.ask("trouble")
    stamps = [row["@timestamp"] for row in told]
    assert stamps == sorted(stamps, reverse=True)
    assert {row["level"] for row in told} == {"WARNING", "ERROR"}


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
def test_every_question_has_an_answer_in_columns(day: Day, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, str(day.log), day.ask("slowest")[0]["request_id"]]) == 0
    told = capsys.readouterr()
    assert told.err == ""
    head, *rows = told.out.splitlines()
    assert tuple(head.split()) == parse(QUERIES[name]).columns
    assert rows


def test_make_logs_reads_a_pipe(day: Day) -> None:
    with day.log.open() as lines:
        told = subprocess.run(
            [sys.executable, "-m", "local.logs", "spend"],
            cwd=PROJECT,
            stdin=lines,
            capture_output=True,
            text=True,
            check=True,
        )
    head, *rows = told.stdout.splitlines()
    assert head.split() == ["day", "provider", "usd", "attempts", "input", "output"]
    assert len(rows) == len(day.ask("spend"))


def test_what_cant_be_asked_is_told_in_a_line(day: Day, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(QUERIES)
    assert main(["nonsense", str(day.log)]) == 2
    assert capsys.readouterr().err == "There is no question called nonsense. Those that there are:\n"
    assert main(["request", str(day.log)]) == 2
    assert "ID=" in capsys.readouterr().err
    assert main(["spend", "no-such-file"]) == 1
    assert capsys.readouterr().err == "The log no-such-file can't be read (No such file or directory).\n"
