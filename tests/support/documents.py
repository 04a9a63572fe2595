"""The project's documents as tests read them: blocks, headings, links, tables."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from textwrap import dedent
from typing import Any, Final

PROJECT: Final = Path(__file__).resolve().parents[2]
DOCUMENTS: Final = tuple(
    PROJECT / name
    for name in (
        "README.md",
        "CHANGELOG.md",
        *sorted(map(str, (PROJECT / "docs").rglob("*.md"))),
        *sorted(str(file) for file in (PROJECT / "infra").rglob("*.md") if ".aws-sam" not in file.parts),
    )
)
OPERATIONS: Final = (PROJECT / "docs/operations.md", PROJECT / "docs/operations.ja.md")

_FENCE: Final = re.compile(r"^(?P<indent> *)```(?P<language>\w+)$")
_NEEDS: Final = re.compile(r"^ *<!-- needs: (?P<what>.+) -->$")
_HEADING: Final = re.compile(r"^(#+) (.+)$", re.MULTILINE)
_LINK: Final = re.compile(r"\[(?P<text>[^\]]+)\]\((?P<target>[^)\s]+)\)")
_CODE: Final = re.compile(r"`([^`]+)`")


@dataclass(frozen=True)
class Block:
    """A fenced block; `needs` is what its comment says that it can't be run without."""

    document: Path
    line: int
    language: str
    text: str
    needs: str | None

    @property
    def place(self) -> str:
        return f"{self.document.relative_to(PROJECT)}:{self.line}"


@dataclass(frozen=True)
class Link:
    text: str
    target: str


def blocks(document: Path) -> list[Block]:
    """Every fenced block, in order. :raises AssertionError: for one without a language, or without an end"""
    found, lines, at = [], document.read_text(encoding="utf-8").splitlines(), 0
    while at < len(lines):
        if "```" not in lines[at]:
            at += 1
            continue
        opening = _FENCE.match(lines[at])
        assert opening, f"{document}:{at + 1}: a fence is three backticks and a language"
        end = lines.index(f"{opening['indent']}```", at)
        needs = _NEEDS.match(lines[at - 1]) if at else None
        text = dedent("\n".join(lines[at + 1 : end]))
        found.append(Block(document, at + 1, opening["language"], text, needs["what"] if needs else None))
        at = end + 1
    return found


def prose(document: Path) -> str:
    """The document without its fenced blocks."""
    return re.sub(r"^ *```.*?^ *```$", "", document.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def headings(document: Path) -> list[tuple[int, str]]:
    """(level, text), in order."""
    return [(len(marks), text) for marks, text in _HEADING.findall(prose(document))]


def anchor(heading: str) -> str:
    """What GitHub makes of a heading: lower case, no punctuation, hyphens for spaces."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def links(document: Path) -> list[Link]:
    return [Link(found["text"], found["target"]) for found in _LINK.finditer(prose(document))]


def code(text: str) -> list[str]:
    """What is set in backticks."""
    return _CODE.findall(text)


def rows(text: str) -> Iterator[tuple[str, ...]]:
    """The rows of every table in a text, as cells; a table's head is a row, its rule isn't."""
    for line in text.splitlines():
        if line.strip().startswith("|") and not set(line) <= set("|- :"):
            yield tuple(cell.strip() for cell in line.strip().strip("|").split("|"))


def table(document: Path, columns: int, *, under: str) -> list[tuple[str, ...]]:
    """The rows with so many columns whose first cell holds code, in the section whose heading's anchor is `under`."""
    found = [row for row in rows(section(document, under)) if len(row) == columns and code(row[0])]
    assert found, f"{document} has no such table under {under}"
    return found


def section(document: Path, under: str) -> str:
    """The text from a heading to the next of its level or above."""
    text = prose(document)
    marks = [(found.start(), len(found[1]), anchor(found[2])) for found in _HEADING.finditer(text)]
    for place, (start, level, name) in enumerate(marks):
        if name == under:
            ends: Sequence[int] = [start for start, other, _ in marks[place + 1 :] if other <= level]
            return text[start : ends[0] if ends else len(text)]
    raise AssertionError(f"{document} has no heading {under}")


# --- what a block is said to print -------------------------------------------------------------------------------

# Of these only the type is the same from run to run.
_VARYING: Final = {"id", "opened_at", "resets_at", "closed_at", "request_count"}


def _shown_after(block: Block) -> Block | None:
    """The output that the document shows for a block: what comes next, when that is no command."""
    later = [other for other in blocks(block.document) if other.line > block.line]
    return later[0] if later and later[0].language in ("json", "text") else None


def assert_shown(block: Block, printed: str) -> None:
    """What the document shows for a block is what it printed: JSON as a part of it, text line by line.

    :raises AssertionError: when it isn't
    """
    shown = _shown_after(block)
    if shown and shown.language == "json":
        _assert_within(_parsed(shown.text), _parsed(printed))
    elif shown:
        lines = [line.split() for line in printed.splitlines()]
        for line in shown.text.splitlines():
            assert line.split() in lines, printed


def _parsed(text: str) -> Any:  # noqa: ANN401 - JSON is anything
    return json.loads(text, parse_float=Decimal)


def _assert_within(shown: object, real: object, key: str = "") -> None:
    """What is shown is a part of what is real."""
    if isinstance(shown, dict):
        assert isinstance(real, dict), key
        for name, value in shown.items():
            assert name in real, name
            _assert_within(value, real[name], name)
    elif isinstance(shown, list):
        assert isinstance(real, list) and len(shown) <= len(real), key
        for here, there in zip(shown, real, strict=False):
            _assert_within(here, there, key)
    elif key in _VARYING:
        assert type(shown) is type(real), f"{key}: {shown} and {real}"
    else:
        assert shown == real, key
