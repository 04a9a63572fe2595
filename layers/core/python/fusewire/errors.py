"""Every error that a caller can see, as one tree.

    FusewireError
    ├── InvalidRequestError             400  the caller's mistake; `param` names the field
    │   ├── UnsupportedParameterError   400  no provider of the chain can honour a field
    │   ├── ModelNotPricedError         400  a model without a price is refused, never free
    │   ├── ModelNotBoundedError        400  a model whose most output nobody knows can't be reserved for
    │   ├── ContentPolicyError          400  a vendor's policy refused the content
    │   ├── RepeatedRefusalError        400  a vendor refused the key's last requests to the model
    │   ├── ModelNotFoundError          404
    │   ├── CallNotFoundError           404  the ledger has no such call
    │   ├── KeyNotFoundError            404  there is no such key
    │   ├── BudgetNotFoundError         404  the tree of budgets has no such node
    │   ├── PriceNotFoundError          404  no administrator set such a price
    │   ├── AllowanceNotFoundError      404  no usage has raised the allowance of such a model
    │   ├── ResponseNotFoundError       404  the key has no such response, or no such item of one
    │   ├── PreviousResponseNotFoundError  400  the key has no response to go on from; the status is OpenAI's
    │   └── RequestTooLargeError        413
    ├── AuthenticationError             401
    ├── PermissionDeniedError           403
    ├── BudgetExceededError             402  stop: it can't fit what is left of the window
    ├── RequestCostError                402  stop: it could cost more than the request itself allows
    ├── BudgetReservedError             429  wait: calls in flight hold the headroom
    ├── RateLimitedError                429  wait: the key's rate limit is used up
    ├── NoEligibleProviderError         503  classification or mode leaves nobody; never widened
    ├── AllProvidersFailedError         503  with each provider's outcome
    ├── LedgerUnavailableError          503  no ledger, no call
    ├── SecretsUnavailableError         503  no keys to call a vendor with
    ├── DeadlineExceededError           504
    └── CallerLeftError                 499  its caller hung up while it waited; nobody reads it

The status alone says what a client should do: 402 stop, 429 wait, 503 later. The SDKs of OpenAI and Anthropic
retry 408, 409, 429 and 5xx unless `x-should-retry: false` says otherwise; each class carries that verdict.
`fusewire.http.errors` turns the tree into HTTP; nothing else does.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import ClassVar

from fusewire.rate_limit import RateLimitState


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
        self.rate_limit: RateLimitState | None = None
        """What is left of the rate limit of the key that was refused, where that is known."""
        self.counted = False
        """Whether the key's rate limit has counted the request, because something was reserved for it."""
        self.recorded = False
        """Whether Postgres has it among the refused calls already, because the ledger refused it."""


class InvalidRequestError(FusewireError):
    status = 400
    code = "invalid_request_error"
    type = "invalid_request_error"
    should_retry = False


class UnsupportedParameterError(InvalidRequestError):
    code = "unsupported_parameter"


class ModelNotPricedError(InvalidRequestError):
    code = "model_not_priced"

    def __init__(self, provider: str, model: str, why: str = "there is no price of it") -> None:
        """:param why: what is missing, as the words after `can't be budgeted, since`"""
        name = f"{provider}/{model}"
        price = {"input_mtok": 1, "output_mtok": 2}
        super().__init__(
            f"{name} can't be budgeted, since {why}. Set its price, in USD per million tokens: AI_PRICE_OVERRIDES="
            f"'{json.dumps({name: price})}'. Or, where it is a priced model under another name: AI_PRICE_ALIASES="
            f"'{json.dumps({name: 'gpt-4o'})}'.",
            param="model",
        )
        self.provider = provider
        self.model = model


class ModelNotBoundedError(InvalidRequestError):
    code = "model_not_bounded"

    def __init__(self, provider: str, model: str) -> None:
        super().__init__(
            f"{provider}/{model} reasons beyond the output cap, and the most that it can be billed for isn't known, so "
            f"it can't be budgeted. Set AI_OUTPUT_BOUNDS ('{{\"{provider}/{model}\": 262144}}', output tokens with "
            "reasoning; the model's context window is enough), or name the model in AI_PRICE_ALIASES.",
            param="model",
        )


class ContentPolicyError(InvalidRequestError):
    code = "content_policy_violation"


class RepeatedRefusalError(InvalidRequestError):
    """A vendor refused the key's last requests to a model, and each was booked at its bound: no more for a while."""

    code = "repeated_refusal"

    def __init__(self, provider: str, model: str, refusals: int, seconds: int) -> None:
        """:param seconds: until the model may be asked again"""
        super().__init__(
            f"{provider} refused this key's last {refusals} requests to {model!r} and may bill for them, so each was "
            f"booked at its worst case. This one was not sent and costs nothing. Change the request, or ask for "
            f"another model; {provider}/{model} may be asked again in {seconds} s.",
            retry_after=seconds,
        )


class ModelNotFoundError(InvalidRequestError):
    status = 404
    code = "model_not_found"


class CallNotFoundError(InvalidRequestError):
    status = 404
    code = "call_not_found"


class KeyNotFoundError(InvalidRequestError):
    status = 404
    code = "key_not_found"


class BudgetNotFoundError(InvalidRequestError):
    status = 404
    code = "budget_not_found"


class PriceNotFoundError(InvalidRequestError):
    status = 404
    code = "price_not_found"


class AllowanceNotFoundError(InvalidRequestError):
    status = 404
    code = "allowance_not_found"


class ResponseNotFoundError(InvalidRequestError):
    status = 404
    code = "response_not_found"


class PreviousResponseNotFoundError(InvalidRequestError):
    code = "previous_response_not_found"


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

    def __init__(self, message: str, *, budget: str, resets_at: datetime | None) -> None:
        super().__init__(message)
        self.budget = budget
        """Which budget refused: `global`, or as `budget.wire.WindowRow` says."""
        self.resets_at = resets_at
        """None where its period never ends."""


class RequestCostError(FusewireError):
    """`x-fusewire-max-cost-usd` can't take the call: the request's own limit, which no budget has to do with."""

    status = 402
    code = "max_cost_exceeded"
    type = "insufficient_quota"
    should_retry = False

    def __init__(self, max_cost_usd: Decimal) -> None:
        super().__init__(
            f"This call could cost more than the {usd(max_cost_usd)} USD that its x-fusewire-max-cost-usd allows, "
            "and no smaller output cap of use makes it fit, so it wasn't sent. Raise that, shorten the prompt, or "
            "ask for a cheaper model."
        )


class BudgetReservedError(FusewireError):
    """It would fit, but calls in flight hold the headroom: a moment later it may pass."""

    status = 429
    code = "budget_reserved"
    type = "rate_limit_error"
    should_retry = True

    def __init__(self, message: str, *, retry_after: float = 1) -> None:
        """:param retry_after: seconds, by how long calls in flight usually take"""
        super().__init__(message, retry_after=retry_after)


class RateLimitedError(FusewireError):
    """A key's limit of requests or tokens per minute; `retry_after` is the rest of the minute."""

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
    is_passing: bool = False
    """Whether it is of the sort that passes by itself: throttling, an overload, a time-out, a broken connection."""


class AllProvidersFailedError(FusewireError):
    """Retryable where one of the failures was of the sort that passes, as it would be at the vendor itself."""

    status = 503
    code = "all_providers_failed"

    def __init__(self, outcomes: Sequence[ProviderOutcome]) -> None:
        causes = "; ".join(f"{o.provider}/{o.model}: {o.message}" for o in outcomes)
        # One provider that comes back is enough for the chain, so the earliest counts.
        waits = [o.retry_after for o in outcomes if o.retry_after is not None]
        super().__init__(
            f"Every provider failed. {causes}. See GET /api/v1/admin/providers.",
            retry_after=min(waits) if waits else None,
        )
        self.outcomes = tuple(outcomes)

    @property
    def is_passing(self) -> bool:
        """Whether a retry can help."""
        return any(outcome.is_passing or outcome.retry_after is not None for outcome in self.outcomes)


class LedgerUnavailableError(FusewireError):
    status = 503
    code = "ledger_unavailable"
    should_retry = True

    def __init__(self, reason: str, *, may_be_done: bool = True) -> None:
        """:param may_be_done: whether the statement may have reached Postgres, and so what it books"""
        super().__init__(
            "The budget's ledger can't be reached, so nothing was forwarded. Retry in a moment; "
            f"operators: check Postgres and DATABASE_URL ({reason}).",
            retry_after=1,
        )
        self.reason = reason
        self.may_be_done = may_be_done


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


class CallerLeftError(FusewireError):
    status = 499  # nginx's, for the same
    code = "caller_left"
    type = "invalid_request_error"
    should_retry = False

    def __init__(self) -> None:
        super().__init__("The caller hung up while the call waited for room. Nothing was sent, and nothing booked.")


def usd(amount: Decimal) -> str:
    """Money for a message or a header: plain notation, no exponent, exact."""
    text = format(amount, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
