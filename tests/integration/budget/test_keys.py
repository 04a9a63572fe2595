"""A call under a key is admitted by two budgets in one statement, and booked in both."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from fusewire.budget.ledger import Ledger
from fusewire.budget.reservation import Reservation, Settlement
from fusewire.errors import AuthenticationError, BudgetExceededError, BudgetReservedError, FusewireError
from tests.integration.budget.books import (
    ZERO,
    Books,
    Clock,
    Events,
    Totals,
    a_call,
    at_bound,
    candidate,
    released,
    settled,
)
from tests.integration.budget.conftest import OpenLedger
from tests.integration.budget.keys import Keys

TTL_SECONDS = 180


@pytest.fixture
def ledger(clock: Clock, open_ledger: OpenLedger) -> Ledger:
    """Of 1 USD, by a clock that stands still."""
    return open_ledger(AI_RESERVATION_TTL_SECONDS=str(TTL_SECONDS))


def reserve(ledger: Ledger, bound: str, key_id: str | None = None, after: Settlement | None = None) -> Reservation:
    attempt = 1 if after is None else 2
    return ledger.reserve(a_call(key_id=key_id), [candidate(bound)], attempt=attempt, after=after)


def spend(ledger: Ledger, amount: str, key_id: str | None = None) -> None:
    ledger.settle(settled(reserve(ledger, amount, key_id), amount))


def reset(ledger: Ledger, budget: str = "global") -> None:
    ledger.reset(actor="admin", source_ip=None, request_id="reset", reason=None, budget=budget)


def of(books: Books, budget: str) -> list[Totals]:
    """A budget's windows, the oldest first, after the whole books were checked."""
    return [window for window in books.check() if window.budget == budget]


ENDS: list[tuple[Callable[[Reservation], Settlement], str, int]] = [
    (lambda r: settled(r, "0.1"), "0.1", 1),
    (at_bound, "0.3", 1),
    (released, "0", 0),
]


@pytest.mark.parametrize(("end", "cost", "calls"), ENDS)
def test_both_windows_book_the_same(
    ledger: Ledger, books: Books, keys: Keys, end: Callable[[Reservation], Settlement], cost: str, calls: int
) -> None:
    key = keys.make(budget="0.5")
    made = reserve(ledger, "0.3", key)
    assert made.key is not None
    assert (made.key.window.budget, made.key.window.reserved, made.key.remaining) == (
        key,
        Decimal("0.3"),
        Decimal("0.2"),
    )
    assert [(w.budget, w.reserved) for w in books.check()] == [("global", Decimal("0.3")), (key, Decimal("0.3"))]

    booked = ledger.settle(end(made))

    assert booked.key is not None and booked.budget is not None
    assert booked.key.window.spent == booked.budget.window.spent == Decimal(cost)
    for window in books.check():
        assert (window.spent, window.reserved, window.calls) == (Decimal(cost), ZERO, calls)


def test_a_call_without_a_key_or_under_one_that_is_no_row_has_the_companys_budget_alone(
    ledger: Ledger, books: Books
) -> None:
    for key_id in (None, "bootstrap"):
        made = reserve(ledger, "0.1", key_id)
        assert made.key is None
        assert ledger.settle(settled(made, "0.1")).key is None
    assert books.only_window().spent == Decimal("0.2")


def test_a_key_without_a_budget_is_counted_and_never_refused_by_itself(
    ledger: Ledger, books: Books, keys: Keys, events: Events
) -> None:
    key = keys.make()
    made = reserve(ledger, "1", key)
    assert made.key is not None
    assert (made.key.limit, made.key.remaining, made.key.state) == (None, None, "CLOSED")
    ledger.settle(settled(made, "1"))
    assert [w.spent for w in books.check()] == [1, 1]
    assert {e.get("key_id") for e in events.of("circuit_breaker.alert")} == {None}


def holding(ledger: Ledger, amount: str, key_id: str | None) -> None:
    reserve(ledger, amount, key_id)


REFUSED = [
    # Spent or held, how much and under which key, then: what the next call by `key` asks for, and what refuses it.
    (spend, "0.95", None, "0.01", BudgetExceededError, "global"),
    (spend, "0.5", None, "0.51", BudgetExceededError, "global"),
    (spend, "0.475", "key", "0.01", BudgetExceededError, "key"),
    (spend, "0.2", "key", "0.31", BudgetExceededError, "key"),
    (holding, "0.8", "other", "0.21", BudgetReservedError, "global"),
    (holding, "0.3", "key", "0.21", BudgetReservedError, "key"),
    # Both would refuse: what lasts longer is told first, and the company before the key.
    (holding, "0.3", "key", "0.51", BudgetExceededError, "key"),
    (holding, "0.5", "key", "1.01", BudgetExceededError, "global"),
]


@pytest.mark.parametrize(("before", "amount", "by", "bound", "error", "refuses"), REFUSED)
def test_which_budget_refuses(
    ledger: Ledger,
    books: Books,
    keys: Keys,
    events: Events,
    before: Callable[[Ledger, str, str | None], None],
    amount: str,
    by: str | None,
    bound: str,
    error: type[FusewireError],
    refuses: str,
) -> None:
    keys.make("key", budget="0.5")
    keys.make("other")
    before(ledger, amount, by)
    earlier = books.check()

    with pytest.raises(error) as refused:
        reserve(ledger, bound, "key")

    assert [w for w in books.check() if w.spent or w.reserved] == [w for w in earlier if w.spent or w.reserved]
    [blocked] = events.of("circuit_breaker.blocked")
    assert (blocked["reason"], blocked["key_id"]) == (f"budget {refuses}", "key")
    if isinstance(refused.value, BudgetExceededError):
        assert refused.value.budget == refuses
        assert refused.value.resets_at == datetime(2026, 12, 1, tzinfo=UTC)
    message = refused.value.message.replace("Retry in 1 s", "")
    assert not any(figure in message for figure in (amount, "0.5", " 1 "))


def test_the_last_cent_of_both_is_admitted(ledger: Ledger, books: Books, keys: Keys) -> None:
    key = keys.make(budget="0.5")
    reserve(ledger, "0.5")
    reserve(ledger, "0.5", key)
    assert [(w.budget, w.reserved) for w in books.check(limit=Decimal(1), keys={key: Decimal("0.5")})] == [
        ("global", 1),
        (key, Decimal("0.5")),
    ]


def test_a_free_call_is_never_held_up_by_a_keys_budget(ledger: Ledger, keys: Keys) -> None:
    key = keys.make(budget="0")
    with pytest.raises(BudgetExceededError):
        reserve(ledger, "0.000001", key)
    made = reserve(ledger, "0", key)
    assert made.key is not None and made.key.state == "OPEN"


@pytest.mark.parametrize(("column", "value"), [("revoked_at", timedelta(0)), ("expires_at", timedelta(0))])
def test_a_key_that_went_between_its_check_and_the_reservation_reserves_nothing(
    ledger: Ledger, books: Books, keys: Keys, clock: Clock, column: str, value: timedelta
) -> None:
    key = keys.make(budget="0.5")
    first = reserve(ledger, "0.2", key)
    keys.change(key, **{column: clock.now + value})

    # The attempt that was under way is booked all the same.
    with pytest.raises(AuthenticationError):
        reserve(ledger, "0.2", key, after=settled(first, "0.1"))

    assert [(w.spent, w.reserved) for w in books.check()] == [(Decimal("0.1"), ZERO)] * 2


def test_a_key_that_expires_a_moment_later_still_calls(ledger: Ledger, keys: Keys, clock: Clock) -> None:
    key = keys.make()
    keys.change(key, expires_at=clock.now + timedelta(microseconds=1))
    reserve(ledger, "0.1", key)


def test_each_budgets_threshold_events_are_told_once(ledger: Ledger, books: Books, keys: Keys, events: Events) -> None:
    key = keys.make(budget="0.5")
    spend(ledger, "0.4", key)
    spend(ledger, "0.4")
    spend(ledger, "0.08", key)
    spend(ledger, "0.07")
    with pytest.raises(BudgetExceededError):
        reserve(ledger, "0.01", key)

    usage = [(n, f.get("key_id"), f["usage_ratio"]) for n, f in events.logged if n.startswith("circuit_breaker.")]
    assert usage[:-1] == [
        ("circuit_breaker.alert", key, Decimal("0.8")),
        ("circuit_breaker.alert", None, Decimal("0.8")),
        ("circuit_breaker.opened", key, Decimal("0.96")),
        ("circuit_breaker.opened", None, Decimal("0.95")),
    ]
    assert usage[-1][0] == "circuit_breaker.blocked"
    assert books.threshold_events() == ["HALF_OPEN", "HALF_OPEN", "OPEN", "OPEN"]


def test_a_limit_that_changes_while_calls_are_in_flight(
    ledger: Ledger, books: Books, keys: Keys, events: Events
) -> None:
    key = keys.make(budget="0.5")
    first, second = reserve(ledger, "0.2", key), reserve(ledger, "0.2", key)

    keys.change(key, limit_usd="0.2")  # below what is reserved: what was admitted is honoured
    booked = ledger.settle(settled(first, "0.19"))
    assert booked.key is not None and booked.key.state == "OPEN"
    with pytest.raises(BudgetExceededError):
        reserve(ledger, "0.02", key)
    assert ledger.settle(settled(second, "0.2")).cost == Decimal("0.2")

    keys.change(key, limit_usd="1")  # 0.39 spent: closed again, and the next threshold event is a new one
    made = reserve(ledger, "0.41", key)
    assert made.key is not None and made.key.state == "CLOSED"
    ledger.settle(settled(made, "0.41"))

    keys.change(key, limit_usd=None)
    made = reserve(ledger, "0.05", key)
    assert made.key is not None and (made.key.state, made.key.limit) == ("CLOSED", None)
    keys.change(key, limit_usd="0.8")
    booked = ledger.settle(released(made))
    assert booked.key is not None and booked.key.state == "OPEN"

    by_key = [name for name, fields in events.logged if fields.get("key_id") == key and "blocked" not in name]
    alert, opened = "circuit_breaker.alert", "circuit_breaker.opened"
    assert by_key == [alert, opened, alert, alert, opened]
    books.check(limit=Decimal(1))


def test_a_keys_reset_while_its_calls_are_in_flight(ledger: Ledger, books: Books, keys: Keys, events: Events) -> None:
    """What was reserved in a window settles in that window; the company's goes on."""
    key = keys.make(budget="0.5")
    spend(ledger, "0.2", key)
    flying = reserve(ledger, "0.3", key)

    closed, opened = ledger.reset(actor="admin", source_ip=None, request_id="r", reason="raised", budget=key)
    assert (closed.budget, closed.spent, closed.reserved) == (key, Decimal("0.2"), Decimal("0.3"))
    assert (opened.budget, opened.spent, opened.reserved) == (key, ZERO, ZERO)
    reserve(ledger, "0.5", key)
    booked = ledger.settle(settled(flying, "0.3"))

    assert booked.key is not None and booked.key.window.id == closed.id
    assert [(w.spent, w.reserved) for w in of(books, key)] == [(Decimal("0.5"), ZERO), (ZERO, Decimal("0.5"))]
    [company] = of(books, "global")
    assert (company.spent, company.reserved) == (Decimal("0.5"), Decimal("0.5"))
    # Its end in a closed window crosses nothing, though 0.5 of 0.5 are spent there.
    assert [name for name, _ in events.logged] == ["circuit_breaker.manual_reset", "audit"]
    assert events.of("audit")[0]["key_id"] == key


def test_the_companys_reset_leaves_keys_windows_alone(ledger: Ledger, books: Books, keys: Keys) -> None:
    key = keys.make(budget="0.5")
    flying = reserve(ledger, "0.4", key)
    reset(ledger)
    with pytest.raises(BudgetReservedError):
        reserve(ledger, "0.2", key)
    ledger.settle(settled(flying, "0.1"))
    reserve(ledger, "0.4", key)
    assert [(w.spent, w.reserved) for w in of(books, "global")] == [(Decimal("0.1"), ZERO), (ZERO, Decimal("0.4"))]
    assert [(w.spent, w.reserved) for w in of(books, key)] == [(Decimal("0.1"), Decimal("0.4"))]


def test_the_months_end_turns_both_windows_in_the_next_call(
    ledger: Ledger, books: Books, keys: Keys, clock: Clock, events: Events
) -> None:
    key = keys.make(budget="0.5")
    clock.set(datetime(2026, 12, 1, tzinfo=UTC) - timedelta(microseconds=1))
    flying = reserve(ledger, "0.5", key)
    clock.set(datetime(2026, 12, 1, tzinfo=UTC))

    made = reserve(ledger, "0.5", key, after=settled(flying, "0.45"))

    assert made.key is not None and made.key.window.opened_by == "period_end"
    assert [(w.spent, w.reserved) for w in of(books, key)] == [(Decimal("0.45"), ZERO), (ZERO, Decimal("0.5"))]
    assert [(w.spent, w.reserved) for w in of(books, "global")] == [(Decimal("0.45"), ZERO), (ZERO, Decimal("0.5"))]
    resets = events.of("circuit_breaker.monthly_reset")
    assert [fields.get("key_id") for fields in resets] == [None, key]
    # The money of November is on November's last day, however late it was settled.
    [rolled] = books.rows("SELECT day FROM usage_rollup")
    assert rolled["day"].isoformat() == "2026-11-30"


def test_a_key_that_sleeps_over_the_months_end_meets_it_with_its_next_call(
    ledger: Ledger, books: Books, keys: Keys, clock: Clock
) -> None:
    key = keys.make(budget="0.5")
    spend(ledger, "0.45", key)
    clock.set(datetime(2026, 12, 2, tzinfo=UTC))
    spend(ledger, "0.1")
    assert len(of(books, "global")) == 2 and len(of(books, key)) == 1
    spend(ledger, "0.2", key)
    assert [w.spent for w in of(books, key)] == [Decimal("0.45"), Decimal("0.2")]


def test_a_strangers_call_settles_what_expired_in_every_keys_window(
    ledger: Ledger, books: Books, keys: Keys, clock: Clock, events: Events
) -> None:
    first, second = keys.make("key-1", budget="0.3"), keys.make("key-2")
    reserve(ledger, "0.3", first)
    reserve(ledger, "0.2", second)
    clock.advance(seconds=TTL_SECONDS)

    spend(ledger, "0.1")

    assert [(w.spent, w.reserved) for w in of(books, first) + of(books, second)] == [
        (Decimal("0.3"), ZERO),
        (Decimal("0.2"), ZERO),
    ]
    result = {(f["key_id"], name) for name, f in events.logged}
    assert result == {
        (first, "ledger.settled_at_bound"),
        (second, "ledger.settled_at_bound"),
        (first, "circuit_breaker.alert"),
        (first, "circuit_breaker.opened"),
    }


@pytest.mark.parametrize("end", [lambda r: settled(r, "0.05"), released, at_bound])
def test_a_late_settlement_corrects_both_windows(
    ledger: Ledger, books: Books, keys: Keys, clock: Clock, end: Callable[[Reservation], Settlement]
) -> None:
    key = keys.make(budget="0.5")
    late = reserve(ledger, "0.3", key)
    clock.advance(seconds=TTL_SECONDS)
    ledger.budget()
    assert [w.spent for w in books.check()] == [Decimal("0.3")] * 2

    booked = ledger.settle(end(late))

    assert [(w.spent, w.reserved) for w in books.check()] == [(booked.cost, ZERO)] * 2


def test_what_crashed_before_the_companys_reset_is_spent_when_its_key_needs_the_room(
    ledger: Ledger, books: Books, keys: Keys, clock: Clock, events: Events
) -> None:
    """Only the budget API and resets look at closed windows: the caller would be told to wait for ever."""
    key = keys.make(budget="0.5")
    reserve(ledger, "0.45", key)
    reset(ledger)
    clock.advance(seconds=TTL_SECONDS)

    with pytest.raises(BudgetExceededError):
        reserve(ledger, "0.1", key)

    assert [(w.spent, w.reserved) for w in of(books, key)] == [(Decimal("0.45"), ZERO)]
    assert events.count()["ledger.settled_at_bound"] == 1
    assert [fields.get("key_id") for fields in events.of("circuit_breaker.alert")] == [key]


def test_a_failover_that_is_refused_by_the_key_still_ends_the_first_attempt(
    ledger: Ledger, books: Books, keys: Keys
) -> None:
    key = keys.make(budget="0.5")
    first = reserve(ledger, "0.4", key)
    with pytest.raises(BudgetExceededError):
        reserve(ledger, "0.4", key, after=at_bound(first))
    assert [(w.spent, w.reserved) for w in books.check()] == [(Decimal("0.4"), ZERO)] * 2


def test_a_failover_over_a_keys_reset_ends_there_and_reserves_here(ledger: Ledger, books: Books, keys: Keys) -> None:
    key = keys.make(budget="0.5")
    first = reserve(ledger, "0.4", key)
    reset(ledger, key)
    reset(ledger)
    reserve(ledger, "0.5", key, after=at_bound(first))
    for budget in ("global", key):
        assert [(w.spent, w.reserved) for w in of(books, budget)] == [
            (Decimal("0.4"), ZERO),
            (ZERO, Decimal("0.5")),
        ]
