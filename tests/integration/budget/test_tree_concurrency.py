"""Sixty-four callers over a tree of three levels: no budget is passed at any moment, and the sums agree at each."""

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from fusewire.budget.ledger import Ledger
from fusewire.budget.nodes import Nodes
from fusewire.budget.reservation import Reservation
from fusewire.errors import BudgetExceededError, BudgetReservedError
from tests.integration.budget.books import (
    Books,
    Clock,
    Events,
    a_call,
    at_bound,
    candidate,
    released,
    settled,
    wait_for_a_lock,
)
from tests.integration.budget.conftest import OpenLedger
from tests.integration.budget.keys import Keys
from tests.integration.budget.test_concurrency import all_at_once
from tests.integration.budget.test_tree import ADMIN, SLOTS
from tests.support.patience import PATIENCE_SECONDS

CALLERS = 64
LIMIT = Decimal(1)


def planted(nodes: Nodes, keys: Keys) -> dict[str, Decimal]:
    """Two divisions of three teams each, and two keys a team; what each may spend, by its id."""
    limits: dict[str, Decimal] = {}

    def make(name: str, limit: str, parent: str | None, **fields: object) -> str:
        attributes = {"name": name, "limit_usd": Decimal(limit), "parent_id": parent, "period": "month"} | fields
        id = nodes.create(attributes, ADMIN).id
        limits[id] = Decimal(limit)
        return id

    company = make("company", "0.8", None)
    for division in ("one", "two"):
        above = make(division, "0.45", company)
        for team in range(3):
            models: dict[str, Any] = {"models": ["vllm/*"]} if team == 2 else {}
            below = make(f"team {team}", "0.2", above, **models)
            for number in range(2):
                key = keys.make(f"key-{division}-{team}-{number}", node=below, budget="0.15")
                limits[key] = Decimal("0.15")
    return limits


class Caller:
    """One of the callers, with its own account of what it did."""

    def __init__(self, number: int, ledger: Ledger, key_id: str) -> None:
        self._random = random.Random(number)  # noqa: S311 - the same calls in every run
        self.ledger, self.key_id = ledger, key_id
        self.refused = 0
        self.booked: list[Decimal] = []
        self.dead: list[Reservation] = []

    def work(self, calls: int, *, dies: bool) -> None:
        for number in range(calls):
            provider = self._random.choice(("openai", "vllm"))
            bound = Decimal(self._random.randint(1, 40)).scaleb(-3)
            try:
                made = self.ledger.reserve(
                    a_call(f"{self.key_id}-{number}", key_id=self.key_id), [candidate(bound, provider)]
                )
            except (BudgetExceededError, BudgetReservedError):
                self.refused += 1
                continue
            if dies and number >= calls // 2:
                self.dead.append(made)
                return
            cost = (bound * self._random.randint(0, 1000)).scaleb(-3)
            end = self._random.choice((settled(made, cost), at_bound(made), released(made)))
            self.ledger.settle(end)
            self.booked.append(end.booked)


@pytest.mark.usefixtures("patience")
@SLOTS
def test_no_node_is_passed_and_the_sums_agree_to_the_last_digit(
    open_ledger: OpenLedger, books: Books, keys: Keys, nodes: Nodes, events: Events, clock: Clock, slots: str
) -> None:
    """Half of the callers die with a reservation, which expires."""
    limits = planted(nodes, keys)
    own = [name for name in limits if name.startswith("key-")]
    ledgers = [open_ledger(AI_LEDGER_SLOTS=slots) for _ in range(CALLERS // 4)]
    callers = [Caller(number, ledgers[number // 4], own[number % len(own)]) for number in range(CALLERS)]
    crews = [callers[place : place + 4] for place in range(0, CALLERS, 4)]

    def run(crew: list[Caller]) -> None:
        for caller in crew:
            caller.work(6, dies=caller is crew[0] or caller is crew[2])

    observed = all_at_once(
        [lambda c=crew: run(c) for crew in crews],  # type: ignore[misc]
        lambda: books.check(limit=LIMIT, keys=limits),
    )
    assert observed > 0
    assert sum(caller.refused for caller in callers) > 0, "no budget was ever short"
    dead = [made for caller in callers for made in caller.dead]
    assert sum(w.reserved for w in books.check(limit=LIMIT, keys=limits) if w.budget == "global") == sum(
        (made.candidate.bound for made in dead), Decimal(0)
    )
    clock.advance(seconds=3600)
    ledgers[0].budget()
    found = {window.budget: window for window in books.check(limit=LIMIT, keys=limits)}
    assert all(window.reserved == 0 for window in found.values())
    expected = sum((sum(caller.booked) for caller in callers), Decimal(0))
    assert found["global"].spent == expected + sum((made.candidate.bound for made in dead), Decimal(0))
    assert events.count()["ledger.unavailable"] == 0


@contextmanager
def holding(database_url: str, budget: str) -> Iterator[psycopg.Connection[Any]]:
    """Another session has this budget's open window locked."""
    with psycopg.connect(database_url) as other:
        other.execute(
            "SELECT 1 FROM budget_window WHERE budget = %s AND closed_at IS NULL FOR NO KEY UPDATE", (budget,)
        )
        yield other
        other.rollback()


def test_a_reservation_in_a_slot_waits_for_its_path_and_counts_it(
    open_ledger: OpenLedger, books: Books, keys: Keys, nodes: Nodes, database_url: str
) -> None:
    ledger = open_ledger(AI_LEDGER_SLOTS="4")
    id = nodes.create({"name": "team", "limit_usd": Decimal("0.05"), "period": "month"}, ADMIN).id
    key = keys.make(node=id)
    ledger.settle(settled(ledger.reserve(a_call(key_id=key), [candidate("0.01")]), "0.01"))
    with ThreadPoolExecutor(1) as pool, holding(database_url, id) as other:
        waiting = pool.submit(ledger.reserve, a_call(key_id=key), [candidate("0.02")])
        wait_for_a_lock(books)
        other.execute("UPDATE budget_window SET spent = spent + 0.03 WHERE budget = %s", (id,))
        other.commit()
        with pytest.raises(BudgetExceededError):
            waiting.result(timeout=PATIENCE_SECONDS)


def test_two_paths_are_locked_in_one_order(
    open_ledger: OpenLedger, books: Books, keys: Keys, nodes: Nodes, database_url: str
) -> None:
    """A node that was moved above an older one has the younger window."""
    ledger = open_ledger(AI_LEDGER_SLOTS="4")
    older = nodes.create({"name": "older", "period": "month"}, ADMIN).id
    younger = nodes.create({"name": "younger", "period": "month"}, ADMIN).id
    one, other = keys.make("key-1", node=older), keys.make("key-2", node=younger)
    for key in (one, other):
        ledger.settle(settled(ledger.reserve(a_call(key_id=key), [candidate("0.01")]), "0.01"))
    nodes.update(older, {"parent_id": younger}, ADMIN)
    ledger.settle(released(ledger.reserve(a_call(), [candidate("0.01")])))
    nodes.update(older, {"parent_id": None}, ADMIN)
    nodes.update(younger, {"parent_id": older}, ADMIN)
    ledger.settle(released(ledger.reserve(a_call(), [candidate("0.01")])))
    # The path is younger, older from the key up; the older window's lock is asked for first all the same.
    with ThreadPoolExecutor(1) as pool, holding(database_url, older) as held:
        waiting = pool.submit(ledger.reserve, a_call(key_id=other), [candidate("0.01")])
        wait_for_a_lock(books)
        held.execute("SET lock_timeout = '2s'")
        free = held.execute(
            "SELECT 1 FROM budget_window WHERE budget = %s AND closed_at IS NULL FOR NO KEY UPDATE SKIP LOCKED",
            (younger,),
        ).fetchall()
        held.rollback()
        waiting.result(timeout=PATIENCE_SECONDS)
    assert free, "it holds the younger window while it waits for the older one"


def test_a_settlement_in_a_closed_window_waits_for_who_holds_the_open_one(
    open_ledger: OpenLedger, books: Books, keys: Keys, nodes: Nodes, database_url: str
) -> None:
    ledger = open_ledger()
    id = nodes.create({"name": "team", "period": "month"}, ADMIN).id
    key = keys.make(node=id)
    held = ledger.reserve(a_call(key_id=key), [candidate("0.01")])
    plain = ledger.reserve(a_call(), [candidate("0.01")])
    ledger.reset(actor="admin", source_ip=None, request_id="reset", reason=None)
    with ThreadPoolExecutor(1) as pool, holding(database_url, "global") as other:
        ledger.settle(settled(plain, "0.01"))  # it locks nothing that anybody else does
        waiting = pool.submit(ledger.settle, settled(held, "0.01"))
        wait_for_a_lock(books)
        locked = other.execute(
            "SELECT 1 FROM budget_window WHERE budget = %s AND closed_at IS NULL FOR NO KEY UPDATE SKIP LOCKED", (id,)
        ).fetchall()
        other.rollback()
        waiting.result(timeout=PATIENCE_SECONDS)
    assert locked, "it holds a window of its path while it waits"
    books.check()
