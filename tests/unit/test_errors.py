"""The tree of errors: what each one's status, code and headers tell a client to do."""

import inspect
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from fusewire import errors
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

RESETS = datetime(2026, 12, 1, tzinfo=UTC)

# The contract's section 4: status, code, OpenAI's type, and whether a client may try again.
TREE: list[tuple[FusewireError, int, str, str, bool | None]] = [
    (InvalidRequestError("m"), 400, "invalid_request_error", "invalid_request_error", False),
    (UnsupportedParameterError("m", param="n"), 400, "unsupported_parameter", "invalid_request_error", False),
    (ModelNotPricedError("vllm", "m"), 400, "model_not_priced", "invalid_request_error", False),
    (ModelNotBoundedError("azure", "m"), 400, "model_not_bounded", "invalid_request_error", False),
    (ContentPolicyError("m"), 400, "content_policy_violation", "invalid_request_error", False),
    (RepeatedRefusalError("azure", "m", 3, 42), 400, "repeated_refusal", "invalid_request_error", False),
    (CallNotFoundError("m"), 404, "call_not_found", "invalid_request_error", False),
    (KeyNotFoundError("m"), 404, "key_not_found", "invalid_request_error", False),
    (PriceNotFoundError("m"), 404, "price_not_found", "invalid_request_error", False),
    (AllowanceNotFoundError("m"), 404, "allowance_not_found", "invalid_request_error", False),
    (BudgetNotFoundError("m"), 404, "budget_not_found", "invalid_request_error", False),
    (ModelNotFoundError("m"), 404, "model_not_found", "invalid_request_error", False),
    (ResponseNotFoundError("m"), 404, "response_not_found", "invalid_request_error", False),
    (PreviousResponseNotFoundError("m"), 400, "previous_response_not_found", "invalid_request_error", False),
    (RequestTooLargeError("m"), 413, "request_too_large", "invalid_request_error", False),
    (AuthenticationError("m"), 401, "invalid_api_key", "authentication_error", False),
    (PermissionDeniedError("m"), 403, "permission_denied", "permission_error", False),
    (BudgetExceededError("m", budget="global", resets_at=RESETS), 402, "budget_exceeded", "insufficient_quota", False),
    (RequestCostError(Decimal(1)), 402, "max_cost_exceeded", "insufficient_quota", False),
    (BudgetReservedError("m"), 429, "budget_reserved", "rate_limit_error", True),
    (RateLimitedError("m", limit="tokens", retry_after=9), 429, "rate_limit_exceeded", "rate_limit_error", True),
    (NoEligibleProviderError("m"), 503, "no_eligible_provider", "server_error", False),
    (AllProvidersFailedError([]), 503, "all_providers_failed", "server_error", None),
    (SecretsUnavailableError("AccessDenied"), 503, "secrets_unavailable", "server_error", True),
    (LedgerUnavailableError("OperationalError"), 503, "ledger_unavailable", "server_error", True),
    (DeadlineExceededError("m"), 504, "deadline_exceeded", "server_error", False),
    (CallerLeftError(), 499, "caller_left", "invalid_request_error", False),
]


@pytest.mark.parametrize(
    ("error", "status", "code", "kind", "retry"), TREE, ids=[type(error).__name__ for error, *_ in TREE]
)
def test_each_error_is_what_the_contract_says(
    error: FusewireError, status: int, code: str, kind: str, retry: bool | None
) -> None:
    assert (error.status, error.code, error.type, error.should_retry) == (status, code, kind, retry)
    assert str(error) == error.message


def test_the_table_is_the_whole_tree_and_so_is_its_drawing() -> None:
    defined = {
        cls
        for _, cls in inspect.getmembers(errors, inspect.isclass)
        if issubclass(cls, FusewireError) and cls is not FusewireError
    }
    assert defined == {type(error) for error, *_ in TREE}
    drawn = errors.__doc__ or ""
    for error, status, *_ in TREE:
        [line] = [line for line in drawn.splitlines() if f"─ {type(error).__name__} " in line]
        assert f" {status}" in line


def test_402_stops_and_says_which_budget_and_until_when() -> None:
    error = BudgetExceededError("m", budget="key-1", resets_at=RESETS)
    assert (error.budget, error.resets_at, error.retry_after) == ("key-1", RESETS, None)


def test_429_waits_a_second() -> None:
    assert BudgetReservedError("m").retry_after == 1


def test_an_unpriced_model_is_told_how_to_be_priced() -> None:
    error = ModelNotPricedError("vllm", "ours")
    assert error.param == "model"
    assert "vllm/ours" in error.message
    assert "AI_PRICE_OVERRIDES" in error.message
    assert '{"vllm/ours": {"input_mtok": 1, "output_mtok": 2}}' in error.message


def test_an_unbounded_model_is_told_how_to_be_bounded() -> None:
    error = ModelNotBoundedError("azure", "ours")
    assert error.param == "model"
    assert """Set AI_OUTPUT_BOUNDS ('{"azure/ours": 262144}',""" in error.message


def test_all_failed_names_each_provider_and_the_earliest_return() -> None:
    error = AllProvidersFailedError(
        [
            ProviderOutcome("azure", "gpt", "rate_limited", "HTTP 429", retry_after=30),
            ProviderOutcome("aws", "claude", "read_timeout", "no answer in 10 s"),
            ProviderOutcome("ollama", "smol", "cooling_down", "cooling down", retry_after=7.5),
        ]
    )
    assert "azure/gpt: HTTP 429; aws/claude: no answer in 10 s; ollama/smol: cooling down" in error.message
    assert "/api/v1/admin/providers" in error.message
    assert error.retry_after == 7.5
    assert AllProvidersFailedError(error.outcomes[1:2]).retry_after is None


def test_a_ledger_that_is_gone_says_that_nothing_was_forwarded() -> None:
    error = LedgerUnavailableError("OperationalError")
    assert error.retry_after == 1
    assert "nothing was forwarded" in error.message
    assert "OperationalError" in error.message


@pytest.mark.parametrize(
    ("amount", "text"),
    [("0", "0"), ("0.10", "0.1"), ("100", "100"), ("1E+2", "100"), ("1E-10", "0.0000000001"), ("0.000", "0")],
)
def test_usd_is_plain_and_exact(amount: str, text: str) -> None:
    assert usd(Decimal(amount)) == text
