"""The folder with what `make run` keeps, FUSEWIRE_HOME: where it is, for whom, and one gateway at a time in it."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from local import StartError
from local.account import postgres_account

_OF_THE_SYSTEM: Final = Path("/var/lib/fusewire")
_OURS: Final = {"archive", "lock", "postgres", "postgres.lock", "postgres.users"}
PROGRAMS: Final = "programs-"
"""What a copy of Postgres' programs in a home begins with."""


def home_folder(name: str, *, chosen: bool) -> Path:
    """The home by its name; for root `/var/lib/fusewire`, if nobody chose it and Postgres can't reach the usual one.

    :param chosen: whether FUSEWIRE_HOME is set
    """
    home = Path(name).expanduser().absolute()
    account = postgres_account(home / "postgres")
    if chosen or account is None or home.exists():
        return home
    try:
        return home if account.first_closed(home.parent) is None else _OF_THE_SYSTEM
    except OSError:
        return home  # a container whose root can't be anybody else


def make_private(home: Path) -> None:
    """Make the folder where it isn't there, and close it to everybody else; nothing above it is changed.

    A folder that holds other things than fusewire's, or that is another user's, stays as it is.

    :raises OSError: when it can't be made
    """
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    if home.stat().st_uid != os.geteuid() or not all(_is_ours(name) for name in os.listdir(home)):
        return
    account = postgres_account(home / "postgres")
    home.chmod(0o710 if account is not None and _give(home, account.group) else 0o700)


def _give(home: Path, group: int) -> bool:
    try:
        os.chown(home, -1, group)
    except OSError:
        return False  # a container whose root may not: a server of one's own can be used there, though no embedded one
    return True


def _is_ours(name: str) -> bool:
    return name in _OURS or name.startswith(PROGRAMS)


def open_private(path: Path) -> int:
    """A file in the home, for reading and writing, which nobody else may open; made where it isn't there.

    :return: its descriptor
    :raises OSError: when it can't be opened
    """
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    owner, home = os.fstat(file), path.parent.stat()
    if owner.st_uid == os.geteuid():
        os.fchmod(file, 0o600)
        if os.geteuid() == 0 and home.st_uid != 0:  # under sudo: the user's next start needs it
            os.fchown(file, home.st_uid, home.st_gid)
    return file


@contextmanager
def home_of_its_own(home: Path) -> Iterator[None]:
    """The home, made, private, and locked against a second gateway.

    :raises StartError: when it can't be used, or another gateway uses it
    """
    with ExitStack() as stack:
        try:
            make_private(home)
            lock = open_private(home / "lock")
            stack.callback(os.close, lock)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.truncate(lock, 0)
            os.write(lock, str(os.getpid()).encode())
        except BlockingIOError as error:
            holder = os.pread(lock, 20, 0).decode().strip() or "unknown"
            raise StartError(
                f"Another fusewire (process {holder}) uses {home}: stop it first, or set FUSEWIRE_HOME and PORT for a "
                "second one."
            ) from error
        except OSError as error:
            raise StartError(
                f"The folder {home} can't be used ({error.strerror}): set FUSEWIRE_HOME to another."
            ) from error
        yield
