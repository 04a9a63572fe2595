"""The template's resources, made one after another in moto's server by AWS's own APIs, and the gaps of that.

Every property passes botocore's model of its API: its name, its type and, where it is one of a set, its word. moto then
checks what it knows: policies, roles, names, what refers to what. Neither of them is AWS.
"""

from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any, Final

import httpx
import pytest
from botocore.exceptions import ClientError  # type: ignore[import-untyped]
from moto.server import ThreadedMotoServer

from tests.integration.infra.resources import Maker, cast, references
from tests.integration.infra.sam import TEMPLATE, transformed
from tests.integration.infra.stack import ACCOUNT, REGION, Stack
from tests.support.clouds import CLIENT
from tests.support.patience import PATIENCE_SECONDS

GAPS: Final = {
    "AWS::ApiGateway::RestApi": "moto's API Gateway needs openapi-spec-validator, which nothing else here does",
    "AWS::ApiGateway::Deployment": "the same",
    "AWS::ApiGateway::Stage": "the same",
    "AWS::ApiGateway::DomainName": "the same",
    "AWS::ApiGateway::BasePathMapping": "the same",
    "AWS::ApiGateway::Account": "the same",
    "AWS::WAFv2::WebACLAssociation": "it is with a stage of API Gateway",
    "AWS::Route53::RecordSet": "its target is an attribute of API Gateway's domain",
    "AWS::Logs::QueryDefinition": "moto has none; tests/unit/infra/test_queries.py runs each over the code's own lines",
}
"""Kinds of resources that aren't made here, with the reason. Linters and the other tests here read them."""

_PARAMETERS: Final = {
    "AlarmEmail": "oncall@example.com",
    "AzureClientId": CLIENT,
    "Waf": "on",
    "ReservedConcurrency": "10",
    "DomainName": "ai.example.com",
    "DomainCertificateArn": f"arn:aws:acm:{REGION}:{ACCOUNT}:certificate/c",
    "DomainHostedZoneId": "Z1",
    "DatabaseIamAuth": "true",
    "DatabaseAppIam": "false",
    "DatabaseConnectArn": f"arn:aws:rds-db:{REGION}:{ACCOUNT}:dbuser:db-ABC/fusewire_app",
    "DatabasePort": "5432",
    "KmsKeyArn": f"arn:aws:kms:{REGION}:{ACCOUNT}:key/k",
    **{
        name: f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{name}"
        for name in ("DatabaseOwnerSecretArn", "DatabaseAppSecretArn", "AdminApiKeySecretArn", "ProviderKeysSecretArn")
    },
}


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    address = f"http://127.0.0.1:{server.get_host_and_port()[1]}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOTO_IAM_LOAD_MANAGED_POLICIES", "true")
        for path, body in (("config", {"lambda": {"use_docker": False}}), ("reset", {})):
            httpx.post(f"{address}/moto-api/{path}", json=body, timeout=PATIENCE_SECONDS).raise_for_status()
        yield address
    server.stop()


@pytest.fixture(scope="module")
def maker(moto: str) -> Maker:
    """All that can be made, in an order in which each finds what it refers to."""
    template = transformed(TEMPLATE)
    stack = Stack(template, _PARAMETERS)
    maker = Maker(moto, stack)
    ec2 = maker.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.42.0.0/16")["Vpc"]["VpcId"]
    group = ec2.create_security_group(GroupName="g", Description="d", VpcId=vpc)["GroupId"]
    for name in ("LambdaSecurityGroupId", "MigrateSecurityGroupId"):
        stack.physical[name] = group
    for number in (1, 2):
        subnet = ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.42.{number}.0/24")["Subnet"]["SubnetId"]
        stack.physical[f"PrivateSubnetId{number}"] = subnet
    left = {name: each for name, each in stack.resources().items() if each["Type"] not in GAPS}
    needs = {name: {*references(each.get("Properties", {}))} & left.keys() for name, each in left.items()}
    while left:
        ready = [name for name in left if not needs[name] & left.keys()]
        assert ready, f"{sorted(left)} refer to each other in a circle"
        for name in ready:
            maker.make(name, left.pop(name)["Type"])
    return maker


def test_whatever_is_no_gap_is_made(maker: Maker) -> None:
    template = transformed(TEMPLATE)
    wanted = Counter(each["Type"] for each in template["Resources"].values())
    assert Counter(maker.made.values()) == {kind: count for kind, count in wanted.items() if kind not in GAPS}
    assert wanted.keys() >= GAPS.keys(), "a gap that the template has no use for"


def test_the_functions_are_as_the_template_says(maker: Maker) -> None:
    functions = {name for name, kind in maker.made.items() if kind == "AWS::Lambda::Function"}
    client = maker.client("lambda")
    assert {each["FunctionName"] for each in client.list_functions()["Functions"]} == functions
    for name in functions:
        made = client.get_function_configuration(FunctionName=name)
        assert (made["Runtime"], made["Architectures"], made["Handler"]) == ("python3.13", ["arm64"], "app.handler")
        assert len(made["VpcConfig"]["SubnetIds"]) == 2
        assert client.get_alias(FunctionName=name, Name="live")["FunctionVersion"] == "1"
    complete = client.get_function_configuration(FunctionName="CompleteFunction")
    assert complete["Environment"]["Variables"]["AZURE_CLIENT_ID"] == CLIENT
    variables = complete["Environment"]["Variables"].items()
    assert sum(len(name) + len(value) for name, value in variables) < 4096, "Lambda takes 4 KB of variables"


def test_the_roles_hold_their_policies(maker: Maker) -> None:
    client = maker.client("iam")
    attached = client.list_attached_role_policies(RoleName="CompleteFunctionRole")["AttachedPolicies"]
    assert {"UsesLedger", "UsesProviders", "UsesProviderKeys"} <= {each["PolicyName"] for each in attached}


def test_the_alarms_have_somewhere_to_go(maker: Maker) -> None:
    alarms = maker.client("cloudwatch").describe_alarms()["MetricAlarms"]
    topics = {each["TopicArn"] for each in maker.client("sns").list_topics()["Topics"]}
    assert alarms
    for alarm in alarms:
        assert topics >= set(alarm["AlarmActions"]), alarm["AlarmName"]


def test_the_gaps_are_still_gaps(maker: Maker) -> None:
    assert find_spec("openapi_spec_validator") is None, "API Gateway can be made now"
    with pytest.raises(ClientError):
        maker.client("logs").put_query_definition(name="n", queryString="fields @message")


@pytest.mark.parametrize(
    ("properties", "why"),
    [
        ({"AlarmNames": "a"}, "has no AlarmNames"),
        ({"ComparisonOperator": "GreaterThan"}, "none of its words"),
    ],
)
def test_a_property_that_an_api_does_not_know_is_told(maker: Maker, properties: dict[str, Any], why: str) -> None:
    model = maker.client("cloudwatch").meta.service_model
    with pytest.raises(AssertionError, match=why):
        cast(model.operation_model("PutMetricAlarm").input_shape, properties)
