"""Cross-origin requests: which pages may call, what they may send, and what they may read.

The template's preflight and the laptop's gateway allow the same headers as the functions: a page that works against one
of them works against the others.
"""

from typing import Final

from aws_lambda_powertools.event_handler import CORSConfig

from fusewire.config import Settings
from fusewire.http.headers import ALLOWED, EXPOSED

PREFLIGHT_SECONDS: Final = 600
"""How long a browser keeps a preflight's answer."""


def cors_of(settings: Settings) -> CORSConfig:
    """What the functions answer pages of `CORS_ORIGINS`, of which there is one at least."""
    first, *more = settings.cors_origins
    return CORSConfig(
        allow_origin=first,
        extra_origins=more,
        allow_headers=list(ALLOWED),
        expose_headers=list(EXPOSED),
        max_age=PREFLIGHT_SECONDS,
    )
