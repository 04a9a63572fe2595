"""`make deploy` and `make destroy`: their commands and calls, and their order."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from botocore.exceptions import ClientError  # type: ignore[import-untyped]

from fusewire.http.paths import OTHER_PATHS
from local.cloudformation import load
from scripts.deploy import steps, target
from scripts.deploy.steps import buffered, hash_of
from scripts.deploy.target import DeployError
from tests.unit.scripts.deploy.cloud import HERE, TEMPLATE, TERRAFORM, UNATTENDED, Cloud, refused

OLD = "0ld" + "0" * 61
_BEFORE = ["sam build", "terraform init", "terraform apply"]
_READY = ["wait complete", "wait migrate"]


def never(question: str) -> bool:
    raise AssertionError(question)


@pytest.fixture
def project(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder for a stage's settings, and a build whose hash is `new`."""
    monkeypatch.setattr(steps, "hash_of", lambda *arguments: "new" + "0" * 61)
    monkeypatch.setattr(steps, "_READY_PAUSE_SECONDS", 0)
    monkeypatch.setattr(target, "PROJECT", tmp_path)
    (tmp_path / "infra").mkdir()
    return tmp_path


def deploy(cloud: Cloud) -> str:
    return steps.deploy(cloud.run, HERE, cloud, never)


def test_the_hash_changes_with_whatever_runs(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    seen = [hash_of(tmp_path, {"x": "1"}), hash_of(tmp_path, {"x": "2"})]
    (tmp_path / "a").write_text("2")
    seen.append(hash_of(tmp_path, {"x": "1"}))
    (tmp_path / "a").rename(tmp_path / "b")
    seen.append(hash_of(tmp_path, {"x": "1"}))
    assert len(set(seen)) == 4
    assert seen[3] == hash_of(tmp_path, {"x": "1"})
    assert all(len(each) == 64 for each in seen)


def test_without_streaming_the_template_has_no_trace_of_it() -> None:
    events = TEMPLATE.count("ResponseTransferMode: RESPONSE_STREAM")
    assert events == TEMPLATE.count("TimeoutInMillis: 900000") > len(OTHER_PATHS)
    plain = buffered(TEMPLATE)
    assert "ResponseTransferMode:" not in plain
    assert plain.count("TimeoutInMillis: 29000") == events
    assert "900000" not in plain


# --- the order ---------------------------------------------------------------------------------------------------


def test_the_first_deployment_publishes_once_and_migrates(project: Path) -> None:
    cloud = Cloud(None)
    assert deploy(cloud) == "https://here/api/v1"
    assert cloud.steps == [*_BEFORE, "sam deploy new new", "migrate migrate", *_READY]


def test_the_next_migrates_while_the_old_versions_serve(project: Path) -> None:
    cloud = Cloud(OLD)
    deploy(cloud)
    assert cloud.steps == [*_BEFORE, "sam deploy 0ld new", "migrate migrate", "sam deploy new new", *_READY]


def test_a_migration_that_fails_leaves_the_old_versions(project: Path) -> None:
    cloud = Cloud(OLD)
    cloud.migration_fails = True
    with pytest.raises(DeployError, match=r"LedgerUnavailableError.*why"):
        deploy(cloud)
    assert cloud.steps[-1] == "migrate migrate" and cloud.build == OLD


def test_a_function_that_is_being_set_up_is_tried_again(project: Path) -> None:
    cloud = Cloud(None)
    cloud.not_ready = 3
    deploy(cloud)
    assert "migrate migrate" in cloud.steps
    cloud.not_ready = 99
    with pytest.raises(ClientError, match="ResourceNotReadyException"):
        deploy(cloud)


@pytest.mark.parametrize("code", ["Throttling", "ExpiredToken", "AccessDenied"])
@pytest.mark.parametrize("calls_before", range(3))
def test_an_error_of_awss_is_not_taken_for_no_stack(code: str, calls_before: int, project: Path) -> None:
    cloud = Cloud(OLD)
    cloud.describing = [None] * calls_before + [refused(code, "Rate exceeded")]
    with pytest.raises(ClientError, match=code):
        deploy(cloud)
    assert not [step for step in cloud.steps if step.startswith("sam deploy")]


# --- what is passed ----------------------------------------------------------------------------------------------


def test_every_parameter_is_passed_each_time_and_a_deleted_setting_goes_back_to_its_default(project: Path) -> None:
    """CloudFormation would keep the old value (aws-sam-cli#4180, #7103, #4048)."""
    declared = load(TEMPLATE)["Parameters"]
    settings = project / "infra/prod.env"
    settings.write_text("AI_MONTHLY_BUDGET_USD=900\nAlarmEmail=oncall@example.com\n")
    cloud = Cloud(None)
    deploy(cloud)
    assert cloud.parameters.keys() == declared.keys()
    assert (cloud.parameters["AiMonthlyBudgetUsd"], cloud.parameters["AlarmEmail"]) == ("900", "oncall@example.com")
    settings.write_text("")
    deploy(cloud)
    assert cloud.parameters.keys() == declared.keys()
    assert (cloud.parameters["AiMonthlyBudgetUsd"], cloud.parameters["AlarmEmail"]) == ("500", "")
    assert {name for name, value in cloud.parameters.items() if value == f"the {name}"} == {
        name for name, each in declared.items() if "Default" not in each
    }


def test_what_terraform_hasnt_written_stops_it(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(TERRAFORM, "database_host")
    with pytest.raises(DeployError, match="DatabaseHost"):
        deploy(Cloud(None))


@pytest.mark.parametrize(("quota", "kept"), [(10, "0"), (999, "0"), (1000, None), (5000, None)])
def test_concurrency_is_kept_for_operators_where_the_quota_has_room(
    quota: int, kept: str | None, project: Path
) -> None:
    cloud = Cloud(None)
    cloud.quota = quota
    deploy(cloud)
    defaults = load(TEMPLATE)["Parameters"]
    for name in ("AdminConcurrency", "AuthorizerConcurrency"):
        assert cloud.parameters[name] == (kept or str(defaults[name]["Default"]))
    (project / "infra/prod.env").write_text("AdminConcurrency=2\n")
    deploy(cloud)
    assert cloud.parameters["AdminConcurrency"] == "2", "what is asked for is passed"


# --- the console -------------------------------------------------------------------------------------------------


@pytest.fixture
def uploaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Where the console was sent that was uploaded."""
    made: list[str] = []
    monkeypatch.setattr(steps, "deploy_console", lambda run, session, outputs, base_url: made.append(base_url))
    return made


def test_the_console_is_last_and_each_is_let_know_the_others_address(
    project: Path, uploaded: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "infra/prod.env").write_text("CORS_ORIGINS=https://app.example.com\n")
    cloud = Cloud(None)
    cloud.console = "https://d1.cloudfront.net"
    deploy(cloud)
    assert cloud.parameters["CorsOrigins"] == "https://app.example.com,https://d1.cloudfront.net"
    assert cloud.allowed == [None, "https://here"], "there is no API before the first deployment"
    assert cloud.steps[-1] == "terraform apply"
    assert uploaded == ["https://here/api/v1"]
    assert "console: https://d1.cloudfront.net" in capsys.readouterr().err
    deploy(cloud)
    assert cloud.allowed[2:] == ["https://here"], "once is enough where Terraform knows it"


def test_without_the_console_nothing_is_said_of_it(project: Path, uploaded: list[str]) -> None:
    cloud = Cloud(None)
    deploy(cloud)
    assert (cloud.parameters["CorsOrigins"], cloud.allowed, uploaded) == ("", [None], [])


# --- a stack that takes no update --------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED", "DELETE_FAILED"])
def test_a_first_stack_that_failed_is_removed_after_asking(status: str, project: Path) -> None:
    """aws-sam-cli#1865, #1658, #4230; serverless#5630."""
    cloud = Cloud(OLD, status=status)
    asked: list[str] = []

    def no(question: str) -> bool:
        asked.append(question)
        return False

    with pytest.raises(DeployError, match=status):
        steps.deploy(cloud.run, HERE, cloud, no)
    assert len(asked) == 1 and status in asked[0] and cloud.steps == []
    steps.deploy(cloud.run, HERE, cloud, lambda question: True)
    assert cloud.steps[:2] == ["delete fusewire-prod", "wait fusewire-prod"]
    assert cloud.steps[2:] == [*_BEFORE, "sam deploy new new", "migrate migrate", *_READY]


@pytest.mark.parametrize(
    ("status", "what"),
    [
        ("UPDATE_IN_PROGRESS", "somebody else"),
        ("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "somebody else"),
        ("UPDATE_ROLLBACK_FAILED", "continue-update-rollback"),
    ],
)
def test_another_that_cant_be_updated_is_told_before_anything_is_done(status: str, what: str, project: Path) -> None:
    cloud = Cloud(OLD, status=status)
    with pytest.raises(DeployError, match=what):
        deploy(cloud)
    assert cloud.steps == []


@pytest.mark.parametrize("status", ["REVIEW_IN_PROGRESS", "UPDATE_ROLLBACK_COMPLETE"])
def test_one_that_sam_can_go_on_with_is_left_to_it(status: str, project: Path) -> None:
    cloud = Cloud(OLD, status=status)
    deploy(cloud)
    assert cloud.steps[:3] == _BEFORE


# --- versions ----------------------------------------------------------------------------------------------------


def test_the_version_before_is_kept_and_older_ones_are_deleted(project: Path) -> None:
    cloud = Cloud(OLD)
    cloud.versions["complete"] = [3, 4, 5]
    cloud.live["complete"] = cloud.published["complete"] = 5
    deploy(cloud)
    assert cloud.versions["complete"] == [5, 6] and cloud.live["complete"] == 6


def test_after_a_rollback_the_next_deployment_moves_all_callers_at_once_and_drops_the_bad_version(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """CodeDeploy's current version must be the alias's own (terraform-aws-lambda#82)."""
    cloud = Cloud(OLD)
    cloud.versions["complete"], cloud.published["complete"], cloud.live["complete"] = [4, 5], 5, 4
    deploy(cloud)
    assert cloud.parameters["TrafficShifting"] == "off"
    assert "rolled back" in capsys.readouterr().err
    assert cloud.versions["complete"] == [4, 6], "5 was rolled back from"
    assert cloud.live["complete"] == 6


def test_a_build_that_was_rolled_back_from_is_live_again_when_it_is_deployed_again(project: Path) -> None:
    cloud = Cloud("new" + "0" * 61)
    cloud.versions["complete"], cloud.published["complete"], cloud.live["complete"] = [4, 5], 5, 4
    deploy(cloud)
    assert cloud.live["complete"] == 5 and cloud.versions["complete"] == [4, 5]


# --- and back ----------------------------------------------------------------------------------------------------


def test_back_goes_the_other_way_round_and_tells_what_is_left(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cloud = Cloud(OLD)
    steps.destroy(cloud.run, HERE, cloud, lambda question: True)
    assert cloud.steps == ["sam delete", "terraform init", "terraform destroy"]
    printed = capsys.readouterr().err
    for left in (
        "snapshot fusewire-prod-final-1",
        "automated backups of fusewire-prod",
        "log group logs",
        "KMS key arn:",
    ):
        assert f"\n  {left}" in printed


def test_aurora_has_its_protection_on_the_cluster(project: Path) -> None:
    cloud = Cloud(OLD)
    cloud.protected, cloud.kind = True, "aurora"
    with pytest.raises(DeployError, match="deletion_protection = false"):
        steps.destroy(cloud.run, HERE, cloud, lambda question: True)
    assert cloud.steps == []


def test_nothing_is_removed_while_the_database_is_protected_or_the_answer_is_no(project: Path) -> None:
    cloud = Cloud(OLD)
    cloud.protected = True
    with pytest.raises(DeployError, match=r"deletion_protection = false.*prod\.tfvars"):
        steps.destroy(cloud.run, HERE, cloud, lambda question: True)
    cloud.protected = False
    with pytest.raises(DeployError, match="Nothing was removed"):
        steps.destroy(cloud.run, HERE, cloud, lambda question: False)
    assert cloud.steps == []


# --- Terraform ---------------------------------------------------------------------------------------------------


def test_terraform_gets_the_stages_own_variables(project: Path) -> None:
    (project / "infra/trial.tfvars").write_text("multi_az = false\n")
    commands: list[Sequence[str]] = []
    for stage, has_some in (("prod", False), ("trial", True)):
        commands.clear()
        steps.plan(commands.append, replace(HERE, stage=stage), Cloud(None))
        given = [word for word in commands[-1] if word.startswith("-var-file=")]
        assert given == [f"-var-file={project}/infra/trial.tfvars"] * has_some
        assert f"-backend-config=key={stage}.tfstate" in commands[-2]


def test_terraform_and_sam_ask_nobody_where_nobody_is(project: Path) -> None:
    for here, unasked in ((UNATTENDED, True), (HERE, False)):
        commands: list[Sequence[str]] = []
        cloud = Cloud(OLD)

        def run(command: Sequence[str], cloud: Cloud = cloud, commands: list[Sequence[str]] = commands) -> None:
            commands.append(command)
            cloud.run(command)

        steps.deploy(run, here, cloud, lambda question: True)
        steps.destroy(run, here, cloud, lambda question: True)
        [apply], [destroy] = ([each for each in commands if word in each] for word in ("apply", "destroy"))
        assert ("-auto-approve" in apply) is ("-auto-approve" in destroy) is unasked
        assert all("--no-confirm-changeset" in each for each in commands if each[:2] == ["sam", "deploy"])


def test_a_plan_changes_nothing(project: Path) -> None:
    cloud = Cloud(OLD)
    commands: list[Sequence[str]] = []
    steps.plan(commands.append, HERE, cloud)
    assert [command[2] for command in commands] == ["init", "plan"]
    assert "-var=console_api=https://here" in commands[1], "else it would say that the console lost its API"
