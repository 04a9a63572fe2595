"""What a request's events add up to, and that it comes out as CloudWatch reads it."""

import io
import json
import logging
import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from fusewire import logs, metrics
from fusewire.ai.failures import CONSEQUENCES, Health


@pytest.fixture(autouse=True)
def wanted() -> Iterator[None]:
    metrics.configure("fusewire/test")
    metrics.begin()
    yield
    metrics.configure(None)
    metrics.begin()


def values(document: dict[str, Any]) -> dict[str, object]:
    return {name: value for name, value in document.items() if name not in ("_aws", "provider")}


def result() -> list[tuple[str | None, dict[str, object]]]:
    """(provider, values) of each document."""
    documents: list[dict[str, Any]] = metrics.end()
    return [(each.get("provider"), values(each)) for each in documents]


def test_a_call_over_two_providers_is_one_document_and_one_for_each_of_them() -> None:
    metrics.count("Requests")
    failed = {"provider": "azure", "kind": "read_timeout", "cost_usd": Decimal("0.3")}
    metrics.observe("router.provider_failed", failed)
    metrics.observe("ledger.settled_at_bound", failed)
    metrics.budget(lambda: Decimal("0.1"), Decimal("0.7"))
    metrics.observe("router.success", {"provider": "openai", "cost_usd": Decimal("0.01"), "latency_ms": 12})
    metrics.budget(lambda: Decimal("0.4"), Decimal(0))
    whole = {"Requests": 1, "Spend": Decimal("0.31"), "SettledAtBound": 1, "UsageRatio": Decimal("0.4"), "Latency": 12}
    assert result() == [
        (None, whole | {"Reserved": 0}),
        ("azure", {"Spend": Decimal("0.3"), "Failures": 1}),
        ("openai", {"Spend": Decimal("0.01")}),
    ]


def test_a_key_that_expires_and_a_keys_budget_that_opens_are_counted() -> None:
    metrics.observe("provider.key_expiring", {"provider": "openai", "expires_on": "2026-12-01"})
    metrics.observe("circuit_breaker.opened", {"key_id": "key_a", "usage_ratio": Decimal(1)})
    metrics.observe("circuit_breaker.opened", {"key_id": None, "usage_ratio": Decimal(1)})
    assert result() == [(None, {"KeysExpiring": 1, "KeyBudgetsOpened": 1})]


@pytest.mark.parametrize(("kind", "spend"), [("expired", 2), ("abandoned", 2), ("no_usage", None)])
def test_a_bound_is_counted_as_spent_where_no_other_line_has_it(kind: str, spend: int | None) -> None:
    metrics.observe("ledger.settled_at_bound", {"provider": "p", "kind": kind, "cost_usd": Decimal(2)})
    [(_, whole), *by_provider] = result()
    assert (whole["SettledAtBound"], whole.get("Spend")) == (1, spend)
    assert by_provider == ([("p", {"Spend": 2})] if spend else [])


@pytest.mark.parametrize(
    ("event", "name"),
    [
        ("circuit_breaker.blocked", "Blocked"),
        ("router.all_failed", "AllProvidersFailed"),
        ("ledger.unavailable", "LedgerErrors"),
        ("function.error", "FunctionErrors"),
    ],
)
def test_an_alarming_event_is_counted(event: str, name: str) -> None:
    metrics.observe(event, {"code": "whatever", "cost_usd": Decimal(9)})
    metrics.observe(event, {})
    assert result() == [(None, {name: 2})]


def test_what_a_caller_does_wrong_alarms_nobody() -> None:
    metrics.observe("router.all_failed", {"code": "model_not_found"})
    untouched = [kind for kind, consequence in CONSEQUENCES.items() if consequence.health is Health.UNTOUCHED]
    for kind in untouched:
        metrics.observe("router.provider_failed", {"provider": "p", "kind": kind.value, "cost_usd": Decimal(0)})
    assert result() == [(None, {"Spend": 0}), ("p", {"Spend": 0})]


def test_an_event_that_measures_nothing_makes_no_document() -> None:
    for event in ("audit", "provider.cooldown", "circuit_breaker.manual_reset"):
        metrics.observe(event, {"cost_usd": Decimal(1)})
    assert result() == []


def test_overhead_is_what_providers_didnt_take() -> None:
    metrics.count("Requests")
    with metrics.provider_time():
        time.sleep(0.1)
    time.sleep(0.02)
    metrics.mark_first_byte(streamed=True)
    [(_, whole)] = result()
    overhead, first = whole["Overhead"], whole["TimeToFirstToken"]
    assert isinstance(overhead, Decimal) and isinstance(first, Decimal)
    assert 20 <= overhead <= first - 100


def test_a_provider_that_fails_had_its_turn_too() -> None:
    metrics.count("Requests")
    with pytest.raises(KeyError), metrics.provider_time():
        time.sleep(0.1)
        raise KeyError
    metrics.mark_first_byte(streamed=False)
    [(_, whole)] = result()
    assert isinstance(whole["Overhead"], Decimal) and whole["Overhead"] < 100
    assert "TimeToFirstToken" not in whole


def test_what_asks_no_provider_has_no_overhead() -> None:
    metrics.mark_first_byte(streamed=False)
    assert result() == []


def test_a_request_begins_with_nothing_of_the_one_before() -> None:
    metrics.count("Requests")
    metrics.begin()
    metrics.observe("function.error", {})
    assert result() == [(None, {"FunctionErrors": 1})]
    assert result() == []


def test_without_a_namespace_nothing_is_kept() -> None:
    metrics.configure(None)
    metrics.begin()
    metrics.count("Requests")
    metrics.budget(lambda: Decimal(1), Decimal(1))
    metrics.observe("router.success", {})
    metrics.mark_first_byte(streamed=True)
    with metrics.provider_time():
        pass
    assert metrics.end() == []


def test_a_document_is_what_cloudwatch_takes_metrics_from() -> None:
    before = time.time() * 1000
    metrics.observe("router.success", {"provider": "p", "cost_usd": Decimal("0.1"), "latency_ms": 3})
    for document in metrics.end():
        metadata: Any = document["_aws"]
        assert metadata.keys() == {"Timestamp", "CloudWatchMetrics"}
        assert before - 1 <= metadata["Timestamp"] <= time.time() * 1000
        [directive] = metadata["CloudWatchMetrics"]
        assert directive["Namespace"] == "fusewire/test"
        [dimensions] = directive["Dimensions"]
        line = {"service": logs.SERVICE, **document}
        assert all(isinstance(line[name], str) for name in dimensions)
        assert [each["Name"] for each in directive["Metrics"]] == list(values(document))
        units = metrics.BY_PROVIDER if "provider" in dimensions else metrics.METRICS
        assert all(each["Unit"] == units[each["Name"]] for each in directive["Metrics"])


def test_a_metric_line_is_a_log_line_at_every_level_and_its_money_is_exact() -> None:
    stream = io.StringIO()
    handler = logs.logger.registered_handler
    assert isinstance(handler, logging.StreamHandler)
    before, level = handler.setStream(stream), logs.logger.log_level
    try:
        logs.start_request("request-1", "CRITICAL")
        logs.event("router.success", provider="p", cost_usd=Decimal("0.00000012"), latency_ms=1)
        logs.end_request()
    finally:
        handler.setStream(before)
        logs.logger.setLevel(level)
    whole, by_provider = (json.loads(line, parse_float=Decimal) for line in stream.getvalue().splitlines())
    assert list(whole)[:6] == ["timestamp", "level", "event", "request_id", "service", "_aws"]
    assert (whole["event"], whole["level"], whole["request_id"]) == ("metrics", "INFO", "request-1")
    assert whole["Spend"] == by_provider["Spend"] == Decimal("0.00000012")
