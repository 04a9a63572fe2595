"""`bin/fusewire-deploy secrets`: one key changes, all others stay, and no value is shown."""

import json
from collections.abc import Iterator

import boto3  # type: ignore[import-untyped]
import pytest
from moto import mock_aws

from scripts.deploy.provider_keys import secrets
from scripts.deploy.target import DeployError
from tests.unit.scripts.deploy.cloud import HERE


class Vault:
    """The secret, in moto."""

    def __init__(self) -> None:
        self.session = boto3.session.Session("x", "x", region_name="eu-central-1")
        self._secrets = self.session.client("secretsmanager")
        self._arn = self._secrets.create_secret(Name="keys")["ARN"]
        self.session.client("ssm").put_parameter(
            Name="/fusewire/prod/provider_keys_secret_arn", Type="String", Value=self._arn
        )

    def put(self, text: str) -> None:
        self._secrets.put_secret_value(SecretId=self._arn, SecretString=text)

    def keys(self) -> object:
        return json.loads(self._secrets.get_secret_value(SecretId=self._arn)["SecretString"])

    def do(self, *words: str, value: str = "sk-new\n") -> None:
        secrets(words, HERE, self.session, lambda: value)


@pytest.fixture
def vault() -> Iterator[Vault]:
    with mock_aws():
        yield Vault()


def test_a_key_is_set_where_there_was_none_and_the_others_stay(
    vault: Vault, capsys: pytest.CaptureFixture[str]
) -> None:
    vault.do("set", "OPENAI_API_KEY", value="sk-1")
    vault.do("set", "AZURE_AI_API_KEY", value="az-1")
    vault.do("set", "OPENAI_API_KEY")
    assert vault.keys() == {"OPENAI_API_KEY": "sk-new", "AZURE_AI_API_KEY": "az-1"}
    vault.do("list")
    printed = capsys.readouterr()
    assert printed.out.endswith("AZURE_AI_API_KEY\nOPENAI_API_KEY\n")
    assert "sk-" not in printed.out + printed.err and "az-1" not in printed.out + printed.err


def test_a_key_is_removed(vault: Vault) -> None:
    vault.put('{"OPENAI_API_KEY": "sk-1", "ANTHROPIC_API_KEY": "an-1"}')
    vault.do("remove", "OPENAI_API_KEY")
    assert vault.keys() == {"ANTHROPIC_API_KEY": "an-1"}
    with pytest.raises(DeployError, match="isn't in the secret"):
        vault.do("remove", "OPENAI_API_KEY")


@pytest.mark.parametrize(
    ("words", "value", "what"),
    [
        (("set", "OPENAI_APIKEY"), "sk-1", "OPENAI_APIKEY is no setting"),
        (("set", "openai"), "sk-1", "openai is no setting"),
        (("set", "OPENAI_API_KEY"), " \n", "No value"),
        (("set",), "", "Use: "),
        (("set", "OPENAI_API_KEY", "sk-1"), "", "Use: "),
        (("get", "OPENAI_API_KEY"), "", "Use: "),
        ((), "", "Use: "),
    ],
)
def test_what_is_wrong_changes_nothing(words: tuple[str, ...], value: str, what: str, vault: Vault) -> None:
    vault.put('{"OPENAI_API_KEY": "sk-0"}')
    with pytest.raises(DeployError, match=what) as caught:
        vault.do(*words, value=value)
    assert vault.keys() == {"OPENAI_API_KEY": "sk-0"} and "sk-1" not in str(caught.value)


@pytest.mark.parametrize("text", ["sk-bare", "[1]", '"sk-bare"'])
def test_a_secret_that_holds_something_else_is_left_alone(text: str, vault: Vault) -> None:
    vault.put(text)
    with pytest.raises(DeployError, match="nothing was changed") as caught:
        vault.do("set", "OPENAI_API_KEY")
    assert "sk-bare" not in str(caught.value)


def test_before_the_first_deployment_it_says_what_to_do() -> None:
    with mock_aws(), pytest.raises(DeployError, match="make deploy"):
        secrets(["list"], HERE, boto3.session.Session("x", "x", region_name="eu-central-1"))
