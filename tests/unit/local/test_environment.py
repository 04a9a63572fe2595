"""What the laptop's gateway is told: the environment over `.env`, blank values, numbers in their ranges."""

from pathlib import Path

import pytest

from local import StartError
from local.environment import OF_THIS_MACHINE, for_function, for_model, read_environment
from local.spelling import settings_names, vendors_names
from local.template import Function, read_template

TEMPLATE = Path(__file__).parents[3] / "infra/template.yaml"


def test_the_defaults_of_a_laptop(tmp_path: Path) -> None:
    read = read_environment({}, tmp_path / ".env")
    assert (read.port, read.concurrency) == (8000, 8)
    assert read.home == Path.cwd() / ".fusewire"
    assert read.variables == {"AUTH_MODE": "open"}


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("AI_MODE=cloud\nPORT=1111\nLOG_LEVEL=DEBUG\nNAME='in \"quotes\"'\nLITERAL=${PORT}\n")
    read = read_environment({"AI_MODE": "hybrid", "PORT": "2222"}, file)
    assert read.port == 2222
    assert read.variables["AI_MODE"] == "hybrid"
    assert read.variables["LOG_LEVEL"] == "DEBUG"
    assert read.variables["NAME"] == 'in "quotes"'
    assert read.variables["LITERAL"] == "${PORT}"


@pytest.mark.parametrize("blank", ["", " ", "\t"])
def test_blank_counts_as_unset(tmp_path: Path, blank: str) -> None:
    file = tmp_path / ".env"
    file.write_text(f'LOG_LEVEL="{blank}"\nAI_MODE=cloud\nEMPTY=\nBARE\n')
    read = read_environment({"AI_MODE": blank, "PORT": blank, "FUSEWIRE_HOME": blank}, file)
    assert read.port == 8000
    assert read.home.name == ".fusewire"
    assert read.variables == {"AI_MODE": "cloud", "AUTH_MODE": "open"}


@pytest.mark.parametrize(("name", "high"), [("PORT", 65_535), ("LOCAL_CONCURRENCY", 32)])
@pytest.mark.parametrize("value", ["0", "-1", "1.5", "1e3", "eight", "0x10", "8 0", "too many"])
def test_a_number_that_cannot_be_used(tmp_path: Path, name: str, high: int, value: str) -> None:
    with pytest.raises(StartError) as caught:
        read_environment({name: value}, tmp_path / ".env")
    assert str(caught.value) == f"{name}={value} can't be used: it must be a whole number from 1 to {high}."
    with pytest.raises(StartError):
        read_environment({name: str(high + 1)}, tmp_path / ".env")
    read_environment({name: f" {high} "}, tmp_path / ".env")


def test_home_may_be_relative_or_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    assert read_environment({"FUSEWIRE_HOME": "here"}, tmp_path / ".env").home == tmp_path / "here"
    assert read_environment({"FUSEWIRE_HOME": "~/data"}, tmp_path / ".env").home == tmp_path / "me" / "data"


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_bytes(b"OPENAI_API_KEY=\xff\xfe\n")
    with pytest.raises(StartError, match=r"\.env can't be read"):
        read_environment({}, file)


def test_whom_to_migrate_as_is_for_a_server_of_ones_own_and_not_for_the_workers(tmp_path: Path) -> None:
    env = tmp_path / ".env"
    assert read_environment({}, env).migration_database_url is None
    assert read_environment({"DATABASE_URL": "host=a"}, env).migration_database_url == "host=a"
    read = read_environment({"DATABASE_URL": "host=a", "MIGRATION_DATABASE_URL": "host=a user=owner"}, env)
    assert read.migration_database_url == "host=a user=owner"
    assert read.variables["DATABASE_URL"] == "host=a"
    assert "MIGRATION_DATABASE_URL" not in read.variables
    with pytest.raises(StartError, match="MIGRATION_DATABASE_URL"):
        read_environment({"MIGRATION_DATABASE_URL": "host=a user=owner"}, env)


@pytest.mark.parametrize("name", ["DATABASE_URL", "MIGRATION_DATABASE_URL"])
@pytest.mark.parametrize("blank", ["", " ", "\t"])
def test_a_blank_database_is_an_error_and_not_unset(tmp_path: Path, name: str, blank: str) -> None:
    file = tmp_path / ".env"
    allowed = f"{name} is set but empty: it must be a libpq connection string such as postgresql://user@host/name. "
    file.write_text("DATABASE_URL=host=file\nMIGRATION_DATABASE_URL=host=file\n")
    with pytest.raises(StartError) as caught:
        read_environment({name: blank}, file)
    assert str(caught.value) == f"{allowed}For the Postgres of `make run`, unset it."
    for line in (f'{name}="{blank}"\n', f"{name}={blank}\n", f"{name}\n"):
        file.write_text(f"AI_MODE=cloud\n{line}")
        with pytest.raises(StartError) as caught:
            read_environment({}, file)
        assert str(caught.value) == f"{allowed}For the Postgres of `make run`, delete its line in {file}."
    given = {"DATABASE_URL": "host=a", "MIGRATION_DATABASE_URL": "host=a user=owner"}
    assert read_environment(given, file).migration_database_url == "host=a user=owner", "the environment is what counts"


def test_the_files_owner_is_not_of_the_server_that_the_environment_names(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("DATABASE_URL=host=live\nMIGRATION_DATABASE_URL='host=live user=owner'\n")
    assert read_environment({}, file).migration_database_url == "host=live user=owner"
    assert read_environment({"DATABASE_URL": "host=other"}, file).migration_database_url == "host=other"
    both = {"DATABASE_URL": "host=other", "MIGRATION_DATABASE_URL": "host=other user=owner"}
    assert read_environment(both, file).migration_database_url == "host=other user=owner"
    assert (
        read_environment({"MIGRATION_DATABASE_URL": "host=live user=x"}, file).variables["DATABASE_URL"] == "host=live"
    )


def test_where_the_admin_key_stands(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    assert read_environment({}, file).admin_key == "nowhere"
    file.write_text("ADMIN_API_KEY=a\nAI_MODEE=\n")
    assert read_environment({"ADMIN_API_KEY": " "}, file).admin_key == ".env"
    assert read_environment({"ADMIN_API_KEY": "b"}, file).admin_key == "environment"
    assert read_environment({}, file).written == {"ADMIN_API_KEY", "AI_MODEE"}


# --- who gets what ---

_OF_OTHERS = {
    "GITHUB_TOKEN": "sentinel",
    "SSH_AUTH_SOCK": "/run/agent",
    "NPM_TOKEN": "sentinel",
    "KUBECONFIG": "/home/u/.kube/config",
    "VAULT_TOKEN": "sentinel",
    "DOCKER_AUTH_CONFIG": "sentinel",
    "AWS_EXECUTION_ENV": "AWS_Lambda_python3.13",
    "PORT": "8000",
    "FUSEWIRE_KEY": "fw_sentinel",
    "MIGRATION_DATABASE_URL": "postgresql://owner:sentinel@host/db",
}


_FOR_ALL = {
    "PATH": "/bin",
    "HOME": "/home/u",
    "HTTPS_PROXY": "http://proxy",
    "no_proxy": "localhost",
    "SSL_CERT_FILE": "/ca.pem",
    "AWS_REGION": "eu-central-1",
    "PGSSLROOTCERT": "/ca.pem",
    "OPENAI_BASE_URL": "https://eu.api.openai.com/v1",
    "AWS_BEDROCK_SOTA_MODEL": "m",
    "VLLM_KEY_EXPIRES_ON": "2027-01-01",
    "AI_MODE": "cloud",
    "DATABASE_URL": "postgresql://host/db",
    "FUSEWIRE_METRICS_NAMESPACE": "n",
    "PYTHONWARNINGS": "error",
}
_VENDORS_KEYS = {"OPENAI_API_KEY": "k", "AZURE_AI_API_KEY": "k"}
_AWSS_CREDENTIALS = {"AWS_PROFILE": "p", "AWS_ACCESS_KEY_ID": "a", "AWS_BEARER_TOKEN_BEDROCK": "t"}
_CLOUDS_CREDENTIALS = {**_AWSS_CREDENTIALS, "GOOGLE_APPLICATION_CREDENTIALS": "/key.json"}
_ADMINS_KEY = {"ADMIN_API_KEY": "b"}
_OF_RESPONSES = {"AI_RESPONSES_RETENTION_HOURS": "24", "AI_RESPONSES_KEY": "r"}
_ALL = _FOR_ALL | _VENDORS_KEYS | _CLOUDS_CREDENTIALS | _ADMINS_KEY | _OF_RESPONSES | _OF_OTHERS

FUNCTIONS = {function.name: function for function in read_template(TEMPLATE, {}).functions}
CALLS_MODELS = {"complete", "embed", "admin_providers"}


def of(function: Function, **more: str) -> dict[str, str]:
    return for_function(_ALL | more, function, vendors_names())


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_gets_what_the_template_gives_it_on_aws(name: str) -> None:
    expected = dict(_FOR_ALL)
    if name in CALLS_MODELS:
        expected |= _VENDORS_KEYS | _CLOUDS_CREDENTIALS
    if name == "models":
        expected |= _VENDORS_KEYS  # which vendors have a key decides what is listed
    if name in ("authorizer", "health"):
        expected |= _ADMINS_KEY
    if name == "complete":
        expected |= _OF_RESPONSES
    assert of(FUNCTIONS[name]) == expected


@pytest.mark.parametrize("name", [*FUNCTIONS])
def test_where_aws_keeps_the_secrets_each_function_has_its_credentials(name: str) -> None:
    by_secret = of(FUNCTIONS[name], FUSEWIRE_DATABASE_SECRET_ARN="arn")  # noqa: S106 - a name
    assert by_secret.items() >= _AWSS_CREDENTIALS.items()
    assert ("GOOGLE_APPLICATION_CREDENTIALS" in by_secret) == (name in CALLS_MODELS)
    assert "AWS_PROFILE" not in of(FUNCTIONS["admin_keys"], FUSEWIRE_DATABASE_IAM="false")
    named = "FUSEWIRE_SECRET_ARNS" in of(FUNCTIONS[name], FUSEWIRE_SECRET_ARNS="arn")  # noqa: S106 - a name
    assert named == (name in {*CALLS_MODELS, "models", "authorizer"})


def test_every_setting_reaches_a_function() -> None:
    """But for those of this machine, and of `migrate`, which a deployment alone calls."""
    every = {name: "x" for name in settings_names()}
    reached = {name for each in FUNCTIONS.values() for name in for_function(every, each, vendors_names())}
    of_migrate = {"FUSEWIRE_APP_SECRET_ARN", "FUSEWIRE_APP_IAM"}
    assert every.keys() - reached - of_migrate == {*OF_THIS_MACHINE}


def test_the_models_process_gets_no_credential() -> None:
    secrets = {"OPENAI_API_KEY": "k", "AWS_SECRET_ACCESS_KEY": "s", "ADMIN_API_KEY": "a", "DATABASE_URL": "d"}
    assert for_model({"PATH": "/bin", "LD_LIBRARY_PATH": "/lib"} | secrets | _OF_OTHERS) == {
        "PATH": "/bin",
        "LD_LIBRARY_PATH": "/lib",
    }


@pytest.mark.parametrize(
    ("text", "hosts"),
    [(None, ()), ("gw.example", ("gw.example",)), ("A.example, b ,*", ("a.example", "b", "*")), ("[::2]", ("[::2]",))],
)
def test_other_names_of_the_gateway(tmp_path: Path, text: str | None, hosts: tuple[str, ...]) -> None:
    environ = {} if text is None else {"LOCAL_HOSTS": text}
    assert read_environment(environ, tmp_path / ".env").hosts == hosts


@pytest.mark.parametrize("text", ["gw.example:8000", "http://gw", "a b", "-x"])
def test_a_name_that_is_none_stops_the_start(tmp_path: Path, text: str) -> None:
    with pytest.raises(StartError, match="LOCAL_HOSTS"):
        read_environment({"LOCAL_HOSTS": text}, tmp_path / ".env")
