"""The cost of the idle stack, as the operations manual has it: its sums, and the resources that it counts."""

import json
import re
from decimal import Decimal
from math import prod
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from scripts.costs import SHAPES, load_costs, manuals
from tests.support.documents import PROJECT, code, rows, section
from tests.unit.docs.test_operations import BOTH, ENGLISH, JAPANESE

COST: Final = {ENGLISH: "9-cost-of-the-idle-stack", JAPANESE: "9-アイドル時の費用"}
_PRODUCT: Final = re.compile(r"([\d.]+(?: x [\d.]+)+) = ([\d.]+)")
# What costs nothing by itself: what it is used for is counted elsewhere, or by the call.
_FREE_IN_TERRAFORM: Final = {
    "aws_cloudfront_origin_access_control", "aws_cloudfront_response_headers_policy", "aws_s3_bucket_policy",
    "aws_s3_bucket_public_access_block",
    "aws_backup_selection", "aws_egress_only_internet_gateway", "aws_eip_association",
    "aws_rds_cluster_parameter_group", "aws_rds_global_cluster",
    "aws_db_parameter_group", "aws_db_proxy_default_target_group", "aws_db_proxy_target", "aws_db_subnet_group",
    "aws_default_security_group", "aws_iam_openid_connect_provider", "aws_iam_role", "aws_iam_role_policy",
    "aws_iam_role_policy_attachment", "aws_internet_gateway", "aws_kms_alias", "aws_launch_template",
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
    """The table of what the stack costs at rest."""
    table = section(manual, COST[manual]).partition("<!-- costs: idle -->")[2].partition("<!-- end of costs -->")[0]
    return list(rows(table))


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
def test_every_product_and_every_sum_is_right(manual: Path) -> None:
    *items, total = costs(manual)[1:]
    for column in (3, 4, 5):
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
    assert all(by_kind["AWS::CloudWatch::Alarm"][column].startswith(f"{metrics} x ") for column in (3, 4, 5))
    globals_ = yaml.load((PROJECT / "infra/template.yaml").read_text(), Loader=_Template)["Globals"]["Function"]  # noqa: S506
    functions = _of("AWS::Serverless::Function")
    assert "SnapStart" not in globals_ and globals_["VersionDeletionPolicy"] == "Retain"
    assert not any("MemorySize" in each["Properties"] for each in functions) and globals_["MemorySize"] == "Ref"
    snapshots = 2 * len([each for each in functions if "SnapStart" in each["Properties"]])  # and the version before
    default = yaml.load((PROJECT / "infra/template.yaml").read_text(), Loader=_Template)["Parameters"]["MemoryMb"]  # noqa: S506
    for column, megabytes in ((3, default["MinValue"]), (4, default["Default"]), (5, default["Default"])):
        gigabytes = Decimal(megabytes) / 1024
        expected = f"{snapshots} x {gigabytes} x {730 * 3600} x "
        assert by_kind["AWS::Serverless::Function"][column].startswith(expected)
    assert by_kind["AWS::KMS::Key"][3].startswith(f"{1 + len(_of('AWS::KMS::Key'))} x ")


def test_decision_6_has_the_same_sums() -> None:
    said = (PROJECT / "docs/decisions/0006-database-on-aws.md").read_text()
    for sum_ in costs(ENGLISH)[-1][3:]:
        assert sum_.strip("*") in said


# --- the one data file ---------------------------------------------------------------------------------------------


def test_the_manuals_hold_what_the_data_says() -> None:
    for file, content in manuals():
        assert file.read_text() == content, "python -m scripts.costs"


def test_every_price_is_used_and_has_its_source_or_is_said_to_be_from_memory() -> None:
    data = load_costs().data
    used = {name for item in data["items"] for shape in SHAPES for name in item.get(shape, []) if isinstance(name, str)}
    used |= {name for item in data["items"] for name in re.findall(r"\{([\w.]+)\}", item["price_en"])}
    priced_calls = {
        "lambda_gb_second",
        "lambda_request",
        "api_request",
        "managed_fee",
        data["calls"]["managed"]["instance"],
    }
    assert data["prices"].keys() == (used & data["prices"].keys()) | priced_calls
    for price in data["prices"].values():
        assert price["source"] == "memory" or data["sources"][price["source"]]["url"].startswith("https://")
    assert {each["source"] for each in data["prices"].values()} - {"memory"} == data["sources"].keys()


def test_a_small_teams_month_is_under_forty_dollars() -> None:
    found = load_costs()
    calls = found.on_lambda(10_000, 10, Decimal("0.25")) + 10_000 * found.prices["api_request"]
    assert found.at_rest("little") + calls < 40


def test_what_a_call_costs_is_memory_times_the_vendors_seconds() -> None:
    found = load_costs()
    assert found.on_lambda(1_000_000, 10, Decimal("0.5")) == Decimal("66.867")
    assert found.on_lambda(1, 60, Decimal("0.5")) > 50 * found.on_lambda(1, 1, Decimal("0.5"))


@pytest.mark.parametrize("seconds", [1, 10, 60])
@pytest.mark.parametrize("gigabytes", ["0.25", "0.5"])
def test_managed_instances_are_cheaper_from_where_it_is_said(seconds: int, gigabytes: str) -> None:
    found, memory = load_costs(), Decimal(gigabytes)
    turn = found.cheaper_from(seconds, memory)
    for each_has in ("processes", "threads"):
        assert found.on_lambda(turn - 1, seconds, memory) < found.on_managed_instances(turn - 1, seconds, each_has)
        assert found.on_lambda(turn, seconds, memory) >= found.on_managed_instances(turn, seconds, each_has)


@BOTH
def test_the_turn_and_the_memory_in_the_text_are_those_of_the_data(manual: Path) -> None:
    found, text = load_costs(), manual.read_text()
    turn = found.cheaper_from(10, Decimal("0.25"))
    said = {
        ENGLISH: f"{turn / 1e6:.1f} million calls of 10 s",
        JAPANESE: f"10 秒の呼び出しなら {round(turn, -5) // 10_000} 万回",
    }
    assert said[manual] in text
    resident = json.loads((PROJECT / "benchmarks/results/memory.json").read_text())
    for name in ("after_streams", "after_the_largest_body", "every_sdk"):
        assert f"{resident[name]:.0f} MiB" in text
    assert max(resident.values()) < 256


def test_a_parameters_saving_is_the_difference_of_its_rows() -> None:
    found = load_costs()
    items = {item["en"]: item for item in found.data["items"]}

    def cents(name: str, shape: str) -> Decimal:
        return round(prod(found.factors(items[name][shape]), start=Decimal(1)), 2)

    instance = cents("NAT instance in its place", "little") + cents("its disk, 8 GB", "little")
    snapshots = "SnapStart's cache, 3 functions of `MemoryMb`, with the version before"
    savings = {
        'nat_instance = "t4g.nano"`': cents("NAT gateway", "smallest") - instance,
        "ipv6_egress = true`": cents("NAT gateway", "smallest") + cents("address of either", "smallest"),
        "`MemoryMb=256`": cents(snapshots, "smallest") - cents(snapshots, "little"),
        "`Snapshots=off`": cents(snapshots, "smallest"),
        "aurora_min_capacity = 0`": cents("instance", "smallest") + cents("its storage, 20 GB", "smallest"),
    }
    for manual in (ENGLISH, JAPANESE):
        found_rows = [row for row in rows(section(manual, COST[manual])) if len(row) == 3]
        for words, saved in savings.items():
            [row] = [row for row in found_rows if row[0].endswith(words)]
            assert row[1].startswith(str(saved)), row
