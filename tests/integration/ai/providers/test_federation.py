"""Vertex and Azure from a function's AWS role, with no key: google-auth, botocore and the token servers' own checks."""

import json
import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusewire.ai.failures import FailureKind, ProviderFailure
from fusewire.ai.providers.azure import AzureProvider
from fusewire.ai.providers.openai_compatible import OpenAICompatibleProvider
from fusewire.ai.providers.vertex.provider import GcpProvider
from fusewire.config import load_settings
from tests.integration.ai.contract import CAP, TIMES, chat, embedding, root
from tests.integration.ai.providers.vertex.cases import BRIEF, predicted
from tests.integration.ai.providers.vertex.cases import variables as vertex_variables
from tests.support.clouds import (
    ACCOUNT,
    AWS,
    CLIENT,
    ENTRA,
    GOOGLE,
    IMPERSONATION,
    POOL,
    REGION,
    ROLE,
    TENANT,
    Clouds,
    lambda_credentials,
    running_clouds,
)
from tests.support.patience import PATIENCE_SECONDS
from tests.support.upstream import Upstream, status

K = FailureKind


@pytest.fixture
def clouds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Clouds]:
    with running_clouds(tmp_path, monkeypatch) as running:
        lambda_credentials(monkeypatch, running, snapstart=True)
        yield running


def vertex(upstream: Upstream, **more: str) -> GcpProvider:
    federated = {"GCP_WORKLOAD_IDENTITY_PROVIDER": POOL, "AWS_REGION": REGION}
    return GcpProvider(load_settings({**vertex_variables(upstream), **federated, **more}))


def azure(upstream: Upstream, **more: str) -> AzureProvider:
    place = {"AZURE_AI_ENDPOINT": root(upstream), "AZURE_SOTA_DEPLOYMENT": "d", "AWS_REGION": REGION}
    return AzureProvider(load_settings({**place, "AZURE_TENANT_ID": TENANT, "AZURE_CLIENT_ID": CLIENT, **more}))


def made(name: str, upstream: Upstream) -> OpenAICompatibleProvider:
    return vertex(upstream) if name == "gcp" else azure(upstream)


def ask(provider: OpenAICompatibleProvider) -> None:
    provider.complete(chat(), "m", CAP, TIMES)


def bearers(upstream: Upstream) -> list[str]:
    return [headers["authorization"].removeprefix("Bearer ") for headers in upstream.headers]


def failure(provider: OpenAICompatibleProvider) -> ProviderFailure:
    with pytest.raises(ProviderFailure) as caught:
        ask(provider)
    return caught.value


EXCHANGE = {"gcp": GOOGLE, "azure": ENTRA}
TOKEN = {"gcp": "sentinel-federated-", "azure": "sentinel-entra-"}
EITHER = pytest.mark.parametrize("name", ["gcp", "azure"])


@EITHER
@pytest.mark.parametrize("snapstart", [True, False])
def test_a_call_with_the_roles_token_and_no_key(
    name: str, snapstart: bool, clouds: Clouds, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    lambda_credentials(monkeypatch, clouds, snapstart=snapstart)
    provider = made(name, upstream)
    assert provider.missing() == ()
    for _ in range(2):
        ask(provider)
    list(provider.stream(chat(stream=True), "m", CAP, TIMES))
    (token,) = set(bearers(upstream))
    assert token.startswith(TOKEN[name])
    assert "api-key" not in upstream.headers[0]
    asked = ["container"] * snapstart + ([AWS] if name == "azure" else []) + [EXCHANGE[name]]
    assert clouds.calls == asked, "one token for all, and for Google no call to AWS"


def test_embeddings_too(clouds: Clouds, upstream: Upstream) -> None:
    azure(upstream).embed(embedding(), "d", TIMES)
    upstream.script.append(predicted(3))
    vertex(upstream).embed(embedding(), "gemini-embedding-001", TIMES)
    assert [token.rpartition("-")[0] for token in bearers(upstream)] == ["sentinel-entra", "sentinel-federated"]


def test_azures_dated_api_too(clouds: Clouds, upstream: Upstream) -> None:
    ask(azure(upstream, AZURE_AI_API_VERSION="2024-10-21"))
    assert bearers(upstream) == clouds.given[-1:]
    assert "api-key" not in upstream.headers[0]


def test_a_service_account_is_impersonated(clouds: Clouds, upstream: Upstream) -> None:
    provider = vertex(upstream, GCP_SERVICE_ACCOUNT=ACCOUNT)
    for _ in range(2):
        ask(provider)
    assert clouds.calls == ["container", GOOGLE, IMPERSONATION]
    assert set(bearers(upstream)) == {"sentinel-impersonated-2"}


@EITHER
def test_a_token_is_renewed_before_it_runs_out(name: str, clouds: Clouds, upstream: Upstream) -> None:
    clouds.lifetime = 200
    provider = made(name, upstream)
    ask(provider)
    clouds.lifetime = 3600
    for _ in range(3):
        ask(provider)
    first, *later = bearers(upstream)
    assert first not in later
    assert len(set(later)) == 1
    assert clouds.calls.count(EXCHANGE[name]) == 2
    assert clouds.calls.count("container") == 1, "botocore keeps the role's credentials"


@EITHER
def test_a_token_that_is_about_to_run_out_serves_while_its_server_is_down(
    name: str, clouds: Clouds, upstream: Upstream
) -> None:
    clouds.lifetime = 200
    provider = made(name, upstream)
    ask(provider)
    clouds.script[EXCHANGE[name]].extend([(503, {}), (400, {"error": "invalid_grant"})])
    for _ in range(2):
        ask(provider)
    assert len(set(bearers(upstream))) == 1


def test_a_token_that_has_run_out_serves_nobody(
    clouds: Clouds, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = azure(upstream)
    ask(provider)
    now = time.time()
    monkeypatch.setattr("fusewire.ai.providers.entra.time.time", lambda: now + 3601)
    clouds.script[ENTRA].append((503, {}))
    assert failure(provider).kind is K.OVERLOADED
    assert len(upstream.requests) == 1


@EITHER
def test_a_token_that_the_vendor_refuses_is_forgotten(name: str, clouds: Clouds, upstream: Upstream) -> None:
    provider = made(name, upstream)
    upstream.script.append(status(401))
    assert failure(provider).kind is K.CREDENTIAL_REJECTED
    ask(provider)
    first, second = bearers(upstream)
    assert first != second


@EITHER
def test_many_calls_at_once_fetch_one_token(name: str, clouds: Clouds, upstream: Upstream) -> None:
    provider, begun = made(name, upstream), threading.Barrier(4)

    def together() -> None:
        begun.wait(PATIENCE_SECONDS)
        ask(provider)

    threads = [threading.Thread(target=together) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(bearers(upstream)) == 4
    assert clouds.calls.count(EXCHANGE[name]) == 1


@EITHER
@pytest.mark.parametrize(
    ("code", "body", "kind"),
    [
        (400, {"error": "invalid_grant", "error_description": "No."}, K.CREDENTIAL_REJECTED),
        (401, {"error": "unauthorized_client"}, K.CREDENTIAL_REJECTED),
        (200, {"expires_in": 3600}, K.CREDENTIAL_REJECTED),
        (200, {"access_token": "sentinel-bare"}, K.CREDENTIAL_REJECTED),
        (200, b"<html>", K.CREDENTIAL_REJECTED),
        (200, b"[]", K.CREDENTIAL_REJECTED),
        (429, {}, K.OVERLOADED),
        (503, b"<html>", K.OVERLOADED),
    ],
)
def test_a_token_that_cannot_be_had(
    name: str, code: int, body: object, kind: FailureKind, clouds: Clouds, upstream: Upstream
) -> None:
    clouds.script[EXCHANGE[name]].append((code, body))
    found = failure(made(name, upstream))
    assert found.kind is kind
    setting = {"gcp": "GCP_WORKLOAD_IDENTITY_PROVIDER", "azure": "AZURE_CLIENT_ID"}[name]
    assert (setting in found.message) is (kind is K.CREDENTIAL_REJECTED)
    assert upstream.requests == []
    assert not clouds.script[EXCHANGE[name]], "one request and no retries: the router decides"


@pytest.mark.parametrize(
    ("variables", "code"),
    [
        ({"AZURE_TENANT_ID": "another.example"}, "AADSTS90002"),
        ({"AZURE_CLIENT_ID": "77777777-7777-8888-9999-000000000000"}, "AADSTS700016"),
    ],
)
def test_entras_code_is_told_and_nothing_else_of_its_words(
    variables: dict[str, str], code: str, clouds: Clouds, upstream: Upstream
) -> None:
    found = failure(azure(upstream, **variables))
    assert found.kind is K.CREDENTIAL_REJECTED
    assert code in found.message
    assert "Trace ID" not in found.message


def test_a_role_that_entra_does_not_trust(clouds: Clouds, upstream: Upstream) -> None:
    clouds.subjects.clear()
    found = failure(azure(upstream))
    assert "AADSTS700213" in found.message
    assert ROLE not in found.message


def test_an_account_without_outbound_federation(clouds: Clouds, upstream: Upstream) -> None:
    clouds.federation_enabled = False
    found = failure(azure(upstream))
    assert found.kind is K.CREDENTIAL_REJECTED
    assert "outbound web identity federation" in found.message


@pytest.mark.parametrize(
    ("code", "error", "kind"),
    [
        (403, "AccessDenied", K.CREDENTIAL_REJECTED),
        (403, "ExpiredToken", K.CREDENTIAL_REJECTED),
        (400, "Throttling", K.OVERLOADED),
        (503, "ServiceUnavailable", K.OVERLOADED),
    ],
)
def test_aws_gives_no_identity_token(
    code: int, error: str, kind: FailureKind, clouds: Clouds, upstream: Upstream
) -> None:
    body = f"<ErrorResponse><Error><Code>{error}</Code><Message>No.</Message></Error></ErrorResponse>"
    clouds.script[AWS].append((code, body.encode()))
    found = failure(azure(upstream))
    assert found.kind is kind
    assert clouds.calls.count(AWS) == 1
    assert ENTRA not in clouds.calls


@EITHER
def test_no_credentials_of_aws(name: str, clouds: Clouds, upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_CONTAINER_CREDENTIALS_FULL_URI")
    assert failure(made(name, upstream)).kind is K.CREDENTIAL_REJECTED
    assert upstream.requests == []


@EITHER
def test_token_servers_that_cannot_be_reached(
    name: str, clouds: Clouds, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    assert failure(made(name, upstream)).kind is K.CONNECT_FAILED


def test_a_token_server_of_awss_that_refuses_connections(
    clouds: Clouds, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:1")
    assert failure(azure(upstream)).kind is K.CONNECT_FAILED


@EITHER
def test_the_roles_credentials_cannot_be_had_for_now(name: str, clouds: Clouds, upstream: Upstream) -> None:
    clouds.script["container"].extend([(500, {})] * 9)
    found = failure(made(name, upstream))
    assert found.kind is {"gcp": K.OVERLOADED, "azure": K.CONNECT_FAILED}[name], "nobody has refused them"
    clouds.script["container"].clear()
    ask(made(name, upstream))


@pytest.mark.parametrize("silent", [AWS, ENTRA])
def test_token_servers_that_do_not_answer_take_no_more_than_the_attempts_time(
    silent: str, clouds: Clouds, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = azure(upstream)
    ask(provider)  # what is imported and made once isn't what is measured
    provider._tokens.forget()
    from tests.support import clouds as servers

    done = threading.Event()
    answers = {**servers._ANSWERS, silent: lambda *_: done.wait(PATIENCE_SECONDS)}
    monkeypatch.setattr(servers, "_ANSWERS", answers)
    begun = time.monotonic()
    with pytest.raises(ProviderFailure) as caught:
        provider.complete(chat(), "m", CAP, BRIEF)
    done.set()
    assert caught.value.kind is K.CONNECT_FAILED
    assert time.monotonic() - begun < BRIEF.first + PATIENCE_SECONDS / 4


@EITHER
def test_nothing_secret_is_logged_or_told(
    name: str,
    clouds: Clouds,
    upstream: Upstream,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    provider = made(name, upstream)
    with caplog.at_level(logging.INFO):
        ask(provider)
        upstream.script.append(status(401))
        messages = [failure(provider).message]
        for code in (400, 401, 503):
            provider._tokens.forget()  # type: ignore[attr-defined]
            clouds.script[EXCHANGE[name]].append((code, {"error": clouds.given[0], "error_description": "x"}))
            messages.append(failure(provider).message)
    out, err = capfd.readouterr()
    said = "\n".join([out, err, caplog.text, *messages])
    assert clouds.given
    for secret in clouds.secrets():
        assert secret not in said
    assert not [secret for secret in clouds.secrets() if secret in json.dumps(upstream.requests)]
