"""Slots of busy keys, nodes and users: no row is everybody's, and each limit is as hard as before."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import psycopg
import pytest

from fusewire.budget.ledger import Ledger
from fusewire.budget.nodes import Nodes
from fusewire.errors import BudgetExceededError, BudgetReservedError
from tests.integration.budget.books import (
    ZERO,
    Books,
    Clock,
    Events,
    Totals,
    a_call,
    at_bound,
    candidate,
    released,
    settled,
    wait_for_a_lock,
)
from tests.integration.budget.conftest import SLOTS_OF_EACH, OpenLedger
from tests.integration.budget.keys import Keys
from tests.integration.budget.test_tree import ADMIN

LIMIT = Decimal(1)
TEAM, KEY = Decimal("0.6"), Decimal("0.5")


@pytest.fixture
def team(nodes: Nodes) -> str:
    return nodes.create({"name": "team", "limit_usd": TEAM, "period": "month"}, ADMIN).id


@pytest.fixture
def key(keys: Keys, team: str) -> str:
    return keys.make(node=team, budget=str(KEY))


@pytest.fixture
def ledger(open_ledger: OpenLedger, key: str) -> Ledger:
    """Everything is allocated: the key's next calls go to slots of every budget."""
    made = open_ledger(AI_LEDGER_SLOTS=SLOTS_OF_EACH)
    for _ in range(2):
        made.settle(released(made.reserve(a_call(key_id=key), [candidate("0.001")])))
    return made


def checked(books: Books, key: str, team: str) -> dict[str, Totals]:
    """The newest window of each budget; every sum agrees, and no limit is passed."""
    return {window.budget: window for window in books.check(limit=LIMIT, keys={key: KEY, team: TEAM})}


def slotted(books: Books, id: object) -> int:
    """In how many budgets below the company's an entry was reserved in a slot."""
    [row] = books.rows("SELECT COALESCE(cardinality(slotted_window_ids), 0) AS n FROM ledger WHERE id = %s", id)
    found: int = row["n"]
    return found


def test_a_call_leaves_every_row_alone(ledger: Ledger, books: Books, key: str, team: str, nodes: Nodes) -> None:
    rows = "SELECT budget, xmin::text, ctid::text FROM budget_window ORDER BY id"
    before = books.rows(rows)
    held = ledger.reserve(a_call(key_id=key), [candidate("0.01")])
    assert slotted(books, held.id) == 2
    shown = nodes.show(team).budget
    assert held.key is not None and shown is not None
    assert (held.key.window.reserved, shown.window.reserved) == (Decimal("0.01"), Decimal("0.01"))
    booked = ledger.settle(settled(held, "0.004"))
    assert books.rows(rows) == before
    assert booked.key is not None
    assert (booked.key.window.spent, booked.key.window.reserved) == (Decimal("0.004"), ZERO)
    shown = nodes.show(team).budget
    assert shown is not None
    assert (shown.window.spent, shown.window.reserved) == (Decimal("0.004"), ZERO)
    assert {totals.spent for totals in checked(books, key, team).values()} == {Decimal("0.004")}


def test_the_last_cent_of_a_key_is_served_and_not_one_more(ledger: Ledger, books: Books, key: str, team: str) -> None:
    held = [ledger.reserve(a_call(key_id=key), [candidate("0.02")]) for _ in range(25)]
    assert checked(books, key, team)[key].reserved == KEY
    with pytest.raises(BudgetReservedError):
        ledger.reserve(a_call(key_id=key), [candidate("0.01")])
    for reservation in held:
        ledger.settle(released(reservation))
    assert ledger.reserve(a_call(key_id=key), [candidate(KEY)]).key is not None
    assert checked(books, key, team)[key].reserved == KEY


def test_the_slots_of_a_key_have_its_room_together(ledger: Ledger, books: Books, key: str, team: str) -> None:
    """Whoever meets nobody takes the same slot each time."""
    for _ in range(12):
        ledger.reserve(a_call(key_id=key), [candidate("0.01")])
    parts = books.rows(
        "SELECT w.budget, sum(s.allocated) AS all FROM budget_slot s JOIN budget_window w ON w.id = s.window_id"
        " GROUP BY 1"
    )
    found = {row["budget"]: row["all"] for row in parts}
    assert (
        found[key] < KEY * Decimal("0.8") and found[team] < TEAM * Decimal("0.8") and found["global"] < Decimal("0.8")
    )


def test_a_node_refuses_what_its_keys_would_have(
    ledger: Ledger, books: Books, keys: Keys, key: str, team: str, open_ledger: OpenLedger
) -> None:
    other = keys.make("key-b", node=team, budget="0.5")
    beside = open_ledger(AI_LEDGER_SLOTS=SLOTS_OF_EACH)
    for number in range(30):
        (beside if number % 2 else ledger).reserve(a_call(key_id=other if number % 2 else key), [candidate("0.02")])
    with pytest.raises(BudgetReservedError):
        ledger.reserve(a_call(key_id=key), [candidate("0.02")])
    assert checked(books, key, team)[team].reserved == TEAM


@pytest.mark.parametrize("end", [settled, at_bound, released], ids=["actual", "bound", "release"])
def test_each_way_to_end_is_booked_in_the_slots(
    ledger: Ledger, books: Books, key: str, team: str, end: Callable[..., object]
) -> None:
    held = ledger.reserve(a_call(key_id=key), [candidate("0.01")])
    settlement = settled(held, "0.002") if end is settled else at_bound(held) if end is at_bound else released(held)
    ledger.settle(settlement)
    ledger.settle(settlement)  # sent twice
    spent = {settled: Decimal("0.002"), at_bound: Decimal("0.01"), released: ZERO}[end]  # type: ignore[index]
    assert {(each.spent, each.reserved) for each in checked(books, key, team).values()} == {(spent, ZERO)}


def test_a_cost_above_its_bound_crosses_each_threshold_once(
    ledger: Ledger, books: Books, events: Events, key: str, team: str
) -> None:
    ledger.settle(settled(ledger.reserve(a_call(key_id=key), [candidate("0.02")]), "0.02"))
    held = ledger.reserve(a_call(key_id=key), [candidate("0.02")])
    assert slotted(books, held.id) == 2
    ledger.settle(settled(held, "0.47"))
    # Of the key's 0.5 98 %, of the team's 0.6 81.7 %, of the company's 1 49 %.
    assert sorted(books.threshold_events()) == ["HALF_OPEN", "HALF_OPEN", "OPEN"]
    crossed = {(row["state"], row["spent"]) for row in books.rows("SELECT state, spent FROM budget_threshold_event")}
    assert crossed == {("HALF_OPEN", Decimal("0.49")), ("OPEN", Decimal("0.49"))}
    with pytest.raises(BudgetExceededError):
        ledger.reserve(a_call(key_id=key), [candidate("0.001")])


def test_a_key_whose_limit_is_lowered_is_held_to_it_at_once(
    ledger: Ledger, books: Books, keys: Keys, key: str, team: str
) -> None:
    ledger.settle(settled(ledger.reserve(a_call(key_id=key), [candidate("0.02")]), "0.02"))
    held = ledger.reserve(a_call(key_id=key), [candidate("0.02")])
    assert slotted(books, held.id) == 2
    keys.change(key, limit_usd="0.03")
    with pytest.raises(BudgetExceededError):
        ledger.reserve(a_call(key_id=key), [candidate("0.02")])
    ledger.settle(settled(held, "0.005"))
    assert books.threshold_events() == ["HALF_OPEN"]  # 0.025 of 0.03, told by who ended it
    assert checked(books, key, team)[key].spent == Decimal("0.025")


def test_a_settlement_in_its_slots_tells_what_a_lowered_limit_crosses(
    ledger: Ledger, books: Books, keys: Keys, key: str, team: str
) -> None:
    held = ledger.reserve(a_call(key_id=key), [candidate("0.02")])
    keys.change(key, limit_usd="0.01")
    ledger.settle(settled(held, "0.01"))
    assert sorted(books.threshold_events()) == ["HALF_OPEN", "OPEN"]
    assert checked(books, key, team)[key].spent == Decimal("0.01")


@pytest.mark.parametrize("of", ["company", "key", "team"])
def test_a_reset_takes_all_slots_back_and_late_ends_find_their_windows(
    ledger: Ledger, books: Books, key: str, team: str, of: str
) -> None:
    held = [ledger.reserve(a_call(key_id=key), [candidate("0.01")]) for _ in range(3)]
    budget = {"company": "global", "key": key, "team": team}[of]
    closed, _ = ledger.reset(actor="admin", source_ip=None, request_id="reset", reason=None, budget=budget)
    assert closed.reserved == Decimal("0.03")
    assert books.rows("SELECT FROM budget_slot WHERE allocated > 0") == []
    fresh = ledger.reserve(a_call(key_id=key), [candidate("0.01")])
    ledger.settle(settled(held[0], "0.005"))
    ledger.settle(at_bound(held[1]))
    ledger.settle(released(held[2]))
    ledger.settle(settled(fresh, "0.002"))
    found = [window for window in books.check(limit=LIMIT, keys={key: KEY, team: TEAM}) if window.budget == budget]
    assert [(window.spent, window.reserved) for window in found] == [(Decimal("0.015"), ZERO), (Decimal("0.002"), ZERO)]
    for name in {key, team, "global"} - {budget}:
        assert checked(books, key, team)[name].spent == Decimal("0.017")


def test_an_entry_of_an_older_window_of_the_companys_may_cross_a_keys_threshold(
    ledger: Ledger, books: Books, key: str, team: str
) -> None:
    """The key's window goes on over the company's reset, and is in slots again by then."""
    held = ledger.reserve(a_call(key_id=key), [candidate("0.02")])
    ledger.reset(actor="admin", source_ip=None, request_id="reset", reason=None)
    for _ in range(2):
        ledger.settle(settled(ledger.reserve(a_call(key_id=key), [candidate("0.01")]), "0.01"))
    assert slotted(books, ledger.reserve(a_call(key_id=key), [candidate("0.01")]).id) == 2
    ledger.settle(settled(held, "0.39"))
    assert books.threshold_events() == ["HALF_OPEN"]
    assert [row["spent"] for row in books.rows("SELECT spent FROM budget_threshold_event")] == [Decimal("0.41")]
    assert checked(books, key, team)[key].spent == Decimal("0.41")


def test_what_expires_in_slots_is_booked_at_its_bound(
    clock: Clock, open_ledger: OpenLedger, books: Books, key: str, team: str
) -> None:
    ledger = open_ledger(AI_LEDGER_SLOTS=SLOTS_OF_EACH)
    for _ in range(2):
        ledger.settle(released(ledger.reserve(a_call(key_id=key), [candidate("0.001")])))
    held = ledger.reserve(a_call(key_id=key), [candidate("0.03")])
    assert slotted(books, held.id) == 2
    clock.advance(seconds=3600)
    ledger.budget()
    assert {each.spent for each in checked(books, key, team).values()} == {Decimal("0.03")}
    ledger.settle(settled(held, "0.01"))  # who knows better
    assert {each.spent for each in checked(books, key, team).values()} == {Decimal("0.01")}


def test_what_is_given_back_is_free_in_each_slot(ledger: Ledger, books: Books, key: str, team: str) -> None:
    held = ledger.reserve(a_call(key_id=key), [candidate("0.05")])
    assert slotted(books, held.id) == 2
    ledger.give_back(held, Decimal("0.01"), 40)
    ledger.prices()  # takes the answer first
    assert {each.reserved for each in checked(books, key, team).values()} == {Decimal("0.01")}
    ledger.settle(settled(held, "0.01"))
    assert {each.spent for each in checked(books, key, team).values()} == {Decimal("0.01")}


def test_a_key_that_is_counted_by_the_minute_keeps_its_row(
    ledger: Ledger, books: Books, keys: Keys, key: str, team: str
) -> None:
    held = ledger.reserve(a_call(key_id=key), [candidate("0.01")])
    keys.change(key, requests_per_minute=100)
    others = [ledger.reserve(a_call(key_id=key), [candidate("0.01")]) for _ in range(3)]
    assert [slotted(books, each.id) for each in (held, *others)] == [2, 0, 1, 1]  # the team has slots all the same
    for each in (held, *others):
        ledger.settle(settled(each, "0.01"))
    assert checked(books, key, team)[key].spent == Decimal("0.04")
    assert books.rows("SELECT rate_requests AS n FROM budget_window WHERE budget = %s", key)[0]["n"] == 1 + 3


def test_without_a_limit_there_is_room_for_everything(
    open_ledger: OpenLedger, books: Books, keys: Keys, nodes: Nodes
) -> None:
    key = keys.make("key-b", node=nodes.create({"name": "all", "period": "none"}, ADMIN).id)
    ledger = open_ledger(AI_LEDGER_SLOTS=SLOTS_OF_EACH)
    for _ in range(2):
        ledger.settle(released(ledger.reserve(a_call(key_id=key), [candidate("0.001")])))
    held = ledger.reserve(a_call(key_id=key), [candidate("0.1")])
    assert slotted(books, held.id) == 2
    ledger.settle(settled(held, "0.1"))
    assert {each.spent for each in books.check(limit=LIMIT)} == {Decimal("0.1")}


@pytest.mark.parametrize("busy", ["key", "team"])
def test_a_budget_whose_row_is_waited_for_gets_slots(
    open_ledger: OpenLedger, books: Books, key: str, team: str, database_url: str, busy: str
) -> None:
    ledger = open_ledger(AI_LEDGER_SLOTS="4")
    for _ in range(2):
        ledger.settle(released(ledger.reserve(a_call(key_id=key), [candidate("0.001")])))
    budget = {"key": key, "team": team}[busy]
    with psycopg.connect(database_url) as other, ThreadPoolExecutor(1) as pool:
        for _ in range(8):
            other.execute("SELECT FROM budget_window WHERE budget = %s FOR UPDATE", (budget,))
            waiting = pool.submit(ledger.reserve, a_call(key_id=key), [candidate("0.001")])
            wait_for_a_lock(books)
            other.rollback()
            ledger.settle(released(waiting.result()))
    assert slotted(books, ledger.reserve(a_call(key_id=key), [candidate("0.001")]).id) == 1
    spread = books.rows(
        "SELECT DISTINCT w.budget FROM budget_slot s JOIN budget_window w ON w.id = s.window_id"
        " WHERE s.allocated > 0 AND w.budget <> 'global'"
    )
    assert [row["budget"] for row in spread] == [budget]
    checked(books, key, team)


@pytest.mark.parametrize("slots", ["4", SLOTS_OF_EACH])
def test_a_call_that_no_budget_above_its_key_counts_is_served_in_slots(
    open_ledger: OpenLedger, books: Books, keys: Keys, nodes: Nodes, slots: str
) -> None:
    above = nodes.create({"name": "one vendor's", "period": "month", "models": ["openai/*"]}, ADMIN).id
    key = keys.make("key-b", node=above, budget="0.5")
    ledger = open_ledger(AI_LEDGER_SLOTS=slots)
    for _ in range(3):
        held = ledger.reserve(a_call(key_id=key), [candidate("0.01", "vllm")])
        ledger.settle(settled(held, "0.01"))
    assert books.entry(held.id)["slot"] is not None
    assert {window.spent for window in books.check(limit=LIMIT)} == {Decimal("0.03")}


def test_tokens_that_werent_counted_in_a_slot_arent_given_back_to_the_minute(
    ledger: Ledger, books: Books, keys: Keys, key: str, team: str
) -> None:
    held = [ledger.reserve(a_call(key_id=key), [candidate("0.01", tokens=1000)]) for _ in range(3)]
    keys.change(key, tokens_per_minute=5000)
    ledger.budget()  # they are in the row from now on
    ledger.give_back(held[0], Decimal("0.005"), 10)
    ledger.prices()  # takes the answer first
    for each in held:
        ledger.settle(settled(each, "0.005"))
    assert books.rows("SELECT rate_tokens AS n FROM budget_window WHERE budget = %s", key)[0]["n"] == 0
    assert checked(books, key, team)[key].spent == Decimal("0.015")


def test_an_entry_of_an_older_window_tells_what_a_lowered_limit_crosses(
    open_ledger: OpenLedger, books: Books, keys: Keys
) -> None:
    """Of a key without a path, whose window goes on over the company's reset, and is in slots again by then."""
    key = keys.make("key-b", budget="0.5")
    ledger = open_ledger(AI_LEDGER_SLOTS=SLOTS_OF_EACH)
    held = ledger.reserve(a_call(key_id=key), [candidate("0.025")])
    ledger.reset(actor="admin", source_ip=None, request_id="reset", reason=None)
    for _ in range(3):
        made = ledger.reserve(a_call(key_id=key), [candidate("0.01")])
        ledger.settle(settled(made, "0.01"))
    assert slotted(books, made.id) == 1
    keys.change(key, limit_usd="0.03")
    ledger.settle(settled(held, "0.025"))
    assert sorted(books.threshold_events()) == ["HALF_OPEN", "OPEN"]
    assert {row["spent"] for row in books.rows("SELECT spent FROM budget_threshold_event")} == {Decimal("0.055")}


def test_each_user_of_a_key_is_held_to_the_limit(open_ledger: OpenLedger, books: Books, keys: Keys) -> None:
    key = keys.make("key-b", per_user="0.2")
    ledger = open_ledger(AI_LEDGER_SLOTS=SLOTS_OF_EACH)
    for _ in range(2):
        ledger.settle(released(ledger.reserve(a_call(key_id=key, user="ann"), [candidate("0.001")])))
    held = [ledger.reserve(a_call(key_id=key, user="ann"), [candidate("0.01")]) for _ in range(20)]
    assert slotted(books, held[0].id) == 2
    with pytest.raises(BudgetReservedError):
        ledger.reserve(a_call(key_id=key, user="ann"), [candidate("0.01")])
    ledger.reserve(a_call(key_id=key, user="bob"), [candidate("0.2")])
    books.check(limit=LIMIT)
