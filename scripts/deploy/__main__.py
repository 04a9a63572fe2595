"""`python -m scripts.deploy COMMAND`. From the environment: STAGE (prod), REGION (the AWS profile's own), STACK
(fusewire-<stage>), STATE (the bucket of Terraform's state, fusewire-state-<account>), STREAMING (on), YES (0), NOW (0).

Settings are read from infra/<stage>.env, by the names of docs/operations.md or of the template's parameters, and
Terraform's variables from infra/<stage>.tfvars. Terraform asks before it changes anything, unless YES=1.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from scripts.deploy import steps
from scripts.deploy.provider_keys import secrets
from scripts.deploy.rollback import rollback
from scripts.deploy.target import DeployError, Target, ask, read_target, run, say


def main(words: Sequence[str], environ: Mapping[str, str]) -> None:
    """:raises DeployError: with one line for the operator"""
    import boto3  # type: ignore[import-untyped]
    from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]

    variables = {name: value for name, value in environ.items() if value}
    try:
        session = boto3.session.Session(region_name=variables.get("REGION"))
        target = read_target(words[0] if words else "", variables, session)
        _do(words, target, session)
    except (BotoCoreError, ClientError) as error:
        raise DeployError(f"AWS couldn't be reached, or refused: {error}") from error


def _do(words: Sequence[str], target: Target, session: Any) -> None:  # noqa: ANN401 - boto3 has no types
    def asked(question: str) -> bool:
        return target.yes or ask(question)

    match words:
        case ["build"]:
            steps.build(run, target)
        case ["plan"]:
            steps.plan(run, target, session)
        case ["deploy"]:
            say(f"base_url: {steps.deploy(run, target, session, asked)}")
        case ["rollback"]:
            rollback(target, session)
        case ["destroy"]:
            steps.destroy(run, target, session, asked)
        case ["secrets", *rest]:
            secrets(rest, target, session)
        case _:
            raise DeployError("Use: build, plan, deploy, rollback, destroy or secrets.")


if __name__ == "__main__":
    try:
        main(sys.argv[1:], os.environ)
    except DeployError as problem:
        sys.exit(str(problem))
