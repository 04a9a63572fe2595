"""What goes wrong with an answer the same way at every vendor."""

import time
from collections.abc import Collection, Mapping
from email.utils import parsedate_to_datetime

from pydantic import ValidationError

from fusewire.ai.failures import FailureKind, ProviderFailure
from fusewire.ai.vocabulary import ChatRequest, NamedToolChoice


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


def unlisted(status: int) -> tuple[FailureKind, str]:
    """What a status means that the vendor's table doesn't list, from 400 on.

    The vendor's own 500, and a refusal, tell that it didn't serve the call. What comes from a proxy before it doesn't:
    Cloudflare's 524 means that the vendor took the call and never answered, nginx's 499 that somebody gave up waiting.
    """
    if status == 499 or status > 500:
        return FailureKind.GATEWAY_ERROR, "failed behind its gateway"
    return FailureKind.SERVER_ERROR, "failed"


def malformed(provider: str, error: ValueError | None = None) -> ProviderFailure:
    """An answer was made that can't be read: where, never what was there, since pydantic's text would quote it."""
    where = ""
    if isinstance(error, ValidationError):
        problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = f" ({'.'.join(map(str, problem['loc'])) or 'body'}: {problem['type']})"
    return ProviderFailure(FailureKind.MALFORMED_ANSWER, f"{provider} sent an answer that can't be read{where}")


def unanswered(provider: str, error: BaseException | None) -> ProviderFailure:
    """What httpx2 raised in place of an answer. Its class is safe to tell; its text may hold the address."""
    import httpx2

    if isinstance(error, httpx2.ConnectTimeout | httpx2.PoolTimeout):
        return ProviderFailure(FailureKind.CONNECT_TIMEOUT, f"{provider} didn't accept a connection in time")
    if isinstance(error, httpx2.TimeoutException):
        return ProviderFailure(FailureKind.READ_TIMEOUT, f"{provider} didn't answer in time")
    if isinstance(error, httpx2.ConnectError | httpx2.UnsupportedProtocol | httpx2.InvalidURL):
        return ProviderFailure(FailureKind.CONNECT_FAILED, f"{provider} can't be connected to")
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
