"""A command with a terminal of its own, on which its questions are answered."""

import fcntl
import os
import subprocess
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path


def at_a_terminal(
    command: Sequence[str], answer: str, *, cwd: Path, env: Mapping[str, str], seconds: float, stdin: bytes = b""
) -> tuple[subprocess.CompletedProcess[str], str]:
    """Runs a command whose controlling terminal is a new one; its standard streams are pipes.

    :param answer: what is typed, ahead of any question
    :return: how it ended, and what it wrote to the terminal
    """
    ours, theirs = os.openpty()
    quiet = termios.tcgetattr(theirs)
    quiet[3] &= ~termios.ECHO
    termios.tcsetattr(theirs, termios.TCSANOW, quiet)
    os.write(ours, answer.encode())
    try:
        ended = subprocess.run(  # noqa: S603 - the test's own words
            command,
            cwd=cwd,
            env=env,
            input=stdin,
            capture_output=True,
            timeout=seconds,
            check=False,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(theirs, termios.TIOCSCTTY, 0),
        )
        os.set_blocking(ours, False)
        try:
            shown = os.read(ours, 65_536).decode()
        except BlockingIOError:
            shown = ""
    finally:
        os.close(ours)
        os.close(theirs)
    out, err = ended.stdout.decode(), ended.stderr.decode()
    return subprocess.CompletedProcess(ended.args, ended.returncode, out, err), shown
