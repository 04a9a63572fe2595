"""What goes wrong with a response the same way at every vendor: by its status, its body, or the connection."""

import re
import time
from collections.abc import Collection, Mapping
from email.utils import parsedate_to_datetime
from typing import Final

from pydantic import ValidationError

from fusewire.ai.failures import OF_FORM, FailureKind, ProviderFailure
from fusewire.ai.providers.answer_limits import AnswerTooLarge
from fusewire.ai.schema import ChatRequest, NamedToolChoice

StatusMeaning = tuple[FailureKind, str]
"""The kind, and what the vendor did, as its failure's message says it."""

_KIND: Final = FailureKind

# What nobody lists is decided on the safe side: a 400 may have cost something (known_refusals.py has those that
# didn't), and a 403 concerns the model, which a caller may choose, while a 401 concerns the credential.
BY_STATUS: Final[Mapping[int, StatusMeaning]] = {
    400: (_KIND.UNKNOWN_REFUSAL, "rejected the request for a reason that isn't known to be free"),
    401: (_KIND.CREDENTIAL_REJECTED, "rejected the credential"),
    402: (_KIND.OUT_OF_CREDIT, "has no credit left on this account"),
    403: (_KIND.MODEL_DENIED, "denies access to the model"),
    404: (_KIND.MODEL_NOT_FOUND, "knows no such model or path"),
    408: (_KIND.REQUEST_TIMEOUT, "timed out"),
    409: (_KIND.CONFLICT, "reported a conflict"),
    413: (_KIND.TOO_LARGE, "found the request too large"),
    422: (_KIND.UNKNOWN_REFUSAL, "rejected the request for a reason that isn't known to be free"),
    429: (_KIND.RATE_LIMITED, "is throttling"),
    500: (_KIND.SERVER_ERROR, "failed"),
    502: (_KIND.GATEWAY_ERROR, "is unreachable behind its gateway"),
    503: (_KIND.OVERLOADED, "is unavailable"),
    504: (_KIND.GATEWAY_ERROR, "timed out behind its gateway"),
    529: (_KIND.OVERLOADED, "is overloaded"),
}

_UNKNOWN: Final[StatusMeaning] = (_KIND.MALFORMED_ANSWER, "answered with neither content nor an error")
_REFUSED: Final[StatusMeaning] = (_KIND.SERVER_ERROR, "failed")
_BEHIND_GATEWAY: Final[StatusMeaning] = (_KIND.GATEWAY_ERROR, "failed behind its gateway")


def meaning_of(status: int, own: Mapping[int, StatusMeaning]) -> StatusMeaning:
    """What a status means at a vendor.

    A vendor's own 500, and a refusal, say that it didn't serve the call. What comes from a proxy before it doesn't:
    Cloudflare's 524 means that the vendor took the call and never answered, nginx's 499 that somebody gave up waiting.

    :param own: the statuses that this vendor means in another way, or that need other words
    """
    if status < 400:
        return _UNKNOWN
    listed = own.get(status) or BY_STATUS.get(status)
    if listed is not None:
        return listed
    return _BEHIND_GATEWAY if status == 499 or status > 500 else _REFUSED


def retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """`retry-after-ms`, or `Retry-After` in seconds or as an HTTP date (RFC 9110, 10.2.3); None when unusable."""
    try:
        if "retry-after-ms" in headers:
            seconds = float(headers["retry-after-ms"]) / 1000
        elif (text := headers.get("retry-after", "")).strip().replace(".", "", 1).isdigit():
            seconds = float(text)
        elif text:
            seconds = parsedate_to_datetime(text).timestamp() - time.time()
        else:
            return None
    except (TypeError, ValueError):
        return None
    return seconds if 0 <= seconds < float("inf") else None


def field_named(kind: FailureKind, message: str | None, names: Mapping[str, str]) -> str | None:
    """Which field of a request a vendor's refusal names where only its words do: in quotes or ticks, or with its path
    at the beginning of a sentence (`tools.0.custom.input_schema: ...`). None unless the refusal is of the request's
    form.

    :param names: what the vendor calls a field, to what `ChatRequest` calls it
    """
    if kind not in OF_FORM:
        return None
    for theirs, ours in names.items():
        quoted = rf"[`'\"]{theirs}(?:[.\[][^`'\"]*)?[`'\"]"
        if re.search(rf"{quoted}|(?:^|: ){theirs}(?:[.\[]\S*)?(?::| (?:is|are|does|do|can)\b)", message or ""):
            return ours
    return None


def malformed(provider: str, error: Exception | None = None) -> ProviderFailure:
    """An answer was made that can't be read: where, never what was there, since pydantic's text would quote it."""
    where = ""
    if isinstance(error, ValidationError):
        problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = f" ({'.'.join(map(str, problem['loc'])) or 'body'}: {problem['type']})"
    return ProviderFailure(FailureKind.MALFORMED_ANSWER, f"{provider} sent an answer that can't be read{where}")


def not_sent(provider: str, error: BaseException | None) -> ProviderFailure:
    """Something failed on this machine before the first byte. The error's text may quote the request."""
    return ProviderFailure(FailureKind.NOT_SENT, f"{provider}: the request can't be sent ({type(error).__name__})")


def too_large(provider: str) -> ProviderFailure:
    """An answer was made, and is larger than `answer_limits` allow."""
    return ProviderFailure(FailureKind.ANSWER_TOO_LARGE, f"{provider} sent more than an answer may hold")


def from_transport_error(provider: str, error: BaseException | None, *, sent: bool = True) -> ProviderFailure:
    """What httpx2 raised in place of an answer. Its class is safe to tell; its text may hold the address.

    :param sent: whether the request, or a part of it, may have left this machine
    """
    import httpx2

    if isinstance(error, AnswerTooLarge):
        return too_large(provider)
    if isinstance(error, httpx2.ConnectTimeout | httpx2.PoolTimeout):
        return ProviderFailure(FailureKind.CONNECT_TIMEOUT, f"{provider} didn't accept a connection in time")
    if isinstance(error, httpx2.TimeoutException) and sent:
        return ProviderFailure(FailureKind.READ_TIMEOUT, f"{provider} didn't answer in time")
    if isinstance(error, httpx2.ConnectError | httpx2.UnsupportedProtocol | httpx2.InvalidURL):
        return ProviderFailure(FailureKind.CONNECT_FAILED, f"{provider} can't be connected to")
    if not sent:
        return not_sent(provider, error)
    return ProviderFailure(FailureKind.CONNECTION_LOST, f"{provider} dropped the connection")


def check_tool_choice(
    provider: str, request: ChatRequest, called: Collection[str], finishes: Collection[str | None]
) -> None:
    """Some servers ignore `tool_choice` without a word: an answer that doesn't honour it is none.

    A refusal, or an end at the cap, is an answer all the same.
    :raises ProviderFailure: FIELD_IGNORED
    """
    choice = request.tool_choice
    named = choice.function.name if isinstance(choice, NamedToolChoice) else None
    ignored = (choice == "required" and not called) or (named and set(called) != {named})
    if ignored and {"stop", "tool_calls"} & set(finishes):
        raise ProviderFailure(FailureKind.FIELD_IGNORED, f"{provider} didn't honour tool_choice")
