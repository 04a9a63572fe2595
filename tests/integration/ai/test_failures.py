"""How each way of failing is classified, by a vendor that fails over real HTTP: status first, text last."""

import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from fusewire.ai.failures import FailureKind, ProviderFailure
from fusewire.ai.provider import AIProvider, Timeouts
from fusewire.ai.providers.openai import OpenAIProvider
from fusewire.config import load_settings
from tests.integration.ai.contract import CAP, EMBEDDING, ROWS, SOTA, TIMES, chat, embedding
from tests.support.ports import closed_port
from tests.support.upstream import (
    Handler,
    Reply,
    Upstream,
    chunk,
    cut_before_answer,
    cut_stream,
    end_stream_early,
    error_in_stream,
    hang,
    raw,
    status,
)

K = FailureKind
BRIEF = Timeouts(connect=5, first=1, total=2)


@pytest.fixture
def upstream(forgetful_upstream: Upstream) -> Upstream:
    return forgetful_upstream


@pytest.fixture(scope="module")
def provider(lasting_upstream: Upstream) -> AIProvider:
    return ROWS[0].make(lasting_upstream)


def failure(provider: AIProvider, *, how: str = "chat", times: Timeouts = TIMES) -> ProviderFailure:
    with pytest.raises(ProviderFailure) as caught:
        if how == "chat":
            provider.complete(chat(), SOTA, CAP, times)
        elif how == "embed":
            provider.embed(embedding(), EMBEDDING, times)
        else:
            list(provider.stream(chat(stream=True), SOTA, CAP, times))
    return caught.value


STATUSES = [
    (400, {}, K.UNKNOWN_REFUSAL),
    (400, {"param": "messages[1].content"}, K.REJECTED_REQUEST),
    (400, {"code": "invalid_value"}, K.REJECTED_REQUEST),
    (400, {"code": "unsupported_parameter"}, K.FIELD_REFUSED),
    (400, {"code": "content_filter"}, K.CONTENT_POLICY),
    (400, {"code": "content_policy_violation"}, K.CONTENT_POLICY),
    (400, {"code": "context_length_exceeded"}, K.REJECTED_REQUEST),
    (401, {}, K.CREDENTIAL_REJECTED),
    (402, {}, K.OUT_OF_CREDIT),
    (403, {}, K.MODEL_DENIED),
    (403, {"code": "model_not_found"}, K.MODEL_NOT_FOUND),
    (404, {}, K.MODEL_NOT_FOUND),
    (408, {}, K.REQUEST_TIMEOUT),
    (409, {}, K.CONFLICT),
    (413, {}, K.TOO_LARGE),
    (418, {}, K.SERVER_ERROR),
    (422, {}, K.UNKNOWN_REFUSAL),
    (429, {}, K.RATE_LIMITED),
    (429, {"code": "insufficient_quota"}, K.OUT_OF_CREDIT),
    (500, {}, K.SERVER_ERROR),
    (500, {"code": "content_filter"}, K.SERVER_ERROR),
    (502, {}, K.GATEWAY_ERROR),
    (503, {}, K.OVERLOADED),
    (504, {}, K.GATEWAY_ERROR),
    (499, {}, K.GATEWAY_ERROR),
    (520, {}, K.GATEWAY_ERROR),
    (524, {}, K.GATEWAY_ERROR),
    (529, {}, K.OVERLOADED),
    (307, {}, K.MALFORMED_ANSWER),
]


@pytest.mark.parametrize("how", ["chat", "stream", "embed"])
@pytest.mark.parametrize(("code", "error", "kind"), STATUSES)
def test_a_status_says_what_it_is(
    provider: AIProvider, upstream: Upstream, how: str, code: int, error: dict[str, Any], kind: FailureKind
) -> None:
    upstream.script.append(status(code, error=error))
    result = failure(provider, how=how)
    assert result.kind is kind
    assert str(code) in result.message
    assert len(upstream.requests) == 1, "the SDK must not retry: the router decides"


def test_a_vendors_words_reach_the_caller_only(provider: AIProvider, upstream: Upstream) -> None:
    upstream.script.append(status(400, error={"message": "sentinel-words", "param": "messages[1]"}))
    result = failure(provider)
    assert (result.caller_message, result.param) == ("sentinel-words", "messages[1]")
    assert "sentinel-words" not in result.message


@pytest.mark.parametrize("code", [429, 503, 529, 500])
@pytest.mark.parametrize(
    ("headers", "seconds"),
    [({}, None), ({"Retry-After": "17"}, 17), ({"retry-after-ms": "1500"}, 1.5), ({"Retry-After": "later"}, None)],
)
def test_when_to_come_back_is_kept(
    provider: AIProvider, upstream: Upstream, code: int, headers: dict[str, str], seconds: float | None
) -> None:
    upstream.script.append(status(code, headers))
    assert failure(provider).retry_after == seconds


def test_when_to_come_back_may_be_a_date(provider: AIProvider, upstream: Upstream) -> None:
    there = datetime.now(UTC) + timedelta(seconds=600)
    upstream.script.append(status(429, {"Retry-After": format_datetime(there, usegmt=True)}))
    seconds = failure(provider).retry_after
    assert seconds is not None
    assert abs(seconds - (there.timestamp() - time.time())) < 5


def test_a_redirect_is_not_followed(provider: AIProvider, upstream: Upstream, second_upstream: Upstream) -> None:
    for how in ("chat", "stream", "embed"):
        upstream.script.append(status(307, {"Location": second_upstream.url + "/chat/completions"}))
        assert failure(provider, how=how).kind is K.MALFORMED_ANSWER
    assert not second_upstream.requests, "the prompt went to a place that nobody configured"


HTML = b"<!doctype html><title>Sign in</title>"
ANSWER = b'{"id":"x","created":1,"model":"m","choices":[{"index":0,"message":{"content":"hi"},"finish_reason":"stop"}]'


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" \n",
        HTML,
        ANSWER,
        b"null",
        b"[]",
        b"{}",
        b'"x"',
        b"\xff\xfe",
        b'{"error":{"message":"x"}}',
        b'{"error":{"message":"x"},"choices":[],"usage":{"prompt_tokens":9}}',
        b'{"choices":null,"usage":{"prompt_tokens":-1}}',
        b'{"choices":[{}]}',
        ANSWER + b',"choices":[]}',
    ],
)
def test_what_is_no_answer_is_malformed(provider: AIProvider, upstream: Upstream, data: bytes) -> None:
    upstream.script.extend([raw(data), raw(data), raw(data)])
    assert failure(provider).kind is K.MALFORMED_ANSWER
    assert failure(provider, how="embed").kind is K.MALFORMED_ANSWER
    assert failure(provider, how="stream").kind in {K.STREAM_BROKEN, K.MALFORMED_ANSWER}


@pytest.mark.parametrize("code", [400, 401, 403, 404, 429, 500])
@pytest.mark.parametrize(
    "body",
    [
        HTML,
        b"",
        b"null",
        b"[1]",
        b'"text"',
        b'{"error":"text"}',
        b'{"error":null}',
        b'{"error":{"code":{"a":1},"message":["x"],"param":{"b":2}}}',
        b'{"error":{"code":400,"message":null}}',
        b'{"detail":[{"loc":["body"]}]}',
        b"\xff",
    ],
)
def test_an_errors_body_may_be_anything(provider: AIProvider, upstream: Upstream, code: int, body: bytes) -> None:
    upstream.script.append(lambda handler, asked: handler.reply(code, body))
    result = failure(provider)
    plain = {c: kind for c, error, kind in STATUSES if not error}
    if code == 400 and b'"loc"' in body:
        assert result.kind is K.REJECTED_REQUEST, "a server's own check of the form"
    else:
        assert result.kind is plain[code]
    assert result.param is None
    assert result.caller_message is None or isinstance(result.caller_message, str)


def short_of_its_length(handler: Handler, body: dict[str, Any]) -> None:
    handler.send_response(200)
    handler.send_header("content-type", "application/json")
    handler.send_header("content-length", "4000")
    handler.end_headers()
    handler.wfile.write(ANSWER)
    handler.cut()


def error_cut_short(handler: Handler, body: dict[str, Any]) -> None:
    handler.send_response(500)
    handler.send_header("content-length", "4000")
    handler.end_headers()
    handler.wfile.write(b'{"error"')
    handler.cut()


def no_http(handler: Handler, body: dict[str, Any]) -> None:
    handler.wfile.write(b"SSH-2.0-OpenSSH_9.6\r\n")
    handler.cut()


@pytest.mark.parametrize("how", ["chat", "stream", "embed"])
@pytest.mark.parametrize("reply", [cut_before_answer, short_of_its_length, error_cut_short, no_http])
def test_a_connection_that_breaks_is_lost(provider: AIProvider, upstream: Upstream, how: str, reply: Reply) -> None:
    upstream.script.append(reply)
    assert failure(provider, how=how).kind is K.CONNECTION_LOST


def test_vectors_from_an_address_that_leads_nowhere() -> None:
    with closed_port() as port:
        for address in (f"http://127.0.0.1:{port}", "http://127.0.0.1:1"):
            provider = OpenAIProvider(load_settings({"OPENAI_BASE_URL": address, "OPENAI_API_KEY": "k"}))
            assert failure(provider, how="embed").kind is K.CONNECT_FAILED


@pytest.mark.parametrize("how", ["chat", "stream", "embed"])
def test_a_name_that_cannot_be_one(how: str) -> None:
    provider = OpenAIProvider(load_settings({"OPENAI_BASE_URL": "http://\N{SNOWMAN}.invalid", "OPENAI_API_KEY": "k"}))
    assert failure(provider, how=how).kind is K.CONNECT_FAILED


def test_vectors_that_never_come(provider: AIProvider, upstream: Upstream) -> None:
    upstream.script.append(hang(3))
    assert failure(provider, how="embed", times=BRIEF).kind is K.READ_TIMEOUT


def drip(piece: bytes, content_type: str, first: bytes = b"") -> Reply:
    """A server that keeps the connection warm and never answers."""

    def reply(handler: Handler, body: dict[str, Any]) -> None:
        handler.send_response(200)
        handler.send_header("content-type", content_type)
        handler.send_header("transfer-encoding", "chunked")
        handler.end_headers()
        end = time.monotonic() + 10
        try:
            if first:
                handler.wfile.write(b"%x\r\n%s\r\n" % (len(first), first))
            while time.monotonic() < end:
                handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                handler.wfile.flush()
                time.sleep(0.05)
            handler.cut()
        except OSError:
            handler.close_connection = True

    return reply


BLANK = drip(b"\n", "application/json")
COMMENTS = drip(b": PROCESSING\n\n", "text/event-stream")
_ROLE = b'{"id":"c","created":1,"model":"m","choices":[{"index":0,"delta":{"role":"assistant"},"finish_reason":null}]}'
ROLE_ONLY = drip(b": thinking\n\n", "text/event-stream", b"data: " + _ROLE + b"\n\n")


@pytest.mark.parametrize(
    ("how", "reply"), [("chat", BLANK), ("embed", BLANK), ("stream", COMMENTS), ("stream", ROLE_ONLY)]
)
def test_keeping_warm_is_not_answering(provider: AIProvider, upstream: Upstream, how: str, reply: Reply) -> None:
    upstream.script.append(reply)
    assert failure(provider, how=how, times=BRIEF).kind is K.READ_TIMEOUT


def endless(handler: Handler, body: dict[str, Any]) -> None:
    try:
        handler.begin_events()
        end = time.monotonic() + 10
        while time.monotonic() < end:
            handler.event(chunk("m", {"content": "x"}))
            time.sleep(0.05)
        handler.cut()
    except OSError:
        handler.close_connection = True


def test_a_stream_may_go_on_after_its_first_content_until_the_deadline(
    provider: AIProvider, upstream: Upstream
) -> None:
    upstream.script.append(endless)
    stream = provider.stream(chat(stream=True), SOTA, CAP, Timeouts(connect=1, first=1, total=2))
    begun = time.monotonic()
    with pytest.raises(ProviderFailure) as caught:
        for _ in stream:
            pass
    assert caught.value.kind is K.READ_TIMEOUT
    assert time.monotonic() - begun > 1.5, "the first content's limit must not end a stream that flows"


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_a_thought_is_content_by_whatever_name(provider: AIProvider, upstream: Upstream, name: str) -> None:
    def thinks(handler: Handler, body: dict[str, Any]) -> None:
        handler.begin_events()
        for _ in range(5):
            handler.event(chunk("m", {name: "Hm. "}))
            time.sleep(0.4)
        handler.event(chunk("m", {"content": "Paris."}, "stop"))
        handler.event("[DONE]")
        handler.end_events()

    upstream.script.append(thinks)
    chunks = list(provider.stream(chat(stream=True), SOTA, CAP, Timeouts(connect=1, first=1, total=20)))
    deltas = [choice.delta for each in chunks for choice in each.choices]
    assert "".join(delta.reasoning_content or "" for delta in deltas) == "Hm. " * 5
    assert deltas[-1].content == "Paris."


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (cut_stream(0), K.CONNECTION_LOST),
        (cut_stream(1), K.CONNECTION_LOST),
        (end_stream_early(0), K.STREAM_BROKEN),
        (end_stream_early(2), K.STREAM_BROKEN),
        (error_in_stream(0), K.STREAM_ERROR),
        (error_in_stream(1), K.STREAM_ERROR),
    ],
)
def test_a_stream_that_breaks(provider: AIProvider, upstream: Upstream, reply: Reply, kind: FailureKind) -> None:
    upstream.script.append(reply)
    assert failure(provider, how="stream").kind is kind


@pytest.mark.parametrize("event", ["{", "[]", "null", "text", '{"id":1}', '{"choices":"x"}', "\x00"])
def test_an_event_that_is_no_chunk(provider: AIProvider, upstream: Upstream, event: str) -> None:
    def reply(handler: Handler, body: dict[str, Any]) -> None:
        handler.begin_events()
        handler.event(event)
        handler.end_events()

    upstream.script.append(reply)
    no_json = event in ("{", "text", "\x00")
    assert failure(provider, how="stream").kind is (K.MALFORMED_ANSWER if no_json else K.STREAM_BROKEN)


def test_a_failures_message_never_quotes_the_answer(provider: AIProvider, upstream: Upstream) -> None:
    secret = b"sentinel-answer-3c9d"
    for data in (secret, b'{"choices":"' + secret + b'"}', b'{"id":{"' + secret + b'":1}}'):
        upstream.script.append(raw(data))
        assert secret.decode() not in failure(provider).message


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
FIELDS = ["id", "object", "created", "model", "choices", "usage", "error", "data", "code", "message"]


@hypothesis_settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(code=st.sampled_from([200, 400, 403, 429, 500]), body=st.dictionaries(st.sampled_from(FIELDS), json_values))
def test_whatever_is_sent_is_an_answer_or_a_failure(
    provider: AIProvider, upstream: Upstream, code: int, body: dict[str, Any]
) -> None:
    for how in ("chat", "stream", "embed"):
        upstream.script.append(lambda handler, asked: handler.reply(code, body))
        assert failure(provider, how=how).kind in FailureKind
