"""CloudWatch metrics in the embedded metric format: one line of the log at a request's end.

Counts and amounts come from the log's own events (`logs.event` passes each on, whatever the level), so a metric can't
say anything else than the log. Written by hand: Powertools' Metrics would turn money into floats, print lines without
`event`, and cost as much to import. Without a namespace nothing is kept and nothing printed.

Dimensions: each metric has `service`; what is known by provider has `service` and `provider`, in a line of its own,
because a property of a line has one value. An alarm must name a metric's whole set.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

METRICS: Final[Mapping[str, str]] = {
    "Requests": "Count",
    "Blocked": "Count",
    "AllProvidersFailed": "Count",
    "LedgerErrors": "Count",
    "SettledAtBound": "Count",
    "FunctionErrors": "Count",
    "KeysExpiring": "Count",
    "KeyBudgetsOpened": "Count",
    "Waited": "Count",
    "Spend": "None",
    "UsageRatio": "None",
    "Reserved": "None",
    "Latency": "Milliseconds",
    "WaitTime": "Milliseconds",
    "Overhead": "Milliseconds",
    "TimeToFirstToken": "Milliseconds",
}
"""The metrics by `service`, with their units; amounts are USD, which CloudWatch has no unit for."""

BY_PROVIDER: Final[Mapping[str, str]] = {"Spend": "None", "Failures": "Count"}
"""Those by `service` and `provider`."""

_COUNTED: Final = {
    "circuit_breaker.blocked": "Blocked",
    "router.all_failed": "AllProvidersFailed",
    "ledger.unavailable": "LedgerErrors",
    "ledger.settled_at_bound": "SettledAtBound",
    "function.error": "FunctionErrors",
    "provider.key_expiring": "KeysExpiring",
}
_END_OF_WAIT: Final = {"router.success", "circuit_breaker.blocked", "admission.caller_left"}
_BOOKING: Final = {"router.success", "router.provider_failed"}
# For these kinds that line is the only one with the cost; for the others it repeats the attempt's.
_BOOKED_IN_NO_OTHER_LINE: Final = {"expired", "abandoned"}
# Caused by the caller, so it says nothing about the provider.
_CAUSED_BY_CALLER: Final = {
    *("rejected_request", "field_refused", "unknown_refusal", "output_cap_reached", "prompt_refused", "content_policy"),
    *("too_large", "input_too_long", "model_not_priced", "model_not_bounded"),
}


@dataclass(slots=True)
class _Request:
    """What is known of the request so far."""

    started: float
    provider_seconds: float = 0.0
    values: dict[str, int | Decimal] = field(default_factory=dict)
    spend: dict[str, Decimal] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)

    def add(self, name: str, amount: int | Decimal = 1) -> None:
        self.values[name] = self.values.get(name, 0) + amount


_namespace: str | None = None
_request: Final[ContextVar[_Request | None]] = ContextVar("metrics", default=None)
"""Of the call that this thread is at."""


def configure(namespace: str | None) -> None:
    """Name the CloudWatch namespace for this process's metrics; None for no metrics."""
    global _namespace
    _namespace = namespace


def begin() -> None:
    """A request starts; what the one before didn't print is dropped."""
    _request.set(_Request(time.perf_counter()) if _namespace else None)


def count(name: str) -> None:
    """One more of a metric that counts."""
    if (request := _request.get()) is not None:
        request.add(name)


def budget(usage_ratio: Callable[[], Decimal], reserved: Decimal) -> None:
    """The state of the company's budget; the last call within a request counts.

    :param usage_ratio: not called where no metrics are kept
    :param reserved: in USD
    """
    if (request := _request.get()) is not None:
        request.values |= {"UsageRatio": usage_ratio(), "Reserved": reserved}


@contextmanager
def provider_time() -> Iterator[None]:
    """Measure a provider's time: it isn't overhead."""
    started = time.perf_counter()
    try:
        yield
    finally:
        if (request := _request.get()) is not None:
            request.provider_seconds += time.perf_counter() - started


def mark_first_byte(*, streamed: bool) -> None:
    """The first byte of the response is ready: the time until now, less the providers', is overhead."""
    request = _request.get()
    if request is not None and "Requests" in request.values:
        elapsed = time.perf_counter() - request.started
        request.values["Overhead"] = _milliseconds(elapsed - request.provider_seconds)
        if streamed:
            request.values["TimeToFirstToken"] = _milliseconds(elapsed)


def observe(event: str, fields: Mapping[str, Any]) -> None:
    """Count and add up what a log event reports."""
    request = _request.get()
    if request is None:
        return
    if event in _COUNTED and fields.get("code") != "model_not_found":  # a caller who makes up a model is no outage
        request.add(_COUNTED[event])
    if event == "circuit_breaker.opened" and fields.get("key_id") is not None:
        request.add("KeyBudgetsOpened")
    kind = fields.get("kind")
    if event in _BOOKING or (event == "ledger.settled_at_bound" and kind in _BOOKED_IN_NO_OTHER_LINE):
        provider, cost = str(fields["provider"]), Decimal(fields.get("cost_usd") or 0)
        request.add("Spend", cost)
        request.spend[provider] = request.spend.get(provider, Decimal(0)) + cost
        if event == "router.provider_failed" and kind not in _CAUSED_BY_CALLER:
            request.failures[provider] = request.failures.get(provider, 0) + 1
    if event in _END_OF_WAIT and fields.get("waited_ms") is not None:
        request.values |= {"Waited": 1, "WaitTime": fields["waited_ms"]}
    if event == "router.success":
        request.values["Latency"] = fields["latency_ms"]


def end() -> list[dict[str, object]]:
    """The request is over: its documents, without what every log line has. None where nothing was measured."""
    ended = _request.get()
    _request.set(None)
    if ended is None or not ended.values:
        return []
    documents = [_document(ended.values, METRICS)]
    for provider in dict.fromkeys((*ended.spend, *ended.failures)):
        values: dict[str, int | Decimal] = {"Spend": ended.spend.get(provider, Decimal(0))}
        if provider in ended.failures:
            values["Failures"] = ended.failures[provider]
        documents.append(_document(values, BY_PROVIDER, provider=provider))
    return documents


def _document(values: Mapping[str, int | Decimal], units: Mapping[str, str], **dimensions: str) -> dict[str, object]:
    directive = {
        "Namespace": _namespace,
        "Dimensions": [["service", *dimensions]],
        "Metrics": [{"Name": name, "Unit": units[name]} for name in values],
    }
    metadata = {"Timestamp": time.time_ns() // 1_000_000, "CloudWatchMetrics": [directive]}
    return {"_aws": metadata, **dimensions, **values}


def _milliseconds(seconds: float) -> Decimal:
    """To a tenth."""
    return Decimal(round(max(seconds, 0.0) * 10_000)).scaleb(-1)
