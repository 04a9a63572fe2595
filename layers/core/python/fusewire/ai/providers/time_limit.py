"""How long an attempt may wait for the next part of its answer; imports no SDK and no HTTP client."""

import time
from math import inf
from typing import Final, Self

from fusewire.ai.provider import Timeouts

_MIN_READ_SECONDS: Final = 0.001
"""A socket with no time at all doesn't wait, which is another error than waiting in vain."""


class TimeLimit:
    """Before the first content one limit, from `begin` on another two: the attempt's end, and no long silence."""

    def __init__(self, seconds: float, *, total: float | None = None, silence: float = inf) -> None:
        """
        :param seconds: until the first content, or for all of an answer that isn't streamed
        :param total: for all of a stream
        :param silence: for each wait once a stream has begun
        """
        now = time.monotonic()
        self.until = now + seconds
        """By `time.monotonic()`."""
        self._last_moment = now + (seconds if total is None else total)
        self._silence = silence
        self._longest_wait = inf

    @classmethod
    def of_stream(cls, timeouts: Timeouts) -> Self:
        return cls(timeouts.first, total=timeouts.total, silence=timeouts.silence)

    def begin(self) -> None:
        """Content has come: from now on whatever arrives is a sign of life, until the attempt's end."""
        self.until, self._longest_wait = self._last_moment, self._silence

    def left(self) -> float:
        """Seconds until it is over; negative when it is."""
        return self.until - time.monotonic()

    def next_wait(self) -> float:
        """Seconds that a read may wait."""
        return max(min(self.left(), self._longest_wait), _MIN_READ_SECONDS)
