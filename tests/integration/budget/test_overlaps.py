"""Every statement of the ledger over every other, held at every place where one can meet the other.

Random sequences (`test_reference.py`, `test_histories.py`) sample; this enumerates. A statement is held after its last
lock, its commit still to come (or never), or at any one of its locks; another comes meanwhile. Whatever happened has to
be what some order of the two gives, one at a time from the same state: the same answers and the same tables. One thing
is left out of it, because it is meant: a reserve that a key's budget has no room for expires what is in the older
windows that nobody has locked, and leaves the others to whoever has.
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from itertools import combinations, permutations, product
from typing import Final, TypeVar

import pytest

from tests.integration.budget.outcome import Answer, Outcome, refusals_of
from tests.integration.budget.stage import RequestModel, Row, Stage
from tests.integration.budget.statements import STARTS as STARTS_WITHOUT_TREE
from tests.integration.budget.statements import STATEMENTS, Start, Statement
from tests.integration.budget.statements_tree import TREE_STARTS
from tests.support.patience import PATIENCE_SECONDS

LONG: Final = bool(os.environ.get("FUSEWIRE_PROVE"))

STARTS: Final = STARTS_WITHOUT_TREE + TREE_STARTS
SHORT_STARTS: Final = ("below the threshold", "slots, expired", "a tree where a call waits", "a tree in slots of each")
LOCKED: Final = (
    "room",
    "expired below the threshold",
    "after a reset",
    "a key below its threshold, expired, after a reset",
    "slots, same",
    "slots, apart",
    "slots, expired",
    "slots, with a key",
    "slots, seen by one of two",
    "a tree where a call waits",
    "a tree in slots",
    "a tree in slots of each",
)
SHORT_LOCKED: Final = ("after a reset",)
QUEUED: Final = ("expired below the threshold", "a key below its threshold, expired, after a reset", "slots, apart")
IN_LINE: Final = (
    "settle",
    "reserve for the key",
    "read the budget",
    "reset",
    "fail over",
    "fail over for the key",
    "settle the key's",
    "reset the key",
)
"""Of three at once: what locks differently."""

Named = TypeVar("Named", Start, Statement)


def _named(things: Iterable[Named], *names: str) -> list[Named]:
    found = {thing.name: thing for thing in things}
    return [found[name] for name in names]


SHORT: Final = (*IN_LINE[:6], "lower the limit", "a group")
SHORT_IN_A_TREE: Final = (
    "reserve for the key",
    "settle the key's",
    "a group",
    "ask again",
    "ask for the last time",
    "reset the node",
    "lower the node's limit",
    "move the node",
)


def met_in(start: Start) -> Sequence[Statement]:
    if LONG:
        return start.statements
    return _named(start.statements, *(SHORT_IN_A_TREE if start.nodes else SHORT))


def is_of_the_ledger(statement: Statement) -> bool:
    return statement.function.startswith("ledger")


class Overlaps:
    """Statements that meet on one stage, and the orders that could explain what they were told."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.met: Counter[str] = Counter()
        self._known: dict[tuple[tuple[int, str, bool], ...], Outcome] = {}

    def held_back(self, late: Statement, early: Statement, *, commits: bool) -> None:
        """`early` has all that it wanted but its commit when `late` comes."""
        stage = self.stage
        stage.restore()
        with stage.held(2) as transaction:
            row = {2: stage.ask(2, early)}
            waiting = stage.asking(1, late)
            self.met["waited"] += not waiting.done()
            transaction.commit() if commits else transaction.rollback()
            row[1] = waiting.result(timeout=PATIENCE_SECONDS)
        if not commits:
            del row[2]
        self._explain(row, [(2, early), (1, late)] if commits else [(1, late)])

    def queued(self, early: Statement, middle: Statement, late: Statement, *, commits: bool) -> None:
        """The second waits for the first, the third for whom it may, and then the first commits or is gone."""
        stage = self.stage
        stage.restore()
        with stage.held(2) as transaction:
            row = {2: stage.ask(2, early)}
            waiting = {number: stage.asking(number, asked) for number, asked in ((1, middle), (3, late))}
            self.met["waited"] += not any(each.done() for each in waiting.values())
            transaction.commit() if commits else transaction.rollback()
            row |= {number: each.result(timeout=PATIENCE_SECONDS) for number, each in waiting.items()}
        if not commits:
            del row[2]
        self._explain(row, [*([(2, early)] if commits else []), (1, middle), (3, late)])

    def locks(self, statement: Statement) -> list[Row]:
        """The rows that this statement waits for, while another session has them."""
        found = []
        for row in self.stage.rows():
            self.stage.restore()
            with self.stage.locked(row):
                waiting = self.stage.asking(1, statement)
                if not waiting.done():
                    found.append(row)
            self._explain({1: waiting.result(timeout=PATIENCE_SECONDS)}, [(1, statement)])
        return found

    def held_at(self, row: Row, early: Statement, late: Statement) -> None:
        """`early` has all that it locks before this row, and nothing yet of what it locks after it."""
        stage = self.stage
        stage.restore()
        with stage.locked(row):
            waiting = {1: stage.asking(1, early), 2: stage.asking(2, late)}
            assert not waiting[1].done()
            self.met["waited"] += not waiting[2].done()
        self._explain(
            {n: each.result(timeout=PATIENCE_SECONDS) for n, each in waiting.items()}, [(1, early), (2, late)]
        )

    def _explain(self, row: Mapping[int, Answer], asked: Sequence[RequestModel]) -> None:
        found = self.stage.outcome(row)
        self.stage.check(found, asked)
        self.met["cases"] += 1
        parted: list[str] = []
        for order, passing in product(permutations(asked), _subsets([n for n, s in asked if s.passes_over])):
            expected = self._in_order(order, passing)
            if expected == found:
                assert all("reserved" in refusals_of(found.result[number]) for number in passing)
                self.met["passed over"] += bool(passing)
                self.met["as they came"] += order == tuple(asked)
                return
            if not passing:
                parted.append(f"in the order {[statement.name for _, statement in order]}:")
                parted += differences(found.result, expected.result, "told")
                parted += differences(found.books, expected.books)
        raise AssertionError("\n".join(["no order explains it", *parted]))

    def _in_order(self, asked: Sequence[RequestModel], passing: frozenset[int]) -> Outcome:
        """One at a time.

        :param passing: the sessions that meet older windows which somebody else has locked, and pass them over
        """
        name = tuple((number, statement.name, number in passing) for number, statement in asked)
        if name not in self._known:
            self.stage.restore()
            result = {}
            for number, statement in asked:
                with self.stage.older_windows_locked() if number in passing else nullcontext():
                    result[number] = self.stage.ask(number, statement)
            self._known[name] = self.stage.outcome(result)
            self.stage.check(self._known[name], asked)
        return self._known[name]


def _subsets(numbers: Sequence[int]) -> list[frozenset[int]]:
    """The smallest first."""
    return [frozenset(chosen) for size in range(len(numbers) + 1) for chosen in combinations(numbers, size)]


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
def named(*parts: str) -> Iterator[None]:
    """Says with a failure which case it is."""
    try:
        yield
    except AssertionError as error:
        error.add_note(" | ".join(parts))
        raise


@contextmanager
def staged(database_url: str, start: Start) -> Iterator[Overlaps]:
    stage = Stage(database_url, start)
    overlaps = Overlaps(stage)
    try:
        yield overlaps
    finally:
        stage.close()


@pytest.mark.parametrize("start", STARTS if LONG else _named(STARTS, *SHORT_STARTS), ids=lambda start: start.name)
def test_two_of_which_one_is_held_before_its_commit(database_url: str, start: Start) -> None:
    statements = [statement for statement in met_in(start) if not (start.still and statement.after)]
    with staged(database_url, start) as overlaps:
        for late, early, commits in product(statements, statements, (True, False)):
            with named(early.name, "commits" if commits else "is gone", late.name):
                overlaps.held_back(late, early, commits=commits)
    assert overlaps.met["cases"] == 2 * len(statements) ** 2
    assert overlaps.met["waited"] > overlaps.met["cases"] / 4


@pytest.mark.parametrize("start", _named(STARTS, *(LOCKED if LONG else SHORT_LOCKED)), ids=lambda start: start.name)
def test_two_of_which_one_is_held_at_a_lock(database_url: str, start: Start) -> None:
    statements = met_in(start)
    with staged(database_url, start) as overlaps:
        places = [(early, row) for early in statements if is_of_the_ledger(early) for row in overlaps.locks(early)]
        alone = overlaps.met["cases"]
        cases = [
            (early, row, late)
            for (early, row), late in product(places, statements)
            # A key may change where the ledger waits for windows; that it stands still anywhere else is only a test's.
            if is_of_the_ledger(late) or row[0] in ("budget_window", "budget_slot")
        ]
        for early, row, late in cases:
            with named(early.name, *row, late.name):
                overlaps.held_at(row, early, late)
    assert overlaps.met["cases"] == alone + len(cases)
    assert len(places) > 2 * len(statements)
    assert overlaps.met["waited"] > len(cases) / 2


@pytest.mark.parametrize("start", _named(STARTS, *(QUEUED if LONG else QUEUED[:1])), ids=lambda start: start.name)
def test_three_of_which_two_come_before_the_first_commits(database_url: str, start: Start) -> None:
    statements = _named(STATEMENTS, *(IN_LINE if LONG else IN_LINE[:3]))
    with staged(database_url, start) as overlaps:
        for early, middle, late, commits in product(statements, statements, statements, (True, False)):
            with named(early.name, "commits" if commits else "is gone", middle.name, late.name):
                overlaps.queued(early, middle, late, commits=commits)
    assert overlaps.met["cases"] == 2 * len(statements) ** 3
    assert overlaps.met["waited"] > overlaps.met["cases"] / 2
