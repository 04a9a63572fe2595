"""What is declared of a route. `routes.py` declares them all.

Models are named, not imported, so that a function imports only those of its own routes: `http.admin.keys:KeyPage` is
`KeyPage` of `fusewire.http.admin.keys`.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any, Final, Literal, NamedTuple

Access = Literal["everybody", "any_key", "complete", "read", "admin", "company_read", "company_admin"]
"""Who may call: everybody, whoever has a valid key, or the keys with this scope; `admin` has all that `read` has.

A key whose scopes are bound to a budget of the tree may use the routes of `read` and `admin`, where it sees and changes
that budget and what is below it alone. Those of `company_read` and `company_admin` are about the whole company: they
are for keys that are not bound.
"""
ADMINISTRATIVE: Final[frozenset[Access]] = frozenset({"read", "admin", "company_read", "company_admin"})
"""Those of the routes below `/admin`."""
ErrorFormat = Literal["openai", "anthropic"]

OPENAI_ERRORS: Final = "http.errors:render_error"
MAX_VALUES: Final = 100_000
"""That a body may hold, unless its route says otherwise."""


class Route(NamedTuple):
    """One method of one path."""

    method: Literal["GET", "POST", "PATCH", "DELETE"]
    path: str
    operation_id: str
    summary: str
    access: Access
    """For each scope, what the route is for it: the one place where that is said."""
    response: str
    """The model of the body of an answer; its status is `status`."""
    body: str | None = None
    """The model of the request's body, which the handler gets as `body`."""
    empty_body: bool = False
    """Whether an absent body stands for `{}`."""
    max_values: int = MAX_VALUES
    """How many values a body may hold."""
    query: str | None = None
    """The model of the query string, which the handler gets as `query`."""
    status: int = 200
    errors: tuple[int, ...] = ()
    """Statuses of errors that this route has beyond those that every route may have."""
    not_found: str = ""
    """What a 404 means here."""
    unavailable: str = ""
    """The model of a 503 that isn't an error's body."""
    also: str = ""
    """A content type that the answer may have besides JSON."""
    makes_calls: bool = False
    """Whether it calls a provider for the caller: such routes share headers."""
    error_format: ErrorFormat = "openai"
    render_error: str = OPENAI_ERRORS
    """What makes a body and headers of an error."""
    is_vendors: bool = False
    """Whether it is a route of a vendor's API, whose clients bring its path themselves: it is at `/v1/...` too."""

    @property
    def paths(self) -> tuple[str, ...]:
        """Every path at which it is served."""
        return (self.path, self.path.removeprefix("/api")) if self.is_vendors else (self.path,)

    def greedy_parameter(self, path: str) -> dict[str, str]:
        """The parameter that may hold slashes, as it stands in this path; none where the route has none."""
        if not self.path.endswith("+}"):
            return {}
        beginning, _, name = self.path.removesuffix("+}").rpartition("{")
        return {name: path[path.index(beginning.removeprefix("/api")) :].removeprefix(beginning.removeprefix("/api"))}


def named(reference: str) -> Any:  # noqa: ANN401 - a model, a type of models, or a function
    """What `module:name` stands for, below `fusewire`."""
    module, _, name = reference.partition(":")
    return getattr(import_module(f"fusewire.{module}"), name)


ErrorRenderer = Callable[[Any, str], tuple[object, dict[str, str]]]
"""From a `FusewireError` and the request's id to a body and headers."""
