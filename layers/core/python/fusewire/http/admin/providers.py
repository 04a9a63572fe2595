"""`GET /admin/providers`: which are configured, how each is doing, and with `?probe=true` which answer right now."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, WithJsonSchema

from fusewire.ai.health import LastFailure, Probe, Status, health_of, probe_all, stored_health
from fusewire.ai.provider import TIERS, AIProvider
from fusewire.budget.wire import HealthRow
from fusewire.http.schema import Money, ResponseModel, Time

if TYPE_CHECKING:
    from fusewire.ai.caller import Caller
    from fusewire.services import Services


def _flag(text: object) -> object:
    if text not in ("true", "false"):
        raise ValueError("must be true or false")
    return text == "true"


class ProvidersQuery(BaseModel):
    """The query string of `GET /admin/providers`."""

    model_config = ConfigDict(extra="ignore")

    probe: Annotated[bool, BeforeValidator(_flag)] = False


class FailureResponse(ResponseModel):
    """What went wrong last, and the settings to look at."""

    at: Time
    kind: str | None
    message: str


class ProviderTiers(ResponseModel):
    """The model that serves each tier; null where none does."""

    sota: str | None
    cost_effective: str | None


class ProviderResponse(ResponseModel):
    """A provider, configured or not; `missing` names the variables that it lacks."""

    id: str
    local: bool
    configured: bool
    missing: list[str]
    tiers: ProviderTiers
    embedding_model: str | None
    status: Status
    cooldown_until: Time | None
    last_success_at: Time | None
    last_failure: FailureResponse | None
    key_expires_on: Annotated[str, WithJsonSchema({"type": "string", "format": "date"})] | None


class ProbeResponse(ResponseModel):
    """How a provider answered just now, and what that cost."""

    ok: bool
    message: str
    cost_usd: Money


class ProbedProvider(ProviderResponse):
    """A provider and its probe; null for one that isn't configured, or that AI_MODE leaves out."""

    probe: ProbeResponse | None


class ProvidersResponse(ResponseModel):
    """Every provider; `chain` has those that are tried, in their order."""

    mode: Literal["cloud", "local", "hybrid"]
    chain: list[str]
    providers: list[ProbedProvider | ProviderResponse]


def providers_response(core: "Services", *, probe_for: "Caller | None") -> ProvidersResponse:
    """
    :param probe_for: the caller to probe each provider for; None for no probes
    :raises LedgerUnavailableError: health is kept in Postgres
    """
    probes = None if probe_for is None else probe_all(core.router, core.registry, core.tiers, probe_for)
    stored = stored_health(core.database)
    described = [_provider(core.registry.get(name), stored.get(name, {})) for name in core.registry.ids()]
    return ProvidersResponse(
        mode=core.settings.ai_mode,
        chain=[provider.id for provider in core.registry.chain if core.tiers.permits(provider)],
        providers=[
            each if probes is None else ProbedProvider(**dict(each), probe=_probe(probes.get(each.id)))
            for each in described
        ],
    )


def _provider(provider: AIProvider, row: HealthRow) -> ProviderResponse:
    missing, expires, health = provider.missing(), provider.key_expires_on(), health_of(provider, row)
    return ProviderResponse(
        id=provider.id,
        local=provider.local,
        configured=not missing,
        missing=list(missing),
        tiers=ProviderTiers(**{tier: provider.tier_model(tier) for tier in TIERS}),
        embedding_model=provider.embedding_model(),
        status=health.status,
        cooldown_until=health.cooldown_until,
        last_success_at=health.last_success_at,
        last_failure=_failure(health.last_failure),
        key_expires_on=expires.isoformat() if expires else None,
    )


def _failure(failure: LastFailure | None) -> FailureResponse | None:
    if failure is None:
        return None
    return FailureResponse(at=failure.at, kind=failure.kind, message=failure.message)


def _probe(probe: Probe | None) -> ProbeResponse | None:
    if probe is None:
        return None
    return ProbeResponse(ok=probe.answered, message=probe.message, cost_usd=probe.cost)
