"""How each failure of Bedrock's is classified: by how far it came, then by its status, its name and its text."""

import os
import time
from pathlib import Path
from typing import Any

import pytest

from fusewire.ai.failures import FailureKind
from fusewire.ai.provider import Timeouts
from fusewire.ai.providers.bedrock.provider import AwsProvider
from tests.integration.ai.contract import CAP, TIMES, chat
from tests.integration.ai.providers.bedrock.cases import (
    BRIEF,
    BROKEN_STREAMS,
    CUT,
    HOWS,
    METADATA,
    MODEL,
    START,
    STATUSES,
    STOP,
    K,
    failed,
    made,
    word,
)
from tests.support.bedrock_vendor import (
    Bedrock,
    Handler,
    Reply,
    beginning,
    drip,
    error,
    hang,
    raw,
    running_bedrock,
    stall,
)
from tests.support.certificates import self_signed
from tests.support.ports import closed_port

pytestmark = pytest.mark.usefixtures("aws_credentials")


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize(("status", "name", "text", "kind"), STATUSES)
def test_a_status_says_what_it_is_then_a_name_then_a_text(
    aws: AwsProvider, bedrock: Bedrock, how: str, status: int, name: str, text: str, kind: FailureKind
) -> None:
    bedrock.script.append(error(status, name, text))
    result = failed(aws, how)
    assert result.kind is kind
    assert f"HTTP {status}" in result.message
    assert text not in result.message, "a vendor's words are for the caller alone"
    assert len(bedrock.requests) == 1, "the SDK must not retry: the router decides"


@pytest.mark.parametrize(
    ("status", "setting"),
    [(401, "AWS_ACCESS_KEY_ID"), (403, "what its role may invoke"), (404, "AWS_BEDROCK_*_MODEL")],
)
def test_the_operator_is_told_which_setting_to_look_at(
    aws: AwsProvider, bedrock: Bedrock, status: int, setting: str
) -> None:
    bedrock.script.append(error(status, ""))
    assert setting in failed(aws, "chat").message


def test_a_vendors_words_reach_the_caller_only(aws: AwsProvider, bedrock: Bedrock) -> None:
    bedrock.script.append(error(400, "ValidationException", "sentinel-words"))
    assert failed(aws, "chat").caller_message == "sentinel-words"
    bedrock.script.append(error(403, "AccessDeniedException", "sentinel-arn"))
    assert failed(aws, "chat").caller_message is None, "account ids aren't the caller's business"


@pytest.mark.parametrize(("headers", "seconds"), [({}, None), ({"Retry-After": "17"}, 17)])
def test_when_to_come_back_is_kept(
    aws: AwsProvider, bedrock: Bedrock, headers: dict[str, str], seconds: float | None
) -> None:
    for status, name in ((429, "ThrottlingException"), (503, "ServiceUnavailableException")):
        bedrock.script.append(error(status, name, headers=headers))
        assert failed(aws, "chat").retry_after == seconds


BODIES = [
    b"",
    b" \n",
    b"<!doctype html>",
    b'{"output":{"mess',
    b"null",
    b"[]",
    b"[1]",
    b'"x"',
    b"{}",
    b"\xff\xfe",
    b"1",
]


@pytest.mark.parametrize("data", BODIES)
def test_what_is_no_answer_is_malformed(aws: AwsProvider, bedrock: Bedrock, data: bytes) -> None:
    bedrock.script.extend([raw(data), raw(data), raw(data)])
    assert failed(aws, "chat").kind is K.MALFORMED_ANSWER
    assert failed(aws, "embed").kind is K.MALFORMED_ANSWER
    assert failed(aws, "stream").kind in {K.MALFORMED_ANSWER, K.STREAM_BROKEN}


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500])
@pytest.mark.parametrize("data", [*BODIES, b'{"message":{"a":1}}', b'{"__type":["x"]}', b'{"code":{"a":1}}'])
def test_an_errors_body_may_be_anything(aws: AwsProvider, bedrock: Bedrock, how: str, status: int, data: bytes) -> None:
    bedrock.script.append(raw(data, status))
    result = failed(aws, how)
    assert result.kind is {
        400: K.UNKNOWN_REFUSAL,
        403: K.MODEL_DENIED,
        404: K.MODEL_NOT_FOUND,
        429: K.RATE_LIMITED,
        500: K.SERVER_ERROR,
    }.get(status, K.CREDENTIAL_REJECTED)
    assert result.caller_message is None or isinstance(result.caller_message, str)


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("name", CUT)
def test_a_connection_that_breaks_is_lost(aws: AwsProvider, bedrock: Bedrock, how: str, name: str) -> None:
    bedrock.script.append(CUT[name])
    result = failed(aws, how).kind
    # What such an answer begins with is no event: a stream is malformed before it is cut.
    assert result is (K.MALFORMED_ANSWER if (how, name) == ("stream", "in the answer") else K.CONNECTION_LOST)


def test_vectors_from_an_address_that_leads_nowhere(bedrock: Bedrock) -> None:
    with closed_port() as port:
        for address in (
            f"http://127.0.0.1:{port}",
            "http://nowhere.invalid",
            bedrock.url.replace("http:", "https:"),
        ):
            assert failed(made(address), "embed").kind is K.CONNECT_FAILED
    assert bedrock.requests == []


def no_tls(handler: Handler, body: dict[str, Any]) -> None:
    """In the middle of a connection under TLS, as a proxy's own error would come."""
    os.write(handler.connection.fileno(), b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
    handler.close_connection = True


@pytest.mark.parametrize("how", HOWS)
def test_tls_that_breaks_after_the_request_is_a_lost_connection(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, how: str
) -> None:
    certificate = self_signed(tmp_path)
    with running_bedrock(certificate.context()) as secured:
        assert failed(made(secured.url), how).kind is K.CONNECT_FAILED
        assert secured.requests == [], "nobody vouches for it, and nothing was sent"
        monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate.certificate))
        secured.script.append(no_tls)
        assert failed(made(secured.url), how).kind is K.CONNECTION_LOST
        assert len(secured.requests) == 1


@pytest.mark.parametrize("how", HOWS)
def test_a_name_that_cannot_be_one(how: str) -> None:
    assert failed(made("http://\N{SNOWMAN}.invalid"), how).kind is K.CONNECT_FAILED


JSON = {"content-type": "application/json"}
EVENTS = {"content-type": "application/vnd.amazon.eventstream", "transfer-encoding": "chunked"}
SLOW: list[tuple[str, str, Reply]] = [
    ("silence, chat", "chat", hang),
    ("silence, stream", "stream", hang),
    ("silence, embed", "embed", hang),
    ("a drip of blanks", "chat", drip(b" ", {**JSON, "content-length": "100000"})),
    ("a drip of chunks", "chat", drip(b"1\r\n \r\n", {**JSON, "transfer-encoding": "chunked"})),
    ("a drip for vectors", "embed", drip(b" ", {**JSON, "content-length": "100000"})),
    ("a drip of half an event", "stream", drip(b"1\r\n\x00\r\n", EVENTS, b"c\r\n%s\r\n" % beginning(10_000))),
    ("roles without end", "stream", drip(b"%x\r\n%s\r\n" % (len(START), START), EVENTS)),
    ("a stream that stalls before its content", "stream", stall(START)),
    ("a stream that stalls after it", "stream", stall(START, word("Pa"))),
]


@pytest.mark.parametrize(("how", "reply"), [row[1:] for row in SLOW], ids=[row[0] for row in SLOW])
def test_keeping_the_connection_warm_is_not_answering(
    aws: AwsProvider, bedrock: Bedrock, how: str, reply: Reply
) -> None:
    bedrock.script.append(reply)
    begun = time.monotonic()
    assert failed(aws, how, BRIEF).kind is K.READ_TIMEOUT
    assert time.monotonic() - begun < 10, "the server would go on for 20 s"


def test_a_stream_may_go_on_after_its_first_content_until_the_deadline(aws: AwsProvider, bedrock: Bedrock) -> None:
    bedrock.script.append(drip(b"%x\r\n%s\r\n" % (len(word("x")), word("x")), EVENTS))
    begun = time.monotonic()
    result = failed(aws, "stream", Timeouts(connect=5, first=1, total=2.5))
    assert result.kind is K.READ_TIMEOUT
    assert time.monotonic() - begun > 1.5, "the first content's limit must not end a stream that flows"


@pytest.mark.parametrize(("reply", "kind"), [row[1:] for row in BROKEN_STREAMS], ids=[row[0] for row in BROKEN_STREAMS])
def test_a_stream_that_breaks(aws: AwsProvider, bedrock: Bedrock, reply: Reply, kind: FailureKind) -> None:
    bedrock.script.append(reply)
    assert failed(aws, "stream").kind is kind


def test_a_stream_ends_with_its_metadata_whatever_the_server_does_then(aws: AwsProvider, bedrock: Bedrock) -> None:
    bedrock.script.append(stall(START, word("Pa"), STOP, METADATA))
    begun = time.monotonic()
    chunks = list(aws.stream(chat(stream=True), MODEL, CAP, TIMES))
    assert chunks[-1].usage is not None
    assert time.monotonic() - begun < 8
