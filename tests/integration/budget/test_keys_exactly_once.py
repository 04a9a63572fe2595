"""What is sent twice under a key is booked once in both its budgets, counted once, and told to who hears it first."""

from collections.abc import Iterator
from decimal import Decimal

import pytest

from fusewire.budget.breaker import KeyBudget
from fusewire.budget.ledger import Ledger
from fusewire.budget.reservation import Downgrade
from fusewire.errors import LedgerUnavailableError
from tests.integration.budget.books import ZERO, Books, Events, a_call, at_bound, candidate, settled
from tests.integration.budget.conftest import OpenLedger
from tests.integration.budget.keys import Keys
from tests.integration.budget.wire import Break, Wire


@pytest.fixture
def wire(database_url: str) -> Iterator[Wire]:
    made = Wire(database_url)
    yield made
    made.close()


@pytest.fixture
def key(keys: Keys) -> str:
    return keys.make(budget="0.5", requests=10, tokens=1000)


@pytest.fixture
def ledger(open_ledger: OpenLedger, wire: Wire) -> Ledger:
    """Over the wire, and connected."""
    made = open_ledger(wire.url)
    made.budget()
    return made


def left(key: KeyBudget | None) -> tuple[int | None, int | None]:
    assert key is not None
    return key.rate_limit.requests_left, key.rate_limit.tokens_left


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_reserve_counts_once_in_the_minute_and_in_both_windows(
    ledger: Ledger, wire: Wire, books: Books, key: str, when: Break
) -> None:
    wire.break_at("ledger_reserve", when=when)
    made = ledger.reserve(a_call(key_id=key), [candidate("0.3", tokens=300)])
    assert wire.all_broken
    assert left(made.key) == (9, 700)
    assert [w.reserved for w in books.check()] == [Decimal("0.3")] * 2

    wire.break_at("ledger_settle", when=when)
    booked = ledger.settle(settled(made, "0.1"))

    assert left(booked.key) == (9, 970)
    assert [(w.spent, w.reserved, w.calls) for w in books.check()] == [(Decimal("0.1"), ZERO, 1)] * 2


def test_a_statement_that_arrives_after_its_own_copy_counts_once(
    ledger: Ledger, wire: Wire, books: Books, key: str
) -> None:
    wire.break_at("ledger_reserve", "ledger_settle", when="before")
    made = ledger.reserve(a_call(key_id=key), [candidate("0.3", tokens=300)])
    ledger.settle(settled(made, "0.1"))
    wire.deliver_late()
    again = ledger.reserve(a_call(key_id=key), [candidate("0")])
    assert left(again.key) == (8, 970)
    assert [(w.spent, w.reserved) for w in books.check()] == [(Decimal("0.1"), ZERO)] * 2


@pytest.mark.parametrize("when", ["before", "after"])
def test_both_budgets_threshold_events_are_told_though_the_first_answer_was_lost(
    ledger: Ledger, wire: Wire, books: Books, keys: Keys, events: Events, when: Break
) -> None:
    key = keys.make("tight", budget="0.9")
    made = ledger.reserve(a_call(key_id=key), [candidate("0.9")])
    wire.break_at("ledger_settle", when=when)
    ledger.settle(settled(made, "0.9"))
    response = [(name, fields.get("key_id")) for name, fields in events.logged]
    assert sorted(response, key=str) == [
        ("circuit_breaker.alert", "tight"),
        ("circuit_breaker.alert", None),
        ("circuit_breaker.opened", "tight"),
    ]
    assert len(books.threshold_events()) == 3


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_failover_ends_and_reserves_once_and_counts_no_second_request(
    ledger: Ledger, wire: Wire, books: Books, key: str, when: Break
) -> None:
    first = ledger.reserve(a_call(key_id=key), [candidate("0.2", tokens=200)])
    wire.break_at("ledger_reserve", when=when)
    second = ledger.reserve(a_call(key_id=key), [candidate("0.1", tokens=100)], attempt=2, after=at_bound(first))
    assert left(second.key) == (9, 700)
    assert [(w.spent, w.reserved) for w in books.check()] == [(Decimal("0.2"), Decimal("0.1"))] * 2


def test_a_resent_reserve_knows_that_it_was_downgraded(ledger: Ledger, wire: Wire, books: Books) -> None:
    ledger.settle(settled(ledger.reserve(a_call(), [candidate("0.8")]), "0.8"))
    cheap = Downgrade("cost_effective", [candidate("0.01", "openai", "small"), candidate("0.01")])
    # The same model is in both lists: what tells them apart is the tier that was booked.
    for chosen in ("openai/small", "openai/gpt"):
        wire.break_at("ledger_reserve", when="after")
        made = ledger.reserve(a_call(), [candidate("0.1")], downgrade=cheap)
        assert made.downgraded and made.call.tier == "cost_effective"
        assert f"{made.candidate.provider}/{made.candidate.model}" == chosen
        assert books.entry(made.id)["tier"] == "cost_effective"
        cheap = Downgrade("cost_effective", cheap.candidates[1:])


def test_a_lost_reserve_that_is_given_up_leaves_both_windows_free(
    ledger: Ledger, wire: Wire, books: Books, key: str
) -> None:
    wire.break_at("ledger_reserve", "ledger_reserve", when="after")
    with pytest.raises(LedgerUnavailableError):
        ledger.reserve(a_call(key_id=key), [candidate("0.3", tokens=300)])
    made = ledger.reserve(a_call(key_id=key), [candidate("0.1", tokens=100)])
    assert [(w.spent, w.reserved) for w in books.check()] == [(ZERO, Decimal("0.1"))] * 2
    # The request was made, though nothing came of it; its tokens are free again.
    assert left(made.key) == (8, 900)


def test_settings_are_told_once_though_the_answer_was_lost(open_ledger: OpenLedger, wire: Wire, books: Books) -> None:
    open_ledger().reserve(a_call(), [candidate("0.1")])
    changed = open_ledger(wire.url, AI_MONTHLY_BUDGET_USD="2")
    changed.budget()
    wire.break_at("ledger_reserve", when="after")
    changed.reserve(a_call(), [candidate("0.1")])
    changed.reserve(a_call(), [candidate("0.1")])
    [row] = books.rows("SELECT action FROM audit")
    assert row["action"] == "settings.changed"
