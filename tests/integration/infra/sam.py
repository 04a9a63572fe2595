"""What builds and checks infra/, run as `make` runs it: from .venv-infra, without an account."""

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any, Final

PROJECT: Final = Path(__file__).resolve().parents[3]
TEMPLATE: Final = PROJECT / "infra" / "template.yaml"
_TOOLS: Final = PROJECT / ".venv-infra" / "bin"
_ENVIRONMENT: Final = {
    "PATH": os.pathsep.join([str(_TOOLS), str(Path(sys.executable).parent), os.environ["PATH"]]),
    "HOME": os.environ.get("HOME", "/"),
    "LANG": "C.UTF-8",
    "AWS_DEFAULT_REGION": "eu-central-1",
    "SAM_CLI_TELEMETRY": "0",
    **{name: value for name, value in os.environ.items() if name.startswith(("PIP_", "UV_", "SSL_"))},
}


def run(tool: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A tool of .venv-infra; fails where that isn't there."""
    assert (_TOOLS / "sam").exists(), "make setup-infra makes what these tests need"
    return subprocess.run(  # noqa: S603 - our own words
        [tool, *arguments], cwd=PROJECT, env=_ENVIRONMENT, capture_output=True, text=True, timeout=300
    )


def done(tool: str, *arguments: str) -> str:
    """What it prints.

    :raises AssertionError: when it fails, with what it said
    """
    output = run(tool, *arguments)
    assert output.returncode == 0, output.stdout + output.stderr
    return output.stdout


@cache
def transformed(template: Path) -> dict[str, Any]:
    """The template as CloudFormation gets it from SAM, by SAM's own translator."""
    body: dict[str, Any] = json.loads(done("python", str(Path(__file__).with_name("transform.py")), str(template)))
    return body


def build_layer(out: Path) -> Path:
    """The layer for this machine in `out`, by the same Makefile as for Lambda's."""
    machine = os.uname().machine
    done(
        "make", "--silent", "-f", str(PROJECT / "layers/core/Makefile"), "build-CoreLayer", f"ARTIFACTS_DIR={out}",
        f"PLATFORM={machine}-manylinux_2_28", f"PYTHON_VERSION={sys.version_info.major}.{sys.version_info.minor}",
    )  # fmt: skip
    return out


def emulator() -> Path:
    """AWS's Runtime Interface Emulator, which comes with the SAM CLI."""
    machine = {"x86_64": "x86_64", "aarch64": "arm64"}[os.uname().machine]
    [found] = _TOOLS.parent.glob(f"lib/python3.*/site-packages/samcli/local/rapid/aws-lambda-rie-{machine}")
    return found
