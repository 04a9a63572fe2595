"""Every statement of the ledger over every other, held at every place where one can meet the other.

Random sequences (`test_reference.py`, `test_histories.py`) sample; this enumerates. A statement is held after its last
lock, its commit still to come (or never), or at any one of its locks; another comes meanwhile. Whatever happened has to be
what one of the two orders gives, one statement at a time from the same state: the same answers and the same tables.
"""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import permutations, product
from typing import Final

import pytest

from tests.integration.budget.stage import Asked, Outcome, Row, Stage
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

    def queued(self, early: Statement, middle: Statement, late: Statement, *, commits: bool) -> None:
        """The second waits for the first, the third for whom it may, and then the first commits or is gone."""
        stage = self.stage
        stage.restore()
        with stage.held(2) as transaction:
            told = {2: stage.ask(2, early)}
            waiting = {number: stage.asking(number, asked) for number, asked in ((1, middle), (3, late))}
            self.met["waited"] += not any(each.done() for each in waiting.values())
            transaction.commit() if commits else transaction.rollback()
            told |= {number: each.result(timeout=30) for number, each in waiting.items()}
        if not commits:
            del told[2]
        self._explain(told, [*([(2, early)] if commits else []), (1, middle), (3, late)])

    def locks(self, statement: Statement) -> list[Row]:
        """The rows that this statement waits for, while another session has them."""
        found = []
        for row in self.stage.rows():
            self.stage.restore()
            with self.stage.locked(row):
                waiting = self.stage.asking(1, statement)
                if not waiting.done():
                    found.append(row)
            self._explain({1: waiting.result(timeout=30)}, [(1, statement)])
        return found

    def held_at(self, row: Row, early: Statement, late: Statement) -> None:
        """`early` has all that it locks before this row, and nothing yet of what it locks after it."""
        stage = self.stage
        stage.restore()
        with stage.locked(row):
            waiting = {1: stage.asking(1, early), 2: stage.asking(2, late)}
            assert not waiting[1].done()
            self.met["waited"] += not waiting[2].done()
        self._explain({n: each.result(timeout=30) for n, each in waiting.items()}, [(1, early), (2, late)])

    def _explain(self, told: dict[int, object], asked: Sequence[Asked]) -> None:
        found = self.stage.outcome(told)
        self.stage.check(found, asked)
        self.met["cases"] += 1
        tried: list[str] = []
        for place, order in enumerate(permutations(asked)):
            expected = self.in_order(order)
            if expected == found:
                self.met[f"order {place}"] += 1
                return
            tried.append(f"in the order {[statement.name for _, statement in order]}:")
            tried += differences(found.told, expected.told, "told")
            tried += differences(found.books, expected.books)
        raise AssertionError("\n".join(["no order explains it", *tried]))

    def in_order(self, asked: Sequence[Asked]) -> Outcome:
        """One at a time."""
        name = tuple((number, statement.name) for number, statement in asked)
        if name not in self._in_order:
            self.stage.restore()
            told = {number: self.stage.ask(number, statement) for number, statement in asked}
            self._in_order[name] = self.stage.outcome(told)
            self.stage.check(self._in_order[name], asked)
        return self._in_order[name]


def differences(found: object, expected: object, where: str = "") -> Iterator[str]:
    """Where two outcomes part, so that a failure can be read."""
    if isinstance(found, Mapping) and isinstance(expected, Mapping):
        for name in sorted({*found, *expected}, key=str):
            yield from differences(found.get(name), expected.get(name), f"{where} {name}")
    elif isinstance(found, list) and isinstance(expected, list) and len(found) == len(expected):
        for place, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
            yield from differences(ours, theirs, f"{where} {place}")
    elif found != expected:
        yield f"{where}: {found} and not {expected}"


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


@pytest.mark.parametrize("start", STARTS, ids=lambda start: start.name)
def test_every_two_statements_of_which_one_is_held_at_a_lock(database_url: str, start: Start) -> None:
    with staged(database_url, start) as stage:
        overlaps = Overlaps(stage)
        bad = []
        gates = [(early, row) for early in STATEMENTS for row in overlaps.locks(early)]
        print(len(gates), overlaps.met, Counter(row[0] for _, row in gates))
        for (early, row), late in product(gates, STATEMENTS):
            try:
                overlaps.held_at(row, early, late)
            except Exception as e:
                bad.append((row, early.name, late.name, str(e)))
        print(overlaps.met, len(bad))
        for b in bad[:40]: print(*b, sep=" | ")
        assert not bad
