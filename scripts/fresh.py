"""`make fresh`: README's two commands and its budget demo on machines that have just been made, as a user and as root.

Each machine is a minimal Debian from debootstrap with `python3` and `make`, in namespaces of its own: what is mounted
and what runs in it is gone with the command that it was for. Mirror, pip's settings and certificates are this
machine's. Needs root, and keeps the bare roots and pip's downloads in FRESH (/var/cache/fusewire-fresh).
"""

import argparse
import ast
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

_PROJECT: Final = Path(__file__).resolve().parents[1]
_CACHE: Final = Path(os.environ.get("FRESH", "/var/cache/fusewire-fresh"))
_SUITES: Final = {"12": "bookworm", "13": "trixie"}
_ACCOUNTS: Final = {"user": ("reader", 1000, "/home/reader"), "root": ("root", 0, "/root")}
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_FIRST_SECONDS: Final = 900
_START_SECONDS: Final = 120
_STOP_SECONDS: Final = 60
_FENCE: Final = re.compile(r"^```(bash|json|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_TOLD_TO_INSTALL: Final = re.compile(r"`apt install (?P<package>[\w.-]+)`")


class FreshError(Exception):
    """A machine can't be made, or didn't do as README says; `str()` says which."""


@dataclass
class Outcome:
    """What one machine did. `seconds` is from `make run` to the first answer, installing included."""

    machine: str
    seconds: float = 0.0
    megabytes: float = 0.0
    trouble: list[str] = field(default_factory=list)

    def row(self) -> tuple[str, str, str, str]:
        return (
            self.machine,
            f"{self.seconds:.0f} s" if self.seconds else "-",
            f"{self.megabytes:.0f} MB" if self.megabytes else "-",
            "; ".join(self.trouble) or "nothing",
        )


def missing(*debians: str) -> str | None:
    """What this machine lacks for it, or None.

    :param debians: which roots are to be had
    """
    if os.geteuid() != 0:
        return "it needs root, for chroot and mount"
    if not (_PROJECT / ".git").exists() or _which("git") is None:
        return "it needs git and a clone, whose HEAD is what is tried"
    if any(_which(name) is None for name in ("curl", "unshare")):
        return "it needs curl and unshare"
    if _which("debootstrap") is None:
        if _which("apt-get") is None:
            return "there is neither debootstrap nor apt, which could install it"
        _quietly(["apt-get", "update"], check=False)
        _quietly(["apt-get", "install", "-y", "--no-install-recommends", "debootstrap"], check=False)
        if _which("debootstrap") is None:
            return "debootstrap isn't there, and apt can't install it"
    try:
        for debian in debians:
            _base(debian)
    except FreshError as error:
        return f"debootstrap can't make a root: {error}"
    return None


def main() -> int:
    """:return: 0 when every machine did all that README says"""
    parser = argparse.ArgumentParser(description="README's commands on fresh machines.")
    parser.add_argument("--debian", choices=_SUITES, action="append", help="12 or 13; both, if none is named")
    parser.add_argument("--account", choices=_ACCOUNTS, action="append", help="user or root; both, if none is named")
    chosen = parser.parse_args()
    if lacking := missing():
        sys.stderr.write(f"make fresh: {lacking}.\n")
        return 2
    outcomes = [
        tried(debian, account)
        for debian in chosen.debian or list(_SUITES)
        for account in chosen.account or list(_ACCOUNTS)
    ]
    _print_table([("machine", "first answer", "installed", "went wrong"), *(outcome.row() for outcome in outcomes)])
    return 1 if any(outcome.trouble for outcome in outcomes) else 0


def _print_table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        sys.stdout.write("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() + "\n")


def tried(debian: str, account: str) -> Outcome:
    """All of README on one fresh machine. What goes wrong is in the outcome."""
    outcome = Outcome(f"Debian {debian}, as {account}")
    _say(f"{outcome.machine} ...")
    try:
        with Machine(debian, account) as machine:
            _follow_readme(machine, outcome)
    except (FreshError, OSError, ValueError, subprocess.SubprocessError) as error:
        outcome.trouble.append(f"{error}" if isinstance(error, FreshError) else f"{type(error).__name__}: {error}")
    return outcome


def _follow_readme(machine: "Machine", outcome: Outcome) -> None:
    before = machine.state()
    _follow_the_hint(machine)
    question, answer, budget, calls, statuses, asked, result = _readme()
    started = time.monotonic()
    with machine.serving("make run", _FIRST_SECONDS) as port:
        _expect("the first answer", _within(json.loads(answer), json.loads(_typed(question, port))))
        outcome.seconds = time.monotonic() - started
        outcome.megabytes = machine.installed() / 1e6
    with machine.serving(budget, _START_SECONDS) as port:
        counted = [line.split() for line in _typed(calls, port).splitlines()]
        _expect(f"the budget's statuses ({counted})", counted == [line.split() for line in statuses.splitlines()])
        shown = json.loads(_typed(asked, port))
        _expect(f"what is left of the budget ({shown})", _within(json.loads(result), shown))
    changed = {name for name, value in machine.state().items() if before.get(name) != value}
    _expect(f"what is not fusewire's is as before ({', '.join(sorted(changed))})", not changed)


def _follow_the_hint(machine: "Machine") -> None:
    """`make run` without Python's venv says what to install, and leaves nothing behind; it is installed."""
    refused = machine.run("make run", check=False)
    hint = _TOLD_TO_INSTALL.search(refused)
    _expect(f"without venv it says what to install: {refused[-300:]}", hint is not None)
    _expect("without venv nothing is left behind", not (machine.checkout / ".venv").exists())
    assert hint is not None  # noqa: S101 - see above
    machine.run(f"apt-get update && apt-get install -y --no-install-recommends {hint['package']}", as_root=True)


def _expect(what: str, holds: bool) -> None:
    if not holds:
        raise FreshError(f"not so: {what}")


def _readme() -> tuple[str, str, str, str, str, str, str]:
    """Its commands and what it shows: question, answer, start with a budget, calls, statuses, question, budget."""
    text = (_PROJECT / "README.md").read_text(encoding="utf-8")
    first, *rest = [content.strip() for _, content in _FENCE.findall(text)]
    if first != "make run" or len(rest) != 7:
        raise FreshError("README isn't built as it was: `make run`, a question, a start with a budget, calls, budget")
    question, answer, budget, calls, statuses, asked, result = rest
    return question, answer, budget, calls, statuses, asked, result


def _typed(command: str, port: int) -> str:
    """What one of README's commands prints, typed on this machine, in another terminal."""
    return _quietly(["bash", "-e", "-c", command.replace("8000", str(port))])


def _within(shown: Any, real: Any) -> bool:  # noqa: ANN401 - JSON is anything
    """Whether what is shown is a part of what is real."""
    if isinstance(shown, dict):
        return isinstance(real, dict) and all(_within(value, real.get(name)) for name, value in shown.items())
    if isinstance(shown, list):
        return isinstance(real, list) and all(map(_within, shown, real))
    return bool(shown == real)


# --- machines --------------------------------------------------------------------------------------------------------


class Machine:
    """A root with the project's HEAD in an account's home; removed at the end."""

    def __init__(self, debian: str, account: str) -> None:
        self._base = _base(debian)
        self._root = _CACHE / f"{debian}-{account}-{os.getpid()}"
        _, self._user, self._home = _ACCOUNTS[account]
        self._downloads = _CACHE / f"pip-{debian}-{account}"
        self.checkout = self._root / self._home.lstrip("/") / "fusewire"
        self.log = _CACHE / f"{debian}-{account}.log"

    def __enter__(self) -> "Machine":
        _quietly(["cp", "-a", "--reflink=auto", str(self._base), str(self._root)])
        _lend_the_network(self._root)
        self._mounted = _lend_pip(self._root)
        self._downloads.mkdir(mode=0o700, exist_ok=True)
        os.chown(self._downloads, self._user, self._user)
        self.checkout.mkdir()
        archive = subprocess.run(["git", "archive", "HEAD"], cwd=_PROJECT, capture_output=True, check=True)  # noqa: S607
        subprocess.run(["tar", "-x", "-C", str(self.checkout)], input=archive.stdout, check=True)  # noqa: S603, S607
        for path in (self.checkout, *self.checkout.rglob("*")):
            os.chown(path, self._user, self._user)
        self.log.unlink(missing_ok=True)
        return self

    def __exit__(self, *error: object) -> None:
        shutil.rmtree(self._root)

    def state(self) -> dict[str, str]:
        """Owner and mode of what a start must leave alone, and the system's accounts."""
        watched = [self._root / place for place in ("", "home", "root", "tmp", "var", "var/lib", "etc")]
        result = {str(path.relative_to(self._root)): path.stat() for path in (*watched, self.checkout.parent)}
        accounts = {name: (self._root / "etc" / name).read_text() for name in ("passwd", "group")}
        return {
            name: f"{status.st_mode:o} {status.st_uid}:{status.st_gid}" for name, status in result.items()
        } | accounts

    def installed(self) -> int:
        """What is in .venv, in bytes on the disk."""
        return sum(path.lstat().st_blocks * 512 for path in (self.checkout / ".venv").rglob("*"))

    def run(self, command: str, *, as_root: bool = False, check: bool = True) -> str:
        """What a command prints, typed in the checkout. :raises FreshError: when it fails, unless it may"""
        return _quietly(self._entered(command, as_root=as_root), check=check)

    @contextmanager
    def serving(self, command: str, seconds: float) -> Iterator[int]:
        """A gateway started by a command of README's, on a port of its own, until the block ends with Ctrl-C.

        :raises FreshError: when it isn't ready in time, or doesn't stop as it should
        """
        port = _free_port()
        start = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            process = subprocess.Popen(  # noqa: S603 - README's command
                self._entered(f"export PORT={port}; {command}", as_root=False),
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )
        try:
            deadline = time.monotonic() + seconds
            while "The log follows" not in self._logged(start):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise FreshError(f"`{command}` isn't ready: {self._logged(start)[-300:]} ({self.log})")
                time.sleep(0.1)
            yield port
            os.killpg(process.pid, signal.SIGINT)
            process.wait(_STOP_SECONDS)
            _expect(f"Ctrl-C stops it ({self.log})", self._logged(start).endswith("Stopped.\n"))
        except subprocess.TimeoutExpired as error:
            raise FreshError(f"`{command}` doesn't stop ({self.log})") from error
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def _logged(self, start: int) -> str:
        return self.log.read_bytes()[start:].decode(errors="replace")

    def _entered(self, command: str, *, as_root: bool) -> list[str]:
        """A command in the root, in namespaces that end with it."""
        user, home = (0, "/root") if as_root else (self._user, self._home)
        root, memory = shlex.quote(str(self._root)), "dev/shm"
        mounts = [
            f"mount -t proc proc {root}/proc",
            f"mkdir -p {root}/{memory} && mount -t tmpfs -o mode=1777 tmpfs {root}/{memory}",
            f"mkdir -p {root}/pip && mount --bind {shlex.quote(str(self._downloads))} {root}/pip",
            *(f"mount --bind -o ro {shlex.quote(str(path))} {root}{shlex.quote(str(path))}" for path in self._mounted),
        ]
        environment = {"HOME": home, "PATH": _PATH, "PIP_CACHE_DIR": "/pip", "DEBIAN_FRONTEND": "noninteractive"}
        entered = [
            *("chroot", f"--userspec={user}:{user}", "--groups=", str(self._root)),
            *("env", "-i", *(f"{key}={value}" for key, value in environment.items())),
            *("sh", "-c", f"cd {self._home}/fusewire && {command}"),
        ]
        script = " && ".join([*mounts, shlex.join(entered)])
        return ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", script]


def _base(debian: str) -> Path:
    """A bare root with `python3` and `make`, made once. :raises FreshError: when it can't be"""
    base = _CACHE / f"debian-{debian}"
    if not base.exists():
        _CACHE.mkdir(parents=True, exist_ok=True)
        half = base.with_name(f"{base.name}.half")
        shutil.rmtree(half, ignore_errors=True)
        mirror = [uri] if (uri := _mirror()) else []
        _quietly(["debootstrap", "--variant=minbase", "--include=python3,make", _SUITES[debian], str(half), *mirror])
        name, user, home = _ACCOUNTS["user"]
        _quietly(["chroot", str(half), "useradd", "--create-home", f"--home-dir={home}", f"--uid={user}", name])
        half.rename(base)
    return base


def _mirror() -> str | None:
    """Debian's mirror by apt's own sources; None where apt has none, and debootstrap knows one."""
    if _which("apt-get") is None:
        return None
    result = _quietly(
        ["apt-get", "indextargets", "--format", "$(LABEL) $(COMPONENT) $(REPO_URI)", "Created-By: Packages"],
        check=False,
    )
    return next((line.split()[2] for line in result.splitlines() if line.startswith("Debian main ")), None)


def _lend_the_network(root: Path) -> None:
    """This machine's names, and apt's settings for the way out."""
    for name in ("resolv.conf", "hosts"):
        shutil.copyfile(f"/etc/{name}", root / "etc" / name)
    folder = Path("/etc/apt/apt.conf.d")
    for file in folder.iterdir() if folder.is_dir() else ():
        if "Acquire::" in file.read_text(errors="replace"):
            shutil.copyfile(file, root / "etc/apt/apt.conf.d" / file.name)


def _lend_pip(root: Path) -> list[Path]:
    """pip's settings. Files that they name are copied to a place that no package knows; folders are to be mounted."""
    result = _quietly([sys.executable, "-m", "pip", "config", "list"])
    settings = {
        name.rpartition(".")[2]: str(ast.literal_eval(value))
        for name, _, value in (line.partition("=") for line in result.splitlines())
        if not name.endswith(".cache-dir")
    }
    mounted = []
    for name, words in settings.items():
        for word in words.split():
            # What an index on this disk links to is beside it.
            path = Path(word.removeprefix("file://")).parent if word.startswith("file://") else Path(word)
            if path.is_absolute() and path.is_dir():
                mounted.append(path)
                (root / str(path).lstrip("/")).mkdir(parents=True, exist_ok=True)
            elif path.is_absolute() and path.is_file():
                (root / "lent").mkdir(exist_ok=True)
                shutil.copyfile(path, root / "lent" / path.name)
                settings[name] = settings[name].replace(word, f"/lent/{path.name}")
    lines = (f"{name} = {value}" for name, value in settings.items())
    (root / "etc/pip.conf").write_text("\n".join(["[global]", *lines, ""]))
    return list(dict.fromkeys(mounted))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _environment() -> dict[str, str]:
    """With the folders of debootstrap and chroot, which a user's PATH may leave out."""
    return {**os.environ, "PATH": _PATH}


def _which(program: str) -> str | None:
    return shutil.which(program, path=_PATH)


def _quietly(command: Sequence[str], *, check: bool = True) -> str:
    """What a command prints. :raises FreshError: when it fails, with the end of what it complains of"""
    output = subprocess.run(  # noqa: S603 - our own words, and README's
        command,
        env=_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=_FIRST_SECONDS,
        check=False,
    )
    if check and output.returncode != 0:
        raise FreshError(f"`{shlex.join(command)[:200]}` failed: {(output.stdout + output.stderr).strip()[-300:]}")
    return output.stdout if check else output.stdout + output.stderr


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
