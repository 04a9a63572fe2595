"""Answers without an end, from servers that do it on purpose: each ends in a stated failure, and in bounded memory."""

import contextlib
import itertools
import socket
import zlib
from collections.abc import Callable, Iterator

import pytest

from fusewire.ai.failures import FailureKind, Health, ProviderFailure, Settle
from fusewire.ai.provider import AIProvider, Timeouts
from fusewire.ai.providers import answer_limits
from fusewire.ai.providers.bedrock.exchange import Exchange
from fusewire.ai.providers.bedrock.provider import AwsProvider
from tests.integration.ai.contract import CAP, chat, embedding
from tests.integration.ai.providers.bedrock.cases import START, failed, word
from tests.integration.ai.providers.test_http_client import anthropic_at, openai_at
from tests.support.bedrock_vendor import Bedrock, Handler
from tests.support.memory import growing_by_less_than
from tests.support.patience import PATIENCE_SECONDS
from tests.support.raw_server import Script, read_request, serving

K = FailureKind
_TIMES = Timeouts(connect=5, first=PATIENCE_SECONDS, total=PATIENCE_SECONDS)
_MIB = 2**20
_SDKS = (openai_at, anthropic_at)


def bomb(block: bytes, times: int) -> bytes:
    """`block` so many times, compressed once: after a full flush, deflate's blocks stand for themselves."""
    packer = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    head = packer.compress(b"") + packer.flush(zlib.Z_FULL_FLUSH)
    return head + (packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)) * times


def sending(status: str, kind: str, parts: Callable[[], Iterator[bytes]], *, packed: bool = False) -> Script:
    """Read a request and answer with these parts, until the client has had enough."""

    def script(connection: socket.socket) -> None:
        read_request(connection)
        encoding = "Content-Encoding: gzip\r\n" if packed else ""
        head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n{encoding}Transfer-Encoding: chunked\r\n\r\n"
        connection.sendall(head.encode())
        for part in parts():
            connection.sendall(b"%x\r\n%b\r\n" % (len(part), part))
        connection.sendall(b"0\r\n\r\n")

    return script


GIGABYTE = bomb(b" " * 64 * _MIB, 16)
WORD = b'data: {"id":"1","object":"chat.completion.chunk","created":1,"model":"m","choices":[]}\n\n'


def ask(provider: AIProvider, how: str) -> None:
    if how == "embed":
        provider.embed(embedding(), "m", _TIMES)
    elif how == "stream":
        for _ in provider.stream(chat(stream=True), "m", CAP, _TIMES):
            pass
    else:
        provider.complete(chat(), "m", CAP, _TIMES)


def ends(provider: AIProvider, how: str, megabytes: int) -> ProviderFailure:
    with growing_by_less_than(megabytes), pytest.raises(ProviderFailure) as caught:
        ask(provider, how)
    return caught.value


# Anthropic has no embeddings.
_ASKED = [(make, how) for make in _SDKS for how in ("complete", "stream", "embed")]
_ASKED = [(make, how) for make, how in _ASKED if how != "embed" or make is not anthropic_at]


@pytest.mark.parametrize(("make", "how"), _ASKED)
@pytest.mark.parametrize("kind", ["application/json", "text/event-stream"])
def test_a_gigabyte_behind_a_megabyte_is_not_unpacked(make: Callable[[str], AIProvider], how: str, kind: str) -> None:
    with serving(sending("200 OK", kind, lambda: iter((GIGABYTE,)), packed=True)) as server:
        failure = ends(make(server.address), how, 150)
    assert failure.kind is K.ANSWER_TOO_LARGE
    assert failure.consequence.settle is Settle.BOUND, "an answer was made"
    assert failure.consequence.health is Health.NOTE, "a caller may have asked for it"


@pytest.mark.parametrize("make", _SDKS)
@pytest.mark.parametrize("how", ["complete", "stream"])
def test_an_errors_body_has_a_limit_of_its_own(make: Callable[[str], AIProvider], how: str) -> None:
    with serving(sending("400 No", "application/json", lambda: iter((GIGABYTE,)), packed=True)) as server:
        failure = ends(make(server.address), how, 30)
    assert failure.consequence.settle is Settle.BOUND, "nobody can read why it was refused"


@pytest.mark.parametrize("make", _SDKS)
@pytest.mark.parametrize(
    "part",
    [b"data: " + b"x" * _MIB, b": still\n" * 1000, b"data: x\n" * 1000],
    ids=["a line", "comments", "lines of data"],
)
def test_one_event_without_an_end_is_no_event(make: Callable[[str], AIProvider], part: bytes) -> None:
    with serving(sending("200 OK", "text/event-stream", lambda: itertools.repeat(part))) as server:
        failure = ends(make(server.address), "stream", 150)
    assert failure.kind is K.ANSWER_TOO_LARGE


@pytest.mark.parametrize("limits", [{"bytes": 100_000}, {"parts": 1000}], ids=["bytes", "parts"])
def test_a_stream_without_an_end_is_ended(monkeypatch: pytest.MonkeyPatch, limits: dict[str, int]) -> None:
    fewer = answer_limits.AnswerLimits(**{"bytes": 10**9, "values": 10, "event": 10**9, **limits})
    monkeypatch.setattr("fusewire.ai.providers.http_client.STREAMED", fewer)
    with serving(sending("200 OK", "text/event-stream", lambda: itertools.repeat(WORD))) as server:
        assert ends(openai_at(server.address), "stream", 50).kind is K.ANSWER_TOO_LARGE


def test_a_million_tiny_values_are_not_made_objects() -> None:
    body = b'{"choices":[' + b"{}," * 5_000_000 + b"{}]}"
    with serving(sending("200 OK", "application/json", lambda: iter((body,)))) as server:
        assert ends(openai_at(server.address), "complete", 100).kind is K.ANSWER_TOO_LARGE


def test_as_many_vectors_as_were_asked_for_may_come() -> None:
    one, many = answer_limits.for_vectors(1), answer_limits.for_vectors(2048)
    longest = len(b"-0.006929283495992422,")
    assert one.bytes >= 3072 * longest
    assert many.bytes >= 2048 * 3072 * longest
    assert many.values >= 2048 * 8192
    assert one.bytes < 2 * _MIB


def test_how_many_vectors_are_asked_for_is_told_nobody() -> None:
    heads: list[bytes] = []

    def script(connection: socket.socket) -> None:
        heads.append(read_request(connection).partition(b"\r\n\r\n")[0])
        connection.sendall(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")

    with serving(script) as server, pytest.raises(ProviderFailure):
        ask(openai_at(server.address), "embed")
    assert b"fusewire" not in heads[0].lower().replace(b"user-agent: fusewire", b"")


class TestSize:
    def test_a_blank_line_may_come_in_two_parts(self) -> None:
        for parts in ([b"a" * 50 + b"\n", b"\n" + b"b" * 60], [b"a" * 50 + b"\r\n\r", b"\n" + b"b" * 60]):
            size = answer_limits.AnswerSize(answer_limits.AnswerLimits(bytes=1000, values=0, event=70))
            for part in parts:
                size.add(part)
        with pytest.raises(answer_limits.AnswerTooLarge):
            size.add(b"b" * 20)

    @pytest.mark.parametrize(
        "limits",
        [
            {"bytes": 30, "event": 99},
            {"bytes": 99, "event": 30},
            {"bytes": 99, "event": 99, "parts": 3},
            {"bytes": 99, "event": 99, "lines": 3},
        ],
    )
    def test_each_limit_holds_to_the_byte(self, limits: dict[str, int]) -> None:
        size = answer_limits.AnswerSize(answer_limits.AnswerLimits(values=0, **limits))
        for _ in range(3):
            size.add(b"x" * 9 + b"\n")
        with pytest.raises(answer_limits.AnswerTooLarge):
            size.add(b"x\n")


# --- Bedrock, which botocore reads ---


@pytest.mark.usefixtures("aws_credentials")
class TestBedrock:
    @staticmethod
    def endless(handler: Handler, body: object) -> None:
        del body
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.end_headers()
        handler.close_connection = True
        with contextlib.suppress(OSError):
            for _ in range(1024):
                handler.wfile.write(b" " * _MIB)

    @pytest.mark.parametrize("how", ["chat", "embed"])
    def test_a_gigabyte_is_not_read(self, aws: AwsProvider, bedrock: Bedrock, how: str) -> None:
        bedrock.script.append(self.endless)
        with growing_by_less_than(150):
            assert failed(aws, how, _TIMES).kind is K.ANSWER_TOO_LARGE

    def test_a_stream_without_an_end_is_ended(
        self, aws: AwsProvider, bedrock: Bedrock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def words(handler: Handler, body: object) -> None:
            del body
            handler.send_response(200)
            handler.send_header("Content-Type", "application/vnd.amazon.eventstream")
            handler.end_headers()
            handler.close_connection = True
            with contextlib.suppress(OSError):
                handler.wfile.write(START)
                for _ in range(100_000):
                    handler.wfile.write(word("Pa"))

        bedrock.script.append(words)
        fewer = answer_limits.AnswerLimits(bytes=500_000, values=0, event=10**9)
        always = property(lambda exchange: fewer, lambda exchange, limits: None)
        monkeypatch.setattr(Exchange, "limits", always, raising=False)
        assert failed(aws, "stream", _TIMES).kind is K.ANSWER_TOO_LARGE
