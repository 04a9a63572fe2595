"""The metrics of real calls: each adds up to what the ledger booked, and without a namespace there are none."""

from decimal import Decimal

import pytest

from tests.integration.ai.observing import Books, LogLines
from tests.integration.functions.conftest import Functions, asked, sample
from tests.support.upstream import Upstream, cut_stream, hang, status, without_usage


def added_up(log: LogLines, name: str, provider: str | None = None) -> Decimal:
    lines = [line for line in log.events("metrics") if line.get("provider") == provider]
    return Decimal(sum(line.get(name, 0) for line in lines))


@pytest.fixture
def measured(functions: Functions) -> Functions:
    functions.set(FUSEWIRE_METRICS_NAMESPACE="fusewire/test", LOG_LEVEL="ERROR")
    return functions


def test_the_spend_of_a_day_of_trouble_is_the_ledgers(
    measured: Functions, upstream: Upstream, second_upstream: Upstream, books: Books, log: LogLines
) -> None:
    measured.set(AI_REQUEST_TIMEOUT_SECONDS="2")
    for reply in (status(503), hang(5), without_usage):
        upstream.script.append(reply)
        measured("complete", asked())
    list(measured.stream("complete", asked(stream=True)).chunks)
    upstream.script.append(cut_stream(1))
    list(measured.stream("complete", asked(stream=True)).chunks)
    measured("embed", sample("embed", {"model": "sota", "input": "x"}))
    books.check()
    assert added_up(log, "Spend") == books.spent() > 0
    for provider in ("azure", "openai"):
        booked = [entry["cost"] or 0 for entry in books.entries() if entry["provider"] == provider]
        assert added_up(log, "Spend", provider) == sum(booked)
    assert added_up(log, "Failures", "azure") == 3
    assert added_up(log, "SettledAtBound") == len([e for e in books.entries() if e["cost_basis"] == "bound"]) == 3
    assert added_up(log, "Requests") == 6
    [last] = [line for line in log.events("metrics") if "UsageRatio" in line][-1:]
    assert last["UsageRatio"] == (books.spent() / 500).quantize(Decimal("0.000001"))
    assert last["Reserved"] == 0


def test_overhead_leaves_the_providers_time_out_and_a_stream_has_a_first_token(
    measured: Functions, upstream: Upstream, log: LogLines
) -> None:
    upstream.delay = 0.3
    measured("complete", asked())
    list(measured.stream("complete", asked(stream=True)).chunks)
    whole, streamed = [line for line in log.events("metrics") if "Requests" in line]
    assert whole["Latency"] - whole["Overhead"] >= 250
    assert "TimeToFirstToken" not in whole
    assert streamed["TimeToFirstToken"] - streamed["Overhead"] >= 100  # the delay is spread over the words


def test_refusals_and_outages_are_counted(measured: Functions, upstream: Upstream, log: LogLines) -> None:
    measured.set(AI_FALLBACK_CHAIN="azure", OPENAI_API_KEY="", AI_MONTHLY_BUDGET_USD="0.000001")
    assert measured("complete", asked())["statusCode"] == 402
    measured.set(AI_MONTHLY_BUDGET_USD="500")
    upstream.script.append(status(503))
    assert measured("complete", asked())["statusCode"] == 503
    measured.set(DATABASE_URL="postgresql://127.0.0.1:1/nowhere")
    assert measured("complete", asked())["statusCode"] == 503
    counted = {name: added_up(log, name) for name in ("Blocked", "AllProvidersFailed", "LedgerErrors", "Requests")}
    assert counted == {"Blocked": 1, "AllProvidersFailed": 1, "LedgerErrors": 1, "Requests": 3}


def test_a_reset_lowers_the_ratio_at_once(measured: Functions, log: LogLines) -> None:
    measured("complete", asked())
    measured("admin_budget", sample("admin_budget_reset"))
    measured("complete", asked())
    measured("monthly_reset", sample("monthly_reset") | {"time": "2999-01-01T00:00:00Z"})
    ratios = [line["UsageRatio"] for line in log.events("metrics") if "UsageRatio" in line]
    assert [ratio > 0 for ratio in ratios] == [True, False, True, False]


def test_a_call_without_anything_to_measure_has_no_metric_line(measured: Functions, log: LogLines) -> None:
    measured("health", sample("health"))
    measured("models", sample("models"))
    measured("complete", asked(model=3))
    assert log.events("metrics") == []


def test_without_a_namespace_there_is_no_metric_line(functions: Functions, log: LogLines) -> None:
    functions("complete", asked())
    list(functions.stream("complete", asked(stream=True)).chunks)
    assert log.events("router.success") and not log.events("metrics")
