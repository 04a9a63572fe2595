"""Two calls, a reset or a month's end, a sweep, an hour and a lowered limit, in every order.

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

from fusewire.budget.wire import SettlementMode
from fusewire.json import dumps, loads
from tests.integration.budget.books import Books
from tests.integration.budget.keys import Keys
from tests.integration.budget.outcome import BOOKS, BROKEN, counts_of, placed, recorded
from tests.integration.budget.reference import Entry, Key, Reference, Refused, Window
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

LONG: Final = bool(os.environ.get("FUSEWIRE_PROVE"))
FIRST: Final = UUID(int=1)
SECOND: Final = UUID(int=2)
SPENT: Final = UUID(int=3)
GRANT: Final = UUID(int=4)
BOUND: Final = Decimal("0.25")
COST: Final = Decimal("0.2")
KEY_LIMIT: Final = Decimal("0.3")
HOUR: Final = timedelta(hours=1)
NEXT_MONTH: Final = datetime(2026, 12, 1, tzinfo=NOW.tzinfo)

Held = Mapping[str, Any]
"""What the tables hold."""
Rules = Callable[[Reference, bool], Refused | Entry | Window | tuple[Window, Window] | None]
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
        lambda rules, in_slot: rules.end(entry_id, mode, cost if mode == "actual" else None, 30, in_slot=in_slot),
        ends=entry_id,
    )


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
}
"""Of each one happens, or none."""

GRANTED: Final = (begins(GRANT, KEY, Decimal("0.001")), ends(GRANT, "release"))
SHORT: Final = frozenset(EVENTS) - {"limit", "turn"}


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
            assert (result["refused"], result["by"]) == expected if result.get("refused") else expected is None
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
        sums = self._books.check(limit=LIMIT, keys={KEY: KEY_LIMIT})
        assert self._books.connection.execute(BROKEN).fetchall() == []
        for budget, windows in rules.windows.items():
            assert [(w.spent, w.reserved, w.calls) for w in sums if w.budget == budget] == [
                (w.spent, w.reserved, w.calls) for w in windows
            ]
            assert [_row(window) for window in found["windows"] or () if window["budget"] == budget] == [
                (w.recorded, w.opened_by, w.opened_at, w.resets_at, w.closed_at) for w in windows
            ]


def _row(window: Mapping[str, Any]) -> tuple[object, ...]:
    times = (window[name] and datetime.fromisoformat(window[name]) for name in ("opened_at", "resets_at", "closed_at"))
    return (window["state"], window["opened_by"], *times)


@pytest.mark.parametrize(("slots", "spent", "lowered"), [(1, "0.45", "0.9"), (2, "0.1", "0.5")])
def test_every_order_of_two_calls_and_what_happens_meanwhile(
    database_url: str, keys: Keys, slots: int, spent: str, lowered: str
) -> None:
    """With two slots there is less spent, so that they are allocated."""
    own_clocks(database_url)
    keys.make(KEY, budget=str(KEY_LIMIT))
    books = Books(database_url)
    set_json_loads(loads, books.connection)
    orders = Orders(books, slots, Decimal(lowered))
    rules = Reference(NOW, LIMIT, "UTC", TTL)
    rules.keys = {KEY: Key(KEY_LIMIT)}
    happening = frozenset(EVENTS) if LONG else SHORT
    with books.connection.transaction(force_rollback=True):
        held: Held = {}
        for event in (begins(SPENT, None, Decimal(spent)), ends(SPENT, "bound"), *GRANTED):
            held = orders.happens(event, rules, held)
        orders.walk(rules, held, happening)
    books.close()
    assert orders.met["steps"] > (5_000 if LONG else 150)
    assert all(orders.met[name] > 10 for name in (*happening, "crossed"))
    assert slots == 1 or orders.met["in slots"] > 5
    assert not LONG or orders.met["refused"] > 10
