"""Every way in which a provider fails, and what follows from each: one table, read by the router and the tests.

Three questions, answered per kind:

* does the next provider of the chain get its turn?
* what becomes of the reservation? `RELEASE` only where the provider certainly did no work; where nobody can know
  (a time-out after sending, a broken answer, a gateway's 502 or 504) it is settled at its `BOUND`.
* what does it say of the provider's health? Nothing, a note, one more failure in a row, or "cool down now".
"""

import time
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Final


class FailureKind(StrEnum):
    CONNECT_FAILED = "connect_failed"
    CONNECT_TIMEOUT = "connect_timeout"
    READ_TIMEOUT = "read_timeout"
    CONNECTION_LOST = "connection_lost"
    REJECTED_REQUEST = "rejected_request"
    CONTENT_POLICY = "content_policy"
    CREDENTIAL_REJECTED = "credential_rejected"
    OUT_OF_CREDIT = "out_of_credit"
    MODEL_NOT_FOUND = "model_not_found"
    REQUEST_TIMEOUT = "request_timeout"
    CONFLICT = "conflict"
    TOO_LARGE = "too_large"
    INPUT_TOO_LONG = "input_too_long"
    RATE_LIMITED = "rate_limited"
    SERVER_ERROR = "server_error"
    GATEWAY_ERROR = "gateway_error"
    OVERLOADED = "overloaded"
    MALFORMED_ANSWER = "malformed_answer"
    STREAM_BROKEN = "stream_broken"
    STREAM_ERROR = "stream_error"
    STREAM_BROKEN_LATE = "stream_broken_late"
    FIELD_IGNORED = "field_ignored"


class Settle(Enum):
    RELEASE = "release"
    BOUND = "bound"


class Health(Enum):
    UNTOUCHED = "untouched"
    NOTE = "note"
    COUNT = "count"
    NOW = "now"


@dataclass(frozen=True, slots=True)
class Consequence:
    fail_over: bool
    settle: Settle
    health: Health


_K, _S, _H = FailureKind, Settle, Health

CONSEQUENCES: Final[dict[FailureKind, Consequence]] = {
    # Nothing reached the provider.
    _K.CONNECT_FAILED: Consequence(True, _S.RELEASE, _H.COUNT),
    _K.CONNECT_TIMEOUT: Consequence(True, _S.RELEASE, _H.COUNT),
    # Sent, and then silence: it may be working, and billing, to this moment.
    _K.READ_TIMEOUT: Consequence(True, _S.BOUND, _H.COUNT),
    _K.CONNECTION_LOST: Consequence(True, _S.BOUND, _H.COUNT),
    # The caller's own mistake, found before any work: the next provider would be asked the same.
    _K.REJECTED_REQUEST: Consequence(False, _S.RELEASE, _H.UNTOUCHED),
    _K.TOO_LARGE: Consequence(False, _S.RELEASE, _H.UNTOUCHED),
    # Its content, or too much of it: judged by work on what was sent, or on an answer that had been made.
    _K.CONTENT_POLICY: Consequence(False, _S.BOUND, _H.UNTOUCHED),
    _K.INPUT_TOO_LONG: Consequence(False, _S.BOUND, _H.UNTOUCHED),
    # The operator's: a key, an account or a deployment's name. Others can answer meanwhile.
    _K.CREDENTIAL_REJECTED: Consequence(True, _S.RELEASE, _H.NOW),
    _K.OUT_OF_CREDIT: Consequence(True, _S.RELEASE, _H.NOW),
    # Remembered but not counted: a caller who pins made-up models must not send a provider into a cooldown.
    _K.MODEL_NOT_FOUND: Consequence(True, _S.RELEASE, _H.NOTE),
    # The provider's own word that it didn't serve the call.
    _K.CONFLICT: Consequence(True, _S.RELEASE, _H.COUNT),
    _K.RATE_LIMITED: Consequence(True, _S.RELEASE, _H.COUNT),
    _K.SERVER_ERROR: Consequence(True, _S.RELEASE, _H.COUNT),
    _K.OVERLOADED: Consequence(True, _S.RELEASE, _H.COUNT),
    # Someone in between gave up waiting (408, 502, 504): what went on behind it is unknown.
    _K.REQUEST_TIMEOUT: Consequence(True, _S.BOUND, _H.COUNT),
    _K.GATEWAY_ERROR: Consequence(True, _S.BOUND, _H.COUNT),
    # An answer was made, but it can't be read, or it stopped before its first content.
    _K.MALFORMED_ANSWER: Consequence(True, _S.BOUND, _H.COUNT),
    _K.STREAM_BROKEN: Consequence(True, _S.BOUND, _H.COUNT),
    _K.STREAM_ERROR: Consequence(True, _S.BOUND, _H.COUNT),
    # It answered, but not as asked (tool_choice ignored without a word); again the caller's doing as much as its own.
    _K.FIELD_IGNORED: Consequence(True, _S.BOUND, _H.NOTE),
    # Content was passed on already: the stream ends with an error event, and nobody else may answer.
    _K.STREAM_BROKEN_LATE: Consequence(False, _S.BOUND, _H.COUNT),
}


_refused_at = 0.0


def credential_refused_at() -> float:
    """When a vendor last refused this process's credential, by `time.monotonic`; 0 for never."""
    return _refused_at


class ProviderFailure(Exception):
    """An attempt that gave no answer. The message is our own words: a vendor's text may echo the prompt or a key."""

    def __init__(
        self,
        kind: FailureKind,
        message: str,
        *,
        retry_after: float | None = None,
        caller_message: str | None = None,
        param: str | None = None,
    ) -> None:
        super().__init__(message)
        if kind is FailureKind.CREDENTIAL_REJECTED:
            global _refused_at
            _refused_at = time.monotonic()
        self.kind = kind
        self.message = message
        self.retry_after = retry_after
        """Seconds, from the provider's `Retry-After`."""
        self.caller_message = caller_message
        """A vendor's own words on the caller's mistake: for the caller's eyes alone, never for a log or the ledger."""
        self.param = param

    @property
    def consequence(self) -> Consequence:
        return CONSEQUENCES[self.kind]


class UnsupportedField(Exception):
    """Raised by a provider that finds, while mapping, a field that it can't honour; `param` names the field."""

    def __init__(self, param: str, message: str) -> None:
        super().__init__(message)
        self.param = param
        self.message = message
