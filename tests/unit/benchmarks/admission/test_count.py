"""What is counted: the oracle's refusals are right, all others needless; a cut is below the caller's cap."""

from decimal import Decimal

from benchmarks.admission.count import Count, Refusal, count, needless_refusals
from benchmarks.admission.replay import Outcome
from benchmarks.admission.trace import Call
from benchmarks.admission.vendor import Bill


def _call(number: int, usd: int, at: float = 0.0) -> Call:
    """A call that costs whole USD: 3 USD are a million input tokens."""
    return Call(number, at, usd * 1_000_000 // 3, 0)


def _bill(number: int, arrived: float, answered: float | None = None, cap: int | None = None, written: int = 0) -> Bill:
    return Bill(number, cap, written, arrived, answered)


def _refused(number: int, ended: float, status: int = 429, code: str = "budget_reserved") -> Outcome:
    return Outcome(number, 0.0, ended, status, code, "budget")


def _needless(refusals: list[Refusal], bills: list[Bill], calls: list[Call], budget: int) -> list[int]:
    by_number = {call.number: call for call in calls}
    return [refusal.number for refusal in needless_refusals(refusals, bills, by_number, None, Decimal(budget))]


def test_a_call_that_fits_what_was_really_spent_is_refused_needlessly() -> None:
    calls = [_call(0, 30), _call(1, 60), _call(2, 69), _call(3, 72)]
    refusals = [Refusal(1, 2.0, ""), Refusal(2, 2.0, ""), Refusal(3, 2.0, "")]
    assert _needless(refusals, [_bill(0, 1.0)], calls, 100) == [1, 2]


def test_what_is_under_way_counts_from_its_admission_on() -> None:
    calls = [_call(0, 30), _call(1, 72)]
    assert _needless([Refusal(1, 0.5, "")], [_bill(0, 1.0)], calls, 100) == [1]
    assert _needless([Refusal(1, 1.5, "")], [_bill(0, 1.0, 9.0)], calls, 100) == []


def test_from_95_percent_on_every_refusal_is_right() -> None:
    calls = [_call(0, 93), _call(1, 3), _call(2, 3)]
    assert _needless([Refusal(2, 1.5, "")], [_bill(0, 1.0), _bill(1, 2.0)], calls, 100) == [2]
    assert _needless([Refusal(2, 2.5, "")], [_bill(0, 1.0), _bill(1, 2.0)], calls, 100) == []


def test_a_refusal_is_held_against_the_callers_own_cap() -> None:
    """Its answer would have ended there: a call is as dear as its caller let it be."""
    calls = {0: Call(0, 0.0, 0, 10_000_000)}
    refusals = [Refusal(0, 1.0, "")]
    assert needless_refusals(refusals, [], calls, None, Decimal(100)) == []
    assert needless_refusals(refusals, [], calls, 1000, Decimal(100)) == refusals


def _count(calls: list[Call], outcomes: list[Outcome], bills: list[Bill], **changes: object) -> Count:
    settings: dict[str, object] = {"cap": 4096, "largest": 32_768, "budget": Decimal(10), "factor": 1.0}
    return count(calls, outcomes, bills, **(settings | changes))  # type: ignore[arg-type]


def _served(number: int, sent: float) -> Outcome:
    return Outcome(number, sent, sent + 9, 200, "", "")


def test_an_answer_is_cut_where_a_fitted_cap_ends_it_before_the_callers_would() -> None:
    calls = [Call(0, 0.0, 0, 5000), Call(1, 0.0, 0, 3000), Call(2, 0.0, 0, 100), Call(3, 0.0, 0, 9000)]
    bills = [
        _bill(0, 1.0, cap=4096, written=4096),  # ended where its caller asked
        _bill(1, 1.0, cap=2048, written=2048),  # cut
        _bill(2, 1.0, cap=2048, written=100),  # fitted, and long enough
        _bill(3, 1.0, cap=4096, written=4096),
    ]
    found = _count(calls, [_served(number, 0.0) for number in range(4)], bills)
    assert (found.served, found.fitted, found.cut, found.lost_percent) == (4, 2, 1, 25.0)
    # Who names no cap wants the whole answer.
    unnamed = _count(calls, [_served(number, 0.0) for number in range(4)], bills, cap=None)
    assert (unnamed.fitted, unnamed.cut) == (4, 3)


def test_what_is_billed_beyond_the_budget_is_past_it() -> None:
    calls = [_call(0, 6), _call(1, 6)]
    found = _count(calls, [_served(0, 0.0), _served(1, 0.0)], [_bill(0, 1.0), _bill(1, 1.0)])
    assert (found.billed, found.past_the_budget) == (Decimal(12), Decimal(2))
    assert found.spent_at_first_refusal is None


def test_at_the_first_refusal_what_is_answered_is_spent() -> None:
    calls = [_call(0, 3), _call(1, 3), _call(2, 3)]
    outcomes = [_served(0, 0.0), _served(1, 0.0), _refused(2, 5.0)]
    found = _count(calls, outcomes, [_bill(0, 1.0, 4.0), _bill(1, 1.0, 6.0)])
    assert found.spent_at_first_refusal == Decimal("0.3")
    assert (found.refused, found.needless) == ({"429 budget_reserved": 1}, {"429 budget_reserved": 1})


def test_waits_are_in_seconds_of_the_trace() -> None:
    calls = [_call(number, 0) for number in range(4)]
    bills = [_bill(0, 0.1, 1.0), _bill(1, 0.2, 0.9), _bill(2, 0.3, 0.8), _bill(3, 2.0, 3.0)]
    found = _count(calls, [_served(number, 0.0) for number in range(4)], bills, factor=4.0)
    assert (found.wait_p50, found.wait_p95, found.wait_max, found.at_once) == (0.8, 8.0, 8.0, 3)
    waited = _count(calls, [_served(number, 0.0) for number in range(4)], bills, factor=4.0, waits=[0.3, 0.4])
    assert (waited.wait_p50, waited.wait_max) == (0.0, 0.4)
    assert (waited.delay_p50, waited.delay_p95) == (0.8, 8.0)


def test_after_a_change_losses_are_counted_by_hundreds_of_calls() -> None:
    calls = [_call(number, 1) for number in range(401)]
    outcomes = [_refused(number, 1.0) for number in (199, 200, 299, 300, 400)]
    found = _count(calls, outcomes, [], change_at=200)
    assert found.needless_by_block == {-1: 1, 0: 2, 1: 1, 2: 1}
