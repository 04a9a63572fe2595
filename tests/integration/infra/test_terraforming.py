"""Which provider the Terraform of these tests takes: the one that the environment names before any other."""

from pathlib import Path

import pytest

from tests.integration.infra import terraforming
from tests.integration.infra.terraforming import environment_in


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A script beside the checkout that knows a folder of plugins."""
    made = tmp_path / "mirror"
    made.write_text("#!/bin/sh\necho 'provider_installation {}'\n")
    made.chmod(0o700)
    monkeypatch.setattr(terraforming, "_MIRROR", made)
    return made


def test_the_configuration_of_the_environment_comes_first(
    tmp_path: Path, script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TF_CLI_CONFIG_FILE", "own.tfrc")
    assert environment_in(tmp_path)["TF_CLI_CONFIG_FILE"] == str(tmp_path / "own.tfrc")
    assert not (tmp_path / "terraformrc").exists()


def test_then_the_folder_beside_the_checkout(tmp_path: Path, script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TF_CLI_CONFIG_FILE", raising=False)
    result = Path(environment_in(tmp_path)["TF_CLI_CONFIG_FILE"])
    assert result.read_text() == "provider_installation {}\n"


@pytest.mark.parametrize("fails", [True, False], ids=["it knows none", "there is no script"])
def test_else_the_registry_as_for_any_user(
    tmp_path: Path, script: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    monkeypatch.delenv("TF_CLI_CONFIG_FILE", raising=False)
    if fails:
        script.write_text("#!/bin/sh\nexit 1\n")
    else:
        script.unlink()
    assert "TF_CLI_CONFIG_FILE" not in environment_in(tmp_path)
