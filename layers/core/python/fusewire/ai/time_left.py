"""How much time a call has left, and how much of it an attempt may take."""

import time
from dataclasses import dataclass
from math import inf
from typing import Final

from fusewire.ai.provider import Timeouts
from fusewire.errors import DeadlineExceededError

_CONNECT_SECONDS: Final = 5
_MIN_ATTEMPT_SECONDS: Final = 0.25


@dataclass(slots=True)
class TimeLeft:
    """Of one call. Both moments are by `time.monotonic()`; what settling takes is already kept back."""

    end: float
    """When the call must be over."""
    content: float
    """When the caller must have heard something: a stream's first content, or the whole answer."""
    max_silence: float | None = None
    """Seconds that a stream may say nothing, before its first content and then between its parts. None for an answer
    that isn't streamed, which is silent while it is made."""
    _is_cut_by_silence: bool = False
    """Whether the attempt has less than its share of the time, because it may not be silent for longer."""

    @classmethod
    def of(cls, seconds: float, until_content: float, max_silence: float | None = None) -> "TimeLeft":
        """So many seconds from now on, and so many until something must be heard."""
        now = time.monotonic()
        return cls(now + seconds, now + min(seconds, until_content), max_silence)

    @property
    def is_too_short(self) -> bool:
        """Whether nobody else can be asked."""
        return self._until_content() < _MIN_ATTEMPT_SECONDS

    @property
    def for_waiting(self) -> float:
        """The seconds that the call may wait for room: half of what is left, since the answer takes time, too."""
        return max(0.0, self._until_content() / 2)

    def timeouts(self, others: int) -> Timeouts:
        """What is left until something must be heard, divided evenly over this attempt and `others` after it."""
        share = max(self._until_content(), _MIN_ATTEMPT_SECONDS) / (1 + others)
        silence = inf if self.max_silence is None else self.max_silence
        self._is_cut_by_silence = silence < share
        return Timeouts(
            min(_CONNECT_SECONDS, share, silence),
            first=min(share, silence),
            total=max(self.end - time.monotonic(), _MIN_ATTEMPT_SECONDS),
            silence=silence,
        )

    def timeout_error(self, provider: str, *, is_read_timeout: bool) -> DeadlineExceededError | None:
        """Which limit ended the last attempt, which was a time-out; None where it was none of the call's own."""
        if self.is_too_short:
            return DeadlineExceededError(
                "The providers didn't answer in time. Retry, or raise AI_REQUEST_TIMEOUT_SECONDS."
                if self.content == self.end
                else "The providers said nothing for as long as API Gateway waits, 5 minutes. Ask for less at once."
            )
        if is_read_timeout and self._is_cut_by_silence:
            return DeadlineExceededError(
                f"{provider} sent no content for {self.max_silence:g} s. Retry, or raise AI_SILENCE_TIMEOUT_SECONDS."
            )
        return None

    def _until_content(self) -> float:
        return self.content - time.monotonic()
