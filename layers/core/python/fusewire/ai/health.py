"""What is known of each provider's health: from Postgres, where every execution environment notes it, or by a probe."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Literal

from fusewire.ai.failures import FailureKind
from fusewire.ai.provider import AIProvider
from fusewire.ai.registry import Registry
from fusewire.ai.tiers import Tiers
from fusewire.budget.wire import PROVIDER_HEALTH, HealthRow

if TYPE_CHECKING:
    from fusewire.ai.caller import Caller
    from fusewire.ai.router import Router
    from fusewire.store.db import Database

Status = Literal["ok", "unknown", "cooling_down", "credential_rejected", "unconfigured"]


@dataclass(frozen=True, slots=True)
class LastFailure:
    """What went wrong last; times are ISO 8601."""

    at: str
    kind: str | None
    message: str
    """With the settings to look at."""


@dataclass(frozen=True, slots=True)
class ProviderHealth:
    """How a provider is doing; times are ISO 8601."""

    status: Status
    cooldown_until: str | None
    """None for a cooldown that is over."""
    last_success_at: str | None
    last_failure: LastFailure | None


@dataclass(frozen=True, slots=True)
class Probe:
    """How a provider answered just now, at what cost in USD."""

    answered: bool
    message: str
    cost: Decimal


def stored_health(database: "Database") -> Mapping[str, HealthRow]:
    """By each provider that was called the row that the ledger keeps of it.

    :raises LedgerUnavailableError: when Postgres can't be reached
    """
    return database.call(PROVIDER_HEALTH, {})


def health_of(provider: AIProvider, row: HealthRow) -> ProviderHealth:
    """:param row: of `stored_health`; empty for a provider that nobody has called yet"""
    cooling, failed_at = _is_future(row.get("cooldown_until")), row.get("last_failure_at")
    return ProviderHealth(
        status="unconfigured" if provider.missing() else _status(row, cooling=cooling),
        cooldown_until=row["cooldown_until"] if cooling else None,
        last_success_at=row.get("last_success_at"),
        last_failure=LastFailure(failed_at, row.get("last_failure_kind"), _with_settings(provider, row))
        if failed_at
        else None,
    )


def probe_all(router: "Router", registry: Registry, tiers: Tiers, caller: "Caller") -> dict[str, Probe]:
    """Probe one provider after the other, each metered, with an even share of the caller's time.

    :return: by the id of each provider that is configured and that AI_MODE permits
    """
    end = time.monotonic() + caller.remaining_seconds
    permitted = {name: p for name, p in registry.configured.items() if tiers.permits(p)}
    probes: dict[str, Probe] = {}
    for name, provider in permitted.items():
        share = (end - time.monotonic()) / (len(permitted) - len(probes))
        probes[name] = Probe(*router.probe(provider, replace(caller, remaining_seconds=share)))
    return probes


def _with_settings(provider: AIProvider, row: HealthRow) -> str:
    """What went wrong, and the settings to look at, unless the provider named them itself."""
    kind, message = row.get("last_failure_kind"), str(row.get("last_failure_message"))
    v = provider.variables
    found: tuple[str | None, ...] = ()
    if kind in (FailureKind.CREDENTIAL_REJECTED, FailureKind.OUT_OF_CREDIT):
        found = (v.credential,)
    elif kind in (FailureKind.MODEL_NOT_FOUND, FailureKind.MODEL_DENIED):
        found = (v.sota, v.cost_effective, v.embedding)
    elif kind in (FailureKind.CONNECT_FAILED, FailureKind.CONNECT_TIMEOUT):
        found = (v.endpoint,)
    names = [name for name in dict.fromkeys(found) if name]
    return message if not names or "; see " in message else f"{message}; see {', '.join(names)}"


def _status(row: HealthRow, *, cooling: bool) -> Status:
    succeeded, failed = row.get("last_success_at"), row.get("last_failure_at")
    # The last success is kept to within seconds, so a failure that no cooldown followed says little.
    last_word_is_failure = failed is not None and (succeeded is None or _time(failed) > _time(succeeded))
    if last_word_is_failure and row.get("last_failure_kind") == FailureKind.CREDENTIAL_REJECTED:
        return "credential_rejected"
    if cooling:
        return "cooling_down"
    return "ok" if succeeded is not None and not last_word_is_failure else "unknown"


def _is_future(text: str | None) -> bool:
    return text is not None and _time(text) > datetime.now(UTC)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
