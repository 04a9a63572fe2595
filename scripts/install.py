"""`make setup` and its kin: a virtual environment with the locked requirements, whole or not there.

Runs on the machine's Python and needs nothing but its standard library.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final

_ENVIRONMENT: Final = Path(".venv")
_PYTHON: Final = _ENVIRONMENT / "bin" / "python"
# There while something is being installed: what was interrupted can't be told from what is complete.
_UNFINISHED: Final = _ENVIRONMENT / "unfinished"
_PIP: Final = (
    str(_PYTHON),
    *("-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--progress-bar", "off"),
    *("--require-hashes", "--only-binary", ":all:"),
)
_ARRIVING: Final = re.compile(
    r"\s*(?:Downloading|Using cached) (?P<file>\S+)\.(?:whl|tar\.gz)\S* \((?P<size>[\d.]+) MB\)"
)
_MIN_MB_TOLD: Final = 5.0


class SetupError(Exception):
    """It can't be set up; `str()` is one line that says what to do."""


def main(names: Sequence[str]) -> int:
    """Install `requirements/<name>.txt` for each name; `model` without dependencies. :return: the exit status"""
    try:
        _ensure_environment()
        started = time.monotonic()
        _say(f"Installing the locked requirements into {_ENVIRONMENT}, once. The larger ones:")
        _UNFINISHED.touch()
        for name in names:
            _install(Path("requirements", f"{name}.txt"), with_dependencies=name != "model")
        _UNFINISHED.unlink()
        _say(f"Installed: {_size(_ENVIRONMENT) / 1e6:.0f} MB on disk, in {time.monotonic() - started:.0f} s.")
    except SetupError as error:
        _say(f"\nfusewire can't be set up. {error}")
        return 1
    except OSError as error:
        _say(f"\nfusewire can't be set up. {error.filename or _ENVIRONMENT}: {error.strerror}.")
        return 1
    except KeyboardInterrupt:
        _say("\nInterrupted; the next try begins anew.")
        return 130
    return 0


def _ensure_environment() -> None:
    """A virtual environment with pip in it; one that an earlier try left broken or half filled is made anew.

    :raises SetupError: when this Python can't make one
    """
    if _ENVIRONMENT.exists():
        if not _UNFINISHED.exists() and _has_pip():
            return
        _say(f"{_ENVIRONMENT} isn't complete: it is made anew.")
        _remove_environment()
    if find_spec("ensurepip") is None:
        raise SetupError(f"This Python has no venv: {_how_to_get_venv()}, then try again.")
    try:
        made = subprocess.run(  # noqa: S603 - this Python
            [sys.executable, "-m", "venv", str(_ENVIRONMENT)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
    except BaseException:
        _remove_environment()
        raise
    if made.returncode != 0:
        _remove_environment()
        reason = made.stdout.decode(errors="replace").strip().rpartition("\n")[2]
        raise SetupError(f"`{sys.executable} -m venv {_ENVIRONMENT}` fails: {reason}")


def _has_pip() -> bool:
    try:
        asked = subprocess.run(  # noqa: S603 - the environment's Python
            [str(_PYTHON), "-m", "pip", "--version"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False
        )
    except OSError:
        return False
    return asked.returncode == 0


def _remove_environment() -> None:
    if _ENVIRONMENT.is_symlink():
        raise SetupError(f"{_ENVIRONMENT} is a link to an environment elsewhere: repair that one, or remove the link.")
    shutil.rmtree(_ENVIRONMENT, ignore_errors=not _ENVIRONMENT.exists())


def _how_to_get_venv() -> str:
    if shutil.which("apt-get"):
        return f"as root, `apt install python{sys.version_info[0]}.{sys.version_info[1]}-venv`"
    return "install your system's package with Python's `venv` and `ensurepip`"


def _install(requirements: Path, *, with_dependencies: bool) -> None:
    """Tell of each large file as it comes. :raises SetupError: when pip fails"""
    command = [*_PIP, *([] if with_dependencies else ["--no-deps"]), "-r", str(requirements)]
    errors: list[str] = []
    with subprocess.Popen(  # noqa: S603 - pip, in the environment
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as pip:
        assert pip.stdout is not None  # noqa: S101 - a pipe, see above
        for line in pip.stdout:
            arriving = _ARRIVING.match(line)
            if arriving and float(arriving["size"]) >= _MIN_MB_TOLD:
                _say(f"  {arriving['file'].partition('-')[0]:<18} {float(arriving['size']):5.1f} MB")
            elif line.startswith("Installing collected packages:"):
                _say(f"Unpacking {line.count(',') + 1} packages ...")
            elif line.startswith("ERROR: "):
                errors.append(line.removeprefix("ERROR: ").strip())
    if pip.returncode != 0:
        reason = errors[-1] if errors else f"pip ended with {pip.returncode}"
        raise SetupError(f"{requirements} can't be installed: {reason}")


def _size(folder: Path) -> int:
    """What it takes on the disk, in bytes."""
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*"))


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
