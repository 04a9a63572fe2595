"""Errors in Anthropic's format. Source: Anthropic's API reference, "Errors"."""

from typing import Any, Final, Literal

from typing_extensions import TypedDict

from fusewire.errors import (
    AllProvidersFailedError,
    BudgetExceededError,
    BudgetReservedError,
    DeadlineExceededError,
    FusewireError,
    RateLimitedError,
    RequestCostError,
    RequestTooLargeError,
)
from fusewire.http.errors import error_body
from fusewire.http.formats import translate_param
from fusewire.http.headers import ANTHROPIC_REQUEST_ID, error_headers
from fusewire.http.messages.translate import NAMES


class AnthropicErrorDetail(TypedDict):
    """What happened, and what to do next; `details` has what OpenAI's body would have beside that."""

    type: str
    message: str
    details: dict[str, Any]


class AnthropicError(TypedDict):
    """Anthropic's body of an error."""

    type: Literal["error"]
    error: AnthropicErrorDetail
    request_id: str


def anthropic_error(type: str, message: str, details: dict[str, Any], request_id: str) -> AnthropicError:
    """Anthropic's body of an error, wherever one is made."""
    detail: AnthropicErrorDetail = {"type": type, "message": message, "details": details}
    return {"type": "error", "error": detail, "request_id": request_id}


def render_error(error: FusewireError, request_id: str) -> tuple[AnthropicError, dict[str, str]]:
    """The body and the headers of an error; what else OpenAI's body has is among the details."""
    message, param = translate_param(error, NAMES)
    openai = error_body(error)["error"]
    more = {key: value for key, value in openai.items() if key not in ("message", "type", "code", "param")}
    code = _CODES.get((error.code, param), error.code)
    details = {"error_code": code, "param": param, **more}
    body = anthropic_error(error_type(error), message, details, request_id)
    return body, error_headers(error) | {ANTHROPIC_REQUEST_ID.name: request_id}


_CODES: Final[dict[tuple[str, str | None], str]] = {("unsupported_parameter", "thread"): "thread_unsupported_request"}
"""Where a client goes on by itself if it finds Anthropic's own code: the SDKs' tool runners do without a thread."""

_TYPES: Final[tuple[tuple[type[FusewireError], str], ...]] = (
    (RequestTooLargeError, "request_too_large"),
    (BudgetExceededError, "billing_error"),
    (RequestCostError, "billing_error"),
    (BudgetReservedError, "rate_limit_error"),
    (RateLimitedError, "rate_limit_error"),
    (DeadlineExceededError, "timeout_error"),
)


def error_type(error: FusewireError) -> str:
    """Anthropic's type of an error of ours."""
    for kind, name in _TYPES:
        if isinstance(error, kind):
            return name
    if error.status == 404:
        return "not_found_error"
    if isinstance(error, AllProvidersFailedError) and error.is_passing:
        return "overloaded_error"
    # Where OpenAI's type isn't Anthropic's too, the failure is on this side.
    return error.type if error.status < 500 else "api_error"
