"""What `make test` runs: no step's failure hides another's, and the last line is a summary of pytest's."""

import io
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.every_step import main
from tests.support.gateway import PROJECT


def step(code: str) -> str:
    return shlex.join([sys.executable, "-c", code])


def run_of_pytest(file: Path, *, passes: bool) -> str:
    """A run of pytest over one test."""
    file.write_text(f"def test_it() -> None:\n    assert {passes}\n")
    bare = ["env", "PYTEST_DISABLE_PLUGIN_AUTOLOAD=1", sys.executable]
    return shlex.join([*bare, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null", str(file)])


def said(*commands: str) -> tuple[int, list[str]]:
    out = io.BytesIO()
    status = main(list(commands), out)
    return status, out.getvalue().decode().splitlines()


def test_every_step_runs_and_one_failure_is_enough() -> None:
    lint, types = step("print('1 error'); raise SystemExit(1)"), step("print('no issues')")
    status, lines = said(lint, types)
    assert status == 1
    assert lines[:2] == ["1 error", "no issues"]
    assert lines[-5:] == [f"ok: {types}", "no issues", "", f"failed: {lint}", "1 error"]
    assert said(types) == (0, ["no issues", "", f"ok: {types}", "no issues"])


@pytest.mark.parametrize("failing", [0, 1])
def test_the_last_line_is_the_summary_of_the_tests_that_failed(tmp_path: Path, failing: int) -> None:
    runs = [run_of_pytest(tmp_path / f"test_{n}.py", passes=n != failing) for n in (0, 1)]
    status, lines = said(step("raise SystemExit('lint')"), *runs)
    assert status == 1
    assert re.fullmatch(r"1 failed in \S+s", lines[-1])
    assert [re.sub(" in .*", "", line) for line in lines if re.match(r"1 (passed|failed) in", line)] == [
        *(["1 failed", "1 passed"] if failing == 0 else ["1 passed", "1 failed"]),
        "1 passed",
        "1 failed",
    ]


def test_what_a_step_prints_goes_on_as_it_comes_and_its_errors_too() -> None:
    code = "import sys; print('a', flush=True); print('b', file=sys.stderr); sys.stdout.write('c'); sys.exit(3)"
    status, lines = said(step(code))
    assert (status, lines[:3], lines[-1]) == (1, ["a", "b", "c"], "c")


def test_steps_run_beside_each_other_and_print_in_their_order(tmp_path: Path) -> None:
    """The first waits for the second, and prints before, while and after that one does."""
    there = tmp_path / "there"
    waits = step(
        "import pathlib, time\nprint('a', flush=True)\n"
        f"while not pathlib.Path({str(there)!r}).exists():\n    time.sleep(0.01)\n"
        "print('b')"
    )
    makes = step(f"import pathlib; print('c', flush=True); pathlib.Path({str(there)!r}).touch(); print('d' * 200000)")
    status, lines = said(waits, makes)
    assert (status, lines[:4]) == (0, ["a", "b", "c", "d" * 200000])


def test_make_test_hides_nothing() -> None:
    made = subprocess.run(
        ["make", "--dry-run", "--no-print-directory", "test"],  # noqa: S607
        cwd=PROJECT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    [line] = [line for line in made.stdout.replace("\\\n", " ").splitlines() if "every_step" in line]
    steps = shlex.split(line)[2:]
    assert [each.split()[-1] for each in steps[:2]] == ["lint", "types"]
    first, second = steps[2:]
    assert first.split()[-1] == "tests/integration/local"
    assert "--ignore tests/integration/local" in second
