"""Which output cap a call is reserved with: the rule, and what it knows of the sizes of answers."""

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.types.json import Jsonb

from benchmarks.admission.rule import Outputs
from fusewire.budget.admission import Waiting
from fusewire.budget.ledger import Ledger
from fusewire.budget.price import TokenCounts
from fusewire.budget.reservation import Candidate, Fit, Reservation
from fusewire.errors import BudgetExceededError, BudgetReservedError, InvalidRequestError, RateLimitedError
from tests.integration.budget.books import Books, a_call, settled
from tests.integration.budget.conftest import OpenLedger
from tests.integration.budget.keys import Keys

TOKEN = Decimal("0.00001")
"""USD, of output."""
STEPS = sorted({1, *(2**n for n in range(1, 25)), *(3 * 2**n for n in range(24))})


def fitting(cap: int, *, fixed: str = "0", n: int = 1, fixed_tokens: int = 10, **fit: int) -> Candidate:
    made = Fit(
        fixed=Decimal(fixed), per_token=TOKEN * n, cap=cap, min_cap=fit.get("min_cap", 256),
        first_cap=fit.get("first_cap", 2048), fixed_tokens=fixed_tokens, n=n,
    )  # fmt: skip
    return Candidate("openai", "gpt", made.fixed + cap * made.per_token, fixed_tokens + n * cap, fit=made)


def reserve(ledger: Ledger, offered: Candidate, key_id: str | None = None) -> Reservation:
    return ledger.reserve(a_call(key_id=key_id), [offered])


def answer(ledger: Ledger, held: Reservation, tokens: int) -> None:
    """Settle with an answer of so many tokens, or of the cap where that is less."""
    cap = held.cap or (held.candidate.fit.cap if held.candidate.fit else tokens)
    size = tokens if tokens < cap else cap + 1
    ledger.settle(replace(settled(held, min(tokens, cap) * TOKEN), size=size, counts=TokenCounts(10, min(tokens, cap))))


def learn(ledger: Ledger, sizes: list[int], key_id: str | None = None) -> None:
    for size in sizes:
        answer(ledger, reserve(ledger, fitting(10**6), key_id), size)


@pytest.fixture
def ledger(open_ledger: OpenLedger) -> Ledger:
    return open_ledger(AI_MONTHLY_BUDGET_USD="1")


def test_the_whole_cap_is_reserved_while_it_takes_less_than_a_tenth_of_the_room(ledger: Ledger, books: Books) -> None:
    held = reserve(ledger, fitting(9_999))
    assert (held.cap, held.candidate.bound) == (None, Decimal("0.09999"))
    assert books.only_window().reserved == Decimal("0.09999")


def test_a_cap_that_takes_more_is_2048_while_few_answers_are_known(ledger: Ledger, books: Books) -> None:
    held = reserve(ledger, fitting(10_000, fixed="0.001"))
    assert (held.cap, held.candidate.bound) == (2048, Decimal("0.02148"))
    assert (held.candidate.tokens, held.candidate.bound) == (2058, books.entry(held.id)["bound"])
    assert books.only_window().reserved == Decimal("0.02148")


def test_a_cap_is_never_above_the_callers_and_never_below_what_is_of_use(ledger: Ledger) -> None:
    holder = reserve(ledger, fitting(90_000, first_cap=80_000))  # leaves 0.2 USD
    assert holder.cap == 80_000
    assert reserve(ledger, fitting(2_000)).cap is None
    assert reserve(ledger, fitting(5_000, min_cap=4_500)).cap == 4_500


def test_thirty_answers_make_it_twice_the_largest_of_all_but_one_in_a_thousand(open_ledger: OpenLedger) -> None:
    ledger = open_ledger(AI_MONTHLY_BUDGET_USD="1000")
    learn(ledger, [100] * 29)
    assert reserve(ledger, fitting(10**7)).cap == 2048
    learn(ledger, [1_400])
    # 1,400 is at most 1,536.
    assert reserve(ledger, fitting(10**7)).cap == 3072
    assert reserve(ledger, fitting(10**7, min_cap=5_000)).cap == 5_000


def test_answers_that_were_short_so_far_may_be_2048_tokens_long(open_ledger: OpenLedger) -> None:
    """The first longer one would be cut off for nothing: a call that hasn't waited has the room."""
    ledger = open_ledger(AI_MONTHLY_BUDGET_USD="1000")
    learn(ledger, [100] * 30)
    assert reserve(ledger, fitting(10**7)).cap == 2048
    assert reserve(ledger, fitting(10**7, first_cap=16_384)).cap == 2048


def test_the_longer_a_call_has_waited_the_smaller_its_cap(open_ledger: OpenLedger, database_url: str) -> None:
    """As the rule on paper has it, which picked these shares."""
    open_ledger()
    outputs = Outputs()
    for size, times in ((100, 900), (1500, 70), (3000, 20), (7000, 9), (12_000, 1)):
        count(database_url, size, times=times)
        for _ in range(times):
            outputs.add(size, None)
    for hundredths in range(101):
        waited = Decimal(hundredths) / 100
        assert fitted_after(database_url, waited) == max(outputs.cap(float(waited)), 256)
    assert fitted_after(database_url, Decimal(0)) == 16_384
    assert fitted_after(database_url, Decimal(1)) == 256
    # Who may not wait has not waited.
    assert fitted_after(database_url, None) == 16_384


def test_a_call_that_has_waited_long_goes_out_with_a_cap_that_is_enough_for_most(open_ledger: OpenLedger) -> None:
    ledger = open_ledger(AI_MONTHLY_BUDGET_USD="10")
    learn(ledger, [300] * 95 + [3_000] * 5)  # 0.435 USD
    reserve(ledger, Candidate("x", "x", Decimal("9.555")))  # leaves 1,000 tokens
    try:
        held = ledger.reserve(a_call(), [fitting(10**6)], waiting=Waiting(2, 100))
    except BudgetReservedError:
        pytest.fail("it is refused for a cap that few answers need")
    # Until 60 % of its time are over it may be as long as the five are.
    assert (held.cap, held.waited_seconds >= 1.2) == (384, True)


def fitted_after(database_url: str, waited: Decimal | None) -> int:
    """The cap in a room that has space for any but the whole."""
    fit = {"fixed": 0, "per_token": 1, "cap": 10**6, "min_cap": 256, "first_cap": 2048, "fixed_tokens": 10, "n": 1}
    offered = {"provider": "openai", "model": "gpt", "bound": 10**6, "tokens": 10**6 + 10, "fit": fit}
    with psycopg.connect(database_url) as connection:
        row = connection.execute(
            "SELECT ledger_fit(%s, NULL, 9999999, 9999999, NULL, %s)->'cap'", (Jsonb(offered), waited)
        ).fetchone()
    assert row is not None
    return int(row[0])


def test_one_in_a_thousand_is_left_out(open_ledger: OpenLedger, database_url: str) -> None:
    open_ledger()
    count(database_url, 100, times=999)
    count(database_url, 5_000)
    assert usual(database_url) == 128
    count(database_url, 5_000)
    assert usual(database_url) == 6_144


def test_a_key_is_known_by_its_own_answers_and_a_new_one_by_its_models(open_ledger: OpenLedger, keys: Keys) -> None:
    ledger = open_ledger(AI_MONTHLY_BUDGET_USD="1000")
    busy, fresh = keys.make("busy"), keys.make("fresh")
    learn(ledger, [2000] * 40, busy)
    assert reserve(ledger, fitting(10**7), busy).cap == 4096
    assert reserve(ledger, fitting(10**7), fresh).cap == 4096
    learn(ledger, [7000] * 30, fresh)
    assert reserve(ledger, fitting(10**7), fresh).cap == 16_384
    assert reserve(ledger, fitting(10**7), busy).cap == 4096


def test_what_can_never_fit_the_window_is_tried_down_to_the_usual_size_and_then_refused(
    open_ledger: OpenLedger,
) -> None:
    ledger = open_ledger(AI_MONTHLY_BUDGET_USD="10")
    learn(ledger, [1000] * 30)  # 0.3 USD
    ledger.settle(settled(ledger.reserve(a_call(), [Candidate("x", "x", Decimal("9.1"))]), "9.1"))
    assert reserve(ledger, fitting(10**6, fixed="0.58")).cap == 1536  # 0.6 USD are left, 2,000 tokens
    with pytest.raises(BudgetExceededError):
        reserve(ledger, fitting(10**6, fixed="0.59"))  # 1,000 tokens


def test_what_fits_the_window_and_not_this_moment_is_refused_for_now(ledger: Ledger, books: Books) -> None:
    reserve(ledger, Candidate("x", "x", Decimal("0.985")))
    with pytest.raises(BudgetReservedError):
        reserve(ledger, fitting(10_000))
    assert len(books.rows("SELECT * FROM ledger")) == 1


def test_known_answers_let_it_go_out_with_the_usual_size_rather_than_be_refused(ledger: Ledger) -> None:
    learn(ledger, [300] * 30)  # 0.09 USD
    reserve(ledger, Candidate("x", "x", Decimal("0.905")))
    assert reserve(ledger, fitting(10_000)).cap == 384


def test_a_small_limit_of_tokens_a_minute_takes_a_large_default_cap(ledger: Ledger, keys: Keys) -> None:
    key = keys.make(tokens=6_000)
    assert reserve(ledger, fitting(9_000), key).cap == 4096  # of 5,990
    assert reserve(ledger, fitting(9_000), key).cap == 1536  # of 1,884
    with pytest.raises(RateLimitedError):
        reserve(ledger, fitting(9_000), key)
    with pytest.raises(InvalidRequestError):
        reserve(ledger, fitting(9_000, fixed_tokens=5_500), key)


def test_free_calls_keep_their_cap(ledger: Ledger) -> None:
    free = Candidate("openai", "gpt", Decimal(0), 100, fit=Fit(Decimal(0), Decimal(0), 10**6, 256, 2048, 10))
    reserve(ledger, Candidate("x", "x", Decimal(1)))
    assert reserve(ledger, free).cap is None


def test_n_answers_have_the_cap_each(ledger: Ledger, books: Books) -> None:
    held = reserve(ledger, fitting(10_000, n=3))
    assert (held.cap, held.candidate.bound, held.candidate.tokens) == (2048, 3 * 2048 * TOKEN, 10 + 3 * 2048)
    assert books.only_window().reserved == 3 * 2048 * TOKEN


def test_answers_ten_times_as_long_recover_within_a_hundred_calls(open_ledger: OpenLedger) -> None:
    ledger = open_ledger(AI_MONTHLY_BUDGET_USD="100")
    learn(ledger, [400, 500, 600] * 20)
    cut = 0
    for calls in range(100):
        held = reserve(ledger, fitting(10**6))
        assert held.cap is not None
        cut += held.cap <= 6_000
        answer(ledger, held, 6_000)
        last_cut = calls if held.cap <= 6_000 else -1
        assert calls < 50 or last_cut == -1
    assert 1 <= cut <= 10


def test_halving_keeps_what_counts_and_forgets_what_has_passed(open_ledger: OpenLedger, database_url: str) -> None:
    open_ledger()
    count(database_url, 3_000, times=100)
    assert usual(database_url) == 3072
    count(database_url, 100, times=14_000)
    assert usual(database_url) == 128
    with psycopg.connect(database_url) as connection:
        row = connection.execute("SELECT calls, (SELECT sum(c) FROM unnest(sizes) c) FROM output_size").fetchone()
    assert row is not None and row[0] == row[1] < 2000


def test_only_chats_at_their_actual_cost_are_counted(ledger: Ledger, books: Books) -> None:
    ledger.settle(replace(settled(reserve(ledger, fitting(1000)), "0.001"), size=100, mode="bound"))
    ledger.settle(replace(settled(reserve(ledger, fitting(1000)), "0.001"), size=None))
    probe = replace(a_call(), operation="probe")
    ledger.settle(replace(settled(ledger.reserve(probe, [fitting(1000)]), "0.001"), size=100))
    assert books.rows("SELECT * FROM output_size") == []
    once = replace(settled(reserve(ledger, fitting(1000)), "0.001"), size=100)
    ledger.settle(once)
    ledger.settle(once)
    assert [row["calls"] for row in books.rows("SELECT calls FROM output_size")] == [1]


def count(database_url: str, size: int, *, times: int = 1) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            "SELECT count(output_size_count('openai', 'gpt', '', 0::smallint, %s)) FROM generate_series(1, %s)",
            (size, times),
        )


def usual(database_url: str) -> int | None:
    with psycopg.connect(database_url) as connection:
        row = connection.execute("SELECT output_usual('openai', 'gpt', NULL, 0.999)").fetchone()
    assert row is not None
    return int(row[0]) if row[0] is not None else None


@pytest.fixture(scope="module")
def rule(postgres: str, template: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(postgres, dbname=template, autocommit=True) as connection:
        yield connection


@given(tokens=st.integers(1, STEPS[-1]))
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_step_is_the_smallest_that_isnt_passed(rule: psycopg.Connection[Any], tokens: int) -> None:
    [(step,)] = rule.execute("SELECT output_step(output_step_above(%s))", (tokens,)).fetchall()
    assert step == min(each for each in STEPS if each >= tokens)


amounts = st.decimals(0, 20, places=4)


@given(
    cap=st.integers(1, 200_000), min_cap=st.integers(1, 5_000), first=st.sampled_from([2048, 16_384]),
    n=st.integers(1, 4), fixed=st.decimals(0, 2, places=6), room=st.none() | amounts, spare=amounts,
    tokens_left=st.none() | st.integers(0, 500_000), waited=st.none() | st.decimals(0, 1, places=2),
)  # fmt: skip
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_the_rule(
    rule: psycopg.Connection[Any], cap: int, min_cap: int, first: int, n: int, fixed: Decimal, room: Decimal | None,
    spare: Decimal, tokens_left: int | None, waited: Decimal | None,
) -> None:  # fmt: skip
    """With nothing learned: the whole, a step, or the smallest of use; exact; and never beyond what it must fit."""
    smallest = min(cap, min_cap)
    offered = fitting(cap, fixed=str(fixed), n=n, min_cap=smallest, first_cap=first)
    left = None if room is None else room + spare
    argument = {"provider": "openai", "model": "gpt", "bound": float(0), "fit": None}
    assert offered.fit is not None
    [(got,)] = rule.execute(
        "SELECT ledger_fit(%s || jsonb_build_object('bound', %s::numeric, 'tokens', %s, 'fit', jsonb_build_object("
        "'fixed', %s::numeric, 'per_token', %s::numeric, 'cap', %s, 'min_cap', %s, 'first_cap', %s, "
        "'fixed_tokens', 10, 'n', %s)), NULL, %s, %s, %s, %s)",
        (
            Jsonb(argument), offered.bound, offered.tokens, fixed, TOKEN * n, cap, smallest, first, n, room, left,
            tokens_left, waited,
        ),
    ).fetchall()  # fmt: skip
    fitted = got.get("cap", cap)
    bound = fixed + fitted * TOKEN * n
    assert Decimal(str(got["bound"])) == bound
    assert got["tokens"] == 10 + n * fitted
    floor = min(cap, max(smallest, min(first // 2, 2048)))
    assert fitted in {cap, smallest, floor, *STEPS}
    assert min(smallest, floor) <= fitted <= cap
    if fitted == cap or fitted > floor:
        assert left is None or bound <= left or fitted <= max(floor, min(cap, first, max(first, smallest)))
        assert tokens_left is None or got["tokens"] <= tokens_left or fitted <= floor
    if room is not None and fitted == cap and cap > max(first, smallest):
        assert bound * 10 < room
