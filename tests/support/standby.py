"""A synchronous standby of an embedded Postgres, by the wheel's own programs, and a primary that is killed."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from local.account import postgres_account
from local.postgres_server import wheels_programs
from tests.support.patience import PATIENCE_SECONDS

_PORT: Final = 5433


class Standby:
    """A copy of a primary that follows it. Its socket is in its data folder."""

    def __init__(self, folder: Path, primary: Path) -> None:
        self._folder = folder
        self._primary = primary
        self._account = postgres_account(primary)

    def start(self, primary_url: str) -> None:
        """Copy the primary, follow it, and have it wait for this standby with each commit."""
        if self._account is not None:
            # pg_basebackup makes its folder itself, in one that it may write to.
            os.chown(self._folder.parent, self._account.user, self._account.group)
        source = {**conninfo_to_dict(primary_url), "dbname": "replication", "application_name": "standby"}
        self._run(
            "pg_basebackup",
            "--checkpoint=fast",
            "--write-recovery-conf",
            "--wal-method=stream",
            "-d",
            make_conninfo("", **source),
        )
        self.restart()
        with psycopg.connect(primary_url, autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET synchronous_standby_names = 'standby'")
            connection.execute("SELECT pg_reload_conf()")
            deadline = time.monotonic() + PATIENCE_SECONDS
            while not connection.execute("SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'").fetchone():
                assert time.monotonic() < deadline, "the standby doesn't follow"
                time.sleep(0.05)

    def restart(self) -> None:
        options = f"-h '' -p {_PORT} -k {self._folder}"
        self._run("pg_ctl", "start", "-w", "--silent", "-l", str(self._folder / "log"), "-o", options)

    def promote(self) -> None:
        """It takes writes from now on."""
        self._run("pg_ctl", "promote", "-w", "--silent")

    def kill(self) -> None:
        kill(self._folder)

    def stop(self) -> None:
        if (self._folder / "postmaster.pid").exists():
            self._run("pg_ctl", "stop", "-m", "immediate", "-w", "--silent")

    def both(self, primary_url: str) -> str:
        """The URL of whichever of the two takes writes."""
        known = conninfo_to_dict(primary_url)
        hosts = {"host": f"{known['host']},{self._folder}", "port": f"{known['port']},{_PORT}"}
        return make_conninfo("", **{**known, **hosts, "target_session_attrs": "read-write"})

    def url(self, primary_url: str) -> str:
        """Its own."""
        return make_conninfo(primary_url, host=str(self._folder), port=_PORT)

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(wheels_programs() / "bin" / program), "-D", str(self._folder), *arguments]
        subprocess.run(  # noqa: S603 - the wheel's programs
            command,
            cwd="/",
            env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
            **(self._account.as_options() if self._account else {}),
        )


@contextmanager
def standby_of(primary: Path, primary_url: str) -> Iterator[Standby]:
    """A synchronous standby that runs and follows; stopped at the end. primary: its data folder."""
    standby = Standby(primary.parent / "follower" / "standby", primary)
    standby._folder.parent.mkdir(mode=0o700)
    try:
        standby.start(primary_url)
        yield standby
    finally:
        standby.stop()


def kill(data: Path) -> None:
    """End a server as a power cut does, all its processes at once; it is gone when this returns."""
    postmaster = int((data / "postmaster.pid").read_text().split()[0])
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
    for process in (postmaster, *map(int, children)):
        os.kill(process, signal.SIGKILL)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while Path(f"/proc/{postmaster}").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
