"""Which errors a route may answer, and in whose format: those of its function, and those of what is in front of it.

API Gateway, or `make run` in its place, may answer on any route before a function sees the request; it knows OpenAI's
format alone.
"""

from dataclasses import dataclass
from typing import Final

from fusewire.http.route import ErrorFormat, Route

_DESCRIPTIONS: Final = {
    400: "The request can't be understood or honoured; `param` names the field, where it is one.",
    401: "No valid API key was given.",
    402: "The budget is used up, or the call's worst case doesn't fit it, or what the request allows itself. Stop; the "
    "body says when a budget resets.",
    403: "The key doesn't have the scope, or may not use this model or classification. With `AUTH_MODE=open`: the "
    "request is an unknown web page's, or its `Host` isn't this machine.",
    408: "The request didn't arrive whole in time.",
    413: "The body is too large.",
    429: "Calls in flight have held the rest of the budget for as long as it may be waited for, or the key's minute is "
    "used up. Wait for `Retry-After`.",
    431: "The request line and the headers hold more than 10,240 bytes.",
    500: "Something failed inside the gateway.",
    502: "The function crashed.",
    503: "Every provider failed, none may serve this, or the ledger can't be reached.",
    504: "Out of time.",
}
_ON_ANY_ROUTE: Final = (400, 431, 500, 502, 503, 504)
_WITH_A_BODY: Final = (408, 413)
_WITH_A_KEY: Final = (401, 403)
_OF_THE_FUNCTION_ALONE: Final = (402, 404, 429, 500)
_OF_THE_GATEWAY_ALONE: Final = (408, 431, 502)


@dataclass(frozen=True, slots=True)
class ErrorAnswer:
    """What an error's answer looks like."""

    description: str
    formats: tuple[ErrorFormat, ...]


def errors_of(route: Route) -> dict[int, ErrorAnswer]:
    """Every error that a route may answer, by its status."""
    statuses = {*route.errors, *_ON_ANY_ROUTE}
    if route.body is not None:
        statuses.update(_WITH_A_BODY)
    if route.access != "everybody":
        statuses.update(_WITH_A_KEY)
    return {status: ErrorAnswer(_description(route, status), _formats(route, status)) for status in sorted(statuses)}


def _description(route: Route, status: int) -> str:
    return route.not_found if status == 404 else _DESCRIPTIONS[status]


def _formats(route: Route, status: int) -> tuple[ErrorFormat, ...]:
    if route.error_format == "openai" or status in _OF_THE_GATEWAY_ALONE:
        return ("openai",)
    return (route.error_format,) if status in _OF_THE_FUNCTION_ALONE else (route.error_format, "openai")
