""".github/workflows: what each step runs exists and asks nobody, and no more is allowed than that needs."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.documents import PROJECT

FILES = sorted((PROJECT / ".github/workflows").glob("*.yml"))
TEXTS = {file.stem: file.read_text() for file in FILES}
WORKFLOWS: dict[str, dict[str, Any]] = {
    name: yaml.load(text, yaml.BaseLoader)  # noqa: S506 - strings only
    for name, text in TEXTS.items()
}
JOBS = {f"{name}/{job}": body for name, each in WORKFLOWS.items() for job, body in each["jobs"].items()}
TERRAFORM = PROJECT / "infra/terraform/modules/aws/github.tf"


def steps(job: str) -> Iterator[dict[str, Any]]:
    yield from JOBS[job]["steps"]


def test_actionlint_has_nothing_to_say() -> None:
    # It is no wheel that could be locked; where there is one, it has to agree.
    if actionlint := shutil.which("actionlint"):
        result = subprocess.run([actionlint, *map(str, FILES)], capture_output=True, text=True, check=False)  # noqa: S603
        assert result.returncode == 0, result.stdout


def test_every_action_is_pinned_to_a_commit_whose_version_is_said() -> None:
    for name, text in TEXTS.items():
        used = re.findall(r"uses: (.+)", text)
        assert used, name
        for each in used:
            assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", each), each
    versions = set(re.findall(r"uses: (\S+@\S+ # .+)", "\n".join(TEXTS.values())))
    assert len(versions) == len({each.partition("@")[0] for each in versions}), "one version of each"


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_reads_and_a_job_may_what_it_does(name: str) -> None:
    assert WORKFLOWS[name]["permissions"] == {"contents": "read"}
    for job, body in WORKFLOWS[name]["jobs"].items():
        signs_in = any("role-to-assume" in step.get("with", {}) for step in body["steps"])
        allowed = body.get("permissions", {"contents": "read"})
        comments = {"pull-requests"} if any("gh pr" in step.get("run", "") for step in body["steps"]) else set()
        assert {key for key, value in allowed.items() if value == "write"} == (
            {"id-token"} if signs_in else set()
        ) | comments, job
        assert int(body["timeout-minutes"]) <= 120
        for step in body["steps"]:
            if "checkout@" in step.get("uses", ""):
                assert step["with"]["persist-credentials"] == "false"


def test_no_key_is_stored_and_no_event_gives_a_strangers_code_a_token() -> None:
    for text in TEXTS.values():
        assert "secrets." not in text and "pull_request_target" not in text
        # What a stranger writes is never a part of a script.
        for script in re.findall(r"run: (?:\|\n(?: {10}.+\n)+|.+)", text):
            assert "${{" not in script, script
    plan = JOBS["deploy/plan"]["if"]
    assert "github.event.pull_request.head.repo.full_name == github.repository" in plan


def test_what_is_deployed_was_approved_for_the_stage_that_the_role_trusts() -> None:
    stage = WORKFLOWS["deploy"]["env"]["STAGE"]
    assert JOBS["deploy/deploy"]["environment"] == stage
    trusted = TERRAFORM.read_text()
    assert ':environment:${var.stage}"' in trusted and ':pull_request"' in trusted
    assert "environment" not in JOBS["deploy/plan"], "its token would have another subject"
    assert "github.ref == 'refs/heads/main'" in JOBS["deploy/deploy"]["if"]


def commands(job: str, folder: Path) -> list[str]:
    """What the job's scripts run, with programs that only write it down."""
    programs = folder / "bin"
    programs.mkdir(parents=True)
    for name in ("make", "gh"):
        (programs / name).write_text(f'#!/bin/sh\necho {name} "$@" >> {folder}/told\necho planned\n')
        (programs / name).chmod(0o755)
    environment = {"PATH": f"{programs}:/usr/bin:/bin", "NUMBER": "7"}
    for step in steps(job):
        if "run" in step:
            subprocess.run(  # noqa: S603 - our own words
                ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],  # noqa: S607
                cwd=folder, env=environment, check=True, capture_output=True,
            )  # fmt: skip
    return (folder / "told").read_text().splitlines()


def test_the_steps_run_what_a_person_would_run(tmp_path: Path) -> None:
    plan = commands("deploy/plan", tmp_path / "plan")
    assert plan == [
        "make setup-infra",
        "make -s plan",
        "gh pr comment 7 --body-file comment.md --edit-last --create-if-none",
    ]
    assert (tmp_path / "plan/comment.md").read_text() == "```text\nplanned\n```\n"
    assert commands("deploy/deploy", tmp_path / "deploy") == ["make setup-infra", "make deploy YES=1", "make rollback"]
    assert commands("test/test", tmp_path / "test") == ["make test"]


def test_every_target_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*##", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    for text in TEXTS.values():
        assert set(re.findall(r"make (?:-s )?([a-z-]+)", text)) - {"test"} <= targets
