"""Whether anything of a request has left this machine: what fails before its first byte costs nothing.

The HTTP client says so, not the kind of the error: a `ValueError` may come from a name that fits no address or from an
answer that can't be read. httpcore2 tells its `trace` extension when it begins to write a request.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from fusewire.ai.failures import ProviderFailure, UnsupportedField
from fusewire.ai.providers.response_failures import not_sent

_BEGINS: Final = "send_request_headers.started"
_FAILS: Final = "send_request_headers.failed"


class Sending:
    """One request on its way."""

    def __init__(self) -> None:
        self.begun = False
        """Whether a byte of it may have been sent."""

    def trace(self, event: str, info: dict[str, Any]) -> None:
        """:param event: httpcore2's, `http11.send_request_headers.started` and others"""
        import httpcore2

        if event.endswith(_BEGINS):
            self.begun = True
        elif event.endswith(_FAILS) and isinstance(info.get("exception"), httpcore2.LocalProtocolError):
            self.begun = False  # a header that HTTP doesn't allow, found while they are put together


_current: ContextVar[Sending | None] = ContextVar("sending", default=None)


def current() -> Sending | None:
    """The request that is being sent, for the HTTP client to note how far it came; None where nobody asks."""
    return _current.get()


@contextmanager
def sending(provider: str) -> Iterator[Sending]:
    """The request that is sent within the block, by one call of an SDK on an `HttpClient`.

    :raises ProviderFailure: NOT_SENT, for whatever else fails before anything was sent
    """
    request = Sending()
    token = _current.set(request)
    try:
        yield request
    except (ProviderFailure, UnsupportedField):
        raise
    except Exception as error:
        if request.begun:
            raise
        raise not_sent(provider, error) from error
    finally:
        _current.reset(token)
