"""What is known of each provider's health: from Postgres, where every execution environment notes it, or by a probe."""

import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from fusewire.ai.failures import FailureKind
from fusewire.ai.provider import TIERS, AIProvider
from fusewire.ai.router import Caller

if TYPE_CHECKING:
    from fusewire.services import Services

Status = Literal["ok", "unknown", "cooling_down", "credential_rejected", "unconfigured"]


def providers_report(core: "Services", *, probe_for: Caller | None) -> dict[str, object]:
    """The body of `GET /admin/providers`.

    :param probe_for: who wants each provider called live; None where nobody does
    :raises LedgerUnavailableError: health is kept in Postgres
    """
    probes = _probes(core, probe_for) if probe_for else {}
    noted = core.database.call("SELECT provider_health_json($1::jsonb)", {})
    providers = []
    for name in core.registry.ids():
        described = _describe(core.registry.get(name), noted.get(name, {}))
        providers.append(described | ({"probe": probes.get(name)} if probe_for else {}))
    chain = [p.id for p in core.registry.chain if core.tiers.permits(p)]
    return {"mode": core.settings.ai_mode, "chain": chain, "providers": providers}


def _probes(core: "Services", caller: Caller) -> dict[str, dict[str, object]]:
    """Probes one after the other, each metered, with an even share of the caller's time."""
    end = time.monotonic() + caller.remaining_seconds
    asked = {name: p for name, p in core.registry.configured.items() if core.tiers.permits(p)}
    told: dict[str, dict[str, object]] = {}
    for name, provider in asked.items():
        share = (end - time.monotonic()) / (len(asked) - len(told))
        answered, message, cost = core.router.probe(provider, replace(caller, remaining_seconds=share))
        told[name] = {"ok": answered, "message": message, "cost_usd": cost}
    return told


def _describe(provider: AIProvider, noted: Mapping[str, Any]) -> dict[str, object]:
    missing = provider.missing()
    expires = provider.key_expires_on()
    failed_at = noted.get("last_failure_at")
    cooling = _is_future(noted.get("cooldown_until"))
    return {
        "id": provider.id,
        "local": provider.local,
        "configured": not missing,
        "missing": list(missing),
        "tiers": {tier: provider.tier_model(tier) for tier in TIERS},
        "embedding_model": provider.embedding_model(),
        "status": "unconfigured" if missing else _status(noted, cooling=cooling),
        "cooldown_until": noted["cooldown_until"] if cooling else None,
        "last_success_at": noted.get("last_success_at"),
        "last_failure": failed_at
        and {
            "at": failed_at,
            "kind": noted.get("last_failure_kind"),
            "message": _with_settings(provider, noted),
        },
        "key_expires_on": expires.isoformat() if expires else None,
    }


def _with_settings(provider: AIProvider, noted: Mapping[str, Any]) -> str:
    """What went wrong, and the settings to look at, unless the provider named them itself."""
    kind, message = noted.get("last_failure_kind"), str(noted.get("last_failure_message"))
    v = provider.variables
    found: tuple[str | None, ...] = ()
    if kind in (FailureKind.CREDENTIAL_REJECTED, FailureKind.OUT_OF_CREDIT):
        found = (v.credential,)
    elif kind == FailureKind.MODEL_NOT_FOUND:
        found = (v.sota, v.cost_effective, v.embedding)
    elif kind in (FailureKind.CONNECT_FAILED, FailureKind.CONNECT_TIMEOUT):
        found = (v.endpoint,)
    names = [name for name in dict.fromkeys(found) if name]
    return message if not names or "; see " in message else f"{message}; see {', '.join(names)}"


def _status(noted: Mapping[str, Any], *, cooling: bool) -> Status:
    succeeded, failed = noted.get("last_success_at"), noted.get("last_failure_at")
    # The last success is kept to within seconds, so a failure that no cooldown followed says little.
    last_word_is_failure = failed is not None and (succeeded is None or _time(failed) > _time(succeeded))
    if last_word_is_failure and noted.get("last_failure_kind") == FailureKind.CREDENTIAL_REJECTED:
        return "credential_rejected"
    if cooling:
        return "cooling_down"
    return "ok" if succeeded is not None and not last_word_is_failure else "unknown"


def _is_future(text: str | None) -> bool:
    return text is not None and _time(text) > datetime.now(UTC)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
