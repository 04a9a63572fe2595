"""80 % and 95 %: each threshold event is recorded once, and returned by the one statement that saw it first."""

from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import psycopg
import pytest
from psycopg.types.json import Jsonb

from fusewire.budget.ledger import Ledger
from fusewire.errors import BudgetExceededError
from tests.integration.budget.books import Books, Events, a_call, at_bound, candidate, released, settled
from tests.integration.budget.conftest import OpenLedger


def spend(ledger: Ledger, amount: str, bound: str | None = None) -> None:
    ledger.settle(settled(ledger.reserve(a_call(), [candidate(bound or amount)]), amount))


def test_states_at_their_exact_thresholds(database_url: str) -> None:
    table = [
        ("0", "100", "CLOSED"),
        ("79.999999999999", "100", "CLOSED"),
        ("80", "100", "HALF_OPEN"),
        ("94.999999999999", "100", "HALF_OPEN"),
        ("95", "100", "OPEN"),
        ("1000", "100", "OPEN"),
        ("0", "0", "OPEN"),
        # In floats, 0.8 x 1.1 is 0.8800000000000001.
        ("0.8799999999999999", "1.1", "CLOSED"),
        ("0.88", "1.1", "HALF_OPEN"),
        ("0.000000285", "0.0000003", "OPEN"),
    ]
    with psycopg.connect(database_url) as connection:
        for spent, limit, state in table:
            settings = Jsonb({"alert": "0.8", "open": "0.95"})
            row = connection.execute(
                "SELECT ledger_state(%s, %s, %s)", (Decimal(spent), Decimal(limit), settings)
            ).fetchone()
            assert row == (state,), f"{spent} of {limit}"


def test_other_thresholds(open_ledger: OpenLedger, events: Events) -> None:
    ledger = open_ledger(AI_BUDGET_ALERT_THRESHOLD="0.25", AI_CIRCUIT_BREAKER_THRESHOLD="0.5")
    spend(ledger, "0.25")
    assert ledger.budget()[0].state == "HALF_OPEN"
    spend(ledger, "0.25")
    assert ledger.budget()[0].state == "OPEN"
    assert [name for name, _ in events.logged] == ["circuit_breaker.alert", "circuit_breaker.opened"]


@pytest.mark.usefixtures("patience")
def test_32_settlements_that_cross_at_once_tell_it_once(open_ledger: OpenLedger, books: Books, events: Events) -> None:
    """From 0.78 by 0.006 each: the fourth crosses 0.8, the twenty-ninth 0.95, whichever these are."""
    ledgers = [open_ledger() for _ in range(32)]
    spend(ledgers[0], "0.78")
    reservations = [ledger.reserve(a_call(), [candidate("0.006")]) for ledger in ledgers]

    with ThreadPoolExecutor(len(ledgers)) as pool:
        booked = list(
            pool.map(lambda i: ledgers[i].settle(settled(reservations[i], reservations[i].candidate.bound)), range(32))
        )

    assert events.count() == {"circuit_breaker.alert": 1, "circuit_breaker.opened": 1}
    assert books.threshold_events() == ["HALF_OPEN", "OPEN"]
    [alert], [opened] = events.of("circuit_breaker.alert"), events.of("circuit_breaker.opened")
    assert (alert["usage_ratio"], opened["usage_ratio"]) == (Decimal("0.804"), Decimal("0.954"))
    states = sorted(b.budget.state for b in booked if b.budget)
    assert states == ["CLOSED"] * 3 + ["HALF_OPEN"] * 25 + ["OPEN"] * 4
    assert books.only_window(limit=Decimal(1)).spent == Decimal("0.972")


def test_one_settlement_that_crosses_both_tells_both(open_ledger: OpenLedger, books: Books, events: Events) -> None:
    spend(open_ledger(), "0.96")
    assert [name for name, _ in events.logged] == ["circuit_breaker.alert", "circuit_breaker.opened"]
    recorded = books.rows("SELECT state, spent, limit_usd FROM budget_threshold_event ORDER BY state")
    assert recorded == [
        {"state": "HALF_OPEN", "spent": Decimal("0.96"), "limit_usd": Decimal(1)},
        {"state": "OPEN", "spent": Decimal("0.96"), "limit_usd": Decimal(1)},
    ]


def test_a_settlement_that_is_repeated_tells_nothing_again(open_ledger: OpenLedger, events: Events) -> None:
    ledger = open_ledger()
    settlement = settled(ledger.reserve(a_call(), [candidate("0.96")]), "0.96")
    for _ in range(3):
        ledger.settle(settlement)
    assert [name for name, _ in events.logged] == ["circuit_breaker.alert", "circuit_breaker.opened"]


def test_what_is_reserved_crosses_nothing(open_ledger: OpenLedger, events: Events) -> None:
    ledger = open_ledger()
    held = ledger.reserve(a_call(), [candidate("0.99")])
    assert ledger.budget()[0].state == "CLOSED"
    ledger.settle(released(held))
    assert events.logged == []


def test_a_failover_and_a_bound_cross_like_a_settlement(open_ledger: OpenLedger, events: Events) -> None:
    ledger = open_ledger()
    first = ledger.reserve(a_call(), [candidate("0.85")])
    second = ledger.reserve(a_call(), [candidate("0.1")], attempt=2, after=at_bound(first))
    assert [name for name, _ in events.logged] == ["circuit_breaker.alert"]
    ledger.settle(at_bound(second))
    assert [name for name, _ in events.logged] == ["circuit_breaker.alert", "circuit_breaker.opened"]


def test_a_raised_limit_lowers_the_state_and_crossing_again_is_a_new_event(
    open_ledger: OpenLedger, books: Books, events: Events
) -> None:
    spend(open_ledger(), "0.96")
    assert events.count() == {"circuit_breaker.alert": 1, "circuit_breaker.opened": 1}
    events.logged.clear()

    raised = open_ledger(AI_MONTHLY_BUDGET_USD="2")
    spend(raised, "0.5", "1.04")
    assert raised.budget()[0].state == "CLOSED"
    assert events.logged == []

    spend(raised, "0.14")
    assert raised.budget()[0].state == "HALF_OPEN"
    assert events.count() == {"circuit_breaker.alert": 1}
    spend(raised, "0.3")
    assert raised.budget()[0].state == "OPEN"
    assert events.count() == {"circuit_breaker.alert": 1, "circuit_breaker.opened": 1}
    assert books.threshold_events() == ["HALF_OPEN", "OPEN"] * 2


def test_a_lowered_limit_is_told_by_the_first_who_sees_it(open_ledger: OpenLedger, events: Events) -> None:
    spend(open_ledger(), "0.5")
    lowered = open_ledger(AI_MONTHLY_BUDGET_USD="0.5")
    for _ in range(2):
        with pytest.raises(BudgetExceededError):
            lowered.reserve(a_call(), [candidate("0.01")])
    assert events.count() == {
        "circuit_breaker.alert": 1,
        "circuit_breaker.opened": 1,
        "circuit_breaker.blocked": 2,
    }


def test_a_new_window_can_cross_again(open_ledger: OpenLedger, events: Events, books: Books) -> None:
    ledger = open_ledger()
    for _ in range(2):
        spend(ledger, "0.96")
        ledger.reset(actor="admin", source_ip=None, request_id="reset-1", reason=None)
    assert events.count()["circuit_breaker.opened"] == 2
    assert len(books.rows("SELECT DISTINCT window_id FROM budget_threshold_event")) == 2
