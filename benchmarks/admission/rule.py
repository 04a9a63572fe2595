"""The rule of admission on paper: a replay in milliseconds, without a gateway, of which the counts are the same.

What the gateway loses beyond these counts it loses by how it is built, not by the rule. The rule, as
`store/functions/fitting.sql` and `admission.sql` have it:

* A call whose whole cap would take less than a tenth of the headroom is reserved whole.
* Any other goes out with a smaller cap: what calls of this model have put out, by a percentile that falls the longer
  the call has waited (`STAGES`), rounded up to a step of a coarse ladder.
* Whatever fits neither way waits, first come first served.
* Where even the smallest useful cap is above what is left of the budget, and where the budget is spent to 95 %, it is
  refused with 402; at the end of its wait with 429.

Amounts are millionths of a USD, times seconds of the trace.
"""

import heapq
from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count as counter
from typing import Final

from benchmarks.admission.count import OPEN_SHARE
from benchmarks.admission.replay import Outcome
from benchmarks.admission.trace import BYTES_PER_TOKEN, INPUT_USD_PER_MTOK, OUTPUT_USD_PER_MTOK, Call
from benchmarks.admission.vendor import Bill

STAGES: Final = (
    (0.00, 0.999, 2),
    (0.05, 0.999, 1),
    (0.10, 0.995, 1),
    (0.20, 0.99, 1),
    (0.40, 0.98, 1),
    (0.60, 0.95, 1),
    (0.80, 0.90, 1),
)
"""From which share of the wait on, which share of past outputs is to fit, and how many times that is taken."""
UNKNOWN: Final = 2048
"""The cap before there are `FEW` outputs, and the least of a call that hasn't waited."""
FEW: Final = 30
HALVED_AT: Final = 2000
LADDER: Final = (1, *sorted(step << power for power in range(20) for step in (2, 3)))
_WHOLE_SHARE: Final = 10
_ALLOWANCE: Final = 104
"""Tokens that the input bound has beyond the prompt's bytes (`fusewire.ai.bounds`): once, and for one message."""


def step_above(tokens: int) -> int:
    """The smallest step of the ladder that isn't below."""
    return LADDER[bisect_left(LADDER, tokens)]


@dataclass(slots=True)
class Outputs:
    """What this model's calls have put out, by steps of the ladder; old calls weigh less and less."""

    counts: dict[int, float] = field(default_factory=dict)
    seen: int = 0

    def add(self, tokens: int, fitted_cap: int | None) -> None:
        """:param fitted_cap: the cap it went out with, where that was a fitted one"""
        step = step_above(max(tokens, 1))
        if fitted_cap is not None and tokens >= fitted_cap:
            step = step_above(fitted_cap + 1)  # nobody knows how much longer it would have been
        self.counts[step] = self.counts.get(step, 0) + 1
        self.seen += 1
        if sum(self.counts.values()) >= HALVED_AT:
            self.counts = {each: number / 2 for each, number in self.counts.items()}

    def percentile(self, share: float) -> int:
        """The step that at least this share of the outputs don't exceed."""
        wanted, so_far = share * sum(self.counts.values()), 0.0
        for step in LADDER:
            so_far += self.counts.get(step, 0)
            if so_far >= wanted:
                return step
        return LADDER[-1]

    def cap(self, waited: float) -> int:
        """The cap of a call that has waited for this share of its time."""
        if self.seen < FEW:
            return UNKNOWN
        share, times = next((s, t) for begins, s, t in reversed(STAGES) if waited >= begins)
        fitted = step_above(self.percentile(share) * times)
        return max(fitted, UNKNOWN) if times > 1 else fitted


class Paper:
    """One replay. `outcomes` and `bills` are what `count` takes."""

    def __init__(self, calls: Sequence[Call], cap: int, budget: int, *, wait: float, fits: bool) -> None:
        """
        :param cap: what callers ask for, or the model's largest
        :param wait: seconds; 0: nobody waits
        :param fits: whether caps are fitted
        """
        self.outcomes: list[Outcome] = []
        self.bills: list[Bill] = []
        self._calls, self._cap, self._budget = {call.number: call for call in calls}, cap, budget
        self._wait, self._fits = wait, fits
        self._spent = self._reserved = 0
        self._outputs = Outputs()
        self._queue: deque[Call] = deque()
        self._order = counter()
        self._events: list[tuple[float, int, str, Call, Bill | None]] = []
        for call in calls:
            self._at(call.at, "arrives", call)
        while self._events:
            now, _, what, call, bill = heapq.heappop(self._events)
            self._happens(now, what, call, bill)

    def _at(self, when: float, what: str, call: Call, bill: Bill | None = None) -> None:
        heapq.heappush(self._events, (when, next(self._order), what, call, bill))

    def _happens(self, now: float, what: str, call: Call, bill: Bill | None) -> None:
        if what == "arrives":
            self._queue.append(call)
            for begins, _, _ in STAGES[1:]:
                self._at(now + begins * self._wait, "looks again", call)
            self._at(now + self._wait, "gives up", call)
        elif what == "gives up" and call in self._queue:
            self._serve(now)
            if call in self._queue:
                self._queue.remove(call)
                self._refuse(now, call, 429, "budget_reserved")
        elif bill is not None:
            self._settle(now, call, bill)
        self._serve(now)

    def _serve(self, now: float) -> None:
        while self._queue:
            call = self._queue[0]
            cap = self._decide(call, now)
            if cap == 0 and self._wait and now < call.at + self._wait:
                return
            self._queue.popleft()
            if cap is None:
                self._refuse(now, call, 402, "budget_exceeded")
            elif cap == 0:
                self._refuse(now, call, 429, "budget_reserved")
            else:
                self._admit(now, call, cap)

    def _decide(self, call: Call, now: float) -> int | None:
        """The cap to go out with; 0: there is no room yet; None: there won't be any."""
        if self._spent >= OPEN_SHARE * self._budget:
            return None
        left = self._budget - self._spent
        headroom = left - self._reserved
        whole = self._bound(call, self._cap)
        if not self._fits:
            return None if whole > left else self._cap if whole <= headroom else 0
        if whole * _WHOLE_SHARE <= headroom:
            return self._cap
        waited = (now - call.at) / self._wait if self._wait else 0.0
        steps = [min(self._cap, self._outputs.cap(waited))]
        least = min(steps[0], self._outputs.cap(STAGES[1][0]))
        steps += [step for step in reversed(LADDER) if least <= step < steps[0]]
        cap = next((step for step in steps if self._bound(call, step) <= left), None)
        return cap if cap is None or self._bound(call, cap) <= headroom else 0

    def _bound(self, call: Call, cap: int) -> int:
        tokens = max(BYTES_PER_TOKEN * call.input_tokens, len(f"{call.number}\n")) + _ALLOWANCE
        return tokens * INPUT_USD_PER_MTOK + cap * OUTPUT_USD_PER_MTOK

    def _admit(self, now: float, call: Call, cap: int) -> None:
        self._reserved += self._bound(call, cap)
        bill = Bill(call.number, cap, call.written(cap), now)
        self.bills.append(bill)
        self._at(now + call.seconds(cap), "ends", call, bill)

    def _settle(self, now: float, call: Call, bill: Bill) -> None:
        cap = bill.cap or 0
        bill.answered = now
        self._reserved -= self._bound(call, cap)
        self._spent += int(call.usd(cap) * 1_000_000)
        self._outputs.add(bill.written, cap if cap < self._cap else None)
        self.outcomes.append(Outcome(call.number, call.at, now, 200, "", ""))

    def _refuse(self, now: float, call: Call, status: int, code: str) -> None:
        self.outcomes.append(Outcome(call.number, call.at, now, status, code, ""))
