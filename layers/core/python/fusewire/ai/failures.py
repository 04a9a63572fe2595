"""Every way in which a provider fails, and what follows from each: one table, read by the router and the tests.

Three questions, answered per kind:

* does the next provider of the chain get its turn?
* what becomes of the reservation? `RELEASE` only where the provider certainly did no work; where nobody can know
  (a time-out after sending, a broken answer, a gateway's 502 or 504, a refusal for a reason that nobody lists) it is
  settled at its `BOUND`. Where it is certain that nothing was generated, but the input may be billed, it is settled at
  the bound's input part, `INPUT_BOUND`.
* what does it say of the provider's health? Nothing, a note, one more failure in a row, or "cool down now".

`providers/response_failures.py` says which kind an HTTP status is, `providers/known_refusals.py` which refusals are
known by their code or text.
"""

from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Final


class FailureKind(StrEnum):
    CONNECT_FAILED = "connect_failed"
    CONNECT_TIMEOUT = "connect_timeout"
    NOT_SENT = "not_sent"
    READ_TIMEOUT = "read_timeout"
    CONNECTION_LOST = "connection_lost"
    REJECTED_REQUEST = "rejected_request"
    FIELD_REFUSED = "field_refused"
    UNKNOWN_REFUSAL = "unknown_refusal"
    OUTPUT_CAP_REACHED = "output_cap_reached"
    PROMPT_REFUSED = "prompt_refused"
    CONTENT_POLICY = "content_policy"
    CREDENTIAL_REJECTED = "credential_rejected"
    OUT_OF_CREDIT = "out_of_credit"
    MODEL_NOT_FOUND = "model_not_found"
    MODEL_DENIED = "model_denied"
    REQUEST_TIMEOUT = "request_timeout"
    CONFLICT = "conflict"
    TOO_LARGE = "too_large"
    INPUT_TOO_LONG = "input_too_long"
    RATE_LIMITED = "rate_limited"
    SERVER_ERROR = "server_error"
    GATEWAY_ERROR = "gateway_error"
    OVERLOADED = "overloaded"
    MALFORMED_ANSWER = "malformed_answer"
    ANSWER_TOO_LARGE = "answer_too_large"
    STREAM_BROKEN = "stream_broken"
    STREAM_ERROR = "stream_error"
    STREAM_BROKEN_LATE = "stream_broken_late"
    FIELD_IGNORED = "field_ignored"


class Settle(Enum):
    RELEASE = "release"
    INPUT_BOUND = "input_bound"
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
    # Something failed on this machine before the first byte: by what the caller sent, or by a setting.
    _K.NOT_SENT: Consequence(True, _S.RELEASE, _H.NOTE),
    # Sent, and then silence: it may be working, and billing, to this moment.
    _K.READ_TIMEOUT: Consequence(True, _S.BOUND, _H.COUNT),
    _K.CONNECTION_LOST: Consequence(True, _S.BOUND, _H.COUNT),
    # The caller's own mistake, found before any work: the next provider would be asked the same.
    _K.REJECTED_REQUEST: Consequence(False, _S.RELEASE, _H.UNTOUCHED),
    _K.TOO_LARGE: Consequence(False, _S.RELEASE, _H.UNTOUCHED),
    # This model doesn't take a field that it names, or the field's value. A later one of the chain may, or the field
    # can be left out (`relaxing.py`).
    _K.FIELD_REFUSED: Consequence(True, _S.RELEASE, _H.UNTOUCHED),
    # Refused, and nobody lists why: it may have worked before. The next provider would be paid for the same.
    _K.UNKNOWN_REFUSAL: Consequence(False, _S.BOUND, _H.UNTOUCHED),
    _K.OUTPUT_CAP_REACHED: Consequence(False, _S.BOUND, _H.UNTOUCHED),
    # Its content, or too much of it. Nothing was generated where the prompt itself was refused.
    _K.PROMPT_REFUSED: Consequence(False, _S.INPUT_BOUND, _H.UNTOUCHED),
    _K.INPUT_TOO_LONG: Consequence(False, _S.INPUT_BOUND, _H.UNTOUCHED),
    _K.CONTENT_POLICY: Consequence(False, _S.BOUND, _H.UNTOUCHED),
    # The operator's: a key, an account or a deployment's name. Others can answer meanwhile.
    _K.CREDENTIAL_REJECTED: Consequence(True, _S.RELEASE, _H.NOW),
    _K.OUT_OF_CREDIT: Consequence(True, _S.RELEASE, _H.NOW),
    # Remembered but not counted: a caller who pins made-up or forbidden models must not send a provider into a
    # cooldown.
    _K.MODEL_NOT_FOUND: Consequence(True, _S.RELEASE, _H.NOTE),
    _K.MODEL_DENIED: Consequence(True, _S.RELEASE, _H.NOTE),
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
    # More was sent than any answer holds. A caller can ask for much, so it says nothing of the provider's health.
    _K.ANSWER_TOO_LARGE: Consequence(True, _S.BOUND, _H.NOTE),
    # A response came, but not as requested (tool_choice ignored): the caller's doing as much as the provider's.
    _K.FIELD_IGNORED: Consequence(True, _S.BOUND, _H.NOTE),
    # Content was passed on already: the stream ends with an error event, and nobody else may answer.
    _K.STREAM_BROKEN_LATE: Consequence(False, _S.BOUND, _H.COUNT),
}


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


OF_FORM: Final = frozenset({FailureKind.REJECTED_REQUEST, FailureKind.FIELD_REFUSED})
"""A vendor's refusals of the request's form, which it looks at before any work."""
REPEATABLE: Final = frozenset({FailureKind.UNKNOWN_REFUSAL})
"""Kinds that are counted by key and model: a key that repeats one is refused for a while before it is reserved."""


class UnsupportedField(Exception):
    """Raised by a provider that finds, while mapping, a field that it can't honour; `param` names the field."""

    def __init__(self, param: str, message: str) -> None:
        super().__init__(message)
        self.param = param
        self.message = message
