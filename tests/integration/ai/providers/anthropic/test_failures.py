"""How each failure of Anthropic's is classified: status first, then its type or code, words last.

Anthropic's own SDK runs against a server that speaks its wire format.
"""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from fusewire.ai.failures import FailureKind, ProviderFailure
from fusewire.ai.provider import AIProvider, Timeouts
from fusewire.ai.providers.anthropic.provider import AnthropicProvider
from fusewire.config import load_settings
from tests.integration.ai.contract import CAP, TIMES, chat
from tests.integration.ai.providers.anthropic.cases import CASES, HTML, TRUNCATED, Case
from tests.support.anthropic_vendor import Handler, Vendor, raw, running_vendor, status

K = FailureKind
MODEL = "claude-opus-5"
BRIEF = Timeouts(connect=5, first=1, total=2)


@pytest.fixture(scope="module")
def lasting_vendor() -> Iterator[Vendor]:
    with running_vendor() as running:
        yield running


@pytest.fixture
def vendor(lasting_vendor: Vendor) -> Vendor:
    for seen in (lasting_vendor.requests, lasting_vendor.script, lasting_vendor.billed):
        seen.clear()
    return lasting_vendor


def at(address: str) -> AIProvider:
    return AnthropicProvider(load_settings({"ANTHROPIC_BASE_URL": address, "ANTHROPIC_API_KEY": "k"}))


@pytest.fixture(scope="module")
def provider(lasting_vendor: Vendor) -> AIProvider:
    return at(lasting_vendor.url)


def failure(provider: AIProvider, *, streamed: bool = False, times: Timeouts = TIMES) -> ProviderFailure:
    with pytest.raises(ProviderFailure) as caught:
        if streamed:
            list(provider.stream(chat(stream=True), MODEL, CAP, times))
        else:
            provider.complete(chat(), MODEL, CAP, times)
    return caught.value


BOTH = [
    pytest.param(case, streamed, id=f"{case.name} ({'stream' if streamed else 'chat'})")
    for case in CASES
    for streamed in (False, True)
    if (case.streamed if streamed else case.kind) is not None
]


# --- the kind ---


@pytest.mark.parametrize(("case", "streamed"), BOTH)
def test_each_failure_has_its_kind(provider: AIProvider, vendor: Vendor, case: Case, streamed: bool) -> None:
    vendor.script.append(case.reply)
    slow = (case.streamed if streamed else case.kind) is K.READ_TIMEOUT
    result = failure(provider, streamed=streamed, times=BRIEF if slow else TIMES)
    assert result.kind is (case.streamed if streamed else case.kind)
    assert result.message.startswith("anthropic ")
    assert len(vendor.requests) == 1, "the SDK must not retry: the router decides"


@pytest.mark.parametrize("streamed", [False, True])
def test_the_vendors_words_reach_the_caller_only(provider: AIProvider, vendor: Vendor, streamed: bool) -> None:
    vendor.script.append(status(400, "invalid_request_error", message="sentinel-words"))
    result = failure(provider, streamed=streamed)
    assert result.caller_message == "sentinel-words"
    assert "sentinel" not in result.message
    for data in (b"sentinel-answer", b'{"type":"sentinel"}', b'{"type":"message","id":{"sentinel":1}}'):
        vendor.script.append(raw(data))
        assert "sentinel" not in failure(provider, streamed=streamed).message


@pytest.mark.parametrize("code", [429, 503, 529, 500])
@pytest.mark.parametrize(
    ("headers", "seconds"),
    [({}, None), ({"retry-after": "17"}, 17), ({"retry-after-ms": "1500"}, 1.5), ({"retry-after": "later"}, None)],
)
def test_when_to_come_back_is_kept(
    provider: AIProvider, vendor: Vendor, code: int, headers: dict[str, str], seconds: float | None
) -> None:
    vendor.script.append(status(code, headers=headers))
    assert failure(provider).retry_after == seconds


def test_when_to_come_back_may_be_a_date(provider: AIProvider, vendor: Vendor) -> None:
    there = datetime.now(UTC) + timedelta(seconds=600)
    vendor.script.append(status(529, headers={"retry-after": format_datetime(there, usegmt=True)}))
    seconds = failure(provider).retry_after
    assert seconds is not None
    assert abs(seconds - (there.timestamp() - time.time())) < 5


@pytest.mark.parametrize("code", [400, 401, 404, 429, 500])
@pytest.mark.parametrize(
    "body",
    [
        HTML, b"", b"null", b"[1]", b'"text"', b'{"error":"text"}', b'{"error":null}', b"\xff",
        b'{"error":{"type":{"a":1},"message":["x"],"details":[2]}}',
        b'{"error":{"type":7,"message":null,"details":{"error_code":{"a":1}}}}',
    ],
)  # fmt: skip
def test_an_errors_body_may_be_anything(provider: AIProvider, vendor: Vendor, code: int, body: bytes) -> None:
    vendor.script.append(raw(body, code))
    result = failure(provider)
    plain = {400: K.UNKNOWN_REFUSAL, 401: K.CREDENTIAL_REJECTED, 404: K.MODEL_NOT_FOUND, 429: K.RATE_LIMITED}
    assert result.kind is plain.get(code, K.SERVER_ERROR)
    assert result.caller_message is None or isinstance(result.caller_message, str)


def short_of_its_length(handler: Handler, body: dict[str, Any]) -> None:
    handler.send_response(200)
    handler.send_header("content-length", "4000")
    handler.end_headers()
    handler.wfile.write(TRUNCATED)
    handler.cut()


@pytest.mark.parametrize("streamed", [False, True])
def test_an_answer_short_of_its_length_is_a_lost_connection(
    provider: AIProvider, vendor: Vendor, streamed: bool
) -> None:
    vendor.script.append(short_of_its_length)
    assert failure(provider, streamed=streamed).kind is K.CONNECTION_LOST


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        (b"{", K.MALFORMED_ANSWER),
        (b"\xff\xfe", K.MALFORMED_ANSWER),
        (b"[]", K.STREAM_BROKEN),
        (b"null", K.STREAM_BROKEN),
        (b'{"type":7}', K.STREAM_BROKEN),
    ],
)
def test_an_event_that_is_none_is_no_answer(
    provider: AIProvider, vendor: Vendor, event: bytes, kind: FailureKind
) -> None:
    def reply(handler: Handler, body: dict[str, Any]) -> None:
        handler.begin_events()
        line = b"event: message_start\ndata: " + event + b"\n\n"
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
        handler.end_events()

    vendor.script.append(reply)
    assert failure(provider, streamed=True).kind is kind


@pytest.mark.parametrize("streamed", [False, True])
def test_a_name_that_cannot_be_one(streamed: bool) -> None:
    assert failure(at("http://\N{SNOWMAN}.invalid"), streamed=streamed).kind is K.CONNECT_FAILED


# --- whatever comes ---

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
FIELDS = ["id", "type", "role", "model", "content", "stop_reason", "usage", "error", "message", "delta", "index"]
KINDS = ["message_start", "content_block_start", "content_block_delta", "message_delta", "message_stop", "error", "x"]


@hypothesis_settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    code=st.sampled_from([200, 400, 403, 429, 500]),
    events=st.lists(
        st.tuples(st.sampled_from(KINDS), st.dictionaries(st.sampled_from(FIELDS), json_values)), max_size=4
    ),
)
def test_whatever_is_sent_is_a_failure(
    provider: AIProvider, vendor: Vendor, code: int, events: list[tuple[str, dict[str, Any]]]
) -> None:
    def reply(handler: Handler, body: dict[str, Any]) -> None:
        handler.begin_events()
        for kind, data in events:
            handler.event(kind, **{name: value for name, value in data.items() if name != "type"})
        handler.end_events()

    vendor.script.append(lambda handler, body: handler.reply(code, dict(events)))
    assert failure(provider).kind in FailureKind
    vendor.script.append(reply)
    assert failure(provider, streamed=True).kind in FailureKind
