"""Whom Postgres runs as: it refuses root. As root that is the account `nobody`, in a group of fusewire's own.

Nothing is made on the system for it: the group is a number without a name, which no other process is in. A home of
root's that is open to this group alone is therefore reached by Postgres and by no stranger, another `nobody` included.
"""

import os
import pwd
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

GROUP: Final = 60_600
"""Of the numbers that systemd's list of users and groups calls unused."""

# Prints the first of its arguments that may not be passed through.
_FIRST_CLOSED: Final = 'for path; do test -x "$path" || { printf %s "$path"; exit; }; done'


@dataclass(frozen=True, slots=True)
class Account:
    """A user and a group, by number."""

    user: int
    group: int

    @property
    def name(self) -> str:
        try:
            return pwd.getpwuid(self.user).pw_name
        except KeyError:
            return str(self.user)

    def as_options(self) -> Mapping[str, Any]:
        """`subprocess.run`'s options for a process of this account."""
        return {"user": self.user, "group": self.group, "extra_groups": []}

    def first_closed(self, path: Path) -> Path | None:
        """The first of a path's parents, or itself, that the account may not pass through; None when it gets there.

        :raises OSError: when no process can be started as the account
        """
        command = ["/bin/sh", "-c", _FIRST_CLOSED, "sh", *map(str, reversed(path.parents)), str(path)]
        output = subprocess.run(  # noqa: S603 - our own words
            command, cwd="/", stdout=subprocess.PIPE, check=False, **self.as_options()
        )
        return Path(os.fsdecode(output.stdout)) if output.stdout else None


def postgres_account(data: Path) -> Account | None:
    """Whom a server with this data folder runs as; None for the user of this process, who isn't root.

    Data that a user made goes on as theirs, also under `sudo`.
    """
    if os.geteuid() != 0:
        return None
    if data.exists() and (status := data.stat()).st_uid != 0:
        return Account(status.st_uid, status.st_gid)
    return Account(pwd.getpwnam("nobody").pw_uid, GROUP)
