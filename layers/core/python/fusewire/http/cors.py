"""Cross-origin requests: which headers a web page may send, and which of the answer's it may read.

The template's preflight and the laptop's gateway allow the same headers as the functions: a page that works against one
of them works against the others.
"""

from typing import Final

from aws_lambda_powertools.event_handler import CORSConfig

from fusewire.config import Settings

ALLOWED_HEADERS: Final = (
    "Content-Type", "Authorization", "x-api-key", "x-fusewire-classification", "Idempotency-Key",
    # OpenAI's and Anthropic's SDKs set these unasked, or when they are told an organisation, a project or a beta.
    "User-Agent", "OpenAI-Organization", "OpenAI-Project", "OpenAI-Beta", "anthropic-version", "anthropic-beta",
    "anthropic-dangerous-direct-browser-access", "x-stainless-arch", "x-stainless-async", "x-stainless-helper",
    "x-stainless-helper-method", "x-stainless-lang", "x-stainless-os", "x-stainless-package-version",
    "x-stainless-raw-response", "x-stainless-read-timeout", "x-stainless-retry-count", "x-stainless-runtime",
    "x-stainless-runtime-version", "x-stainless-stream-helper", "x-stainless-timeout",
)  # fmt: skip
PREFLIGHT_SECONDS: Final = 600
"""How long a browser keeps a preflight's answer."""
_EXPOSED: Final = [
    "x-request-id", "x-fusewire-provider", "x-fusewire-model", "x-fusewire-attempts", "x-fusewire-cost-usd",
    "x-fusewire-budget-state", "x-fusewire-budget-remaining-usd", "x-fusewire-dropped",
    "x-fusewire-downgraded-from", "retry-after", "x-should-retry", "request-id", "x-ratelimit-limit-requests",
    "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests", "x-ratelimit-limit-tokens",
    "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens",
]  # fmt: skip


def cors_of(settings: Settings) -> CORSConfig | None:
    """What the functions answer pages of `CORS_ORIGINS`; None where there are none."""
    if not settings.cors_origins:
        return None
    first, *more = settings.cors_origins
    return CORSConfig(
        allow_origin=first,
        extra_origins=more,
        allow_headers=list(ALLOWED_HEADERS),
        expose_headers=_EXPOSED,
        max_age=PREFLIGHT_SECONDS,
    )
