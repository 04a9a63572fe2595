"""Two calls, a reset or a month's end, a sweep, an hour and a lowered limit, in every order; and a call that waits for
another in a tree that changes meanwhile.

The tree is walked depth first on real Postgres, where a savepoint takes each step back, so that every beginning runs
once; two orders that lead to the same tables at the same time are one from there on. After each step the ledger holds
what the rules of `reference.py` say. A call that isn't ended is one that crashed: the hour lets it expire.
"""

import os
from collections import Counter
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import pytest
from psycopg.types.json import set_json_loads

from fusewire.budget.wire import SettlementMode, WaitArgument
from fusewire.json import dumps, loads
from tests.integration.budget.books import Books
from tests.integration.budget.keys import Keys
from tests.integration.budget.outcome import BOOKS, BROKEN, counts_of, placed, recorded
from tests.integration.budget.reference import Reference, Refused
from tests.integration.budget.reference_budgets import Unchanged
from tests.integration.budget.reference_records import Entry, Key, Node, Window
from tests.integration.budget.stage import own_clocks
from tests.integration.budget.statements import (
    CALLS,
    KEY,
    LIMIT,
    NOW,
    TTL,
    Fields,
    Function,
    Statement,
    made,
    reservation,
    reset,
    settlement,
)
from tests.integration.budget.statements_tree import LOW, TOP, nodes

LONG: Final = bool(os.environ.get("FUSEWIRE_PROVE"))
FIRST: Final = UUID(int=1)
SECOND: Final = UUID(int=2)
SPENT: Final = UUID(int=3)
GRANT: Final = UUID(int=4)
THIRD: Final = UUID(int=5)
BOUND: Final = Decimal("0.25")
COST: Final = Decimal("0.2")
KEY_LIMIT: Final = Decimal("0.3")
NODE_LIMIT: Final = Decimal("0.3")
HOUR: Final = timedelta(hours=1)
NEXT_MONTH: Final = datetime(2026, 12, 1, tzinfo=NOW.tzinfo)

Held = Mapping[str, Any]
"""What the tables hold."""
Rules = Callable[[Reference, bool], Refused | Entry | Window | tuple[Window, Window] | Unchanged | None]
"""The same by the rules; whether it was in a slot."""


@dataclass(frozen=True)
class Event:
    """What happens once: a statement, or the world's part, which is nobody's statement."""

    function: Function | None = None
    fields: Fields | None = None
    rules: Rules = lambda rules, _: None
    begins: UUID | None = None
    ends: UUID | None = None
    lowers: bool = False
    waits: UUID | None = None
    """What has to have a ticket before."""


def begins(entry_id: UUID, key_id: str | None = None, bound: Decimal = BOUND) -> Event:
    return Event(
        "ledger_reserve",
        reservation(entry_id, key_id, bound, "openai"),
        lambda rules, in_slot: rules.reserve(entry_id, bound, 300, key_id, in_slot=in_slot),
        begins=entry_id,
    )


def ends(entry_id: UUID, mode: SettlementMode, cost: Decimal = Decimal(0)) -> Event:
    return Event(
        "ledger_settle",
        settlement(entry_id, mode, cost if mode == "actual" else None),
        lambda rules, in_slot: rules.end(entry_id, mode, cost if mode == "actual" else None, 30, slot=in_slot),
        ends=entry_id,
    )


def waits(entry_id: UUID, **wait: Any) -> Event:  # noqa: ANN401 - as `WaitArgument` has them
    asked: WaitArgument = {"max_per_key": 5, "lease_seconds": 4, "waited_percent": 0, **wait}  # type: ignore[typeddict-item]
    return Event(
        "ledger_reserve",
        {**reservation(entry_id, KEY, BOUND, "openai"), "wait": asked},
        lambda rules, in_slot: rules.reserve(entry_id, BOUND, 300, KEY, in_slot=in_slot, wait=asked),
        begins=entry_id,
        waits=entry_id if wait else None,
    )


def changes_the_node(**changes: object) -> Event:
    fields = {"id": LOW, "changes": changes, "audit_context": {"actor": "a", "source_ip": None, "request_id": "change"}}
    return Event("budget_node_update", fields, lambda rules, _: rules.change_node(LOW, **changes))


def is_reset(budget: str) -> Event:
    return Event("ledger_reset", reset(1, "admin", budget), lambda rules, _: rules.admin_reset(budget))


def comes(moment: Callable[[datetime], datetime]) -> Event:
    def later(rules: Reference, _: bool) -> None:
        rules.now = moment(rules.now)

    return Event(rules=later)


EVENTS: Final[Mapping[str, tuple[Event, ...]]] = {
    "first begins": (begins(FIRST),),
    "first ends": (ends(FIRST, "actual", COST),),
    "second begins": (begins(SECOND, KEY),),
    "second ends": (ends(SECOND, "bound"),),
    "sweep": (Event("ledger_budget", {"id": str(made("sweep", 1))}, lambda rules, _: rules.budget()),),
    "turn": (is_reset("global"), comes(lambda now: max(now, NEXT_MONTH))),
    "hour": (comes(lambda now: now + HOUR),),
    "limit": (Event(lowers=True),),
    "second is cheap": (ends(SECOND, "actual", Decimal("0.01")),),
    "third waits": (waits(THIRD),),
    "third asks again": (waits(THIRD, holds=True), waits(THIRD, holds=True, last=True)),
    "node": (changes_the_node(limit_usd=Decimal("0.02")), changes_the_node(parent_id=None, limit_usd=None)),
    "turn of the node": (is_reset(LOW), comes(lambda now: max(now, NEXT_MONTH))),
}
"""Of each one happens, or none."""

GRANTED: Final = (begins(GRANT, KEY, Decimal("0.001")), ends(GRANT, "release"))
ALL: Final = frozenset(("first begins", "first ends", "second begins", "second ends", "sweep", "turn", "hour", "limit"))
SHORT: Final = ALL - {"limit", "turn"}
SHORT_IN_A_TREE: Final = frozenset(("second begins", "second is cheap", "third waits", "third asks again", "node"))
ALL_IN_A_TREE: Final = SHORT_IN_A_TREE | {"sweep", "turn of the node", "hour"}


class Orders:
    """The tree, and what was met in it."""

    def __init__(self, books: Books, slots: int, lowered: Decimal) -> None:
        self.met: Counter[str] = Counter()
        self._books = books
        self._slots = slots
        self._lowered = lowered
        self._seen: set[tuple[object, ...]] = set()

    def walk(self, rules: Reference, held: Held, left: frozenset[str]) -> None:
        for name in sorted(left):
            for event in EVENTS[name]:
                if event.ends is not None and event.ends not in rules.entries:
                    continue
                if event.waits is not None and rules.line.of(event.waits) is None:
                    continue
                self.met[name] += 1
                with self._books.connection.transaction(force_rollback=True):
                    after = deepcopy(rules)
                    found = self.happens(event, after, held)
                    place = (left - {name}, after.now, after.limit, dumps(found))
                    if place not in self._seen:
                        self._seen.add(place)
                        self._agree(found, after)
                        self.walk(after, found, left - {name})

    def happens(self, event: Event, rules: Reference, held: Held) -> Held:
        """A step further, by the ledger and by the rules, which have to tell the same; returns what the tables hold."""
        if event.lowers:
            rules.limit = self._lowered
        in_slot = event.ends is not None and self._is_in_slot(event.ends)
        result = self._ask(event, rules)
        if event.begins is not None:
            in_slot = self._is_in_slot(event.begins)
        expected = event.rules(rules, in_slot)
        if event.begins is not None:
            assert _refusal(result) == (expected[:1] if expected == ("waits", "") else expected)
            self.met["refused"] += expected is not None
        [row] = self._books.connection.execute(BOOKS).fetchall()
        found: Held = placed(row["books"], row["books"])
        crossed = recorded(found["threshold_events"]) - recorded(held.get("threshold_events"))
        assert counts_of([placed(result, row["books"])]) == crossed, "each threshold event is told once"
        self.met["steps"] += 1
        self.met["in slots"] += in_slot
        self.met["crossed"] += crossed.total()
        return found

    def _ask(self, event: Event, rules: Reference) -> Mapping[str, Any]:
        if event.function is None:
            return {}
        fields = event.fields or {}
        statement = Statement("", event.function, lambda _: fields, limit=rules.limit)
        argument = dumps(statement.argument(1, self._slots))
        [row] = self._books.connection.execute(CALLS[event.function], (rules.now.isoformat(), argument)).fetchall()
        result: Mapping[str, Any] = row[event.function]
        return result

    def _is_in_slot(self, entry_id: UUID) -> bool:
        """Whether a reservation still is in the slot where it was made."""
        return bool(
            self._books.connection.execute(
                """
                SELECT FROM ledger l JOIN budget_slot s USING (window_id, slot)
                WHERE l.id = %s AND l.status = 'reserved' AND s.allocated > 0 AND s.epoch = l.slot_epoch
                """,
                (entry_id,),
            ).fetchall()
        )

    def _agree(self, found: Held, rules: Reference) -> None:
        sums = self._books.check(limit=LIMIT, keys={TOP: NODE_LIMIT} if rules.nodes else {KEY: KEY_LIMIT})
        assert self._books.connection.execute(BROKEN).fetchall() == []
        for budget, windows in rules.windows.items():
            assert [(w.spent, w.reserved, w.calls) for w in sums if w.budget == budget] == [
                (w.spent, w.reserved, w.calls) for w in windows
            ]
            assert [_row(window) for window in found["windows"] or () if window["budget"] == budget] == [
                (w.recorded, w.opened_by, w.opened_at, w.resets_at, w.closed_at) for w in windows
            ]


def _refusal(result: Mapping[str, Any]) -> tuple[str, ...] | None:
    if result.get("waiting"):
        return ("waits",)
    if result.get("refused") is None:
        return None
    return "waits" if "ticket" in result else result["refused"], result["by"]


def _row(window: Mapping[str, Any]) -> tuple[object, ...]:
    times = (window[name] and datetime.fromisoformat(window[name]) for name in ("opened_at", "resets_at", "closed_at"))
    return (window["state"], window["opened_by"], *times)


@pytest.mark.parametrize(
    ("slots", "spent", "lowered", "in_a_tree"),
    [(1, "0.45", "0.9", False), (2, "0.1", "0.5", False), (1, "0.1", "0.9", True)],
)
def test_every_order_of_two_calls_and_what_happens_meanwhile(
    database_url: str, keys: Keys, slots: int, spent: str, lowered: str, in_a_tree: bool
) -> None:
    """With two slots there is less spent, so that they are allocated."""
    own_clocks(database_url)
    rules = Reference(NOW, LIMIT, "UTC", TTL)
    if in_a_tree:
        for node_id, parent, limit, period in nodes(str(NODE_LIMIT), str(NODE_LIMIT)):
            keys.make_node(node_id, parent=parent, limit=limit, period=period)
            rules.nodes[node_id] = Node(limit, parent, period)
        keys.make(KEY, node=LOW)
        rules.keys = {KEY: Key(node=LOW)}
    else:
        keys.make(KEY, budget=str(KEY_LIMIT))
        rules.keys = {KEY: Key(KEY_LIMIT)}
    books = Books(database_url)
    set_json_loads(loads, books.connection)
    orders = Orders(books, slots, Decimal(lowered))
    if in_a_tree:
        happening = ALL_IN_A_TREE if LONG else SHORT_IN_A_TREE
    else:
        happening = ALL if LONG else SHORT
    with books.connection.transaction(force_rollback=True):
        held: Held = {}
        for event in (begins(SPENT, None, Decimal(spent)), ends(SPENT, "bound"), *GRANTED):
            held = orders.happens(event, rules, held)
        orders.walk(rules, held, happening)
    books.close()
    assert orders.met["steps"] > (5_000 if LONG else 60 if in_a_tree else 150)
    assert all(orders.met[name] > (10 if LONG or not in_a_tree else 2) for name in happening)
    assert in_a_tree or orders.met["crossed"] > 10
    assert slots == 1 or orders.met["in slots"] > 5
    assert not LONG or orders.met["refused"] > 10
