"""The cost of the idle stack, as the operations manual has it: its sums, and the resources that it counts."""

import re
from decimal import Decimal
from math import prod
from pathlib import Path
from typing import Any, Final

import yaml

from tests.support.documents import PROJECT, code, rows, section
from tests.unit.docs.test_operations import BOTH, ENGLISH, JAPANESE

COST: Final = {ENGLISH: "9-cost-of-the-idle-stack", JAPANESE: "9-アイドル時の費用"}
_PRODUCT: Final = re.compile(r"([\d.]+(?: x [\d.]+)+) = ([\d.]+)")
# What costs nothing by itself: what it is used for is counted elsewhere, or by the call.
_FREE_IN_TERRAFORM: Final = {
    "aws_backup_selection", "aws_rds_cluster_parameter_group", "aws_rds_global_cluster",
    "aws_db_parameter_group", "aws_db_proxy_default_target_group", "aws_db_proxy_target", "aws_db_subnet_group",
    "aws_default_security_group", "aws_iam_openid_connect_provider", "aws_iam_role", "aws_iam_role_policy",
    "aws_iam_role_policy_attachment", "aws_internet_gateway", "aws_kms_alias",
    "aws_route", "aws_route_table", "aws_route_table_association", "aws_security_group", "aws_ssm_parameter",
    "aws_subnet", "aws_vpc", "aws_vpc_security_group_egress_rule", "aws_vpc_security_group_ingress_rule",
    "terraform_data",
}  # fmt: skip
_FREE_IN_THE_STACK: Final = {
    "AWS::ApiGateway::Account", "AWS::ApiGateway::BasePathMapping", "AWS::ApiGateway::DomainName",
    "AWS::IAM::ManagedPolicy", "AWS::IAM::Role", "AWS::Logs::QueryDefinition", "AWS::Route53::RecordSet",
    "AWS::SNS::Subscription", "AWS::SNS::Topic", "AWS::SNS::TopicPolicy", "AWS::SQS::Queue", "AWS::Serverless::Api",
    "AWS::Serverless::LayerVersion", "AWS::WAFv2::WebACLAssociation",
}  # fmt: skip


def costs(manual: Path) -> list[tuple[str, ...]]:
    return [row for row in rows(section(manual, COST[manual])) if len(row) == 5]


def resources() -> dict[str, Any]:
    template = yaml.load((PROJECT / "infra/template.yaml").read_text(), Loader=_Template)  # noqa: S506 - a safe one
    found: dict[str, Any] = template["Resources"]
    return found


class _Template(yaml.SafeLoader):
    """CloudFormation's short forms are nothing here."""


_Template.add_multi_constructor("!", lambda loader, suffix, node: suffix)


def _of(kind: str) -> list[dict[str, Any]]:
    return [each for each in resources().values() if each["Type"] == kind]


@BOTH
def test_every_product_and_both_sums_are_right(manual: Path) -> None:
    *items, total = costs(manual)[1:]
    for column in (3, 4):
        added = Decimal(0)
        for row in items:
            if not row[column]:
                continue
            found = _PRODUCT.fullmatch(row[column])
            assert found, row
            factors, said = found.groups()
            assert round(prod(map(Decimal, factors.split(" x "))), 2) == Decimal(said), row
            prices = {Decimal(each) for each in re.findall(r"\d+\.\d+", row[2])}
            assert prices & set(map(Decimal, factors.split(" x "))), f"{row}: at none of the prices"
            added += Decimal(said)
        assert total[column] == f"**{added}**"
    text = section(manual, COST[manual])
    for factors, said in _PRODUCT.findall(text):
        assert round(prod(map(Decimal, factors.split(" x "))), 2) == Decimal(said)


@BOTH
def test_whatever_terraform_and_sam_make_is_counted_or_free(manual: Path) -> None:
    counted = {name for row in costs(manual) for name in code(row[1])}
    module = (PROJECT / "infra/terraform/modules/aws").glob("*.tf")
    made = {kind for path in module for kind in re.findall(r'^resource "(\w+)"', path.read_text(), re.MULTILINE)}
    assert {name for name in counted if "::" not in name} == made - _FREE_IN_TERRAFORM
    stack = {each["Type"] for each in resources().values()}
    assert {name for name in counted if "::" in name} == stack - _FREE_IN_THE_STACK
    assert made >= _FREE_IN_TERRAFORM and stack >= _FREE_IN_THE_STACK


def test_the_numbers_that_are_multiplied_are_the_templates() -> None:
    alarms = [each["Properties"] for each in _of("AWS::CloudWatch::Alarm")]
    metrics = sum(len([m for m in each["Metrics"] if "MetricStat" in m]) if "Metrics" in each else 1 for each in alarms)
    by_kind = {code(row[1])[-1]: row for row in costs(ENGLISH)[1:-1]}
    assert by_kind["AWS::CloudWatch::Alarm"][0] == f"alarms, {len(alarms)} over {metrics} metrics"
    assert by_kind["AWS::CloudWatch::Alarm"][3].startswith(f"{metrics} x ")
    globals_ = yaml.load((PROJECT / "infra/template.yaml").read_text(), Loader=_Template)["Globals"]["Function"]  # noqa: S506
    functions = _of("AWS::Serverless::Function")
    assert "SnapStart" not in globals_ and globals_["VersionDeletionPolicy"] == "Retain"
    assert not any("MemorySize" in each["Properties"] for each in functions)
    snapshots = 2 * len([each for each in functions if "SnapStart" in each["Properties"]])  # and the version before
    gigabytes = Decimal(globals_["MemorySize"]) / 1024
    assert by_kind["AWS::Serverless::Function"][3].startswith(f"{snapshots} x {gigabytes} x {730 * 3600} x ")
    assert by_kind["AWS::KMS::Key"][3].startswith(f"{1 + len(_of('AWS::KMS::Key'))} x ")


def test_decision_6_has_the_same_sums() -> None:
    said = (PROJECT / "docs/decisions/0006-database-on-aws.md").read_text()
    for sum_ in (costs(ENGLISH)[-1][3], costs(ENGLISH)[-1][4]):
        assert sum_.strip("*") in said
