"""The verdict of `make chaos` sees all that can be wrong, and a call's number is read from all that it leaves."""

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal

import pytest

from benchmarks.trouble import DEAR, INPUT_USD, MAX_CALLS, OUTPUT_USD, Question, number_in, number_of_bound, usd
from benchmarks.trouble.callers import Outcome
from benchmarks.trouble.verdict import Books, Entry, Verdict, Window, judge

ALLOWANCE = 104
BUDGET = Decimal(10)
CENT = Decimal("0.01")


@pytest.mark.parametrize("factor", [1, DEAR])
def test_a_calls_number_is_read_from_its_prompt_and_from_its_bound(factor: int) -> None:
    for number in (0, 1, 99, 100, 101, 7_654, MAX_CALLS - 1):
        question = Question(number)
        size = len(question.prompt) + ALLOWANCE
        bound = (size * INPUT_USD + question.cap * OUTPUT_USD) * factor
        assert number_in(question.prompt) == number
        assert number_of_bound(bound, factor, ALLOWANCE) == number
        assert usd(question.tokens, factor) < bound


def test_no_two_calls_have_the_same_bound() -> None:
    assert len({(len(Question(n).prompt), Question(n).cap) for n in range(MAX_CALLS)}) == MAX_CALLS


ACTUAL = Entry(0, 1, "call-0", "azure", "settled", "success", "actual", 3 * CENT, CENT)
AT_BOUND = Entry(1, 1, "call-1", "azure", "settled", "expired", "bound", 3 * CENT, 3 * CENT)
RELEASED = Entry(2, 2, "call-2", "openai", "released", "server_error", None, 3 * CENT, Decimal(0))
WINDOWS = (
    Window(1, "use", 4 * CENT, Decimal(0), 4 * CENT, 4 * CENT, 0),
    Window(2, "admin", Decimal(0), Decimal(0), Decimal(0), Decimal(0), 0),
)
BILL = {("azure", 0): CENT, ("azure", 1): 2 * CENT}
OUTCOMES = (
    Outcome(0, "sota", "200", "call-0", 0.1),
    Outcome(1, "sota", "stream cut", "call-1", 0.1),
    Outcome(2, "sota", "503 all_providers_failed", "call-2", 0.1),
)
LOG = '{"event": "gateway.function_crashed", "request_id": "call-1"}\n'


class Found:
    """What a run left behind; each test changes one thing of it."""

    def __init__(self) -> None:
        self.entries = [ACTUAL, AT_BOUND, RELEASED]
        self.windows = list(WINDOWS)
        self.bill = dict(BILL)
        self.outcomes = list(OUTCOMES)
        self.logs = {"the log": LOG}

    def verdict(self) -> Verdict:
        return judge(Books(self.windows, self.entries), self.bill, self.outcomes, BUDGET, self.logs)


def test_a_difference_that_is_all_at_bounds_is_right() -> None:
    verdict = Found().verdict()
    assert verdict.wrong == []
    assert [(each.entry.number, each.difference) for each in verdict.at_bound] == [(1, CENT)]
    assert verdict.billed == {1: 3 * CENT, 2: 0}


def billed_and_unbooked(found: Found) -> None:
    found.bill["vllm", 7] = CENT


def booked_and_not_billed(found: Found) -> None:
    del found.bill["azure", 0]


def settled_at_less(found: Found) -> None:
    found.bill["azure", 0] = 2 * CENT


def billed_above_the_bound(found: Found) -> None:
    found.bill["azure", 1] = 4 * CENT


def released_and_billed(found: Found) -> None:
    found.bill["openai", 2] = CENT


def above_the_budget(found: Found) -> None:
    found.entries.append(replace(ACTUAL, number=3, cost=BUDGET))
    found.bill["azure", 3] = BUDGET
    total = BUDGET + 4 * CENT
    found.windows[0] = replace(WINDOWS[0], spent=total, booked=total, rolled=total)


def a_window_that_does_not_add_up(found: Found) -> None:
    found.windows[0] = replace(WINDOWS[0], spent=5 * CENT)


def rollups_that_do_not_add_up(found: Found) -> None:
    found.windows[0] = replace(WINDOWS[0], rolled=5 * CENT)


def a_reservation_that_is_left(found: Found) -> None:
    found.windows[1] = replace(WINDOWS[1], reserved=CENT, left_open=1)


def a_call_without_an_answer(found: Found) -> None:
    found.outcomes.append(Outcome(4, "sota", "silence", None, 60.0))


def a_stream_that_nothing_cut(found: Found) -> None:
    found.logs["the log"] = ""


def a_prompt_in_a_log(found: Found) -> None:
    found.logs["the log"] += Question(3).prompt


def a_password_in_a_log(found: Found) -> None:
    found.logs["another log"] = "host=x password=the-databases-password"


@pytest.mark.parametrize(
    ("spoil", "row"),
    [
        (billed_and_unbooked, "call 7 at vllm: billed 0.01, in no book"),
        (booked_and_not_billed, "settled at 0.01, billed 0"),
        (settled_at_less, "settled at 0.01, billed 0.02"),
        (billed_above_the_bound, "billed 0.04, above its bound 0.03"),
        (released_and_billed, "released at 0, billed 0.01"),
        (above_the_budget, "booked 10.04, budget 10"),
        (a_window_that_does_not_add_up, "spent 0.05, its entries 0.04"),
        (rollups_that_do_not_add_up, "its rollups 0.05"),
        (a_reservation_that_is_left, "1 reservations are left, of 0.01 USD"),
        (a_call_without_an_answer, "call 4 had no answer in 60.0 s"),
        (a_stream_that_nothing_cut, "its stream was cut, and no worker of it was killed (call-1)"),
        (a_prompt_in_a_log, "the log holds a prompt"),
        (a_password_in_a_log, "another log holds a database's password"),
    ],
)
def test_what_is_wrong_is_found(spoil: Callable[[Found], None], row: str) -> None:
    found = Found()
    spoil(found)
    assert any(row in wrong for wrong in found.verdict().wrong), found.verdict().wrong
