"""Bedrock's ways to answer and to fail, each with the kind that it is, for every test of them."""

from typing import Any

import pytest

from fusewire.ai.failures import FailureKind, ProviderFailure
from fusewire.ai.provider import Timeouts
from fusewire.ai.providers.bedrock.provider import AwsProvider
from fusewire.config import load_settings
from tests.integration.ai.contract import CAP, TIMES, chat, embedding
from tests.support.bedrock_vendor import (
    Reply,
    cut_before_answer,
    event_message,
    events,
    exception_message,
    no_http,
    short_of_its_length,
    whole,
)

K = FailureKind
MODEL = "eu.amazon.nova-lite-v1:0"
TITAN = "amazon.titan-embed-text-v2:0"
BRIEF = Timeouts(connect=5, first=1, total=2)
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
PRICES = {
    "aws/*": {"input_mtok": 1000, "output_mtok": 2000, "cached_input_mtok": 100, "cache_write_mtok": 1250},
    "openai/*": {"input_mtok": 3000, "output_mtok": 4000},
}


def made(url: str, region: str = "eu-west-1") -> AwsProvider:
    variables = {"AWS_REGION": region, "AWS_BEDROCK_ENDPOINT_URL": url, "AWS_BEDROCK_SOTA_MODEL": MODEL}
    return AwsProvider(load_settings(variables))


def raw_answer(content: list[dict[str, Any]], stop: str, usage: dict[str, Any] | None = None) -> Reply:
    return lambda handler, body: handler.reply(200, whole(content, stop, usage))


START = event_message("messageStart", {"role": "assistant"})
STOP = event_message("messageStop", {"stopReason": "end_turn"})
METADATA = event_message(
    "metadata", {"usage": {"inputTokens": 5, "outputTokens": 2, "totalTokens": 7}, "metrics": {"latencyMs": 1}}
)


def word(text: str) -> bytes:
    return event_message("contentBlockDelta", {"delta": {"text": text}, "contentBlockIndex": 0})


def say(*words: str) -> Reply:
    return events(START, *map(word, words), STOP, METADATA)


def failed(aws: AwsProvider, streamed: bool | str, times: Timeouts = TIMES, **fields: object) -> ProviderFailure:
    with pytest.raises(ProviderFailure) as caught:
        if streamed == "embed":
            aws.embed(embedding(), TITAN, times)
        elif streamed is True or streamed == "stream":
            list(aws.stream(chat(stream=True, **fields), MODEL, CAP, times))
        else:
            aws.complete(chat(**fields), MODEL, CAP, times)
    assert "sentinel" not in caught.value.message
    return caught.value


HOWS = ["chat", "stream", "embed"]
# (status, name, message, kind)
STATUSES: list[tuple[int, str, str, FailureKind]] = [
    (400, "ValidationException", "Malformed input request", K.REJECTED_REQUEST),
    (400, "ValidationException", "told", K.UNKNOWN_REFUSAL),
    (400, "", "Malformed input request", K.UNKNOWN_REFUSAL),
    (400, "ValidationException", "The provided model identifier is invalid.", K.MODEL_NOT_FOUND),
    (400, "ValidationException", "Invocation of model ID x with on-demand throughput isn’t s", K.MODEL_NOT_FOUND),
    (400, "ValidationException", "Operation not allowed", K.MODEL_DENIED),
    (400, "ValidationException", "This request has been blocked by our content filters.", K.CONTENT_POLICY),
    (400, "ServiceQuotaExceededException", "told", K.RATE_LIMITED),
    (400, "ThrottlingException", "told", K.RATE_LIMITED),
    (400, "IncompleteSignature", "told", K.CREDENTIAL_REJECTED),
    (400, "RequestExpired", "told", K.CREDENTIAL_REJECTED),
    (401, "", "told", K.CREDENTIAL_REJECTED),
    (402, "", "told", K.OUT_OF_CREDIT),
    (403, "AccessDeniedException", "User: arn:x is not authorized to perform: bedrock:In", K.MODEL_DENIED),
    (403, "AccessDeniedException", "You don't have access to the model with the specified", K.MODEL_DENIED),
    (403, "AccessDeniedException", "Model access is denied due to INVALID_PAYMENT_INSTRUMENT", K.MODEL_DENIED),
    (403, "ExpiredTokenException", "The security token included in the request is expired", K.CREDENTIAL_REJECTED),
    (403, "UnrecognizedClientException", "The security token included in the request is inv", K.CREDENTIAL_REJECTED),
    (403, "InvalidSignatureException", "told", K.CREDENTIAL_REJECTED),
    (404, "ResourceNotFoundException", "told", K.MODEL_NOT_FOUND),
    (408, "ModelTimeoutException", "told", K.REQUEST_TIMEOUT),
    (409, "ConflictException", "told", K.CONFLICT),
    (413, "RequestEntityTooLargeException", "told", K.TOO_LARGE),
    (418, "", "told", K.SERVER_ERROR),
    (422, "", "told", K.UNKNOWN_REFUSAL),
    (424, "ModelErrorException", "told", K.GATEWAY_ERROR),
    (429, "ThrottlingException", "told", K.RATE_LIMITED),
    (429, "ModelNotReadyException", "told", K.OVERLOADED),
    (500, "InternalServerException", "told", K.SERVER_ERROR),
    (500, "AccessDeniedException", "told", K.SERVER_ERROR),
    (502, "", "told", K.GATEWAY_ERROR),
    (503, "ServiceUnavailableException", "told", K.OVERLOADED),
    (504, "", "told", K.GATEWAY_ERROR),
    (529, "", "told", K.OVERLOADED),
    (307, "", "told", K.MALFORMED_ANSWER),
]  # fmt: skip


CUT = {
    "before the answer": cut_before_answer,
    "in the answer": short_of_its_length(200, b'{"output":{"message":'),
    "in an error": short_of_its_length(500, b'{"message"'),
    "no HTTP": no_http,
}


NOT_AN_EVENT = event_message("contentBlockDelta", b"{")
FLIPPED = bytes([*START[:-1], START[-1] ^ 1])
# (name, reply, kind)
BROKEN_STREAMS: list[tuple[str, Reply, FailureKind]] = [
    ("cut before its first event", events(end=False), K.CONNECTION_LOST),
    ("cut before its content", events(START, end=False), K.CONNECTION_LOST),
    ("cut within an event", events(START, word("Pa")[:20], end=False), K.CONNECTION_LOST),
    ("ends before its first event", events(), K.STREAM_BROKEN),
    ("ends before its content", events(START), K.STREAM_BROKEN),
    ("ends without a reason", events(START, word("Pa"), METADATA), K.STREAM_BROKEN),
    ("ends within an event", events(START, word("Pa")[:20]), K.STREAM_BROKEN),
    ("a checksum that is wrong", events(FLIPPED), K.MALFORMED_ANSWER),
    ("no frames", events(b"data: {}\n\n" * 9), K.MALFORMED_ANSWER),
    ("no JSON within, which botocore passes over", events(NOT_AN_EVENT), K.STREAM_BROKEN),
    ("throttled at once", events(exception_message("throttlingException", "slow")), K.RATE_LIMITED),
    ("rejected at once", events(exception_message("validationException", "bad")), K.UNKNOWN_REFUSAL),
    ("unavailable at once", events(exception_message("serviceUnavailableException", "x")), K.OVERLOADED),
    ("failing at once", events(exception_message("internalServerException", "x")), K.SERVER_ERROR),
    ("the model failing at once", events(exception_message("modelStreamErrorException", "x")), K.STREAM_ERROR),
    ("an exception of tomorrow", events(exception_message("tomorrowException", "x")), K.STREAM_ERROR),
    ("throttled after its start", events(START, exception_message("throttlingException", "x")), K.STREAM_ERROR),
    ("rejected after its start", events(START, exception_message("validationException", "x")), K.STREAM_ERROR),
]
