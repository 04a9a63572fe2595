"""Which cache writes a request asks for by Anthropic's marks, at vendors that bill none unasked."""

from fusewire.ai.schema import ChatRequest
from fusewire.price_overrides import CacheWrites


def marked_writes(request: ChatRequest) -> CacheWrites:
    """The dearest kind that its marks ask for; without `ttl` a mark is for five minutes.

    Source: Anthropic, "Prompt caching"; AWS, "Prompt caching for faster model inference".
    """
    parts = [part for message in request.messages if isinstance(message.content, list) for part in message.content]
    marks = [mark for each in (*parts, *(request.tools or ())) if (mark := getattr(each, "cache_control", None))]
    if any(mark.ttl == "1h" for mark in marks):
        return "1h"
    return "5m" if marks else "none"
