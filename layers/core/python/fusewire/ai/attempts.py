"""One call's way over its chain: reserve, try, and on failure end and reserve the next in one statement.

This is where providers and the ledger meet. It owns no wire format and no HTTP; the router drives it.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Final

from fusewire import logs, tracing
from fusewire.ai.failures import FailureKind, Health, ProviderFailure, Settle
from fusewire.ai.provider import AIProvider, Timeouts
from fusewire.ai.verdicts import callers_error, cooling_down, verdict_on
from fusewire.ai.vocabulary import PromptTokensDetails, Usage
from fusewire.budget.breaker import Budget, KeyBudget
from fusewire.budget.ledger import (
    AllCoolingError,
    Booked,
    Call,
    Candidate,
    Downgrade,
    Ending,
    Ledger,
    Reservation,
    Verdict,
)
from fusewire.budget.pricing import Price, TokenCounts
from fusewire.errors import (
    AllProvidersFailedError,
    DeadlineExceededError,
    FusewireError,
    ModelNotFoundError,
    NoEligibleProviderError,
    ProviderOutcome,
)

_CONNECT_SECONDS: Final = 5
_SHORTEST_ATTEMPT_SECONDS: Final = 0.25
_UNREACHABLE_IS_FINAL: Final = {
    FailureKind.READ_TIMEOUT,
    FailureKind.CONNECT_TIMEOUT,
    FailureKind.REQUEST_TIMEOUT,
}


@dataclass(frozen=True, slots=True)
class Option:
    """A provider that may serve the call, at what price and worst case."""

    provider: AIProvider
    model: str
    price: Price
    bound: Decimal
    tokens: int
    """The worst case in tokens."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """When the call must be over, by `time.monotonic()`; what settling takes is already kept back."""

    at: float

    def left(self) -> float:
        """Seconds."""
        return self.at - time.monotonic()


class Attempts:
    """The attempts of one call. `begin`, then for each failure `after`, then one of `succeeded` and `broke_late`."""

    def __init__(
        self,
        ledger: Ledger,
        call: Call,
        options: Sequence[Option],
        deadline: Deadline,
        silence: Deadline,
        *,
        pinned: bool,
        confidential: bool,
        downgrade: tuple[str, Sequence[Option]] | None = None,
    ) -> None:
        """
        :param silence: until when the caller must hear something: a stream's first content, or the whole answer
        :param downgrade: the tier, and who serves it, that takes over while a budget is HALF_OPEN
        """
        self._ledger = ledger
        self._call = call
        self._left = list(options)
        self._downgrade = downgrade
        self.downgraded_from: str | None = None
        """The tier that was asked for, where another one serves it."""
        self._deadline = deadline
        self._silence = silence
        self._pinned = pinned
        self._confidential = confidential
        self._outcomes: list[ProviderOutcome] = []
        self._reservation: Reservation | None = None
        self._budget: Budget | None = None
        self.key: KeyBudget | None = None
        """The budget of the caller's key, as `budget`; None without one."""
        self._traced: tracing.Subsegment | None = None
        self._started = time.monotonic()
        self.option = options[0]
        self.number = 0

    def begin(self) -> Option:
        """Reserve for the first provider that isn't cooling down.

        :raises FusewireError: budget, ledger, deadline, or nobody left to try
        """
        if self._silence.left() < _SHORTEST_ATTEMPT_SECONDS:
            raise DeadlineExceededError(
                "There was no time left to ask a provider. Retry, or raise AI_REQUEST_TIMEOUT_SECONDS."
            )
        return self._reserve(None)

    def after(self, failure: ProviderFailure) -> Option:
        """End the failed attempt as its kind demands, and reserve for the next provider in the same statement.

        :raises FusewireError: the caller's own mistake, or nobody left to try
        """
        ending = self._ended_by(failure)
        self._log_failure(failure, ending)
        if not failure.consequence.fail_over:
            self._ledger.end(ending)
            raise callers_error(failure)
        self._outcomes.append(
            ProviderOutcome(
                self.option.provider.id,
                self.option.model,
                failure.kind.value,
                failure.message,
                failure.retry_after,
            )
        )
        if not self._left or self._silence.left() < _SHORTEST_ATTEMPT_SECONDS:
            self._ledger.end(ending)
            raise self._nobody_left(failure.kind)
        return self._reserve(ending)

    @property
    def budget(self) -> Budget:
        """The budget as the ledger last told it: when the answer was settled, or else when the attempt was reserved."""
        if self._budget is None:
            raise RuntimeError("no attempt has been reserved")
        return self._budget

    def timeouts(self) -> Timeouts:
        """What is left until something must be heard, divided evenly over this attempt and those that may follow."""
        share = max(self._silence.left(), _SHORTEST_ATTEMPT_SECONDS) / (1 + len(self._left))
        return Timeouts(
            min(_CONNECT_SECONDS, share), first=share, total=max(self._deadline.left(), _SHORTEST_ATTEMPT_SECONDS)
        )

    def succeeded(self, usage: Usage | None, *, limit_output: int, dropped: Sequence[str] = ()) -> Booked:
        """Settle at what the usage costs; an answer without usage is settled at its bound."""
        # Half a usage prices half an answer: without its output tokens it is no better than none.
        whole = usage is not None and (limit_output == 0 or "completion_tokens" in usage.model_fields_set)
        counts = token_counts(usage) if usage and whole else None
        cost = self.option.price.cost(counts) if counts else None
        reservation = self._held(None)
        booked = self._ledger.end(
            Ending(
                reservation,
                "actual" if counts else "bound",
                "success",
                cost=cost,
                counts=counts,
                reasoning_tokens=_reasoning(usage),
                verdict=Verdict(self.option.provider.id, "ok"),
            )
        )
        if booked.budget is not None:
            self._budget, self.key = booked.budget, booked.key
        if cost is not None and cost > reservation.candidate.bound:
            # The provider reports more than it was asked for. It is booked as reported: books follow the bill.
            self._log(
                "ledger.bound_exceeded",
                logging.ERROR,
                cost_usd=cost,
                message=f"{limit_output} tokens were allowed",
            )
        self._log(
            "router.success",
            cost_usd=booked.cost,
            cost_basis=booked.basis,
            input_tokens=counts.input_tokens if counts else None,
            output_tokens=counts.output_tokens if counts else None,
            latency_ms=round((time.monotonic() - self._started) * 1000),
            usage_ratio=booked.budget.usage_ratio if booked.budget else None,
            dropped=", ".join(dropped) or None,
            downgraded_from=self.downgraded_from,
        )
        if booked.basis == "bound":
            self._log(
                "ledger.settled_at_bound",
                logging.WARNING,
                cost_usd=booked.cost,
                cost_basis="bound",
                kind="no_usage",
            )
        return booked

    def broke_late(self, failure: ProviderFailure) -> None:
        """A stream that had sent content broke: settle at the bound; nobody else may answer."""
        late = ProviderFailure(FailureKind.STREAM_BROKEN_LATE, failure.message)
        ending = self._ended_by(late)
        self._log_failure(failure, ending)
        self._ledger.end(ending)

    def abandon(self) -> None:
        """Something of our own failed in mid-call: what the provider did is unknown, so it is settled at its bound."""
        if self._reservation is not None:
            ending = Ending(self._held("abandoned"), "bound", "abandoned")
            self._log(
                "ledger.settled_at_bound",
                logging.WARNING,
                cost_usd=self.option.bound,
                cost_basis="bound",
                kind="abandoned",
            )
            self._ledger.end(ending)

    # --- below: what those are made of ---

    def _reserve(self, after: Ending | None) -> Option:
        candidates = _candidates(self._left)
        try:
            reservation = self._ledger.reserve(
                self._call,
                candidates,
                attempt=self.number + 1,
                after=after,
                downgrade=self._downgrade and Downgrade(self._downgrade[0], _candidates(self._downgrade[1])),
            )
        except AllCoolingError as error:
            self._outcomes += map(cooling_down, error.cooling)
            raise self._nobody_left(None) from None
        if reservation.downgraded and self._downgrade is not None:
            self.downgraded_from = self._call.tier
            self._call = replace(self._call, tier=self._downgrade[0])
            self._left, self._downgrade = list(self._downgrade[1]), None
            candidates = _candidates(self._left)
        self._outcomes += map(cooling_down, reservation.passed_over)
        self._reservation = reservation
        self._budget, self.key = reservation.budget, reservation.key
        self.number += 1
        place = candidates.index(reservation.candidate)
        self.option = self._left[place]
        del self._left[: place + 1]
        self._traced = tracing.attempt(self.option.provider.id, self.option.model, self.number)
        return self.option

    def _nobody_left(self, last: FailureKind | None) -> FusewireError:
        if self._confidential:
            told = "; ".join(f"{o.provider}/{o.model}: {o.message}" for o in self._outcomes)
            error: FusewireError = NoEligibleProviderError(
                f"No provider that may see confidential data can be reached. {told}. It is never sent elsewhere."
            )
        elif last in _UNREACHABLE_IS_FINAL and self._silence.left() < _SHORTEST_ATTEMPT_SECONDS:
            error = DeadlineExceededError(
                "The providers didn't answer in time. Retry, or raise AI_REQUEST_TIMEOUT_SECONDS."
                if self._silence.at == self._deadline.at
                else "The providers said nothing for as long as API Gateway waits, 5 minutes. Ask for less at once."
            )
        elif last is FailureKind.MODEL_NOT_FOUND and self._pinned and len(self._outcomes) == 1:
            error = ModelNotFoundError(
                f"{self.option.provider.id} knows no model {self.option.model!r}. GET /api/v1/models lists those that "
                "are configured.",
                param="model",
            )
        else:
            error = AllProvidersFailedError(self._outcomes)
        # An operator who asks one dead provider is no outage: the alarm counts these.
        if self._call.operation != "probe":
            logs.event(
                "router.all_failed",
                logging.ERROR,
                tier=self._call.tier,
                code=error.code,
                message="; ".join(f"{o.provider}/{o.model}: {o.kind}" for o in self._outcomes),
                latency_ms=round((time.monotonic() - self._started) * 1000),
            )
        return error

    def _ended_by(self, failure: ProviderFailure) -> Ending:
        release = failure.consequence.settle is Settle.RELEASE
        flag: tracing.Flag = "error" if failure.consequence.health is Health.UNTOUCHED else "fault"
        return Ending(
            self._held(failure.kind.value, "throttle" if failure.kind is FailureKind.RATE_LIMITED else flag),
            "release" if release else "bound",
            failure.kind.value,
            verdict=verdict_on(self.option.provider.id, failure),
        )

    def _held(self, outcome: str | None, flag: tracing.Flag = "fault") -> Reservation:
        """The reservation, to be ended; the attempt itself is over.

        :param outcome: what went wrong, None for nothing
        """
        if self._reservation is None or self._traced is None:
            raise RuntimeError("no attempt has been reserved")
        self._traced.end(outcome, flag)
        reservation, self._reservation = self._reservation, None
        return reservation

    def _log_failure(self, failure: ProviderFailure, ending: Ending) -> None:
        at_bound = ending.how == "bound"
        self._log(
            "router.provider_failed",
            logging.WARNING,
            kind=failure.kind.value,
            message=failure.message,
            cost_usd=self.option.bound if at_bound else Decimal(0),
            cost_basis="bound" if at_bound else None,
        )
        if at_bound:
            self._log(
                "ledger.settled_at_bound",
                logging.WARNING,
                cost_usd=self.option.bound,
                cost_basis="bound",
                kind=failure.kind.value,
            )

    def _log(self, event: str, level: int = logging.INFO, **fields: object) -> None:
        logs.event(
            event,
            level,
            provider=self.option.provider.id,
            model=self.option.model,
            tier=self._call.tier,
            key_id=self._call.key_id,
            attempt=self.number,
            **fields,
        )


def _candidates(options: Sequence[Option]) -> list[Candidate]:
    return [Candidate(o.provider.id, o.model, o.bound, o.tokens) for o in options]


def token_counts(usage: Usage) -> TokenCounts:
    """Usage as the price list counts it; details beyond the totals are clipped, so that nothing goes below zero."""
    details = usage.prompt_tokens_details or PromptTokensDetails()
    cached = _within(details.cached_tokens, usage.prompt_tokens)
    written = _within(details.cache_write_tokens, usage.prompt_tokens - cached)
    for_an_hour = _within(details.cache_write_1h_tokens, written)
    return TokenCounts(usage.prompt_tokens, usage.completion_tokens, cached, written, for_an_hour)


def _within(part: int | None, whole: int) -> int:
    return max(min(part or 0, whole), 0)


def _reasoning(usage: Usage | None) -> int:
    details = usage.completion_tokens_details if usage else None
    return _within(details.reasoning_tokens, usage.completion_tokens) if usage and details else 0
