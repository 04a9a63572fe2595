"""How long a stream may be silent: before its first content, and between its parts, over each of the three protocols.

`BRIEF` cuts a first content at 1 s and a later silence at 4 s. A test that waits for content therefore shows that
the first limit is over, and one that waits in vain that the second is not the attempt's end.
"""

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from fusewire.ai.failures import FailureKind, ProviderFailure
from fusewire.ai.provider import AIProvider, Timeouts
from fusewire.ai.providers.anthropic.provider import AnthropicProvider
from fusewire.ai.providers.openai import OpenAIProvider
from fusewire.config import load_settings
from tests.integration.ai.contract import CAP, chat
from tests.integration.ai.providers.bedrock.cases import METADATA, START, STOP, made, word
from tests.support.raw_server import Script, read_request, serving
from tests.support.upstream import chunk

BRIEF = Timeouts(connect=5, first=1, total=60, silence=4)
LONG = Timeouts(connect=10, first=30, total=60, silence=30)


@dataclass(frozen=True)
class Protocol:
    """The parts of a stream as bytes of the body."""

    at: Callable[[str], AIProvider]
    content_type: bytes
    start: bytes
    content: bytes
    end: bytes
    alive: tuple[bytes, ...]
    """What says that the server is there, and nothing else."""


def _data(value: object, kind: str = "") -> bytes:
    name = f"event: {kind}\n" if kind else ""
    return f"{name}data: {json.dumps(value)}\n\n".encode()


def _anthropic(kind: str, **fields: object) -> bytes:
    return _data({"type": kind, **fields}, kind)


def _openai_at(address: str) -> AIProvider:
    return OpenAIProvider(load_settings({"OPENAI_BASE_URL": address, "OPENAI_API_KEY": "k"}))


def _anthropic_at(address: str) -> AIProvider:
    return AnthropicProvider(load_settings({"ANTHROPIC_BASE_URL": address, "ANTHROPIC_API_KEY": "k"}))


_USAGE = {"input_tokens": 5, "output_tokens": 1}
_MESSAGE = {"id": "m", "type": "message", "role": "assistant", "model": "m", "content": [], "usage": _USAGE}
_ANTHROPIC_DELTA = {"type": "text_delta", "text": "x"}
PROTOCOLS = {
    "openai": Protocol(
        _openai_at,
        b"text/event-stream",
        _data(chunk("m", {"role": "assistant", "content": ""})),
        _data(chunk("m", {"content": "x"})),
        # Without `[DONE]`, at which the SDK gives up the connection.
        _data(chunk("m", {}, "stop")),
        # OpenRouter's comment; a chunk without a choice.
        (b": PROCESSING\n\n", _data(chunk("m", {}) | {"choices": []})),
    ),
    "anthropic": Protocol(
        _anthropic_at,
        b"text/event-stream",
        _anthropic("message_start", message=_MESSAGE)
        + _anthropic("content_block_start", index=0, content_block={"type": "text", "text": ""}),
        _anthropic("content_block_delta", index=0, delta=_ANTHROPIC_DELTA),
        _anthropic("content_block_stop", index=0)
        + _anthropic("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 1})
        + _anthropic("message_stop"),
        (_anthropic("ping"),),
    ),
    "aws": Protocol(made, b"application/vnd.amazon.eventstream", START, word("x"), STOP + METADATA, (START,)),
}


@pytest.fixture(params=PROTOCOLS)
def protocol(request: pytest.FixtureRequest, aws_credentials: None) -> Protocol:
    return PROTOCOLS[request.param]


def streaming(protocol: Protocol, *steps: bytes | float, whole: bool = True) -> Script:
    """Read a request and answer with these parts and pauses in seconds; not `whole`, hold the connection at the end."""

    def script(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nTransfer-Encoding: chunked\r\n\r\n" % protocol.content_type
        )
        for step in steps:
            if isinstance(step, bytes):
                connection.sendall(b"%x\r\n%s\r\n" % (len(step), step))
            else:
                time.sleep(step)
        if whole:
            connection.sendall(b"0\r\n\r\n")
        connection.recv(1)

    return script


@contextmanager
def heard(protocol: Protocol, script: Script) -> Iterator[AIProvider]:
    """A provider whose client is made, in front of a server that does this to its next request."""

    def first(connection: socket.socket) -> None:
        read_request(connection)
        body = protocol.start + protocol.content + protocol.end
        head = b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
        connection.sendall(head % (protocol.content_type, len(body)) + body)

    with serving(first, script) as server:
        provider = protocol.at(server.address)
        assert list(said(provider, LONG)) == ["x"]
        yield provider


def said(provider: AIProvider, times: Timeouts = BRIEF) -> Iterator[str]:
    for each in provider.stream(chat(stream=True), "claude-x", CAP, times):
        yield from (choice.delta.content for choice in each.choices if choice.delta.content)


def test_a_pause_longer_than_the_first_contents_limit_is_no_end(protocol: Protocol) -> None:
    steps = (protocol.start, protocol.content, 2.0, protocol.content, protocol.end)
    with heard(protocol, streaming(protocol, *steps)) as provider:
        assert list(said(provider)) == ["x", "x"]


def test_a_stream_that_flows_slowly_is_heard_to_its_end(protocol: Protocol) -> None:
    """A word now and then, for longer in all than either limit."""
    steps = [step for _ in range(8) for step in (protocol.content, 0.6)]
    with heard(protocol, streaming(protocol, protocol.start, *steps, protocol.end)) as provider:
        assert list(said(provider)) == ["x"] * 8


def test_a_silence_longer_than_the_limit_ends_it_long_before_the_whole_time(protocol: Protocol) -> None:
    with heard(protocol, streaming(protocol, protocol.start, protocol.content, whole=False)) as provider:
        words, begun = said(provider), time.monotonic()
        assert next(words) == "x"
        with pytest.raises(ProviderFailure) as caught:
            next(words)
        took = time.monotonic() - begun
    assert caught.value.kind is FailureKind.READ_TIMEOUT
    assert 4 <= took < 30


def test_whatever_arrives_between_the_parts_is_a_sign_of_life(protocol: Protocol) -> None:
    """Anthropic holds back a tool's input, and says `ping` meanwhile."""
    for alive in protocol.alive:
        pause = [step for _ in range(5) for step in (alive, 1.0)]
        steps = (protocol.start, protocol.content, *pause, protocol.content, protocol.end)
        with heard(protocol, streaming(protocol, *steps)) as provider:
            assert list(said(provider)) == ["x", "x"], alive


def test_before_the_first_content_it_is_none(protocol: Protocol) -> None:
    for alive in protocol.alive:
        steps = [step for _ in range(200) for step in (alive, 0.1)]
        with heard(protocol, streaming(protocol, protocol.start, *steps)) as provider:
            begun = time.monotonic()
            with pytest.raises(ProviderFailure) as caught:
                list(said(provider))
            assert time.monotonic() - begun < 15
        assert caught.value.kind is FailureKind.READ_TIMEOUT


def test_the_whole_time_ends_a_stream_that_flows(protocol: Protocol) -> None:
    steps = [step for _ in range(200) for step in (protocol.content, 0.1)]
    with heard(protocol, streaming(protocol, protocol.start, *steps)) as provider:
        begun = time.monotonic()
        with pytest.raises(ProviderFailure) as caught:
            list(said(provider, Timeouts(connect=5, first=1, total=2.5, silence=30)))
        assert 2 < time.monotonic() - begun < 15
    assert caught.value.kind is FailureKind.READ_TIMEOUT


def test_the_next_answer_over_the_same_connection_has_limits_of_its_own(protocol: Protocol) -> None:
    """A stream whose limits are brief, and then over its connection one that takes its time before it begins."""

    def script(connection: socket.socket) -> None:
        for wait in (0.0, 1.5):
            read_request(connection)
            body = b"".join((protocol.start, protocol.content, protocol.end))
            time.sleep(wait)
            connection.sendall(
                b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s"
                % (protocol.content_type, len(body), body)
            )
        connection.recv(1)

    with serving(script) as server:
        provider = protocol.at(server.address)
        assert list(said(provider, Timeouts(connect=10, first=30, total=30, silence=0.5))) == ["x"]
        assert list(said(provider, Timeouts(connect=10, first=30, total=30, silence=0.5))) == ["x"]
        assert server.accepted == 1
