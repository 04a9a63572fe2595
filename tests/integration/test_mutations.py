"""Each rule about money is broken on purpose, and the test that is named for it has to fail.

`make prove` breaks them all; without `FUSEWIRE_PROVE` it is a handful. Each is a run of pytest of its own, on this
run's server: the breaking is the only thing that differs from the suite.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

from tests.conftest import cloned
from tests.support.documents import PROJECT
from tests.support.mutations import Mutation, source_of
from tests.support.mutations.catalogue import MUTATIONS

HANDFUL: Final = (
    "no_lock",
    "settled_twice",
    "expired_released",
    "threshold_event_told_twice",
    "rollup_of_the_wrong_window",
    "no_ledger_still_a_call",
)
TRIED: Final = [m for m in MUTATIONS if m.name in HANDFUL or os.environ.get("FUSEWIRE_PROVE")]
ASSERTED: Final = {"AssertionError", "Failed"}
"""What a failed assertion raises, and what `pytest.raises` does when nothing was."""


def run(tests: Sequence[str], broken: str, server: str, folder: Path) -> dict[str, dict[str, str | None]]:
    """Run tests in a process of their own.

    :param broken: the mutation's name, or nothing
    :return: by test and phase what was raised
    """
    report = folder / "report.json"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "FUSEWIRE_"))}
    environment |= {
        "FUSEWIRE_MUTATION": broken,
        "FUSEWIRE_MUTATION_REPORT": str(report),
        "HYPOTHESIS_STORAGE_DIRECTORY": str(folder / "hypothesis"),
        "PYTHONPATH": os.pathsep.join([str(PROJECT), str(PROJECT / "layers/core/python")]),
        "TEST_DATABASE_URL": server,
    }
    options = ["-q", "-p", "tests.support.mutations.plugin", "-p", "no:cacheprovider", "-p", "no:xdist"]
    done = subprocess.run(  # noqa: S603 - pytest itself, with tests of this suite
        [sys.executable, "-m", "pytest", *options, f"--basetemp={folder / 'temp'}", *[f"tests/{t}" for t in tests]],
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert report.exists(), done.stdout + done.stderr
    phases: dict[str, dict[str, str | None]] = {}
    for test, phase, raised in json.loads(report.read_text(encoding="utf-8")):
        phases.setdefault(test.removeprefix("tests/"), {})[phase] = raised
    assert set(tests) <= set(phases), done.stdout + done.stderr
    return phases


@pytest.mark.parametrize("mutation", TRIED, ids=lambda mutation: mutation.name)
def test_a_broken_rule_fails_the_test_that_is_named_for_it(mutation: Mutation, postgres: str, tmp_path: Path) -> None:
    raised = run([mutation.caught_by], mutation.name, postgres, tmp_path)[mutation.caught_by]
    assert raised["setup"] is None
    assert raised["call"] in ASSERTED, f"{mutation.breaks}: and {mutation.caught_by} ended with {raised['call']}"


def test_with_nothing_broken_none_of_them_fails(postgres: str, tmp_path: Path) -> None:
    tests = sorted({mutation.caught_by for mutation in TRIED})
    phases = run(tests, "", postgres, tmp_path)
    assert {test: found for test, found in phases.items() if any(found.values())} == {}


def test_every_mutation_still_finds_what_it_breaks(postgres: str, template: str) -> None:
    with cloned(postgres, template) as url:
        for mutation in MUTATIONS:
            source = source_of(mutation, url)
            assert mutation.edited(source) != source, mutation.name


def test_every_rule_is_broken() -> None:
    assert {mutation.rule for mutation in MUTATIONS} == {*range(1, 11), 13, 14, 15}
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS)
    assert set(HANDFUL) <= {mutation.name for mutation in MUTATIONS}


def test_the_decisions_table_is_the_list() -> None:
    [decision] = (PROJECT / "docs/decisions").glob("*-mutations.md")
    rows = re.findall(r"^\| `(.+)` \| (\d+) \| (.+) \| `(.+)` \| `(.+)` \|$", decision.read_text("utf-8"), re.MULTILINE)
    assert rows == [(m.name, str(m.rule), m.breaks, m.target, m.caught_by) for m in MUTATIONS]
