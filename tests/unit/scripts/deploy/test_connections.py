"""A change of the way to the database: at no time is a function called that has none."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from scripts.deploy import connections, steps, target
from scripts.deploy.connections import connection_of
from scripts.deploy.rollback import rollback
from scripts.deploy.target import DeployError
from tests.unit.scripts.deploy.cloud import HERE, Cloud
from tests.unit.scripts.deploy.test_steps import deploy

OLD = "0ld" + "0" * 61


@pytest.fixture(autouse=True)
def project(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(steps, "hash_of", lambda *arguments: "new" + "0" * 61)
    monkeypatch.setattr(connections, "_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(connections, "_WAIT_SECONDS", 0.05)
    monkeypatch.setattr(target, "PROJECT", tmp_path)
    (tmp_path / "infra").mkdir()


def moving(before: str, after: str) -> Cloud:
    cloud = Cloud(OLD)
    cloud.connected = dict.fromkeys(cloud.connected, before)
    cloud.wanted = after
    return cloud


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("direct-password", "proxy-password"),
        ("proxy-password", "direct-password"),
        ("proxy-password", "proxy-iam"),
        ("direct-password", "direct-iam"),
        ("proxy-iam", "direct-iam"),
    ],
)
def test_terraform_adds_then_the_functions_move_then_terraform_removes(before: str, after: str) -> None:
    cloud = moving(before, after)
    deploy(cloud)
    through_a_proxy = ["proxy"] if after.startswith("proxy") else []
    assert cloud.steps == [
        "sam build", "terraform init", f"terraform apply keeps {before}", *through_a_proxy, "sam deploy 0ld new",
        "migrate migrate", "sam deploy new new", "wait complete", "wait migrate", "terraform apply",
    ]  # fmt: skip
    assert cloud.ways == [after]


def test_where_nothing_moves_terraform_is_asked_once() -> None:
    cloud = moving("proxy-password", "proxy-password")
    deploy(cloud)
    assert cloud.steps.count("terraform apply") == 1 and "proxy" not in cloud.steps


def test_a_deployment_that_failed_half_way_keeps_what_is_called_the_next_time_too() -> None:
    cloud = moving("direct-password", "proxy-password")
    cloud.migration_fails = True
    for _ in range(2):
        with pytest.raises(DeployError):
            deploy(cloud)
        assert cloud.ways == ["proxy-password", "direct-password"]
    cloud.migration_fails = False
    deploy(cloud)
    assert cloud.ways == ["proxy-password"]


def test_nobody_is_moved_to_a_proxy_that_doesnt_reach_its_database(capsys: pytest.CaptureFixture[str]) -> None:
    cloud = moving("direct-password", "proxy-password")
    cloud.unhealthy = 3
    deploy(cloud)
    assert cloud.steps.count("proxy") == 4
    cloud = moving("direct-password", "proxy-password")
    cloud.unhealthy = 99
    with pytest.raises(DeployError, match=r"fusewire-prod can't reach its database \(PENDING_PROXY_CAPACITY\)"):
        deploy(cloud)
    assert not [step for step in cloud.steps if step.startswith("sam deploy")]
    assert "PENDING_PROXY_CAPACITY" in capsys.readouterr().err


def test_a_rollback_goes_to_no_version_whose_way_is_removed() -> None:
    cloud = moving("direct-password", "proxy-password")
    deploy(cloud)
    moved = dict(cloud.live)
    with pytest.raises(DeployError, match=r"Version 1 of complete connects by direct-password.*takes proxy-password"):
        rollback(HERE, cloud)
    assert cloud.live == moved
    cloud.ways = ["proxy-password", "direct-password"]
    rollback(HERE, cloud)
    assert cloud.live["complete"] == 1


def test_a_stage_that_was_made_before_says_nothing_of_ways() -> None:
    cloud = moving("direct-password", "direct-password")
    deploy(cloud)
    cloud.ways = []
    rollback(HERE, cloud)
    assert cloud.live["complete"] == 1


@pytest.mark.parametrize(
    ("url", "iam", "expected"),
    [
        ("host=db.abc.eu-central-1.rds.amazonaws.com port=5432 user=fusewire_app", "false", "direct-password"),
        ("host=db.abc.eu-central-1.rds.amazonaws.com port=5432 user=fusewire_app_iam", "true", "direct-iam"),
        ("host=f.proxy-abc.eu-central-1.rds.amazonaws.com port=5432 user=fusewire_app", "false", "proxy-password"),
        ("host=f.proxy-abc.eu-central-1.rds.amazonaws.com port=5432 user=fusewire_app", "true", "proxy-iam"),
        ("host=db.abc.eu-central-1.rds.amazonaws.com port=5432", "false", None),
        ("", "false", None),
    ],
)
def test_a_versions_settings_say_how_it_connects(url: str, iam: str, expected: str | None) -> None:
    assert connection_of({"DATABASE_URL": url, "FUSEWIRE_DATABASE_IAM": iam}) == expected


def test_now_is_passed_to_terraform_and_only_where_it_is_asked_for() -> None:
    assert "-var=apply_immediately=true" in replace(HERE, now=True).terraform_variables()
    assert not [each for each in HERE.terraform_variables() if "apply_immediately" in each]


# --- a database elsewhere ----------------------------------------------------------------------------------------


def settings(tmp_path: Path, text: str) -> None:
    (tmp_path / "infra/prod.env").write_text(text)


def test_a_database_elsewhere_is_named_by_database_url(tmp_path: Path) -> None:
    settings(tmp_path, "DATABASE_URL=postgresql://ledger.example.com:5432/fusewire\nDatabaseCa=public\n")
    cloud = Cloud(None)
    cloud.kind = "external"
    deploy(cloud)
    assert cloud.parameters["DatabaseUrl"] == "postgresql://ledger.example.com:5432/fusewire"
    assert (cloud.parameters["DatabaseCa"], cloud.parameters["DatabaseTls"]) == ("public", "verify-full")


@pytest.mark.parametrize(
    "url", ["postgresql://me:secret@ledger.example.com/fusewire", "postgresql://ledger.example.com/f?sslmode=disable"]
)
def test_a_url_with_a_login_or_options_is_refused_and_not_repeated(url: str, tmp_path: Path) -> None:
    settings(tmp_path, f"DATABASE_URL={url}\n")
    cloud = Cloud(None)
    with pytest.raises(DeployError, match="without user, password and options") as caught:
        deploy(cloud)
    assert url not in str(caught.value) and cloud.steps == []


@pytest.mark.parametrize(("kind", "text"), [("external", ""), ("rds", "DATABASE_URL=postgresql://h/fusewire\n")])
def test_there_is_one_database(kind: str, text: str, tmp_path: Path) -> None:
    settings(tmp_path, text)
    cloud = Cloud(None)
    cloud.kind = kind
    with pytest.raises(DeployError, match="DATABASE_URL"):
        deploy(cloud)
    assert not [step for step in cloud.steps if step.startswith("sam deploy")]


def test_an_authority_of_its_own_is_packed_into_the_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = tmp_path / "built"
    (built / "CoreLayer/certs").mkdir(parents=True)
    monkeypatch.setattr(steps, "_BUILT", built)
    settings(tmp_path, "DATABASE_URL=postgresql://10.9.0.3:5432/fusewire\nDatabaseCa=own\nDatabaseTls=verify-ca\n")
    cloud = Cloud(None)
    cloud.kind = "external"
    with pytest.raises(DeployError, match=r"prod\.pem, and there is no such file"):
        deploy(cloud)
    (tmp_path / "infra/prod.pem").write_text("a certificate")
    deploy(cloud)
    assert (built / "CoreLayer/certs/own.pem").read_text() == "a certificate"


def test_terraform_is_told_which_database_there_is() -> None:
    """It refuses another kind: it would delete the one that there is, and the ledger with it."""
    cloud, commands = moving("direct-password", "direct-password"), []

    def run(command: Sequence[str]) -> None:
        commands.append(list(command))
        cloud.run(command)

    steps.deploy(run, HERE, cloud, lambda question: False)
    [apply] = [each for each in commands if "apply" in each]
    assert "-var=database_now=rds" in apply
