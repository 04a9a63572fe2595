"""Every statement of the ledger over every other, held at every place where one can meet the other.

Random sequences (`test_reference.py`, `test_histories.py`) sample; this enumerates. A statement is held after its last
lock, its commit still to come (or never), or at any one of its locks; another comes meanwhile. Whatever happened has to be
what one of the two orders gives, one statement at a time from the same state: the same answers and the same tables.
"""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import permutations, product
from typing import Final

import pytest

from tests.integration.budget.stage import Asked, Outcome, Stage
from tests.integration.budget.statements import STARTS, STATEMENTS, Start, Statement

LONG: Final = bool(os.environ.get("FUSEWIRE_PROVE"))


class Overlaps:
    """Statements that meet on one stage, and the orders that could explain what they were told."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.met: Counter[str] = Counter()
        self._in_order: dict[tuple[tuple[int, str], ...], Outcome] = {}

    def held_back(self, late: Statement, early: Statement, *, commits: bool) -> None:
        """`early` has all that it wanted but its commit when `late` comes."""
        stage = self.stage
        stage.restore()
        with stage.held(2) as transaction:
            told = {2: stage.ask(2, early)}
            waiting = stage.asking(1, late)
            self.met["waited"] += not waiting.done()
            transaction.commit() if commits else transaction.rollback()
            told[1] = waiting.result(timeout=30)
        if not commits:
            del told[2]
        self._explain(told, [(2, early), (1, late)] if commits else [(1, late)])

    def _explain(self, told: dict[int, object], asked: Sequence[Asked]) -> None:
        found = self.stage.outcome(told)
        self.stage.check(found, asked)
        self.met["cases"] += 1
        tried = []
        for place, order in enumerate(permutations(asked)):
            expected = self.in_order(order)
            if expected == found:
                self.met[f"order {place}"] += 1
                return
            tried.append(expected)
        raise AssertionError(f"{[s.name for _, s in asked]}: no order explains {differences(found, tried)}")

    def in_order(self, asked: Sequence[Asked]) -> Outcome:
        """One at a time."""
        name = tuple((number, statement.name) for number, statement in asked)
        if name not in self._in_order:
            self.stage.restore()
            told = {number: self.stage.ask(number, statement) for number, statement in asked}
            self._in_order[name] = self.stage.outcome(told)
            self.stage.check(self._in_order[name], asked)
        return self._in_order[name]


def differences(found: Outcome, tried: Sequence[Outcome]) -> str:
    lines = []
    for expected in tried:
        for part in ("told", "books"):
            ours, theirs = getattr(found, part), getattr(expected, part)
            lines += [f"{part} {n}: {ours[n]}\n  and not {theirs[n]}" for n in ours if ours[n] != theirs[n]]
        lines.append("--")
    return "\n".join(lines)


@contextmanager
def staged(database_url: str, start: Start) -> Iterator[Stage]:
    stage = Stage(database_url, start)
    try:
        yield stage
    finally:
        stage.close()


@pytest.mark.parametrize("start", STARTS, ids=lambda start: start.name)
def test_every_two_statements_of_which_one_is_held_before_its_commit(database_url: str, start: Start) -> None:
    with staged(database_url, start) as stage:
        overlaps = Overlaps(stage)
        bad = []
        for late, early, commits in product(STATEMENTS, STATEMENTS, (True, False)):
            try:
                overlaps.held_back(late, early, commits=commits)
            except Exception as e:
                bad.append((late.name, early.name, commits, str(e)))
        print(overlaps.met, len(bad))
        for b in bad[:40]: print(*b, sep=" | ")
        assert not bad
