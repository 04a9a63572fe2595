"""What is counted of a replay: what was billed past the budget, refused or cut needlessly, and how long calls waited.

The oracle knows each call's actual cost before it is made. It decides on the same calls in the order in which they were
really decided: a call is served when what all calls that were served before it cost, those under way included, is below
95 % of the budget, and with this call's own cost not above the budget. A refusal of a call that it would have served is
needless. So is the end of an answer at a cap below the one that the caller asked for.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from benchmarks.admission.replay import Outcome
from benchmarks.admission.trace import Call
from benchmarks.admission.vendor import Bill
from benchmarks.report import percentile

OPEN_SHARE: Final = Decimal("0.95")
"""AI_CIRCUIT_BREAKER_THRESHOLD: from here on everything is refused."""
BLOCK: Final = 100
"""Calls that are counted together after a change of the traffic."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A call that was refused, at a time of `time.monotonic`."""

    number: int
    at: float
    code: str


@dataclass(frozen=True, slots=True)
class Count:
    """One cell of the matrix. Money in USD, waits in seconds of the trace."""

    offered: int
    served: int
    refused: Mapping[str, int]
    """By status and code."""
    needless: Mapping[str, int]
    """Refusals that the oracle wouldn't have made, by status and code."""
    fitted: int
    """Calls that were sent upstream with a cap below the caller's."""
    cut: int
    billed: Decimal
    past_the_budget: Decimal
    spent_at_first_refusal: Decimal | None
    """As a share of the budget; None where nothing was refused."""
    wait_p50: float
    wait_p95: float
    wait_max: float
    """For room in the budget, of the calls served."""
    delay_p50: float
    delay_p95: float
    """Until the vendor had the call: the wait, a turn at a worker, and all that the gateway takes."""
    at_once: int
    """The most calls that were with the vendor at the same time."""
    needless_by_block: Mapping[int, int]
    cut_by_block: Mapping[int, int]
    """By hundreds of calls since the change of the traffic; the calls before it are in negative ones."""

    @property
    def lost_percent(self) -> float:
        """Needless refusals and cuts together, in percent of the calls served."""
        return 100 * (sum(self.needless.values()) + self.cut) / max(self.served, 1)


def count(
    calls: Sequence[Call], outcomes: Sequence[Outcome], bills: Sequence[Bill],
    *, cap: int | None, largest: int, budget: Decimal, factor: float, change_at: int = 0,
    waits: Sequence[float] | None = None,
) -> Count:  # fmt: skip
    """
    :param cap: what the callers asked for
    :param largest: what the model may put out where they name no cap
    :param factor: how many times faster than the trace the replay went
    :param change_at: the call from which on the traffic is another one
    :param waits: of those calls that waited for room and were served, in seconds of the trace; None: all delay is wait
    """
    by_number = {call.number: call for call in calls}
    sent = {outcome.number: outcome.sent for outcome in outcomes}
    refusals = [Refusal(o.number, o.ended, f"{o.status} {o.code}".strip()) for o in outcomes if o.status != 200]
    refusals.sort(key=lambda refusal: refusal.at)
    needless = needless_refusals(refusals, bills, by_number, cap, budget)
    cut = [bill.number for bill in bills if bill.written < by_number[bill.number].written(cap)]
    billed = sum((_usd(bill, by_number) for bill in bills), Decimal(0))
    delays = [(bill.arrived - sent[bill.number]) * factor for bill in bills] or [0.0]
    waited = delays if waits is None else [*waits, *[0.0] * (len(bills) - len(waits))] or [0.0]
    return Count(
        offered=len(calls),
        served=len(bills),
        refused=dict(Counter(refusal.code for refusal in refusals)),
        needless=dict(Counter(refusal.code for refusal in needless)),
        fitted=sum(bill.cap is not None and bill.cap < (cap or largest) for bill in bills),
        cut=len(cut),
        billed=billed,
        past_the_budget=max(billed - budget, Decimal(0)),
        spent_at_first_refusal=_answered(bills, by_number, refusals[0].at) / budget if refusals else None,
        wait_p50=round(percentile(waited, 0.5), 2),
        wait_p95=round(percentile(waited, 0.95), 2),
        wait_max=round(max(waited), 2),
        delay_p50=round(percentile(delays, 0.5), 2),
        delay_p95=round(percentile(delays, 0.95), 2),
        at_once=_most_at_once(bills),
        needless_by_block=_by_block((refusal.number for refusal in needless), change_at),
        cut_by_block=_by_block(cut, change_at),
    )


def needless_refusals(
    refusals: Iterable[Refusal], bills: Iterable[Bill], calls: Mapping[int, Call], cap: int | None, budget: Decimal
) -> list[Refusal]:
    """The refusals of calls that the oracle would have served, in their order."""
    ordered = sorted(bills, key=lambda bill: bill.arrived, reverse=True)
    admitted, needless = Decimal(0), []
    for refusal in sorted(refusals, key=lambda refusal: refusal.at):
        while ordered and ordered[-1].arrived <= refusal.at:
            admitted += _usd(ordered.pop(), calls)
        if admitted < OPEN_SHARE * budget and admitted + calls[refusal.number].usd(cap) <= budget:
            needless.append(refusal)
    return needless


def _usd(bill: Bill, calls: Mapping[int, Call]) -> Decimal:
    return calls[bill.number].usd(bill.written)


def _answered(bills: Iterable[Bill], calls: Mapping[int, Call], before: float) -> Decimal:
    """What the calls cost that the vendor had answered by then."""
    ended = (bill for bill in bills if bill.answered is not None and bill.answered <= before)
    return sum((_usd(bill, calls) for bill in ended), Decimal(0))


def _most_at_once(bills: Iterable[Bill]) -> int:
    changes = [(bill.arrived, 1) for bill in bills]
    changes += [(bill.answered, -1) for bill in bills if bill.answered is not None]
    most = under_way = 0
    for _, change in sorted(changes):
        under_way += change
        most = max(most, under_way)
    return most


def _by_block(numbers: Iterable[int], change_at: int) -> dict[int, int]:
    return dict(sorted(Counter((number - change_at) // BLOCK for number in numbers).items()))
