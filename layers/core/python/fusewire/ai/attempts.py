"""One call's way over its chain: reserve, try, and on failure end and reserve the next in one statement.

This is where providers and the ledger meet. It owns no wire format and no HTTP; the router drives it.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Final

from fusewire import logs, tracing
from fusewire.ai.allowances import raised
from fusewire.ai.failures import FailureKind, Health, ProviderFailure, Settle
from fusewire.ai.outcomes import caller_error, cooling_down, health_update_of, refusal_of
from fusewire.ai.output_caps import OutputCap
from fusewire.ai.provider import Timeouts
from fusewire.ai.schema import Usage
from fusewire.ai.targets import BoundedTarget, TargetsLeft
from fusewire.ai.time_left import TimeLeft
from fusewire.ai.usage_cost import UsageCost, most_after_input, usage_cost
from fusewire.budget.breaker import Budget, KeyBudget
from fusewire.budget.ledger import Ledger
from fusewire.budget.price import TokenCounts
from fusewire.budget.price_table import StalePricesError
from fusewire.budget.reservation import (
    AllCoolingError,
    AllowanceRaisedError,
    Booked,
    Call,
    HealthUpdate,
    Reservation,
    Settlement,
)
from fusewire.errors import (
    AllProvidersFailedError,
    DeadlineExceededError,
    FusewireError,
    LedgerUnavailableError,
    ModelNotFoundError,
    NoEligibleProviderError,
    ProviderOutcome,
    RequestCostError,
)

_MAX_PRICE_CHANGES: Final = 4
"""During one reservation. Each costs a round trip."""
_TIMEOUTS: Final = {
    FailureKind.READ_TIMEOUT,
    FailureKind.CONNECT_TIMEOUT,
    FailureKind.REQUEST_TIMEOUT,
}

_MODELS_OWN: Final = {FailureKind.MODEL_NOT_FOUND, FailureKind.MODEL_DENIED}


class Attempts:
    """The attempts of one call. `begin`, for each failure `go_on_after`, then `succeeded` or `fail_mid_stream`."""

    def __init__(
        self,
        ledger: Ledger,
        call: Call,
        targets: TargetsLeft,
        time_left: TimeLeft,
        *,
        pinned: bool,
        confidential: bool,
        on_credential_rejected: Callable[[], None] | None = None,
        max_cost_usd: Decimal | None = None,
        after_response: Callable[[Callable[[], None]], None] | None = None,
        caller_has_left: Callable[[], bool] | None = None,
    ) -> None:
        """
        :param pinned: whether one provider's model was asked for
        :param confidential: whether only local providers may serve the call
        :param on_credential_rejected: called when a vendor refuses this process's credential
        :param max_cost_usd: that all attempts together may not pass
        :param after_response: has something done once the answer has left; None: a settlement comes first
        :param caller_has_left: whether nobody waits for the answer any more; None where that isn't known
        """
        self._ledger = ledger
        self._asked = call
        self._call = call
        """The same, in the tier that serves it."""
        self._left = targets
        self._time_left = time_left
        self._pinned = pinned
        self._confidential = confidential
        self._on_credential_rejected = on_credential_rejected
        self._max_cost_usd = max_cost_usd
        self._after_response = after_response
        self._caller_has_left = caller_has_left
        self._booked_usd = Decimal(0)
        """What failed attempts are booked at."""
        self._waited_seconds: float | None = None
        self._outcomes: list[ProviderOutcome] = []
        self._reservation: Reservation | None = None
        self._at_most_usd: Decimal | None = None
        """What the attempt may cost since its input is known; None before that: its bound."""
        self._target: BoundedTarget | None = None
        self._taken: BoundedTarget | None = None
        """The same with the output cap that was asked for."""
        self._budget: Budget | None = None
        self.key: KeyBudget | None = None
        """The budget of the caller's key, as `budget`; None without one."""
        self._traced: tracing.Subsegment | None = None
        self._started = time.monotonic()
        self.number = 0

    def begin(self) -> BoundedTarget:
        """Reserve for the first provider that isn't cooling down.

        :raises FusewireError: budget, ledger, deadline, or nobody left to try
        """
        if self._time_left.is_too_short:
            raise DeadlineExceededError(
                "There was no time left to ask a provider. Retry, or raise AI_REQUEST_TIMEOUT_SECONDS."
            )
        return self._reserve(None)

    def go_on_after(self, failure: ProviderFailure, *, same_provider: bool = False) -> BoundedTarget:
        """End the failed attempt as its kind demands, and reserve for the next provider in the same statement.

        :param same_provider: ask the provider that failed once more, before the others: the request asks for less now
        :raises FusewireError: where nobody else may be asked: the caller's own mistake, or nobody left to try
        """
        if same_provider and self._taken is not None:
            self._left.put_back(self._taken)
        settlement = self._settlement_for(failure)
        self._log_failure(failure, settlement)
        if failure.kind is FailureKind.CREDENTIAL_REJECTED and self._on_credential_rejected is not None:
            self._on_credential_rejected()
        # A field that this model refuses is the caller's own mistake where no other model is left that may take it.
        kinds = {failure.kind.value, *(outcome.kind for outcome in self._outcomes)}
        last_refusal = kinds == {FailureKind.FIELD_REFUSED.value} and not self._left
        if not failure.consequence.fail_over or last_refusal:
            self._ledger.settle(settlement)
            raise caller_error(failure)
        self._outcomes.append(
            ProviderOutcome(
                self.target.provider.id,
                self.target.model,
                failure.kind.value,
                failure.message,
                failure.retry_after,
                is_passing=failure.consequence.health is Health.COUNT,
            )
        )
        if not self._left or self._time_left.is_too_short:
            self._ledger.settle(settlement)
            raise self._nobody_left(failure.kind)
        return self._reserve(settlement)

    @property
    def others_left(self) -> bool:
        """Whether somebody else would be asked next."""
        return bool(self._left)

    @property
    def downgraded_from(self) -> str | None:
        """The tier that was asked for, where another one serves it."""
        return None if self._call is self._asked else self._asked.tier

    @property
    def target(self) -> BoundedTarget:
        """Who is being asked, or answered."""
        if self._target is None:
            raise RuntimeError("no attempt has been reserved")
        return self._target

    @property
    def budget(self) -> Budget:
        """The budget as the ledger last reported it: at the settlement of the response, or else at the reservation."""
        if self._budget is None:
            raise RuntimeError("no attempt has been reserved")
        return self._budget

    def timeouts(self) -> Timeouts:
        """Of this attempt."""
        return self._time_left.timeouts(len(self._left))

    def input_counted(self, usage: Usage) -> None:
        """The vendor has counted the whole input: what is reserved beyond it and the output's bound is given back,
        beside the stream."""
        at_most, reservation = most_after_input(self.target, usage), self._reservation
        if at_most is None or reservation is None or at_most >= reservation.candidate.bound:
            return
        tokens = usage.prompt_tokens + self.target.max_output_tokens
        self._ledger.give_back(reservation, at_most, tokens)
        self._reservation, self._at_most_usd = reservation.lowered(at_most, tokens), at_most

    def succeeded(
        self, usage: Usage | None, *, expects_output: bool, dropped: Sequence[str] = (), was_cut: bool = False
    ) -> Booked:
        """Settle at what the usage costs. Where input or output wasn't reported, that part costs its bound.

        The settlement is left for after the answer where that may be.

        :param expects_output: whether the call has output: embeddings have none
        :param dropped: the fields that this provider wasn't sent, for the log
        :param was_cut: whether an answer is as long as it may be, and not as long as it would have been
        """
        cost = usage_cost(self.target, usage, expects_output=expects_output)
        settlement = Settlement(
            self._take_reservation(None),
            "actual" if cost.is_actual else "bound",
            "success",
            cost=cost.usd if cost.is_actual else self._within_known(cost.usd),
            counts=cost.counts,
            reasoning_tokens=cost.reasoning_tokens,
            health_update=HealthUpdate(self.target.provider.id, "ok"),
            allowance=self._raised_by(cost.counts),
            size=_size(self.target.output, cost.counts, was_cut=was_cut) if cost.is_actual else None,
        )
        latency_ms = round((time.monotonic() - self._started) * 1000)
        if self._after_response is not None and self._ledger.may_settle_late(settlement):

            def settle_late() -> None:
                self._log_success(self._ledger.settle(settlement, late=True), cost, latency_ms, dropped)

            self._after_response(settle_late)
            booked = settlement.foreseen
        else:
            booked = self._ledger.settle(settlement)
            self._log_beyond_bound(settlement, cost.usd)
            self._log_success(booked, cost, latency_ms, dropped)
        if booked.budget is not None:
            self._budget, self.key = booked.budget, booked.key
        return booked

    def fail_mid_stream(self, failure: ProviderFailure) -> None:
        """A stream that had sent content broke: settle at the bound; nobody else may answer.

        The log has the cause; the ledger has what follows from it, that the stream broke late.
        """
        late = ProviderFailure(FailureKind.STREAM_BROKEN_LATE, failure.message)
        settlement = self._settlement_for(late)
        self._log_failure(failure, settlement)
        self._ledger.settle(settlement)

    def abandon(self) -> None:
        """Something of our own failed in mid-call: what the provider did is unknown, so it is settled at its bound."""
        if self._reservation is not None:
            settlement = Settlement(self._take_reservation("abandoned"), "bound", "abandoned", cost=self._at_most_usd)
            self._log(
                "ledger.settled_at_bound",
                logging.WARNING,
                cost_usd=settlement.booked,
                cost_basis="bound",
                kind="abandoned",
            )
            self._ledger.settle(settlement)

    # --- below: what those are made of ---

    def _reserve(self, after: Settlement | None) -> BoundedTarget:
        try:
            reservation = self._reserve_at_current_prices(after)
        except AllCoolingError as error:
            self._outcomes += map(cooling_down, error.cooling)
            raise self._nobody_left(None) from None
        if reservation.downgraded and (tier := self._left.switch_to_downgrade()) is not None:
            self._call = replace(self._asked, tier=tier)
        self._outcomes += map(cooling_down, reservation.skipped)
        self._reservation, self._at_most_usd = reservation, None
        self._budget, self.key = reservation.budget, reservation.key
        self.number += 1
        self._taken = self._left.take(reservation.place)
        self._target = self._taken.capped(reservation.cap)
        self._traced = tracing.attempt(self._target.provider.id, self._target.model, self.number)
        return self._target

    def _reserve_at_current_prices(self, after: Settlement | None) -> Reservation:
        """Compute the bounds anew, and ask again, where other prices or a larger allowance have come into force."""
        price_changes = 0
        waiting = self._ledger.waiting(
            self._time_left.for_waiting, already=self._waited_seconds or 0, caller_has_left=self._caller_has_left
        )
        if after is not None:
            self._booked_usd += after.booked
        while price_changes < _MAX_PRICE_CHANGES:
            self._keep_within_cost(after)
            try:
                reservation = self._ledger.reserve(
                    self._call,
                    self._left.candidates,
                    attempt=self.number + 1,
                    after=after,
                    downgrade=self._left.downgrade_candidates,
                    prices=self._left.prices,
                    waiting=waiting,
                )
                if waiting.waited_ms is not None:
                    self._waited_seconds = (self._waited_seconds or 0) + waiting.waited_seconds
                return reservation
            except AllowanceRaisedError as error:
                self._left.allow(error.provider, error.model, error.tokens)
            except StalePricesError as stale:
                price_changes += 1
                try:
                    self._left.use_prices(stale.table)
                    if not self._left:
                        raise self._nobody_left(None)
                except FusewireError:
                    if after is not None:
                        self._ledger.settle(after)
                    raise
        if after is not None:
            self._ledger.settle(after)
        raise LedgerUnavailableError("the prices change faster than a call can be reserved")

    def _keep_within_cost(self, after: Settlement | None) -> None:
        """Leave only what the request's own limit has room for.

        :raises RequestCostError: where nothing is left
        """
        if self._max_cost_usd is None or self._left.keep_within(self._max_cost_usd - self._booked_usd):
            return
        if after is not None:
            self._ledger.settle(after)
        raise RequestCostError(self._max_cost_usd)

    def _raised_by(self, counts: TokenCounts | None) -> int | None:
        """The allowance that the model needs from now on, where its usage is more than the input bound."""
        target = self.target
        tokens = raised(target.allowance, target.max_input_tokens, counts.input_tokens) if counts else None
        if tokens is not None:
            self._left.allow(target.provider.id, target.model, tokens)
        return tokens

    def _nobody_left(self, last: FailureKind | None) -> FusewireError:
        if self._max_cost_usd is not None and self._left.some_cost_too_much and not self._time_left.is_too_short:
            return RequestCostError(self._max_cost_usd)  # others could answer, for more
        if self._confidential:
            outcomes = "; ".join(f"{o.provider}/{o.model}: {o.message}" for o in self._outcomes)
            error: FusewireError = NoEligibleProviderError(
                f"No provider that may see confidential data can be reached. {outcomes}. It is never sent elsewhere."
            )
        elif last in _TIMEOUTS and (
            timeout := self._time_left.timeout_error(
                self.target.provider.id, is_read_timeout=last is FailureKind.READ_TIMEOUT
            )
        ):
            error = timeout
        elif last in _MODELS_OWN and self._pinned and len(self._outcomes) == 1:
            lacks = (
                "knows no model" if last is FailureKind.MODEL_NOT_FOUND else "gives this gateway no access to the model"
            )
            error = ModelNotFoundError(
                f"{self.target.provider.id} {lacks} {self.target.model!r}. GET /api/v1/models lists those that are "
                "configured.",
                param="model",
            )
            error.counted = True
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

    def _settlement_for(self, failure: ProviderFailure) -> Settlement:
        """How the failed attempt is ended. With a cost, mode `bound` means: a part of it is at its bound."""
        settle = failure.consequence.settle
        flag: tracing.Flag = "error" if failure.consequence.health is Health.UNTOUCHED else "fault"
        return Settlement(
            self._take_reservation(
                failure.kind.value, "throttle" if failure.kind is FailureKind.RATE_LIMITED else flag
            ),
            "release" if settle is Settle.RELEASE else "bound",
            failure.kind.value,
            cost=self._within_known(self.target.input_bound_usd if settle is Settle.INPUT_BOUND else None),
            health_update=health_update_of(self.target.provider.id, failure),
            refusal=refusal_of(failure),
        )

    def _within_known(self, cost: Decimal | None) -> Decimal | None:
        """A cost that isn't the actual one, None for the bound: no more than what the attempt may cost for all that is
        known of its input."""
        if cost is None or self._at_most_usd is None:
            return self._at_most_usd if cost is None else cost
        return min(cost, self._at_most_usd)

    def _take_reservation(self, outcome: str | None, flag: tracing.Flag = "fault") -> Reservation:
        """Take the reservation, so that it is ended once, and end the attempt's trace.

        :param outcome: what went wrong, None for nothing
        """
        if self._reservation is None or self._traced is None:
            raise RuntimeError("no attempt has been reserved")
        self._traced.end(outcome, flag)
        reservation, self._reservation = self._reservation, None
        return reservation

    def _log_failure(self, failure: ProviderFailure, settlement: Settlement) -> None:
        at_bound = settlement.mode == "bound"
        self._log(
            "router.provider_failed",
            logging.WARNING,
            kind=failure.kind.value,
            message=failure.message,
            cost_usd=settlement.booked,
            cost_basis="bound" if at_bound else None,
        )
        if at_bound:
            self._log(
                "ledger.settled_at_bound",
                logging.WARNING,
                cost_usd=settlement.booked,
                cost_basis="bound",
                kind=failure.kind.value,
            )

    def _log_beyond_bound(self, settlement: Settlement, cost: Decimal | None) -> None:
        """The provider may report more than it was asked for. It is booked as reported: books follow the bill."""
        allowance = settlement.allowance
        if allowance is None and (cost is None or cost <= settlement.reservation.candidate.bound):
            return
        more = f"; {allowance} are allowed for what its server adds from now on" if allowance is not None else ""
        self._log(
            "ledger.bound_exceeded",
            logging.ERROR,
            cost_usd=cost,
            message=f"its bound was for {self.target.max_input_tokens} tokens of input and "
            f"{self.target.max_output_tokens} of output{more}",
        )

    def _log_success(self, booked: Booked, cost: UsageCost, latency_ms: int, dropped: Sequence[str]) -> None:
        self._log(
            "router.success",
            cost_usd=booked.cost,
            cost_basis=booked.basis,
            input_tokens=cost.counts.input_tokens if cost.counts else None,
            output_tokens=cost.counts.output_tokens if cost.counts else None,
            latency_ms=latency_ms,
            usage_ratio=booked.budget.usage_ratio if booked.budget else None,
            dropped=", ".join(dropped) or None,
            downgraded_from=self.downgraded_from,
            waited_ms=None if self._waited_seconds is None else round(self._waited_seconds * 1000),
            output_cap=self.target.output.smaller if self.target.output is not None else None,
        )
        if booked.basis == "bound":
            self._log(
                "ledger.settled_at_bound",
                logging.WARNING,
                cost_usd=booked.cost,
                cost_basis="bound",
                kind=cost.bound_reason,
            )

    def _log(self, event: str, level: int = logging.INFO, **fields: object) -> None:
        logs.event(
            event,
            level,
            provider=self.target.provider.id,
            model=self.target.model,
            tier=self._call.tier,
            key_id=self._call.key_id,
            attempt=self.number,
            **fields,
        )


def _size(output: OutputCap | None, counts: TokenCounts | None, *, was_cut: bool) -> int | None:
    """How long an answer was, in tokens; one more than its cap where that cut it off.

    A vendor may stop a little below the cap. Far below it, it was the context window that ended the answer.
    """
    if output is None or counts is None:
        return None
    if counts.output_tokens >= output.tokens * output.n or (was_cut and 2 * counts.output_tokens >= output.tokens):
        return output.tokens + 1
    return max(1, -(-counts.output_tokens // output.n))
