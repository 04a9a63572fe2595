"""Ids that grow with time."""

import secrets
import time
from uuid import UUID


def time_ordered_id() -> UUID:
    """A UUID version 7 (RFC 9562, 5.7): it keeps a primary key's index dense, and sorts by when it was made."""
    milliseconds = time.time_ns() // 1_000_000
    chance = secrets.randbits(74)
    value = (milliseconds & ((1 << 48) - 1)) << 80 | 0x7 << 76 | (chance >> 62) << 64
    return UUID(int=value | 0b10 << 62 | chance & ((1 << 62) - 1))
