"""The peers that run on Node: their locked packages, what they take, and whether there is a Node at all."""

import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_LOCK: Final = "package-lock.json"
_MANIFEST: Final = "package.json"


class NotInstalledError(Exception):
    """Why a peer can't take part; the run goes on without it, and says so."""


@dataclass(frozen=True, slots=True)
class Packages:
    """A project's packages, installed as its lock file has them."""

    node: Path
    modules: Path

    def node_version(self) -> str:
        """What `node --version` says, without its `v`."""
        run = subprocess.run([str(self.node), "--version"], capture_output=True, text=True, check=False)  # noqa: S603 - our own arguments
        return run.stdout.strip().removeprefix("v")

    def version(self, name: str) -> str:
        """Of one of the packages."""
        manifest = json.loads((self.modules / name / _MANIFEST).read_text(encoding="utf-8"))
        return str(manifest["version"])

    def size(self) -> tuple[float, int]:
        """Megabytes of `node_modules`, and the packages in it."""
        taken = sum(file.lstat().st_size for file in self.modules.rglob("*") if file.is_file())
        locked = json.loads((self.modules / f".{_LOCK}").read_text(encoding="utf-8"))
        return round(taken / 1e6, 1), len(locked["packages"])


def ready_packages(project: Path, folder: Path) -> Packages:
    """The packages of `project` (its `package.json` and lock file), installed once for each version of them.

    npm checks each against the lock file's hash, and runs none of their scripts.

    :param folder: where installations are kept
    :raises NotInstalledError: without Node or npm, or when npm can't
    """
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise NotInstalledError("it needs Node and npm, and this machine has none")
    files = [project / _MANIFEST, project / _LOCK]
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]
    home = folder / f"{project.name}-{digest}"
    complete = home / "complete"
    if not complete.exists():
        sys.stdout.write(f"Installing {project.name} from its lock file (once, some ten seconds).\n")
        sys.stdout.flush()
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        for file in files:
            shutil.copy(file, home)
        done = subprocess.run(  # noqa: S603 - our own arguments
            [npm, "ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund"],
            cwd=home, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            reason = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr.strip())
            raise NotInstalledError(f"npm can't install it: {reason}")
        complete.touch()
    return Packages(Path(node), home / "node_modules")
