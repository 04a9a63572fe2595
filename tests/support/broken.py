"""The ways in which an answer breaks at any vendor, in each protocol's own words.

What a status alone says is `Wire.will_fail`, and a proper answer that says odd things of usage is `Wire.will_answer`.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from tests.support import anthropic_vendor, bedrock_vendor, upstream
from tests.support.bedrock_vendor import event_message, events, exception_message

_LONG: Final = 3.0
"""Seconds: longer than any attempt that waits for it."""
_HTML: Final = b"<!doctype html><title>502 Bad Gateway</title>"


class Way(StrEnum):
    """The first six break an answer and a stream alike; the others only a stream, before its content or after it."""

    HTML = "HTML body"
    TRUNCATED = "truncated JSON"
    EMPTY = "empty body"
    CUT = "cut before the answer"
    SILENT = "silence"
    POLICY = "content policy"
    CUT_BEFORE = "cut before content"
    CUT_AFTER = "cut after content"
    ENDS_BEFORE = "ends before content"
    ENDS_AFTER = "ends after content"
    ERROR_BEFORE = "error event before content"
    ERROR_AFTER = "error event after content"
    STALLS_BEFORE = "stalls before content"
    STALLS_AFTER = "stalls after content"


OPENAI: Final[Mapping[Way, upstream.Reply]] = {
    Way.HTML: upstream.raw(_HTML),
    Way.TRUNCATED: upstream.raw(b'{"id":"x","created":1,"model":"m","choices":[{"index":0,"mess'),
    Way.EMPTY: upstream.raw(b""),
    Way.CUT: upstream.cut_before_answer,
    Way.SILENT: upstream.hang(_LONG),
    Way.POLICY: upstream.status(400, error={"code": "content_filter"}),
    Way.CUT_BEFORE: upstream.cut_stream(0),
    Way.CUT_AFTER: upstream.cut_stream(1),
    Way.ENDS_BEFORE: upstream.end_stream_early(0),
    Way.ENDS_AFTER: upstream.end_stream_early(1),
    Way.ERROR_BEFORE: upstream.error_in_stream(0),
    Way.ERROR_AFTER: upstream.error_in_stream(1),
    Way.STALLS_BEFORE: upstream.stall_stream(0, _LONG),
    Way.STALLS_AFTER: upstream.stall_stream(1, _LONG),
}

ANTHROPIC: Final[Mapping[Way, anthropic_vendor.Reply]] = {
    Way.HTML: anthropic_vendor.raw(_HTML),
    Way.TRUNCATED: anthropic_vendor.raw(b'{"id":"x","type":"message","role":"assistant","content":[{"type":"te'),
    Way.EMPTY: anthropic_vendor.raw(b""),
    Way.CUT: anthropic_vendor.cut_before_answer,
    Way.SILENT: anthropic_vendor.hang(_LONG),
    Way.POLICY: anthropic_vendor.status(
        400, "invalid_request_error", message="Output blocked by content filtering policy"
    ),
    Way.CUT_BEFORE: anthropic_vendor.cut_stream(0),
    Way.CUT_AFTER: anthropic_vendor.cut_stream(1),
    Way.ENDS_BEFORE: anthropic_vendor.end_stream_early(0),
    Way.ENDS_AFTER: anthropic_vendor.end_stream_early(1),
    Way.ERROR_BEFORE: anthropic_vendor.error_in_stream(0),
    Way.ERROR_AFTER: anthropic_vendor.error_in_stream(1),
    Way.STALLS_BEFORE: anthropic_vendor.stall(0, _LONG),
    Way.STALLS_AFTER: anthropic_vendor.stall(1, _LONG),
}

_START: Final = event_message("messageStart", {"role": "assistant"})
_WORD: Final = event_message("contentBlockDelta", {"delta": {"text": "Pa"}, "contentBlockIndex": 0})
_ERROR: Final = exception_message("modelStreamErrorException", "x")

BEDROCK: Final[Mapping[Way, bedrock_vendor.Reply]] = {
    Way.HTML: bedrock_vendor.raw(_HTML),
    Way.TRUNCATED: bedrock_vendor.raw(b'{"output":{"message":{"role":"assistant","cont'),
    Way.EMPTY: bedrock_vendor.raw(b""),
    Way.CUT: bedrock_vendor.cut_before_answer,
    Way.SILENT: bedrock_vendor.hang,
    Way.POLICY: bedrock_vendor.error(
        400, "ValidationException", "This request has been blocked by our content filters."
    ),
    Way.CUT_BEFORE: events(_START, end=False),
    Way.CUT_AFTER: events(_START, _WORD, end=False),
    Way.ENDS_BEFORE: events(_START),
    Way.ENDS_AFTER: events(_START, _WORD),
    Way.ERROR_BEFORE: events(_START, _ERROR),
    Way.ERROR_AFTER: events(_START, _WORD, _ERROR),
    Way.STALLS_BEFORE: bedrock_vendor.stall(_START),
    Way.STALLS_AFTER: bedrock_vendor.stall(_START, _WORD),
}
