"""The rule on paper: what it admits, with which cap, and in which order."""

from decimal import Decimal

import pytest

from benchmarks.admission.cell import FIT, STRICT, Cell, on_paper
from benchmarks.admission.rule import FEW, HALVED_AT, LADDER, UNKNOWN, Outputs, Paper, step_above
from benchmarks.admission.trace import Call


def test_the_ladder_is_coarse() -> None:
    assert LADDER[:8] == (1, 2, 3, 4, 6, 8, 12, 16)
    assert [step_above(tokens) for tokens in (1, 5, 1024, 1025, 1537)] == [1, 6, 1024, 1536, 2048]


def _outputs(*tokens: int) -> Outputs:
    outputs = Outputs()
    for each in tokens:
        outputs.add(each, None)
    return outputs


def test_few_outputs_say_nothing_yet() -> None:
    assert _outputs(*[9000] * (FEW - 1)).cap(0.0) == UNKNOWN
    assert _outputs(*[9000] * FEW).cap(0.0) == step_above(2 * step_above(9000))


def test_the_longer_a_call_has_waited_the_smaller_its_cap() -> None:
    outputs = _outputs(*[100] * 900, *[1500] * 70, *[3000] * 20, *[7000] * 9, 12_000)
    assert [outputs.cap(waited) for waited in (0.0, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)] == [
        16384, 8192, 8192, 3072, 3072, 1536, 128, 128,
    ]  # fmt: skip


def test_a_call_that_has_not_waited_gets_no_less_than_an_unknown_one() -> None:
    assert _outputs(*[10] * 100).cap(0.0) == UNKNOWN
    assert _outputs(*[10] * 100).cap(0.05) == 12


def test_an_answer_that_its_fitted_cap_ended_counts_as_longer() -> None:
    outputs = Outputs()
    outputs.add(2048, 2048)
    outputs.add(2047, 2048)
    assert outputs.counts == {3072: 1, 2048: 1}


def test_old_outputs_weigh_less() -> None:
    outputs = _outputs(*[100] * HALVED_AT, *[1000] * 10)
    assert outputs.counts == {128: HALVED_AT / 2, 1024: 10}


def test_first_come_first_served_and_refused_at_the_end_of_the_wait() -> None:
    """A cap of 1,000 output tokens is 15,000 millionths: there is room for one at a time, but 15,000 more for what is
    spent."""
    calls = [Call(0, 0.0, 0, 250), Call(1, 1.0, 0, 1000), Call(2, 2.0, 0, 50), Call(3, 3.0, 0, 50)]
    paper = Paper(calls, 1000, 30_000, wait=20, fits=False)
    assert [(bill.number, bill.arrived) for bill in paper.bills] == [(0, 0.0), (1, 5.0)]
    outcomes = {outcome.number: (outcome.status, outcome.ended) for outcome in paper.outcomes}
    # The second call may take longer than the others can wait.
    assert outcomes == {0: (200, 5.0), 1: (200, 25.0), 2: (429, 22.0), 3: (429, 23.0)}


@pytest.mark.parametrize("budget", [Decimal("2.5"), Decimal(10), Decimal(25)])
@pytest.mark.parametrize("cap", [1024, 4096, 32_000, None])
def test_on_paper_the_aims_are_met_for_every_cap_and_budget(cap: int | None, budget: Decimal) -> None:
    found = on_paper(Cell(cap, budget, FIT))
    assert found.past_the_budget == 0
    assert found.lost_percent <= 0.5
    assert found.spent_at_first_refusal is not None
    assert found.spent_at_first_refusal > Decimal("0.94")


def test_on_paper_longer_answers_are_learnt_within_a_hundred_calls() -> None:
    found = on_paper(Cell(32_000, Decimal(10), FIT, change_at=700))
    assert set(found.cut_by_block) | set(found.needless_by_block) <= {0}
    assert found.cut <= 3


def test_without_waiting_and_fitting_most_is_refused_needlessly() -> None:
    found = on_paper(Cell(32_000, Decimal(10), STRICT))
    assert (sum(found.needless.values()), found.cut, found.fitted) == (499, 0, 0)
