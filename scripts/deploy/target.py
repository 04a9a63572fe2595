"""Where a deployment goes, and what it needs of the machine: commands to run, and an answer of the operator's."""

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

PROJECT: Final = Path(__file__).resolve().parents[2]

Run = Callable[[Sequence[str]], None]
Ask = Callable[[str], bool]
"""Puts a question to the operator; whether the answer was yes."""


class DeployError(Exception):
    """What stops a deployment, in one line."""


@dataclass(frozen=True)
class Target:
    """Where it goes."""

    stage: str
    region: str
    stack: str
    state: str
    streaming: str = "on"
    yes: bool = False
    """Whether nobody is there to be asked: YES=1."""
    now: bool = False
    """Whether a change that restarts Postgres is made now and not in its maintenance window: NOW=1."""

    def settings_file(self) -> Path:
        return PROJECT / "infra" / f"{self.stage}.env"

    def authority_file(self) -> Path:
        """The certificates of the authority that a database elsewhere has of its own."""
        return PROJECT / "infra" / f"{self.stage}.pem"

    def terraform_variables(self) -> list[str]:
        """Terraform's arguments for its variables."""
        file = PROJECT / "infra" / f"{self.stage}.tfvars"
        more = [f"-var-file={file}"] if file.exists() else []
        now = ["-var=apply_immediately=true"] if self.now else []
        return [f"-var=stage={self.stage}", f"-var=region={self.region}", *more, *now]


def read_target(command: str, variables: Mapping[str, str], session: Any) -> Target:  # noqa: ANN401 - boto3 has no types
    """The target that the environment names.

    :raises DeployError: when something is missing or wrong
    """
    stage, region = variables.get("STAGE", "prod"), session.region_name
    if command == "build":
        region = region or "us-east-1"  # it decides nothing: sam wants one
    elif not region:
        raise DeployError("REGION is missing: REGION=eu-central-1 make deploy.")
    streaming = variables.get("STREAMING", "on")
    if streaming not in ("on", "off"):
        raise DeployError(f"STREAMING={streaming} must be on or off.")
    yes = variables.get("YES", "0")
    if yes not in ("0", "1"):
        raise DeployError(f"YES={yes} must be 1, or 0 to be asked.")
    now = variables.get("NOW", "0")
    if now not in ("0", "1"):
        raise DeployError(f"NOW={now} must be 1, or 0 to leave it to the maintenance window.")
    state = variables.get("STATE", "")
    if command in ("plan", "deploy", "destroy") and not state:
        state = f"fusewire-state-{session.client('sts').get_caller_identity()['Account']}"
    return Target(stage, region, variables.get("STACK", f"fusewire-{stage}"), state, streaming, yes == "1", now == "1")


def ask(question: str) -> bool:
    """Ask at the terminal.

    :raises DeployError: where there is none
    """
    if not sys.stdin.isatty():
        raise DeployError(f"{question} Nobody can be asked here: YES=1 says yes.")
    sys.stderr.write(f"{question} [yes/no] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def run(command: Sequence[str]) -> None:
    """Run a command that prints for itself.

    :raises DeployError: when it fails
    """
    say("+ " + " ".join(command))
    try:
        subprocess.run(command, check=True)  # noqa: S603 - our own arguments
    except (OSError, subprocess.CalledProcessError) as error:
        raise DeployError(f"{command[0]} failed: {error}") from error


def say(text: str) -> None:
    """Print for the operator; standard output is for what programs read."""
    sys.stderr.write(text + "\n")
