"""google-auth itself against a token server: one token for many calls, renewed in time, and its failures told apart."""

import socket
import threading
from contextlib import closing
from pathlib import Path

import pytest

from fusewire.ai.failures import FailureKind
from fusewire.ai.providers.vertex.provider import GcpProvider
from fusewire.config import load_settings
from tests.integration.ai.contract import CAP, TIMES, chat
from tests.integration.ai.providers.vertex.cases import (
    BRIEF,
    MODEL,
    K,
    bearers,
    failed,
    variables,
)
from tests.support.google_tokens import ACCOUNT, TokenServer, service_account_file
from tests.support.patience import PATIENCE_SECONDS
from tests.support.upstream import (
    Upstream,
    status,
)

pytestmark = pytest.mark.usefixtures("google_credentials")


def test_a_token_is_fetched_once_and_kept(gcp: GcpProvider, upstream: Upstream, tokens: TokenServer) -> None:
    for _ in range(3):
        gcp.complete(chat(), MODEL, CAP, TIMES)
    list(gcp.stream(chat(stream=True), MODEL, CAP, TIMES))
    assert bearers(upstream) == ["token-1"] * 4
    (claims,) = tokens.claims
    assert claims["iss"] == ACCOUNT
    assert claims["scope"] == "https://www.googleapis.com/auth/cloud-platform"


def test_a_token_is_renewed_before_it_runs_out(gcp: GcpProvider, upstream: Upstream, tokens: TokenServer) -> None:
    tokens.lifetime = 100  # google-auth renews within 225 s of the end
    for _ in range(2):
        gcp.complete(chat(), MODEL, CAP, TIMES)
    tokens.lifetime = 3600
    for _ in range(2):
        gcp.complete(chat(), MODEL, CAP, TIMES)
    assert bearers(upstream) == ["token-1", "token-2", "token-3", "token-3"]


def test_a_token_that_is_about_to_run_out_serves_while_the_token_server_is_down(
    gcp: GcpProvider, upstream: Upstream, tokens: TokenServer
) -> None:
    tokens.lifetime = 100
    gcp.complete(chat(), MODEL, CAP, TIMES)
    tokens.script.extend([(503, {}), (400, {"error": "invalid_grant"})])
    for _ in range(2):
        gcp.complete(chat(), MODEL, CAP, TIMES)
    assert bearers(upstream) == ["token-1"] * 3


def test_a_token_that_vertex_refuses_is_forgotten(gcp: GcpProvider, upstream: Upstream, tokens: TokenServer) -> None:
    upstream.script.append(status(401))
    assert failed(gcp).kind is K.CREDENTIAL_REJECTED
    gcp.complete(chat(), MODEL, CAP, TIMES)
    assert bearers(upstream) == ["token-1", "token-2"]
    upstream.script.append(status(403))
    assert failed(gcp).kind is K.MODEL_DENIED
    gcp.complete(chat(), MODEL, CAP, TIMES)
    assert bearers(upstream)[2:] == ["token-2", "token-2"], "a lacking role says nothing against the token"


def test_many_calls_at_once_fetch_one_token(gcp: GcpProvider, upstream: Upstream, tokens: TokenServer) -> None:
    begun = threading.Barrier(4)

    def ask() -> None:
        begun.wait(PATIENCE_SECONDS)
        gcp.complete(chat(), MODEL, CAP, TIMES)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert bearers(upstream) == ["token-1"] * 4
    assert tokens.given == ["token-1"]


@pytest.mark.parametrize("how", ["chat", "stream", "embed"])
@pytest.mark.parametrize(
    ("code", "body", "kind"),
    [
        (400, {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}, K.CREDENTIAL_REJECTED),
        (401, {"error": "invalid_client"}, K.CREDENTIAL_REJECTED),
        (403, {"error": "disabled_client"}, K.CREDENTIAL_REJECTED),
        (200, {"expires_in": 3600}, K.CREDENTIAL_REJECTED),
        (200, b"<html>", K.CREDENTIAL_REJECTED),
        (200, b"\xff", K.CREDENTIAL_REJECTED),
        (200, b"", K.CREDENTIAL_REJECTED),
        (200, b"[]", K.CREDENTIAL_REJECTED),
        (429, {}, K.OVERLOADED),
        (500, {}, K.OVERLOADED),
        (503, b"<html>", K.OVERLOADED),
    ],
)
def test_a_token_that_cannot_be_had(
    gcp: GcpProvider,
    upstream: Upstream,
    tokens: TokenServer,
    how: str,
    code: int,
    body: object,
    kind: FailureKind,
) -> None:
    tokens.script.append((code, body))
    result = failed(gcp, how)
    assert result.kind is kind
    assert ("GOOGLE_APPLICATION_CREDENTIALS" in result.message) is (kind is K.CREDENTIAL_REJECTED)
    assert upstream.requests == []
    assert not tokens.script, "one request, no retries of google-auth's own"


def test_a_token_server_that_cannot_be_reached_or_does_not_answer(
    upstream: Upstream, tokens: TokenServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    done = threading.Event()
    tokens.wait = lambda: done.wait(PATIENCE_SECONDS)
    slow = GcpProvider(load_settings(variables(upstream)))
    assert failed(slow, times=BRIEF).kind is K.CONNECT_FAILED
    done.set()
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        file = service_account_file(tmp_path, f"http://127.0.0.1:{listener.getsockname()[1]}/token")
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
        assert failed(GcpProvider(load_settings(variables(upstream)))).kind is K.CONNECT_FAILED
    assert upstream.requests == []


@pytest.mark.parametrize("content", [None, "", "{", "[]", "{}", '{"type": "service_account"}', '{"type": "unknown"}'])
def test_credentials_that_are_missing_or_cannot_be_read(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str | None
) -> None:
    file = tmp_path / "key.json"
    if content is not None:
        file.write_text(content)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
    result = failed(GcpProvider(load_settings(variables(upstream))))
    assert result.kind is K.CREDENTIAL_REJECTED
    assert "GOOGLE_APPLICATION_CREDENTIALS" in result.message


def test_no_credentials_at_all(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS")
    result = failed(GcpProvider(load_settings(variables(upstream))))
    assert result.kind is K.CREDENTIAL_REJECTED
