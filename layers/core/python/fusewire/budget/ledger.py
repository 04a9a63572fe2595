"""The ledger: every attempt is reserved before it is sent, and ends exactly once.

Postgres decides, one round trip each (`store/functions/reserve.sql` and `settle.sql`). A crash between any two lines
here leaves a reservation that expires and is settled at its bound.
"""

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Final, cast
from uuid import UUID

from fusewire import logs, metrics
from fusewire.budget.admission import Line, Waiting
from fusewire.budget.breaker import Budget, KeyBudget, Window, announce, announce_reset, ratio
from fusewire.budget.price_table import PriceTable, StalePricesError
from fusewire.budget.reservation import (
    AllCoolingError,
    AllowanceRaisedError,
    Booked,
    Call,
    Candidate,
    Cooling,
    Downgrade,
    Reservation,
    Settlement,
)
from fusewire.budget.unsent import NOT_SENT, Unsent
from fusewire.budget.wire import (
    BUDGET,
    GIVE_BACK,
    PRICE_TABLE,
    RESERVE,
    RESET,
    SETTLE,
    WITHDRAW,
    BudgetArgument,
    BudgetRow,
    CandidateArgument,
    CoolingRow,
    Ended,
    EntryArgument,
    GiveBackArgument,
    HealthUpdateArgument,
    PricesArgument,
    ReserveArgument,
    ReserveResult,
    ResetArgument,
    ResetResult,
    SettingsArgument,
    SettleArgument,
    WithdrawArgument,
    sql_settings,
)
from fusewire.config import Settings
from fusewire.errors import CallerLeftError, LedgerUnavailableError
from fusewire.ids import time_ordered_id
from fusewire.json import preencode
from fusewire.store.db import Database, StatementRefusedError

_PROBE_SECONDS: Final = 30
_LATE_SECONDS: Final = 2
"""For which a settlement that follows its answer waits for Postgres: the environment takes no event before its end."""
_SMALLEST_GIFT: Final = Decimal("0.1")
"""The part of a reservation that is worth a statement to give back."""


if TYPE_CHECKING:
    from fusewire.budget.forecast import DailySpend
    from fusewire.budget.limits import Limits


class Ledger:
    """The ledger as one execution environment sees it."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        # The same in every statement, so it is encoded once; for the type checker it stays what it stands for.
        self._settings = cast(SettingsArgument, preencode(sql_settings(settings)))
        self._snapshot: dict[str, object] | None = settings.public()
        """The settings, for the audit; None once they were sent."""
        self._unsent = Unsent(lambda ended: self._settle(ended, resent=True))
        self._max_wait_seconds = settings.ai_admission_wait_seconds
        self._ttl_seconds = settings.ai_reservation_ttl_seconds
        self._max_waiting_per_key = settings.ai_max_waiting_per_key
        self._call_seconds: float | None = None
        """How long this environment's calls take, the last ones above all; None before the first."""

    def reserve(
        self,
        call: Call,
        candidates: Sequence[Candidate],
        *,
        attempt: int = 1,
        after: Settlement | None = None,
        downgrade: Downgrade | None = None,
        prices: PricesArgument | None = None,
        waiting: Waiting | None = None,
    ) -> Reservation:
        """Reserve the worst case of the first candidate that isn't cooling down, in one round trip; in more where it
        has to wait for room.

        :param waiting: how long it may wait, and its place while it does; None to be refused at once
        :param after: the failed attempt before this one, ended in the same statement
        :param downgrade: who is asked instead while the company's or the key's budget is HALF_OPEN
        :param prices: which the bounds were computed with; None where no administrator's price was known
        :raises StalePricesError: other prices are in force; nothing was done, the end of `after` included
        :raises BudgetExceededError: it can't fit what is left of a window on its way: the company's, the key's, or one
            between them
        :raises BudgetReservedError: it would fit, but calls in flight hold the headroom
        :raises RateLimitedError: the key's rate limit is used up
        :raises InvalidRequestError: it is more than the key may use in any minute, or lacks the user that the key needs
        :raises RepeatedRefusalError: the vendor refused the key's last calls to the model
        :raises AuthenticationError: the key was revoked or has expired since it was checked
        :raises AllCoolingError: every candidate is cooling down
        :raises CallerLeftError: its caller hung up while it waited; nothing is reserved
        :raises AllowanceRaisedError: a usage has shown meanwhile that the bound is too small; to be made anew, with the
            same `after`, which ends once
        :raises LedgerUnavailableError: whether it is reserved is unknown, so nothing may be sent
        """
        waiting = Waiting() if waiting is None else waiting
        entry_id = waiting.entry_id
        argument: ReserveArgument = {
            "settings": self._settings,
            "entry": _entry(entry_id, call, attempt),
            "candidates": _arguments(candidates),
            "probe_seconds": _PROBE_SECONDS,
        }
        if downgrade is not None:
            argument["downgrade"] = {"tier": downgrade.tier, "candidates": _arguments(downgrade.candidates)}
        if prices is not None:
            argument["prices"] = prices
        if self._snapshot is not None:
            argument["settings_snapshot"] = self._snapshot
        ended: Ended | None = None
        if after is not None:
            ended = _ended(after)
            argument = {**argument, **ended}
        try:
            result = self._asked(argument, ended, waiting)
        finally:
            waiting.end()
        downgraded = bool(result.get("downgraded"))
        if downgraded and downgrade is not None:
            call, candidates = replace(call, tier=downgrade.tier), downgrade.candidates
        budget = self._seen(result["budget"])
        skipped = _cooling(result.get("cooling"), candidates)
        if (refused := result.get("refused")) == "allowance_raised":
            raise AllowanceRaisedError(result["provider"], result["model"], result["tokens"])
        if refused == "cooling_down":
            raise AllCoolingError(skipped)
        if refused:
            # Here, since most calls have no use for it.
            from fusewire.budget.refusals import refusal

            raise refusal(result, budget, call, self._call_seconds, waiting)
        place, cap = result["candidate"], result.get("cap")
        return Reservation(
            entry_id,
            call,
            attempt,
            candidates[place].fitted(cap),
            budget,
            skipped,
            KeyBudget.read(result["key"]),
            downgraded,
            place,
            cap,
            waiting.waited_seconds,
            bool(result.get("ample")),
        )

    def _asked(self, argument: ReserveArgument, ended: Ended | None, waiting: Waiting) -> ReserveResult:
        """Ask until there is room, or it may not be waited for any more.

        :param ended: the failed attempt that is ended in the first ask
        :raises StalePricesError, CallerLeftError, LedgerUnavailableError: as `reserve`
        """
        unsent = [] if ended is None else [ended]
        try:
            self._unsent.send()
        except LedgerUnavailableError:
            self._unsent.keep(*unsent)
            raise
        # Should an answer be lost, a reservation may stand that nothing will be sent on.
        entry_id = argument["entry"]["id"]
        unsent.append({"settlement": {"id": entry_id, "mode": "release", "outcome": NOT_SENT}})
        while True:
            if (wait := waiting.argument(self._database.session)) is not None:
                argument["wait"] = wait
            try:
                result = self._database.call(RESERVE, argument)
            except LedgerUnavailableError as error:
                self._unsent.keep(*(unsent if error.may_be_done else unsent[:-1]))
                raise
            if not result.get("waiting"):
                announce(result)
                if "prices" in result:
                    raise StalePricesError(PriceTable.read(result["prices"]))
                self._snapshot = None
                _log_cooldown(argument.get("health_update"), result.get("cooldown_until"))
                if "ticket" not in result:
                    return result
                self._seen(result["budget"])
                argument, unsent = _without_what_is_done(argument), unsent[-1:]
            waiting.wait(self._database, listens=bool(result.get("listens")))
            if waiting.is_in_vain:
                self._withdraw(waiting)
                key_id = argument["entry"]["key_id"]
                logs.event("admission.caller_left", key_id=key_id, waited_ms=waiting.waited_ms)
                raise CallerLeftError

    def _withdraw(self, waiting: Waiting) -> None:
        """Give up a place in the line. Where Postgres can't be reached, it is given up when the lease ends.

        Nothing was reserved, so nothing is left to be ended.
        """
        if (wait := waiting.argument(self._database.session)) is None:
            return
        argument: WithdrawArgument = {"settings": self._settings, "id": str(waiting.entry_id), "wait": wait}
        with suppress(LedgerUnavailableError):
            self._database.call(WITHDRAW, argument)

    def waiting(
        self, most_seconds: float, *, already: float = 0, caller_has_left: Callable[[], bool] | None = None
    ) -> Waiting:
        """The wait of a reservation that is to be made now.

        :param most_seconds: that the call has time for
        :param already: seconds that it has waited for earlier attempts
        :param caller_has_left: whether nobody waits for the answer any more; None where that isn't known
        """
        seconds = min(self._max_wait_seconds - already, most_seconds)
        return Waiting(seconds, self._max_waiting_per_key, caller_has_left)

    def prices(self) -> PriceTable:
        """Administrators' prices in force, for a caller who finds no price and so can't reserve.

        :raises LedgerUnavailableError: when Postgres can't be reached
        """
        return PriceTable.read(self._database.call(PRICE_TABLE, {}))

    def give_back(self, reservation: Reservation, bound: Decimal, tokens: int) -> None:
        """Lower a pending reservation to what its call may still cost; nobody waits for the answer.

        It may be left undone: then all of the reservation is held until its settlement, which has to name its cost.

        :param bound: in USD
        :param tokens: the same in tokens
        """
        if reservation.candidate.bound - bound < _SMALLEST_GIFT * reservation.candidate.bound:
            return
        argument: GiveBackArgument = {
            "settings": self._settings,
            "id": str(reservation.id),
            "bound": bound,
            "tokens": tokens,
        }
        self._database.send(GIVE_BACK, argument)

    def may_settle_late(self, settlement: Settlement) -> bool:
        """Whether the answer may leave first: what will be booked is known, and nobody misses the room till then.

        A call that finds the room taken all the same waits for it; where calls don't wait, settlements come first.
        """
        reservation = settlement.reservation
        age = time.monotonic() - reservation.made_at_seconds
        return (
            reservation.ample
            and self._max_wait_seconds > 0
            and settlement.mode == "actual"
            and settlement.booked <= reservation.candidate.bound
            and settlement.allowance is None
            and 2 * age < self._ttl_seconds  # an adjustment may take back what has expired
        )

    def settle(self, settlement: Settlement, *, late: bool = False) -> Booked:
        """End a reservation for good, in one round trip; sending it twice books it once.

        When Postgres can't be reached, the settlement is kept and sent before this environment's next reservation.
        Should the environment die before that, the reservation expires and is settled at its bound.

        :param late: its answer has left: Postgres is waited for no longer than the next event may be
        """
        ended = _ended(settlement)
        taken = time.monotonic() - settlement.reservation.made_at_seconds
        self._call_seconds = taken if self._call_seconds is None else (3 * self._call_seconds + taken) / 4
        try:
            return self._settle(ended, seconds=_LATE_SECONDS if late else None)
        except LedgerUnavailableError as error:
            refused = isinstance(error, StatementRefusedError)
            logs.event(
                "ledger.unavailable",
                logging.ERROR,
                reason=error.reason,
                provider=settlement.reservation.candidate.provider,
                model=settlement.reservation.candidate.model,
                attempt=settlement.reservation.attempt,
                cost_usd=settlement.cost,
                message="refused: it is settled at its bound when it expires"
                if refused
                else "kept: it is settled with this environment's next call, or at its bound when it expires",
            )
            if not refused:
                self._unsent.keep(ended)
            return Booked(settlement.booked, None if settlement.mode == "release" else settlement.mode, None)

    def budget(self) -> tuple[Budget, dict[str, Decimal], dict[str, Decimal], "DailySpend", "Limits"]:
        """The open window, its spend in USD by provider and by `provider/model`, what a forecast is made of, and where
        its limit comes from. The budget says who waits for room.

        Settles what has expired.
        """
        # Here, because no call needs them.
        from fusewire.budget.forecast import DailySpend
        from fusewire.budget.limits import Limits

        self._unsent.send()
        argument: BudgetArgument = {"settings": self._settings, "id": str(time_ordered_id())}
        result = self._database.call(BUDGET, argument)
        announce(result)
        return (
            replace(self._seen(result["budget"]), line=Line.read(result["waiting"])),
            {name: Decimal(cost) for name, cost in result["by_provider"].items()},
            {name: Decimal(cost) for name, cost in result["by_model"].items()},
            DailySpend.read(result["days"]),
            Limits.read(result["limits"]),
        )

    def reset(
        self, *, actor: str, source_ip: str | None, request_id: str, reason: str | None, budget: str = "global"
    ) -> tuple[Window, Window]:
        """Close the open window and open the next; audited in the same transaction.

        :param budget: the company's, or a key's or a node's by its id
        :return: the closed and the opened window
        """
        self._unsent.send()
        result = self._reset(
            {
                "settings": self._settings,
                "id": str(time_ordered_id()),
                "opened_by": "admin",
                "budget": budget,
                "actor": actor,
                "source_ip": source_ip,
                "request_id": request_id,
                "reason": reason,
            }
        )
        closed, opened = result["closed"], result["opened"]
        if closed is None:
            raise RuntimeError("an administrator's reset always closes a window")
        announce_reset(
            "circuit_breaker.manual_reset",
            {"closed": closed, "opened": opened},
            actor=actor,
            source_ip=source_ip,
            reason=reason,
        )
        return Window.read(closed), Window.read(opened)

    def scheduled_reset(self, *, due: datetime, request_id: str) -> Window | None:
        """The schedule's reset, idempotent: a window opened since it was `due`, or by a run within the minute, stays.

        :return: the window that was closed, None when there was nothing to do
        """
        result = self._reset(
            {
                "settings": self._settings,
                "id": str(time_ordered_id()),
                "opened_by": "schedule",
                "at": due.isoformat(),
                "actor": "schedule",
                "request_id": request_id,
            }
        )
        closed = result["closed"]
        if closed is None:
            rollover = result.get("rolled_over")
            return Window.read(rollover["closed"]) if rollover else None
        announce_reset(
            "circuit_breaker.monthly_reset", {"closed": closed, "opened": result["opened"]}, actor="schedule"
        )
        return Window.read(closed)

    # --- below: the round trips ---

    def _reset(self, argument: ResetArgument) -> ResetResult:
        result = self._database.call(RESET, argument)
        announce(result)
        opened = Window.read(result["opened"])
        if opened.budget == "global":
            limit = Decimal(result["limit"])
            metrics.budget(lambda: ratio(opened.spent, limit), opened.reserved)
        return result

    def _seen(self, row: BudgetRow) -> Budget:
        budget = Budget.read(row)
        if budget.window.closed_at is None:  # a call may settle in a window that was closed meanwhile
            metrics.budget(lambda: budget.usage_ratio, budget.window.reserved)
        return budget

    def _settle(self, ended: Ended, *, resent: bool = False, seconds: float | None = None) -> Booked:
        argument: SettleArgument = {"settings": self._settings, "settlement": ended["settlement"]}
        if "health_update" in ended:
            argument["health_update"] = ended["health_update"]
        if resent:
            argument["resent"] = True
        result = self._database.call(SETTLE, argument, seconds=seconds)
        _log_cooldown(ended.get("health_update"), result["cooldown_until"])
        announce(result)
        if result["status"] is None:  # the database was swapped or restored meanwhile: there is nothing to end
            return Booked(Decimal(0), None, None)
        budget = self._seen(result["budget"])
        return Booked(Decimal(result["cost"] or 0), result["cost_basis"], budget, KeyBudget.read(result["key"]))


def _entry(id: UUID, call: Call, attempt: int) -> EntryArgument:
    entry: EntryArgument = {
        "id": str(id),
        "request_id": call.request_id,
        "attempt": attempt,
        "operation": call.operation,
        "tier": call.tier,
        "key_id": call.key_id,
    }
    if (digest := call.user_digest) is not None:
        entry["user"] = digest
    return entry


def _arguments(candidates: Sequence[Candidate]) -> list[CandidateArgument]:
    return [_argument(candidate) for candidate in candidates]


def _argument(candidate: Candidate) -> CandidateArgument:
    argument: CandidateArgument = {
        "provider": candidate.provider,
        "model": candidate.model,
        "bound": candidate.bound,
        "tokens": candidate.tokens,
    }
    if candidate.allowance is not None:
        argument["allowance"] = candidate.allowance
    if candidate.fit is not None:
        argument["fit"] = candidate.fit.argument()
    return argument


def _without_what_is_done(argument: ReserveArgument) -> ReserveArgument:
    """A reservation that is asked for again: what the first ask did beside it was done once."""
    return cast(
        ReserveArgument,
        {
            name: value
            for name, value in argument.items()
            if name not in ("settlement", "health_update", "settings_snapshot")
        },
    )


def _cooling(rows: Sequence[CoolingRow] | None, candidates: Sequence[Candidate]) -> tuple[Cooling, ...]:
    return tuple(
        Cooling(candidates[row["candidate"]], datetime.fromisoformat(row["until"]), row["kind"]) for row in rows or ()
    )


def _ended(settlement: Settlement) -> Ended:
    ended: Ended = {"settlement": settlement.argument()}
    if settlement.health_update is not None:
        ended["health_update"] = settlement.health_update.argument()
    return ended


def _log_cooldown(update: HealthUpdateArgument | None, until: str | None) -> None:
    if update is not None and until is not None:
        logs.event(
            "provider.cooldown",
            logging.WARNING,
            provider=update["provider"],
            kind=update["kind"],
            cooldown_until=until,
        )
