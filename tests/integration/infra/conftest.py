"""One Terraform for the run, and a line at its end that says what it was, or why there was none."""

from pathlib import Path
from typing import Final

import pytest

from tests.integration.infra.terraforming import Terraform, find_terraform

_SAID: Final = pytest.StashKey[str]()


@pytest.fixture(scope="session")
def terraform(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Terraform | None:
    """Over a copy of `infra/terraform` that `init` has been run in; None where it can't be had."""
    found = find_terraform(tmp_path_factory.mktemp("terraform"))
    if isinstance(found, str):
        pytestconfig.stash[_SAID] = f"terraform: not run, {found}"
        return None
    pytestconfig.stash[_SAID] = f"terraform: run, {found.versions}"
    return found


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if said := config.stash.get(_SAID, None):
        terminalreporter.write_line(said)


@pytest.fixture
def folder() -> Path:
    """Where the Terraform files are."""
    return Path(__file__).resolve().parents[3] / "infra/terraform"
