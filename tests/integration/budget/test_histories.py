"""Sessions that really run at once, and their history checked afterwards.

They call, wait for room, reset, and change the tree that their keys are in. Each notes what it asked, when, and what it
was told. Then an order of all the statements is searched for that nobody's clock contradicts and in which the rules of
`reference.py` would have told everybody the same. That there is one is what "a statement at a time" means to a caller;
where there is none, somebody was told what can't be.
"""

import os
import random
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from threading import Barrier
from typing import Any, Final
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql

from fusewire.budget import breaker
from fusewire.budget.audit_context import AuditContext
from fusewire.budget.ledger import Ledger
from fusewire.budget.nodes import Nodes
from fusewire.budget.reservation import Candidate, Fit, Reservation, Settlement
from fusewire.budget.wire import SettlementMode
from fusewire.errors import BudgetExceededError, BudgetReservedError, RateLimitedError
from fusewire.store.db import Database
from tests.integration.budget.books import Books, Clock, a_call, at_bound, candidate, released, settled
from tests.integration.budget.conftest import OpenLedger, make_every_budget_busy
from tests.integration.budget.grouped import counted_groups
from tests.integration.budget.keys import Keys
from tests.integration.budget.machine import Paused, PausedError
from tests.integration.budget.reference import Reference
from tests.integration.budget.reference_records import Key, Node, Window
from tests.support.patience import PATIENCE_SECONDS

SESSIONS: Final = 5
STATEMENTS: Final = 4
ROUNDS: Final = 300 if os.environ.get("FUSEWIRE_PROVE") else 25
LIMIT: Final = Decimal(1)
USED: Final = 30
CALLERS: Final = ("key-a", "key-b", None, "key-c", "key-a")
"""The key of each session."""
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
    may_be_idle: bool = False
    """It looked without a lock, and may have found no room where there was some by then: it did nothing."""

    @property
    def replays(self) -> tuple[Replay, ...]:
        return (self.replay, lambda _: self.result) if self.may_be_idle else (self.replay,)


@dataclass(frozen=True)
class Tree:
    """Two nodes, one above the other, that the sessions move and change."""

    top: str
    low: str
    nodes: Nodes
    keys: Keys
    limits: dict[str, Key]

    @classmethod
    def plant(cls, nodes: Nodes, keys: Keys) -> "Tree":
        by = AuditContext("admin", None, "planted")
        top = nodes.create({"name": "top", "limit_usd": Decimal("0.8"), "period": "month"}, by).id
        low = nodes.create({"name": "low", "limit_usd": Decimal("0.6"), "period": "month", "parent_id": top}, by).id
        limits = {
            keys.make("key-a", budget="0.5", tokens=500, node=low): Key(Decimal("0.5"), tokens=500, node=low),
            keys.make("key-b", budget="0.7", node=top): Key(Decimal("0.7"), node=top),
            keys.make("key-c", budget="0.7"): Key(Decimal("0.7")),
        }
        return cls(top, low, nodes, keys, limits)

    def put_back(self, owner: psycopg.Connection[Any]) -> None:
        owner.execute("UPDATE budget_node SET limit_usd = 0.8, parent_id = NULL WHERE id = %s", (self.top,))
        owner.execute("UPDATE budget_node SET limit_usd = 0.6, parent_id = %s WHERE id = %s", (self.top, self.low))

    def rules(self, now: datetime) -> Reference:
        rules = Reference(now, LIMIT, "UTC", TTL)
        rules.keys = deepcopy(self.limits)
        rules.nodes = {self.top: Node(Decimal("0.8")), self.low: Node(Decimal("0.6"), parent_id=self.top)}
        return rules


class PausedInGroups(Paused):
    """Where calls share connections, one that begins to wait would ask once more before its pause."""

    def wait(self, database: Database, *, listens: bool) -> None:
        assert not listens
        self.pause()


class Session:
    """Calls at random, as one execution environment makes them."""

    def __init__(
        self,
        seed: int,
        ledger: Ledger,
        key_id: str | None,
        tree: Tree,
        nodes: Nodes,
        *,
        slots: int,
        pauses: type[Paused],
    ) -> None:
        self.history: list[Statement] = []
        self._ledger = ledger
        self._key_id = key_id
        self._tree = tree
        self._nodes = nodes
        self._pauses = pauses
        self._exact = slots == 1
        self._bounds = (0, 100, 300, 450) if slots == 1 else (0, 10, 20, 20, 300, 450)
        self._random = random.Random(seed)  # noqa: S311 - the same calls in every run
        self._held: Reservation | None = None
        self._waiting: tuple[Decimal, int, Paused] | None = None
        """What a call that has a ticket asks for, and its attempt."""

    def run(self) -> None:
        for _ in range(STATEMENTS):
            if self._held is not None:
                self._random.choice((self._end, self._end, self._fail_over))()
            elif self._waiting is not None:
                self._ask_again()
            else:
                ask = (self._reserve, self._reserve, self._reserve, self._reserve, self._reset, self._change_the_tree)
                self._random.choice(ask)()

    def _reserve(self, settlement: Settlement | None = None) -> None:
        waiting = (
            self._pauses() if self._random.random() < (0.5 if self._exact else 0.3) else None
        )  # who waits ends slots
        bound = Decimal(self._random.choice(self._bounds if waiting is None else self._bounds[-3:])).scaleb(-3)
        self._ask(bound, 1 if settlement is None else 2, waiting, settlement)

    def _ask_again(self) -> None:
        assert self._waiting is not None
        (bound, attempt, waiting), self._waiting = self._waiting, None
        waiting.goes_on(Decimal(self._random.choice(("0", "0.5", "1"))))
        self._ask(bound, attempt, waiting)

    def _ask(self, bound: Decimal, attempt: int, waiting: Paused | None, settlement: Settlement | None = None) -> None:
        offered = self._offer(bound)
        entry_id = uuid4() if waiting is None else waiting.entry_id
        wait = None if waiting is None else waiting.argument()
        held_ticket = waiting is not None and waiting.holds_ticket
        after = None
        if settlement is not None:
            after = (settlement.reservation.id, settlement.mode, settlement.cost, USED)

        def ask() -> Answer:
            nonlocal entry_id
            try:
                call = a_call(key_id=self._key_id, sees_budgets=True)
                self._held = self._ledger.reserve(call, [offered], attempt=attempt, after=settlement, waiting=waiting)
            except PausedError:
                assert waiting is not None
                self._waiting = bound, attempt, waiting
                return ("waits",)
            except BudgetExceededError as error:
                return "exceeded", error.budget
            except BudgetReservedError:
                return ("reserved",)
            except RateLimitedError as error:
                return (error.limit,)
            entry_id = self._held.id
            budget, key = self._held.budget.window, self._held.key
            own = None if key is None else (key.window.spent, key.window.reserved, key.rate_limit.tokens_left)
            return self._sums(budget), own, self._held.cap

        def replay(rules: Reference) -> Answer:
            refused = rules.reserve(
                entry_id, bound, offered.tokens, self._key_id, after,
                fit=offered.fit, wait=wait, is_first=attempt == 1, looks=False,
            )  # fmt: skip
            if refused is not None:
                return refused if refused[0] == "exceeded" else refused[:1]
            window, own = rules.windows["global"][-1], None
            if self._key_id is not None:
                key = rules.windows[self._key_id][-1]
                most = rules.keys[self._key_id].tokens
                own = (key.spent, key.reserved, None if most is None else most - key.minute.tokens)
            return self._sums(window), own, rules.entries[entry_id].cap

        self._note(ask, replay, may_be_idle=held_ticket)

    def _offer(self, bound: Decimal) -> Candidate:
        # In slots, a cap may be whole that isn't where there are none.
        if not self._exact or bound != Decimal("0.3") or self._key_id == "key-a":
            return candidate(bound, tokens=100)
        fit = Fit(Decimal("0.1"), Decimal("0.00002"), 10_000, 256, 2_048, fixed_tokens=100, n=1)
        return replace(candidate(bound, tokens=10_100), fit=fit)

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
        budget = self._random.choice(("global", "global", self._key_id or "global", self._tree.low))

        def ask() -> Answer:
            closed, _ = self._ledger.reset(actor="x", source_ip=None, request_id="x", reason=None, budget=budget)
            return closed.spent, closed.reserved

        def replay(rules: Reference) -> Answer:
            closed, _ = rules.admin_reset(budget)
            return closed.spent, closed.reserved

        self._note(ask, replay)

    def _change_the_tree(self) -> None:
        """Another limit, or another place; its sums are told as they are under the lock."""
        changed, changes = self._random.choice(
            (
                (self._tree.low, {"limit_usd": Decimal("0.2")}),
                (self._tree.low, {"limit_usd": None}),
                (self._tree.top, {"limit_usd": Decimal("0.4")}),
                (self._tree.low, {"parent_id": None}),
                (self._tree.low, {"parent_id": self._tree.top}),
            )
        )

        def ask() -> Answer:
            window = self._nodes.update(changed, changes, AuditContext("admin", None, str(uuid4()))).budget
            return (None,) if window is None else (window.window.spent, window.window.reserved)

        def replay(rules: Reference) -> Answer:
            assert rules.change_node(changed, **changes) is None
            window = rules.current(changed)
            return (None,) if window is None else (window.spent, window.reserved)

        self._note(ask, replay)

    def _sums(self, window: breaker.Window | Window) -> tuple[Decimal, Decimal] | None:
        return (window.spent, window.reserved) if self._exact else None

    def _settlement(self) -> Settlement:
        assert self._held is not None
        mode: SettlementMode = self._random.choice(("actual", "bound", "release"))
        if mode == "actual":
            share = Decimal(self._random.randint(0, 10)).scaleb(-1)
            return settled(self._held, self._held.candidate.bound * share)
        return at_bound(self._held) if mode == "bound" else released(self._held)

    def _note(self, ask: Callable[[], Answer], replay: Replay, *, may_be_idle: bool = False) -> None:
        began = time.monotonic()
        row = ask()
        may_be_idle = may_be_idle and row == ("waits",)
        self.history.append(Statement(began, time.monotonic(), row, replay, may_be_idle))


Place = tuple[int, ...]
"""How many statements of each history have been put in order so far."""
State = tuple[Place, frozenset[tuple[object, ...]], tuple[object, ...]]
Step = tuple[Replay, Answer]


def explained(histories: list[list[Statement]], start: Reference, books: dict[str, list[Answer]]) -> bool:
    """Whether some order of all statements explains what everybody was told and what the books hold in the end.

    Two orders that lead to the same place and state are one: without that, the search takes time by the number of
    orders, which is large where sessions overlap much.
    """
    fruitless: set[State] = set()

    def replayed(order: list[Step]) -> Reference | None:
        """The rules after these statements; None when the last one would have been told something else."""
        rules = deepcopy(start)
        result: Answer = ()
        for replay, _ in order:
            result = replay(rules)
        return rules if result == order[-1][1] else None

    def search(order: list[Step], place: Place, rules: Reference) -> bool:
        left = [(n, history[place[n]]) for n, history in enumerate(histories) if place[n] < len(history)]
        if not left:
            held: dict[str, list[Answer]] = {
                budget: [(w.spent, w.reserved) for w in windows] for budget, windows in rules.windows.items()
            }
            held["the line"] = [(t.entry_id, t.blocked_by, t.bound) for t in rules.line.tickets]
            return {budget: windows for budget, windows in held.items() if windows} == books
        if (state := _state(place, rules)) in fruitless:
            return False
        # Whoever began after another had ended comes after it.
        latest = min(statement.ended for _, statement in left)
        for number, statement in left:
            if statement.began > latest:
                continue
            further = tuple(done + (n == number) for n, done in enumerate(place))
            for replay in statement.replays:
                longer = [*order, (replay, statement.result)]
                after = replayed(longer)
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
    tree = tuple((node.limit_usd, node.parent_id) for node in rules.nodes.values())
    line = tuple((ticket.entry_id, ticket.blocked_by) for ticket in rules.line.tickets)
    return place, entries, (tree, line, *((window.budget, window.minute, window.recorded) for window in windows))


@pytest.mark.usefixtures("patience")
@pytest.mark.parametrize(
    ("slots", "of_each", "in_groups"),
    [(1, False, False), (1, False, True), (4, False, False), (4, True, False)],
    ids=["1", "1, in groups", "4", "4 of each"],
)
def test_every_history_is_one_of_a_statement_at_a_time(
    clock: Clock,
    open_ledger: OpenLedger,
    open_nodes: Callable[[], Nodes],
    books: Books,
    keys: Keys,
    database_url: str,
    slots: int,
    of_each: bool,
    in_groups: bool,
) -> None:
    if of_each:
        make_every_budget_busy(database_url)
    variables = {"AI_RESERVATION_TTL_SECONDS": str(TTL.total_seconds()), "AI_LEDGER_SLOTS": str(slots)}
    if in_groups:
        ledgers = [open_ledger(**variables, AWS_LAMBDA_MAX_CONCURRENCY=str(SESSIONS))] * SESSIONS
        grouped = counted_groups(ledgers[0])
    else:
        ledgers, grouped = [open_ledger(**variables) for _ in range(SESSIONS)], Counter()
    admins = [open_nodes() for _ in range(SESSIONS)]
    tree = Tree.plant(admins[0], keys)
    waits = fits = 0
    overlapped = refusals = in_slots = 0
    for number in range(ROUNDS):
        with psycopg.connect(database_url) as owner:
            for table in (
                *("ledger", "budget_threshold_event", "usage_rollup", "budget_slot", "budget_window"),
                "admission_wait",
            ):
                owner.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(table)))
            tree.put_back(owner)
        sessions = [
            Session(
                number * SESSIONS + place,
                ledger,
                key_id,
                tree,
                admins[place],
                slots=slots,
                pauses=PausedInGroups if in_groups else Paused,
            )
            for place, (ledger, key_id) in enumerate(zip(ledgers, CALLERS, strict=True))
        ]
        start = Barrier(SESSIONS)
        with ThreadPoolExecutor(SESSIONS) as pool:
            list(pool.map(lambda session, start=start: (start.wait(PATIENCE_SECONDS), session.run()), sessions))

        rules = tree.rules(clock.now)
        histories = [session.history for session in sessions]
        found: dict[str, list[Answer]] = {}
        limits = {key_id: key.budget or LIMIT for key_id, key in tree.limits.items()}
        for w in books.check(limit=LIMIT, keys=limits):
            found.setdefault(w.budget, []).append((w.spent, w.reserved))
        line = books.rows("SELECT entry_id, blocked_by, bound FROM admission_wait ORDER BY ticket")
        if line:
            found["the line"] = [tuple(row.values()) for row in line]

        assert explained(histories, rules, found), "\n".join(
            [f"{place} {s.began:.6f}..{s.ended:.6f} {s.result}" for place, h in enumerate(histories) for s in h]
            + [str(found)]
        )
        everything = sorted((s for history in histories for s in history), key=lambda s: s.began)
        overlapped += sum(b.began < a.ended for a, b in pairwise(everything))
        refusals += sum(isinstance(s.result[0], str) and s.result != ("waits",) for s in everything)
        waits += sum(s.result == ("waits",) for s in everything)
        fits += len(books.rows("SELECT FROM ledger WHERE bound > 0.1 AND bound < 0.15"))
        in_slots += len(books.rows("SELECT FROM ledger WHERE slot IS NOT NULL"))
    assert overlapped > ROUNDS and refusals > (ROUNDS if slots == 1 else ROUNDS / 4), "nothing met"
    assert slots > 1 or waits > ROUNDS / 5, "nobody waited"
    assert slots > 1 or fits > ROUNDS / 5, "no cap was fitted"
    assert not in_groups or grouped["calls"] > ROUNDS, "too few were grouped"
    assert slots == 1 or in_slots > 0  # how many there are is a matter of who comes first


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
