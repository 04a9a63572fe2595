"""Run some commands beside each other, whatever becomes of each, and end with what each one said last: `make test`.

Each argument is a command. What they print comes in their order: of the first that hasn't ended as it comes, of those
after it once their turn is there. At the end the last line of each is repeated, those of tests after all others and of
failures after successes, so that the last line of all is pytest's own summary, and a failed one where tests failed.
"""

import os
import shlex
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import BinaryIO

_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Step:
    """A command that has run."""

    command: str
    status: int
    last_line: str

    @property
    def rank(self) -> tuple[bool, bool]:
        """Where it stands at the end: the higher, the later."""
        return "pytest" in self.command, self.status != 0


@dataclass(frozen=True)
class Running:
    """A command that runs, and the file that it prints to: a pipe would hold it up until its turn."""

    command: str
    process: subprocess.Popen[bytes]
    printed: BinaryIO

    def follow(self, out: BinaryIO) -> Step:
        """Pass on what it has printed and prints, its errors too, where they come, until it has ended."""
        last, position = b"", 0
        while True:
            has_ended = self.process.poll() is not None
            # Not `seek` and `read`: the process writes at the same position of the same open file.
            while part := os.pread(self.printed.fileno(), 65536, position):
                position += len(part)
                out.write(part)
                out.flush()
                last = (last + part).rstrip().rpartition(b"\n")[2] + (b"\n" if part.endswith(b"\n") else b"")
            if has_ended:
                return Step(self.command, self.process.returncode, last.strip().decode(errors="replace"))
            time.sleep(_POLL_SECONDS)


def main(commands: list[str], out: BinaryIO) -> int:
    """:return: 0 when all of them ended well, else 1"""
    with ExitStack() as stack:
        started = []
        for command in commands:
            printed = stack.enter_context(TemporaryFile())
            process = subprocess.Popen(shlex.split(command), stdout=printed, stderr=subprocess.STDOUT)  # noqa: S603
            started.append(Running(command, stack.enter_context(process), printed))
        steps = [running.follow(out) for running in started]
    for step in sorted(steps, key=lambda each: each.rank):
        out.write(f"\n{'failed' if step.status else 'ok'}: {step.command}\n{step.last_line}\n".encode())
    out.flush()
    return int(any(step.status for step in steps))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], sys.stdout.buffer))
