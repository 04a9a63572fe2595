"""What a path means: whose route it is, who may ask for it, how else it may be written, and what is wrong with it."""

import re
from typing import Final

from fusewire.http.route import Access
from fusewire.http.routes import ROUTES


def access_of(method: str, path: str) -> Access:
    """Who may call this route, which is named as API Gateway names it. One that isn't declared is for admins."""
    return _ACCESS.get((method, path), "company_admin")


_ACCESS: Final[dict[tuple[str, str], Access]] = {
    (route.method, path): route.access for route in ROUTES for path in route.paths
}


def _pattern(path: str) -> str:
    """A path as a regular expression: `{name+}` stands for several parts, `{name}` for one."""
    return re.sub(r"\\{\w+\\}", "[^/]+", re.sub(r"\\{\w+\\\+\\}", ".+", re.escape(path)))


_VENDORS: Final = re.compile("|".join(_pattern(path) for route in ROUTES if route.is_vendors for path in route.paths))
_SLASHES: Final = re.compile("/{2,}")


OTHER_PATHS: Final = ("/api/v1/{proxy+}", "/v1/{proxy+}")
"""What API Gateway calls every path below that is no route's. They lead to `functions/complete`."""


def access_to(method: str, resource: str, path: str) -> Access:
    """Who may make this request. Beside the routes it is whoever may ask for what `plain_path` makes of the path; where
    that is nothing, any key is told so.

    :param resource: the route, as API Gateway names it
    """
    if resource not in OTHER_PATHS:
        return access_of(method, resource)
    plain = plain_path(path)
    asked = (
        route.access
        for route in ROUTES
        if route.is_vendors
        and route.method == method
        and any(re.fullmatch(_pattern(each), plain) for each in route.paths)
    )
    return next(asked, "any_key")


def plain_path(path: str) -> str:
    """The path of a vendor's route that is written with a slash too many, as many clients make it of a base URL.

    Every other path stays as it is: what is for admins has one spelling.
    """
    plain = _SLASHES.sub("/", path).rstrip("/")
    return plain if _VENDORS.fullmatch(plain) else path


def no_route(method: str, path: str) -> str:
    """What is wrong with a request that no route takes, and what to ask instead."""
    if _VENDORS.fullmatch(path) and (method, path) in _ACCESS:
        return f"There is no such path. Ask {method} {path}, with single slashes."
    if _SLASHES.sub("/", path).rstrip("/").endswith("/completions"):
        prompt = "The legacy completions API isn't served; chat models answer at POST /api/v1/chat/completions."
        return f"There is no route {path[:200]}. {prompt}"
    return f"There is no route {path[:200]}. GET /api/v1/openapi.json describes those that there are."
