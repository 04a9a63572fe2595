"""What every document says of the project's files is so: links, paths, module names, languages of blocks."""

import re
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

from fusewire import VERSION
from tests.support.documents import DOCUMENTS, PROJECT, anchor, blocks, code, headings, links, prose

_TOP = {path.name for path in PROJECT.iterdir() if not path.name.startswith(".")}
_PATH = re.compile(rf"(?<![\w./@-])((?:{'|'.join(map(re.escape, sorted(_TOP)))})/[\w./*-]*\w/?)")
_MODULE = re.compile(r"\bfusewire(?:\.[a-z_]+)+\b")
_EVERYWHERE = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)


@_EVERYWHERE
def test_links_lead_somewhere(document: Path) -> None:
    for link in links(document):
        if link.target.startswith("https://"):
            continue
        target, _, fragment = link.target.partition("#")
        file = (document.parent / target).resolve() if target else document
        assert file.exists(), link
        if fragment:
            assert fragment in {anchor(heading) for _, heading in headings(file)}, link


@_EVERYWHERE
def test_a_link_that_shows_a_path_leads_to_it(document: Path) -> None:
    for link in links(document):
        if re.fullmatch(r"[\w./]+\.(py|sql|md|yaml|json)", link.text):
            assert link.target.endswith(link.text), link


@_EVERYWHERE
def test_paths_exist(document: Path) -> None:
    for path in _PATH.findall(document.read_text(encoding="utf-8")):
        assert list(PROJECT.glob(path.rstrip("/"))), path


@_EVERYWHERE
def test_modules_exist(document: Path) -> None:
    for name in _MODULE.findall(document.read_text(encoding="utf-8")):
        # The operations manual's log file, and the file that docs/providers.md has its reader make.
        if name not in ("fusewire.log", "fusewire.ai.providers.echo"):
            assert find_spec(name), name


@_EVERYWHERE
def test_a_request_in_a_sentence_is_one_that_is_run_in_a_block(document: Path) -> None:
    run = " ".join(block.text for each in DOCUMENTS for block in blocks(each) if block.language == "bash")
    for command in code(prose(document)):
        if command.startswith("curl "):
            [url] = re.findall(r"http://[^\s']+", command)
            assert url in run, command


@_EVERYWHERE
def test_make_targets_exist(document: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    said = re.findall(r"\bmake (?:-s )?([a-z-]+)", " ".join(code(prose(document))))
    assert set(said) <= targets


@_EVERYWHERE
def test_every_block_is_of_a_language_that_a_test_knows(document: Path) -> None:
    # bash and json are run by tests/e2e/test_docs.py, python there and in test_operations.py, dotenv in the latter;
    # mermaid's charts are written by `make bench` (tests/unit/benchmarks/test_charts.py).
    assert {block.language for block in blocks(document)} <= {"bash", "json", "text", "python", "dotenv", "mermaid"}


def test_every_module_of_the_layer_has_its_place_in_the_architecture() -> None:
    architecture = PROJECT / "docs/architecture.md"
    shown = [(architecture.parent / link.target).resolve() for link in links(architecture) if "://" not in link.target]
    for module in (PROJECT / "layers/core/python/fusewire").rglob("*.py"):
        if module.name != "__init__.py":
            assert {module, *module.parents[:1]} & set(shown), module


def test_decisions_are_numbered_without_gaps_and_say_what_was_weighed() -> None:
    decisions = sorted((PROJECT / "docs/decisions").glob("*.md"))
    for number, decision in enumerate(decisions, start=1):
        assert decision.name.startswith(f"{number:04}-")
        (level, title), *sections = headings(decision)
        assert level == 1 and title.startswith(f"{number}. ")
        assert {"Context", "Decision", "Alternatives", "Consequences"} <= {section for _, section in sections}
        assert {"Measured", "How to see it"} & {section for _, section in sections}


def test_every_decision_that_the_code_cites_exists() -> None:
    for file in (PROJECT / "layers").rglob("*.py"):
        for cited in re.findall(r"docs/[\w/.-]+\.md", file.read_text(encoding="utf-8")):
            assert (PROJECT / cited).exists(), f"{file}: {cited}"


def test_one_version_everywhere() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == VERSION
    assert f"{VERSION} has" in (PROJECT / "README.md").read_text(encoding="utf-8")
    assert VERSION in (PROJECT / "CHANGELOG.md").read_text(encoding="utf-8")
