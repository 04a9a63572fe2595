"""What a cold start imports: the subjects, one sample, and the page that is written of them."""

import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from benchmarks import BenchmarkError
from benchmarks.imports import Sample, Subject, beside, compared, medians, page, sample, subjects
from benchmarks.peers import ROOT

PYTHON = Path(sys.executable)


def test_every_function_is_a_subject_and_the_peer_runs_by_its_own_python() -> None:
    each = {subject.name: subject for subject in subjects(Path("/of/its/own"))}
    assert {file.parent.name for file in (ROOT / "functions").glob("*/app.py")} < each.keys()
    assert {name for name, subject in each.items() if subject.python != PYTHON} == {"litellm", "litellm's proxy"}
    assert [name for name, subject in each.items() if not subject.bytecode] == ["complete, without bytecode"]


@pytest.mark.parametrize("bytecode", [True, False])
def test_a_sample_counts_what_an_import_brings(bytecode: bool) -> None:
    result = sample(Subject("one", PYTHON, "import this; print('and what it prints is passed over')", bytecode))
    assert result.modules == 1
    assert result.milliseconds >= 0


def test_what_cannot_be_imported_ends_the_run() -> None:
    with pytest.raises(BenchmarkError, match="no_such_module"):
        sample(Subject("one", PYTHON, "import no_such_module"))


def test_the_page_sets_each_beside_complete() -> None:
    found = {
        "complete": [Sample(100, 500), Sample(300, 500), Sample(110, 500)],
        "litellm's proxy": [Sample(2200, 4000)],
    }
    run = {
        "date": "2026-11-26 07:54 UTC",
        "commit": "abc",
        "machine": {"cores": 2, "processor": "P", "system": "Linux"},
        "versions": {"Python": "3.13"},
        "rounds": 3,
        "imports": {name: asdict(medians(each)) for name, each in found.items()},
    }
    text = page(run)
    assert "complete takes 5 % of the processor time that LiteLLM's proxy takes" in text
    assert "| complete | 110 | 1.00 | 500 |" in text
    assert "| litellm's proxy | 2200 | 20.00 | 4000 |" in text


def test_each_function_stands_beside_that_of_another_checkout(tmp_path: Path) -> None:
    names = sorted(file.parent.name for file in (ROOT / "functions").glob("*/app.py"))
    with pytest.raises(BenchmarkError, match=f"no functions/{names[0]}/app.py"):
        beside(tmp_path)
    for name in names:
        (tmp_path / "functions" / name).mkdir(parents=True)
        (tmp_path / "functions" / name / "app.py").touch()
    each = beside(tmp_path)
    assert [subject.name for subject in each] == [name for name in names for _ in range(3)]
    assert [subject.layer.is_relative_to(tmp_path) for subject in each[:3]] == [True, False, False]
    assert "gc.disable()" in each[2].statement
    found = [[Sample(300, 500), Sample(310, 500)], [Sample(290, 490), Sample(280, 490)], [Sample(210, 490)] * 2]
    assert compared(each[:3], found).splitlines()[2:] == [f"| `{names[0]}` | 500 | 490 | 300 | 280 | 210 |"]
