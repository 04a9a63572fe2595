"""Every error that a caller can see, as one tree.

    FusewireError
    ├── InvalidRequestError             400  the caller's mistake; `param` names the field
    │   ├── UnsupportedParameterError   400  no provider of the chain can honour a field
    │   ├── ModelNotPricedError         400  a model without a price is refused, never free
    │   ├── ContentPolicyError          400  a vendor's policy refused the content
    │   ├── ModelNotFoundError          404
    │   ├── CallNotFoundError           404  the ledger has no such call
    │   ├── KeyNotFoundError            404  there is no such key
    │   └── RequestTooLargeError        413
    ├── AuthenticationError             401
    ├── PermissionDeniedError           403
    ├── BudgetExceededError             402  stop: it can't fit what is left of the window
    ├── BudgetReservedError             429  wait: calls in flight hold the headroom
    ├── RateLimitedError                429  wait: the key's minute is used up
    ├── NoEligibleProviderError         503  classification or mode leaves nobody; never widened
    ├── AllProvidersFailedError         503  with each provider's outcome
    ├── LedgerUnavailableError          503  no ledger, no call
    ├── SecretsUnavailableError         503  no keys to call a vendor with
    └── DeadlineExceededError           504

The status alone says what a client should do: 402 stop, 429 wait, 503 later. The SDKs of OpenAI and Anthropic
retry 408, 409, 429 and 5xx unless `x-should-retry: false` says otherwise; each class carries that verdict.
`fusewire.http.errors` turns the tree into HTTP; nothing else does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from fusewire.budget.breaker import Minute


class FusewireError(Exception):
    """What a caller sees: `str(error)` says what happened and what to do next, without secrets or content."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    type: ClassVar[str] = "server_error"
    should_retry: ClassVar[bool | None] = None
    """The `x-should-retry` header; None leaves the decision to the client's SDK."""

    def __init__(self, message: str, *, param: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after = retry_after
        """Seconds until a retry can help, sent as `Retry-After`; None when nobody knows."""
        self.minute: Minute | None = None
        """What is left of the minute of the key that was refused, where that is known."""


class InvalidRequestError(FusewireError):
    status = 400
    code = "invalid_request_error"
    type = "invalid_request_error"
    should_retry = False


class UnsupportedParameterError(InvalidRequestError):
    code = "unsupported_parameter"


class ModelNotPricedError(InvalidRequestError):
    code = "model_not_priced"

    def __init__(self, provider: str, model: str) -> None:
        super().__init__(
            f"{provider}/{model} has no price, so it can't be budgeted. Set AI_PRICE_OVERRIDES "
            f'(\'{{"{provider}/{model}": {{"input_mtok": 1, "output_mtok": 2}}}}\', USD per million tokens) '
            "or AI_PRICE_ALIASES.",
            param="model",
        )
        self.provider = provider
        self.model = model


class ContentPolicyError(InvalidRequestError):
    code = "content_policy_violation"


class ModelNotFoundError(InvalidRequestError):
    status = 404
    code = "model_not_found"


class CallNotFoundError(InvalidRequestError):
    status = 404
    code = "call_not_found"


class KeyNotFoundError(InvalidRequestError):
    status = 404
    code = "key_not_found"


class RequestTooLargeError(InvalidRequestError):
    status = 413
    code = "request_too_large"


class AuthenticationError(FusewireError):
    status = 401
    code = "invalid_api_key"
    type = "authentication_error"
    should_retry = False


class PermissionDeniedError(FusewireError):
    status = 403
    code = "permission_denied"
    type = "permission_error"
    should_retry = False


class BudgetExceededError(FusewireError):
    """The window can't hold this call's worst case: nothing changes until `resets_at` or an operator acts."""

    status = 402
    code = "budget_exceeded"
    type = "insufficient_quota"
    should_retry = False

    def __init__(self, message: str, *, budget: str, resets_at: datetime) -> None:
        super().__init__(message)
        self.budget = budget
        """Which budget refused: `global`, or a key's id."""
        self.resets_at = resets_at


class BudgetReservedError(FusewireError):
    """It would fit, but calls in flight hold the headroom: a moment later it may pass."""

    status = 429
    code = "budget_reserved"
    type = "rate_limit_error"
    should_retry = True

    def __init__(self, message: str) -> None:
        super().__init__(message, retry_after=1)


class RateLimitedError(FusewireError):
    """A key's limit of requests or tokens per minute; `retry_after` is what is left of the minute."""

    status = 429
    code = "rate_limit_exceeded"
    type = "rate_limit_error"
    should_retry = True

    def __init__(self, message: str, *, limit: str, retry_after: float) -> None:
        super().__init__(message, retry_after=retry_after)
        self.limit = limit
        """`requests` or `tokens`."""


class NoEligibleProviderError(FusewireError):
    status = 503
    code = "no_eligible_provider"
    type = "server_error"
    should_retry = False


@dataclass(frozen=True, slots=True)
class ProviderOutcome:
    """How one provider's attempt ended; safe to show: neither content nor credentials."""

    provider: str
    model: str
    kind: str
    """The failure's kind, as in `router.provider_failed`'s `kind`: `rate_limited`, `read_timeout`, ..."""
    message: str
    retry_after: float | None = None
    """Seconds, when the provider (or its cooldown) said when to come back."""


class AllProvidersFailedError(FusewireError):
    status = 503
    code = "all_providers_failed"

    def __init__(self, outcomes: Sequence[ProviderOutcome]) -> None:
        told = "; ".join(f"{o.provider}/{o.model}: {o.message}" for o in outcomes)
        # One provider that comes back is enough for the chain, so the earliest counts.
        waits = [o.retry_after for o in outcomes if o.retry_after is not None]
        super().__init__(
            f"Every provider failed. {told}. See GET /api/v1/admin/providers.",
            retry_after=min(waits) if waits else None,
        )
        self.outcomes = tuple(outcomes)


class LedgerUnavailableError(FusewireError):
    status = 503
    code = "ledger_unavailable"
    should_retry = True

    def __init__(self, reason: str) -> None:
        super().__init__(
            "The budget's ledger can't be reached, so nothing was forwarded. Retry in a moment; "
            f"operators: check Postgres and DATABASE_URL ({reason}).",
            retry_after=1,
        )


class SecretsUnavailableError(FusewireError):
    status = 503
    code = "secrets_unavailable"
    should_retry = True

    def __init__(self, reason: str) -> None:
        super().__init__(
            "The secrets that hold the vendors' keys can't be read, so nothing was forwarded. Retry in a moment; "
            f"operators: check FUSEWIRE_SECRET_ARNS and the function's rights ({reason}).",
            retry_after=1,
        )


class DeadlineExceededError(FusewireError):
    status = 504
    code = "deadline_exceeded"
    should_retry = False


def usd(amount: Decimal) -> str:
    """Money for a message or a header: plain notation, no exponent, exact."""
    text = format(amount, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
