"""What a provider needs of tokens that run out, whoever gives them: one before each call, within the call's time."""

import time
from dataclasses import replace
from typing import Protocol

from fusewire.ai.failures import FailureKind, ProviderFailure
from fusewire.ai.provider import Timeouts


class AccessTokens(Protocol):
    """The token of this execution environment."""

    def fetch(self, seconds: float) -> None:
        """Have a token that lasts for a while, in so much time at most.

        :raises ProviderFailure: when none can be had
        """

    def current(self) -> str:
        """The token that `fetch` saw to.

        :raises ProviderFailure: when there is none
        """

    def forget(self) -> None:
        """Get another one next time: the vendor didn't take this one."""


def authorized(provider: str, tokens: AccessTokens, timeouts: Timeouts) -> Timeouts:
    """What is left of the attempt's time once there is a token.

    :raises ProviderFailure: when none can be had, or no time is left to use it
    """
    begun = time.monotonic()
    tokens.fetch(timeouts.first)
    spent = time.monotonic() - begun
    first = timeouts.first - spent
    if first <= 0:
        raise ProviderFailure(FailureKind.CONNECT_TIMEOUT, f"{provider}: no time was left to send the request")
    return replace(timeouts, first=first, total=max(timeouts.total - spent, first))
