"""One call from the caller's request to a booked answer, over however many providers it takes.

The order of things, for chat, streams and embeddings alike: resolve the model, drop providers that can't honour the
request, price each and bound its cost, reserve, call, settle. `attempts.py` holds the reserve-try-settle loop's parts.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, TypeVar

from fusewire import logs, metrics
from fusewire.ai.attempts import Attempts, Deadline, Option
from fusewire.ai.failures import ProviderFailure
from fusewire.ai.provider import AIProvider
from fusewire.ai.tiers import EVERYTHING, Allowance, Classification, Route, Tiers
from fusewire.ai.vocabulary import (
    ChatRequest,
    ChatResponse,
    EmbeddingRequest,
    EmbeddingResponse,
    StreamChunk,
    Usage,
    UserMessage,
)
from fusewire.budget.bounds import chat_input_bound, embedding_input_bound
from fusewire.budget.breaker import Budget, KeyBudget
from fusewire.budget.ledger import Booked, Call, Ledger
from fusewire.budget.pricing import PriceBook
from fusewire.config import Settings
from fusewire.errors import FusewireError, ModelNotPricedError, UnsupportedParameterError

_KEPT_FOR_SETTLING_SECONDS: Final = 2.0

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, and until when."""

    request_id: str
    remaining_seconds: float
    """Of the Lambda invocation; what settling takes is kept back from it."""
    classification: Classification = "internal"
    key_id: str | None = None
    allowance: Allowance = EVERYTHING
    """What the key may ask for."""
    dropped: tuple[str, ...] = ()
    """What the request's own format says and the vocabulary has no place for, for `x-fusewire-dropped` and the log."""


@dataclass(frozen=True, slots=True)
class Served:
    """Who answered, and what it cost."""

    provider: str
    model: str
    attempts: int
    dropped: tuple[str, ...]
    booked: Booked
    budget: Budget
    """After it; where the ledger couldn't be reached any more, as it stood when this attempt was reserved."""
    key: KeyBudget | None = None
    """The budget of the caller's key, likewise."""
    downgraded_from: str | None = None
    """The tier that was asked for, where another one served it to spare the budget."""


@dataclass(frozen=True, slots=True)
class Streaming:
    """A stream whose first content has come. `chunks` must be read to its end: settling happens inside it."""

    provider: str
    model: str
    attempts: int
    dropped: tuple[str, ...]
    budget: Budget
    """As it stood when this attempt was reserved."""
    chunks: Iterator[StreamChunk]
    key: KeyBudget | None = None
    """The budget of the caller's key, likewise."""
    downgraded_from: str | None = None


class StreamBrokenError(Exception):
    """Raised by `Streaming.chunks` when the provider broke off after its first content; already settled."""


class Router:
    """Routes calls under one set of settings."""

    def __init__(self, settings: Settings, tiers: Tiers, prices: PriceBook, ledger: Ledger) -> None:
        self._settings = settings
        self._tiers = tiers
        self._prices = prices
        self._ledger = ledger

    def complete(self, request: ChatRequest, caller: Caller) -> tuple[ChatResponse, Served]:
        """:raises FusewireError: as the contract's section 4 lists them"""
        attempts, cap = self._chat(request, caller)
        response = _until_answered(
            attempts, lambda option: option.provider.complete(request, option.model, cap, attempts.timeouts())
        )
        dropped = (*caller.dropped, *_dropped(request, attempts.option))
        booked = attempts.succeeded(response.usage, limit_output=cap, dropped=dropped)
        if response.usage is not None:
            response.usage.cost = booked.cost
        return response, _served(attempts, booked, dropped)

    def stream(self, request: ChatRequest, caller: Caller) -> Streaming:
        """:raises FusewireError: while a provider can still be changed; afterwards the chunks' iterator raises"""
        attempts, cap = self._chat(request, caller)

        def first_content(option: Option) -> tuple[list[StreamChunk], Iterator[StreamChunk]]:
            chunks = option.provider.stream(request, option.model, cap, attempts.timeouts())
            return _head(chunks), chunks

        head, rest = _until_answered(attempts, first_content)
        option = attempts.option
        dropped = (*caller.dropped, *_dropped(request, option))
        return Streaming(
            option.provider.id,
            option.model,
            attempts.number,
            dropped,
            attempts.budget,
            _metered(attempts, head, rest, cap, dropped),
            attempts.key,
            attempts.downgraded_from,
        )

    def embed(self, request: EmbeddingRequest, caller: Caller) -> tuple[EmbeddingResponse, Served]:
        """:raises FusewireError: as the contract's section 4 lists them"""
        route = self._tiers.embedding(request.model, caller.classification, caller.allowance)
        bound = embedding_input_bound(request)
        options = self._options(route.choices, bound, 0)
        call = Call(caller.request_id, "embedding", route.tier, caller.key_id)
        attempts = self._attempts(call, options, route, caller)
        response = _until_answered(
            attempts, lambda option: option.provider.embed(request, option.model, attempts.timeouts())
        )
        dropped = _dropped(request, attempts.option)
        booked = attempts.succeeded(response.usage, limit_output=0, dropped=dropped)
        if response.usage is not None:
            response.usage.cost = booked.cost
        return response, _served(attempts, booked, dropped)

    def probe(self, provider: AIProvider, caller: Caller) -> tuple[bool, str, Decimal]:
        """Call one provider live with the shortest request there is, metered and under the breaker like any other.

        :return: whether it answered, what to tell the operator, and the cost in USD
        """
        model = provider.tier_model("cost_effective") or provider.tier_model("sota")
        if model is None:
            return False, "no chat model is configured, so it can't be probed", Decimal(0)
        request = ChatRequest(
            model=f"{provider.id}/{model}",
            messages=[UserMessage(role="user", content="ping")],
            max_completion_tokens=16,
        )
        try:
            options = self._options([(provider, model)], chat_input_bound(request), 16)
            route = Route(((provider, model),), None, confidential=False)
            attempts = self._attempts(Call(caller.request_id, "probe", None, caller.key_id), options, route, caller)
            response = _until_answered(
                attempts,
                lambda option: option.provider.complete(request, option.model, 16, attempts.timeouts()),
            )
        except FusewireError as error:
            return False, error.message, Decimal(0)
        return True, "answered", attempts.succeeded(response.usage, limit_output=16).cost

    # --- below: what those are made of ---

    def _chat(self, request: ChatRequest, caller: Caller) -> tuple[Attempts, int]:
        route = self._tiers.chat(request.model, caller.classification, caller.allowance)
        able = _able(route.choices, request)
        cap = request.output_cap or self._settings.ai_max_output_tokens
        bounds = (chat_input_bound(request), cap * (request.n or 1))
        options = self._options(able, *bounds)
        call = Call(caller.request_id, "chat", route.tier, caller.key_id)
        return self._attempts(call, options, route, caller, self._downgrade(request, route, caller, bounds)), cap

    def _downgrade(
        self, request: ChatRequest, route: Route, caller: Caller, bounds: tuple[int, int]
    ) -> tuple[str, Sequence[Option]] | None:
        """The tier that takes over while a budget is HALF_OPEN, and who of it can honour the request; None: nobody."""
        if self._settings.ai_half_open_policy != "downgrade":
            return None
        cheaper = self._tiers.downgraded(route, caller.allowance)
        if cheaper is None or cheaper.tier is None:
            return None
        able = [(p, m) for p, m in cheaper.choices if not p.unsupported(request, m)]
        options = self._options(able, *bounds, needed=False)
        return (cheaper.tier, options) if options else None

    def _options(
        self, choices: Sequence[tuple[AIProvider, str]], input_bound: int, output_bound: int, *, needed: bool = True
    ) -> list[Option]:
        """Each choice with its price and bound; one without a price is left out, and refused if there is no other.

        :param needed: whether it takes one of them to answer
        """
        options, unpriced = [], None
        for provider, model in choices:
            try:
                price = self._prices.price(provider.id, model)
            except ModelNotPricedError as error:
                unpriced = error
                logs.event(
                    "router.provider_failed",
                    logging.WARNING,
                    provider=provider.id,
                    model=model,
                    kind="model_not_priced",
                    message=error.message,
                )
                continue
            bound = price.bound(input_bound, output_bound)
            options.append(Option(provider, model, price, bound, input_bound + output_bound))
        if needed and not options and unpriced is not None:
            raise unpriced
        return options

    def _attempts(
        self,
        call: Call,
        options: Sequence[Option],
        route: Route,
        caller: Caller,
        downgrade: tuple[str, Sequence[Option]] | None = None,
    ) -> Attempts:
        seconds = min(self._settings.ai_request_timeout_seconds, caller.remaining_seconds - _KEPT_FOR_SETTLING_SECONDS)
        now = time.monotonic()
        return Attempts(
            self._ledger,
            call,
            options,
            Deadline(now + seconds),
            Deadline(now + min(seconds, self._settings.longest_silence_seconds)),
            pinned=route.tier is None,
            confidential=route.confidential,
            downgrade=downgrade,
        )


def _served(attempts: Attempts, booked: Booked, dropped: tuple[str, ...]) -> Served:
    option = attempts.option
    return Served(
        option.provider.id,
        option.model,
        attempts.number,
        dropped,
        booked,
        attempts.budget,
        attempts.key,
        attempts.downgraded_from,
    )


def _dropped(request: ChatRequest | EmbeddingRequest, option: Option) -> tuple[str, ...]:
    return option.provider.dropped(request, option.model)


def _able(choices: Sequence[tuple[AIProvider, str]], request: ChatRequest) -> list[tuple[AIProvider, str]]:
    able = [(p, m) for p, m in choices if not p.unsupported(request, m)]
    if not able:
        provider, model = choices[0]
        params = provider.unsupported(request, model)
        names = ", ".join(dict.fromkeys(p.id for p, _ in choices))
        raise UnsupportedParameterError(
            f"No provider for this model can honour {', '.join(params)} as asked (tried: {names}). "
            "Leave it out, or ask for another model.",
            param=params[0],
        )
    return able


def _until_answered(attempts: Attempts, ask: Callable[[Option], _T]) -> _T:
    """Ask the chain's providers in turn until one answers; the answer's attempt is still to be settled."""
    metrics.count("Requests")
    option = attempts.begin()
    while True:
        try:
            with metrics.waiting():
                return ask(option)
        except ProviderFailure as failure:
            option = attempts.after(failure)
        except BaseException:
            attempts.abandon()
            raise


def _head(chunks: Iterator[StreamChunk]) -> list[StreamChunk]:
    """The chunks up to the first content. An answer may be empty: then it is all of them."""
    head = []
    for chunk in chunks:
        head.append(chunk)
        if any(choice.delta.has_content for choice in chunk.choices):
            break
    return head


def _metered(
    attempts: Attempts, head: Sequence[StreamChunk], rest: Iterator[StreamChunk], cap: int, dropped: Sequence[str]
) -> Iterator[StreamChunk]:
    """Pass the chunks on as they come; hold back the usage until it is settled, then send it with its cost."""
    last: StreamChunk | None = None
    usage: Usage | None = None
    try:
        for chunk in _all(head, rest):
            if chunk.usage is not None:
                # Some servers repeat the usage on every chunk: the last one counts.
                usage, last = chunk.usage, chunk
                chunk = chunk.model_copy(update={"usage": None})
                chunk.model_fields_set.discard("usage")
            if chunk.choices:
                yield chunk
    except ProviderFailure as failure:
        attempts.broke_late(failure)
        raise StreamBrokenError(failure.message) from failure
    except BaseException:
        attempts.abandon()
        raise
    booked = attempts.succeeded(usage, limit_output=cap, dropped=dropped)
    if usage is not None and last is not None:
        usage.cost = booked.cost
        yield last.model_copy(update={"choices": [], "usage": usage})


def _all(head: Sequence[StreamChunk], rest: Iterator[StreamChunk]) -> Iterator[StreamChunk]:
    yield from head
    yield from rest
