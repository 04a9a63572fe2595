"""The functions' stack as CloudFormation has it, and its functions' versions as Lambda has them."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from scripts.deploy.connections import connection_of
from scripts.deploy.target import Ask, DeployError, Target, say

_NEVER_MADE: Final = ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED", "DELETE_FAILED")
"""A first deployment that failed, or a deletion: the stack takes no update (aws-sam-cli#1865)."""
_ALIAS: Final = "live"


@dataclass(frozen=True)
class Function:
    """A function and its versions, which are numbers that Lambda counts up."""

    name: str
    live: int
    """The version that the alias leads to."""
    published: int
    """The version that CloudFormation published last, and believes to be live."""


class Stack:
    """Asks AWS each time: deployments change the answers."""

    def __init__(self, session: Any, target: Target) -> None:  # noqa: ANN401 - boto3 has no types
        self.name = target.stack
        self._client = session.client("cloudformation")
        self._session = session

    @cached_property
    def _lambda(self) -> Any:  # noqa: ANN401
        return self._session.client("lambda")

    def status(self) -> str | None:
        """Its status; None where there is no such stack."""
        described = self._described()
        return str(described["StackStatus"]) if described else None

    def outputs(self) -> dict[str, str]:
        """Its outputs; none before there is one."""
        return {each["OutputKey"]: each["OutputValue"] for each in (self._described() or {}).get("Outputs", [])}

    def ensure_updatable(self, ask: Ask) -> None:
        """Remove a stack whose first deployment failed, after asking.

        :raises DeployError: where the stack can't be updated, or may not be removed
        """
        status = self.status()
        if status in _NEVER_MADE:
            if not ask(f"{self.name} is {status}, and takes no update. Remove it, and make it anew?"):
                raise DeployError(f"{self.name} stays {status}. Its events say why: aws cloudformation "
                                  f"describe-stack-events --stack-name {self.name}.")  # fmt: skip
            self._client.delete_stack(StackName=self.name)
            self._client.get_waiter("stack_delete_complete").wait(StackName=self.name)
            say(f"{self.name}: removed")
        elif status == "UPDATE_ROLLBACK_FAILED":
            raise DeployError(
                f"{self.name} is {status}. Repair what its events name, then: aws cloudformation "
                f"continue-update-rollback --stack-name {self.name}."
            )
        elif status and status.endswith("_IN_PROGRESS") and status != "REVIEW_IN_PROGRESS":
            raise DeployError(f"{self.name} is {status}: somebody else deploys. Try again when that is over.")

    def cancel_update(self) -> bool:
        """End an update that is under way: CloudFormation and CodeDeploy go back to the versions before.

        :return: whether there was one
        """
        if self.status() != "UPDATE_IN_PROGRESS":
            return False
        self._client.cancel_update_stack(StackName=self.name)
        return True

    def resources(self, kind: str) -> list[str]:
        """The physical ids of the stack's resources of a type, such as `AWS::Logs::LogGroup`."""
        pages = self._client.get_paginator("list_stack_resources").paginate(StackName=self.name)
        rows = (each for page in pages for each in page["StackResourceSummaries"])
        return [
            each["PhysicalResourceId"]
            for each in rows
            if each["ResourceType"] == kind and not each["ResourceStatus"].startswith("DELETE_")
        ]

    def functions(self) -> list[Function]:
        """Every function that has an alias, with its versions."""
        published = dict(arn.rsplit(":", 2)[-2:] for arn in self.resources("AWS::Lambda::Version"))
        names = sorted(arn.rsplit(":", 2)[-2] for arn in self.resources("AWS::Lambda::Alias"))
        return [
            Function(name, int(self._lambda.get_alias(FunctionName=name, Name=_ALIAS)["FunctionVersion"]),
                     int(published[name]))
            for name in names
        ]  # fmt: skip

    def versions(self, function: str) -> list[int]:
        """Every version that Lambda keeps of a function, in order."""
        pages = self._lambda.get_paginator("list_versions_by_function").paginate(FunctionName=function)
        numbers = (each["Version"] for page in pages for each in page["Versions"])
        return sorted(int(number) for number in numbers if number.isdigit())

    def connection(self, function: str, qualifier: str = _ALIAS) -> str | None:
        """How a function's version reaches Postgres, as `connection_of` has it."""
        configured = self._lambda.get_function_configuration(FunctionName=function, Qualifier=qualifier)
        return connection_of(configured.get("Environment", {}).get("Variables", {}))

    def connections(self) -> set[str]:
        """Every way to Postgres that a version takes which is called now."""
        found = (self.connection(function.name) for function in self.functions())
        return {each for each in found if each is not None}

    def move(self, function: str, version: int) -> None:
        """Lead the alias to a version at once, with all of its traffic."""
        self._lambda.update_alias(
            FunctionName=function, Name=_ALIAS, FunctionVersion=str(version),
            RoutingConfig={"AdditionalVersionWeights": {}},
        )  # fmt: skip

    def delete_version(self, function: str, version: int) -> None:
        """Delete a version, and its snapshot, which is billed by the hour."""
        self._lambda.delete_function(FunctionName=function, Qualifier=str(version))

    def wait_until_active(self) -> None:
        """Wait for every live version: one whose snapshot isn't taken yet refuses its first calls."""
        waiter = self._lambda.get_waiter("published_version_active")
        for function in self.functions():
            waiter.wait(FunctionName=function.name, Qualifier=_ALIAS)

    def _described(self) -> dict[str, Any] | None:
        try:
            stacks: list[dict[str, Any]] = self._client.describe_stacks(StackName=self.name)["Stacks"]
        except self._client.exceptions.ClientError as error:
            problem = error.response["Error"]
            # A throttled or refused call says nothing about whether there is a stack.
            if problem["Code"] == "ValidationError" and "does not exist" in problem["Message"]:
                return None
            raise
        return stacks[0] if stacks else None


def versions_to_delete(function: Function, before: int | None, kept: list[int]) -> Iterator[int]:
    """What a deployment leaves no use for: all but the new version and the one that was live before it.

    :param before: what was live before the deployment, None where that isn't known
    :param kept: every version that Lambda keeps
    """
    older = [version for version in kept if version < function.published]
    previous = before if before in older else max(older, default=None)
    return (version for version in older if version != previous)
