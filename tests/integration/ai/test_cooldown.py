"""Health is shared through Postgres: what one execution environment learns, all others know."""

from datetime import UTC, datetime
from typing import Any

import pytest

from fusewire.ai.caller import Caller
from fusewire.errors import AllProvidersFailedError
from fusewire.http.admin.providers import providers_response
from fusewire.services import Services
from tests.conftest import CoreFactory
from tests.integration.ai.contract import chat
from tests.integration.ai.observing import Books, LogLines, caller, two_clouds
from tests.support.upstream import Reply, Upstream, hang, status


def seconds_until(moment: datetime) -> float:
    return (moment - datetime.now(UTC)).total_seconds()


@pytest.fixture
def pair(upstream: Upstream, second_upstream: Upstream, core: CoreFactory) -> tuple[Services, Services]:
    """Two execution environments on one database."""
    variables = two_clouds(upstream, second_upstream)
    return core(**variables), core(**variables)


@pytest.mark.parametrize(
    ("reply", "seconds", "reported_status"),
    [
        (status(429, {"Retry-After": "30"}), 30, "cooling_down"),
        (status(503, {"Retry-After": "30"}), 30, "cooling_down"),
        (status(429, {"Retry-After": "999999"}), 3600, "cooling_down"),
        (status(401), 60, "credential_rejected"),
        (
            status(403, error={"message": "Access denied due to Virtual Network/Firewall rules."}),
            60,
            "credential_rejected",
        ),
        (status(402), 60, "cooling_down"),
        (status(429, error={"code": "insufficient_quota"}), 60, "cooling_down"),
    ],
)
def test_one_such_failure_cools_its_provider_down_for_everyone(
    upstream: Upstream,
    pair: tuple[Services, Services],
    books: Books,
    log: LogLines,
    reply: Reply,
    seconds: float,
    reported_status: str,
) -> None:
    upstream.script.append(reply)
    here, there = pair
    here.router.complete(chat(), caller())
    assert seconds_until(books.health("azure")["cooldown_until"]) == pytest.approx(seconds, abs=10)
    (line,) = log.events("provider.cooldown")
    assert line["provider"] == "azure"
    _, served = there.router.complete(chat(), caller())
    assert (served.provider, served.attempts) == ("openai", 1)
    assert len(upstream.requests) == 1
    assert reported(there, "azure")["status"] == reported_status


def report(services: Services, probe_for: Caller | None = None) -> dict[str, Any]:
    return providers_response(services, probe_for=probe_for).body()


def reported(services: Services, name: str) -> dict[str, Any]:
    listed: Any = report(services)["providers"]
    found: dict[str, Any] = next(provider for provider in listed if provider["id"] == name)
    return found


def test_five_failures_in_a_row_cool_down_and_a_success_forgets_them(
    upstream: Upstream, pair: tuple[Services, Services], books: Books
) -> None:
    here, there = pair
    upstream.script.extend([status(500)] * 4)
    for services in (here, there, here, there):
        services.router.complete(chat(), caller())
    assert books.health("azure")["consecutive_failures"] == 4
    assert here.router.complete(chat(), caller())[1].provider == "azure"
    assert books.health("azure")["consecutive_failures"] == 0
    upstream.script.extend([status(500)] * 5)
    for services in (here, there, here, there, here):
        assert services.router.complete(chat(), caller())[1].provider == "openai"
    assert seconds_until(books.health("azure")["cooldown_until"]) == pytest.approx(15, abs=8)
    assert there.router.complete(chat(), caller())[1].attempts == 1


def test_when_a_cooldown_ends_one_caller_tries_it_out(
    upstream: Upstream, pair: tuple[Services, Services], books: Books
) -> None:
    here, there = pair
    upstream.script.append(status(429, {"Retry-After": "0"}))
    here.router.complete(chat(), caller())
    assert here.router.complete(chat(), caller())[1].provider == "azure"
    assert books.health("azure")["cooldown_until"] is None
    assert there.router.complete(chat(), caller())[1].provider == "azure"


def test_the_report_tells_of_every_provider_without_secrets(
    upstream: Upstream, pair: tuple[Services, Services]
) -> None:
    here, _ = pair
    upstream.script.append(status(401))
    here.router.complete(chat(), caller())
    shown = report(here)
    assert shown["mode"] == "cloud"
    assert shown["chain"] == ["azure", "openai"]
    azure, openai, ollama = (reported(here, name) for name in ("azure", "openai", "ollama"))
    assert azure["configured"]
    assert azure["last_failure"]["kind"] == "credential_rejected"
    assert azure["tiers"] == {"sota": "first", "cost_effective": None}
    assert openai["status"] == "ok"
    assert openai["last_success_at"] is not None
    assert (ollama["configured"], ollama["status"]) == (False, "unconfigured")
    assert ollama["missing"] == ["OLLAMA_BASE_URL", "OLLAMA_SOTA_MODEL"]
    assert "sentinel" not in str(shown)
    assert "probe" not in azure


def test_a_probe_calls_each_provider_live_metered_and_within_the_callers_time(
    upstream: Upstream, second_upstream: Upstream, core: CoreFactory, books: Books, log: LogLines
) -> None:
    services = core(**two_clouds(upstream, second_upstream))
    upstream.script.append(hang(20))
    shown = report(services, caller(remaining_seconds=6))
    listed: Any = shown["providers"]
    probes = {provider["id"]: provider["probe"] for provider in listed}
    assert probes["azure"]["ok"] is False
    assert probes["openai"]["ok"] is True
    assert probes["openai"]["cost_usd"] > 0
    assert probes["ollama"] is None
    assert [entry["operation"] for entry in books.entries()] == ["probe", "probe"]
    # One of two failed, which is what the operator wanted to know: no alarm says that nobody can answer.
    assert [line["provider"] for line in log.events("router.provider_failed")] == ["azure"]
    assert not log.events("router.all_failed")
    books.check()


def test_a_probe_asks_a_provider_that_is_cooling_down_and_ends_it_when_it_answers(
    upstream: Upstream, pair: tuple[Services, Services], books: Books
) -> None:
    here, there = pair
    upstream.script.extend([status(429, {"Retry-After": "300"}), status(429, {"Retry-After": "200"})])
    here.router.complete(chat(), caller())
    assert reported(here, "azure")["status"] == "cooling_down"
    still: Any = report(here, caller())["providers"]
    assert [provider["probe"]["ok"] for provider in still if provider["id"] == "azure"] == [False]
    assert reported(here, "azure")["status"] == "cooling_down"
    well: Any = report(here, caller())["providers"]
    assert [provider["probe"]["ok"] for provider in well if provider["id"] == "azure"] == [True]
    assert len(upstream.requests) == 3
    _, served = there.router.complete(chat(), caller())
    assert served.provider == "azure"


@pytest.mark.parametrize(
    ("reply", "kind", "setting"),
    [
        (status(401), "credential_rejected", "OPENAI_API_KEY"),
        (status(402), "out_of_credit", "OPENAI_API_KEY"),
        (status(404), "model_not_found", "OPENAI_SOTA_MODEL"),
        (status(429), "rate_limited", None),
        (status(500), "server_error", None),
    ],
)
def test_a_failure_names_the_setting_to_look_at(
    upstream: Upstream, core: CoreFactory, reply: Reply, kind: str, setting: str | None
) -> None:
    services = core(AI_MODE="cloud", OPENAI_API_KEY="k", OPENAI_BASE_URL=upstream.url, OPENAI_SOTA_MODEL="gpt-4o")
    upstream.script.append(reply)
    with pytest.raises(AllProvidersFailedError):
        services.router.complete(chat(), caller())
    result = reported(services, "openai")["last_failure"]
    assert result["kind"] == kind
    if setting is None:
        assert "see " not in result["message"]
    else:
        assert f"; see {setting}" in result["message"]


def test_a_short_request_timeout_leaves_probes_alive(
    upstream: Upstream, second_upstream: Upstream, core: CoreFactory
) -> None:
    services = core(**two_clouds(upstream, second_upstream, AI_REQUEST_TIMEOUT_SECONDS="1"))
    listed: Any = report(services, caller())["providers"]
    assert all(provider["probe"]["ok"] for provider in listed if provider["configured"])
