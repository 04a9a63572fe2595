"""What the provider says of itself, and a time that holds; the wire is in tests/integration/ai/test_aws.py."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from botocore.eventstream import ChecksumMismatch, EventStreamBuffer  # type: ignore[import-untyped]

from fusewire.ai.failures import FailureKind
from fusewire.ai.providers.bedrock.exchange import AnswerCut, Exchange, TimedSession, TimeIsOver, using
from fusewire.ai.providers.bedrock.failures import failure_of
from fusewire.ai.providers.bedrock.provider import AwsProvider
from fusewire.ai.schema import ChatRequest, EmbeddingRequest
from fusewire.config import load_settings
from tests.support.bedrock_vendor import event_message, exception_message

LAYER = Path(__file__).parents[5] / "layers/core/python"
REGION = {"AWS_REGION": "eu-west-1"}
SOTA = {"AWS_BEDROCK_SOTA_MODEL": "eu.anthropic.claude-sonnet-5-5"}


def provider(**variables: str) -> AwsProvider:
    return AwsProvider(load_settings(variables))


@pytest.mark.parametrize(
    ("variables", "missing"),
    [
        ({}, ("AWS_REGION", "AWS_BEDROCK_SOTA_MODEL")),
        (REGION, ("AWS_BEDROCK_SOTA_MODEL",)),
        (SOTA, ("AWS_REGION",)),
        ({**REGION, **SOTA}, ()),
        ({**REGION, "AWS_BEDROCK_COST_EFFECTIVE_MODEL": "m"}, ()),
        ({**REGION, "AWS_BEDROCK_EMBEDDING_MODEL": "m"}, ()),
    ],
)
def test_it_is_configured_by_a_region_and_a_model(variables: dict[str, str], missing: tuple[str, ...]) -> None:
    assert provider(**variables).missing() == missing


def asked(**fields: object) -> ChatRequest:
    body = {"model": "sota", "messages": [{"role": "user", "content": "Hello"}], **fields}
    return ChatRequest.model_validate_json(json.dumps(body))


REMOTE = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://example.invalid/a.png"}}]}]


@pytest.mark.parametrize(
    ("fields", "params"),
    [
        ({}, ()),
        ({"n": 2}, ("n",)),
        ({"parallel_tool_calls": False}, ()),
        ({"response_format": {"type": "json_object"}}, ("response_format",)),
        ({"logprobs": True}, ("logprobs",)),
        ({"temperature": 1.5}, ("temperature",)),
        ({"messages": REMOTE}, ("messages",)),
        ({"seed": 1, "stop": "x", "temperature": 1}, ()),
    ],
)
def test_what_it_cannot_do_is_named_before_anything_is_reserved(
    fields: dict[str, object], params: tuple[str, ...]
) -> None:
    assert provider().unsupported(asked(**fields)) == params


def test_what_one_model_cannot_do() -> None:
    request = asked(temperature=0.5)
    assert provider().unsupported(request, "amazon.nova-pro-v1:0") == ()
    assert provider().unsupported(request, "eu.anthropic.claude-opus-5-5") == ("temperature",)


def test_advisory_fields_are_told_as_dropped() -> None:
    advisory = {
        "seed": 7, "presence_penalty": 0.5, "frequency_penalty": 0.25, "logit_bias": {"1": -1.0}, "user": "u",
        "safety_identifier": "s", "prompt_cache_key": "p", "metadata": {"a": "b"}, "verbosity": "low",
    }  # fmt: skip
    assert provider().dropped(asked(**advisory)) == tuple(sorted(advisory))
    assert provider().dropped(EmbeddingRequest(model="m", input="a", user="u")) == ("user",)
    assert provider().dropped(asked(messages=[{"role": "user", "content": "a", "name": "ann"}])) == ("messages.name",)


def test_a_cache_mark_is_told_as_dropped_where_a_model_has_no_cache() -> None:
    part = {"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}
    request = asked(messages=[{"role": "user", "content": [part]}])
    claude, llama = SOTA["AWS_BEDROCK_SOTA_MODEL"], "us.meta.llama3-3-70b-instruct-v1:0"
    mixed = provider(AWS_BEDROCK_SOTA_MODEL=claude, AWS_BEDROCK_COST_EFFECTIVE_MODEL=llama)
    assert mixed.dropped(request, claude) == ()
    assert mixed.dropped(request, llama) == mixed.dropped(request) == ("cache_control",)
    assert provider(**SOTA).dropped(request) == ()


def test_naming_it_imports_no_sdk() -> None:
    script = (
        "import sys\n"
        "from fusewire.ai.providers.bedrock.provider import AwsProvider\n"
        "from fusewire.config import load_settings\n"
        "AwsProvider(load_settings({'AWS_REGION': 'eu-west-1'})).missing()\n"
        "print(sorted({'boto3', 'botocore', 'urllib3', 'openai', 'httpx2', 'google'} & sys.modules.keys()))\n"
    )
    output = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", script], env={"PYTHONPATH": str(LAYER)}, capture_output=True, text=True, check=True
    )
    assert output.stdout.strip() == "[]"


# --- the test vendor's framing, by botocore's own parser ---


def test_the_vendors_events_are_framed_as_awss() -> None:
    buffer = EventStreamBuffer()
    raw = event_message("messageStart", {"role": "assistant"}) + exception_message("throttlingException", "slow é")
    for byte in raw:
        buffer.add_data(bytes([byte]))
    event, exception = list(buffer)
    assert event.headers == {
        ":event-type": "messageStart",
        ":content-type": "application/json",
        ":message-type": "event",
    }
    assert json.loads(event.payload) == {"role": "assistant"}
    assert event.to_response_dict()["status_code"] == 200
    assert exception.headers[":exception-type"] == "throttlingException"
    assert json.loads(exception.payload) == {"message": "slow é"}
    assert exception.to_response_dict()["status_code"] == 400


@pytest.mark.parametrize("place", [3, 9, 30, -6, -1])
def test_a_bit_that_fell_over_is_noticed(place: int) -> None:
    raw = bytearray(event_message("messageStart", {"role": "assistant"}))
    raw[place] ^= 1
    buffer = EventStreamBuffer()
    buffer.add_data(bytes(raw))
    with pytest.raises(ChecksumMismatch):
        next(buffer)


# --- the time ---


class Raw:
    """What urllib3 would read."""

    def __init__(self, *parts: bytes, remaining: int | None = 0) -> None:
        self._parts = list(parts)
        self.length_remaining = remaining
        self.closed = False

    def read1(self, amt: int) -> bytes:
        return self._parts.pop(0) if self._parts else b""

    def close(self) -> None:
        self.closed = True


class Session:
    """A session whose answer is `raw`."""

    def __init__(self, raw: Raw) -> None:
        self.raw = raw
        self.sent: list[object] = []

    def send(self, request: object) -> "Session":
        self.sent.append(request)
        return self

    status_code = 200
    headers = {"x": "y"}  # noqa: RUF012 - as a response's

    def close(self) -> None:
        """Nothing to close."""


class Request:
    context: dict[str, object] | None = None
    stream_output = False


def test_an_exchange_tells_the_session_its_time_and_learns_how_far_it_came() -> None:
    raw, exchange, request = Raw(b"ab", b"c"), Exchange(5), Request()
    timed = TimedSession(Session(raw))
    with using(exchange):
        response = timed.send(request)
    assert request.context is not None
    assert 4 < float(str(request.context["read_timeout"])) <= 5
    assert request.stream_output is True
    assert (exchange.sent, exchange.status, exchange.headers) == (True, 200, {"x": "y"})
    assert response.raw.read() == b"abc"
    response.raw.close()
    assert raw.closed


def test_nothing_is_sent_when_the_time_is_over() -> None:
    session, exchange = Session(Raw()), Exchange(-1)
    with using(exchange), pytest.raises(TimeIsOver) as caught:
        TimedSession(session).send(Request())
    assert session.sent == []
    assert failure_of(caught.value, exchange).kind is FailureKind.CONNECT_TIMEOUT


def test_a_body_that_comes_too_late_and_one_that_ends_too_early(monkeypatch: pytest.MonkeyPatch) -> None:
    exchange = Exchange(5)
    with using(exchange):
        late = TimedSession(Session(Raw(b"a", b"b"))).send(Request()).raw
        short = TimedSession(Session(Raw(b"a", remaining=3))).send(Request()).raw
    parts = late.stream()
    assert next(parts) == b"a"
    with pytest.raises(AnswerCut):
        short.read()
    monkeypatch.setattr(exchange, "left", lambda: -1)
    with pytest.raises(TimeIsOver):
        next(parts)
