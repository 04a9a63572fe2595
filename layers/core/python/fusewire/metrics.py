"""CloudWatch metrics in the embedded metric format: what one request did, as one line of the log at its end.

Counts and amounts come from the log's own events (`logs.event` passes each on, whatever the level), so a metric can't
say anything else than the log. Written by hand: Powertools' Metrics would turn money into floats, print lines without
`event`, and cost as much to import. Without a namespace nothing is kept and nothing printed.

Dimensions: each metric has `service`; what is known by provider has `service` and `provider`, in a line of its own,
because a property of a line has one value. An alarm must name a metric's whole set.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
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
    "Spend": "None",
    "UsageRatio": "None",
    "Reserved": "None",
    "Latency": "Milliseconds",
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
}
_BOOKING: Final = {"router.success", "router.provider_failed"}
# For these the line that says so is the only one with the cost; for the others it repeats the attempt's.
_BOOKED_BY_NOBODY_ELSE: Final = {"expired", "abandoned"}
# The caller's doing, which says nothing of the provider.
_CALLERS: Final = {"rejected_request", "content_policy", "too_large", "input_too_long", "model_not_priced"}


@dataclass(slots=True)
class _Request:
    """What is known of the request so far."""

    started: float
    waited: float = 0.0
    """Seconds spent in providers."""
    values: dict[str, int | Decimal] = field(default_factory=dict)
    spend: dict[str, Decimal] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)

    def add(self, name: str, amount: int | Decimal = 1) -> None:
        self.values[name] = self.values.get(name, 0) + amount


_namespace: str | None = None
_request: _Request | None = None


def into(namespace: str | None) -> None:
    """Name the CloudWatch namespace for this process's metrics; None for no metrics."""
    global _namespace
    _namespace = namespace


def begin() -> None:
    """A request starts; what the one before left unsaid is forgotten."""
    global _request
    _request = _Request(time.perf_counter()) if _namespace else None


def count(name: str) -> None:
    """One more of a metric that counts."""
    if _request is not None:
        _request.add(name)


def budget(usage_ratio: Callable[[], Decimal], reserved: Decimal) -> None:
    """How the company's budget stands; the request's last word counts. `reserved` in USD.

    :param usage_ratio: not asked where no metrics are kept
    """
    if _request is not None:
        _request.values |= {"UsageRatio": usage_ratio(), "Reserved": reserved}


@contextmanager
def waiting() -> Iterator[None]:
    """While a provider has its turn: that time isn't overhead."""
    started = time.perf_counter()
    try:
        yield
    finally:
        if _request is not None:
            _request.waited += time.perf_counter() - started


def answering(*, streamed: bool) -> None:
    """The first byte of the answer can leave: what it took until here, less the providers' time, is overhead."""
    if _request is not None and "Requests" in _request.values:
        elapsed = time.perf_counter() - _request.started
        _request.values["Overhead"] = _milliseconds(elapsed - _request.waited)
        if streamed:
            _request.values["TimeToFirstToken"] = _milliseconds(elapsed)


def observe(event: str, fields: Mapping[str, Any]) -> None:
    """Take from a log event what is measured."""
    if _request is None:
        return
    if event in _COUNTED and fields.get("code") != "model_not_found":  # a caller who makes up a model is no outage
        _request.add(_COUNTED[event])
    kind = fields.get("kind")
    if event in _BOOKING or (event == "ledger.settled_at_bound" and kind in _BOOKED_BY_NOBODY_ELSE):
        provider, cost = str(fields["provider"]), Decimal(fields.get("cost_usd") or 0)
        _request.add("Spend", cost)
        _request.spend[provider] = _request.spend.get(provider, Decimal(0)) + cost
        if event == "router.provider_failed" and kind not in _CALLERS:
            _request.failures[provider] = _request.failures.get(provider, 0) + 1
    if event == "router.success":
        _request.values["Latency"] = fields["latency_ms"]


def end() -> list[dict[str, object]]:
    """The request is over: its documents, without what every log line has. Nothing to tell: none."""
    global _request
    ended, _request = _request, None
    if ended is None or not ended.values:
        return []
    told = [_document(ended.values, METRICS)]
    for provider in dict.fromkeys((*ended.spend, *ended.failures)):
        values: dict[str, int | Decimal] = {"Spend": ended.spend.get(provider, Decimal(0))}
        if provider in ended.failures:
            values["Failures"] = ended.failures[provider]
        told.append(_document(values, BY_PROVIDER, provider=provider))
    return told


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
