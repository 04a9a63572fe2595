"""`migrate` in a deployment: passwords of owner and role from their secrets, the schema, and the role let in."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import boto3  # type: ignore[import-untyped]
import psycopg
import pytest
from moto import mock_aws
from psycopg import sql
from psycopg.conninfo import make_conninfo

from fusewire.config import Settings, load_settings
from fusewire.errors import LedgerUnavailableError
from fusewire.store.deployment import bring_up_to_date
from fusewire.store.migrate import available, functions

NAMES = [*(name for name, _ in available()), f"functions {functions().version}"]
PASSWORD = "s3cr3t'v4lue"  # noqa: S105 - looked for where it must not be


@pytest.fixture(autouse=True)
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    with mock_aws():
        yield


@pytest.fixture
def empty_url(postgres: str, database_url: str) -> Iterator[str]:
    """A database with nothing in it."""
    name = f"{psycopg.conninfo.conninfo_to_dict(database_url)['dbname']}_deployed"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        yield make_conninfo(postgres, dbname=name)
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def kept(name: str, **login: str) -> str:
    arn: str = boto3.client("secretsmanager").create_secret(Name=f"{name}-{uuid4()}", SecretString=json.dumps(login))[
        "ARN"
    ]
    return arn


def deployment(url: str, *, iam: str = "false", **app: str) -> Settings:
    result = {"username": "fusewire_app", "password": PASSWORD} | app
    return load_settings(
        {
            "DATABASE_URL": url,
            "FUSEWIRE_DATABASE_SECRET_ARN": kept("owner", username="postgres", password="o"),  # noqa: S106
            "FUSEWIRE_APP_SECRET_ARN": kept("app", **result),
            "FUSEWIRE_APP_IAM": iam,
        }
    )


def test_the_schema_and_the_role(empty_url: str) -> None:
    settings = deployment(empty_url)
    assert bring_up_to_date(settings) == NAMES
    assert bring_up_to_date(settings) == []
    with psycopg.connect(make_conninfo(empty_url, user="fusewire_app")) as connection:
        connection.execute("SELECT ledger_ping('{}'::jsonb)")
    with psycopg.connect(empty_url) as connection:
        row = connection.execute("SELECT rolcanlogin, rolpassword FROM pg_authid WHERE rolname = 'fusewire_app'")
        can_login, stored = row.fetchone() or (None, "")
    assert can_login
    assert stored.startswith("SCRAM-SHA-256$")
    assert PASSWORD not in stored


def test_two_deployments_at_once(empty_url: str) -> None:
    settings = deployment(empty_url)
    with ThreadPoolExecutor(4) as threads:
        done = list(threads.map(lambda _: bring_up_to_date(settings), range(4)))
    assert sorted(name for names in done for name in names) == sorted(NAMES)


@pytest.fixture
def rds_iam(postgres: str) -> Iterator[None]:
    """The role that RDS has, and afterwards nobody is a member of it; roles belong to the server, not to a database."""
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("CREATE ROLE rds_iam")
        yield
        connection.execute("DROP ROLE rds_iam")
        connection.execute("DROP ROLE IF EXISTS fusewire_app_iam")


def takes_tokens(url: str, role: str) -> bool:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT pg_has_role(%s, 'rds_iam', 'MEMBER')", (role,)).fetchone()
    return bool(row and row[0])


@pytest.mark.usefixtures("rds_iam")
def test_tokens_are_for_a_role_of_their_own_that_has_the_same_rights(empty_url: str) -> None:
    by_password, by_token = deployment(empty_url), deployment(empty_url, iam="true")
    for settings in (by_password, by_token, by_token, by_password, by_token):
        bring_up_to_date(settings)
        assert not takes_tokens(empty_url, "fusewire_app"), "RDS would take no password from it any more"
    assert takes_tokens(empty_url, "fusewire_app_iam")
    with psycopg.connect(make_conninfo(empty_url, user="fusewire_app_iam")) as connection:
        connection.execute("SELECT ledger_probe('{}'::jsonb)")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("DELETE FROM ledger")


@pytest.mark.usefixtures("rds_iam")
def test_the_way_back_to_passwords_leaves_those_who_come_with_a_token_alone(empty_url: str) -> None:
    bring_up_to_date(deployment(empty_url, iam="true"))
    bring_up_to_date(deployment(empty_url))
    assert takes_tokens(empty_url, "fusewire_app_iam"), "they are called until the functions have moved"


@pytest.mark.usefixtures("rds_iam")
def test_a_role_that_took_tokens_itself_takes_its_password_again(empty_url: str, postgres: str) -> None:
    bring_up_to_date(deployment(empty_url))
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("GRANT rds_iam TO fusewire_app")
    bring_up_to_date(deployment(empty_url))
    assert not takes_tokens(empty_url, "fusewire_app")


def test_tokens_for_a_server_that_knows_none_are_refused(empty_url: str) -> None:
    with pytest.raises(LedgerUnavailableError, match="UndefinedObject"):
        bring_up_to_date(deployment(empty_url, iam="true"))


@pytest.mark.parametrize(
    "app",
    [
        {"username": "nobody_of_that_name"},
        {"username": ""},
    ],
)
def test_what_postgres_refuses_is_told_without_the_password(empty_url: str, app: dict[str, str]) -> None:
    with pytest.raises(LedgerUnavailableError) as caught:
        bring_up_to_date(deployment(empty_url, **app))
    assert PASSWORD not in f"{caught.value!r} {caught.value.message} {caught.value.__cause__!r}"


def test_a_server_that_cannot_be_reached(empty_url: str) -> None:
    with pytest.raises(LedgerUnavailableError, match="OperationalError"):
        bring_up_to_date(deployment(make_conninfo(empty_url, host="127.0.0.1", port=1)))


def test_without_a_database_nothing_is_tried() -> None:
    with pytest.raises(LedgerUnavailableError, match="DATABASE_URL"):
        bring_up_to_date(load_settings({}))
