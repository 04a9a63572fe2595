"""Google's credentials for an AWS role: a workload identity pool trusts it, so there is no key file.

google-auth signs a request to AWS's `GetCallerIdentity`, which Google sends on to learn who signed it, and exchanges
it for a token; AWS itself is asked nothing. Its own search for AWS's credentials fails under SnapStart, so they come
from botocore (`aws_identity.py`). Sources: Google, "Configure Workload Identity Federation with AWS or Azure";
google-auth's `google.auth.aws`.
"""

from collections.abc import Sequence
from typing import Final

import google.auth.aws
import google.auth.exceptions
from google.auth.credentials import Credentials

from fusewire.ai.failures import FailureKind, ProviderFailure
from fusewire.ai.providers.aws_identity import AwsIdentity

_SIGNED_REQUEST: Final = "urn:ietf:params:aws:token-type:aws4_request"
"""What is exchanged, as RFC 8693's `subject_token_type` names it."""


class _RoleCredentials(google.auth.aws.AwsSecurityCredentialsSupplier):
    """The role's credentials, as google-auth asks for them at each exchange."""

    def __init__(self, region: str | None) -> None:
        self._identity = AwsIdentity("gcp", region)

    def get_aws_security_credentials(self, context: object, request: object) -> google.auth.aws.AwsSecurityCredentials:
        try:
            found = self._identity.credentials()
        except ProviderFailure as failure:
            raise _refresh_error(failure) from failure
        return google.auth.aws.AwsSecurityCredentials(found.access_key, found.secret_key, found.token)

    def get_aws_region(self, context: object, request: object) -> str:
        try:
            return self._identity.region
        except ProviderFailure as failure:
            raise _refresh_error(failure) from failure


def role_credentials(
    provider: str, service_account: str | None, region: str | None, scopes: Sequence[str]
) -> Credentials:
    """Credentials that are exchanged at the first refresh.

    :param provider: the pool's provider, `projects/<number>/locations/global/workloadIdentityPools/<id>/providers/<id>`
    :param service_account: whom to impersonate; None calls as the role itself
    """
    impersonation = (
        f"https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{service_account}:generateAccessToken"
        if service_account
        else None
    )
    return google.auth.aws.Credentials(  # type: ignore[no-untyped-call,no-any-return,unused-ignore]
        audience=f"//iam.googleapis.com/{provider}",
        subject_token_type=_SIGNED_REQUEST,
        aws_security_credentials_supplier=_RoleCredentials(region),
        service_account_impersonation_url=impersonation,
        scopes=list(scopes),
    )


def _refresh_error(failure: ProviderFailure) -> google.auth.exceptions.RefreshError:
    retryable = failure.kind is not FailureKind.CREDENTIAL_REJECTED
    return google.auth.exceptions.RefreshError(failure.message, retryable=retryable)  # type: ignore[no-untyped-call]
