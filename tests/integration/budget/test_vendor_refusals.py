"""What a vendor refuses: the part of the bound that is booked for a prompt, and a key that repeats an unknown one."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal

import pytest

from fusewire.budget.ledger import Ledger
from fusewire.budget.reservation import Downgrade, Refusal, Reservation, Settlement
from fusewire.errors import RepeatedRefusalError
from tests.integration.budget.books import Books, Clock, a_call, at_bound, candidate, released, settled
from tests.integration.budget.conftest import OpenLedger
from tests.integration.budget.keys import Keys

REFUSAL = Refusal(threshold=3, seconds=60)
SLOTS = 4


@pytest.fixture(params=[1, SLOTS], ids=["on the row", "in slots"])
def ledger(request: pytest.FixtureRequest, clock: Clock, open_ledger: OpenLedger) -> Ledger:
    made = open_ledger(AI_MONTHLY_BUDGET_USD="100", AI_LEDGER_SLOTS=str(request.param))
    for name in ("first", "second"):  # introduced and allocated: its next calls go to a slot
        made.settle(released(made.reserve(a_call(name), [candidate("0.001")])))
    return made


def reserved(
    ledger: Ledger, key: str | None = "key-a", model: str | None = None, provider: str | None = None
) -> Reservation:
    return ledger.reserve(a_call(key_id=key), [candidate("0.01", provider or "openai", model or "gpt")])


def refused(reservation: Reservation) -> Settlement:
    return Settlement(reservation, "bound", "unknown_refusal", refusal=REFUSAL)


def refuse(ledger: Ledger, times: int, **asked: str | None) -> None:
    for _ in range(times):
        ledger.settle(refused(reserved(ledger, **asked)))


def seconds_left(ledger: Ledger, **asked: str | None) -> float | None:
    """Until the model may be asked again; None where it may be asked now."""
    try:
        ledger.settle(released(reserved(ledger, **asked)))
    except RepeatedRefusalError as error:
        return error.retry_after
    return None


# --- the part of the bound ---


@pytest.mark.parametrize(("cost", "booked"), [(None, "0.8"), ("0.3", "0.3"), ("0", "0")])
def test_at_a_part_of_the_bound(ledger: Ledger, books: Books, keys: Keys, cost: str | None, booked: str) -> None:
    keys.make(budget="5", tokens=1000)
    reservation = ledger.reserve(a_call(key_id="key-a"), [candidate("0.8", tokens=500)])
    ledger.settle(at_bound(reservation, cost))
    entry = books.entry(reservation.id)
    assert (entry["status"], entry["cost"], entry["cost_basis"]) == ("settled", Decimal(booked), "bound")
    assert entry["bound"] == Decimal("0.8")
    spent = {totals.budget: (totals.spent, totals.reserved) for totals in books.check()}
    assert spent["key-a"] == (Decimal(booked), Decimal(0))
    assert ledger.budget()[0].window.spent == Decimal(booked)


def test_an_expired_reservation_is_corrected_to_the_part(ledger: Ledger, clock: Clock, books: Books) -> None:
    reservation = ledger.reserve(a_call(), [candidate("0.8")])
    clock.advance(seconds=86_400)
    ledger.budget()
    assert books.entry(reservation.id)["cost"] == Decimal("0.8")
    ledger.settle(at_bound(reservation, "0.3"))
    assert books.entry(reservation.id)["cost"] == Decimal("0.3")
    assert ledger.budget()[0].window.spent == Decimal("0.3")
    books.check()


# --- the refusals that a key repeats ---


def test_the_third_in_a_row_keeps_the_key_away(ledger: Ledger, clock: Clock, books: Books) -> None:
    refuse(ledger, 2)
    assert seconds_left(ledger) is None
    refuse(ledger, 1)
    assert seconds_left(ledger) == 60
    before = len(books.rows("SELECT FROM ledger"))
    clock.advance(seconds=59.5)
    with pytest.raises(RepeatedRefusalError) as caught:
        reserved(ledger)
    assert "refused this key's last 3 requests to 'gpt'" in caught.value.message
    assert "may be asked again in 1 s" in caught.value.message
    assert len(books.rows("SELECT FROM ledger")) == before, "it must not be reserved"
    assert ledger.budget()[0].window.reserved == 0
    clock.advance(seconds=0.5)
    assert seconds_left(ledger) is None
    refuse(ledger, 1)
    assert seconds_left(ledger) == 60, "one more is enough from then on"
    books.check()


def test_one_key_model_or_provider_is_no_others(ledger: Ledger) -> None:
    refuse(ledger, 3)
    assert seconds_left(ledger) is not None
    assert seconds_left(ledger, key="key-b") is None
    assert seconds_left(ledger, key=None) is None
    assert seconds_left(ledger, model="gpt-mini") is None
    assert seconds_left(ledger, provider="azure") is None
    refuse(ledger, 3, key=None)
    assert seconds_left(ledger, key=None) is not None
    assert seconds_left(ledger, key="key-b") is None


def test_another_environment_knows_of_it(ledger: Ledger, open_ledger: OpenLedger) -> None:
    refuse(ledger, 3)
    assert seconds_left(open_ledger(AI_MONTHLY_BUDGET_USD="100")) is not None


def test_an_answer_clears_it_and_a_failure_does_not(ledger: Ledger, books: Books) -> None:
    refuse(ledger, 2)
    ledger.settle(settled(reserved(ledger), "0.001"))
    assert books.rows("SELECT FROM vendor_refusal") == []
    refuse(ledger, 2)
    assert seconds_left(ledger) is None
    ledger.settle(at_bound(reserved(ledger)))
    ledger.settle(settled(reserved(ledger, key="key-b"), "0.001"))
    refuse(ledger, 1)
    assert seconds_left(ledger) is not None


def test_an_answer_to_a_call_that_was_under_way_ends_the_pause(ledger: Ledger) -> None:
    under_way = reserved(ledger)
    refuse(ledger, 3)
    assert seconds_left(ledger) is not None
    ledger.settle(settled(under_way, "0.001"))
    assert seconds_left(ledger) is None


def test_refusals_that_are_ten_minutes_apart_are_not_repeated(ledger: Ledger, clock: Clock, books: Books) -> None:
    refuse(ledger, 2)
    refuse(ledger, 1, model="another")
    clock.advance(seconds=601)
    refuse(ledger, 1)
    assert seconds_left(ledger) is None
    assert books.rows("SELECT model, refusals FROM vendor_refusal") == [{"model": "gpt", "refusals": 1}]


def test_a_made_up_name_each_time_leaves_few_rows(ledger: Ledger, clock: Clock, books: Books) -> None:
    for number in range(60):
        clock.advance(seconds=60)
        refuse(ledger, 1, model=f"model-{number}")
    [row] = books.rows("SELECT count(*) FROM vendor_refusal")
    assert row["count"] <= 12


def test_what_costs_nothing_is_never_kept_away(ledger: Ledger) -> None:
    for _ in range(5):
        ledger.settle(refused(ledger.reserve(a_call(), [candidate("0", "ollama", "llama")])))
    ledger.settle(released(ledger.reserve(a_call(), [candidate("0", "ollama", "llama")])))


def test_the_next_candidate_is_not_paid_for_the_same(ledger: Ledger) -> None:
    refuse(ledger, 3)
    both = [candidate("0.01"), candidate("0.01", "azure")]
    with pytest.raises(RepeatedRefusalError):
        ledger.reserve(a_call(key_id="key-a"), both)
    with pytest.raises(RepeatedRefusalError):
        ledger.reserve(a_call(key_id="key-a"), both, downgrade=Downgrade("cost_effective", both))
    # After a failure of the one before, which is ended all the same.
    first = reserved(ledger, provider="aws")
    with pytest.raises(RepeatedRefusalError):
        ledger.reserve(a_call(key_id="key-a"), both, attempt=2, after=released(first))


def test_an_operators_probe_asks_all_the_same(ledger: Ledger) -> None:
    refuse(ledger, 3)
    call = replace(a_call(key_id="key-a"), operation="probe")
    ledger.settle(released(ledger.reserve(call, [candidate("0.01")])))


def test_a_settlement_that_is_sent_twice_counts_once(ledger: Ledger, books: Books) -> None:
    ended = refused(reserved(ledger))
    for _ in range(4):
        ledger.settle(ended)
    assert books.rows("SELECT refusals, until FROM vendor_refusal") == [{"refusals": 1, "until": None}]


@pytest.mark.usefixtures("patience")
@pytest.mark.parametrize("slots", [1, SLOTS])
def test_many_at_once_are_each_counted_and_booked(
    open_ledger: OpenLedger, books: Books, keys: Keys, slots: int
) -> None:
    """Refusals and answers of several keys and models, from eight environments: nobody deadlocks, nothing is lost."""
    keys.make("key-a")
    keys.make("key-b")
    ledgers = [open_ledger(AI_MONTHLY_BUDGET_USD="100", AI_LEDGER_SLOTS=str(slots)) for _ in range(8)]
    held = [
        (ledger, reserved(ledger, key, model))
        for ledger in ledgers
        for key in ("key-a", "key-b", None)
        for model in ("gpt", "gpt-mini")
    ]

    def end(ledger: Ledger, reservations: list[Reservation]) -> None:
        for reservation in reservations:
            ledger.settle(refused(reservation))

    with ThreadPoolExecutor(len(ledgers)) as pool:
        of_each = [(each, [r for ledger, r in held if ledger is each]) for each in ledgers]
        list(pool.map(lambda pair: end(*pair), of_each))
    rows = books.rows("SELECT refusals, until IS NOT NULL AS paused FROM vendor_refusal")
    assert rows == [{"refusals": 8, "paused": True}] * 6
    spent = {totals.budget: totals.spent for totals in books.check(limit=Decimal(100))}
    assert ledgers[0].budget()[0].window.spent == Decimal("0.48")
    assert (spent["key-a"], spent["key-b"]) == (Decimal("0.16"), Decimal("0.16"))
