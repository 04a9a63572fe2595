"""What each failure of the Messages API means: by its status, its type in an event, its code or its words."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from fusewire.ai.failures import OF_FORM, FailureKind, ProviderFailure, Settle
from fusewire.ai.providers.anthropic.thinking import refuses_thoughts
from fusewire.ai.providers.known_refusals import ANTHROPIC, REJECTED, begins_with_field, find_refusal
from fusewire.ai.providers.response_failures import (
    StatusMeaning,
    field_named,
    from_transport_error,
    meaning_of,
    retry_after_seconds,
)

if TYPE_CHECKING:
    import anthropic

_OWN_STATUSES: Final[Mapping[int, StatusMeaning]] = {
    402: (FailureKind.OUT_OF_CREDIT, "has no credit left on this account, or has reached its spend limit"),
}
_STATUS_OF_TYPE: Final[Mapping[str, int]] = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "conflict_error": 409,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""For error events, which come with HTTP 200."""
_FIELDS: Final[Mapping[str, str]] = {
    "max_tokens": "max_tokens",
    "temperature": "temperature",
    "top_p": "top_p",
    "thinking": "reasoning_effort",
    "output_config.effort": "reasoning_effort",
    "output_config.format": "response_format",
    "stop_sequences": "stop",
    "tool_choice": "tool_choice",
    "tools": "tools",
    "metadata": "user",
}
"""What the Messages API calls the fields of `ChatRequest`, as its 400s name them."""
_CREDIT_CODES: Final = {"contract_spend_limit_reached", "enforced_spend_limit_reached"}


def failure_of(provider_id: str, error: Exception, *, sent: bool = True) -> ProviderFailure:
    """What the SDK raised, as what it means.

    :param sent: whether a byte of the request may have left the machine
    """
    import anthropic

    if isinstance(error, anthropic.APIStatusError):
        return _status_failure(provider_id, error)
    cause = error.__cause__ if isinstance(error, anthropic.APIConnectionError) else error
    return from_transport_error(provider_id, cause, sent=sent)


def _status_failure(provider_id: str, error: "anthropic.APIStatusError") -> ProviderFailure:
    """By the status: the error's own, or that of its type where it came as an event."""
    status = error.status_code
    if status == 200:
        status = _STATUS_OF_TYPE.get(error.type or "", status)
        where = f"in an event: {error.type}" if status != 200 else "in an event"
    else:
        where = f"HTTP {status}"
    theirs = error.api_message if isinstance(error.api_message, str) else None
    kind, what = _meaning(status, (error.error_code, error.type), theirs)
    return ProviderFailure(
        kind,
        f"{provider_id} {what} ({where})",
        retry_after=retry_after_seconds(error.response.headers),
        caller_message=theirs,
        param="thinking_blocks" if kind in OF_FORM and refuses_thoughts(theirs) else field_named(kind, theirs, _FIELDS),
    )


def _meaning(status: int, codes: tuple[object, ...], message: str | None) -> StatusMeaning:
    """By a code or by words that are known, or else by the status."""
    if known := find_refusal(ANTHROPIC, status, codes, message):
        return known
    if _CREDIT_CODES.intersection(code for code in codes if isinstance(code, str)):
        return meaning_of(402, _OWN_STATUSES)
    if status == 400 and begins_with_field(message):
        return REJECTED
    if status == 200:
        return FailureKind.STREAM_ERROR, "sent an error"
    return meaning_of(status, _OWN_STATUSES)


def once_begun(failure: ProviderFailure) -> ProviderFailure:
    """In the middle of an answer the vendor's word that it failed doesn't say that the beginning was free."""
    if failure.consequence.settle is Settle.BOUND and failure.kind is not FailureKind.UNKNOWN_REFUSAL:
        return failure
    return ProviderFailure(FailureKind.STREAM_ERROR, failure.message)
