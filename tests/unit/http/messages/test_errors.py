"""Errors in Anthropic's format, of which Anthropic's own SDK raises its typed exceptions."""

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import anthropic
import pytest

from fusewire.errors import (
    AllowanceNotFoundError,
    AllProvidersFailedError,
    AuthenticationError,
    BudgetExceededError,
    BudgetNotFoundError,
    BudgetReservedError,
    CallerLeftError,
    CallNotFoundError,
    ContentPolicyError,
    DeadlineExceededError,
    FusewireError,
    InvalidRequestError,
    KeyNotFoundError,
    LedgerUnavailableError,
    ModelNotBoundedError,
    ModelNotFoundError,
    ModelNotPricedError,
    NoEligibleProviderError,
    PermissionDeniedError,
    PreviousResponseNotFoundError,
    PriceNotFoundError,
    ProviderOutcome,
    RateLimitedError,
    RepeatedRefusalError,
    RequestCostError,
    RequestTooLargeError,
    ResponseNotFoundError,
    SecretsUnavailableError,
    UnsupportedParameterError,
)
from fusewire.http.messages.errors import render_error

RESETS = datetime(2027, 1, 1, tzinfo=UTC)
SILENT = ProviderOutcome("azure", "gpt-4o", "read_timeout", "azure didn't answer in time")
COMES_BACK = ProviderOutcome("openai", "gpt-4o", "rate_limited", "openai is throttling (HTTP 429)", 7.2)

# (error, status, Anthropic's type, the SDK's class, whether the SDK tries again)
ROWS: list[tuple[FusewireError, int, str, type[anthropic.APIStatusError], bool]] = [
    (InvalidRequestError("?", param="n"), 400, "invalid_request_error", anthropic.BadRequestError, False),
    (UnsupportedParameterError("?", param="n"), 400, "invalid_request_error", anthropic.BadRequestError, False),
    (ModelNotPricedError("azure", "x"), 400, "invalid_request_error", anthropic.BadRequestError, False),
    (ModelNotBoundedError("azure", "x"), 400, "invalid_request_error", anthropic.BadRequestError, False),
    (ContentPolicyError("?"), 400, "invalid_request_error", anthropic.BadRequestError, False),
    (RepeatedRefusalError("azure", "m", 3, 42), 400, "invalid_request_error", anthropic.BadRequestError, False),
    (AuthenticationError("?"), 401, "authentication_error", anthropic.AuthenticationError, False),
    (
        BudgetExceededError("?", budget="global", resets_at=RESETS),
        402,
        "billing_error",
        anthropic.PaymentRequiredError,
        False,
    ),
    (RequestCostError(Decimal("0.25")), 402, "billing_error", anthropic.PaymentRequiredError, False),
    (PermissionDeniedError("?"), 403, "permission_error", anthropic.PermissionDeniedError, False),
    (CallNotFoundError("?"), 404, "not_found_error", anthropic.NotFoundError, False),
    (KeyNotFoundError("?"), 404, "not_found_error", anthropic.NotFoundError, False),
    (BudgetNotFoundError("?"), 404, "not_found_error", anthropic.NotFoundError, False),
    (PriceNotFoundError("?"), 404, "not_found_error", anthropic.NotFoundError, False),
    (AllowanceNotFoundError("?"), 404, "not_found_error", anthropic.NotFoundError, False),
    (ResponseNotFoundError("?"), 404, "not_found_error", anthropic.NotFoundError, False),
    (PreviousResponseNotFoundError("?"), 400, "invalid_request_error", anthropic.BadRequestError, False),
    (ModelNotFoundError("?", param="model"), 404, "not_found_error", anthropic.NotFoundError, False),
    (RequestTooLargeError("?"), 413, "request_too_large", anthropic.ContentTooLargeError, False),
    (BudgetReservedError("?"), 429, "rate_limit_error", anthropic.RateLimitError, True),
    (
        RateLimitedError("?", limit="tokens", retry_after=9),
        429,
        "rate_limit_error",
        anthropic.RateLimitError,
        True,
    ),
    (FusewireError("?"), 500, "api_error", anthropic.InternalServerError, True),
    (NoEligibleProviderError("?"), 503, "api_error", anthropic.ServiceUnavailableError, False),
    (AllProvidersFailedError([SILENT]), 503, "api_error", anthropic.ServiceUnavailableError, False),
    (AllProvidersFailedError([SILENT, COMES_BACK]), 503, "overloaded_error", anthropic.ServiceUnavailableError, True),
    (SecretsUnavailableError("AccessDenied"), 503, "api_error", anthropic.ServiceUnavailableError, True),
    (LedgerUnavailableError("?"), 503, "api_error", anthropic.ServiceUnavailableError, True),
    (DeadlineExceededError("?"), 504, "timeout_error", anthropic.GatewayTimeoutError, False),
    (CallerLeftError(), 499, "invalid_request_error", anthropic.ClientClosedRequestError, False),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[1]}-{type(row[0]).__name__}")
def test_an_error_is_anthropics(row: tuple[FusewireError, int, str, type[anthropic.APIStatusError], bool]) -> None:
    import httpx2

    error, status, kind, raised_as, retried = row
    body, headers = render_error(error, "req-1")
    assert error.status == status
    response = httpx2.Response(status, json=body, headers=headers, request=httpx2.Request("POST", "http://x.invalid"))
    with anthropic.Anthropic(api_key="k", base_url="http://x.invalid") as client:
        raised = client._make_status_error_from_response(response)
        assert client._should_retry(response) is retried
    assert type(raised) is raised_as
    assert (raised.type, raised.error_code, raised.request_id) == (kind, error.code, "req-1")
    assert raised.api_message == error.message


def test_every_class_of_the_tree_has_a_row() -> None:
    def tree(root: type[FusewireError]) -> Iterator[type[FusewireError]]:
        yield root
        for child in root.__subclasses__():
            yield from tree(child)

    ours = {cls for cls in tree(FusewireError) if cls.__module__ == FusewireError.__module__}
    assert ours == {type(row[0]) for row in ROWS}


def test_the_details_hold_what_openais_body_would() -> None:
    body: Any = render_error(BudgetExceededError("?", budget="key_1", resets_at=RESETS), "r")[0]
    assert body["type"] == "error"
    assert body["error"]["details"] == {
        "error_code": "budget_exceeded",
        "param": None,
        "budget": "key_1",
        "resets_at": "2027-01-01T00:00:00+00:00",
    }
    failed: Any = render_error(AllProvidersFailedError([COMES_BACK]), "r")[0]
    assert failed["error"]["details"]["providers"][0]["kind"] == "rate_limited"


def test_a_field_is_told_by_anthropics_name() -> None:
    error = UnsupportedParameterError("Nobody can honour response_format.", param="response_format")
    body: Any = render_error(error, "r")[0]
    assert body["error"]["details"]["param"] == "output_config.format"
    assert (
        body["error"]["message"] == "Nobody can honour response_format. Here response_format is output_config.format."
    )
