"""What is left of a key's rate limit."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RateLimitState:
    """A key's limits per minute, each None where it has none, and what is left of them."""

    requests: int | None
    requests_left: int | None
    tokens: int | None
    tokens_left: int | None
    ends_in_seconds: int
    """Until the minute that the key's first call began is over; 0 when none is under way."""
