"""DATABASE_URL as infra/template.yaml makes it: of what Terraform wrote, or for a database elsewhere."""

import re
from typing import Any, Final

import pytest
import yaml
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from fusewire.config import load_settings
from local.cloudformation import load
from scripts.deploy.settings import parameters_of
from scripts.deploy.target import PROJECT, DeployError

TEMPLATE: Final = (PROJECT / "infra/template.yaml").read_text()
VALUES: Final = {
    "DatabaseUrl": "postgresql://ledger.example.com:6432/fusewire",
    "DatabaseUser": "fusewire_app",
    "DatabaseTls": "verify-full",
    "Authority": "/opt/certs/own.pem",
    "DatabaseHost": "db.rds.amazonaws.com",
    "DatabaseOwnerHost": "db.rds.amazonaws.com",
    "DatabasePort": "5432",
    "DatabaseName": "fusewire",
    "DatabaseConnectSeconds": "25",
}


def _loaded() -> dict[str, Any]:
    class Loader(yaml.SafeLoader):
        """CloudFormation's short functions as what they are given."""

    for tag in (
        "!If",
        "!Sub",
        "!Ref",
        "!FindInMap",
        "!Not",
        "!Equals",
        "!And",
        "!GetAtt",
        "!Select",
        "!Join",
        "!Split",
    ):
        Loader.add_constructor(tag, _plain)
    Loader.add_multi_constructor("!", lambda loader, suffix, node: None)
    document: dict[str, Any] = yaml.load(TEMPLATE, Loader)  # noqa: S506 - a SafeLoader
    return document


def _plain(loader: yaml.SafeLoader, node: yaml.Node) -> object:
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return loader.construct_scalar(node) if isinstance(node, yaml.ScalarNode) else None


def urls(external: bool) -> list[str]:
    """The functions' and migrate's."""
    document = _loaded()
    places = [
        document["Globals"]["Function"],
        document["Resources"]["MigrateFunction"]["Properties"],
    ]
    found = []
    for place in places:
        condition, elsewhere, terraforms = place["Environment"]["Variables"]["DATABASE_URL"]
        assert condition == "HasDatabaseUrl"
        text = elsewhere[0] if external else terraforms
        found.append(re.sub(r"\$\{(\w+)\}", lambda name: VALUES[name[1]], str(text)))
    return found


def test_a_database_elsewhere_is_trusted_by_its_authority_and_told_no_password() -> None:
    functions, migrate = (conninfo_to_dict(url) for url in urls(external=True))
    common = {
        "host": "ledger.example.com", "port": "6432", "dbname": "fusewire", "sslmode": "verify-full",
        "sslrootcert": "/opt/certs/own.pem",
    }  # fmt: skip
    assert functions == {**common, "user": "fusewire_app"}
    assert migrate == common
    for url in urls(external=True):
        assert load_settings({"DATABASE_URL": url}).database_url
        assert conninfo_to_dict(make_conninfo(url, user="u", password="p"))["password"] == "p"  # noqa: S105, S106


def test_terraforms_database_is_trusted_by_amazons_and_given_time_to_resume() -> None:
    for url in urls(external=False):
        parameters = conninfo_to_dict(url)
        assert parameters["sslmode"] == "verify-full" and parameters["sslrootcert"] == "/opt/certs/rds.pem"
        assert parameters["connect_timeout"] == "25"


def test_each_authority_is_a_file_that_a_function_has() -> None:
    files = {name: each["File"] for name, each in load(TEMPLATE)["Mappings"]["Authority"].items()}
    assert list(files) == load(TEMPLATE)["Parameters"]["DatabaseCa"]["AllowedValues"]
    assert files["rds"] == "/opt/certs/rds.pem" and (PROJECT / "layers/core/certs/rds.pem").exists()
    # Not botocore's own bundle: it lacks Microsoft's root of 2017, which Azure's servers may use
    # (https://learn.microsoft.com/en-us/azure/postgresql/flexible-server/concepts-networking-ssl-tls).
    assert files["public"] == "/etc/pki/tls/certs/ca-bundle.crt"
    assert files["own"] == "/opt/certs/own.pem"  # scripts/deploy packs it


@pytest.mark.parametrize("url", ["postgresql://h:5432/fusewire", "postgres://10.9.0.3/fusewire"])
def test_a_plain_url_is_taken(url: str) -> None:
    assert parameters_of(TEMPLATE, f"DATABASE_URL={url}\n") == {"DatabaseUrl": url}


@pytest.mark.parametrize("url", ["h:5432/fusewire", "postgresql://u:p@h/f", "postgresql://h/f?sslmode=disable", "x"])
def test_any_other_is_refused(url: str) -> None:
    with pytest.raises(DeployError, match=r"DATABASE_URL \(line 1\)"):
        parameters_of(TEMPLATE, f"DATABASE_URL={url}\n")
