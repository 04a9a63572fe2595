"""The HTTP headers, each declared once: those of responses with how their values are made, and those of requests.

What pages of other origins may read (CORS) and the OpenAPI document follow from these declarations.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, TypeVar

from fusewire.errors import AllProvidersFailedError, FusewireError, usd
from fusewire.rate_limit import RateLimitState

if TYPE_CHECKING:
    # Functions that call no provider have headers too.
    from fusewire.ai.router import Answered
    from fusewire.ai.token_counts import TokenCount

_Source = TypeVar("_Source")


class ResponseHeader(NamedTuple, Generic[_Source]):
    """A header of responses. `value` makes it of what its group is about; None leaves it out."""

    name: str
    description: str
    value: Callable[[_Source], str | None]


class CallResult(NamedTuple):
    """A call that a provider answered, as its headers tell it to the caller."""

    answer: "Answered"
    is_admin: bool
    """Whether the caller may learn the company's amounts."""
    names: Mapping[str, str] = MappingProxyType({})
    """What the caller's format calls the fields of `ChatRequest`, where that differs."""

    @property
    def cost(self) -> str | None:
        """None while a stream hasn't ended."""
        from fusewire.ai.router import Served

        return usd(self.answer.booked.cost) if isinstance(self.answer, Served) else None

    @property
    def dropped(self) -> str | None:
        return ", ".join(dict.fromkeys(self.names.get(name, name) for name in self.answer.dropped)) or None

    @property
    def budget_state(self) -> str:
        """How the budgets stand that may refuse this caller."""
        budget, key = self.answer.budget, self.answer.key
        if self.is_admin or key is None or key.remaining is None:
            return budget.state
        # Alphabetical order happens to be the order of severity: CLOSED < HALF_OPEN < OPEN.
        return max(budget.state, key.state)

    @property
    def budget_remaining(self) -> str | None:
        """Of the company's budget for admins, else of the key's own: no other is the caller's to know."""
        key = self.answer.key
        remaining = self.answer.budget.remaining if self.is_admin else key.remaining if key is not None else None
        return None if remaining is None else usd(remaining)


REQUEST_ID: Final[ResponseHeader[str]] = ResponseHeader(
    "x-request-id", "The request's id, which is on each of its log lines.", lambda request_id: request_id
)
ANTHROPIC_REQUEST_ID: Final[ResponseHeader[str]] = ResponseHeader(
    "request-id", "The request's id, where Anthropic's SDKs look for it.", lambda request_id: request_id
)

TOKEN_COUNT: "Final[ResponseHeader[TokenCount]]" = ResponseHeader(
    "x-fusewire-token-count",
    "vendor: the provider's own count; bound: it has none, and this is the most that it would bill.",
    lambda count: count.source,
)
CODEX_MESSAGE: Final[ResponseHeader[str]] = ResponseHeader(
    "x-codex-promo-message",
    "Why a budget refuses, where Codex looks for it.",
    lambda message: message.rstrip("."),
)
"""Codex shows its own text for a usage limit, and this within it."""

CALL: Final[tuple[ResponseHeader[CallResult], ...]] = (
    ResponseHeader("x-fusewire-provider", "The provider that answered.", lambda call: call.answer.provider),
    ResponseHeader("x-fusewire-model", "The model that answered.", lambda call: _printable(call.answer.model)),
    ResponseHeader("x-fusewire-attempts", "How many providers were tried.", lambda call: str(call.answer.attempts)),
    ResponseHeader(
        "x-fusewire-downgraded-from",
        "The tier that was asked for, where a cheaper one answered to spare the budget.",
        lambda call: call.answer.downgraded_from,
    ),
    ResponseHeader(
        "x-fusewire-output-cap",
        "The output cap that was sent, in tokens, where it is smaller than the one that was asked for.",
        lambda call: None if call.answer.output_cap is None else str(call.answer.output_cap),
    ),
    ResponseHeader(
        "x-fusewire-dropped", "The fields that were left out, separated by commas.", lambda call: call.dropped
    ),
    ResponseHeader("x-fusewire-cost-usd", "What the call cost, in USD. Not on streams.", lambda call: call.cost),
    ResponseHeader(
        "x-fusewire-budget-state",
        "CLOSED, HALF_OPEN or OPEN: the worst of the budgets that may refuse the caller.",
        lambda call: call.budget_state,
    ),
    ResponseHeader(
        "x-fusewire-budget-remaining-usd",
        "USD that are left: of the key's own budget, or for admins of the company's.",
        lambda call: call.budget_remaining,
    ),
)
"""On the answers of providers."""

RATE_LIMIT: Final[tuple[ResponseHeader[RateLimitState], ...]] = (
    ResponseHeader(
        "x-ratelimit-limit-requests", "Requests a minute that the key may make.", lambda limit: _text(limit.requests)
    ),
    ResponseHeader(
        "x-ratelimit-remaining-requests",
        "Requests that are left of this minute.",
        lambda limit: None if limit.requests is None else _text(limit.requests_left),
    ),
    ResponseHeader(
        "x-ratelimit-reset-requests",
        "When this minute ends, such as 12s.",
        lambda limit: None if limit.requests is None else _duration(limit.ends_in_seconds),
    ),
    ResponseHeader(
        "x-ratelimit-limit-tokens", "Tokens a minute that the key may use.", lambda limit: _text(limit.tokens)
    ),
    ResponseHeader(
        "x-ratelimit-remaining-tokens",
        "Tokens that are left of this minute.",
        lambda limit: None if limit.tokens is None else _text(limit.tokens_left),
    ),
    ResponseHeader(
        "x-ratelimit-reset-tokens",
        "When this minute ends, such as 12s.",
        lambda limit: None if limit.tokens is None else _duration(limit.ends_in_seconds),
    ),
)
"""What is left of a key's limits per minute, as OpenAI names it: on the answers of providers, and on 429s."""

ERROR: Final[tuple[ResponseHeader[FusewireError], ...]] = (
    ResponseHeader(
        "Retry-After",
        "Whole seconds after which a retry can help.",
        lambda error: None if error.retry_after is None else str(max(1, -int(-error.retry_after // 1))),
    ),
    ResponseHeader(
        "x-should-retry",
        "Whether a retry can help; OpenAI's and Anthropic's SDKs obey it.",
        lambda error: _retry(error),
    ),
)
"""On errors."""

ALL: Final[tuple[ResponseHeader[Any], ...]] = (
    REQUEST_ID,
    *CALL,
    *RATE_LIMIT,
    *ERROR,
    ANTHROPIC_REQUEST_ID,
    TOKEN_COUNT,
    CODEX_MESSAGE,
)
EXPOSED: Final = tuple(header.name for header in ALL)
"""The response headers that a page of another origin may read."""

CLASSIFICATION: Final = "x-fusewire-classification"
"""The request header that says who may see the data: see `fusewire.ai.tiers`."""
OUTPUT_CAP: Final = "x-fusewire-output-cap"
"""The request header that says whether a smaller output cap may be sent; that of responses says that one was."""
MAX_COST: Final = "x-fusewire-max-cost-usd"
"""The request header that says what the call may cost at most."""
ALLOWED: Final = (
    "Content-Type", "Authorization", "x-api-key", "api-key", CLASSIFICATION, OUTPUT_CAP, MAX_COST, "Idempotency-Key",
    # OpenAI's and Anthropic's SDKs set these unasked, or when an organisation, a project or a beta is set.
    "User-Agent", "OpenAI-Organization", "OpenAI-Project", "OpenAI-Beta", "anthropic-version", "anthropic-beta",
    "anthropic-dangerous-direct-browser-access", "x-stainless-arch", "x-stainless-async", "x-stainless-helper",
    "x-stainless-helper-method", "x-stainless-lang", "x-stainless-os", "x-stainless-package-version",
    "x-stainless-raw-response", "x-stainless-read-timeout", "x-stainless-retry-count", "x-stainless-runtime",
    "x-stainless-runtime-version", "x-stainless-stream-helper", "x-stainless-timeout",
)  # fmt: skip
"""The request headers that a page of another origin may send."""


def call_headers(call: CallResult) -> dict[str, str]:
    """Who answered, at what cost, and how the budgets and the key's limits stand after it."""
    return _values(CALL, call) | rate_limit_headers(call.answer.key.rate_limit if call.answer.key else None)


def token_count_headers(count: "TokenCount") -> dict[str, str]:
    """Whose count it is."""
    return _values((TOKEN_COUNT,), count)


def rate_limit_headers(limit: RateLimitState | None) -> dict[str, str]:
    """`limit`, `remaining` and `reset` for requests and for tokens, each where the key has such a limit."""
    return {} if limit is None else _values(RATE_LIMIT, limit)


def codex_headers(error: FusewireError) -> dict[str, str]:
    """Those of an error that Codex gets as a usage limit."""
    return error_headers(error) | _values((CODEX_MESSAGE,), error.message)


def error_headers(error: FusewireError) -> dict[str, str]:
    """When to retry, and for a key that has to wait what is left of its limits."""
    return rate_limit_headers(error.rate_limit if error.status == 429 else None) | _values(ERROR, error)


def _values(headers: tuple[ResponseHeader[_Source], ...], source: _Source) -> dict[str, str]:
    return {header.name: value for header in headers if (value := header.value(source)) is not None}


def _text(number: int | None) -> str | None:
    return None if number is None else str(number)


def _duration(seconds: int) -> str:
    """As OpenAI writes it: `12s`, `1m0s`."""
    return f"{seconds // 60}m{seconds % 60}s" if seconds >= 60 else f"{seconds}s"


def _printable(text: str) -> str:
    """A model's name comes from the caller: nothing but printable ASCII may reach a header."""
    return "".join(c if " " <= c <= "~" else "?" for c in text)


def _retry(error: FusewireError) -> str | None:
    should_retry = error.is_passing if isinstance(error, AllProvidersFailedError) else error.should_retry
    return None if should_retry is None else str(should_retry).lower()
