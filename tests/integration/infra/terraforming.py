"""Runs Terraform over a copy of the project's files, without an account and without leaving anything behind.

The binary is the one on the PATH. The provider comes from where TF_CLI_CONFIG_FILE says, if it is set; else from the
folder of plugins that a script beside the checkout knows, if there is one; else from the registry, as for any user.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

PROJECT: Final = Path(__file__).resolve().parents[3]
_MIRROR: Final = PROJECT.parent / "shared/bin/terraform-mirror"
"""Prints a CLI configuration where machines can't reach the registry."""
_SECONDS: Final = 600
_FOREIGN: Final = ("AWS_", "TF_VAR_", "TF_CLI_ARGS", "TF_DATA_DIR", "TF_LOG", "TF_WORKSPACE")
_NO_PROVIDER: Final = ("Failed to query available provider packages", "Failed to install provider")
_TOO_OLD: Final = "Unsupported Terraform Core version"

# What a plan needs in place of an account: the state in a file, and a provider that asks nobody who it is.
_WITHOUT_AN_ACCOUNT: Final = """
terraform {
  backend "local" {}
}

provider "aws" {
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_region_validation      = true
  skip_requesting_account_id  = true
}

provider "aws" {
  alias                       = "second"
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_region_validation      = true
  skip_requesting_account_id  = true
}
"""


@dataclass(frozen=True)
class Terraform:
    """`run` in `folder`, a copy of `infra/terraform`; `versions` names the binary and the provider."""

    binary: str
    folder: Path
    environment: Mapping[str, str]
    versions: str

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return _run([self.binary, *arguments], self.folder, self.environment)

    def plan(self, variables: Mapping[str, str]) -> dict[str, Any]:
        """What Terraform would make of these variables, as `terraform show -json` has it.

        :raises AssertionError: when there is no plan, with what Terraform said
        """
        override = self.folder / "without_an_account_override.tf"
        override.write_text(_WITHOUT_AN_ACCOUNT, encoding="utf-8")
        try:
            self._done("init", "-input=false", "-reconfigure", "-no-color")
            given = [f"-var={name}={value}" for name, value in variables.items()]
            self._done("plan", "-input=false", "-refresh=false", "-lock=false", "-no-color", "-out=planned", *given)
            shown: dict[str, Any] = json.loads(self._done("show", "-json", "planned"))
            return shown
        finally:
            override.unlink()

    def _done(self, *arguments: str) -> str:
        output = self.run(*arguments)
        assert output.returncode == 0, output.stdout + output.stderr
        return output.stdout


def find_terraform(folder: Path) -> Terraform | str:
    """Terraform, initialised over a copy in `folder`, or in a few words why it can't be had here.

    :raises AssertionError: when it can be had, and `init` says no to our files
    """
    binary = shutil.which("terraform")
    if binary is None:
        return "no binary"
    copy = folder / "copy/infra/terraform"
    policy = folder / "copy/console/policy.json"
    policy.parent.mkdir(parents=True)
    shutil.copy(PROJECT / "console/policy.json", policy)
    shutil.copytree(PROJECT / "infra/terraform", copy, ignore=shutil.ignore_patterns(".terraform", "*.tfstate*"))
    environment = environment_in(folder)
    result = _run([binary, "init", "-backend=false", "-input=false", "-no-color"], copy, environment)
    said = result.stdout + result.stderr
    if result.returncode and _TOO_OLD in said:
        return "the binary is older than the files allow"
    if result.returncode and any(words in said for words in _NO_PROVIDER):
        return "no provider: neither a folder of plugins nor the registry has it for this machine"
    assert result.returncode == 0, said
    version = json.loads(_run([binary, "version", "-json"], copy, environment).stdout)
    versions = ", ".join(
        [version["terraform_version"], *(" ".join(pair) for pair in version["provider_selections"].items())]
    )
    # From here on nothing is to be asked of anybody: what tries meets a closed door, once.
    closed = {"HTTPS_PROXY": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"}
    return Terraform(binary, copy, environment | closed, versions)


def environment_in(folder: Path) -> dict[str, str]:
    """The variables for a Terraform that keeps its data in `folder`: nothing of any account's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    made = {
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
        "CHECKPOINT_DISABLE": "1",
        "TF_DATA_DIR": str(folder / "data"),
        "TF_IN_AUTOMATION": "1",
        "TF_REGISTRY_CLIENT_TIMEOUT": "15",
    }
    if configured := kept.get("TF_CLI_CONFIG_FILE"):
        made["TF_CLI_CONFIG_FILE"] = str(Path(configured).absolute())  # Terraform runs elsewhere
    elif _MIRROR.exists():
        result = _run([str(_MIRROR)], folder, kept)
        if result.returncode == 0:
            configuration = folder / "terraformrc"
            configuration.write_text(result.stdout, encoding="utf-8")
            made["TF_CLI_CONFIG_FILE"] = str(configuration)
    return kept | made


def _run(command: list[str], folder: Path, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - Terraform and our own script
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=_SECONDS, check=False
    )
