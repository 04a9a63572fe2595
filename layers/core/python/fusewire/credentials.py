"""What Secrets Manager keeps for the functions: settings that are secret, and the database's password.

Fetched on first use, so after a snapshot was restored and never before one is taken; fetched again every few minutes,
and as soon as a vendor or Postgres has refused what is known, and never for each call. AWS's SDK is imported where it
is used.
"""

import logging
import time
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from fusewire import logs
from fusewire.config import Settings
from fusewire.errors import LedgerUnavailableError, SecretsUnavailableError
from fusewire.store.db import Credentials

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.parameters import SecretsProvider

_MAX_AGE_SECONDS: Final = 300
"""How long a rotated key goes on to be used where nobody refuses it."""
_MIN_AGE_SECONDS: Final = 15
"""However often a wrong key is refused, it is looked up no more often than this."""


class _Vault:
    """Secrets Manager, through Powertools; each secret is a JSON object."""

    @cached_property
    def _provider(self) -> "SecretsProvider":
        from aws_lambda_powertools.utilities.parameters import SecretsProvider
        from botocore.config import Config  # type: ignore[import-untyped]

        # Two tries in 6 seconds at most: a caller waits for it.
        patience = Config(connect_timeout=1, read_timeout=2, retries={"mode": "standard", "total_max_attempts": 2})
        return SecretsProvider(boto_config=patience)

    def read(self, arn: str, *, fresh: bool) -> dict[str, Any]:
        """:raises GetParameterError: when it can't be read

        :raises TransformParameterError: when it isn't JSON; :raises TypeError: when that is no object
        """
        secret = self._provider.get(arn, transform="json", max_age=_MAX_AGE_SECONDS, force_fetch=fresh)
        if not isinstance(secret, dict):
            raise TypeError("a secret must be a JSON object")
        return secret


class SecretSettings:
    """The variables in the secrets that `FUSEWIRE_SECRET_ARNS` names, as far as they are known."""

    def __init__(self, arns: tuple[str, ...]) -> None:
        self._arns = arns
        self._vault = _Vault()
        self._known: dict[str, str] | None = None
        self._before: dict[str, str] | None = None
        self._fetched_at = self._rejected_at = 0.0

    def changed(self) -> dict[str, str] | None:
        """All of them where some are new since the last time, None where none is.

        :raises SecretsUnavailableError: when they have never been read and can't be now
        """
        age = time.monotonic() - self._fetched_at
        rejected = self._rejected_at > self._fetched_at and age > _MIN_AGE_SECONDS
        if self._known is not None and age < _MAX_AGE_SECONDS and not rejected:
            return None
        self._before, self._fetched_at = self._known, time.monotonic()
        self._known = self._fetched()
        return self._known if self._known != self._before else None

    def credential_rejected(self) -> None:
        """A vendor refused a credential that is known: the next `changed` reads them anew, unless it just did."""
        self._rejected_at = time.monotonic()

    def refuse(self, why: str) -> None:
        """What `changed` gave last can't be used: what was known before serves on.

        :param why: one line for the operator, without what is secret
        :raises SecretsUnavailableError: when nothing was known before
        """
        logs.event("secrets.unavailable", logging.ERROR, reason="ConfigurationError", message=why)
        self._known = self._before
        if self._known is None:
            raise SecretsUnavailableError("ConfigurationError")

    def _fetched(self) -> dict[str, str]:
        from aws_lambda_powertools.utilities.parameters.exceptions import GetParameterError, TransformParameterError

        found: dict[str, str] = {}
        for arn in self._arns:
            try:
                found |= {name: _text(value) for name, value in self._vault.read(arn, fresh=True).items()}
            except (GetParameterError, TransformParameterError, TypeError) as error:
                if _is_empty(error):
                    logs.event("secrets.empty", logging.WARNING, message="FUSEWIRE_SECRET_ARNS names one without value")
                    continue
                logs.event("secrets.unavailable", logging.ERROR, reason=type(error).__name__)
                if self._known is None:
                    raise SecretsUnavailableError(type(error).__name__) from None
                return self._known
        return found


def database_credentials(settings: Settings) -> Credentials | None:
    """How the ledger's role shows who it is: None where `DATABASE_URL` says it all."""
    if settings.fusewire_database_iam == "true":
        return _IamToken(settings)
    arn = settings.fusewire_database_secret_arn
    return _Password(arn) if arn else None


def login_of(arn: str) -> Mapping[str, str]:
    """The `user` and `password` in a secret in the layout that RDS and its rotation use.

    :raises LedgerUnavailableError: when they can't be read
    """
    return _Password(arn)(True)


class _Password:
    """User and password from a database's secret."""

    def __init__(self, arn: str) -> None:
        self._arn = arn
        self._vault = _Vault()

    def __call__(self, fresh: bool) -> Mapping[str, str]:
        try:
            secret = self._vault.read(self._arn, fresh=fresh)
            return {"user": secret["username"], "password": secret["password"]}
        except Exception as error:  # noqa: BLE001 - without its text and its cause's: they may quote the secret
            raise LedgerUnavailableError(f"the database's secret: {type(error).__name__}") from None


class _IamToken:
    """A token in place of a password; good for 15 minutes and for any number of connections, but made for each."""

    def __init__(self, settings: Settings) -> None:
        from psycopg.conninfo import conninfo_to_dict

        url = settings.database_url
        parameters = conninfo_to_dict(url.get_secret_value()) if url else {}
        self._token_arguments = {
            "DBHostname": parameters.get("host"),
            "Port": parameters.get("port", 5432),
            "DBUsername": parameters.get("user"),
        }

    @cached_property
    def _client(self) -> Any:  # noqa: ANN401 - boto3 has no types
        import boto3  # type: ignore[import-untyped]

        return boto3.client("rds")

    def __call__(self, fresh: bool) -> Mapping[str, str]:
        try:
            return {"password": self._client.generate_db_auth_token(**self._token_arguments)}
        except Exception as error:  # noqa: BLE001 - as above
            raise LedgerUnavailableError(f"the database's token: {type(error).__name__}") from None


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("a setting in a secret must be a string")
    return value


def _is_empty(error: Exception) -> bool:
    """Whether Secrets Manager has no value for it."""
    cause = error.__context__
    response = getattr(cause, "response", {})
    return bool(response.get("Error", {}).get("Code") == "ResourceNotFoundException")
