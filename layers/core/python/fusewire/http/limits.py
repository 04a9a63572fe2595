"""What is left of a key's minute, in OpenAI's `x-ratelimit-*` headers."""

from fusewire.budget.breaker import Minute


def limit_headers(minute: Minute | None) -> dict[str, str]:
    """`limit`, `remaining` and `reset` for requests and for tokens, each where the key has such a limit."""
    if minute is None:
        return {}
    headers = {}
    for what, limit, left in (
        ("requests", minute.requests, minute.requests_left),
        ("tokens", minute.tokens, minute.tokens_left),
    ):
        if limit is not None:
            headers[f"x-ratelimit-limit-{what}"] = str(limit)
            headers[f"x-ratelimit-remaining-{what}"] = str(left)
            headers[f"x-ratelimit-reset-{what}"] = _duration(minute.ends_in_seconds)
    return headers


def _duration(seconds: int) -> str:
    """As OpenAI writes it: `12s`, `1m0s`."""
    return f"{seconds // 60}m{seconds % 60}s" if seconds >= 60 else f"{seconds}s"
