"""What OpenAI's and Anthropic's SDKs put on the wire by the client that we give them."""

import socket
from collections.abc import Callable

import pytest

from fusewire.ai.provider import AIProvider, Timeouts
from fusewire.ai.providers.anthropic import AnthropicProvider
from fusewire.ai.providers.azure import AzureProvider
from fusewire.ai.providers.http_client import http_client
from fusewire.ai.providers.http_transport import Transport
from fusewire.ai.providers.openai import OpenAIProvider
from fusewire.config import load_settings
from tests.integration.ai.contract import CAP, chat
from tests.support.raw_server import Script, Server, read_request, serving

_TIMES = Timeouts(connect=2, first=5, total=5)
_REFUSAL = (
    b"HTTP/1.1 400 Bad Request\r\nSet-Cookie: tracked=1; Path=/\r\nContent-Type: application/json\r\n"
    b"Content-Length: 2\r\n\r\n{}"
)


def refusing(heads: list[dict[str, str]], lines: list[str]) -> Script:
    """Note each request's head, and refuse it with a cookie."""

    def script(connection: socket.socket) -> None:
        while True:
            line, *headers = read_request(connection).partition(b"\r\n\r\n")[0].decode().split("\r\n")
            lines.append(line)
            heads.append({name.lower(): value for name, value in (header.split(": ", 1) for header in headers)})
            connection.sendall(_REFUSAL)

    return script


def openai(server: Server) -> AIProvider:
    return OpenAIProvider(load_settings({"OPENAI_BASE_URL": server.address, "OPENAI_API_KEY": "secret"}))


def azure(server: Server) -> AIProvider:
    variables = {"AZURE_AI_ENDPOINT": server.address, "AZURE_AI_API_KEY": "secret", "AZURE_AI_API_VERSION": "preview"}
    return AzureProvider(load_settings(variables))


def dated_azure(server: Server) -> AIProvider:
    variables = {
        "AZURE_AI_ENDPOINT": server.address,
        "AZURE_AI_API_KEY": "secret",
        "AZURE_AI_API_VERSION": "2024-10-21",
    }
    return AzureProvider(load_settings(variables))


def anthropic(server: Server) -> AIProvider:
    return AnthropicProvider(load_settings({"ANTHROPIC_BASE_URL": server.address, "ANTHROPIC_API_KEY": "secret"}))


@pytest.mark.parametrize(
    ("make", "target", "credential"),
    [
        (openai, "/v1/chat/completions", ("authorization", "Bearer secret")),
        (azure, "/openai/v1/chat/completions?api-version=preview", ("api-key", "secret")),
        (dated_azure, "/openai/deployments/m/chat/completions?api-version=2024-10-21", ("api-key", "secret")),
        (anthropic, "/v1/messages", ("authorization", "Bearer secret")),
    ],
)
def test_a_request_says_what_the_vendor_needs_and_no_more(
    make: Callable[[Server], AIProvider], target: str, credential: tuple[str, str]
) -> None:
    heads: list[dict[str, str]] = []
    lines: list[str] = []
    with serving(refusing(heads, lines)) as server:
        provider = make(server)
        for _ in range(2):
            with pytest.raises(Exception, match="rejected the request"):
                provider.complete(chat(), "m", CAP, _TIMES)
        assert server.accepted == 1
    assert lines == [f"POST {target} HTTP/1.1"] * 2
    for head in heads:
        assert head[credential[0]] == credential[1]
        assert head["host"] == server.address.removeprefix("http://")
        assert head["content-type"] == "application/json"
        assert head["accept-encoding"] == "gzip, deflate"
        # Neither what the SDK tells of this machine nor a cookie that came with another caller's answer.
        assert [name for name in head if name.startswith("x-stainless")] == []
        assert "cookie" not in head


def test_where_a_proxy_is_named_httpx2_finds_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    seen: list[dict[str, str]] = []
    lines: list[str] = []
    with serving(refusing(seen, lines)) as proxy:
        monkeypatch.setenv("http_proxy", proxy.address)
        provider = OpenAIProvider(load_settings({"OPENAI_BASE_URL": "http://vendor.invalid", "OPENAI_API_KEY": "k"}))
        with pytest.raises(Exception, match="rejected the request"):
            provider.complete(chat(), "m", CAP, _TIMES)
    assert lines == ["POST http://vendor.invalid/v1/chat/completions HTTP/1.1"]


def test_without_one_the_way_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fusewire.ai.providers.http_client.getproxies", lambda: {"no": "127.0.0.1"})
    with http_client() as client:
        assert isinstance(client._transport, Transport)
