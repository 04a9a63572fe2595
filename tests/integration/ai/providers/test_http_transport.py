"""Our transport beside httpx2's own: whatever a server does, both make the same of it."""

import contextlib
import gzip
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from fusewire.ai.providers import http_transport
from fusewire.ai.providers.http_transport import Transport
from tests.support.certificates import Certificate, self_signed
from tests.support.ports import closed_port, full_port
from tests.support.raw_server import OK, Script, Server, and_then_silence, answering, read_request, saying, serving

_CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
_BRIEF = httpx2.Timeout(0.4)
_PATIENT = httpx2.Timeout(10)


def hanging_up_early(connection: socket.socket) -> None:
    """Refuse before the body has come, as servers do to what is too large."""
    connection.recv(1000)
    connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
    connection.shutdown(socket.SHUT_WR)
    time.sleep(0.1)


ANSWERS: dict[str, tuple[bytes, ...]] = {
    "with a length": (OK,),
    "in pieces": (OK[:5], OK[5:30], OK[30:-1], OK[-1:]),
    "in chunks": (_CHUNKED + b"3\r\none\r\n", b"3;x=y\r\ntwo\r\n0\r\n\r\n"),
    "in chunks with trailers": (_CHUNKED + b"3\r\none\r\n0\r\nX-Late: 1\r\n\r\n",),
    "in chunks that come in pieces": (
        _CHUNKED[:-1],
        _CHUNKED[-1:] + b"A\r",
        b"\n01234",
        b"56789\r",
        b"\n0\r\n\r",
        b"\n",
    ),
    "to the end of the connection": (b"HTTP/1.1 200 OK\r\n\r\n", b"some", b"thing"),
    "of HTTP/1.0": (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",),
    "empty": (b"HTTP/1.1 204 No Content\r\n\r\n",),
    "of no bytes": (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",),
    "without a reason": (b"HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok",),
    "packed": (
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 22\r\n\r\n" + gzip.compress(b"ok", mtime=0),
    ),
    "after a 100": (b"HTTP/1.1 100 Continue\r\n\r\n" + OK,),
    "after a 103": (b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", b"HTTP/1.1 102 Processing\r\n\r\n" + OK),
    "with many headers": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n" + b"X-A: 1\r\nx-a: two\r\nRetry-After:  7 \r\n\r\nok",
    ),
    "with a letter of Latin-1": (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-A: \xe9\r\n\r\nok",),
    "that redirects": (b"HTTP/1.1 307 Elsewhere\r\nLocation: /other\r\nContent-Length: 2\r\n\r\nno",),
    "of a failure": (b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy",),
    "of a failure without a body": (b"HTTP/1.1 401 Unauthorized\r\nConnection: close\r\n\r\n",),
    "without a body or a length": (b"HTTP/1.1 200 OK\r\n\r\n",),
    "that is long": (b"HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n" + b"x" * 3_000_000,),
}
BROKEN: dict[str, tuple[bytes, ...]] = {
    "no answer": (),
    "half a status": (b"HTTP/1.",),
    "half a head": (b"HTTP/1.1 200 OK\r\nContent-",),
    "half a length": (b"HTTP/1.1 200 OK\r\nContent-Length: 1",),
    "half a failure": (b"HTTP/1.1 500 Failed\r\nX-Y",),
    "no HTTP": (b"SSH-2.0-OpenSSH_9.9\r\n",),
    "half a body": (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",),
    "half a chunk": (_CHUNKED + b"10\r\nhalf",),
    "no last chunk": (_CHUNKED + b"4\r\nhalf\r\n",),
    "a chunk of no size": (_CHUNKED + b"xyz\r\nhalf\r\n0\r\n\r\n",),
    "another coding": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n3\r\none\r\n0\r\n\r\n",),
    "two lengths": (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 4\r\n\r\nfour",),
    "a negative length": (b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok",),
    "a head without an end": (b"HTTP/1.1 200 OK\r\n" + b"X-Y: " + b"z" * 200_000 + b"\r\n\r\n",),
}


def outcome(
    transport: httpx2.BaseTransport, url: str, timeout: httpx2.Timeout = _PATIENT, body: bytes = b"{}"
) -> object:
    """What becomes of one call: the answer, or the error's class."""
    with httpx2.Client(transport=transport, timeout=timeout) as client:
        try:
            with client.stream("POST", url, content=body) as answer:
                return answer.status_code, answer.reason_phrase, answer.headers.multi_items(), answer.read()
        except httpx2.HTTPError as error:
            return type(error)


def both(*scripts: Script, timeout: httpx2.Timeout = _PATIENT, body: bytes = b"{}") -> tuple[object, object]:
    """The same server for each."""
    with serving(*scripts) as one, serving(*scripts) as other:
        return (
            outcome(Transport(), one.url, timeout, body),
            outcome(httpx2.HTTPTransport(), other.url, timeout, body),
        )


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer(name: str) -> None:
    ours, theirs = both(saying(*ANSWERS[name]))
    assert isinstance(ours, tuple)
    assert ours == theirs


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_a_broken_answer(name: str, reset: bool) -> None:
    ours, theirs = both(saying(*BROKEN[name], reset=reset))
    lost = (httpx2.RemoteProtocolError, httpx2.ReadError)
    # Which of the two it is depends on what was read before the end came; they are booked alike.
    assert ours in lost
    assert theirs in lost


@pytest.mark.parametrize(
    "parts",
    [(), (b"HTTP/1.1 200 OK\r\n",), (_CHUNKED + b"3\r\none\r\n",), (OK[:-1],)],
    ids=["", "head", "chunk", "body"],
)
def test_silence(parts: tuple[bytes, ...]) -> None:
    assert both(and_then_silence(*parts), timeout=_BRIEF) == (httpx2.ReadTimeout, httpx2.ReadTimeout)


def test_what_comes_before_an_answer_has_an_end() -> None:
    def hinting(connection: socket.socket) -> None:
        read_request(connection)
        for _ in range(30):
            connection.sendall(b"HTTP/1.1 103 Early Hints\r\n\r\n")
            time.sleep(0.1)

    def babbling(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000 + OK)

    with serving(hinting) as server:
        assert outcome(Transport(), server.url, _BRIEF) is httpx2.ReadTimeout
    with serving(babbling) as server:
        assert outcome(Transport(), server.url) is httpx2.RemoteProtocolError


def test_a_server_that_speaks_something_else() -> None:
    with serving(saying(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n")) as server:
        assert outcome(Transport(), server.url) is httpx2.RemoteProtocolError


def test_a_server_that_takes_nothing() -> None:
    def deaf(connection: socket.socket) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        server.over.wait(5)

    for transport in (Transport(), httpx2.HTTPTransport()):
        with serving(deaf) as server:
            assert outcome(transport, server.url, _BRIEF, b"x" * 50_000_000) is httpx2.WriteTimeout


def test_a_refusal_before_the_end_of_the_request_is_read() -> None:
    ours, theirs = both(hanging_up_early, body=b"x" * 5_000_000)
    assert isinstance(ours, tuple)
    assert ours[0] == 413
    assert isinstance(theirs, tuple)
    assert theirs[0] == 413


def test_nobody_listens() -> None:
    with closed_port() as port:
        url = f"http://127.0.0.1:{port}/"
        assert outcome(Transport(), url) is outcome(httpx2.HTTPTransport(), url) is httpx2.ConnectError


@pytest.mark.parametrize("host", ["nowhere.invalid", "a" * 64 + ".example"])
def test_a_name_that_leads_nowhere(host: str) -> None:
    url = f"http://{host}/"
    assert outcome(Transport(), url) is httpx2.ConnectError


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/", "//127.0.0.1/", "http:///x"])
def test_no_address_of_the_web(url: str) -> None:
    assert outcome(Transport(), url) is outcome(httpx2.HTTPTransport(), url) is httpx2.UnsupportedProtocol


def test_a_connection_that_is_not_accepted_in_time() -> None:
    with full_port() as port:
        url = f"http://127.0.0.1:{port}/"
        ours, theirs = (outcome(transport, url, _BRIEF) for transport in (Transport(), httpx2.HTTPTransport()))
    assert ours is theirs is httpx2.ConnectTimeout


def test_what_is_sent() -> None:
    sent: list[bytes] = []

    def noting(connection: socket.socket) -> None:
        sent.append(read_request(connection))
        connection.sendall(OK)

    both(noting, body=b'{"a": "\xc3\xa9"}')
    ours, theirs = ([line for line in each.split(b"\r\n") if not line.startswith(b"Host:")] for each in sent)
    assert ours == theirs
    assert sent[0].startswith(b"POST /v1/x?y=1 HTTP/1.1\r\nHost: 127.0.0.1:")


@pytest.mark.parametrize("value", ["a\r\nX-Injected: 1", "a\nb", "a\r\n b", "a\0b"])
def test_a_header_that_would_be_two_is_not_sent(value: str) -> None:
    for transport in (Transport(), httpx2.HTTPTransport()):
        with serving(saying(OK)) as server, httpx2.Client(transport=transport, timeout=_BRIEF) as client:
            with pytest.raises(httpx2.LocalProtocolError):
                client.post(server.url, headers={"authorization": value}, content=b"{}")


# --- the connection between calls ---


def asked(client: httpx2.Client, server: Server) -> bytes:
    return client.post(server.url, content=b"{}").content


@contextlib.contextmanager
def calling() -> Iterator[httpx2.Client]:
    with httpx2.Client(transport=Transport(), timeout=_PATIENT) as client:
        yield client


def test_it_serves_the_next_call() -> None:
    with serving(answering(OK, _CHUNKED + b"3\r\none\r\n0\r\n\r\n", OK)) as server, calling() as client:
        assert [asked(client, server) for _ in range(3)] == [b"ok", b"one", b"ok"]
        assert server.accepted == 1


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(saying(OK), id="closed by the server"),
        pytest.param(saying(OK.replace(b"Content-Type", b"Connection: close\r\nA")), id="announced as the last"),
        pytest.param(
            and_then_silence(OK, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong"), id="with an answer too many"
        ),
        pytest.param(and_then_silence(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"), id="of HTTP/1.0"),
    ],
)
def test_one_that_is_used_up_serves_no_other_call(first: Script) -> None:
    with serving(first, answering(OK)) as server, calling() as client:
        assert asked(client, server) == b"ok"
        time.sleep(0.1)
        assert asked(client, server) == b"ok"
        assert server.accepted == 2


def test_an_answer_that_was_not_read_is_not_the_next_calls() -> None:
    half = b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nsomebody els"
    with serving(and_then_silence(half), answering(OK)) as server, calling() as client:
        with client.stream("POST", server.url, content=b"{}") as answer:
            assert answer.status_code == 200
        assert asked(client, server) == b"ok"


@pytest.mark.parametrize("name", ["a chunk of no size", "half a chunk", "half a body"])
def test_a_broken_answer_is_the_last_of_its_connection(name: str) -> None:
    with serving(and_then_silence(*BROKEN[name], b"HTTP/1.1 200 OK\r\n"), answering(OK)) as server:
        with httpx2.Client(transport=Transport(), timeout=_BRIEF) as client:
            with pytest.raises(httpx2.HTTPError):
                asked(client, server)
            assert asked(client, server) == b"ok"


def test_a_call_in_a_call_has_one_of_its_own() -> None:
    slow = and_then_silence(_CHUNKED + b"3\r\none\r\n")
    with serving(slow) as server, serving(answering(OK)) as other, calling() as client:
        with client.stream("POST", server.url, content=b"{}") as answer:
            parts = answer.iter_bytes()
            assert next(parts) == b"one"
            assert asked(client, other) == b"ok"


def test_it_is_not_used_for_another_server() -> None:
    with serving(answering(OK)) as one, calling() as client:
        asked(client, one)
        with serving(answering(OK)) as other:
            assert asked(client, other) == b"ok"
            assert (one.accepted, other.accepted) == (1, 1)


def test_after_a_pause_there_is_a_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_transport, "_KEPT_SECONDS", 0.05)
    with serving(answering(OK, b"too late"), answering(OK)) as server, calling() as client:
        asked(client, server)
        time.sleep(0.1)
        assert asked(client, server) == b"ok"
        assert server.accepted == 2


# --- TLS ---


def secured(certificate: Certificate, script: Script) -> Script:
    def over_tls(connection: socket.socket) -> None:
        with certificate.context().wrap_socket(connection, server_side=True) as tls:
            script(tls)

    return over_tls


def test_tls_is_checked_by_the_systems_certificates(tmp_path: Path) -> None:
    certificate = self_signed(tmp_path)
    transport = Transport()
    transport._tls.load_verify_locations(certificate.certificate)
    with serving(secured(certificate, answering(OK, OK))) as server, httpx2.Client(transport=transport) as client:
        for _ in range(2):
            assert client.post(server.url.replace("http", "https"), content=b"{}").content == b"ok"
        assert server.accepted == 1
    with serving(secured(certificate, answering(OK))) as server, httpx2.Client(transport=transport) as client:
        with pytest.raises(httpx2.ConnectError, match="localhost"):  # it is 127.0.0.1's certificate
            client.post(f"https://localhost:{server.port}/", content=b"{}")


def test_tls_is_checked_by_the_certificates_that_the_environment_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = self_signed(tmp_path)
    for transport in (Transport(), httpx2.HTTPTransport()):
        with serving(secured(certificate, saying(OK))) as server:
            assert outcome(transport, server.url.replace("http", "https")) is httpx2.ConnectError
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.certificate))
    with serving(secured(certificate, answering(OK, OK))) as server, calling() as client:
        for _ in range(2):
            assert client.post(server.url.replace("http", "https"), content=b"{}").content == b"ok"
        assert server.accepted == 1


def test_certificates_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/certificates.pem")
    assert outcome(Transport(), "https://127.0.0.1:1/") is httpx2.ConnectError


def test_an_answer_too_many_over_tls_is_not_the_next_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate = self_signed(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.certificate))
    # In one record, of which a part is decrypted and not read yet when the next call looks for a connection.
    two = b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n" + b"x" * 9000 + OK.replace(b"ok", b"no")
    scripts = (secured(certificate, and_then_silence(two)), secured(certificate, answering(OK)))
    with serving(*scripts) as server, calling() as client:
        url = server.url.replace("http", "https")
        assert client.post(url, content=b"{}").content == b"x" * 9000
        assert client.post(url, content=b"{}").content == b"ok"


def test_a_connection_is_kept_alive_while_an_answer_is_waited_for() -> None:
    transport = Transport()
    with serving(answering(OK)) as server, httpx2.Client(transport=transport) as client:
        asked(client, server)
        [connection] = transport._free
        assert connection._http.sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1


def test_a_server_that_speaks_no_tls() -> None:
    for transport in (Transport(), httpx2.HTTPTransport()):
        with serving(saying(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as server:
            assert outcome(transport, server.url.replace("http", "https"), _BRIEF) in (
                httpx2.ConnectError,
                httpx2.ConnectTimeout,
            )
