"""One call from the caller's request to a booked answer, over however many providers it takes.

The order of things, for chat, streams and embeddings alike: resolve the model, drop providers that can't honour the
request, price each and bound its cost, reserve, call, settle. `attempts.py` holds the reserve-try-settle loop's parts.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Self, TypeVar

from fusewire import logs, metrics
from fusewire.ai.allowances import Allowances
from fusewire.ai.attempts import Attempts
from fusewire.ai.bounds import embedding_input_bound
from fusewire.ai.caller import Caller
from fusewire.ai.failures import ProviderFailure
from fusewire.ai.output_caps import OutputCaps
from fusewire.ai.provider import AIProvider, Target
from fusewire.ai.relaxing import Asked, able_targets
from fusewire.ai.request_bound import RequestBound
from fusewire.ai.schema import (
    ChatRequest,
    ChatResponse,
    EmbeddingRequest,
    EmbeddingResponse,
    StreamChunk,
    Usage,
    UserMessage,
)
from fusewire.ai.targets import BoundedTarget, BoundedTargets, DowngradedTier, TargetsLeft
from fusewire.ai.tiers import Route, Tiers
from fusewire.ai.time_left import TimeLeft
from fusewire.budget.breaker import Budget, KeyBudget
from fusewire.budget.ledger import Ledger
from fusewire.budget.price import Price
from fusewire.budget.price_table import PriceTable
from fusewire.budget.pricing import PriceBook
from fusewire.budget.reservation import Booked, Call
from fusewire.config import Settings
from fusewire.errors import FusewireError, ModelNotBoundedError, ModelNotPricedError
from fusewire.price_overrides import ServiceTier

_KEPT_FOR_SETTLING_SECONDS: Final = 2.0

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What an answer says of itself: who gave it, and how the budgets stand."""

    provider: str
    model: str
    attempts: int
    dropped: tuple[str, ...]
    budget: Budget
    """After it, as far as was known when this was reserved where it is settled later; of a stream, and where the ledger
    couldn't be reached any more, as it stood when this was reserved."""
    key: KeyBudget | None
    """The budget of the caller's key, likewise."""
    downgraded_from: str | None
    """The tier that was asked for, where another one served it to spare the budget."""
    output_cap: int | None
    """The output cap that was sent, where it is smaller than the one that was asked for."""

    @classmethod
    def by(cls, attempts: Attempts, dropped: tuple[str, ...], /, **more: Any) -> Self:  # noqa: ANN401 - whatever it is
        """:param more: the fields that a subclass adds"""
        return cls(
            provider=attempts.target.provider.id,
            model=attempts.target.model,
            attempts=attempts.number,
            dropped=dropped,
            budget=attempts.budget,
            key=attempts.key,
            downgraded_from=attempts.downgraded_from,
            output_cap=attempts.target.output.smaller if attempts.target.output is not None else None,
            **more,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Served(Answered):
    """A response as a whole, and what it cost."""

    booked: Booked


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedStream(Answered):
    """A stream whose first content has come. `chunks` must be read to its end: settling happens inside it, or is left
    for afterwards there."""

    chunks: Iterator[StreamChunk]


class StreamBrokenError(Exception):
    """Raised by `ServedStream.chunks` when the provider broke off after its first content; already settled."""


class Router:
    """Routes calls under one set of settings."""

    def __init__(
        self,
        settings: Settings,
        tiers: Tiers,
        prices: PriceBook,
        ledger: Ledger,
        on_credential_rejected: Callable[[], None] | None = None,
    ) -> None:
        """:param on_credential_rejected: called when a vendor refuses this process's credential"""
        self._settings = settings
        self._tiers = tiers
        self._prices = prices
        """At the table that the last call to learn of one has learnt; each call keeps the book that it began with, or
        changed to."""
        self._ledger = ledger
        self._on_credential_rejected = on_credential_rejected
        self._allowances = Allowances()
        self._caps = OutputCaps(settings)

    def complete(self, request: ChatRequest, caller: Caller) -> tuple[ChatResponse, Served]:
        """:raises FusewireError: one of the tree in `fusewire.errors`"""
        attempts, asked = self._chat(request, caller)

        def complete(target: BoundedTarget) -> ChatResponse:
            response = target.provider.complete(asked.of(target), target.model, target.cap, attempts.timeouts())
            if not asked.wants_first_call(target):
                return response
            from fusewire.ai.serial_calls import first_call  # here, since few requests ask for it

            return first_call(response)

        response = _until_answered(attempts, complete, asked)
        dropped = (*caller.dropped, *asked.dropped(attempts.target))
        was_cut = any(choice.finish_reason == "length" for choice in response.choices)
        booked = attempts.succeeded(response.usage, expects_output=True, dropped=dropped, was_cut=was_cut)
        if response.usage is not None:
            response.usage.book(booked.cost, output=True)
        return response, Served.by(attempts, dropped, booked=booked)

    def stream(self, request: ChatRequest, caller: Caller) -> ServedStream:
        """:raises FusewireError: while a provider can still be changed; afterwards the chunks' iterator raises"""
        attempts, asked = self._chat(request, caller, self._settings.ai_silence_timeout_seconds)

        def first_content(target: BoundedTarget) -> tuple[list[StreamChunk], Iterator[StreamChunk]]:
            chunks = target.provider.stream(asked.of(target), target.model, target.cap, attempts.timeouts())
            chunks = _input_counted(attempts, chunks)
            if asked.wants_first_call(target):
                from fusewire.ai.serial_calls import first_calls  # as above

                chunks = first_calls(chunks)
            return _head(chunks), chunks

        head, rest = _until_answered(attempts, first_content, asked)
        dropped = (*caller.dropped, *asked.dropped(attempts.target))
        return ServedStream.by(attempts, dropped, chunks=_metered(attempts, head, rest, dropped))

    def embed(self, request: EmbeddingRequest, caller: Caller) -> tuple[EmbeddingResponse, Served]:
        """:raises FusewireError: one of the tree in `fusewire.errors`"""
        route = self._tiers.embedding(request.model, caller.classification, caller.permissions)
        if self._settings.ai_embedding_encoding is not None:
            from fusewire.ai.token_ids import as_taken  # here, since it is rarely set

            request = as_taken(request, route.targets)
        bound = embedding_input_bound(request)
        able, asked = able_targets(route.targets, request)
        call = caller.call("embedding", route.tier, request.user)
        attempts = self._attempts(
            call,
            lambda prices: (self._bounded(able, prices, lambda *_: bound, None, templates=False), None),
            route,
            caller,
        )
        response = _until_answered(
            attempts, lambda target: target.provider.embed(asked.request, target.model, attempts.timeouts()), asked
        )
        dropped = asked.dropped(attempts.target)
        booked = attempts.succeeded(response.usage, expects_output=False, dropped=dropped)
        if response.usage is not None:
            response.usage.book(booked.cost, output=False)
        return response, Served.by(attempts, dropped, booked=booked)

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
            bound = RequestBound(request, self._prices)
            route = Route((Target(provider, model),), None, confidential=False)
            call = caller.call("probe", None)
            attempts = self._attempts(
                call,
                lambda prices: (self._bounded(route.targets, prices, bound, request, is_strict=True), None),
                route,
                caller,
            )
            response = _until_answered(
                attempts,
                lambda target: target.provider.complete(request, target.model, target.cap, attempts.timeouts()),
            )
        except FusewireError as error:
            return False, error.message, Decimal(0)
        return True, "answered", attempts.succeeded(response.usage, expects_output=True).cost

    # --- below: what those are made of ---

    def _chat(
        self, request: ChatRequest, caller: Caller, max_silence: float | None = None
    ) -> tuple[Attempts, Asked[ChatRequest]]:
        route = self._tiers.chat(request.model, caller.classification, caller.permissions)
        able, asked = able_targets(route.targets, request)
        bound = RequestBound(asked.request, self._prices)
        call = caller.call("chat", route.tier, request.user or request.safety_identifier)

        def priced(prices: PriceBook) -> BoundedTargets:
            bounded = self._bounded(able, prices, bound, asked.request, is_strict=caller.wants_whole_cap)
            return bounded, self._downgrade(asked.request, route, caller, prices, bound)

        return self._attempts(call, priced, route, caller, max_silence), asked

    def _downgrade(
        self, request: ChatRequest, route: Route, caller: Caller, prices: PriceBook, bound: RequestBound
    ) -> DowngradedTier | None:
        """The tier that takes over while a budget is HALF_OPEN, and who of it can honour the request; None: nobody."""
        if self._settings.ai_half_open_policy != "downgrade":
            return None
        cheaper = self._tiers.downgraded(route, caller.permissions)
        if cheaper is None or cheaper.tier is None:
            return None
        able = [target for target in cheaper.targets if not target.provider.unsupported(request, target.model)]
        bounded = self._bounded(able, prices, bound, request, needed=False, is_strict=caller.wants_whole_cap)
        return DowngradedTier(cheaper.tier, bounded) if bounded else None

    def _bounded(
        self,
        targets: Sequence[Target],
        prices: PriceBook,
        request_bound: Callable[[AIProvider, str], int],
        request: ChatRequest | None,
        *,
        templates: bool = True,
        needed: bool = True,
        is_strict: bool = False,
    ) -> list[BoundedTarget]:
        """Each target with its price and bound; one that lacks either is left out, and refused if there is no other.

        :param request_bound: of the input, in tokens, without what a server adds once, for each target
        :param request: that is asked; None for embeddings, which have no output, no service tier and write no cache
        :param templates: whether a server writes the input by a chat template
        :param needed: whether it takes one of them to answer
        :param is_strict: whether the output cap has to be sent as it is
        """
        bounded = []
        refused: ModelNotPricedError | ModelNotBoundedError | None = None
        for provider, model in targets:
            try:
                price = prices.price(provider.id, model)
                size = request_bound(provider, model)
                output = None
                if request is not None:
                    output = self._caps.of(request, provider, model, size, is_strict=is_strict)
            except (ModelNotPricedError, ModelNotBoundedError) as error:
                refused = error
                logs.event(
                    "router.provider_failed",
                    logging.WARNING,
                    provider=provider.id,
                    model=model,
                    kind=error.code,
                    message=error.message,
                )
                continue
            allowance = self._allowances.of(provider.id, model, provider.template_tokens if templates else 0)
            bounded.append(
                BoundedTarget.bounded(
                    Target(provider, model),
                    price,
                    request_tokens=size,
                    allowance=allowance,
                    output=output,
                    service_tier=_tier_had(provider, model, price, request.tier_asked if request else None),
                    cache_writes=provider.cache_writes(request, model) if request else "none",
                )
            )
        if needed and not bounded and refused is not None:
            raise refused
        return bounded

    def _attempts(
        self,
        call: Call,
        priced: Callable[[PriceBook], BoundedTargets],
        route: Route,
        caller: Caller,
        max_silence: float | None = None,
    ) -> Attempts:
        """
        :param priced: computes who may serve the call, at what price and worst case, and who where it is downgraded
        """

        def reprice(table: PriceTable) -> BoundedTargets:
            self._prices = at_table = prices.at(table)
            self._allowances.forget()
            return priced(at_table)

        prices = self._prices
        stamp = prices.table.stamp
        try:
            targets, downgrade = priced(prices)
        except ModelNotPricedError:
            # It can't reserve, and so it isn't told that an administrator has set a price.
            if (table := self._ledger.prices()).stamp == stamp:
                raise
            stamp = table.stamp
            targets, downgrade = reprice(table)
        seconds = min(self._settings.ai_request_timeout_seconds, caller.remaining_seconds - _KEPT_FOR_SETTLING_SECONDS)
        left = TargetsLeft(targets, downgrade=downgrade, allowances=self._allowances, prices=stamp, reprice=reprice)
        return Attempts(
            self._ledger,
            call,
            left,
            TimeLeft.of(seconds, self._settings.max_silence_seconds, max_silence),
            pinned=route.tier is None,
            confidential=route.confidential,
            on_credential_rejected=self._on_credential_rejected,
            max_cost_usd=caller.max_cost_usd,
            after_response=caller.after_response,
            caller_has_left=caller.has_left,
        )


def _tier_had(provider: AIProvider, model: str, price: Price, asked: ServiceTier | None) -> ServiceTier | None:
    """The service tier that is asked of this provider: the caller's where it can be had and has a price."""
    return asked if asked in price.service_tiers and "service_tier" in provider.supports(model) else None


def _until_answered(attempts: Attempts, ask: Callable[[BoundedTarget], _T], asked: Asked[Any] | None = None) -> _T:
    """Ask the chain's providers in turn until one answers; the answer's attempt is still to be settled.

    :param asked: what is asked, from which a field may be left out that a vendor refuses by its name
    """
    metrics.count("Requests")
    target = attempts.begin()
    while True:
        try:
            with metrics.provider_time():
                return ask(target)
        except ProviderFailure as failure:
            less = asked is not None and asked.refused_field(failure, others_left=attempts.others_left)
            target = attempts.go_on_after(failure, same_provider=less)
        except BaseException:
            attempts.abandon()
            raise


def _input_counted(attempts: Attempts, chunks: Iterator[StreamChunk]) -> Iterator[StreamChunk]:
    """Give back what is held beyond the input as soon as a chunk has its count."""
    for chunk in chunks:
        if chunk.input_usage is not None:
            attempts.input_counted(chunk.input_usage)
        yield chunk


def _head(chunks: Iterator[StreamChunk]) -> list[StreamChunk]:
    """The chunks up to the first content. An answer may be empty: then it is all of them."""
    head = []
    for chunk in chunks:
        head.append(chunk)
        if any(choice.delta.has_content for choice in chunk.choices):
            break
    return head


def _metered(
    attempts: Attempts, head: Sequence[StreamChunk], rest: Iterator[StreamChunk], dropped: Sequence[str]
) -> Iterator[StreamChunk]:
    """Pass the chunks on as they come; hold back the usage until it is settled, then send it with its cost."""
    last: StreamChunk | None = None
    usage: Usage | None = None
    was_cut = False
    try:
        for chunk in _all(head, rest):
            was_cut = was_cut or any(choice.finish_reason == "length" for choice in chunk.choices)
            if chunk.usage is not None:
                # Some servers repeat the usage on every chunk: the last one counts.
                usage, last = chunk.usage, chunk
                chunk = chunk.model_copy(update={"usage": None})
                chunk.model_fields_set.discard("usage")
            if chunk.choices:
                yield chunk
    except ProviderFailure as failure:
        attempts.fail_mid_stream(failure)
        raise StreamBrokenError(failure.message) from failure
    except BaseException:
        attempts.abandon()
        raise
    booked = attempts.succeeded(usage, expects_output=True, dropped=dropped, was_cut=was_cut)
    if usage is not None and last is not None:
        usage.book(booked.cost, output=True)
        yield last.model_copy(update={"choices": [], "usage": usage})


def _all(head: Sequence[StreamChunk], rest: Iterator[StreamChunk]) -> Iterator[StreamChunk]:
    yield from head
    yield from rest
