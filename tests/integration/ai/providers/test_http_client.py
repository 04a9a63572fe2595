"""What OpenAI's and Anthropic's SDKs send through the client that we give them, and what its failures are booked as."""

import contextlib
import socket
import time
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest

from fusewire.ai.failures import FailureKind, ProviderFailure, Settle
from fusewire.ai.provider import AIProvider, Timeouts
from fusewire.ai.providers.anthropic.provider import AnthropicProvider
from fusewire.ai.providers.azure import AzureProvider
from fusewire.ai.providers.http_client import http_client
from fusewire.ai.providers.openai import OpenAIProvider
from fusewire.config import load_settings
from tests.integration.ai.contract import CAP, chat
from tests.support.certificates import Certificate, self_signed
from tests.support.ports import closed_port, full_port
from tests.support.raw_server import OK, Script, and_then_silence, answering, read_request, saying, serving

K = FailureKind
_TIMES = Timeouts(connect=2, first=5, total=5)
_BRIEF = Timeouts(connect=1.5, first=1.5, total=1.5)
_REFUSAL = (
    b"HTTP/1.1 400 Bad Request\r\nSet-Cookie: tracked=1; Path=/\r\nContent-Type: application/json\r\n"
    b"Content-Length: 2\r\n\r\n{}"
)
_CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "ssl_cert_file", "ssl_cert_dir"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def openai_at(address: str) -> AIProvider:
    return OpenAIProvider(load_settings({"OPENAI_BASE_URL": address, "OPENAI_API_KEY": "secret"}))


def azure_at(address: str) -> AIProvider:
    variables = {"AZURE_AI_ENDPOINT": address, "AZURE_AI_API_KEY": "secret", "AZURE_AI_API_VERSION": "preview"}
    return AzureProvider(load_settings(variables))


def dated_azure_at(address: str) -> AIProvider:
    variables = {"AZURE_AI_ENDPOINT": address, "AZURE_AI_API_KEY": "secret", "AZURE_AI_API_VERSION": "2024-10-21"}
    return AzureProvider(load_settings(variables))


def anthropic_at(address: str) -> AIProvider:
    return AnthropicProvider(load_settings({"ANTHROPIC_BASE_URL": address, "ANTHROPIC_API_KEY": "secret"}))


# --- what is sent ---


def refusing(heads: list[dict[str, str]], lines: list[str]) -> Script:
    """Note each request's head, and refuse it with a cookie."""

    def script(connection: socket.socket) -> None:
        while True:
            line, *headers = read_request(connection).partition(b"\r\n\r\n")[0].decode().split("\r\n")
            lines.append(line)
            heads.append({name.lower(): value for name, value in (header.split(": ", 1) for header in headers)})
            connection.sendall(_REFUSAL)

    return script


@pytest.mark.parametrize(
    ("make", "target", "credential"),
    [
        (openai_at, "/v1/chat/completions", ("authorization", "Bearer secret")),
        (azure_at, "/openai/v1/chat/completions?api-version=preview", ("api-key", "secret")),
        (dated_azure_at, "/openai/deployments/m/chat/completions?api-version=2024-10-21", ("api-key", "secret")),
        (anthropic_at, "/v1/messages", ("authorization", "Bearer secret")),
    ],
)
def test_a_request_says_what_the_vendor_needs_and_no_more(
    make: Callable[[str], AIProvider], target: str, credential: tuple[str, str]
) -> None:
    heads: list[dict[str, str]] = []
    lines: list[str] = []
    with serving(refusing(heads, lines)) as server:
        provider = make(server.address)
        for _ in range(2):
            with pytest.raises(ProviderFailure, match="rejected the request"):
                provider.complete(chat(), "m", CAP, _TIMES)
        assert server.accepted == 1
    assert lines == [f"POST {target} HTTP/1.1"] * 2
    for head in heads:
        assert head[credential[0]] == credential[1]
        assert head["host"] == server.address.removeprefix("http://")
        assert head["content-type"] == "application/json"
        assert head["accept-encoding"] == "gzip, deflate"
        # Neither the SDK's telemetry about this machine nor a cookie that came with another caller's answer.
        assert [name for name in head if name.startswith("x-stainless")] == []
        assert "cookie" not in head


@pytest.mark.parametrize("proxied", ["http://vendor.invalid", None])
def test_a_proxy_is_used_where_the_environment_names_one(monkeypatch: pytest.MonkeyPatch, proxied: str | None) -> None:
    lines: list[str] = []
    with serving(refusing([], lines)) as server:
        monkeypatch.setenv("http_proxy", server.address if proxied else "http://proxy.invalid")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        with pytest.raises(ProviderFailure, match="rejected the request"):
            openai_at(proxied or server.address).complete(chat(), "m", CAP, _TIMES)
    assert lines == [f"POST {proxied or ''}/v1/chat/completions HTTP/1.1"]


@pytest.mark.skipif(not hasattr(socket, "TCP_KEEPIDLE"), reason="this system has no such option")
def test_tcp_asks_a_silent_server_whether_it_is_there() -> None:
    with serving(answering(OK)) as server, http_client() as client:
        timeout = httpx2.Timeout(5)
        request = client.build_request("POST", server.url, headers=[], params=None, content=b"{}", timeout=timeout)
        response = client.send(request, stream=True)
        connection = response.extensions["network_stream"].get_extra_info("socket")
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60
        response.close()


# --- what a failure is booked as ---


def booked(provider: AIProvider, times: Timeouts = _TIMES, content: str = "Hi") -> tuple[FailureKind, Settle]:
    with pytest.raises(ProviderFailure) as caught:
        provider.complete(chat(messages=[{"role": "user", "content": content}]), "m", CAP, times)
    return caught.value.kind, caught.value.consequence.settle


BROKEN: dict[str, tuple[bytes, ...]] = {
    "no answer": (),
    "half a status": (b"HTTP/1.",),
    "half a head": (b"HTTP/1.1 200 OK\r\nContent-",),
    "half a refusal": (b"HTTP/1.1 400 Bad Request\r\nX-Y",),
    "no HTTP": (b"SSH-2.0-OpenSSH_9.9\r\n",),
    "half a body": (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",),
    "half a chunk": (_CHUNKED + b"10\r\nhalf",),
    "no last chunk": (_CHUNKED + b"4\r\nhalf\r\n",),
    "two lengths": (b"HTTP/1.1 400 No\r\nContent-Length: 2\r\nContent-Length: 4\r\n\r\nfour",),
    "a negative length": (b"HTTP/1.1 400 No\r\nContent-Length: -2\r\n\r\nno",),
    "a head without an end": (b"HTTP/1.1 400 No\r\n" + b"X-Y: " + b"z" * 200_000 + b"\r\n\r\n",),
}


@pytest.mark.parametrize("make", [openai_at, anthropic_at])
@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_a_broken_answer_may_have_been_billed(make: Callable[[str], AIProvider], name: str, reset: bool) -> None:
    with serving(saying(*BROKEN[name], reset=reset)) as server:
        assert booked(make(server.address)) == (K.CONNECTION_LOST, Settle.BOUND)


@pytest.mark.parametrize(
    "parts",
    [(), (b"HTTP/1.1 200 OK\r\n",), (_CHUNKED + b"3\r\none\r\n",), (OK[:-1],)],
    ids=["", "head", "chunk", "body"],
)
def test_silence_may_have_been_billed(parts: tuple[bytes, ...]) -> None:
    with serving(and_then_silence(*parts)) as server:
        assert booked(openai_at(server.address), _BRIEF) == (K.READ_TIMEOUT, Settle.BOUND)


def test_a_server_that_reads_nothing_may_have_billed() -> None:
    def deaf(connection: socket.socket) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        server.over.wait(5)

    with serving(deaf) as server:
        assert booked(openai_at(server.address), _BRIEF, "x" * 20_000_000) == (K.READ_TIMEOUT, Settle.BOUND)


def test_a_body_that_drips_is_ended_by_the_deadline() -> None:
    def dripping(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while True:
            connection.sendall(b" ")
            time.sleep(0.05)

    began = time.monotonic()
    with serving(dripping) as server:
        assert booked(openai_at(server.address), _BRIEF) == (K.READ_TIMEOUT, Settle.BOUND)
    assert time.monotonic() - began < 3


def test_a_refusal_before_the_request_was_read_costs_nothing() -> None:
    def hanging_up_early(connection: socket.socket) -> None:
        connection.recv(1000)
        connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
        connection.shutdown(socket.SHUT_WR)
        time.sleep(0.1)

    with serving(hanging_up_early) as server:
        assert booked(openai_at(server.address), content="x" * 5_000_000) == (K.TOO_LARGE, Settle.RELEASE)


def test_an_interim_answer_is_not_the_answer() -> None:
    interim = (b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n" + _REFUSAL)
    with serving(saying(*interim)) as server:
        assert booked(openai_at(server.address)) == (K.UNKNOWN_REFUSAL, Settle.BOUND)


@pytest.mark.parametrize("make", [openai_at, anthropic_at])
@pytest.mark.parametrize("host", ["nowhere.invalid", "a" * 64 + ".example"])
def test_a_host_name_that_leads_nowhere_costs_nothing(make: Callable[[str], AIProvider], host: str) -> None:
    assert booked(make(f"http://{host}")) == (K.CONNECT_FAILED, Settle.RELEASE)


def test_a_port_where_nobody_accepts_costs_nothing() -> None:
    with closed_port() as port:
        assert booked(openai_at(f"http://127.0.0.1:{port}")) == (K.CONNECT_FAILED, Settle.RELEASE)
    with full_port() as port:
        assert booked(openai_at(f"http://127.0.0.1:{port}"), _BRIEF) == (K.CONNECT_TIMEOUT, Settle.RELEASE)


# --- TLS ---


def secured(certificate: Certificate, script: Script) -> Script:
    def over_tls(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), certificate.context().wrap_socket(connection, server_side=True) as tls:
            script(tls)

    return over_tls


def test_tls_takes_the_certificates_that_the_environment_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    certificate = self_signed(tmp_path)
    address = "https://127.0.0.1:{}".format
    with serving(secured(certificate, answering(_REFUSAL))) as server:
        assert booked(openai_at(address(server.port))) == (K.CONNECT_FAILED, Settle.RELEASE)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.certificate))
    with serving(secured(certificate, answering(_REFUSAL, _REFUSAL))) as server:
        provider = openai_at(address(server.port))
        assert [booked(provider)[0] for _ in range(2)] == [K.UNKNOWN_REFUSAL] * 2
        assert server.accepted == 1
    with serving(secured(certificate, answering(_REFUSAL))) as server:
        other_name = openai_at(f"https://localhost:{server.port}")
        assert booked(other_name) == (K.CONNECT_FAILED, Settle.RELEASE)
    with serving(saying(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as plain:
        assert booked(openai_at(address(plain.port)), _BRIEF)[1] is Settle.RELEASE


@pytest.mark.parametrize("make", [openai_at, anthropic_at])
@pytest.mark.parametrize("proxy", ["", "http://127.0.0.1:1"], ids=["direct", "proxy"])
def test_certificates_that_are_not_there_cost_nothing(
    monkeypatch: pytest.MonkeyPatch, make: Callable[[str], AIProvider], proxy: str
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/certificates.pem")
    monkeypatch.setenv("https_proxy", proxy)
    assert booked(make("https://127.0.0.1:1")) == (K.CONNECT_FAILED, Settle.RELEASE)


# --- the connection between calls ---


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(saying(_REFUSAL), id="closed by the server"),
        pytest.param(and_then_silence(_REFUSAL, OK), id="with an answer too many"),
        pytest.param(and_then_silence(_REFUSAL.replace(b"HTTP/1.1", b"HTTP/1.0")), id="of HTTP/1.0"),
    ],
)
def test_a_connection_that_is_used_up_serves_no_other_call(first: Script) -> None:
    with serving(first, answering(_REFUSAL)) as server:
        provider = openai_at(server.address)
        assert booked(provider)[0] is K.UNKNOWN_REFUSAL
        time.sleep(0.1)
        assert booked(provider)[0] is K.UNKNOWN_REFUSAL
        assert server.accepted == 2


def test_a_stream_that_was_not_read_to_its_end_is_not_the_next_calls() -> None:
    chunk = b'data: {"id":"1","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"x"}}]}\n\n'
    begun = _CHUNKED + b"%x\r\n%s\r\n" % (len(chunk), chunk)
    with serving(and_then_silence(begun), answering(_REFUSAL)) as server:
        provider = openai_at(server.address)
        stream = provider.stream(chat(stream=True), "m", CAP, _TIMES)
        next(iter(stream))
        stream.close()  # type: ignore[attr-defined] # it is a generator
        assert booked(provider)[0] is K.UNKNOWN_REFUSAL
        assert server.accepted == 2
