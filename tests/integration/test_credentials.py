"""Secrets in Secrets Manager: read after INIT and once, read anew after a rotation or a refusal, never shown."""

import json
from collections.abc import Iterator
from typing import Any

import boto3  # type: ignore[import-untyped]
import psycopg
import pytest
from moto import mock_aws
from psycopg import sql

from fusewire import credentials
from fusewire.config import load_settings
from fusewire.errors import AllProvidersFailedError, LedgerUnavailableError, SecretsUnavailableError
from fusewire.services import Services, assemble
from fusewire.store.db import Database
from tests.integration.ai.contract import chat
from tests.integration.ai.observing import LogLines, caller, logged
from tests.support.database import ask
from tests.support.postgres_proxy import postgres_proxy
from tests.support.upstream import Upstream, status

SECRET = "s3cr3t-v4lue"  # noqa: S105 - it is looked for where it must not be
ADMIN = "a-key-of-24-characters-or-more"


@pytest.fixture(autouse=True)
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in (("REGION", "eu-central-1"), ("ACCESS_KEY_ID", "k"), ("SECRET_ACCESS_KEY", "s")):
        monkeypatch.setenv(f"AWS_{name}" if name != "REGION" else "AWS_DEFAULT_REGION", value)
    with mock_aws():
        yield


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_000.0
        monkeypatch.setattr("fusewire.credentials.time.monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def log() -> Iterator[LogLines]:
    with logged() as lines:
        yield lines


def kept(value: object, name: str = "providers") -> str:
    """The ARN of a secret with this JSON."""
    client = boto3.client("secretsmanager")
    text = value if isinstance(value, str) else json.dumps(value)
    arn: str = client.create_secret(Name=name, SecretString=text)["ARN"]
    return arn


def rotated(arn: str, value: object) -> None:
    boto3.client("secretsmanager").put_secret_value(SecretId=arn, SecretString=json.dumps(value))


def core(*arns: str, **variables: str) -> Services:
    return assemble(load_settings({"FUSEWIRE_SECRET_ARNS": ",".join(arns), "OPENAI_SOTA_MODEL": "gpt-4o", **variables}))


def key(made: Services) -> str | None:
    found = made.secret("OPENAI_API_KEY")
    return found.get_secret_value() if found else None


def test_nothing_is_read_before_the_first_call(monkeypatch: pytest.MonkeyPatch) -> None:
    arn = kept({"OPENAI_API_KEY": SECRET})
    with monkeypatch.context() as patched:
        patched.delattr(credentials._Vault, "read")
        made = core(arn)
        made.import_sdks()
        assert made.settings.secret("OPENAI_API_KEY") is None
    assert key(made) == SECRET


def test_what_the_secrets_hold_are_settings() -> None:
    others = {"ADMIN_API_KEY": ADMIN, "OPENAI_COST_EFFECTIVE_MODEL": "m"}
    made = core(kept({"OPENAI_API_KEY": SECRET}, "one"), kept(others, "two"))
    assert set(made.registry.configured) == {"openai"}
    assert made.registry.get("openai").tier_model("cost_effective") == "m"
    assert (key(made), made.secret("ADMIN_API_KEY")) == (SECRET, made.settings.secret("ADMIN_API_KEY"))
    assert SECRET not in repr(made.settings)


def test_they_are_read_once_and_anew_when_they_are_old(clock: Clock) -> None:
    arn = kept({"OPENAI_API_KEY": "first"})
    made = core(arn)
    assert key(made) == "first"
    ledger, registry = made.ledger, made.registry
    rotated(arn, {"OPENAI_API_KEY": "second"})
    clock.now += 299
    assert key(made) == "first"
    assert made.registry is registry
    clock.now += 2
    assert key(made) == "second"
    assert made.ledger is ledger, "what it keeps of lost settlements must not go with a key"
    registry = made.registry
    clock.now += 301
    assert made.registry is registry, "clients stay where nothing changed"


def test_a_rejected_credential_has_them_read_anew(clock: Clock) -> None:
    arn = kept({"OPENAI_API_KEY": "first"})
    secrets = credentials.SecretSettings((arn,))
    assert secrets.changed() == {"OPENAI_API_KEY": "first"}
    rotated(arn, {"OPENAI_API_KEY": "second"})
    clock.now += 20
    assert secrets.changed() is None
    secrets.credential_rejected()
    assert secrets.changed() == {"OPENAI_API_KEY": "second"}
    rotated(arn, {"OPENAI_API_KEY": "third"})
    clock.now += 10
    secrets.credential_rejected()
    assert secrets.changed() is None, "a key that stays wrong isn't looked up for every call"
    clock.now += 10
    assert secrets.changed() == {"OPENAI_API_KEY": "third"}


@pytest.mark.parametrize(("code", "known"), [(401, "second"), (429, "first")])
def test_a_vendor_that_rejects_the_key_has_the_secrets_read_anew(
    clock: Clock, database_url: str, upstream: Upstream, code: int, known: str
) -> None:
    arn = kept({"OPENAI_API_KEY": "first"})
    variables = {
        "DATABASE_URL": database_url,
        "OPENAI_BASE_URL": upstream.url,
        "AI_PRICE_OVERRIDES": '{"openai/*": {"input_mtok": 1, "cached_input_mtok": 1, "output_mtok": 1}}',
    }
    made = core(arn, **variables)
    router = made.router
    rotated(arn, {"OPENAI_API_KEY": "second"})
    clock.now += 20
    upstream.script.append(status(code))
    with pytest.raises(AllProvidersFailedError):
        router.complete(chat(), caller())
    assert key(made) == known
    made.database.close()


def test_a_secret_that_nobody_filled_yet_leaves_its_vendors_unconfigured(log: LogLines) -> None:
    arn = boto3.client("secretsmanager").create_secret(Name="empty")["ARN"]
    made = core(arn, kept({"ADMIN_API_KEY": ADMIN}))
    assert made.registry.configured == {}
    assert made.secret("ADMIN_API_KEY") is not None
    assert [line["level"] for line in log.events("secrets.empty")] == ["WARNING"]


@pytest.mark.parametrize("broken", [f'{{"OPENAI_API_KEY": "{SECRET}"', f'["{SECRET}"]', f'{{"K": ["{SECRET}"]}}'])
def test_one_that_cannot_be_used_is_told_without_what_it_holds(broken: str, log: LogLines) -> None:
    with pytest.raises(SecretsUnavailableError) as caught:
        core(kept(broken)).router  # noqa: B018 - reading it reads the secret
    assert SECRET not in f"{caught.value!r} {caught.value.message}"
    (line,) = log.events("secrets.unavailable")
    assert SECRET not in json.dumps(line)
    assert caught.value.status == 503


def test_a_setting_that_cannot_be_used_is_named_without_its_value(clock: Clock, log: LogLines) -> None:
    arn = kept({"OPENAI_API_KEY": "first", "ADMIN_API_KEY": SECRET})
    made = core(arn)
    for _ in range(2):
        with pytest.raises(SecretsUnavailableError):
            key(made)
    rotated(arn, {"OPENAI_API_KEY": "second", "ADMIN_API_KEY": ADMIN})
    assert key(made) == "second"
    rotated(arn, {"OPENAI_API_KEY": "third", "ADMIN_API_KEY": SECRET})
    clock.now += 301
    assert key(made) == "second", "what is known serves on"
    lines = log.events("secrets.unavailable")
    assert len(lines) == 3
    assert all("ADMIN_API_KEY=(hidden)" in line["message"] for line in lines)
    assert SECRET not in log.text


def test_what_is_taken_out_of_a_secret_is_gone(clock: Clock) -> None:
    arn = kept({"OPENAI_API_KEY": "first", "OPENAI_COST_EFFECTIVE_MODEL": "m"})
    made = core(arn)
    assert made.registry.get("openai").tier_model("cost_effective") == "m"
    rotated(arn, {"OPENAI_COST_EFFECTIVE_MODEL": "m"})
    clock.now += 301
    assert made.registry.get("openai").missing()


def test_while_secrets_manager_is_away_what_is_known_serves_on(
    clock: Clock, log: LogLines, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = core(kept({"OPENAI_API_KEY": "first"}))
    assert key(made) == "first"

    def away(*arguments: object, **named: object) -> Any:  # noqa: ANN401 - it returns nothing
        raise credentials_error()

    monkeypatch.setattr(credentials._Vault, "read", away)
    clock.now += 301
    assert key(made) == "first"
    clock.now += 100
    assert key(made) == "first"
    assert len(log.events("secrets.unavailable")) == 1


def credentials_error() -> Exception:
    from aws_lambda_powertools.utilities.parameters.exceptions import GetParameterError

    return GetParameterError("the text may hold anything")


# --- the database ------------------------------------------------------------------------------------------------


PING = "SELECT to_jsonb(current_user::text) WHERE $1::jsonb IS NOT NULL"


@pytest.fixture
def role(database_url: str) -> Iterator[str]:
    """A role that has to show a password over TCP, as far as this server asks for one."""
    name = "fusewire_test_role"
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(name)))
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(name)))
        yield name
        connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


def test_user_and_password_come_from_the_databases_secret(database_url: str, role: str) -> None:
    arn = kept({"username": role, "password": SECRET, "engine": "postgres", "port": 5432})
    settings = load_settings({"DATABASE_URL": database_url, "FUSEWIRE_DATABASE_SECRET_ARN": arn})
    database = Database(settings.database_url, credentials.database_credentials(settings))
    assert ask(database, PING, {}) == role
    database.close()


def test_a_refused_login_has_the_secret_read_anew(database_url: str, role: str) -> None:
    """Here it is the user who changes: this server asks nobody for a password."""
    arn = kept({"username": "fusewire_gone", "password": "old"})
    settings = load_settings({"DATABASE_URL": database_url, "FUSEWIRE_DATABASE_SECRET_ARN": arn})
    asked = credentials.database_credentials(settings)
    assert asked is not None
    assert asked(False)["user"] == "fusewire_gone"
    rotated(arn, {"username": role, "password": "new"})
    assert asked(False)["user"] == "fusewire_gone"
    database = Database(settings.database_url, asked)
    assert ask(database, PING, {}) == role
    assert asked(False)["user"] == role
    database.close()
    rotated(arn, {"username": "fusewire_gone", "password": "worse"})
    asked(True)
    with pytest.raises(LedgerUnavailableError) as caught:
        ask(Database(settings.database_url, asked), PING, {})
    assert "worse" not in f"{caught.value!r} {caught.value.message}"


@pytest.mark.parametrize("secret", ["{", "{}", f'{{"username": "{SECRET}"}}'])
def test_a_databases_secret_that_cannot_be_used_is_the_ledgers_error(database_url: str, secret: str) -> None:
    settings = load_settings({"DATABASE_URL": database_url, "FUSEWIRE_DATABASE_SECRET_ARN": kept(secret)})
    with pytest.raises(LedgerUnavailableError, match="the database's secret") as caught:
        ask(Database(settings.database_url, credentials.database_credentials(settings)), PING, {})
    assert SECRET not in f"{caught.value!r} {caught.value.__cause__!r}"


def test_an_iam_token_takes_the_passwords_place_anew_for_each_connection(database_url: str, role: str) -> None:
    with postgres_proxy(database_url) as proxy:
        settings = load_settings({"DATABASE_URL": proxy.url(user=role), "FUSEWIRE_DATABASE_IAM": "true"})
        asked = credentials.database_credentials(settings)
        assert asked is not None
        token = asked(False)["password"]
        assert token.startswith(proxy.url(user=role).partition("host=")[2].split()[0])
        assert "Action=connect" in token
        assert f"DBUser={role}" in token
        database = Database(settings.database_url, asked)
        assert ask(database, PING, {}) == role
        database.close()


def test_without_either_the_url_says_it_all() -> None:
    assert credentials.database_credentials(load_settings({})) is None
