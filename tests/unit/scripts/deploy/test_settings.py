"""A stage's settings as parameters of infra/template.yaml."""

import subprocess

import pytest

from local.cloudformation import load
from scripts.deploy.settings import every_parameter, parameters_of
from scripts.deploy.target import PROJECT, DeployError
from tests.unit.scripts.deploy.cloud import TEMPLATE, TERRAFORM


def test_settings_become_parameters_by_the_names_of_their_variables_or_their_own() -> None:
    settings = """
        # what we changed
        AI_MONTHLY_BUDGET_USD=800
        AI_BUDGET_TIMEZONE=Asia/Tokyo
        AI_PRICE_OVERRIDES='{"vllm/m": {"input_mtok": 1, "output_mtok": 2}}'
        Waf=on
        ReservedConcurrency=50
        AI_RESPONSES_RETENTION_HOURS=24
        OPENAI_KEY_EXPIRES_ON=2027-06-30
        AI_MONTHLY_BUDGET_MAX_USD=1000
    """
    assert parameters_of(TEMPLATE, settings) == {
        "AiMonthlyBudgetUsd": "800",
        "BudgetTimezone": "Asia/Tokyo",
        "AiPriceOverrides": '{"vllm/m": {"input_mtok": 1, "output_mtok": 2}}',
        "Waf": "on",
        "ReservedConcurrency": "50",
        "AiResponsesRetentionHours": "24",
        "OpenaiKeyExpiresOn": "2027-06-30",
        "AiMonthlyBudgetMaxUsd": "1000",
    }


def test_the_template_is_read_as_yaml_however_it_is_written() -> None:
    template = """
Parameters: {Mode: {Default: "a", Type: String}, Retention: {Type: Number, Default: 1}}
Globals:
    Function:
        Environment: {Variables: {AI_MODE: !Ref "Mode", STAGE: !Sub "${Mode}"}}
Resources: {Retained: {Type: AWS::S3::Bucket}}
"""
    assert parameters_of(template, "AI_MODE=b\nRetention=3") == {"Mode": "b", "Retention": "3"}
    for other in ("STAGE=x", "Retained=x"):
        with pytest.raises(DeployError, match="is no parameter"):
            parameters_of(template, other)


@pytest.mark.parametrize(
    "line", ["OPENAI_API_KEY=sk-1", "AUTH_MODE=open", "DATABASE_URL=x", "Waff=on", "DatabaseHost=x"]
)
def test_a_key_a_misspelt_name_or_one_of_terraforms_stops_it_without_its_value(line: str) -> None:
    name, _, value = line.partition("=")
    with pytest.raises(DeployError, match=rf"{name} \(line 1\)") as caught:
        parameters_of(TEMPLATE, line)
    assert f"={value}" not in str(caught.value)


def test_a_line_that_is_none_stops_it() -> None:
    with pytest.raises(DeployError, match="Line 2"):
        parameters_of(TEMPLATE, "AI_MODE=cloud\nexport AI_MODE")


def test_every_parameter_has_a_value_and_what_was_chosen_wins() -> None:
    found = every_parameter(TEMPLATE, {"Waf": "on"}, {**TERRAFORM, "vpc_id": "vpc-1"})
    assert found.keys() == load(TEMPLATE)["Parameters"].keys()
    assert (found["Waf"], found["Tracing"], found["DatabaseHost"]) == ("on", "off", "the DatabaseHost")
    assert all(isinstance(value, str) for value in found.values())


def test_cloudformation_takes_so_many_parameters() -> None:
    assert len(load(TEMPLATE)["Parameters"]) <= 200


def test_the_examples_are_tracked_and_so_can_a_stages_own_files_be() -> None:
    names = ["infra/example.env", "infra/example.tfvars", "infra/prod.env", "infra/prod.tfvars",
             "infra/terraform/.terraform.lock.hcl"]  # fmt: skip
    ignored = subprocess.run(["git", "check-ignore", *names], cwd=PROJECT, capture_output=True, text=True)  # noqa: S603, S607
    assert ignored.returncode != 128 and ignored.stdout == ""
    assert all((PROJECT / name).exists() for name in (names[0], names[1], names[4]))


def test_the_example_can_be_deployed_with_every_line_of_it() -> None:
    text = (PROJECT / "infra/example.env").read_text()
    lines = [line.removeprefix("# ") for line in text.splitlines() if "=" in line and not line.endswith(".")]
    found = parameters_of(TEMPLATE, "\n".join(line for line in lines if line[:1].isalpha()))
    assert found["AiMonthlyBudgetUsd"] == "100" and found["DomainName"] == "ai.example.com"
