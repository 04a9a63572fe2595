"""Which output cap a call is reserved with, by the rules: the second writing of `functions/fitting.sql`."""

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from decimal import Decimal
from typing import Final

from fusewire.budget.reservation import Fit

_STEPS: Final = sorted({1, *(2**n for n in range(1, 25)), *(3 * 2**n for n in range(23))})[:48]
_SHARES: Final = (("0.8", "0.9"), ("0.6", "0.95"), ("0.4", "0.98"), ("0.2", "0.99"), ("0.1", "0.995"))
_FEW: Final = 30
_COMMON: Final = ""
"""Whose answers are known by the model alone."""


class Answers:
    """How long the answers of one model were, by key."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, int], Counter[int]] = defaultdict(Counter)
        """By the key and the slot that booked it, how many were of at most so many tokens."""

    def add(self, key_id: str | None, size: int, slot: int) -> None:
        """A key's first answers count for all keys, too."""
        self.count(key_id or _COMMON, size, slot)
        if key_id is not None and self._rows[key_id, slot].total() <= _FEW:
            self.count(_COMMON, size, slot)

    def count(self, owner: str, size: int, slot: int = 0) -> None:
        self._rows[owner, slot][_STEPS[min(bisect_left(_STEPS, size), len(_STEPS) - 1)]] += 1

    def usual(self, key_id: str | None, waited: Decimal | None) -> int | None:
        """Tokens that are enough for most: for how many depends on how much of its time the call has waited."""
        share = next((Decimal(s) for least, s in _SHARES if waited is not None and waited >= Decimal(least)), None)
        for owner in (key_id or _COMMON, _COMMON):
            counted: Counter[int] = Counter()
            for (name, _), sizes in self._rows.items():
                if name == owner:
                    counted += sizes
            if counted.total() >= _FEW:
                enough, up_to = counted.total() * (share or Decimal("0.999")), 0
                for step in sorted(counted):
                    up_to += counted[step]
                    if up_to >= enough:
                        return step
        return None


def is_small(bound: Decimal, room: Decimal | None) -> bool:
    return bound == 0 or room is None or bound * 10 < room


def fitted(
    fit: Fit,
    answers: Answers,
    key_id: str | None,
    *,
    room: Decimal | None,
    left: Decimal | None,
    tokens_left: int | None,
    waited: Decimal | None,
) -> int | None:
    """The smaller cap that is reserved, None for the whole.

    :param room: the least headroom of its budgets, in USD; `left`, with nothing in flight; None for no limit
    :param tokens_left: of the key's minute
    :param waited: the part of its time that it has waited, None where it may not wait
    """
    small = is_small(fit.fixed + fit.cap * fit.per_token, room)
    if small and (tokens_left is None or fit.fixed_tokens + fit.n * fit.cap <= tokens_left):
        return None
    usual = answers.usual(key_id, waited)
    smallest = min(fit.cap, max(fit.min_cap, min(fit.first_cap // 2, 2048) if usual is None else usual))
    if small:
        cap = fit.cap
    elif usual is None:
        cap = min(fit.cap, max(fit.min_cap, fit.first_cap))
    elif waited is not None and waited >= Decimal("0.05"):
        cap = smallest
    else:
        cap = min(fit.cap, max(fit.min_cap, 2 * usual, 2048))
    if fit.per_token > 0 and left is not None:
        cap = _within(cap, smallest, (left - fit.fixed) / fit.per_token) or smallest
    if tokens_left is not None:
        cap = _within(cap, smallest, Decimal(tokens_left - fit.fixed_tokens) / fit.n) or smallest
    if (waited is None or waited >= 1) and usual is not None and fit.per_token > 0 and room is not None:
        cap = _within(cap, smallest, (room - fit.fixed) / fit.per_token) or cap
    return None if cap >= fit.cap else cap


def _within(cap: int, smallest: int, most: Decimal) -> int | None:
    """The largest that is allowed: the cap itself, or a step of the ladder; None where that would be too small."""
    if cap <= most:
        return cap
    if most < smallest:
        return None
    step: int = _STEPS[bisect_right(_STEPS, int(most)) - 1]
    return max(step, smallest)
