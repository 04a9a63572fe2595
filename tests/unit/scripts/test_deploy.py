"""`make deploy`: what is told to whom, and in which order."""

import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from botocore.config import Config  # type: ignore[import-untyped]

from scripts import deploy
from scripts.deploy import DeployError, Target, buffered, hash_of, parameters_of

TEMPLATE = (deploy.PROJECT / "infra" / "template.yaml").read_text()
HERE = Target("prod", "eu-central-1", "fusewire-prod", "bucket", "on")


def test_settings_become_parameters_by_the_names_of_their_variables_or_their_own() -> None:
    settings = """
        # what we changed
        AI_MONTHLY_BUDGET_USD=800
        AI_BUDGET_TIMEZONE=Asia/Tokyo
        AI_PRICE_OVERRIDES='{"vllm/m": {"input_mtok": 1, "output_mtok": 2}}'
        Waf=on
        ReservedConcurrency=50
    """
    assert parameters_of(TEMPLATE, settings) == {
        "AiMonthlyBudgetUsd": "800",
        "BudgetTimezone": "Asia/Tokyo",
        "AiPriceOverrides": '{"vllm/m": {"input_mtok": 1, "output_mtok": 2}}',
        "Waf": "on",
        "ReservedConcurrency": "50",
    }


@pytest.mark.parametrize("line", ["OPENAI_API_KEY=sk-1", "AUTH_MODE=open", "DATABASE_URL=x", "Waff=on"])
def test_a_key_or_a_misspelt_name_stops_it_without_its_value(line: str) -> None:
    name, _, value = line.partition("=")
    with pytest.raises(DeployError, match=rf"{name} \(line 1\)") as caught:
        parameters_of(TEMPLATE, line)
    assert f"={value}" not in str(caught.value)


def test_a_line_that_is_none_stops_it() -> None:
    with pytest.raises(DeployError, match="Line 2"):
        parameters_of(TEMPLATE, "AI_MODE=cloud\nexport AI_MODE")


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
    assert TEMPLATE.count("ResponseTransferMode: RESPONSE_STREAM") == 3
    plain = buffered(TEMPLATE)
    assert "ResponseTransferMode:" not in plain
    assert plain.count("TimeoutInMillis: 29000") == TEMPLATE.count("TimeoutInMillis: 900000") == 3
    assert "900000" not in plain


class Cloud:
    """Of boto3's session what a deployment asks, and of each command what it was, in order."""

    def __init__(self, build: str | None, *, fails: bool = False) -> None:
        self.steps: list[str] = []
        self._build = build
        self._fails = fails

    def run(self, command: Sequence[str]) -> None:
        words = [word for word in command if not word.startswith("-")]
        step = f"{words[0]} {words[1]}"
        if step == "sam deploy":
            told = dict(
                word.removeprefix("ParameterKey=").split(",ParameterValue=") for word in words if "Key=" in word
            )
            self._build = json.loads(told["BuildHash"])
            step += f" {self._build[:3]} {json.loads(told['MigrationHash'])[:3]}"
        self.steps.append(step)

    def client(self, name: str, config: Config | None = None) -> "Cloud":
        if name == "lambda":
            assert config and config.read_timeout > 900, "a migration may take as long as its function"
            assert config.retries == {"total_max_attempts": 1}
        return self

    @property
    def exceptions(self) -> Any:  # noqa: ANN401 - botocore makes its classes at run time
        return type("Exceptions", (), {"ClientError": LookupError})

    def get_paginator(self, name: str) -> "Cloud":
        return self

    def paginate(self, **arguments: str) -> list[dict[str, Any]]:
        assert arguments == {"Path": "/fusewire/prod/"}
        return [{"Parameters": [{"Name": "/fusewire/prod/database_host", "Value": "h"}]}]

    def describe_stacks(self, StackName: str) -> dict[str, Any]:
        if self._build is None:
            raise LookupError
        outputs = {"Build": self._build, "Migrate": "arn:live", "BaseUrl": "https://here/api/v1"}
        return {"Stacks": [{"Outputs": [{"OutputKey": k, "OutputValue": v} for k, v in outputs.items()]}]}

    def invoke(self, FunctionName: str, Payload: bytes) -> dict[str, Any]:
        self.steps.append(f"migrate {FunctionName}")
        if self._fails:
            answer = {"errorType": "LedgerUnavailableError", "errorMessage": "why"}
            return {"Payload": io.BytesIO(json.dumps(answer).encode()), "FunctionError": "Unhandled"}
        return {"Payload": io.BytesIO(b'{"applied": []}')}


@pytest.fixture
def new(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(deploy, "hash_of", lambda *arguments: "new" + "0" * 61)
    return "new"


_BEFORE = ["sam build", "terraform init", "terraform apply"]


def test_the_first_deployment_publishes_once_and_migrates(new: str) -> None:
    cloud = Cloud(None)
    assert deploy.deploy(cloud.run, HERE, cloud) == "https://here/api/v1"
    assert cloud.steps == [*_BEFORE, "sam deploy new new", "migrate arn:live"]


def test_the_next_migrates_while_the_old_versions_serve(new: str) -> None:
    cloud = Cloud("old" + "0" * 61)
    deploy.deploy(cloud.run, HERE, cloud)
    assert cloud.steps == [*_BEFORE, "sam deploy old new", "migrate arn:live", "sam deploy new new"]


def test_a_migration_that_fails_leaves_the_old_versions(new: str) -> None:
    cloud = Cloud("old" + "0" * 61, fails=True)
    with pytest.raises(DeployError, match=r"LedgerUnavailableError.*why"):
        deploy.deploy(cloud.run, HERE, cloud)
    assert cloud.steps[-1] == "migrate arn:live"


def test_back_goes_the_other_way_round() -> None:
    cloud = Cloud(None)
    deploy.destroy(cloud.run, HERE)
    assert cloud.steps == ["sam delete", "terraform init", "terraform destroy"]


def test_terraform_gets_the_stages_own_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, new: str) -> None:
    monkeypatch.setattr(deploy, "PROJECT", tmp_path)
    (tmp_path / "infra").mkdir()
    (tmp_path / "infra/trial.tfvars").write_text("multi_az = false\n")
    told: list[Sequence[str]] = []
    for stage, has_some in (("prod", False), ("trial", True)):
        told.clear()
        deploy.destroy(told.append, Target(stage, "eu-central-1", f"fusewire-{stage}", "bucket", "on"))
        given = [word for word in told[-1] if word.startswith("-var-file=")]
        assert given == [f"-var-file={tmp_path}/infra/trial.tfvars"] * has_some
        assert f"-backend-config=key={stage}.tfstate" in told[-2]


def test_a_command_that_fails_stops_it() -> None:
    with pytest.raises(DeployError, match="false failed"):
        deploy._run(["false"])
    with pytest.raises(DeployError, match="no-such-command failed"):
        deploy._run(["no-such-command"])


@pytest.mark.parametrize(
    ("environ", "what"),
    [
        ({}, "REGION=eu-central-1"),
        ({"REGION": "eu-central-1", "STREAMING": "no"}, "STREAMING=no"),
        ({"REGION": "eu-central-1"}, "AWS can't be asked, or refused: Unable to locate credentials"),
    ],
)
def test_what_is_missing_or_wrong_is_told_in_a_line(
    environ: dict[str, str], what: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(DeployError, match=what):
        deploy.main("destroy", environ)
