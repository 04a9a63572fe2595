"""Before what can't be taken back: ask a person, and want `--yes` of a script."""

import sys

from cli.api import ApiError


def confirm(question: str, yes: bool) -> None:
    """Go on only when that is wanted.

    :param yes: whether `--yes` was given
    :raises ApiError: when it isn't, or nobody can be asked
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise ApiError(f"{question} Say --yes: there is nobody here to ask")
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise ApiError("nothing was changed")
