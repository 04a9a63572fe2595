"""Every error of the tree as HTTP: the status alone says what a client should do, and OpenAI's SDK obeys."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import openai
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
    usd,
)
from fusewire.http.errors import error_body, render_error
from fusewire.http.headers import error_headers

RESETS = datetime(2027, 1, 1, tzinfo=UTC)
REFUSED = ProviderOutcome("azure", "gpt-4o", "credential_rejected", "azure rejected the credential")
SILENT = ProviderOutcome("azure", "gpt-4o", "read_timeout", "azure didn't answer in time", is_passing=True)
COMES_BACK = ProviderOutcome("openai", "gpt-4o", "rate_limited", "openai is throttling (HTTP 429)", 7.2)
LATER = ProviderOutcome("ollama", "smol", "overloaded", "ollama is unavailable (HTTP 503)", 90)

# (error, status, code, type, x-should-retry, Retry-After)
ROWS: list[tuple[FusewireError, int, str, str, str | None, str | None]] = [
    (FusewireError("?"), 500, "internal_error", "server_error", None, None),
    (InvalidRequestError("?", param="n"), 400, "invalid_request_error", "invalid_request_error", "false", None),
    (UnsupportedParameterError("?", param="n"), 400, "unsupported_parameter", "invalid_request_error", "false", None),
    (ModelNotPricedError("azure", "x"), 400, "model_not_priced", "invalid_request_error", "false", None),
    (ModelNotBoundedError("azure", "x"), 400, "model_not_bounded", "invalid_request_error", "false", None),
    (ContentPolicyError("?"), 400, "content_policy_violation", "invalid_request_error", "false", None),
    (RepeatedRefusalError("azure", "m", 3, 42), 400, "repeated_refusal", "invalid_request_error", "false", "42"),
    (CallNotFoundError("?"), 404, "call_not_found", "invalid_request_error", "false", None),
    (KeyNotFoundError("?"), 404, "key_not_found", "invalid_request_error", "false", None),
    (BudgetNotFoundError("?"), 404, "budget_not_found", "invalid_request_error", "false", None),
    (PriceNotFoundError("?"), 404, "price_not_found", "invalid_request_error", "false", None),
    (AllowanceNotFoundError("?"), 404, "allowance_not_found", "invalid_request_error", "false", None),
    (ResponseNotFoundError("?"), 404, "response_not_found", "invalid_request_error", "false", None),
    (PreviousResponseNotFoundError("?"), 400, "previous_response_not_found", "invalid_request_error", "false", None),
    (ModelNotFoundError("?", param="model"), 404, "model_not_found", "invalid_request_error", "false", None),
    (RequestTooLargeError("?"), 413, "request_too_large", "invalid_request_error", "false", None),
    (AuthenticationError("?"), 401, "invalid_api_key", "authentication_error", "false", None),
    (PermissionDeniedError("?"), 403, "permission_denied", "permission_error", "false", None),
    (
        BudgetExceededError("?", budget="global", resets_at=RESETS),
        402,
        "budget_exceeded",
        "insufficient_quota",
        "false",
        None,
    ),
    (RequestCostError(Decimal("0.25")), 402, "max_cost_exceeded", "insufficient_quota", "false", None),
    (BudgetReservedError("?"), 429, "budget_reserved", "rate_limit_error", "true", "1"),
    (
        RateLimitedError("?", limit="requests", retry_after=42),
        429,
        "rate_limit_exceeded",
        "rate_limit_error",
        "true",
        "42",
    ),
    (NoEligibleProviderError("?"), 503, "no_eligible_provider", "server_error", "false", None),
    (AllProvidersFailedError([REFUSED]), 503, "all_providers_failed", "server_error", "false", None),
    (AllProvidersFailedError([REFUSED, SILENT]), 503, "all_providers_failed", "server_error", "true", None),
    (AllProvidersFailedError([SILENT, COMES_BACK, LATER]), 503, "all_providers_failed", "server_error", "true", "8"),
    (SecretsUnavailableError("AccessDenied"), 503, "secrets_unavailable", "server_error", "true", "1"),
    (LedgerUnavailableError("?"), 503, "ledger_unavailable", "server_error", "true", "1"),
    (DeadlineExceededError("?"), 504, "deadline_exceeded", "server_error", "false", None),
    (CallerLeftError(), 499, "caller_left", "invalid_request_error", "false", None),
]


def tree(root: type[FusewireError]) -> Iterator[type[FusewireError]]:
    yield root
    for child in root.__subclasses__():
        yield from tree(child)


def test_every_class_of_the_tree_is_tested_and_drawn() -> None:
    # Whatever else derives from them elsewhere looks the same to a caller as its parent.
    classes = {cls for cls in tree(FusewireError) if cls.__module__ == FusewireError.__module__}
    assert classes == {type(row[0]) for row in ROWS}
    import fusewire.errors

    drawing = fusewire.errors.__doc__ or ""
    for cls in classes - {FusewireError}:
        line = next(line for line in drawing.splitlines() if f" {cls.__name__} " in line)
        assert str(cls.status) in line


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{type(row[0]).__name__}")
def test_an_error_becomes_its_status_body_and_headers(
    row: tuple[FusewireError, int, str, str, str | None, str | None],
) -> None:
    error, status, code, kind, should_retry, retry_after = row
    assert error.status == status
    result: Any = error_body(error)["error"]
    assert (result["code"], result["type"], result["message"], result["param"]) == (
        code,
        kind,
        error.message,
        error.param,
    )
    headers = error_headers(error)
    assert headers.get("x-should-retry") == should_retry
    assert headers.get("Retry-After") == retry_after


def test_a_used_up_budget_says_which_and_until_when() -> None:
    result: Any = error_body(BudgetExceededError("?", budget="key_1", resets_at=RESETS))["error"]
    assert (result["budget"], result["resets_at"]) == ("key_1", "2027-01-01T00:00:00+00:00")


def test_a_used_up_budget_is_said_in_the_words_that_stop_aider() -> None:
    error = BudgetExceededError("The budget is used up.", budget="global", resets_at=RESETS)
    body, _ = render_error(error, "r1")
    result: Any = body
    # As aider 0.86 reads LiteLLM's exception, which has the body's message and nothing else of it.
    message = f"litellm.APIError: APIError: OpenAIException - {result['error']['message']}".lower()
    assert "the budget is used up." in message
    assert "insufficient credits" in message
    assert '"code":402' in message
    # What LiteLLM takes for a rate limit, wherever it is in the body, would be tried again.
    assert not re.search(r"\b429\b|rate[\s_\-]*limit", str(body).lower())


def test_an_exhausted_chain_tells_each_outcome() -> None:
    error = AllProvidersFailedError([SILENT, COMES_BACK])
    result: Any = error_body(error)["error"]
    assert result["providers"] == [
        {"provider": "azure", "model": "gpt-4o", "kind": "read_timeout", "message": SILENT.message},
        {"provider": "openai", "model": "gpt-4o", "kind": "rate_limited", "message": COMES_BACK.message},
    ]
    assert SILENT.message in error.message
    assert COMES_BACK.message in error.message


@pytest.mark.parametrize(("seconds", "header"), [(0, "1"), (0.2, "1"), (1, "1"), (1.01, "2"), (59.5, "60")])
def test_retry_after_is_whole_seconds_rounded_up(seconds: float, header: str) -> None:
    assert error_headers(FusewireError("?", retry_after=seconds))["Retry-After"] == header


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{type(row[0]).__name__}")
def test_openais_sdk_raises_its_own_exception_and_retries_as_told(
    row: tuple[FusewireError, int, str, str, str | None, str | None],
) -> None:
    import httpx2

    error, status, code, _, should_retry, _ = row
    response = httpx2.Response(
        status, json=error_body(error), headers=error_headers(error), request=httpx2.Request("POST", "http://x.invalid")
    )
    with openai.OpenAI(api_key="k", base_url="http://x.invalid") as client:
        raised = client._make_status_error_from_response(response)
        assert client._should_retry(response) is (should_retry == "true" or (should_retry is None and status >= 500))
    assert raised.code == code
    assert raised.status_code == status


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        ("0", "0"),
        ("0.000", "0"),
        ("1E+3", "1000"),
        ("100", "100"),
        ("0.00000001", "0.00000001"),
        ("12.3400", "12.34"),
        ("1E-20", "0.00000000000000000001"),
    ],
)
def test_money_is_told_without_exponent_or_rounding(amount: str, text: str) -> None:
    assert usd(Decimal(amount)) == text
