"""How many tokens a request has, for a caller who wants to know before it is answered. Nothing is booked for it."""

import logging
from typing import Final, Literal, NamedTuple

from fusewire import logs
from fusewire.ai.bounds import chat_input_bound
from fusewire.ai.caller import Caller
from fusewire.ai.failures import ProviderFailure
from fusewire.ai.provider import Timeouts
from fusewire.ai.relaxing import able_targets
from fusewire.ai.schema import ChatRequest
from fusewire.ai.tiers import Tiers

_SECONDS: Final = 10.0
_CONNECT_SECONDS: Final = 2.0
_KEPT_SECONDS: Final = 2.0


class TokenCount(NamedTuple):
    """The input's tokens, and whose count that is."""

    tokens: int
    source: Literal["vendor", "bound"]
    """`bound`: no vendor counted, so that it is the most that any would bill."""
    provider: str
    model: str


def count_tokens(tiers: Tiers, request: ChatRequest, caller: Caller) -> TokenCount:
    """The count of the first provider that would be asked.

    :raises FusewireError: as for a call: the model, the classification, what the key may ask for
    """
    route = tiers.chat(request.model, caller.classification, caller.permissions)
    able, asked = able_targets(route.targets, request)
    provider, model = able[0]
    seconds = max(min(_SECONDS, caller.remaining_seconds - _KEPT_SECONDS), 0.25)
    try:
        counted = provider.count_tokens(asked.request, model, Timeouts(_CONNECT_SECONDS, seconds, seconds))
    except ProviderFailure as failure:
        counted = None
        logs.event(
            "router.provider_failed",
            logging.WARNING,
            provider=provider.id,
            model=model,
            kind=failure.kind.value,
            message=failure.message,
        )
    if counted is not None:
        return TokenCount(counted, "vendor", provider.id, model)
    bound = chat_input_bound(asked.request, provider.template_tokens, provider.counting(model))
    return TokenCount(bound, "bound", provider.id, model)
