"""The command line of scripts/deploy: what is missing or wrong is one line."""

import os
from pathlib import Path

import pytest

from scripts.deploy.__main__ import main
from scripts.deploy.target import DeployError, ask, run


def test_a_command_that_fails_stops_it() -> None:
    with pytest.raises(DeployError, match="false failed"):
        run(["false"])
    with pytest.raises(DeployError, match="no-such-command failed"):
        run(["no-such-command"])


@pytest.mark.parametrize(
    ("environ", "what"),
    [
        ({}, "REGION=eu-central-1"),
        ({"REGION": "eu-central-1", "STREAMING": "no"}, "STREAMING=no"),
        ({"REGION": "eu-central-1", "YES": "yes"}, "YES=yes"),
        ({"REGION": "eu-central-1", "NOW": "yes"}, "NOW=yes"),
        ({"REGION": "eu-central-1"}, "AWS couldn't be reached, or refused: Unable to locate credentials"),
    ],
)
def test_what_is_missing_or_wrong_is_reported_in_a_line(
    environ: dict[str, str], what: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(DeployError, match=what):
        main(["destroy"], environ)


@pytest.mark.parametrize("words", [[], ["deploi"], ["deploy", "prod"]])
def test_another_command_is_told_what_there_is(words: list[str]) -> None:
    environ = {"REGION": "eu-central-1", "STATE": "bucket"}
    with pytest.raises(DeployError, match="Use: build, plan, deploy, rollback, destroy or secrets"):
        main(words, environ)


def test_nobody_is_asked_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    with open(os.devnull) as nothing:
        monkeypatch.setattr("sys.stdin", nothing)
        with pytest.raises(DeployError, match=r"Remove it\? Nobody can be asked here: YES=1"):
            ask("Remove it?")
