"""The AWS CLI, started once: it takes a second to import, and the manual calls it fifty times.

`aws_cli` puts an `aws` on the PATH that hands its arguments, folder, variables and streams to a process of .venv-infra,
which runs the CLI's own entry point in a fork of itself. This file is both ends: run as a script, it is that process.
"""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_INFRA: Final = Path(__file__).resolve().parents[2] / ".venv-infra" / "bin"
_SHIM: Final = """#!{python} -IS
import os, socket, sys
variables = [f"{{name}}={{value}}" for name, value in os.environ.items() if name.startswith("AWS_")]
told = [os.getcwd(), str(len(variables)), *variables, *sys.argv[1:]]
with socket.socket(socket.AF_UNIX) as served:
    served.connect({address!r})
    socket.send_fds(served, ["\\0".join(told).encode()], [0, 1, 2])
    sys.exit((served.recv(1) or b"\\1")[0])
"""


@contextmanager
def aws_cli(folder: Path) -> Iterator[Path]:
    """A folder for the PATH in which there is an `aws`, until the block ends."""
    assert (_INFRA / "aws").exists(), "make setup-infra makes what these tests need"
    address = str(folder / "socket")
    shim = folder / "aws"
    shim.write_text(_SHIM.format(python=sys.executable, address=address))
    shim.chmod(0o755)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen()
        command = [str(_INFRA / "python"), __file__, str(listening.fileno())]
        serving = subprocess.Popen(command, pass_fds=[listening.fileno()])  # noqa: S603 - our own words
    try:
        yield folder
    finally:
        serving.terminate()
        serving.wait()


def _serve(listening: socket.socket) -> None:
    from awscli.clidriver import create_clidriver  # type: ignore[import-not-found] # .venv-infra has it

    driver = create_clidriver()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # whoever has ended is gone
    while True:
        asking, _ = listening.accept()
        if os.fork() == 0:
            result, streams, *_ = socket.recv_fds(asking, 65536, 3)
            where, count, *rest = result.decode().split("\0")
            os.chdir(where)
            os.environ |= dict(each.split("=", 1) for each in rest[: int(count)])
            for number, stream in enumerate(streams):
                os.dup2(stream, number)
            status = driver.main(rest[int(count) :])
            sys.stdout.flush()
            asking.sendall(bytes([status]))
            os._exit(0)
        asking.close()


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
