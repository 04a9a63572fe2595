"""How each kind of the template's resources is made through AWS's own APIs, as CloudFormation would.

Properties are cast to the API's types by botocore's models: a property that an API doesn't know is an error here.
"""

import json
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from io import BytesIO
from typing import Any, Final

import boto3  # type: ignore[import-untyped]
from botocore.model import ListShape, MapShape, StructureShape  # type: ignore[import-untyped]

from tests.integration.infra.stack import REGION, Stack

_LIVE: Final = "live"


class Maker:
    """Makes a stack's resources at one endpoint, and tells the stack their names and attributes."""

    def __init__(self, endpoint: str, stack: Stack) -> None:
        self._endpoint = endpoint
        self._stack = stack
        self._clients: dict[str, Any] = {}
        self.made: dict[str, str] = {}
        """The type of each, by its logical id."""

    def client(self, name: str) -> Any:  # noqa: ANN401 - boto3 has no types
        if name not in self._clients:
            self._clients[name] = boto3.client(
                name,
                endpoint_url=self._endpoint,
                region_name=REGION,
                aws_access_key_id="x",
                aws_secret_access_key="x",  # noqa: S106 - moto asks for some
            )
        return self._clients[name]

    def make(self, name: str, kind: str) -> None:
        """:raises KeyError: for a kind that isn't known here"""
        self.kinds[kind](name, self._stack.properties(name))
        self.made[name] = kind

    def _call(self, service: str, operation: str, properties: Mapping[str, Any]) -> dict[str, Any]:
        client = self.client(service)
        shape = client.meta.service_model.operation_model(client.meta.method_to_api_mapping[operation]).input_shape
        result: dict[str, Any] = getattr(client, operation)(**cast(shape, properties))
        return result

    def _named(self, name: str, physical: str, **attributes: str) -> None:
        self._stack.physical[name] = physical
        self._stack.attributes |= {(name, attribute): value for attribute, value in attributes.items()}

    @cached_property
    def kinds(self) -> dict[str, Callable[[str, dict[str, Any]], None]]:
        """What is made here, by CloudFormation's name for it."""
        return {
            "AWS::Logs::LogGroup": self._log_group,
            "AWS::IAM::ManagedPolicy": self._policy,
            "AWS::IAM::Role": self._role,
            "AWS::SQS::Queue": self._queue,
            "AWS::KMS::Key": self._key,
            "AWS::SNS::Topic": self._topic,
            "AWS::SNS::TopicPolicy": self._topic_policy,
            "AWS::SNS::Subscription": lambda _, given: self._done("sns", "subscribe", given),
            "AWS::Lambda::LayerVersion": self._layer,
            "AWS::Lambda::Function": self._function,
            "AWS::Lambda::Version": self._version,
            "AWS::Lambda::Alias": self._alias,
            "AWS::Lambda::Permission": self._permission,
            "AWS::Lambda::EventInvokeConfig": self._event_invoke_config,
            "AWS::CloudWatch::Alarm": self._alarm,
            "AWS::CloudWatch::Dashboard": lambda _, given: self._done("cloudwatch", "put_dashboard", given),
            "AWS::Scheduler::Schedule": self._schedule,
            "AWS::WAFv2::WebACL": self._web_acl,
            "AWS::CodeDeploy::Application": self._application,
            "AWS::CodeDeploy::DeploymentGroup": self._deployment_group,
        }

    def _done(self, service: str, operation: str, properties: Mapping[str, Any]) -> None:
        self._call(service, operation, properties)

    # --- each ---

    def _log_group(self, name: str, given: dict[str, Any]) -> None:
        self._call("logs", "create_log_group", {"logGroupName": name})
        self._call(
            "logs", "put_retention_policy", {"logGroupName": name, "retentionInDays": given.pop("RetentionInDays")}
        )
        assert not given
        self._named(name, name)

    def _policy(self, name: str, given: dict[str, Any]) -> None:
        document = json.dumps(given.pop("PolicyDocument"))
        made = self._call("iam", "create_policy", {"PolicyName": name, "PolicyDocument": document, **given})
        self._named(name, made["Policy"]["Arn"])

    def _role(self, name: str, given: dict[str, Any]) -> None:
        policies, inline = given.pop("ManagedPolicyArns", []), given.pop("Policies", [])
        trust = json.dumps(given.pop("AssumeRolePolicyDocument"))
        role = self._call("iam", "create_role", {"RoleName": name, "AssumeRolePolicyDocument": trust, **given})["Role"]
        for arn in policies:
            self._call("iam", "attach_role_policy", {"RoleName": name, "PolicyArn": arn})
        for each in inline:
            document = json.dumps({"Version": "2012-10-17"} | each["PolicyDocument"])
            named = {"RoleName": name, "PolicyName": each["PolicyName"]}
            self._call("iam", "put_role_policy", {**named, "PolicyDocument": document})
        self._named(name, name, Arn=role["Arn"])

    def _queue(self, name: str, given: dict[str, Any]) -> None:
        attributes = {key: str(value).lower() for key, value in given.items()}
        url = self._call("sqs", "create_queue", {"QueueName": name, "Attributes": attributes})["QueueUrl"]
        arn = self._call("sqs", "get_queue_attributes", {"QueueUrl": url, "AttributeNames": ["QueueArn"]})
        self._named(name, url, Arn=arn["Attributes"]["QueueArn"], QueueName=name)

    def _key(self, name: str, given: dict[str, Any]) -> None:
        rotates, policy = given.pop("EnableKeyRotation"), json.dumps(given.pop("KeyPolicy"))
        key = self._call("kms", "create_key", {"Policy": policy, **given})["KeyMetadata"]
        assert rotates
        self._call("kms", "enable_key_rotation", {"KeyId": key["KeyId"]})
        self._named(name, key["KeyId"], Arn=key["Arn"])

    def _topic(self, name: str, given: dict[str, Any]) -> None:
        made = self._call("sns", "create_topic", {"Name": name, "Attributes": given})
        self._named(name, made["TopicArn"], TopicName=name)

    def _topic_policy(self, name: str, given: dict[str, Any]) -> None:
        policy = json.dumps(given["PolicyDocument"])
        for topic in given["Topics"]:
            attribute = {"AttributeName": "Policy", "AttributeValue": policy}
            self._call("sns", "set_topic_attributes", {"TopicArn": topic, **attribute})

    def _layer(self, name: str, given: dict[str, Any]) -> None:
        made = self._call("lambda", "publish_layer_version", given | {"Content": {"ZipFile": _packed()}})
        self._named(name, made["LayerVersionArn"])

    def _function(self, name: str, given: dict[str, Any]) -> None:
        tags = {each["Key"]: each["Value"] for each in given.pop("Tags", [])}
        kept = given.pop("ReservedConcurrentExecutions", None)
        code = {"ZipFile": _packed()}
        made = self._call("lambda", "create_function", given | {"FunctionName": name, "Tags": tags, "Code": code})
        if kept is not None:
            concurrency = {"FunctionName": name, "ReservedConcurrentExecutions": kept}
            self._call("lambda", "put_function_concurrency", concurrency)
        self._named(name, name, Arn=made["FunctionArn"])

    def _version(self, name: str, given: dict[str, Any]) -> None:
        made = self._call("lambda", "publish_version", given)
        self._named(name, made["FunctionArn"], Version=made["Version"])

    def _alias(self, name: str, given: dict[str, Any]) -> None:
        assert given["Name"] == _LIVE
        self._named(name, self._call("lambda", "create_alias", given)["AliasArn"])

    def _permission(self, name: str, given: dict[str, Any]) -> None:
        function, _, qualifier = given.pop("FunctionName").partition(f":{_LIVE}")
        more = {"Qualifier": _LIVE} if qualifier or function != function.rpartition(":")[2] else {}
        self._call("lambda", "add_permission", {"FunctionName": function, "StatementId": name, **more, **given})

    def _event_invoke_config(self, name: str, given: dict[str, Any]) -> None:
        self._call("lambda", "put_function_event_invoke_config", given)

    def _alarm(self, name: str, given: dict[str, Any]) -> None:
        self._call("cloudwatch", "put_metric_alarm", given)
        self._named(
            name, given["AlarmName"], Arn=f"arn:aws:cloudwatch:{REGION}:123456789012:alarm:{given['AlarmName']}"
        )

    def _schedule(self, name: str, given: dict[str, Any]) -> None:
        self._call("scheduler", "create_schedule", given)
        self._named(name, given["Name"])

    def _web_acl(self, name: str, given: dict[str, Any]) -> None:
        made = self._call("wafv2", "create_web_acl", {"Name": name, **given})["Summary"]
        self._named(name, made["Id"], Arn=made["ARN"])

    def _application(self, name: str, given: dict[str, Any]) -> None:
        lower = {key[0].lower() + key[1:]: value for key, value in given.items()}
        self._call("codedeploy", "create_application", {"applicationName": name, **lower})
        self._named(name, name)

    def _deployment_group(self, name: str, given: dict[str, Any]) -> None:
        self._call("codedeploy", "create_deployment_group", {"deploymentGroupName": name, **_lower(given)})
        self._named(name, name)


def cast(shape: Any, value: Any) -> Any:  # noqa: ANN401 - botocore has no types
    """A value of CloudFormation's as the API takes it.

    :raises AssertionError: for a property that the API doesn't know, or a value that is none of its words
    """
    if isinstance(shape, StructureShape):
        unknown = value.keys() - shape.members.keys()
        assert not unknown, f"{shape.name} has no {', '.join(unknown)}"
        return {name: cast(shape.members[name], each) for name, each in value.items()}
    if isinstance(shape, ListShape):
        return [cast(shape.member, each) for each in value]
    if isinstance(shape, MapShape):
        return {name: cast(shape.value, each) for name, each in value.items()}
    if shape.type_name in ("integer", "long"):
        return int(value)
    if shape.type_name in ("double", "float"):
        return float(value)
    if shape.type_name == "string":
        text = str(value).lower() if isinstance(value, bool) else str(value)
        words = getattr(shape, "enum", None)
        assert not words or text in words, f"{shape.name} is none of its words: {text}"
        return text
    return value


def references(value: Any) -> Iterator[str]:  # noqa: ANN401 - JSON
    """The names that a resource's properties refer to."""
    if isinstance(value, list):
        for each in value:
            yield from references(each)
    elif isinstance(value, dict):
        for name, each in value.items():
            if name == "Ref":
                yield each
            elif name == "Fn::GetAtt":
                yield each[0]
            elif name == "Fn::Sub":
                yield from re.findall(r"\$\{(\w+)", each[0] if isinstance(each, list) else each)
                yield from references(each[1:] if isinstance(each, list) else [])
            else:
                yield from references(each)


def _lower(value: Any) -> Any:  # noqa: ANN401 - JSON
    """CodeDeploy's API begins its names with small letters."""
    if isinstance(value, list):
        return [_lower(each) for each in value]
    if isinstance(value, dict):
        return {name[0].lower() + name[1:]: _lower(each) for name, each in value.items()}
    return value


def _packed() -> bytes:
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("app.py", "")
    return packed.getvalue()
