"""The ways in which Anthropic's vendor fails, each with the kind that it is: one table for every test of them."""

from dataclasses import dataclass

from fusewire.ai.failures import FailureKind
from tests.support.anthropic_vendor import (
    Reply,
    cut_before_answer,
    cut_stream,
    end_stream_early,
    error_in_stream,
    hang,
    raw,
    stall,
    status,
)

K = FailureKind
HTML = b"<!doctype html><title>502 Bad Gateway</title>"
TRUNCATED = b'{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[{"type":"te'
FILTERED = "Output blocked by content filtering policy"
LOW_CREDIT = "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing."
SPENT = "You have reached your specified API usage limits. You will regain access on 2026-12-01 at 00:00 UTC."


@dataclass(frozen=True)
class Case:
    """One way to fail, and what kind it is where an answer and where a stream was asked for; None: it can't be."""

    name: str
    reply: Reply
    kind: FailureKind | None
    streamed: FailureKind | None


def alike(name: str, reply: Reply, kind: FailureKind) -> Case:
    return Case(name, reply, kind, kind)


CASES = [
    alike("400", status(400, "invalid_request_error"), K.UNKNOWN_REFUSAL),
    alike("400, a field", status(400, message="messages.1.content: Input should be"), K.REJECTED_REQUEST),
    alike("400, credit", status(400, "invalid_request_error", message=LOW_CREDIT), K.OUT_OF_CREDIT),
    alike("400, spend limit", status(400, "invalid_request_error", message=SPENT), K.OUT_OF_CREDIT),
    alike("400, filter", status(400, "invalid_request_error", message=FILTERED), K.CONTENT_POLICY),
    alike("400, on hold", status(400, error_code="organization_on_hold"), K.CREDENTIAL_REJECTED),
    alike("401", status(401, "authentication_error"), K.CREDENTIAL_REJECTED),
    alike("402", status(402, "billing_error"), K.OUT_OF_CREDIT),
    alike("403", status(403, "permission_error"), K.MODEL_DENIED),
    alike("404", status(404, "not_found_error"), K.MODEL_NOT_FOUND),
    alike("408", status(408, "timeout_error"), K.REQUEST_TIMEOUT),
    alike("409", status(409, "conflict_error"), K.CONFLICT),
    alike("413", status(413, "request_too_large"), K.TOO_LARGE),
    alike("418", status(418), K.SERVER_ERROR),
    alike("422", status(422, "invalid_request_error"), K.UNKNOWN_REFUSAL),
    alike("429", status(429, "rate_limit_error"), K.RATE_LIMITED),
    alike("429 with Retry-After", status(429, "rate_limit_error", {"retry-after": "30"}), K.RATE_LIMITED),
    alike("429, ramp limit", status(429, error_code="ramp_limit_exceeded"), K.RATE_LIMITED),
    alike("429, contract's limit", status(429, error_code="contract_spend_limit_reached"), K.OUT_OF_CREDIT),
    alike("429, tier's limit", status(429, error_code="enforced_spend_limit_reached"), K.OUT_OF_CREDIT),
    alike("500", status(500, "api_error"), K.SERVER_ERROR),
    alike("502", raw(HTML, 502), K.GATEWAY_ERROR),
    alike("503", status(503, "overloaded_error"), K.OVERLOADED),
    alike("504", status(504, "timeout_error"), K.GATEWAY_ERROR),
    alike("529", status(529, "overloaded_error"), K.OVERLOADED),
    alike("307", status(307, headers={"location": "http://elsewhere.invalid/v1/messages"}), K.MALFORMED_ANSWER),
    alike("silence", hang(20), K.READ_TIMEOUT),
    alike("cut before the answer", cut_before_answer, K.CONNECTION_LOST),
    Case("HTML", raw(HTML), K.MALFORMED_ANSWER, K.STREAM_BROKEN),
    Case("truncated JSON", raw(TRUNCATED), K.MALFORMED_ANSWER, K.STREAM_BROKEN),
    Case("empty body", raw(b""), K.MALFORMED_ANSWER, K.STREAM_BROKEN),
    Case(
        "an error with 200", raw(b'{"type":"error","error":{"type":"api_error"}}'), K.MALFORMED_ANSWER, K.STREAM_BROKEN
    ),
    Case("cut before content", cut_stream(0), None, K.CONNECTION_LOST),
    Case("ends before content", end_stream_early(0), None, K.STREAM_BROKEN),
    Case("stalls before content", stall(0, 20), None, K.READ_TIMEOUT),
    Case("pings only", stall(0, 20, pings=True), None, K.READ_TIMEOUT),
    Case("error event at once", error_in_stream(None), None, K.OVERLOADED),
    Case("throttled at once", error_in_stream(None, "rate_limit_error"), None, K.RATE_LIMITED),
    Case("no credit at once", error_in_stream(None, "billing_error"), None, K.OUT_OF_CREDIT),
    Case("credit event at once", error_in_stream(None, "invalid_request_error", LOW_CREDIT), None, K.OUT_OF_CREDIT),
    Case("filter at once", error_in_stream(None, "api_error", FILTERED), None, K.CONTENT_POLICY),
    Case("unknown error at once", error_in_stream(None, "error_of_tomorrow"), None, K.STREAM_ERROR),
    Case("error event before content", error_in_stream(0), None, K.STREAM_ERROR),
    Case("failure before content", error_in_stream(0, "api_error"), None, K.STREAM_ERROR),
    Case("time-out before content", error_in_stream(0, "timeout_error"), None, K.GATEWAY_ERROR),
]
