"""What can be said of the console's sources without Node.js; `make console-test` says the rest."""

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.gateway import PROJECT

CONSOLE = PROJECT / "console"
SOURCES = [
    file
    for top in CONSOLE.iterdir()
    if top.name not in ("dist", "node_modules") and not top.name.startswith(".")  # a build beside this
    for file in (top, *top.rglob("*"))
    if file.is_file()
]


@pytest.fixture(scope="module")
def digest() -> str:
    """Of the document as a process of its own makes it, which is what the command reads."""
    program = "import json; from fusewire.http.openapi.document import document; print(json.dumps(document()), end='')"
    made = subprocess.run(  # noqa: S603 - our own words
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(PROJECT / "layers/core/python")},
        capture_output=True,
        check=True,
    )
    return hashlib.sha256(made.stdout).hexdigest()


@pytest.mark.parametrize("name", ["schema.d.ts", "integers.ts"])
def test_the_types_are_those_of_todays_document(name: str, digest: str) -> None:
    """`make console-api` makes them anew; what doesn't fit any more then breaks the build."""
    made_of = re.search(r"SHA-256: ([0-9a-f]{64})", (CONSOLE / "src" / "api" / name).read_text())
    assert made_of is not None
    assert made_of[1] == digest, "run `make console-api`"


@pytest.mark.parametrize("lock", [CONSOLE / "package-lock.json", PROJECT / "tests" / "console" / "package-lock.json"])
def test_the_locked_packages_are_pinned_and_of_no_registry_of_somebodys(lock: Path) -> None:
    text = lock.read_text()
    packages = json.loads(text)["packages"]
    assert '"resolved"' not in text
    assert all("integrity" in package for name, package in packages.items() if name)


def test_nothing_is_fetched_from_elsewhere() -> None:
    for file in SOURCES:
        if file.suffix in (".css", ".html", ".tsx", ".ts", ".svg"):
            addresses = re.findall(r"https?://[^\s\"'`)>]+", file.read_text())
            assert set(addresses) <= {
                "http://www.w3.org/2000/svg",
                "https://html.spec.whatwg.org/multipage/server-sent-events.html",
            }, file


def test_text_never_becomes_markup() -> None:
    for file in SOURCES:
        if file.suffix in (".tsx", ".ts"):
            text = file.read_text()
            assert not re.search(r"dangerouslySetInnerHTML|innerHTML|outerHTML|document\.write|\beval\(", text), file
