"""`make build`, `make deploy`, `make destroy`: Terraform, then SAM, then migrate, and back.

Told by the environment: STAGE (prod), REGION (the AWS profile's own), STACK (fusewire-<stage>), STATE (the bucket of
Terraform's state, fusewire-state-<account>), STREAMING (on). Settings are read from infra/<stage>.env, by the names of
docs/operations.md or of the template's parameters, and Terraform's variables from infra/<stage>.tfvars. Terraform asks
before it changes anything.

A deployment publishes in two steps. First only migrate is new, and runs: the old versions serve on the new schema. Then
all functions are.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

PROJECT: Final = Path(__file__).resolve().parents[1]
_TEMPLATE: Final = PROJECT / "infra" / "template.yaml"
_BUILT: Final = PROJECT / ".aws-sam" / "build"
_TERRAFORM: Final = PROJECT / "infra" / "terraform"
_VARIABLE: Final = re.compile(r"^        ([A-Z][A-Z0-9_]+): !Ref (\w+)$", re.MULTILINE)
_PARAMETER: Final = re.compile(r"^  (\w+):\n    Type:", re.MULTILINE)
_MIGRATE_SECONDS: Final = 910
_SETTING: Final = re.compile(r"([A-Za-z]\w*)=(.*)")

Run = Callable[[Sequence[str]], None]


class DeployError(Exception):
    """What stops a deployment, in one line."""


@dataclass(frozen=True)
class Target:
    """Where it goes."""

    stage: str
    region: str
    stack: str
    state: str
    streaming: str

    def settings_file(self) -> Path:
        return PROJECT / "infra" / f"{self.stage}.env"

    def terraform_variables(self) -> list[str]:
        """Terraform's arguments for its variables."""
        file = PROJECT / "infra" / f"{self.stage}.tfvars"
        more = [f"-var-file={file}"] if file.exists() else []
        return [f"-var=stage={self.stage}", f"-var=region={self.region}", *more]


def parameters_of(template: str, settings: str) -> dict[str, str]:
    """The template's parameters for settings as an `.env` file has them.

    :raises DeployError: for a line that sets none, such as a key: keys belong into the secret
    """
    of_variable: dict[str, str] = dict(_VARIABLE.findall(template))
    known = set(_PARAMETER.findall(template.partition("\nConditions:")[0]))
    found: dict[str, str] = {}
    for number, line in enumerate(settings.splitlines(), 1):
        if not (line := line.strip()) or line.startswith("#"):
            continue
        told = _SETTING.fullmatch(line)
        if told is None:
            raise DeployError(f"Line {number} of the settings isn't NAME=value.")
        name, value = str(told[1]), str(told[2]).strip()
        parameter = of_variable.get(name, name)
        if parameter not in known:
            raise DeployError(
                f"{name} (line {number}) is no parameter of infra/template.yaml. Keys, and settings too long for "
                "a function's environment, go into the secret at /fusewire/<stage>/provider_keys_secret_arn."
            )
        found[parameter] = value.strip("'") if value[:1] == "'" else value
    return found


def hash_of(folder: Path, *told: object) -> str:
    """SHA-256 of every file in `folder` and of what is `told` beside them."""
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = file.read_bytes()
        digest.update(f"{file.relative_to(folder)}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def buffered(template: str) -> str:
    """The template with streams in one piece: API Gateway waits for those 29 seconds at most."""
    lines = [line for line in template.splitlines() if not line.strip().startswith("ResponseTransferMode:")]
    return "\n".join(lines).replace("TimeoutInMillis: 900000", "TimeoutInMillis: 29000") + "\n"


def build(run: Run, target: Target) -> None:
    """The layer and the functions, into .aws-sam/build."""
    template = _TEMPLATE
    if target.streaming == "off":
        template = _TEMPLATE.with_name(".buffered.yaml")  # beside the other: its paths are relative
        template.write_text(buffered(_TEMPLATE.read_text(encoding="utf-8")), encoding="utf-8")
    run(
        ["sam", "build", "--template", str(template), "--build-dir", str(_BUILT), "--build-in-source",
         "--region", target.region]
    )  # fmt: skip


def deploy(run: Run, target: Target, session: Any) -> str:  # noqa: ANN401 - boto3 has no types
    """Everything, in order.

    :return: the URL for an application's base_url
    """
    file = target.settings_file()
    settings = file.read_text(encoding="utf-8") if file.exists() else ""
    parameters = parameters_of(_TEMPLATE.read_text(encoding="utf-8"), settings)
    parameters |= {"Stage": target.stage, "Streaming": target.streaming}
    build(run, target)
    _terraform(run, target, "apply")
    new = hash_of(_BUILT, parameters, _places(session, target))
    old = _outputs(session, target).get("Build", new)
    _publish(run, target, parameters | {"MigrationHash": new, "BuildHash": old})
    _migrate(session, _outputs(session, target)["Migrate"])
    if old != new:
        _publish(run, target, parameters | {"MigrationHash": new, "BuildHash": new})
    return str(_outputs(session, target)["BaseUrl"])


def destroy(run: Run, target: Target) -> None:
    """The functions, then what they stand on. The database's deletion protection stops it, unless it was lifted."""
    run(["sam", "delete", "--stack-name", target.stack, "--region", target.region])
    _terraform(run, target, "destroy")


def _terraform(run: Run, target: Target, what: str) -> None:
    terraform = ["terraform", f"-chdir={_TERRAFORM}"]
    backend = {"bucket": target.state, "key": f"{target.stage}.tfstate", "region": target.region}
    told = [f"-backend-config={name}={value}" for name, value in backend.items()]
    run([*terraform, "init", "-input=false", "-reconfigure", *told])
    run([*terraform, what, *target.terraform_variables()])


def _publish(run: Run, target: Target, parameters: Mapping[str, str]) -> None:
    told = [f"ParameterKey={name},ParameterValue={json.dumps(value)}" for name, value in parameters.items()]
    run(
        ["sam", "deploy", "--template-file", str(_BUILT / "template.yaml"), "--stack-name", target.stack,
         "--region", target.region, "--capabilities", "CAPABILITY_IAM", "--resolve-s3", "--no-confirm-changeset",
         "--no-fail-on-empty-changeset", "--parameter-overrides", *told]
    )  # fmt: skip


def _places(session: Any, target: Target) -> dict[str, str]:  # noqa: ANN401
    """What Terraform wrote down for the template."""
    pages = session.client("ssm").get_paginator("get_parameters_by_path").paginate(Path=f"/fusewire/{target.stage}/")
    return {each["Name"]: each["Value"] for page in pages for each in page["Parameters"]}


def _outputs(session: Any, target: Target) -> dict[str, str]:  # noqa: ANN401
    """The stack's outputs; none before there is one."""
    client = session.client("cloudformation")
    try:
        [stack] = client.describe_stacks(StackName=target.stack)["Stacks"]
    except client.exceptions.ClientError:
        return {}
    return {each["OutputKey"]: each["OutputValue"] for each in stack.get("Outputs", [])}


def _migrate(session: Any, function: str) -> None:  # noqa: ANN401
    """:raises DeployError: when it fails; the functions' old versions serve on"""
    from botocore.config import Config  # type: ignore[import-untyped]

    # As long as the function may take, and once: another try would only wait for the first one's lock.
    patient = Config(read_timeout=_MIGRATE_SECONDS, retries={"total_max_attempts": 1})
    told = session.client("lambda", config=patient).invoke(FunctionName=function, Payload=b"{}")
    answer = json.loads(told["Payload"].read())
    if "FunctionError" in told:
        raise DeployError(f"migrate failed ({answer.get('errorType')}): {answer.get('errorMessage')}")
    _say(f"migrate: {', '.join(answer['applied']) or 'nothing to do'}")


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


def _run(command: Sequence[str]) -> None:
    _say("+ " + " ".join(command))
    try:
        subprocess.run(command, check=True)  # noqa: S603 - our own words
    except (OSError, subprocess.CalledProcessError) as error:
        raise DeployError(f"{command[0]} failed: {error}") from error


def main(what: str, environ: Mapping[str, str]) -> None:
    """:raises DeployError: with one line for the operator"""
    import boto3  # type: ignore[import-untyped]
    from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]

    given = {name: value for name, value in environ.items() if value}
    try:
        session = boto3.session.Session(region_name=given.get("REGION"))
        target = _target(what, given, session)
        if what == "deploy":
            _say(f"base_url: {deploy(_run, target, session)}")
        else:
            {"build": build, "destroy": destroy}[what](_run, target)
    except (BotoCoreError, ClientError) as error:
        raise DeployError(f"AWS can't be asked, or refused: {error}") from error


def _target(what: str, given: Mapping[str, str], session: Any) -> Target:  # noqa: ANN401
    """:raises DeployError: when something is missing or wrong"""
    stage, region = given.get("STAGE", "prod"), session.region_name
    if what == "build":
        region = region or "us-east-1"  # it decides nothing: sam wants one
    elif not region:
        raise DeployError("Say where: REGION=eu-central-1 make deploy.")
    streaming = given.get("STREAMING", "on")
    if streaming not in ("on", "off"):
        raise DeployError(f"STREAMING={streaming} must be on or off.")
    state = given.get("STATE", "")
    if what != "build" and not state:
        state = f"fusewire-state-{session.client('sts').get_caller_identity()['Account']}"
    return Target(stage, region, given.get("STACK", f"fusewire-{stage}"), state, streaming)


if __name__ == "__main__":
    try:
        main(sys.argv[1], os.environ)
    except DeployError as problem:
        sys.exit(str(problem))
