"""`make restore`: a backup from standard input in the place of a ledger, by psql from the Postgres wheel.

It says where it would restore and asks on the terminal; `--yes` doesn't ask. A target whose books aren't all in the
backup is refused (`local.latest` says how that is found); `--force` loses what the backup lacks. An empty database is
always taken.

Functions may be connected and calls under way: the restore is one transaction that waits for those in the ledger and
makes the next ones wait. What is written between the look at the target and that transaction makes it fail, unless
forced. A call that is in flight then finds its reservation as the backup has it, or none. Broken off at whatever
point, the transaction leaves what was there before, the functions' rights included.
"""

import argparse
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from typing import Any, BinaryIO, Final

import psycopg

from fusewire.store.migrate import grants
from local import StartError
from local.backup import binary, same_server
from local.latest import ForeignTablesError, Latest, NoLedgerError, lacking, latest_of
from local.ledger import ledger_session, place

_RESTORE: Final = ("--quiet", "--no-psqlrc", "--output=/dev/null", "--set", "ON_ERROR_STOP=1", "--single-transaction")
_LAST_WORDS: Final = b"-- PostgreSQL database dump complete"
_TERMINAL: Final = "/dev/tty"
_CONNECTED: Final = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'fusewire' AND pid <> pg_backend_pid()
"""

Session = psycopg.Connection[Any]


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


def _replaceable(connection: Session, dump: BinaryIO, *, force: bool) -> Latest | None:
    """What the target holds last, all of which the backup has; None when forced.

    :raises StartError: when the backup lacks some of it, or isn't a ledger's
    """
    try:
        latest, lacks = latest_of(connection), []
    except ForeignTablesError:
        latest, lacks = Latest((), None), ["tables that aren't this version's"]
    try:
        lacks += map(str, lacking(dump, latest))
    except NoLedgerError:
        raise StartError("Standard input isn't a backup of a ledger; nothing was changed.") from None
    if force:
        return None
    if lacks:
        raise StartError(
            f"The backup lacks what {place(connection)} holds: {', '.join(lacks)}. Nothing was changed. Where that "
            "may be lost, FORCE=1 restores all the same."
        )
    return latest


def _connected(connection: Session) -> int:
    [(count,)] = connection.execute(_CONNECTED).fetchall()
    return int(count)


def _confirmed(target: str, connected: int) -> None:
    """Asks on the terminal, because standard input is the dump. :raises StartError: for another answer than yes"""
    try:
        with open(_TERMINAL, "w", encoding="utf-8") as out, open(_TERMINAL, encoding="utf-8") as answers:
            out.write(f"Restore into {target}?\n")
            if connected:
                out.write(f"Open connections of fusewire to it: {connected}.\n")
            out.write("Whatever ledger is there is replaced. Type yes to go on: ")
            out.flush()
            answer = answers.readline().strip()
    except OSError:
        raise StartError(
            f"It would restore into {target}, and there is no terminal to ask on: YES=1 doesn't ask. Nothing was "
            "changed."
        ) from None
    if answer != "yes":
        raise StartError("The answer wasn't yes; nothing was changed.")


def _restore(connection: Session, dump: BinaryIO, latest: Latest | None) -> int:
    """All of it in one transaction, with the rights that the functions' role has in the new tables. :return: psql's"""
    before = [] if latest is None else [f"--command={latest.unchanged(connection)}"]
    after = f"--command=RESET search_path; {grants()}"  # the dump has emptied it
    command = [str(binary("psql")), *_RESTORE, *before, "--file=-", after]
    dump.seek(0)
    return subprocess.run(command, env=same_server(connection), stdin=dump, check=False).returncode  # noqa: S603 - our own words


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m local.restore", usage="%(prog)s [--yes] [--force] < FILE")
    parser.add_argument("--yes", action="store_true", help="don't ask")
    parser.add_argument("--force", action="store_true", help="even if the target's books are newer than the backup")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    """:return: the exit status"""
    options = _options(arguments)
    try:
        with ExitStack() as stack:
            dump = _whole(sys.stdin.buffer, stack)
            connection, _ = stack.enter_context(ledger_session())
            target = place(connection)
            latest = _replaceable(connection, dump, force=options.force)
            if not options.yes:
                _confirmed(target, _connected(connection))
            sys.stderr.write(f"Restoring into {target} ...\n")
            sys.stderr.flush()
            return _restore(connection, dump, latest)
    except KeyboardInterrupt:
        return 130
    except (StartError, psycopg.Error) as error:
        reason = error if isinstance(error, StartError) else f"{type(error).__name__}; nothing was changed."
        sys.stderr.write(f"restore isn't possible. {reason}\n")
        return 1


if __name__ == "__main__":
    # So that a server that was started for this is stopped again.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main(sys.argv[1:]))
