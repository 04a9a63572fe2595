"""From the alert threshold on a cheaper tier takes over, where the policy says so: decided in the statement."""

from decimal import Decimal

import pytest

from fusewire.budget.ledger import Ledger
from fusewire.budget.reservation import AllCoolingError, Downgrade, HealthUpdate, Reservation, Settlement
from fusewire.errors import BudgetExceededError, BudgetReservedError
from tests.integration.budget.books import Books, a_call, at_bound, candidate, released, settled
from tests.integration.budget.conftest import OpenLedger
from tests.integration.budget.keys import Keys

SOTA = [candidate("0.1", "azure", "big"), candidate("0.1", "openai", "big")]
CHEAP = Downgrade("cost_effective", [candidate("0.01", "azure", "small"), candidate("0.01", "ollama", "small")])
COLD = 600


@pytest.fixture
def ledger(open_ledger: OpenLedger) -> Ledger:
    return open_ledger()


def ask(ledger: Ledger, key_id: str | None = None, after: Settlement | None = None) -> Reservation:
    attempt = 1 if after is None else 2
    return ledger.reserve(a_call(key_id=key_id), SOTA, attempt=attempt, after=after, downgrade=CHEAP)


def spend(ledger: Ledger, amount: str, key_id: str | None = None) -> None:
    made = ledger.reserve(a_call(key_id=key_id), [candidate(amount, "vllm")])
    ledger.settle(settled(made, amount))


def cool(ledger: Ledger, provider: str) -> None:
    made = ledger.reserve(a_call(), [candidate("0", provider)])
    ledger.settle(released(made, health_update=HealthUpdate(provider, "now", "rate_limited", "HTTP 429", seconds=COLD)))


def served(made: Reservation) -> tuple[bool, str | None, str, str]:
    return made.downgraded, made.call.tier, made.candidate.provider, made.candidate.model


def test_below_the_threshold_nothing_changes_and_from_it_on_the_other_tier_serves(ledger: Ledger, books: Books) -> None:
    spend(ledger, "0.799999")
    made = ask(ledger)
    assert served(made) == (False, "sota", "azure", "big")
    ledger.settle(released(made))
    spend(ledger, "0.000001")

    made = ask(ledger)

    assert served(made) == (True, "cost_effective", "azure", "small")
    entry = books.entry(made.id)
    assert (entry["tier"], entry["model"], entry["bound"]) == ("cost_effective", "small", Decimal("0.01"))
    ledger.settle(settled(made, "0.01"))
    [row] = books.rows("SELECT cost FROM usage_rollup WHERE tier = 'cost_effective'")
    assert row["cost"] == Decimal("0.01")


def test_without_the_policy_the_tier_stays(ledger: Ledger) -> None:
    spend(ledger, "0.8")
    assert served(ledger.reserve(a_call(), SOTA)) == (False, "sota", "azure", "big")


def test_a_keys_own_threshold_does_it_too(ledger: Ledger, keys: Keys) -> None:
    key, other = keys.make("key-a", budget="0.5"), keys.make("key-b")
    spend(ledger, "0.4", key)
    assert served(ask(ledger, other)) == (False, "sota", "azure", "big")
    assert served(ask(ledger)) == (False, "sota", "azure", "big")
    assert served(ask(ledger, key)) == (True, "cost_effective", "azure", "small")
    keys.change(key, limit_usd="10")
    assert served(ask(ledger, key)) == (False, "sota", "azure", "big")


def test_the_first_attempts_end_may_be_what_downgrades_the_second(ledger: Ledger) -> None:
    spend(ledger, "0.7")
    first = ask(ledger)
    assert served(ask(ledger, after=at_bound(first))) == (True, "cost_effective", "azure", "small")


def test_an_open_budget_refuses_the_cheap_tier_as_well(ledger: Ledger) -> None:
    spend(ledger, "0.95")
    with pytest.raises(BudgetExceededError):
        ask(ledger)


def test_the_cheap_bound_is_what_has_to_fit(ledger: Ledger, books: Books) -> None:
    spend(ledger, "0.8")
    held = ledger.reserve(a_call(), [candidate("0.185", "vllm")])
    assert ask(ledger).downgraded  # sota's 0.1 wouldn't fit
    with pytest.raises(BudgetReservedError):
        ask(ledger)
    ledger.settle(released(held))
    books.check(limit=Decimal(1))


def test_cooldowns_are_looked_up_among_those_who_serve(ledger: Ledger) -> None:
    cool(ledger, "azure")
    spend(ledger, "0.8")
    made = ask(ledger)
    assert served(made) == (True, "cost_effective", "ollama", "small")
    assert [c.candidate for c in made.skipped] == [CHEAP.candidates[0]]
    cool(ledger, "ollama")
    with pytest.raises(AllCoolingError) as error:
        ask(ledger)
    assert [c.candidate for c in error.value.cooling] == list(CHEAP.candidates)
