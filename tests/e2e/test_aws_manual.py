"""A tired engineer follows the operations manual on AWS: every command that an account is needed for, in its order.

The AWS CLI and boto3 talk to moto, a stand-in for AWS, and `curl` to a gateway of `make run` that asks for keys: the
stack's output names it. `make deploy` and `make destroy` run as they are over a `terraform`, a `sam` and a `git` that
only write down what they were told, and over a build of the console that only writes files.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from threading import Thread
from typing import Any, Final
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import boto3  # type: ignore[import-untyped]
import pytest
import yaml
from moto.server import ThreadedMotoServer
from psycopg.conninfo import conninfo_to_dict

from scripts.deploy.settings import parameters_of
from tests.support.aws_cli import aws_cli
from tests.support.distribution import make_distribution
from tests.support.documents import OPERATIONS, PROJECT, Block, assert_shown, blocks, code, table
from tests.support.gateway import running_gateway
from tests.support.patience import PATIENCE_SECONDS
from tests.support.upstream import running_upstream

_ACCOUNT: Final = "an AWS account"
_BILLED: Final = "an AWS account that is billed"
_BLOCKS: Final = [block for block in blocks(OPERATIONS[0]) if block.needs in (_ACCOUNT, _BILLED)]
# The terminal, which the manual's other sections refer to, comes first; then all of them as they stand.
_FIRST: Final = next(place for place, block in enumerate(_BLOCKS) if "parameter()" in block.text)
FOLLOWED: Final = [*_BLOCKS[_FIRST:], *_BLOCKS[:_FIRST]]
ADMIN: Final = "sentinel-admin-key-of-forty-eight-characters-000"
OWNERS: Final = "a\\b'c$d e"
"""What RDS may make of a password is whatever can be printed."""
_WRITES_DOWN: Final = """#!/bin/sh
echo "$(basename "$0")" "$@" >> {log}
"""
CONSOLE: Final = "https://d111111abcdef8.cloudfront.net"
FILES: Final = {
    "index.html": "<!doctype html>コンソール",
    "404.html": "<!doctype html>",
    "icon.svg": "<svg/>",
    "assets/index-abc.css": "a{}",
    "assets/index-abc.js": "run()\r\n",
}
"""What the console's build writes."""
_BUILDS: Final = """#!{python}
import json, os, sys
sys.path.insert(0, os.getcwd())
from pathlib import Path
from local.console_build import fingerprint
assert sys.argv[1:4] == ["-m", "local.console_build", "--out"], sys.argv
files = json.loads({files!r}) | {{"made-of.txt": fingerprint(os.environ["NEXT_PUBLIC_API_URL"])}}
for name, text in files.items():
    (Path(sys.argv[4]) / name).parent.mkdir(parents=True, exist_ok=True)
    (Path(sys.argv[4]) / name).write_bytes(text.encode())
"""
COMPLETE: Final = "fusewire-prod-CompleteFunction-abc"
WRITTEN: Final = {
    name
    for row in table(PROJECT / "infra/terraform/README.md", 2, under="what-terraform-tells-the-template")
    for name in code(row[0])
}
"""What Terraform writes into SSM."""
_ARN: Final = f"arn:aws:lambda:eu-central-1:123456789012:function:{COMPLETE}"
_LISTED: Final = "".join(
    f"<member><ResourceType>{kind}</ResourceType><ResourceStatus>CREATE_COMPLETE</ResourceStatus>"
    f"<PhysicalResourceId>{name}</PhysicalResourceId></member>"
    for kind, name in (
        ("AWS::Lambda::Alias", f"{_ARN}:live"),
        ("AWS::Lambda::Version", f"{_ARN}:2"),
        ("AWS::Logs::LogGroup", "fusewire-prod-FunctionLogs"),
    )
)
_TRUST: Final = {"Statement": [{"Effect": "Allow", "Principal": {"Service": "lambda"}, "Action": "sts:AssumeRole"}]}


class Account:
    """What Terraform and SAM leave behind, as far as the manual's commands ask for it."""

    def __init__(self, endpoint: str, base_url: str) -> None:
        self._endpoint = endpoint
        self._make_database()
        secrets = self._client("secretsmanager")
        app = json.dumps({"username": "fusewire_app", "password": "before"})
        arns = {
            "provider_keys_secret_arn": secrets.create_secret(Name="keys")["ARN"],  # nobody has filled it
            "admin_api_key_secret_arn": secrets.create_secret(
                Name="admin", SecretString=json.dumps({"ADMIN_API_KEY": ADMIN})
            )["ARN"],
            "database_app_secret_arn": secrets.create_secret(Name="app", SecretString=app)["ARN"],
            "database_owner_secret_arn": secrets.create_secret(Name="owner")["ARN"],  # of a database elsewhere
            "database_user": "fusewire_app",
            "console_origin": CONSOLE,
            "console_bucket": "fusewire-prod-console",
            "console_distribution_id": self._make_console(),
        }
        for name, value in (dict.fromkeys(WRITTEN, "x") | arns).items():
            self._client("ssm").put_parameter(Name=f"/fusewire/prod/{name}", Type="String", Value=value)
        self.arns = arns
        topic = self._client("sns").create_topic(Name="alarms")["TopicArn"]
        roles = " ".join(f"arn:aws:iam::123456789012:role/fusewire-prod-{name}" for name in ("a", "b", "c"))
        self.outputs = {
            "BaseUrl": base_url,
            "Migrate": self._migrate(),
            "AlarmTopic": topic,
            "ProviderRoles": roles,
        }
        self._publish_twice()

    def secret(self, name: str) -> dict[str, str]:
        """What a secret holds by now."""
        found = self._client("secretsmanager").get_secret_value(SecretId=self.arns[name])
        body: dict[str, str] = json.loads(found["SecretString"])
        return body

    def instances(self) -> list[str]:
        return [each["DBInstanceIdentifier"] for each in self._client("rds").describe_db_instances()["DBInstances"]]

    def _client(self, name: str) -> Any:  # noqa: ANN401 - boto3 has no types
        return boto3.client(
            name,
            endpoint_url=self._endpoint,
            region_name="eu-central-1",
            aws_access_key_id="x",
            aws_secret_access_key="x",  # noqa: S106 - moto asks for some
        )

    def uploaded(self) -> dict[str, tuple[str, str, str]]:
        """The console's files: what is in each, its type, and how long it is kept."""
        client = self._client("s3")
        keys = [each["Key"] for each in client.list_objects_v2(Bucket="fusewire-prod-console")["Contents"]]
        found = {key: client.get_object(Bucket="fusewire-prod-console", Key=key) for key in keys}
        return {
            key: (each["Body"].read().decode(), each["ContentType"], each["CacheControl"])
            for key, each in found.items()
        }

    def invalidations(self) -> int:
        """How often CloudFront was told to ask for them again."""
        where = self.arns["console_distribution_id"]
        listed = self._client("cloudfront").list_invalidations(DistributionId=where)
        return int(listed["InvalidationList"]["Quantity"])

    def _make_console(self) -> str:
        self._client("s3").create_bucket(
            Bucket="fusewire-prod-console", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
        )
        return make_distribution(self._client("cloudfront"), "fusewire-prod-console")

    def live(self) -> str:
        """The version that callers get."""
        version: str = self._client("lambda").get_alias(FunctionName=COMPLETE, Name="live")["FunctionVersion"]
        return version

    def _publish_twice(self) -> None:
        client = self._client("lambda")
        for number in (1, 2):
            client.update_function_configuration(FunctionName=COMPLETE, Description=str(number))
            client.publish_version(FunctionName=COMPLETE)
        client.create_alias(FunctionName=COMPLETE, Name="live", FunctionVersion="2")

    def _make_database(self) -> None:
        ec2, rds = self._client("ec2"), self._client("rds")
        vpc = ec2.create_vpc(CidrBlock="10.42.0.0/16")["Vpc"]["VpcId"]
        subnets = [
            ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.42.{zone}.0/24")["Subnet"]["SubnetId"] for zone in range(2)
        ]
        group = ec2.create_security_group(GroupName="database", Description="d", VpcId=vpc)["GroupId"]
        rds.create_db_subnet_group(DBSubnetGroupName="fusewire-prod", DBSubnetGroupDescription="d", SubnetIds=subnets)
        rds.create_db_parameter_group(
            DBParameterGroupName="fusewire-prod-postgres17", DBParameterGroupFamily="postgres17", Description="d"
        )
        made = rds.create_db_instance(
            DBInstanceIdentifier="fusewire-prod",
            Engine="postgres",
            DBInstanceClass="db.t4g.small",
            AllocatedStorage=20,
            MasterUsername="fusewire_owner",
            ManageMasterUserPassword=True,
            MultiAZ=True,
            DBSubnetGroupName="fusewire-prod",
            DBParameterGroupName="fusewire-prod-postgres17",
            VpcSecurityGroupIds=[group],
        )
        secret = made["DBInstance"]["MasterUserSecret"]["SecretArn"]
        login = {"username": "fusewire_owner", "password": OWNERS}
        self._client("secretsmanager").put_secret_value(SecretId=secret, SecretString=json.dumps(login))

    def _migrate(self) -> str:
        self._tell("config", {"lambda": {"use_docker": False}})
        self._tell("static/lambda-simple/response", {"results": ['{"applied": []}'] * 9, "region": "eu-central-1"})
        role = self._client("iam").create_role(RoleName="functions", AssumeRolePolicyDocument=json.dumps(_TRUST))
        self._make_function(COMPLETE, role["Role"]["Arn"])
        return self._make_function("migrate", role["Role"]["Arn"])

    def _make_function(self, name: str, role: str) -> str:
        packed = BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr("app.py", "")
        made = self._client("lambda").create_function(
            FunctionName=name,
            Runtime="python3.13",
            Handler="app.handler",
            Role=role,
            Code={"ZipFile": packed.getvalue()},
        )
        return str(made["FunctionArn"])

    def _tell(self, what: str, value: object) -> None:
        asked = Request(f"{self._endpoint}/moto-api/{what}", json.dumps(value).encode(), method="POST")  # noqa: S310
        asked.add_header("Content-Type", "application/json")
        urlopen(asked, timeout=PATIENCE_SECONDS).close()  # noqa: S310 - our own server


class _Aws(BaseHTTPRequestHandler):
    """What moto hasn't: CloudFormation, for which it would need a dozen packages more, Lambda's quota, and an issuer of
    identity tokens."""

    outputs: Mapping[str, str]
    lambdas: str
    """Where moto is, for all else of Lambda."""

    def do_POST(self) -> None:
        body = self._body()
        if self.path.startswith("/20"):
            self._hand_on(body)
        elif "Action=EnableOutboundWebIdentityFederation" in body.decode():
            result = "<IssuerIdentifier>https://7a1f2c3d.tokens.sts.global.api.aws</IssuerIdentifier>"
            name = "EnableOutboundWebIdentityFederation"
            self._answer(f"<{name}Response><{name}Result>{result}</{name}Result></{name}Response>".encode())
        elif "Action=ListStackResources" in body.decode():
            result = f"<StackResourceSummaries>{_LISTED}</StackResourceSummaries>"
            self._answer(f"<R><ListStackResourcesResult>{result}</ListStackResourcesResult></R>".encode())
        else:
            members = "".join(
                f"<member><OutputKey>{key}</OutputKey><OutputValue>{value}</OutputValue></member>"
                for key, value in self.outputs.items()
            )
            stack = (
                f"<member><StackName>fusewire-prod</StackName><StackStatus>UPDATE_COMPLETE</StackStatus>"
                f"<Outputs>{members}</Outputs></member>"
            )
            self._answer(f"<R><DescribeStacksResult><Stacks>{stack}</Stacks></DescribeStacksResult></R>".encode())

    def do_GET(self) -> None:
        if "account-settings" in self.path:
            self._answer(b'{"AccountLimit": {"ConcurrentExecutions": 1000}}')
        else:
            self._hand_on(None)

    def do_PUT(self) -> None:
        self._hand_on(self._body())

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _hand_on(self, body: bytes | None) -> None:
        # Without a type urllib would send a form's, and moto would take it for one.
        given = {name.title(): value for name, value in self.headers.items() if name.lower() != "host"}
        headers = {"Content-Type": "application/json"} | given
        asked = Request(self.lambdas + self.path, body, headers, method=self.command)  # noqa: S310 - our own server
        try:
            with urlopen(asked, timeout=PATIENCE_SECONDS) as response:  # noqa: S310
                self._answer(response.read(), response.status)
        except HTTPError as error:
            self._answer(error.read(), error.code)

    def _answer(self, body: bytes, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@contextmanager
def aws_beside_moto(outputs: Mapping[str, str], moto: str) -> Iterator[str]:
    """An endpoint that knows one stack, and Lambda's quota."""
    handler = type("Aws", (_Aws,), {"outputs": outputs, "lambdas": moto})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def like_the_projects(folder: Path) -> None:
    """What `make deploy` needs, all set up; the settings that the manual writes stay in this folder."""
    for name in ("Makefile", "requirements"):
        (folder / name).symlink_to(PROJECT / name)
    modules = sorted(str(file.relative_to(PROJECT)) for file in (PROJECT / "scripts/deploy").glob("*.py"))
    for name in (
        *modules, "bin/fusewire-deploy", "console/index.html", "console/policy.json", "docs/operations.md",
        "infra/template.yaml", "local/__init__.py", "local/cloudformation.py", "local/console_build.py",
        "local/console_files.py",
    ):  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / name, folder / name)
    for name in (".venv/pyvenv.cfg", ".venv/run.stamp", ".venv/dev.stamp", ".venv-infra/stamp"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    build = folder / ".venv/bin/python"
    build.parent.mkdir()
    build.write_text(_BUILDS.format(python=sys.executable, files=json.dumps(FILES)))
    build.chmod(0o755)


def put_tools(programs: Path, log: Path) -> None:
    """The rest of .venv-infra beside the AWS CLI: Python as it is, and tools that do nothing."""
    (programs / "python").write_text(f'#!/bin/sh\nexec {PROJECT}/.venv-infra/bin/python "$@"\n')
    for name in ("sam", "terraform", "git"):
        (programs / name).write_text(_WRITES_DOWN.format(log=log))
    for file in programs.iterdir():
        if file.is_file():
            file.chmod(0o755)


class Followed:
    """One terminal in which all of it was typed, what each block printed, and where it was."""

    def __init__(self, account: Account, folder: Path, printed: dict[int, str], said: str) -> None:
        self.account, self.folder, self.printed, self.said = account, folder, printed, said


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Followed]:
    folder = tmp_path_factory.mktemp("aws")
    like_the_projects(folder)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    variables = {
        "AUTH_MODE": "keys",
        "ADMIN_API_KEY": ADMIN,
        "AI_MODE": "cloud",
        "OPENAI_API_KEY": "sk-x",
        "OPENAI_SOTA_MODEL": "gpt-4o",
        "LOCAL_CONCURRENCY": "1",
    }
    try:
        endpoint = f"http://127.0.0.1:{server.get_host_and_port()[1]}"
        with running_upstream() as vendor:
            with running_gateway(folder / "home", OPENAI_BASE_URL=vendor.url, **variables) as gateway:
                account = Account(endpoint, gateway.base)
                cli = tmp_path_factory.mktemp("cli")
                with aws_beside_moto(account.outputs, endpoint) as beside, aws_cli(cli) as programs:
                    places = {"AWS_ENDPOINT_URL": endpoint} | dict.fromkeys(
                        ("AWS_ENDPOINT_URL_CLOUDFORMATION", "AWS_ENDPOINT_URL_LAMBDA", "AWS_ENDPOINT_URL_IAM"), beside
                    )
                    yield _typed(account, folder, programs, places)
    finally:
        server.stop()


def _typed(account: Account, folder: Path, programs: Path, places: Mapping[str, str]) -> Followed:
    put_tools(programs, folder / "told")
    (folder / ".venv-infra/bin").symlink_to(programs)  # the terminal puts it first on the PATH
    script = "".join(
        f"{{\n{block.text}\n}} > printed.{place}{' 2>&1' * (block.needs == _BILLED)}\n"
        for place, block in enumerate(FOLLOWED)
    )
    script += 'echo "$LIVE_URL" > printed.url\n'
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    aws = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_CONFIG_FILE": str(folder / "none"), **places}
    aws["YES"] = "1"  # here is no terminal
    done = subprocess.run(  # noqa: S603 - what our own manual says
        ["bash", "-e", "-o", "pipefail", "-c", script],  # noqa: S607
        cwd=folder,
        env=kept | aws,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    printed = {place: (folder / f"printed.{place}").read_text() for place in range(len(FOLLOWED))
               if (folder / f"printed.{place}").exists()}  # fmt: skip
    return Followed(account, folder, printed, f"{done.returncode}: {done.stderr}")


@pytest.mark.parametrize("place", range(len(FOLLOWED)), ids=lambda place: FOLLOWED[place].place)
def test_a_command_works_and_prints_what_is_shown(place: int, followed: Followed) -> None:
    assert followed.said == "0: ", followed.said + "\n".join(followed.printed.values())
    assert '"error"' not in followed.printed[place]
    if FOLLOWED[place].needs == _ACCOUNT:
        assert_shown(FOLLOWED[place], followed.printed[place])
    else:
        assert_in_order(FOLLOWED[place], followed)


def assert_in_order(block: Block, followed: Followed) -> None:
    """Each line that the manual shows for a deployment comes after the one before; "..." stands for anything."""
    following = next(each for each in blocks(block.document) if each.line > block.line)
    assert following.language == "text"
    left = iter(followed.printed[FOLLOWED.index(block)].splitlines())
    for line in following.text.splitlines():
        shown = re.sub(r"https://\S+", followed.account.outputs["BaseUrl"], line)
        pattern = re.escape(shown).replace(r"\.\.\.", ".*")
        assert any(re.fullmatch(pattern, printed) for printed in left), f"{line}: {followed.printed}"


def test_a_rollback_leads_callers_to_the_version_before_and_the_next_deployment_forward(followed: Followed) -> None:
    [block] = [block for block in FOLLOWED if block.text == "make rollback"]
    assert "version 1" in followed.printed[FOLLOWED.index(block)]
    assert followed.account.live() == "2", "`make deploy` of the same build comes next in the manual"


def test_terraform_and_sam_are_told_what_the_manual_wrote_down(followed: Followed) -> None:
    result = [line for line in (followed.folder / "told").read_text().splitlines() if not line.startswith("git ")]
    build, init, apply, publish, *_ = result
    assert build.startswith("sam build ")
    assert "-backend-config=bucket=fusewire-state-123456789012 -backend-config=key=prod.tfstate" in init
    assert f"-var=stage=prod -var=region=eu-central-1 -var-file={followed.folder}/infra/prod.tfvars" in apply
    assert f"-var=console_api={followed.account.outputs['BaseUrl'].removesuffix('/api/v1')}" in apply
    assert publish.startswith("sam deploy ")
    for given in (
        f'CorsOrigins,ParameterValue="{CONSOLE}"',
        'AiMonthlyBudgetUsd,ParameterValue="100"',
        'AlarmEmail,ParameterValue="oncall@example.com"',
    ):
        assert f"ParameterKey={given}" in publish
    assert any(line.startswith("sam delete --stack-name fusewire-prod") for line in result)


def test_the_console_is_uploaded_as_it_was_built_and_once(followed: Followed) -> None:
    html, good = "text/html; charset=utf-8", "public, max-age=31536000, immutable"
    kinds = {
        "index.html": (html, "no-cache"),
        "404.html": (html, "no-cache"),
        "icon.svg": ("image/svg+xml", "no-cache"),
        "assets/index-abc.css": ("text/css; charset=utf-8", good),
        "assets/index-abc.js": ("text/javascript; charset=utf-8", good),
    }
    assert followed.account.uploaded() == {name: (text, *kinds[name]) for name, text in FILES.items()}
    assert followed.account.invalidations() == 1, "the next deployments have the same console"


def test_what_was_typed_has_been_done(followed: Followed) -> None:
    account = followed.account
    assert account.secret("provider_keys_secret_arn") == {"OPENAI_API_KEY": "put-the-key-here"}
    assert set(account.secret("admin_api_key_secret_arn")) == {"ADMIN_API_KEY"}
    assert re.fullmatch("[A-Za-z0-9]{48}", account.secret("admin_api_key_secret_arn")["ADMIN_API_KEY"])
    app = account.secret("database_app_secret_arn")
    assert app["username"] == "fusewire_app" and re.fullmatch("[A-Za-z0-9]{48}", app["password"])
    assert account.instances() == ["fusewire-prod"], "the restored one is gone"
    live = conninfo_to_dict((followed.folder / "printed.url").read_text())
    assert (live["user"], live["password"]) == ("fusewire_owner", OWNERS)
    secret = {path.name for path in followed.folder.iterdir() if path.suffix in (".json", ".key")}
    assert secret == {"migrated.json"}, "no secret stays in a file"
    settings = parameters_of(
        (PROJECT / "infra/template.yaml").read_text(), (followed.folder / "infra/prod.env").read_text()
    )
    variables = re.findall(r"^(\w+) += ", (followed.folder / "infra/prod.tfvars").read_text(), re.MULTILINE)
    assert variables and {f'variable "{name}"' for name in variables} <= set(
        re.findall(r'^variable "\w+"', (PROJECT / "infra/terraform/variables.tf").read_text(), re.MULTILINE)
    )
    assert settings["AlarmEmail"] == "oncall@example.com" and settings["AiMonthlyBudgetUsd"] == "100"


def test_what_is_asked_for_by_name_is_what_terraform_and_sam_write() -> None:
    manual = OPERATIONS[0].read_text()
    assert set(re.findall(r"[(`]parameter (\w+)", manual)) <= WRITTEN
    template = yaml.load((PROJECT / "infra/template.yaml").read_text(), Loader=yaml.BaseLoader)  # noqa: S506 - strings only
    assert set(re.findall(r"\(output (\w+)", manual)) <= set(template["Outputs"])


def test_what_needs_an_account_is_followed_here_or_is_billed() -> None:
    asking = re.compile(r"^\s*(?:aws|terraform|make deploy|make destroy)\b", re.MULTILINE)
    for block in blocks(OPERATIONS[0]):
        if block.language == "bash" and asking.search(block.text):
            billed = "make deploy" in block.text or "make destroy" in block.text
            assert block.needs == "an AWS account" + " that is billed" * billed, block.place
