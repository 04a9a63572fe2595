"""Sessions that really run at once, and their history checked afterwards.

Each session notes what it asked, when, and what it was told. Then an order of all the statements is searched for that
nobody's clock contradicts and in which the rules of `reference.py` would have told everybody the same. That there is
one is what "a statement at a time" means to a caller; where there is none, somebody was told what can't be.
"""

import os
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from threading import Barrier
from typing import Final
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql

from fusewire.budget import breaker
from fusewire.budget.ledger import Ledger
from fusewire.budget.reservation import Reservation, Settlement
from fusewire.budget.wire import SettlementMode
from fusewire.errors import BudgetExceededError, BudgetReservedError, RateLimitedError
from tests.integration.budget import reference
from tests.integration.budget.books import Books, Clock, a_call, at_bound, candidate, released, settled
from tests.integration.budget.conftest import OpenLedger
from tests.integration.budget.keys import Keys
from tests.integration.budget.reference import Key, Reference
from tests.support.patience import PATIENCE_SECONDS

SESSIONS: Final = 5
STATEMENTS: Final = 4
ROUNDS: Final = 300 if os.environ.get("FUSEWIRE_PROVE") else 25
LIMIT: Final = Decimal(1)
USED: Final = 30
TTL: Final = timedelta(hours=1)

Answer = tuple[object, ...]
Replay = Callable[[Reference], Answer]


@dataclass(frozen=True)
class Statement:
    """What one session asked, between two moments, what it was told, and what the rules would tell."""

    began: float
    ended: float
    result: Answer
    replay: Replay


class Session:
    """Calls at random, as one execution environment makes them."""

    def __init__(self, seed: int, ledger: Ledger, key_id: str | None, *, slots: int) -> None:
        self.history: list[Statement] = []
        self._ledger = ledger
        self._key_id = key_id
        self._exact = slots == 1
        self._bounds = (0, 100, 300, 450) if slots == 1 else (0, 10, 20, 20, 300, 450)
        self._random = random.Random(seed)  # noqa: S311 - the same calls in every run
        self._held: Reservation | None = None

    def run(self) -> None:
        for _ in range(STATEMENTS):
            if self._held is None:
                self._random.choice((self._reserve, self._reserve, self._reserve, self._reset))()
            else:
                self._random.choice((self._end, self._end, self._fail_over))()

    def _reserve(self, settlement: Settlement | None = None) -> None:
        bound = Decimal(self._random.choice(self._bounds)).scaleb(-3)
        entry_id = uuid4()
        after = None
        if settlement is not None:
            after = (settlement.reservation.id, settlement.mode, settlement.cost, USED)

        def ask() -> Answer:
            nonlocal entry_id
            try:
                self._held = self._ledger.reserve(
                    a_call(key_id=self._key_id), [candidate(bound, tokens=100)], after=settlement
                )
            except BudgetExceededError as error:
                return "exceeded", error.budget
            except BudgetReservedError:
                return ("reserved",)
            except RateLimitedError as error:
                return (error.limit,)
            entry_id = self._held.id
            budget, key = self._held.budget.window, self._held.key
            own = None if key is None else (key.window.spent, key.window.reserved, key.rate_limit.tokens_left)
            return self._sums(budget), own

        def replay(rules: Reference) -> Answer:
            refused = rules.reserve(entry_id, bound, 100, self._key_id, after)
            if refused is not None:
                return refused if refused[0] == "exceeded" else refused[:1]
            window, own = rules.windows["global"][-1], None
            if self._key_id is not None:
                key = rules.windows[self._key_id][-1]
                most = rules.keys[self._key_id].tokens
                own = (key.spent, key.reserved, None if most is None else most - key.minute.tokens)
            return self._sums(window), own

        self._note(ask, replay)

    def _fail_over(self) -> None:
        settlement, self._held = self._settlement(), None
        self._reserve(settlement)

    def _end(self) -> None:
        settlement, self._held = self._settlement(), None
        entry_id, mode, cost = settlement.reservation.id, settlement.mode, settlement.cost

        def ask() -> Answer:
            booked = self._ledger.settle(settlement)
            assert booked.budget is not None
            return booked.cost, self._sums(booked.budget.window)

        def replay(rules: Reference) -> Answer:
            entry = rules.end(entry_id, mode, cost, USED)
            return entry.cost, self._sums(entry.window)

        self._note(ask, replay)

    def _reset(self) -> None:
        budget = self._key_id if self._key_id and self._random.random() < 0.5 else "global"

        def ask() -> Answer:
            closed, _ = self._ledger.reset(actor="x", source_ip=None, request_id="x", reason=None, budget=budget)
            return closed.spent, closed.reserved

        def replay(rules: Reference) -> Answer:
            closed, _ = rules.admin_reset(budget)
            return closed.spent, closed.reserved

        self._note(ask, replay)

    def _sums(self, window: breaker.Window | reference.Window) -> tuple[Decimal, Decimal] | None:
        return (window.spent, window.reserved) if self._exact else None

    def _settlement(self) -> Settlement:
        assert self._held is not None
        mode: SettlementMode = self._random.choice(("actual", "bound", "release"))
        if mode == "actual":
            share = Decimal(self._random.randint(0, 10)).scaleb(-1)
            return settled(self._held, self._held.candidate.bound * share)
        return at_bound(self._held) if mode == "bound" else released(self._held)

    def _note(self, ask: Callable[[], Answer], replay: Replay) -> None:
        began = time.monotonic()
        row = ask()
        self.history.append(Statement(began, time.monotonic(), row, replay))


Place = tuple[int, ...]
"""How many statements of each history have been put in order so far."""
State = tuple[Place, frozenset[tuple[object, ...]], tuple[object, ...]]


def explained(histories: list[list[Statement]], start: Reference, books: dict[str, list[Answer]]) -> bool:
    """Whether some order of all statements explains what everybody was told and what the books hold in the end.

    Two orders that lead to the same place and state are one: without that, the search takes time by the number of
    orders, which is large where sessions overlap much.
    """
    fruitless: set[State] = set()

    def replayed(order: list[Statement]) -> Reference | None:
        """The rules after these statements; None when the last one would have been told something else."""
        rules = deepcopy(start)
        result: Answer = ()
        for statement in order:
            result = statement.replay(rules)
        return rules if result == order[-1].result else None

    def search(order: list[Statement], place: Place, rules: Reference) -> bool:
        left = [(n, history[place[n]]) for n, history in enumerate(histories) if place[n] < len(history)]
        if not left:
            held = {budget: [(w.spent, w.reserved) for w in windows] for budget, windows in rules.windows.items()}
            return {budget: windows for budget, windows in held.items() if windows} == books
        if (state := _state(place, rules)) in fruitless:
            return False
        # Whoever began after another had ended comes after it.
        latest = min(statement.ended for _, statement in left)
        for number, statement in left:
            if statement.began > latest:
                continue
            longer = [*order, statement]
            after = replayed(longer)
            further = tuple(done + (n == number) for n, done in enumerate(place))
            if after is not None and search(longer, further, after):
                return True
        fruitless.add(state)
        return False

    return search([], (0,) * len(histories), start)


def _state(place: Place, rules: Reference) -> State:
    """What tells the future of one order from that of another: where each entry lies, and how the windows stand."""
    windows = [window for budget in sorted(rules.windows) for window in rules.windows[budget]]
    number = {id(window): n for n, window in enumerate(windows)}
    entries = frozenset(
        (entry_id, entry.status, entry.cost, *(number[id(window)] for window in entry.windows))
        for entry_id, entry in rules.entries.items()
    )
    return place, entries, tuple((window.budget, window.minute, window.recorded) for window in windows)


@pytest.mark.usefixtures("patience")
@pytest.mark.parametrize("slots", [1, 4])
def test_every_history_is_one_of_a_statement_at_a_time(
    clock: Clock, open_ledger: OpenLedger, books: Books, keys: Keys, database_url: str, slots: int
) -> None:
    variables = {"AI_RESERVATION_TTL_SECONDS": str(TTL.total_seconds()), "AI_LEDGER_SLOTS": str(slots)}
    ledgers = [open_ledger(**variables) for _ in range(SESSIONS)]
    limits = {
        keys.make("key-a", budget="0.5", tokens=500): Key(Decimal("0.5"), tokens=500),
        keys.make("key-b", budget="0.7"): Key(Decimal("0.7")),
    }
    overlapped = refusals = in_slots = 0
    for number in range(ROUNDS):
        with psycopg.connect(database_url) as owner:
            for table in ("ledger", "budget_threshold_event", "usage_rollup", "budget_slot", "budget_window"):
                owner.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(table)))
        sessions = [
            Session(number * SESSIONS + place, ledger, ["key-a", "key-b", None][place % 3], slots=slots)
            for place, ledger in enumerate(ledgers)
        ]
        start = Barrier(SESSIONS)
        with ThreadPoolExecutor(SESSIONS) as pool:
            list(pool.map(lambda session, start=start: (start.wait(PATIENCE_SECONDS), session.run()), sessions))

        rules = Reference(clock.now, LIMIT, "UTC", TTL)
        rules.keys = deepcopy(limits)
        histories = [session.history for session in sessions]
        found: dict[str, list[Answer]] = {}
        for w in books.check(limit=LIMIT, keys={key_id: key.budget or LIMIT for key_id, key in limits.items()}):
            found.setdefault(w.budget, []).append((w.spent, w.reserved))

        assert explained(histories, rules, found), "\n".join(
            [f"{place} {s.began:.6f}..{s.ended:.6f} {s.result}" for place, h in enumerate(histories) for s in h]
            + [str(found)]
        )
        everything = sorted((s for history in histories for s in history), key=lambda s: s.began)
        overlapped += sum(b.began < a.ended for a, b in pairwise(everything))
        refusals += sum(isinstance(s.result[0], str) for s in everything)
        in_slots += len(books.rows("SELECT FROM ledger WHERE slot IS NOT NULL"))
    assert overlapped > ROUNDS and refusals > (ROUNDS if slots == 1 else ROUNDS / 4), "nothing met"
    assert slots == 1 or in_slots > ROUNDS / 2  # how many there are is a matter of who comes first


def test_what_no_order_explains_is_found() -> None:
    """Two calls of which only one fits, and both were told that they do."""

    def both(entry_id: UUID) -> Replay:
        def replay(rules: Reference) -> Answer:
            return (rules.reserve(entry_id, Decimal("0.6")),)

        return replay

    rules = Reference(datetime(2026, 11, 15, 12, tzinfo=UTC), LIMIT, "UTC", TTL)
    books: dict[str, list[Answer]] = {"global": [(Decimal(0), Decimal("0.6"))]}
    answered_yes = Statement(0, 1, (None,), both(uuid4()))
    answered_no = Statement(0, 1, (("reserved", "global"),), both(uuid4()))
    assert explained([[answered_yes], [answered_no]], rules, books)
    assert not explained([[answered_yes], [Statement(0, 1, (None,), both(uuid4()))]], rules, books)
    # The one that was refused had its answer before the other began.
    assert not explained([[answered_yes], [Statement(-2, -1, answered_no.result, answered_no.replay)]], rules, books)
    # Nor is it enough that the answers fit.
    assert not explained([[answered_yes], [answered_no]], rules, {"global": [(Decimal("0.6"), Decimal(0))]})
