"""Names use the field's terms: words that only this project used don't come back. docs/glossary.md has the terms."""

import io
import re
import subprocess
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Parts of identifiers, as `snake_case` and `CamelCase` divide them, with what to say instead. Capitals are constants.
OLD_NAMES = {
    "told": "row, message, body, response",
    "door": "API format",
    "doors": "API formats",
    "vocabulary": "schema",
    "crossing": "threshold event",
    "crossings": "threshold events",
    "swept": "expired",
    "turned": "rolled over",
    "MOST": "MAX",
    "LONGEST": "MAX",
    "LARGEST": "MAX",
    "LEAST": "MIN",
    "SHORTEST": "MIN",
    "unlisted": "default_for_status",
    "unanswered": "from_transport_error",
}
OLD_PHRASES = ("front door", "at 3 a.m.", "questions to the log", "going back", "taking it down", "start anew")
PYTHON = sorted(
    ROOT / name
    for name in subprocess.run(
        ["git", "ls-files", "*.py"],  # noqa: S607
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
)


def names(file: Path) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(file.read_text(encoding="utf-8")).readline):
        if token.type == tokenize.NAME:
            yield token.start[0], token.string


def parts(name: str) -> set[str]:
    found = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)
    return {part if part.isupper() else part.lower() for part in found}


@pytest.mark.parametrize("file", PYTHON, ids=lambda file: str(file.relative_to(ROOT)))
def test_names_are_the_fields(file: Path) -> None:
    # A test's name is a sentence: only the product's and the helpers' names are looked at.
    wrong = [
        f"{file.relative_to(ROOT)}:{line}: {name}: say {OLD_NAMES[part]}"
        for line, name in names(file)
        if not name.startswith("test_")
        for part in sorted(parts(name) & OLD_NAMES.keys())
    ]
    assert not wrong


@pytest.mark.parametrize("phrase", OLD_PHRASES)
def test_documents_use_the_fields_terms(phrase: str) -> None:
    documents = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    assert not [file.name for file in documents if phrase in file.read_text(encoding="utf-8").lower()]
