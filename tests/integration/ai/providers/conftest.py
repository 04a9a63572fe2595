"""Vendors with their credentials, for the providers that don't take a key in a variable of ours."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fusewire.ai.providers.bedrock.provider import AwsProvider
from fusewire.ai.providers.vertex.provider import GcpProvider
from fusewire.config import load_settings
from tests.integration.ai.providers.bedrock.cases import made
from tests.integration.ai.providers.vertex.cases import variables
from tests.support.bedrock_vendor import Bedrock, running_bedrock
from tests.support.google_tokens import TokenServer, running_token_server, service_account_file
from tests.support.upstream import Upstream


@pytest.fixture(scope="module")
def aws_credentials(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """boto3's default chain finds these and nothing of the machine's own."""
    folder = tmp_path_factory.mktemp("aws")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_BEARER_TOKEN_BEDROCK", "AWS_ENDPOINT_URL"):
            patch.delenv(name, raising=False)
        patch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "sentinel-secret-5a0c")
        patch.setenv("AWS_CONFIG_FILE", str(folder / "config"))
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(folder / "credentials"))
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield


@pytest.fixture(scope="module")
def lasting_bedrock() -> Iterator[Bedrock]:
    """One server a module: boto3's client takes longer to make than any test, and is kept with it."""
    with running_bedrock() as running:
        yield running


@pytest.fixture
def bedrock(lasting_bedrock: Bedrock) -> Bedrock:
    """The same, as new."""
    lasting_bedrock.reset()
    return lasting_bedrock


@pytest.fixture(scope="module")
def aws(aws_credentials: None, lasting_bedrock: Bedrock) -> AwsProvider:
    return made(lasting_bedrock.url)


@pytest.fixture
def tokens() -> Iterator[TokenServer]:
    with running_token_server() as running:
        yield running


@pytest.fixture
def google_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tokens: TokenServer) -> None:
    """Application Default Credentials find this key file and nothing of the machine's own."""
    for name in ("GOOGLE_CLOUD_PROJECT", "GCLOUD_PROJECT", "CLOUDSDK_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(service_account_file(tmp_path, tokens.url)))


@pytest.fixture
def gcp(google_credentials: None, upstream: Upstream) -> GcpProvider:
    return GcpProvider(load_settings(variables(upstream)))
