"""The limit that an administrator sets at run time: read under the window's lock, in the setting's place, audited."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from itertools import count
from threading import Barrier

import psycopg
import pytest

from fusewire.budget import limits as module
from fusewire.budget.adjustments import Adjustments
from fusewire.budget.audit_context import AuditContext
from fusewire.budget.ledger import Ledger
from fusewire.budget.limits import AuditedLimits, Limits
from fusewire.errors import BudgetExceededError, FusewireError, InvalidRequestError
from fusewire.json import dumps
from fusewire.store.db import Database
from tests.conftest import CoreFactory
from tests.integration.budget.books import (
    ZERO,
    Books,
    Clock,
    Events,
    a_call,
    candidate,
    released,
    settled,
    wait_for_a_lock,
)
from tests.integration.budget.conftest import OpenLedger
from tests.integration.budget.keys import Keys
from tests.support.patience import PATIENCE_SECONDS

ADMIN = AuditContext("key_boss", "192.0.2.7", "request-of-the-admin")
SLOTS = 4
ONE, TWO, FOUR = Decimal(1), Decimal(2), Decimal(4)
_calls = count(1)

OpenLimits = Callable[..., AuditedLimits]


@pytest.fixture
def open_limits(core: CoreFactory) -> Iterator[OpenLimits]:
    """`open_limits(AI_MONTHLY_BUDGET_MAX_USD="2")`; the setting is 1 USD. For a clock, name the clock first."""
    databases: list[Database] = []

    def make(**variables: str) -> AuditedLimits:
        settings = core.settings(**{"AI_MONTHLY_BUDGET_USD": "1", "DATABASE_URL": core.database_url} | variables)
        databases.append(Database(settings.database_url))
        return AuditedLimits(databases[-1], settings)

    yield make
    for database in databases:
        database.close()


@pytest.fixture
def limits(open_limits: OpenLimits) -> AuditedLimits:
    return open_limits()


@pytest.fixture(params=[1, SLOTS], ids=["one row", "slots"])
def slots(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def spend(ledger: Ledger, amount: str) -> None:
    reservation = ledger.reserve(a_call(f"request-{next(_calls)}"), [candidate(amount)])
    ledger.settle(settled(reservation, amount))


def change(limits: AuditedLimits, amount: str | None, *, window: bool = False) -> Limits:
    usd = None if amount is None else Decimal(amount)
    _, found = limits.change(usd, "window" if window else None, "launch week", ADMIN)
    return found


def argument(limits: AuditedLimits, amount: str | None, id: str) -> module.SetLimitArgument:
    return {
        "settings": limits._settings,
        "id": id,
        "amount": None if amount is None else Decimal(amount),
        "until": None,
        "reason": "launch week",
        "audit_context": ADMIN.argument(),
    }


def reset(ledger: Ledger) -> None:
    ledger.reset(actor="admin", source_ip=None, request_id="reset", reason=None)


def test_it_stands_in_the_settings_place_whatever_a_process_was_set_to(
    open_ledger: OpenLedger, limits: AuditedLimits, books: Books, slots: str
) -> None:
    lower, higher = (open_ledger(AI_MONTHLY_BUDGET_USD=usd, AI_LEDGER_SLOTS=slots) for usd in ("0.5", "9"))
    spend(lower, "0.01")
    change(limits, "2")
    assert [ledger.budget()[0].limit for ledger in (lower, higher)] == [TWO, TWO]
    for ledger in (lower, higher):
        made = ledger.reserve(a_call(), [candidate("0.9")])
        assert made.budget.limit == 2
    with pytest.raises(FusewireError):
        higher.reserve(a_call(), [candidate("0.3")])
    budget, *_, found = lower.budget()
    assert (budget.limit, budget.remaining, found.in_force, found.setting) == (
        TWO,
        Decimal("0.19"),
        TWO,
        Decimal("0.5"),
    )
    books.check(limit=Decimal(2))


def test_where_it_comes_from_is_shown_beside_the_setting(open_ledger: OpenLedger, open_limits: OpenLimits) -> None:
    ledger = open_ledger(AI_MONTHLY_BUDGET_MAX_USD="5")
    *_, before = ledger.budget()
    assert before == Limits(ONE, ONE, Decimal(5), ONE, None)
    change(open_limits(AI_MONTHLY_BUDGET_MAX_USD="5"), "2.5", window=True)
    *_, found = ledger.budget()
    assert (found.in_force, found.setting, found.next_window) == (Decimal("2.5"), ONE, ONE)
    assert found.audited is not None
    assert (found.audited.amount, found.audited.until) == (Decimal("2.5"), "window")
    assert (found.audited.reason, found.audited.actor) == ("launch week", "key_boss")


def test_lowered_below_what_is_spent_it_opens_the_breaker_and_nothing_is_lost(
    open_ledger: OpenLedger, limits: AuditedLimits, books: Books, events: Events, slots: str
) -> None:
    ledger = open_ledger(AI_LEDGER_SLOTS=slots)
    spend(ledger, "0.01")
    spend(ledger, "0.1")
    held = ledger.reserve(a_call(), [candidate("0.02")])
    budget, _ = limits.change(Decimal("0.1"), "window", "stop it", ADMIN)
    assert (budget.state, budget.remaining, budget.window.spent) == ("OPEN", ZERO, Decimal("0.11"))
    assert events.count()["circuit_breaker.alert"] == events.count()["circuit_breaker.opened"] == 1
    with pytest.raises(BudgetExceededError):
        ledger.reserve(a_call(), [candidate("0.001")])
    ledger.settle(settled(held, "0.02"))
    assert books.only_window().spent == Decimal("0.13")
    assert events.count()["circuit_breaker.opened"] == 1


def test_raised_it_lowers_the_state_and_crossing_again_is_a_new_event(
    open_ledger: OpenLedger, limits: AuditedLimits, books: Books, events: Events
) -> None:
    ledger = open_ledger()
    spend(ledger, "0.96")
    assert events.count()["circuit_breaker.opened"] == 1
    assert limits.change(Decimal(2), None, "launch week", ADMIN)[0].state == "CLOSED"
    assert books.rows("SELECT state FROM budget_window") == [{"state": "CLOSED"}]
    spend(ledger, "0.94")
    assert events.count()["circuit_breaker.opened"] == 2
    assert books.threshold_events() == ["HALF_OPEN", "OPEN", "HALF_OPEN", "OPEN"]
    assert [row["limit_usd"] for row in books.rows("SELECT limit_usd FROM budget_threshold_event")] == [1, 1, 2, 2]


def test_the_states_and_events_of_every_statement_are_those_of_the_limit_in_force(
    clock: Clock, core: CoreFactory, open_ledger: OpenLedger, limits: AuditedLimits, events: Events
) -> None:
    """A settlement, an adjustment, a sweep and the budget API: none of them takes the setting's."""
    ledger = open_ledger(AI_REQUEST_TIMEOUT_SECONDS="1", AI_RESERVATION_TTL_SECONDS="60")
    change(limits, "10")
    held = ledger.reserve(a_call(), [candidate("1.5")])
    spend(ledger, "2")
    settings = core.settings(AI_MONTHLY_BUDGET_USD="1", DATABASE_URL=core.database_url)
    database = Database(settings.database_url)
    done = Adjustments(database, settings).book(Decimal(2), "invoice", None, ADMIN)
    database.close()
    assert (done.budget.state, done.budget.limit) == ("CLOSED", Decimal(10))
    clock.advance(seconds=61)
    assert ledger.budget()[0].window.spent == Decimal("5.5")
    booked = ledger.settle(settled(held, "1.4"))
    assert booked.budget is not None
    assert (booked.budget.state, booked.budget.limit) == ("CLOSED", Decimal(10))
    assert not [name for name in events.count() if name.startswith("circuit_breaker")]


@pytest.mark.parametrize("how", ["month's end", "admin"])
def test_a_limit_for_the_window_ends_with_it_and_one_for_good_stays(
    clock: Clock, open_ledger: OpenLedger, limits: AuditedLimits, books: Books, how: str
) -> None:
    ledger = open_ledger()

    def next_window() -> Limits:
        if how == "admin":
            reset(ledger)
        else:
            clock.advance(seconds=timedelta(days=31).total_seconds())
        *_, found = ledger.budget()
        assert found.next_window == found.in_force
        return found

    assert change(limits, "3", window=True).next_window == 1
    ended = next_window()
    assert (ended.in_force, ended.audited) == (ONE, None)
    assert change(limits, "2").next_window == 2
    over = change(limits, "4", window=True)
    assert (over.in_force, over.next_window) == (FOUR, TWO)
    stays = next_window()
    assert (stays.in_force, stays.audited and stays.audited.amount) == (TWO, TWO)
    assert next_window().in_force == 2
    assert [row["limit_usd"] for row in books.rows("SELECT limit_usd FROM budget_window ORDER BY id")] == [3, 4, 2, 2]
    resets = books.rows("SELECT before, after FROM audit WHERE action = 'budget.reset' ORDER BY n")
    shown = [(row["before"].get("audited_limit_usd"), row["after"].get("audited_limit_usd")) for row in resets]
    assert shown == [(3, None), (4, 2), (2, 2)]


def test_null_takes_back_both_and_the_setting_is_in_force(
    open_ledger: OpenLedger, limits: AuditedLimits, books: Books
) -> None:
    ledger = open_ledger()
    change(limits, "2")
    change(limits, "3", window=True)
    found = change(limits, None)
    assert (found.in_force, found.next_window, found.audited) == (ONE, ONE, None)
    reset(ledger)
    assert ledger.budget()[0].limit == 1
    assert books.rows("SELECT FROM budget_limit WHERE ended_at IS NULL") == []
    assert [row["amount"] for row in books.rows("SELECT amount FROM budget_limit ORDER BY set_at")] == [2, 3, None]


def test_for_good_replaces_every_other(limits: AuditedLimits) -> None:
    change(limits, "2")
    change(limits, "3", window=True)
    found = change(limits, "4")
    assert (found.in_force, found.next_window) == (FOUR, FOUR)


def test_none_passes_the_deploys_maximum(open_limits: OpenLimits, open_ledger: OpenLedger, books: Books) -> None:
    limits = open_limits(AI_MONTHLY_BUDGET_MAX_USD="2")
    with pytest.raises(InvalidRequestError, match=r"AI_MONTHLY_BUDGET_MAX_USD=2\b") as refused:
        change(limits, "2.000000000001")
    assert refused.value.param == "monthly_limit_usd"
    assert books.rows("SELECT FROM budget_limit") == []
    assert change(limits, "2").in_force == 2
    lowered = open_ledger(AI_MONTHLY_BUDGET_MAX_USD="1.5")
    with pytest.raises(BudgetExceededError):
        lowered.reserve(a_call(), [candidate("1.6")])
    budget, *_, found = lowered.budget()
    assert (budget.limit, found.in_force, found.next_window) == (Decimal("1.5"), Decimal("1.5"), Decimal("1.5"))
    assert found.audited is not None and found.audited.amount == 2


def test_it_is_audited_in_its_own_transaction(limits: AuditedLimits, books: Books, events: Events) -> None:
    change(limits, "2", window=True)
    entries = books.rows("SELECT * FROM audit")
    assert [entry["action"] for entry in entries] == ["budget.limit_changed"]
    [entry] = entries
    assert (entry["actor"], entry["source_ip"]) == ("key_boss", "192.0.2.7")
    assert entry["request_id"] == "request-of-the-admin"
    assert (entry["before"]["in_force"], entry["before"]["audited"]) == (1, None)
    assert (entry["after"]["in_force"], entry["after"]["setting"], entry["after"]["reason"]) == (2, 1, "launch week")
    assert entry["after"]["audited"]["until"] == "window"
    [line] = events.of("audit")
    assert (line["action"], line["actor"], line["reason"]) == ("budget.limit_changed", "key_boss", "launch week")
    assert (line["before"]["in_force"], line["after"]["in_force"]) == (1, 2)


def test_sent_twice_it_is_set_once_and_tells_its_threshold_again(
    open_ledger: OpenLedger, limits: AuditedLimits, books: Books
) -> None:
    spend(open_ledger(), "0.5")
    sent = argument(limits, "0.6", "01939f00-0000-7000-8000-000000000001")
    first = limits._database.call(module._SET, sent)
    again = limits._database.call(module._SET, sent)
    assert [event["state"] for event in again["threshold_events"] or ()] == ["HALF_OPEN"]
    assert (first["budget"], first["limits"]) == (again["budget"], again["limits"])
    assert (len(books.rows("SELECT FROM audit")), len(books.rows("SELECT FROM budget_limit"))) == (1, 1)


def test_calls_go_on_in_slots_under_it_and_stay_below_its_threshold(
    open_ledger: OpenLedger, limits: AuditedLimits, books: Books
) -> None:
    ledger = open_ledger(AI_LEDGER_SLOTS=str(SLOTS))
    spend(ledger, "0.001")
    change(limits, "0.4")
    spend(ledger, "0.001")
    held = ledger.reserve(a_call(), [candidate("0.001")])
    assert books.entry(held.id)["slot"] is not None
    [row] = books.rows("SELECT sum(allocated) AS allocated, max(ceiling) AS ceiling FROM budget_slot")
    assert row["ceiling"] == Decimal("0.32")
    assert Decimal("0.2") < row["allocated"] < Decimal("0.32")
    change(limits, "4")
    spend(ledger, "0.5")  # of the larger parts: the smaller ones were taken back
    books.check(limit=Decimal(4))


def test_a_reservation_that_waits_for_a_lowered_limit_is_not_made_under_the_old_one(
    open_ledger: OpenLedger, limits: AuditedLimits, books: Books, database_url: str, slots: str
) -> None:
    ledger = open_ledger(AI_LEDGER_SLOTS=slots)
    for _ in range(2):
        ledger.settle(released(ledger.reserve(a_call("first"), [candidate("0.001")])))
    assert bool(books.rows("SELECT FROM budget_slot WHERE allocated > 0")) == (slots != "1")
    with psycopg.connect(database_url) as admin, ThreadPoolExecutor(1) as pool:
        lowered = dumps(argument(limits, "0.01", "01939f00-0000-7000-8000-000000000002"))
        admin.execute("SELECT ledger_set_limit(%s::jsonb)", (lowered,))
        waiting = pool.submit(ledger.reserve, a_call(), [candidate("0.05")])
        wait_for_a_lock(books)
        admin.commit()
        with pytest.raises(BudgetExceededError):
            waiting.result(timeout=PATIENCE_SECONDS)
    assert books.only_window(limit=Decimal("0.01")).reserved == 0


def test_a_limit_that_is_lowered_waits_for_reservations_under_way_and_counts_them(
    open_ledger: OpenLedger, limits: AuditedLimits, books: Books, database_url: str, slots: str
) -> None:
    ledger = open_ledger(AI_LEDGER_SLOTS=slots)
    for _ in range(2):
        ledger.settle(released(ledger.reserve(a_call("first"), [candidate("0.001")])))
    sent = {
        "settings": dict(limits._settings) | {"slots": int(slots)},
        "entry": {
            "id": "01939f00-0000-7000-8000-000000000003",
            "request_id": "under-way",
            "attempt": 1,
            "operation": "chat",
            "tier": "sota",
            "key_id": None,
        },
        "candidates": [{"provider": "openai", "model": "gpt", "bound": Decimal("0.05"), "tokens": 0}],
        "probe_seconds": 30,
    }
    with psycopg.connect(database_url) as caller, ThreadPoolExecutor(1) as pool:
        caller.execute("SELECT ledger_reserve(%s::jsonb)", (dumps(sent),))
        waiting = pool.submit(limits.change, Decimal("0.01"), None, "stop it", ADMIN)
        wait_for_a_lock(books)
        caller.commit()
        budget, _ = waiting.result(timeout=PATIENCE_SECONDS)
    assert (budget.window.reserved, budget.remaining, budget.limit) == (Decimal("0.05"), ZERO, Decimal("0.01"))


def test_no_call_is_admitted_beyond_the_limit_while_it_is_changed_under_load(
    open_ledger: OpenLedger, limits: AuditedLimits, books: Books, slots: str
) -> None:
    """An onlooker's snapshots: whenever more is taken than the limit in force, nothing is added to it."""
    callers = [open_ledger(AI_LEDGER_SLOTS=slots) for _ in range(6)]
    together = Barrier(len(callers) + 1)

    def call(ledger: Ledger) -> int:
        together.wait(timeout=PATIENCE_SECONDS)
        admitted = 0
        for _ in range(30):
            try:
                held = ledger.reserve(a_call(f"request-{next(_calls)}"), [candidate("0.004")])
            except FusewireError:
                continue
            admitted += 1
            ledger.settle(settled(held, "0.003"))
        return admitted

    with ThreadPoolExecutor(len(callers)) as pool:
        running = [pool.submit(call, ledger) for ledger in callers]
        together.wait(timeout=PATIENCE_SECONDS)
        for usd in ("0.05", "0.2", "0.1", "0.02", "0.3", "0.15"):
            _, found = limits.change(Decimal(usd), None, "under load", ADMIN)
            at_first = books.only_window()
            again = books.only_window()
            # A settlement only lowers what is taken; a reservation raises it, up to the limit.
            taken = at_first.spent + at_first.reserved
            assert again.spent + again.reserved <= max(taken, found.in_force)
        admitted = sum(each.result(timeout=PATIENCE_SECONDS) for each in running)
    assert admitted > 0
    window = books.only_window(limit=Decimal("0.3"))
    assert window.spent == admitted * Decimal("0.003")


def test_a_key_goes_by_its_own_limit(open_ledger: OpenLedger, limits: AuditedLimits, keys: Keys) -> None:
    key = keys.make(budget="0.1")
    change(limits, "5")
    with pytest.raises(BudgetExceededError) as refused:
        open_ledger().reserve(a_call(key_id=key), [candidate("0.2")])
    assert refused.value.budget == key
