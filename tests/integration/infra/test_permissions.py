"""What each function may do on AWS is what it does: its handler runs with the template's variables, botocore's events
tell what it asked for, and the policies of its role decide. What they allow beyond that is explained, one by one.
"""

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import boto3  # type: ignore[import-untyped]
import pytest
from moto.server import ThreadedMotoServer
from psycopg.conninfo import conninfo_to_dict

from fusewire.ai.registry import Registry
from fusewire.config import load_settings
from tests.conftest import as_app_role
from tests.integration.functions.conftest import Context, Functions, sample
from tests.integration.functions.test_handlers import function_of
from tests.integration.infra.iam import Asked, allowing, listed
from tests.integration.infra.sam import PROJECT, TEMPLATE, transformed
from tests.integration.infra.stack import ACCOUNT, REGION, Stack
from tests.support.aws_calls import AwsCall, recorded_aws_calls
from tests.support.bedrock_vendor import running_bedrock
from tests.support.clouds import CLIENT, POOL, TENANT, lambda_credentials, running_clouds
from tests.support.postgres_proxy import postgres_proxy
from tests.support.upstream import Upstream

FUNCTIONS: Final = sorted(file.parent.name for file in (PROJECT / "functions").glob("*/app.py"))
CLAUDE, TITAN, PROFILE = (
    "anthropic.claude-sonnet-4-5-20250929-v1:0",
    "amazon.titan-embed-text-v2:0",
    "eu.amazon.nova-pro-v1:0",
)
PRICED: Final = ("azure/*", "gcp/*", f"aws/{TITAN}")
ADMIN: Final = "k" * 48
CONNECT: Final = f"arn:aws:rds-db:{REGION}:{ACCOUNT}:dbuser:db-ABC/fusewire_app"
_TERRAFORM: Final = {"LambdaSecurityGroupId": "sg-1", "DatabaseConnectArn": CONNECT, "DatabaseHost": "d.invalid",
                     "DatabasePort": "5432", "DatabaseName": "fusewire", "DatabaseUser": "fusewire_app",
                     "DatabaseIamAuth": "false", "DatabaseAppIam": "false"}  # fmt: skip
_BEDROCK: Final = {
    "Converse": "bedrock:InvokeModel",
    "ConverseStream": "bedrock:InvokeModelWithResponseStream",
    "InvokeModel": "bedrock:InvokeModel",
    "CountTokens": "bedrock:CountTokens",
}
"""What IAM calls the operations: AWS, "Actions, resources, and condition keys for Amazon Bedrock"."""

EXPLAINED: Final = {
    ("embed", "bedrock:InvokeModelWithResponseStream"): "vectors don't stream; the policy is shared with complete",
    ("embed", "bedrock:CountTokens"): "the policy is shared with complete",
    ("admin_providers", "bedrock:InvokeModelWithResponseStream"): "a probe doesn't stream; the policy is shared",
    ("admin_providers", "bedrock:CountTokens"): "a probe counts nothing; the policy is shared",
    ("monthly_reset", "sqs:SendMessage"): "Lambda itself sends what failed to the queue, by the function's role",
}
"""(function, action) that a role allows and the function never asks for, with the reason."""

MANAGED: Final = {
    "AWSLambdaBasicExecutionRole": "Lambda writes the log",
    "AWSLambdaVPCAccessExecutionRole": "Lambda makes the network interfaces",
    "AWSXrayWriteOnlyAccess": "Lambda's daemon sends traces; SAM attaches it wherever `Tracing` stands",
}
"""AWS's own policies, which serve Lambda and not the code, by name."""

OTHER_ROLES: Final = {
    "ApiAccountRole": "API Gateway writes access logs",
    "CodeDeployServiceRole": "CodeDeploy moves the aliases and reads the alarms",
    "ScheduleRole": "EventBridge Scheduler calls monthly_reset, and sends what can't be delivered to the queue",
}
"""Roles of the template that no function has."""

_ROLES_OF_THE_STAGE: Final = {
    f"iam:{name}"
    for name in (
        "AttachRolePolicy", "CreatePolicy", "CreatePolicyVersion", "CreateRole", "DeletePolicy", "DeletePolicyVersion",
        "DeleteRole", "DeleteRolePolicy", "DetachRolePolicy", "PassRole", "PutRolePolicy", "TagPolicy", "TagRole",
        "UntagPolicy", "UntagRole", "UpdateAssumeRolePolicy", "UpdateRole", "UpdateRoleDescription",
    )
}  # fmt: skip

TERRAFORM: Final = {
    "backup.tf": {"sts:AssumeRole": "AWS Backup takes its role, for this account alone"},
    "console.tf": {
        "s3:GetObject": "CloudFront reads the console's files",
        "s3:ListBucket": "a file that isn't there is then a 404",
    },
    "github.tf": {
        **dict.fromkeys(_ROLES_OF_THE_STAGE, "a deployment makes, changes and removes the stage's own roles"),
        "iam:Get*": "a plan reads roles and policies",
        "iam:List*": "the same",
        "iam:CreateServiceLinkedRole": "the first of a kind of resource in an account makes one",
        "sts:AssumeRoleWithWebIdentity": "GitHub's token is exchanged",
    },
    "key.tf": {"kms:*": "a key's own policy: the account's administrators decide by IAM who uses it"},
    "proxy.tf": {
        "sts:AssumeRole": "RDS Proxy takes its role",
        "secretsmanager:GetSecretValue": "RDS Proxy logs in with the functions' password",
        "secretsmanager:DescribeSecret": "RDS Proxy follows its rotation",
        "kms:Decrypt": "the secret is under the stack's key",
    },
}
"""What Terraform's policies allow: none is a function's. By file."""


class Account:
    """Secrets that moto keeps, and the stack whose parameters name them."""

    def __init__(self, endpoint: str, database_url: str, **parameters: str) -> None:
        secrets = boto3.client(
            "secretsmanager",
            endpoint_url=endpoint,
            region_name=REGION,
            aws_access_key_id="x",
            aws_secret_access_key="x",  # noqa: S106 - moto asks for some
        )
        user = conninfo_to_dict(database_url).get("user", "postgres")
        login = owner = json.dumps({"username": user, "password": "p"})
        held = {
            "DatabaseAppSecretArn": login,
            "DatabaseOwnerSecretArn": owner,
            "AdminApiKeySecretArn": json.dumps({"ADMIN_API_KEY": ADMIN}),
            "ProviderKeysSecretArn": json.dumps({"AI_RESPONSES_KEY": "r" * 48}),
        }
        number = len(secrets.list_secrets()["SecretList"])
        arns = {
            name: secrets.create_secret(Name=f"{name}-{number}", SecretString=text)["ARN"]
            for name, text in held.items()
        }
        self.template = transformed(TEMPLATE)
        self.stack = Stack(self.template, {**_TERRAFORM, **arns, "KmsKeyArn": "arn:aws:kms:k", **parameters})
        self._database_url = database_url

    def variables(self, function: str) -> dict[str, str]:
        """As Lambda has them; the database is where the tests have theirs."""
        given = self.stack.properties(_logical(function))["Environment"]["Variables"]
        assert "sslmode=verify-full" in given["DATABASE_URL"]
        return {name: str(value) for name, value in given.items()} | {"DATABASE_URL": self._database_url}

    def statements(self, function: str) -> list[Mapping[str, Any]]:
        """What the function's role may do, but for AWS's own policies."""
        role = self.stack.properties(f"{_logical(function)}Role")
        documents = [each["PolicyDocument"] for each in role.get("Policies", ())]
        for arn in role["ManagedPolicyArns"]:
            if not arn.startswith("arn:aws:iam::aws:policy/"):
                documents.append(self.stack.properties(arn)["PolicyDocument"])
        return [statement for document in documents for statement in document["Statement"]]


def _logical(function: str) -> str:
    return "".join(map(str.capitalize, function.split("_"))) + "Function"


def asked(call: AwsCall) -> list[Asked]:
    """What IAM is asked for a call: most often one thing."""
    match call.signing_name, call.operation:
        case "secretsmanager", "GetSecretValue":
            via = {"kms:ViaService": f"secretsmanager.{REGION}.amazonaws.com"}
            secret = Asked("secretsmanager:GetSecretValue", call.parameters["SecretId"])
            return [secret, Asked("kms:Decrypt", "arn:aws:kms:k", via)]  # it decrypts on the caller's behalf
        case "rds-db", "connect":
            return [Asked("rds-db:connect", CONNECT)]
        case "sts", "GetWebIdentityToken":
            parameters = call.parameters
            context = {
                "sts:IdentityTokenAudience": parameters["Audience"],
                "sts:SigningAlgorithm": parameters["SigningAlgorithm"],
                "sts:DurationSeconds": str(parameters["DurationSeconds"]),
            }
            return [Asked("sts:GetWebIdentityToken", "*", context)]
        case "bedrock", operation:
            return [Asked(_BEDROCK[operation], _model_arn(call.parameters["modelId"]))]
    raise AssertionError(f"nobody has said what IAM calls {call.signing_name}:{call.operation}")


def _model_arn(model: str) -> str:
    if re.match("eu|us|global", model):
        return f"arn:aws:bedrock:{REGION}:{ACCOUNT}:inference-profile/{model}"
    return f"arn:aws:bedrock:{REGION}::foundation-model/{model}"


# --- running them ------------------------------------------------------------------------------------------------


def chat(model: str, **fields: object) -> dict[str, Any]:
    messages = [{"role": "user", "content": "Hello"}]
    return sample("complete", {"model": model, "max_tokens": 8, "messages": messages, **fields})


def events(function: str) -> list[dict[str, Any]]:
    """The function's samples, and of those that call vendors each way to call one."""
    if function == "complete":
        counted = sample("complete_messages_count_tokens")
        body = json.loads(counted["body"]) | {"model": f"aws/{CLAUDE}"}
        pinned = [chat(f"{name}/{model}") for name, model in (("aws", CLAUDE), ("azure", "d"), ("gcp", "gemini"))]
        return [*pinned, chat(f"aws/{PROFILE}", stream=True), counted | {"body": json.dumps(body)}]
    if function == "embed":
        return [
            sample("embed", {"model": f"aws/{TITAN}", "input": "Hello"}),
            sample("embed", {"model": "azure/d", "input": "Hello"}),
        ]
    if function == "authorizer":
        event = sample("authorizer")
        return [event | {"headers": event["headers"] | {"Authorization": f"Bearer {ADMIN}"}}]
    names = sorted(file.stem for file in (PROJECT / "events").glob("*.json"))
    return [sample(name) for name in names if function_of(name) == function]


@pytest.fixture(scope="module")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield f"http://127.0.0.1:{server.get_host_and_port()[1]}"
    server.stop()


Run = Callable[[str, str], tuple[list[AwsCall], list[Mapping[str, Any]]]]
"""Of a function, and whether it logs in with IAM tokens: its calls, and what its role may do."""


@pytest.fixture
def run(
    moto: str, database_url: str, upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Run]:
    made: list[Functions] = []
    with (
        running_clouds(tmp_path, monkeypatch) as clouds,
        running_bedrock() as bedrock,
        postgres_proxy(database_url) as postgres,
    ):
        reached = postgres.url(user=str(conninfo_to_dict(database_url).get("user", "postgres")))
        monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", moto)
        monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)

        def ran(function: str, iam_auth: str) -> tuple[list[AwsCall], list[Mapping[str, Any]]]:
            lambda_credentials(monkeypatch, clouds, snapstart=iam_auth == "true")  # each way once
            account = Account(
                moto,
                reached if function == "migrate" else as_app_role(reached),
                DatabaseIamAuth=iam_auth,
                AiMode="cloud",
                AiPriceOverrides=json.dumps({name: {"input_mtok": 1, "output_mtok": 1} for name in PRICED}),
                AiFallbackChain="aws,azure,gcp",
                BedrockSotaModel=CLAUDE,
                BedrockEmbeddingModel=TITAN,
                BedrockEndpointUrl=bedrock.url,
                AzureAiEndpoint=upstream.url.removesuffix("/v1"),
                AzureSotaDeployment="d",
                AzureEmbeddingDeployment="d",
                AzureTenantId=TENANT,
                AzureClientId=CLIENT,
                GcpProjectId="p",
                GcpLocation="eu",
                GcpSotaModel="gemini",
                GcpBaseUrl=upstream.url.removesuffix("/v1"),
                GcpWorkloadIdentityProvider=POOL,
            )
            kept = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
            functions = Functions(monkeypatch, kept | account.variables(function) | {"AUTH_MODE": "open"})
            made.append(functions)
            functions.forget()
            with recorded_aws_calls() as calls:
                answers = [functions.load(function).handler(event, Context()) for event in events(function)]
            if function in ("complete", "embed"):
                assert [answer["statusCode"] for answer in answers] == [200] * len(answers), answers
            return calls, account.statements(function)

        yield ran
        for functions in made:
            functions.forget()


# --- the decisions -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_may_do_what_it_does_and_what_it_may_do_besides_is_explained(function: str, run: Run) -> None:
    used: list[Mapping[str, Any]] = []
    used_actions: set[str] = set()
    statements: list[Mapping[str, Any]] = []
    for iam_auth in ("false", "true") if function in ("complete", "migrate") else ("false",):
        calls, statements = run(function, iam_auth)
        for each in (each for call in calls for each in asked(call)):
            found = allowing(statements, each)
            assert found, f"{function} asked for {each}, which its role doesn't allow"
            used_actions.add(each.action)
            used += [statement["Action"] for statement in found]
    allowed = {action for statement in statements for action in listed(statement["Action"])}
    if function != "complete":  # where both ways to log in were tried
        used_actions |= {"rds-db:connect"} & allowed
    unused = {(function, action) for action in allowed - used_actions}
    assert unused == {pair for pair in EXPLAINED if pair[0] == function}


def test_what_is_asked_for_elsewhere_is_not_allowed(moto: str, database_url: str) -> None:
    """The decision can say no: another audience, a longer token, another secret, another model."""
    lambda_ = Account(
        moto, database_url, AzureClientId=CLIENT, BedrockResources="arn:aws:bedrock:*::foundation-model/a*"
    )
    complete, models = lambda_.statements("complete"), lambda_.statements("models")

    def token(**more: Any) -> Asked:  # noqa: ANN401
        usual = {"Audience": ["api://AzureADTokenExchange"], "SigningAlgorithm": "RS256", "DurationSeconds": 300}
        return asked(AwsCall("sts", "GetWebIdentityToken", usual | more))[0]

    assert allowing(complete, token())
    for no in (
        token(Audience=["https://example.com"]),
        token(Audience=["api://AzureADTokenExchange", "https://example.com"]),
        token(SigningAlgorithm="ES384"),
        token(DurationSeconds=3600),
        Asked("sts:GetWebIdentityToken", "*"),
        Asked("bedrock:InvokeModel", _model_arn("other")),
        Asked("bedrock:InvokeModel", _model_arn(PROFILE)),
        Asked("secretsmanager:GetSecretValue", "arn:aws:secretsmanager:another"),
        Asked("kms:Decrypt", "arn:aws:kms:k"),
    ):
        assert not allowing(complete, no), no
    assert not allowing(models, token())
    without = Account(moto, database_url)
    assert not allowing(without.statements("complete"), token()), "who doesn't use Entra gives no such tokens"


def test_whatever_else_the_template_allows_is_explained() -> None:
    roles = {
        name: each["Properties"]
        for name, each in transformed(TEMPLATE)["Resources"].items()
        if each["Type"] == "AWS::IAM::Role"
    }
    functions = {f"{_logical(name)}Role" for name in FUNCTIONS}
    assert roles.keys() - functions == OTHER_ROLES.keys()
    attached = {
        arn.rpartition("/")[2]
        for name in functions
        for arn in roles[name]["ManagedPolicyArns"]
        if isinstance(arn, str) and arn.startswith("arn:")
    }
    assert attached == MANAGED.keys()


@pytest.mark.parametrize("file", sorted((PROJECT / "infra/terraform/modules/aws").glob("*.tf")), ids=lambda f: f.name)
def test_whatever_terraform_allows_is_explained(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    lists = re.findall(r"\b(?:actions|Action)\s*=\s*(\[[^\]]*\]|\"[^\"]+\")", text)
    allowed = {action for each in lists for action in re.findall(r'"([a-z0-9-]+:[\w*]+)"', each)}
    assert allowed == TERRAFORM.get(file.name, {}).keys()


def test_every_parameter_of_a_vendor_together_makes_it_usable_on_lambda(moto: str, database_url: str) -> None:
    """Of each vendor without a key, the template's parameters are all that it needs."""
    account = Account(
        moto,
        database_url,
        AzureAiEndpoint="https://r.openai.azure.com",
        AzureSotaDeployment="d",
        AzureTenantId=TENANT,
        AzureClientId=CLIENT,
        GcpProjectId="p",
        GcpLocation="eu",
        GcpSotaModel="gemini",
        GcpWorkloadIdentityProvider=POOL,
        BedrockSotaModel=CLAUDE,
    )
    lambdas = {"AWS_EXECUTION_ENV": "AWS_Lambda_python3.13", "AWS_REGION": REGION}
    registry = Registry(load_settings(account.variables("complete") | lambdas))
    assert {name: registry.get(name).missing() for name in ("aws", "azure", "gcp")} == dict.fromkeys(
        ("aws", "azure", "gcp"), ()
    )
