"""Who the gateway is to another cloud: the AWS role that it runs as, and no key.

Credentials come from botocore's chain and not from the environment alone, as google-auth would look for them: under
SnapStart Lambda gives them by `AWS_CONTAINER_CREDENTIALS_FULL_URI`, elsewhere in `AWS_ACCESS_KEY_ID` and its like, and
there is no metadata server ("Activating and managing Lambda SnapStart" in AWS's guide;
googleapis/google-auth-library-python#1586; googleapis/google-auth-library-nodejs#1066).

Imported by those alone who use it, for botocore is a large import.
"""

import threading
from typing import Any, Final

import botocore.session  # type: ignore[import-untyped]
from botocore.config import Config  # type: ignore[import-untyped]
from botocore.exceptions import (  # type: ignore[import-untyped]
    BotoCoreError,
    ClientError,
    ConnectionError,
    CredentialRetrievalError,
    HTTPClientError,
    MetadataRetrievalError,
    NoCredentialsError,
    NoRegionError,
)

from fusewire.ai.failures import FailureKind, ProviderFailure
from fusewire.ai.providers.bedrock.exchange import Exchange, TimedSession, TimeIsOver, using

_ALGORITHM: Final = "RS256"
_TOKEN_SECONDS: Final = 300
"""It is exchanged at once. The template's policy allows no longer one, and no other algorithm."""
_CONNECT_SECONDS: Final = 1
_DISABLED: Final = "OutboundWebIdentityFederationDisabled"


class AwsIdentity:
    """The role's credentials, and tokens that AWS signs for it. botocore keeps the credentials and renews them."""

    def __init__(self, provider: str, region: str | None) -> None:
        """:param provider: whose failures these are, as messages name it"""
        self._provider = provider
        self._region = region
        self._lock = threading.Lock()
        self._session: Any = None
        self._client: Any = None

    @property
    def region(self) -> str:
        """:raises ProviderFailure: where none is set"""
        if not self._region:
            raise self._rejected("AWS_REGION isn't set")
        return self._region

    def credentials(self) -> Any:  # noqa: ANN401 - botocore has no types
        """`access_key`, `secret_key` and `token` as they are now.

        :raises ProviderFailure: when there are none
        """
        try:
            with self._lock:
                found = self._known_session().get_credentials()
            if found is not None:
                return found.get_frozen_credentials()
        except BotoCoreError as error:  # the server of container credentials, a profile that doesn't exist
            raise self._failure(error) from error
        raise self._rejected("AWS has no credentials here")

    def web_identity_token(self, audience: str, seconds: float) -> str:
        """A JWT for that audience, which names the role as its subject; good for 5 minutes.

        Sources: AWS, "GetWebIdentityToken" in the STS API reference (a regional endpoint alone has it) and "Getting
        started with outbound identity federation".
        :param seconds: the most that it may take
        :raises ProviderFailure: when AWS gives none
        """
        try:
            with using(Exchange(seconds)):
                answer = self._known_client().get_web_identity_token(
                    Audience=[audience], SigningAlgorithm=_ALGORITHM, DurationSeconds=_TOKEN_SECONDS
                )
            return str(answer["WebIdentityToken"])
        except Exception as error:  # botocore's parsers raise whatever comes on answers that they don't expect
            raise self._failure(error) from error

    def _known_session(self) -> Any:  # noqa: ANN401 - botocore has no types
        if self._session is None:
            self._session = botocore.session.Session()
        return self._session

    def _known_client(self) -> Any:  # noqa: ANN401 - botocore has no types
        with self._lock:
            if self._client is None:
                client = self._known_session().create_client(
                    "sts",
                    region_name=self.region,
                    config=Config(
                        connect_timeout=_CONNECT_SECONDS, retries={"mode": "standard", "total_max_attempts": 1}
                    ),
                )
                client._endpoint.http_session = TimedSession(client._endpoint.http_session)
                self._client = client
            return self._client

    def _failure(self, error: Exception) -> ProviderFailure:
        if isinstance(error, ProviderFailure):
            return error
        if isinstance(error, ClientError):
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            code = str(error.response.get("Error", {}).get("Code", ""))
            if status >= 500 or status == 429 or "Throttl" in code:
                return ProviderFailure(FailureKind.OVERLOADED, f"{self._provider}: AWS STS is unavailable ({status})")
            if code.startswith(_DISABLED):
                return self._rejected("the account hasn't enabled outbound web identity federation")
            return self._rejected(f"AWS STS answered {code[:60]}; see the role's sts:GetWebIdentityToken")
        if isinstance(error, (NoCredentialsError, NoRegionError)):
            return self._rejected("AWS has no credentials here")
        if isinstance(error, (MetadataRetrievalError, CredentialRetrievalError)):
            return ProviderFailure(
                FailureKind.CONNECT_FAILED, f"{self._provider}: the AWS role's credentials can't be had"
            )
        if isinstance(error, (ConnectionError, HTTPClientError, TimeIsOver, OSError)):
            return ProviderFailure(FailureKind.CONNECT_FAILED, f"{self._provider}: AWS STS can't be reached")
        return self._rejected(f"AWS gave no token ({type(error).__name__})")

    def _rejected(self, why: str) -> ProviderFailure:
        return ProviderFailure(FailureKind.CREDENTIAL_REJECTED, f"{self._provider}: {why}")
