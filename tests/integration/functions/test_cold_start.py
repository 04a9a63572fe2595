"""What INIT pays for, function by function, each in a process of its own.

Counts of modules instead of milliseconds: they are the same on a busy machine. What they cost in time, and what was
gained by leaving others out, is in docs/decisions/0011-cold-start.md.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.integration.functions.conftest import ROOT
from tests.support.patience import PATIENCE_SECONDS

HANDLERS: Final = sorted((ROOT / "functions").glob("*/app.py"))
# Powertools imports the bare package `botocore`, for its version; what costs is the SDK within.
SDKS: Final = {"openai", "anthropic", "boto3", "botocore.session", "botocore.client", "google", "httpx", "aws_xray_sdk"}
PACKAGES: Final = {
    "annotated_types",
    "aws_lambda_powertools",
    "botocore",
    "fusewire",
    "jmespath",
    "psycopg",
    "psycopg_binary",
    "pydantic",
    "pydantic_core",
    "simplejson",
    "snapshot_restore_py",
    "typing_extensions",
    "typing_inspection",
}
THE_MACHINES: Final = {"sitecustomize", "usercustomize"}
"""What an installation of Python may bring of its own, as Debian's does."""
ROUTES_NOTHING: Final = {"authorizer", "migrate", "monthly_reset"}
KNOWS_PROVIDERS: Final = {"complete", "embed", "models", "admin_providers", "admin_usage"}
MAX_OTHERS: Final = {True: 266, False: 195}
"""Modules of wheels, with and without Powertools' event handler; they are 261 at most, and 188."""
MAX_OWN: Final = {
    "admin_budget": 59,
    "admin_keys": 57,
    "admin_providers": 78,
    "admin_usage": 65,
    "authorizer": 39,
    "complete": 92,
    "embed": 88,
    "health": 52,
    "migrate": 33,
    "models": 77,
    "monthly_reset": 30,
}
"""Modules of our own: six more than there are."""
OF_CALLS: Final = {"fusewire.ai.router", "fusewire.ai.attempts", "fusewire.ai.bounds"}
OF_ADMINS: Final = {f"fusewire.budget.{name}" for name in ("adjustments", "audit", "price_history", "usage")}

SCRIPT: Final = """
import json, runpy, sys, threading
runpy.run_path(sys.argv[1])
others = [name for name in sys.modules if name.partition(".")[0] not in sys.stdlib_module_names]
print(json.dumps([others, threading.active_count()]))
"""
VARIABLES: Final = {
    "PATH": os.environ["PATH"],
    "PYTHONPATH": str(ROOT / "layers/core/python"),
    "AUTH_MODE": "open",
    "DATABASE_URL": "postgresql://127.0.0.1:1/nowhere",
    "OPENAI_API_KEY": "k",
    "OPENAI_SOTA_MODEL": "gpt-4o",
    "OLLAMA_BASE_URL": "http://127.0.0.1:1",
    "OLLAMA_SOTA_MODEL": "smol",
    "FUSEWIRE_TRACING": "on",
}


@pytest.mark.parametrize("file", HANDLERS, ids=lambda file: file.parent.name)
def test_init_imports_no_sdk_and_little_else_and_starts_nothing(file: Path) -> None:
    output = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-W", "error", "-c", SCRIPT, str(file)],
        env=VARIABLES, capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS,
    )  # fmt: skip
    assert output.stderr == ""
    modules, threads = json.loads(output.stdout)
    assert SDKS & set(modules) == set()
    # What begins with an underscore, and Cython's runtime, belong to wheels and to the virtual environment.
    packages = {name.partition(".")[0] for name in modules if not name.startswith(("_", "cython_runtime"))}
    assert packages <= PACKAGES | THE_MACHINES
    own = {name for name in modules if name.partition(".")[0] == "fusewire"}
    assert len(own) <= MAX_OWN[file.parent.name]
    assert len(modules) - len(own) <= MAX_OTHERS[file.parent.name not in ROUTES_NOTHING]
    assert threads == 1
    assert "fusewire.ai.schema" not in modules or file.parent.name not in ROUTES_NOTHING
    if file.parent.name not in KNOWS_PROVIDERS:
        assert not [name for name in modules if name.startswith("fusewire.ai.providers.")]
        assert not OF_CALLS & own
    if not file.parent.name.startswith("admin_"):
        assert not OF_ADMINS & own
