"""A real pgbouncer in transaction mode, where the machine has one.

Each transaction of a client may run in another of the server's few sessions.
"""

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from local.account import postgres_account
from tests.support.patience import PATIENCE_SECONDS

PGBOUNCER: Final = shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")


@contextmanager
def transaction_pooling(url: str, sessions: int) -> Iterator[str]:
    """The same database by way of a pgbouncer that opens so many sessions of the server for each role."""
    assert PGBOUNCER is not None
    server = conninfo_to_dict(url)
    with tempfile.TemporaryDirectory(prefix="fwb") as name:
        folder = Path(name)
        with closing(socket.socket()) as holder:
            holder.bind(("127.0.0.1", 0))
            port = holder.getsockname()[1]
        (folder / "users").write_text('"postgres" ""\n"fusewire_app" ""\n')
        (folder / "pgbouncer.ini").write_text(
            f"""
[databases]
* = host={server["host"]} port={server.get("port", 5432)}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {folder / "users"}
logfile = {folder / "log"}
pool_mode = transaction
default_pool_size = {sessions}
max_client_conn = 100
"""
        )
        # It refuses to run as root.
        account = postgres_account(Path(str(server["host"])))
        if account is not None:
            for path in (folder, *folder.iterdir()):
                shutil.chown(path, account.user, account.group)
        process = subprocess.Popen(  # noqa: S603 - our own arguments
            [PGBOUNCER, "-q", str(folder / "pgbouncer.ini")],
            stderr=subprocess.DEVNULL,
            **({} if account is None else account.as_options()),
        )
        try:
            pooled = make_conninfo(url, host="127.0.0.1", port=port)
            deadline = time.monotonic() + PATIENCE_SECONDS
            while True:
                try:
                    psycopg.connect(pooled).close()
                    break
                except psycopg.OperationalError:
                    assert process.poll() is None and time.monotonic() < deadline, (folder / "log").read_text()
                    time.sleep(0.05)
            yield pooled
        finally:
            process.terminate()
            process.wait(PATIENCE_SECONDS)
