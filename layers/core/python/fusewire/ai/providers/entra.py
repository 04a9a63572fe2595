"""Microsoft Entra ID's access tokens for an application that trusts the gateway's AWS role: no key, no secret.

AWS signs a token that names the role, and Entra exchanges it, by a federated credential of the application, for one of
its own. Sources: Microsoft, "OAuth 2.0 client credentials flow", third case, "Configure an app to trust an external
identity provider", and "National clouds"; the scope is azure-identity's for Azure OpenAI (microsoft/PyRIT#1453).
"""

import json
import re
import threading
import time
from typing import Any, Final
from urllib.parse import quote

import httpx2

from fusewire.ai.failures import FailureKind, ProviderFailure
from fusewire.ai.providers.aws_identity import AwsIdentity

AUDIENCE: Final = "api://AzureADTokenExchange"
"""Of the AWS token, as a federated credential expects it and the template's policy allows it."""

_CLOUDS: Final = {
    None: ("https://login.microsoftonline.com", "https://cognitiveservices.azure.com/.default"),
    "Azure Government": ("https://login.microsoftonline.us", "https://cognitiveservices.azure.us/.default"),
    "Azure China": ("https://login.chinacloudapi.cn", "https://cognitiveservices.azure.cn/.default"),
}
_ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_RENEW_BEFORE_SECONDS: Final = 300
_NOT_NOW: Final = {408, 429, 500, 502, 503, 504}
_CODE: Final = re.compile(r"AADSTS\d{4,8}")
_SETTINGS: Final = "see AZURE_TENANT_ID, AZURE_CLIENT_ID and its federated credential for this function's role"


class EntraTokens:
    """The token of this execution environment: fetched on first use, kept, and renewed 5 minutes before its end."""

    def __init__(self, tenant: str, client_id: str, cloud: str | None, region: str | None) -> None:
        """:param cloud: as `AzureProvider.place` names it; None is Azure's public one"""
        authority, self._scope = _CLOUDS[cloud]
        self._url = f"{authority}/{quote(tenant, safe='')}/oauth2/v2.0/token"
        self._client_id = client_id
        self._identity = AwsIdentity("azure", region)
        self._lock = threading.Lock()
        self._token: str | None = None
        self._expires_at = 0.0
        """By the wall clock, which goes on while an environment is frozen."""

    def fetch(self, seconds: float) -> None:
        """Have a token that lasts for a while, in so much time at most.

        :raises ProviderFailure: when none can be had
        """
        until = time.monotonic() + seconds
        with self._lock:
            left = self._expires_at - time.time()
            if self._token is not None and left > _RENEW_BEFORE_SECONDS:
                return
            try:
                self._token, self._expires_at = self._exchanged(until)
            except ProviderFailure:
                if self._token is None or left <= 0:
                    raise
                # It is to run out within minutes, and serves until then; the next call tries again.

    def current(self) -> str:
        """The token that `fetch` saw to.

        :raises ProviderFailure: when there is none
        """
        if self._token is None:
            raise _rejected("no access token is known")
        return self._token

    def forget(self) -> None:
        """Get another one next time: Azure didn't take this one."""
        with self._lock:
            self._token = None

    def _exchanged(self, until: float) -> tuple[str, float]:
        """A token and its end."""
        assertion = self._identity.web_identity_token(AUDIENCE, _left(until))
        asked_at = time.time()
        form = {
            "client_id": self._client_id,
            "scope": self._scope,
            "grant_type": "client_credentials",
            "client_assertion_type": _ASSERTION_TYPE,
            "client_assertion": assertion,
        }
        try:
            response = httpx2.post(self._url, data=form, timeout=_left(until))
        except httpx2.HTTPError:
            # Without its cause, whose request holds the assertion.
            raise ProviderFailure(FailureKind.CONNECT_FAILED, "azure: Entra's token server can't be reached") from None
        if response.status_code in _NOT_NOW:
            raise ProviderFailure(
                FailureKind.OVERLOADED, f"azure: Entra's token server is unavailable (HTTP {response.status_code})"
            )
        answer = _object(response.content)
        token, lifetime = answer.get("access_token"), answer.get("expires_in")
        if response.status_code != 200 or not isinstance(token, str) or not token:
            code = _CODE.search(str(answer.get("error_description", "")))
            raise _rejected(f"Entra gave no access token ({code.group() if code else f'HTTP {response.status_code}'})")
        try:
            return token, asked_at + max(float(str(lifetime)), 0)
        except ValueError:
            raise _rejected("Entra gave an access token without a lifetime") from None


def _left(until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise ProviderFailure(FailureKind.CONNECT_FAILED, "azure: the time for a token is over")
    return left


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _rejected(why: str) -> ProviderFailure:
    return ProviderFailure(FailureKind.CREDENTIAL_REJECTED, f"azure: {why}; {_SETTINGS}")
