"""The peers' own Python environments, and what an installation takes."""

import hashlib
import re
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Final

from benchmarks import BenchmarkError

_PINNED: Final = re.compile(r"^([A-Za-z0-9._-]+)==", re.MULTILINE)
_NOT_ITS_OWN: Final = {"pip", "setuptools", "wheel"}


@dataclass(frozen=True, slots=True)
class Installed:
    """What a set of distributions takes on disk, byte code included."""

    megabytes: float
    distributions: int


def ready_environment(requirements: Path, folder: Path) -> Path:
    """A virtual environment with exactly these hashed requirements, made once for each version of them.

    :return: its `python`
    :raises BenchmarkError: when it can't be made; what was begun is made again next time
    """
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()[:12]
    home = folder / f"{requirements.stem}-{digest}"
    python = home / "bin" / "python"
    complete = home / "complete"
    if complete.exists():
        return python
    sys.stdout.write(f"Installing {requirements.stem} in an environment of its own (once, about a minute).\n")
    sys.stdout.flush()
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes"]
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(home)],
        [*install, "--requirement", str(requirements)],
    ):
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)  # noqa: S603 - our own arguments
        if done.returncode:
            reason = next((line for line in done.stderr.splitlines() if line.startswith("ERROR")), done.stderr.strip())
            raise BenchmarkError(f"{requirements.stem} can't be installed: {reason}")
    complete.touch()
    return python


def site_packages(python: Path) -> Path:
    """Where the environment of this `python` keeps its distributions."""
    found = sorted((python.parent.parent / "lib").glob("python3.*/site-packages"))
    if not found:
        raise BenchmarkError(f"{python.parent.parent.name} is no virtual environment")
    return found[0]


def pinned_names(requirements: Path) -> set[str]:
    """The distributions that a compiled requirements file names."""
    return {_normal(name) for name in _PINNED.findall(requirements.read_text(encoding="utf-8"))}


def installed(site: Path, names: Iterable[str] | None = None) -> Installed:
    """What is installed there of `names`, or altogether less pip; files that others put beside them don't count."""
    wanted = None if names is None else {_normal(name) for name in names}
    size = count = 0
    for distribution in distributions(path=[str(site)]):
        name = _normal(distribution.metadata["Name"])
        if name in _NOT_ITS_OWN if wanted is None else name not in wanted:
            continue
        count += 1
        size += _bytes(distribution)
    return Installed(round(size / 1e6, 1), count)


def version(site: Path, name: str) -> str:
    """The version of one distribution there, `?` where it isn't installed."""
    for distribution in distributions(path=[str(site)]):
        if _normal(distribution.metadata["Name"]) == _normal(name):
            return distribution.version
    return "?"


def _bytes(distribution: Distribution) -> int:
    paths = (Path(str(file.locate())) for file in distribution.files or ())
    return sum(path.stat().st_size for path in paths if path.is_file())


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
