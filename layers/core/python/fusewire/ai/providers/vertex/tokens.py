"""Google's access tokens by google-auth: fetched on first use, kept, and renewed before they run out.

Credentials are those of the AWS role where `GCP_WORKLOAD_IDENTITY_PROVIDER` names who trusts it (`federation.py`), else
Application Default Credentials: `GOOGLE_APPLICATION_CREDENTIALS`, gcloud's, or the metadata server's.
google-auth's own transports need packages that don't ship here; httpx2 comes with the openai SDK.
"""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Final

import google.auth
import google.auth.exceptions
import google.auth.transport
import httpx2
from google.auth.credentials import Credentials, TokenState

from fusewire.ai.failures import FailureKind, ProviderFailure

_SCOPES: Final = ("https://www.googleapis.com/auth/cloud-platform",)
_NOT_NOW: Final = {408, 429, 500, 502, 503, 504}
_DEFAULT_SETTINGS: Final = "GOOGLE_APPLICATION_CREDENTIALS, or GCP_WORKLOAD_IDENTITY_PROVIDER on AWS"
_FEDERATION_SETTINGS: Final = "GCP_WORKLOAD_IDENTITY_PROVIDER, GCP_SERVICE_ACCOUNT and whom they trust"


class GoogleTokens:
    """The token of this execution environment."""

    def __init__(
        self, provider: str | None = None, service_account: str | None = None, region: str | None = None
    ) -> None:
        """:param provider: the workload identity pool's provider that trusts the AWS role; None: default credentials

        :param service_account: whom to impersonate
        """
        self._lock = threading.Lock()
        self._credentials: Credentials | None = None
        self._make: Callable[[_Transport], Credentials] = _default_credentials
        self._settings = _DEFAULT_SETTINGS
        if provider:
            self._make = _of_role(provider, service_account, region)
            self._settings = _FEDERATION_SETTINGS

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
                raise self._rejected() from error
            except Exception as error:  # whatever google-auth makes of a key file or a token that it can't read
                raise self._rejected() from error

    def current(self) -> str:
        """The token that `fetch` saw to."""
        token = self._credentials.token if self._credentials else None
        if not token:
            raise self._rejected()
        return str(token)

    def forget(self) -> None:
        """Read the credentials anew next time: Vertex didn't take the token."""
        with self._lock:
            self._credentials = None

    def _fetch(self, transport: "_Transport") -> None:
        if self._credentials is None:
            self._credentials = self._make(transport)
        if self._credentials.token_state is TokenState.FRESH:
            return
        try:
            self._credentials.refresh(transport)  # type: ignore[no-untyped-call]
        except google.auth.exceptions.GoogleAuthError:
            if self._credentials.token_state is TokenState.INVALID:
                raise
            # It is to run out within minutes, and serves until then; the next call tries again.

    def _rejected(self) -> ProviderFailure:
        return ProviderFailure(
            FailureKind.CREDENTIAL_REJECTED,
            f"gcp: Google gave no access token for these credentials; see {self._settings}",
        )


def _default_credentials(transport: "_Transport") -> Credentials:
    return google.auth.default(scopes=_SCOPES, request=transport)[0]


def _of_role(provider: str, account: str | None, region: str | None) -> "Callable[[_Transport], Credentials]":
    def made(transport: "_Transport") -> Credentials:
        from fusewire.ai.providers.vertex.federation import role_credentials

        return role_credentials(provider, account, region, _SCOPES)

    return made


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
