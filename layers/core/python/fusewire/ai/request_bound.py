"""The input bound of one request for each target: as its model counts, and never more than its vendor takes."""

from fusewire.ai.bounds import InputBound
from fusewire.ai.provider import AIProvider
from fusewire.ai.schema import ChatRequest
from fusewire.budget.pricing import PriceBook


class RequestBound:
    """Of a chat request; each way of counting is computed once."""

    def __init__(self, request: ChatRequest, prices: PriceBook) -> None:
        self._bound = InputBound(request)
        self._prices = prices

    def __call__(self, provider: AIProvider, model: str) -> int:
        """In tokens, without what the server adds once."""
        counting = provider.counting(model)
        tokens = self._bound.of(counting)
        if not counting.refuses_over_window:
            return tokens
        window = self._prices.context_window(provider.id, model)
        return tokens if window is None else min(tokens, window)
