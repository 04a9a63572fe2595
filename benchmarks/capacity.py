"""What a larger Postgres should carry, by arithmetic from parts that were measured and inputs that are named.

A call commits twice, and a row stays locked until its commit is on the disk. So one row serves
`1 / (statements + 2 x flush)` calls a second, where `statements` is what both take without waiting for the disk.
Slots are rows beside each other, so they multiply that, until the processors are used up:
`cores x share / processor time of a call`. The network is in neither: each statement is one round trip and commits
before it answers, so no lock is held meanwhile; it takes more sessions to have the same in flight.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Server:
    """The named inputs."""

    name: str
    cores: int
    flush_ms: float
    """Until a commit is on its disk, and on the standby's, where there is one. Nobody promises it: measure yours."""
    core_speed: float = 1.0
    """Of the machine that the parts were measured on."""
    usable: float = 0.7
    """The share of the processors that one may use and still answer in time."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What was measured, with one session."""

    statements_ms: float
    """Both statements without waiting for the disk, as the client sees them: an upper bound of what holds the row."""
    flush_ms: float
    """What one commit's way to the disk adds to that."""
    cpu_ms: float
    """Of the server, for one call."""

    @classmethod
    def of(cls, measured: Mapping[str, float]) -> "Parts":
        """:param measured: the `parts` of `benchmarks.ledger`"""
        without_disk = 1000 / measured["calls_per_second_without_waiting_for_the_disk"]
        with_disk = 1000 / measured["calls_per_second"]
        return cls(without_disk, max(with_disk - without_disk, 0) / 2, measured["server_cpu_ms_per_call"])


RDS: Final = (
    Server("16 vCPU, flush in 1 ms (one zone)", 16, 1.0),
    Server("16 vCPU, flush in 3 ms (standby in another zone)", 16, 3.0),
    Server("64 vCPU, flush in 3 ms (standby in another zone)", 64, 3.0),
)
"""Of the size of a db.r8g.4xlarge (twice) and a db.r8g.16xlarge."""
SLOTS: Final = (1, 8, 32)


def calls_per_second(parts: Parts, server: Server, slots: int) -> float:
    """What the rows' locks and the processors allow, whichever is less."""
    rows = slots * 1000 / (parts.statements_ms / server.core_speed + 2 * server.flush_ms)
    processors = server.cores * server.usable * server.core_speed * 1000 / parts.cpu_ms
    return min(rows, processors)
