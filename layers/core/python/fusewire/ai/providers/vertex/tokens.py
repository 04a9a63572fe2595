"""Google's access tokens by google-auth: fetched on first use, kept, and renewed before they run out.

Credentials are Application Default Credentials: `GOOGLE_APPLICATION_CREDENTIALS`, gcloud's, or the metadata server's.
google-auth's own transports need packages that don't ship here; httpx2 comes with the openai SDK.
"""

import threading
import time
from collections.abc import Mapping
from typing import Final

import google.auth
import google.auth.exceptions
import google.auth.transport
import httpx2
from google.auth.credentials import Credentials, TokenState

from fusewire.ai.failures import FailureKind, ProviderFailure

_SCOPES: Final = ("https://www.googleapis.com/auth/cloud-platform",)
_NOT_NOW: Final = {408, 429, 500, 502, 503, 504}
_SETTING: Final = "see GOOGLE_APPLICATION_CREDENTIALS"


class AccessTokens:
    """The token of this execution environment."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._credentials: Credentials | None = None

    def fetch(self, seconds: float) -> None:
        """Have a token that lasts for a while, in so much time at most.

        :raises ProviderFailure: when none can be had
        """
        with self._lock:
            try:
                self._fetch(_Transport(seconds))
            except google.auth.exceptions.TransportError as error:
                raise ProviderFailure(
                    FailureKind.CONNECT_FAILED, "gcp: Google's token server can't be reached"
                ) from error
            except google.auth.exceptions.GoogleAuthError as error:
                if error.retryable:
                    raise ProviderFailure(
                        FailureKind.OVERLOADED, "gcp: Google's token server is unavailable"
                    ) from error
                raise _rejected() from error
            except Exception as error:  # whatever google-auth makes of a key file or a token that it can't read
                raise _rejected() from error

    def current(self) -> str:
        """The token that `fetch` saw to."""
        token = self._credentials.token if self._credentials else None
        if not token:
            raise _rejected()
        return str(token)

    def forget(self) -> None:
        """Read the credentials anew next time: Vertex didn't take the token."""
        with self._lock:
            self._credentials = None

    def _fetch(self, transport: "_Transport") -> None:
        if self._credentials is None:
            self._credentials, _ = google.auth.default(scopes=_SCOPES, request=transport)
        if self._credentials.token_state is TokenState.FRESH:
            return
        try:
            self._credentials.refresh(transport)  # type: ignore[no-untyped-call]
        except google.auth.exceptions.GoogleAuthError:
            if self._credentials.token_state is TokenState.INVALID:
                raise
            # It is to run out within minutes, and serves until then; the next call tries again.


def _rejected() -> ProviderFailure:
    return ProviderFailure(
        FailureKind.CREDENTIAL_REJECTED, f"gcp: Google gave no access token for these credentials; {_SETTING}"
    )


class _Response(google.auth.transport.Response):
    def __init__(self, response: httpx2.Response) -> None:
        self._response = response

    @property
    def status(self) -> int:
        return self._response.status_code

    @property
    def headers(self) -> Mapping[str, str]:
        return self._response.headers

    @property
    def data(self) -> bytes:
        return self._response.content


class _Transport(google.auth.transport.Request):
    """google-auth's requests, all of which together keep to one limit."""

    def __init__(self, seconds: float) -> None:
        self._until = time.monotonic() + seconds

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        **kwargs: object,
    ) -> _Response:
        left = self._until - time.monotonic()
        if left <= 0:
            raise _unreachable("the time for a token is over")
        limit = min(left, timeout or left)
        try:
            response = httpx2.request(method, url, content=body, headers=headers, timeout=limit)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise _unreachable(str(error)) from error
        if response.status_code in _NOT_NOW:
            # Else google-auth would ask again after a sleep that knows no deadline: the router decides.
            raise _unavailable(f"HTTP {response.status_code}")
        return _Response(response)


def _unavailable(text: str) -> google.auth.exceptions.RefreshError:
    return google.auth.exceptions.RefreshError(text, retryable=True)  # type: ignore[no-untyped-call]


def _unreachable(text: str) -> google.auth.exceptions.TransportError:
    return google.auth.exceptions.TransportError(text)  # type: ignore[no-untyped-call]
