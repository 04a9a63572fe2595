"""A key's requests and tokens a minute: counted in the database, at their bounds until the truth is known."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from fusewire.budget.ledger import Ledger
from fusewire.budget.reservation import Reservation, Settlement
from fusewire.errors import BudgetExceededError, InvalidRequestError, RateLimitedError
from fusewire.rate_limit import RateLimitState
from tests.integration.budget.books import Books, Clock, a_call, at_bound, candidate, released, settled
from tests.integration.budget.conftest import OpenLedger
from tests.integration.budget.keys import Keys

TTL_SECONDS = 30


@pytest.fixture
def ledger(clock: Clock, open_ledger: OpenLedger) -> Ledger:
    return open_ledger(AI_RESERVATION_TTL_SECONDS=str(TTL_SECONDS))


def reserve(
    ledger: Ledger, key_id: str, *, tokens: int = 0, bound: str = "0.001", after: Settlement | None = None
) -> Reservation:
    attempt = 1 if after is None else 2
    return ledger.reserve(a_call(key_id=key_id), [candidate(bound, tokens=tokens)], attempt=attempt, after=after)


def minute(made: Reservation) -> RateLimitState:
    assert made.key is not None
    return made.key.rate_limit


def refused(
    ledger: Ledger, key_id: str, *, tokens: int = 0, after: Settlement | None = None
) -> tuple[str, float | None]:
    with pytest.raises(RateLimitedError) as error:
        reserve(ledger, key_id, tokens=tokens, after=after)
    return error.value.limit, error.value.retry_after


def test_requests_a_minute_from_the_first_call_on(ledger: Ledger, keys: Keys, clock: Clock, books: Books) -> None:
    key = keys.make(requests=2)
    clock.advance(seconds=7)
    assert minute(reserve(ledger, key)) == RateLimitState(2, 1, None, None, 60)
    clock.advance(seconds=20.5)
    assert minute(reserve(ledger, key)) == RateLimitState(2, 0, None, None, 40)
    assert refused(ledger, key) == ("requests", 40)
    clock.advance(seconds=39.4)
    assert refused(ledger, key) == ("requests", 1)
    clock.advance(seconds=0.1)
    assert minute(reserve(ledger, key)) == RateLimitState(2, 1, None, None, 60)
    assert len(books.rows("SELECT FROM ledger")) == 3, "what was refused reserved nothing"


def test_a_call_counts_once_however_many_attempts_it_takes(ledger: Ledger, keys: Keys) -> None:
    key = keys.make(requests=2, tokens=1000)
    first = reserve(ledger, key, tokens=100)
    second = reserve(ledger, key, tokens=100, after=released(first))
    third = reserve(ledger, key, tokens=100, after=at_bound(second))
    assert minute(third) == RateLimitState(2, 1, 1000, 800, 60)
    reserve(ledger, key)
    fourth = reserve(ledger, key, tokens=800, after=settled(third, "0.001"))  # no request more, though none is left
    assert minute(fourth).requests_left == 0
    # 30 tokens were used, 100 stood at their bound, 800 are reserved.
    assert minute(fourth).tokens_left == 70
    assert refused(ledger, key, tokens=71, after=at_bound(fourth)) == ("tokens", 60)


def test_tokens_are_held_at_their_bound_and_given_back(ledger: Ledger, keys: Keys) -> None:
    key = keys.make(tokens=1000)
    for end, used in ((settled, 30), (at_bound, 400), (released, 0)):
        left = minute(reserve(ledger, key)).tokens_left
        assert left is not None
        made = reserve(ledger, key, tokens=400)
        assert minute(made).tokens_left == left - 400
        booked = ledger.settle(end(made, "0.001") if end is settled else end(made))
        assert booked.key is not None
        assert booked.key.rate_limit.tokens_left == left - used
    assert refused(ledger, key, tokens=571) == ("tokens", 60)
    reserve(ledger, key, tokens=570)


def test_a_vendor_that_counts_more_than_the_bound_uses_up_more_of_the_minute(ledger: Ledger, keys: Keys) -> None:
    key = keys.make(tokens=25)
    ledger.settle(settled(reserve(ledger, key, tokens=20), "0.001"))
    assert refused(ledger, key, tokens=1) == ("tokens", 60)


def test_the_end_of_a_call_of_an_earlier_minute_gives_nothing_back(ledger: Ledger, keys: Keys, clock: Clock) -> None:
    key = keys.make(tokens=1000)
    old = reserve(ledger, key, tokens=900)
    clock.advance(seconds=TTL_SECONDS - 1)
    younger = reserve(ledger, key, tokens=100)
    clock.advance(seconds=31)
    assert minute(reserve(ledger, key, tokens=10)).tokens_left == 990
    for made in (old, younger):
        booked = ledger.settle(released(made))
        assert booked.key is not None and booked.key.rate_limit.tokens_left == 990


def test_an_expired_call_keeps_its_tokens_until_the_truth_comes(ledger: Ledger, keys: Keys, clock: Clock) -> None:
    key = keys.make(tokens=1000)
    late = reserve(ledger, key, tokens=900)
    clock.advance(seconds=TTL_SECONDS)
    ledger.budget()
    assert refused(ledger, key, tokens=101) == ("tokens", 30)
    booked = ledger.settle(settled(late, "0.001"))
    assert booked.key is not None and booked.key.rate_limit.tokens_left == 970
    # A second word on it changes nothing.
    booked = ledger.settle(released(late))
    assert booked.key is not None and booked.key.rate_limit.tokens_left == 970


def test_a_reset_of_the_keys_window_begins_no_new_minute(ledger: Ledger, keys: Keys, clock: Clock) -> None:
    key = keys.make(requests=2, tokens=1000)
    flying = reserve(ledger, key, tokens=600)
    ledger.reset(actor="admin", source_ip=None, request_id="reset", reason=None, budget=key)
    clock.advance(seconds=10)
    assert minute(reserve(ledger, key)) == RateLimitState(2, 0, 1000, 400, 50)
    # What flew over the reset ends in the closed window: the open one's minute keeps it at its bound.
    ledger.settle(released(flying))
    keys.change(key, requests_per_minute=None)
    assert refused(ledger, key, tokens=401) == ("tokens", 50)


def test_what_no_minute_could_hold_is_the_callers_mistake(ledger: Ledger, keys: Keys) -> None:
    key = keys.make(tokens=1000)
    with pytest.raises(InvalidRequestError) as error:
        reserve(ledger, key, tokens=1001)
    assert (error.value.param, error.value.status) == ("max_tokens", 400)
    assert "1,001" in error.value.message and "1,000" in error.value.message
    reserve(ledger, key, tokens=1000)


def test_limits_that_change_count_at_once(ledger: Ledger, keys: Keys) -> None:
    key = keys.make()
    assert minute(reserve(ledger, key, tokens=500)) == RateLimitState(None, None, None, None, 60)
    keys.change(key, requests_per_minute=1, tokens_per_minute=400)  # what was used before counts
    assert refused(ledger, key) == ("requests", 60)
    keys.change(key, requests_per_minute=2)
    assert refused(ledger, key, tokens=1) == ("tokens", 60)
    keys.change(key, tokens_per_minute=501)
    assert minute(reserve(ledger, key, tokens=1)) == RateLimitState(2, 0, 501, 0, 60)
    keys.change(key, requests_per_minute=None, tokens_per_minute=None)
    reserve(ledger, key, tokens=10**9)


def test_a_used_up_budget_is_told_before_a_used_up_minute(ledger: Ledger, keys: Keys) -> None:
    key = keys.make(budget="0.001", requests=1)
    ledger.settle(settled(reserve(ledger, key), "0.001"))
    with pytest.raises(BudgetExceededError):
        reserve(ledger, key)
    # A free call has no budget in its way; the minute is in everyone's.
    with pytest.raises(RateLimitedError):
        reserve(ledger, key, bound="0")


@pytest.mark.usefixtures("patience")
def test_32_at_once_share_one_minute(open_ledger: OpenLedger, keys: Keys, books: Books) -> None:
    key = keys.make(requests=20, tokens=1400)
    ledgers = [open_ledger() for _ in range(32)]

    def call(ledger: Ledger) -> str:
        try:
            reserve(ledger, key, tokens=100)
        except RateLimitedError as error:
            return error.limit
        return "reserved"

    began = datetime.now(UTC)
    with ThreadPoolExecutor(len(ledgers)) as pool:
        result = list(pool.map(call, ledgers))
    assert (datetime.now(UTC) - began).total_seconds() < 60
    assert (result.count("reserved"), result.count("tokens")) == (14, 18)
    assert {w.reserved for w in books.check()} == {Decimal("0.014")}
