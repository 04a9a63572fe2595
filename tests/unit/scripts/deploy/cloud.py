"""What a deployment uses of AWS, in memory: it notes each command and call, and publishes versions as Lambda does."""

import io
import json
from collections.abc import Iterator, Sequence
from typing import Any

from botocore.config import Config  # type: ignore[import-untyped]
from botocore.exceptions import ClientError  # type: ignore[import-untyped]

from local.cloudformation import load
from scripts.deploy import target
from scripts.deploy.settings import of_terraform
from scripts.deploy.target import Target

TEMPLATE = (target.PROJECT / "infra" / "template.yaml").read_text()
HERE = Target("prod", "eu-central-1", "fusewire-prod", "bucket")
UNATTENDED = Target("prod", "eu-central-1", "fusewire-prod", "bucket", yes=True)
TERRAFORM = {
    "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
    .lstrip("_")
    .replace("id1", "id_1")
    .replace("id2", "id_2"): f"the {name}"
    for name in of_terraform(load(TEMPLATE))
}
"""What Terraform wrote, by name under /fusewire/prod/."""


def refused(code: str, message: str = "") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, "Any")


def _resource(kind: str, name: str) -> dict[str, str]:
    return {"ResourceType": kind, "PhysicalResourceId": name, "ResourceStatus": "CREATE_COMPLETE"}


class Cloud:
    """A session of boto3's and all of its clients at once."""

    def __init__(self, build: str | None, *, status: str = "UPDATE_COMPLETE") -> None:
        self.steps: list[str] = []
        self.parameters: dict[str, str] = {}
        self.build = build
        self.status = status if build else None
        self.quota = 1000
        self.protected = False
        self.migration_fails = False
        self.not_ready = 0
        """How many invocations Lambda refuses at first."""
        self.describing: list[ClientError | None] = []
        """What the next calls of DescribeStacks are refused with, None for those that are answered."""
        self.wanted = "direct-password"
        """The way to the database that Terraform's variables ask for."""
        self.ways = [self.wanted]
        """Those that it has made."""
        self.kind = "rds"
        """What Terraform's variable `database` is."""
        self.console = "none"
        """Its origin."""
        self.allowed: list[str | None] = []
        """The API that Terraform let the console's pages call, by each `apply`."""
        self.unhealthy = 0
        """How often a proxy doesn't reach its database at first."""
        self.versions: dict[str, list[int]] = {name: [1] for name in ("complete", "migrate")} if build else {}
        self.live = dict.fromkeys(self.versions, 1)
        self.published = dict.fromkeys(self.versions, 1)
        self.connected = {(name, 1): self.wanted for name in self.versions}
        """How each version connects."""

    # --- commands ---

    def run(self, command: Sequence[str]) -> None:
        words = [word for word in command if not word.startswith("-")]
        step = f"{words[0]} {words[1]}"
        if step == "sam deploy":
            step += self._publish(words)
        if step == "sam delete":
            self.status = None
        if step == "terraform apply":
            self.allowed.append(next((word[17:] for word in command if word.startswith("-var=console_api=")), None))
            kept = [json.loads(word.split("=", 2)[2]) for word in command if word.startswith("-var=kept_connections=")]
            self.ways = [self.wanted, *sorted(set().union(*kept) - {self.wanted})]
            self._ensure_none_is_cut_off()
            if len(self.ways) > 1:
                step += f" keeps {', '.join(self.ways[1:])}"
        self.steps.append(step)

    def _publish(self, words: Sequence[str]) -> str:
        pairs = (word.removeprefix("ParameterKey=").split(",ParameterValue=", 1) for word in words if "Key=" in word)
        given = {name: json.loads(value) for name, value in pairs}
        hashes = {"complete": "BuildHash", "migrate": "MigrationHash"}
        for name, parameter in hashes.items():
            if self.parameters.get(parameter, self.build) != given[parameter] or not self.versions.get(name):
                number = max(self.versions.get(name, [0])) + 1
                self.versions.setdefault(name, []).append(number)
                self.published[name] = self.live[name] = number
                self.connected[name, number] = self.wanted
        self.parameters, self.build, self.status = given, given["BuildHash"], "UPDATE_COMPLETE"
        return f" {given['BuildHash'][:3]} {given['MigrationHash'][:3]}"

    def _ensure_none_is_cut_off(self) -> None:
        for name, version in self.live.items():
            assert name == "migrate" or self.connected.get((name, version), self.wanted) in self.ways, (
                f"{name} has no database"
            )

    # --- boto3 ---

    def client(self, name: str, config: Config | None = None) -> "Cloud":
        if config:
            assert config.read_timeout > 900, "a migration may take as long as its function"
            assert config.retries == {"total_max_attempts": 1}
        return self

    @property
    def exceptions(self) -> Any:  # noqa: ANN401 - botocore makes its classes at run time
        return type("Exceptions", (), {"ClientError": ClientError, "DBInstanceNotFoundFault": KeyError,
                                   "ParameterNotFound": LookupError, "DBClusterNotFoundFault": KeyError})  # fmt: skip

    def get_paginator(self, name: str) -> "Cloud":
        self._asked = name
        return self

    def paginate(self, **arguments: str) -> list[dict[str, Any]]:
        match self._asked:
            case "get_parameters_by_path":
                assert arguments == {"Path": "/fusewire/prod/"}
                written = TERRAFORM | {
                    "database_kind": self.kind,
                    "console_origin": self.console,
                    "console_bucket": "none" if self.console == "none" else "bucket",
                    "database_connections": ",".join(self.ways),
                    "database_proxy_name": "fusewire-prod" if self.wanted.startswith("proxy") else "none",
                }
                return [{"Parameters": [{"Name": f"/fusewire/prod/{k}", "Value": v} for k, v in written.items()]}]
            case "list_stack_resources":
                return [{"StackResourceSummaries": list(self._resources())}]
        return [{"Versions": [{"Version": str(each)} for each in self.versions[arguments["FunctionName"]]]
                             + [{"Version": "$LATEST"}]}]  # fmt: skip

    def _resources(self) -> Iterator[dict[str, str]]:
        for name in self.versions:
            for kind, what in (("Alias", "live"), ("Version", self.published[name])):
                yield _resource(f"AWS::Lambda::{kind}", f"arn:aws:lambda:function:{name}:{what}")
        yield _resource("AWS::Logs::LogGroup", "logs")

    def describe_stacks(self, StackName: str) -> dict[str, Any]:
        if self.describing and (error := self.describing.pop(0)):
            raise error
        if self.status is None:
            raise refused("ValidationError", f"Stack with id {StackName} does not exist")
        outputs = {
            "Build": self.build,
            "Migrate": "arn:aws:lambda:function:migrate:live",
            "BaseUrl": "https://here/api/v1",
        }
        listed = [{"OutputKey": k, "OutputValue": v} for k, v in outputs.items()]
        return {"Stacks": [{"StackStatus": self.status, "Outputs": listed}]}

    def delete_stack(self, StackName: str) -> None:
        self.steps.append(f"delete {StackName}")
        self.status = self.build = None
        self.versions = {}

    def cancel_update_stack(self, StackName: str) -> None:
        self.steps.append(f"cancel {StackName}")

    def get_waiter(self, name: str) -> "Cloud":
        return self

    def wait(self, **arguments: str) -> None:
        self.steps.append(f"wait {arguments.get('FunctionName', arguments.get('StackName'))}")

    def get_account_settings(self) -> dict[str, Any]:
        return {"AccountLimit": {"ConcurrentExecutions": self.quota}}

    def get_alias(self, FunctionName: str, Name: str) -> dict[str, str]:
        return {"FunctionVersion": str(self.live[FunctionName])}

    def get_function_configuration(self, FunctionName: str, Qualifier: str) -> dict[str, Any]:
        version = self.live[FunctionName] if Qualifier == "live" else int(Qualifier)
        role = " user=fusewire_app" if FunctionName != "migrate" else ""
        through, proof = self.connected.get((FunctionName, version), self.wanted).split("-")
        host = "fusewire-prod.proxy-x.eu-central-1.rds.amazonaws.com" if through == "proxy" else "db.rds.amazonaws.com"
        iam = "true" if proof == "iam" else "false"
        variables = {"DATABASE_URL": f"host={host} port=5432{role}", "FUSEWIRE_DATABASE_IAM": iam}
        return {"Environment": {"Variables": variables}}

    def get_parameter(self, Name: str) -> dict[str, Any]:
        if Name == "/fusewire/prod/kms_key_arn":
            return {"Parameter": {"Value": "arn:aws:kms:eu-central-1:123456789012:key/1"}}
        assert Name == "/fusewire/prod/database_connections"
        if not self.ways:
            raise LookupError(Name)
        return {"Parameter": {"Value": ",".join(self.ways)}}

    def describe_db_proxy_targets(self, DBProxyName: str) -> dict[str, Any]:
        assert DBProxyName == "fusewire-prod" and self.wanted in self.ways
        self.steps.append("proxy")
        if self.unhealthy:
            self.unhealthy -= 1
            return {"Targets": [{"TargetHealth": {"State": "UNAVAILABLE", "Reason": "PENDING_PROXY_CAPACITY"}}]}
        return {"Targets": [{"Type": "RDS_INSTANCE", "TargetHealth": {"State": "AVAILABLE"}}]}

    def update_alias(self, FunctionName: str, Name: str, FunctionVersion: str, RoutingConfig: object) -> None:
        assert RoutingConfig == {"AdditionalVersionWeights": {}}, "no caller stays on another version"
        self.live[FunctionName] = int(FunctionVersion)

    def delete_function(self, FunctionName: str, Qualifier: str) -> None:
        assert int(Qualifier) != self.live[FunctionName], "Lambda refuses it"
        self.versions[FunctionName].remove(int(Qualifier))

    def invoke(self, FunctionName: str, Payload: bytes) -> dict[str, Any]:
        if self.not_ready:
            self.not_ready -= 1
            raise refused("ResourceNotReadyException")
        self.steps.append(f"migrate {FunctionName.rsplit(':', 2)[-2]}")
        if self.migration_fails:
            error = {"errorType": "LedgerUnavailableError", "errorMessage": "why"}
            return {"Payload": io.BytesIO(json.dumps(error).encode()), "FunctionError": "Unhandled"}
        return {"Payload": io.BytesIO(b'{"applied": []}')}

    def describe_db_instances(self, DBInstanceIdentifier: str) -> dict[str, Any]:
        if self.kind == "aurora":
            raise KeyError(DBInstanceIdentifier)
        return {"DBInstances": [{"DeletionProtection": self.protected}]}

    def describe_db_snapshots(self, DBInstanceIdentifier: str, SnapshotType: str) -> dict[str, Any]:
        return {"DBSnapshots": [{"DBSnapshotIdentifier": "fusewire-prod-final-1"}]}

    def describe_db_cluster_snapshots(self, DBClusterIdentifier: str, SnapshotType: str) -> dict[str, Any]:
        return {"DBClusterSnapshots": []}

    def describe_db_clusters(self, DBClusterIdentifier: str) -> dict[str, Any]:
        return {"DBClusters": [{"DeletionProtection": self.protected}]}

    def describe_db_instance_automated_backups(self, DBInstanceIdentifier: str) -> dict[str, Any]:
        return {"DBInstanceAutomatedBackups": [{"DBInstanceIdentifier": "fusewire-prod"}]}
