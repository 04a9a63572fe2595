"""The committed calls are the trace's, and what a replay makes of them keeps their sizes."""

import hashlib
from decimal import Decimal
from itertools import pairwise

from benchmarks.admission.trace import (
    BYTES_PER_TOKEN,
    MAX_IDLE_SECONDS,
    Call,
    number_in,
    read_trace,
    until_spent,
    with_longer_answers,
    without_idle_time,
)


def test_the_committed_calls_are_the_first_of_the_trace() -> None:
    calls = read_trace()
    assert len(calls) == 4000
    assert (calls[0].at, calls[0].input_tokens, calls[0].output_tokens) == (0.0, 4808, 10)
    # The first refusal of a budget of 25 USD is within them: 95 % of it are 23.75.
    assert Decimal("23.75") < sum(call.usd(None) for call in calls) == Decimal("26.158905")
    sizes = " ".join(f"{call.input_tokens}/{call.output_tokens}" for call in calls)
    assert hashlib.sha256(sizes.encode()).hexdigest().startswith(_SIZES)


_SIZES = "61949444db4fd92a"


def test_a_call_costs_and_takes_what_its_tokens_do_under_its_cap() -> None:
    call = Call(1, 0.0, 5000, 100)
    assert (call.usd(None), call.usd(40)) == (Decimal("0.0165"), Decimal("0.0156"))
    assert (call.seconds(None), call.seconds(50)) == (3.0, 2.0)
    assert Call(1, 0.0, 5000, 100, speed=10).seconds(None) == 1.2


def test_a_prompt_has_its_number_and_as_many_bytes_as_its_tokens_usually_have() -> None:
    for call in (Call(7, 0.0, 6, 1), Call(3999, 0.0, 7437, 1)):
        assert number_in(call.prompt()) == call.number
        assert len(call.prompt().encode()) == BYTES_PER_TOKEN * call.input_tokens
    # Never below what the vendor bills: a bound by bytes must hold.
    assert all(len(call.prompt()) >= call.input_tokens for call in read_trace())


def test_time_in_which_nothing_happens_is_shortened_and_no_other() -> None:
    calls = [Call(0, 3.0, 0, 50), Call(1, 3.5, 0, 500), Call(2, 15.0, 0, 50), Call(3, 100.0, 0, 50)]
    # The second call ends at 13.5: the third comes soon after it, the last long after that one's end at 16.
    assert [call.at for call in without_idle_time(calls)] == [0.0, 0.5, 12.0, 13.0 + MAX_IDLE_SECONDS]
    moved = without_idle_time(read_trace())
    before, after = read_trace(), moved
    gaps = [(b.at - a.at, d.at - c.at) for (a, b), (c, d) in zip(pairwise(before), pairwise(after), strict=True)]
    assert all(new <= old + 1e-6 for old, new in gaps)
    assert all(abs(new - old) < 1e-6 for old, new in gaps if old <= MAX_IDLE_SECONDS)


def test_longer_answers_are_written_as_fast_as_the_others_end() -> None:
    calls = with_longer_answers([Call(0, 0.0, 0, 50), Call(1, 0.0, 0, 50)], since=1, factor=10)
    assert [call.output_tokens for call in calls] == [50, 500]
    assert [call.seconds(None) for call in calls] == [1.0, 1.0]


def test_calls_are_offered_until_they_cost_so_much() -> None:
    calls = [Call(number, 0.0, 0, 1_000_000) for number in range(4)]
    assert len(until_spent(calls, Decimal(30))) == 2
    assert len(until_spent(calls, Decimal(31))) == 3
    assert len(until_spent(calls, Decimal(1000))) == 4
