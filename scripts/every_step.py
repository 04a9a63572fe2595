"""Run each of some commands, whatever became of the others, and end with what each one said last: `make test`.

Each argument is a command. What it prints goes on as it comes. At the end the last line of each is repeated, those of
tests after all others and of failures after successes, so that the last line of all is pytest's own summary, and a
failed one where tests failed.
"""

import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from typing import BinaryIO


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


def run(command: str, out: BinaryIO) -> Step:
    """Run it, and pass on what it prints, its errors too, where they come."""
    last = b""
    with subprocess.Popen(shlex.split(command), stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:  # noqa: S603
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        while part := os.read(process.stdout.fileno(), 65536):
            out.write(part)
            out.flush()
            last = (last + part).rstrip().rpartition(b"\n")[2] + (b"\n" if part.endswith(b"\n") else b"")
        status = process.wait()
    return Step(command, status, last.strip().decode(errors="replace"))


def main(commands: list[str], out: BinaryIO) -> int:
    """:return: 0 when all of them ended well, else 1"""
    steps = [run(command, out) for command in commands]
    for step in sorted(steps, key=lambda each: each.rank):
        out.write(f"\n{'failed' if step.status else 'ok'}: {step.command}\n{step.last_line}\n".encode())
    out.flush()
    return int(any(step.status for step in steps))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], sys.stdout.buffer))
