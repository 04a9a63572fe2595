"""Thirty-two execution environments on one window: the limit holds at every moment, and no call is lost."""

import random
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from threading import Barrier
from typing import LiteralString
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.rows import TupleRow

from fusewire.budget.ledger import Ledger
from fusewire.budget.reservation import AllCoolingError, Booked, HealthUpdate, Reservation, Settlement
from fusewire.budget.wire import SettlementMode, sql_settings
from fusewire.errors import BudgetExceededError, BudgetReservedError
from fusewire.json import dumps
from tests.conftest import CoreFactory
from tests.integration.budget.books import (
    Books,
    Events,
    a_call,
    at_bound,
    candidate,
    released,
    settled,
    wait_for_a_lock,
)
from tests.integration.budget.conftest import OpenLedger
from tests.integration.budget.grouped import counted_groups
from tests.integration.budget.keys import Keys
from tests.support.patience import PATIENCE_SECONDS

THREADS = 32
LIMIT = Decimal(1)


@dataclass
class Answer:
    """What one environment believes it did: how each of its entries ended, last word last."""

    entries: dict[UUID, tuple[SettlementMode | None, Decimal]] = field(default_factory=dict)
    refused: int = 0


class Environment:
    """One Lambda's execution environment, making calls at random and keeping its own account of them."""

    def __init__(self, number: int, ledger: Ledger, key_id: str | None = None) -> None:
        self.ledger = ledger
        self.key_id = key_id
        self.result = Answer()
        self._random = random.Random(number)  # noqa: S311 - the same calls in every run
        self._name = f"environment-{number}"

    def call(self, *, crashes: bool = False, providers: tuple[str, ...] = ("openai",)) -> None:
        """One call of up to three attempts; with several providers, over those that aren't cooling down."""
        after: Settlement | None = None
        for attempt in range(1, 4):
            bound = Decimal(self._random.randint(1, 60)).scaleb(-3)
            chain = [candidate(bound, provider) for provider in self._random.sample(providers, len(providers))]
            try:
                reservation = self.ledger.reserve(
                    a_call(self._name, key_id=self.key_id), chain, attempt=attempt, after=after
                )
            except (BudgetExceededError, BudgetReservedError, AllCoolingError):
                self.result.refused += 1
                return
            self.result.entries[reservation.id] = (None, bound)
            if crashes and self._random.random() < 0.25:
                return
            if attempt == 3 or self._random.random() < 0.6:
                self.ledger.settle(self._settlement(reservation))
                return
            provider = reservation.candidate.provider
            health_update = HealthUpdate(provider, "count", "server_error", seconds=0.01, threshold=1, max_seconds=0.02)
            after = self._noted(self._random.choice((at_bound, released))(reservation, health_update=health_update))

    def _settlement(self, reservation: Reservation) -> Settlement:
        bound = reservation.candidate.bound
        cost = (bound * self._random.randint(0, 1000)).scaleb(-3)
        return self._noted(
            self._random.choice((settled(reservation, cost), at_bound(reservation), released(reservation)))
        )

    def _noted(self, settlement: Settlement) -> Settlement:
        reservation = settlement.reservation
        cost = {"actual": settlement.cost, "bound": reservation.candidate.bound}.get(settlement.mode) or Decimal(0)
        self.result.entries[reservation.id] = (settlement.mode, cost)
        return settlement


def all_at_once(jobs: list[Callable[[], None]], meanwhile: Callable[[], object]) -> int:
    """Run every job in a thread of its own, all starting together, and `meanwhile` again and again until they end."""
    start, observed = Barrier(len(jobs)), 0

    def started(job: Callable[[], None]) -> None:
        start.wait(timeout=PATIENCE_SECONDS)
        job()

    with ThreadPoolExecutor(len(jobs)) as pool:
        futures = [pool.submit(started, job) for job in jobs]
        while wait(futures, timeout=0).not_done:
            meanwhile()
            observed += 1
    for future in futures:
        future.result()
    return observed


def reset_once(ledger: Ledger) -> None:
    ledger.reset(actor="admin", source_ip=None, request_id="reset", reason=None)


@pytest.mark.usefixtures("patience")
@pytest.mark.parametrize("together", [1, 8])
def test_no_limit_is_passed_at_any_moment(
    open_ledger: OpenLedger, books: Books, keys: Keys, events: Events, together: int
) -> None:
    """Four keys whose budgets sum to more than the company's."""
    limits = {
        keys.make(f"key-{n}", budget=limit): Decimal(limit) for n, limit in enumerate(("0.6", "0.4", "0.3", "0.2"))
    }
    ledgers = [open_ledger(AWS_LAMBDA_MAX_CONCURRENCY=str(together)) for _ in range(THREADS // together)]
    grouped = [counted_groups(ledger) for ledger in ledgers if together > 1]
    environments = [Environment(number, ledgers[number // together], f"key-{number % 4}") for number in range(THREADS)]

    def work(environment: Environment) -> None:
        for _ in range(20):
            environment.call()

    observed = all_at_once(
        [lambda e=e: work(e) for e in environments],  # type: ignore[misc]
        lambda: books.check(limit=LIMIT, keys=limits),
    )

    assert observed > 0
    windows = {window.budget: window for window in books.check(limit=LIMIT, keys=limits)}
    ends = [end for e in environments for end in e.result.entries.values()]
    for budget, window in windows.items():
        own = [end for e in environments if budget in ("global", e.key_id) for end in e.result.entries.values()]
        assert window.reserved == 0
        assert window.spent == sum(cost for _, cost in own)
        assert window.calls == sum(mode in ("actual", "bound") for mode, _ in own)
    assert len(windows) == 5
    assert len(books.rows("SELECT FROM ledger")) == len(ends)
    assert sum(e.result.refused for e in environments) > 0, "the budget was never the thing that was short"
    assert events.count()["ledger.unavailable"] == 0
    assert all(counter["calls"] > 100 for counter in grouped)


@pytest.mark.usefixtures("patience")
@pytest.mark.parametrize(("slots", "together"), [("1", 1), ("3", 1), ("1", 8)])
def test_failovers_resets_reads_and_expiry_never_wait_for_each_other_in_a_circle(
    open_ledger: OpenLedger, books: Books, keys: Keys, events: Events, database_url: str, slots: str, together: int
) -> None:
    limits = {keys.make(f"key-{number}", budget="0.3"): Decimal("0.3") for number in range(3)}
    variables = {"AI_LEDGER_SLOTS": slots, "AWS_LAMBDA_MAX_CONCURRENCY": str(together)}
    callers = THREADS - 8
    ledgers = [open_ledger(AI_RESERVATION_TTL_SECONDS="0.03", **variables) for _ in range(callers // together)]
    grouped = [counted_groups(ledger) for ledger in ledgers if together > 1]
    environments = [
        Environment(number, ledgers[number // together], [*limits, None][number % 4]) for number in range(callers)
    ]
    admins = [open_ledger() for _ in range(4)]
    schedulers = [open_ledger() for _ in range(2)]
    readers = [open_ledger() for _ in range(2)]

    def work(environment: Environment) -> None:
        for _ in range(12):
            environment.call(crashes=True, providers=("vllm", "azure", "openai", "aws"))

    def reset(ledger: Ledger) -> None:
        for number in range(15):
            budget = "global" if ledger in admins[:2] else f"key-{number % 3}"
            ledger.reset(actor="admin", source_ip=None, request_id=f"reset-{number}", reason=None, budget=budget)

    def schedule(ledger: Ledger) -> None:
        for _ in range(15):
            ledger.scheduled_reset(due=datetime.now(UTC) + timedelta(minutes=1), request_id="schedule")

    def read(ledger: Ledger) -> None:
        for _ in range(30):
            ledger.budget()

    jobs: list[Callable[[], None]] = []
    jobs += [lambda e=e: work(e) for e in environments]  # type: ignore[misc]
    jobs += [lambda a=a: reset(a) for a in admins]  # type: ignore[misc]
    jobs += [lambda s=s: schedule(s) for s in schedulers]  # type: ignore[misc]
    jobs += [lambda r=r: read(r) for r in readers]  # type: ignore[misc]
    all_at_once(jobs, lambda: books.check(limit=LIMIT, keys=limits))

    # A deadlock's victim would have shown as an error of its caller, or as a settlement that was kept.
    assert events.count()["ledger.unavailable"] == 0
    as_if_a_minute_had_passed(database_url)
    deadline = datetime.now(UTC) + timedelta(seconds=10)
    while any(window.reserved for window in books.check(limit=LIMIT, keys=limits)):
        assert datetime.now(UTC) < deadline, "crashed calls are still reserved long after their time"
        readers[0].budget()

    statuses = {"actual": "settled", "bound": "settled", "release": "released", None: "settled"}
    found = {row["id"]: (row["status"], row["cost"] or 0) for row in books.rows("SELECT id, status, cost FROM ledger")}
    assert found == {
        entry: (statuses[mode], cost) for e in environments for entry, (mode, cost) in e.result.entries.items()
    }
    opened = Counter(row["opened_by"] for row in books.rows("SELECT opened_by FROM budget_window"))
    assert opened == {"use": 4, "admin": 60, "schedule": opened["schedule"]}
    assert events.count()["circuit_breaker.manual_reset"] == 60
    assert all(counter["calls"] > 20 for counter in grouped)
    crashed = sum(mode is None for e in environments for mode, _ in e.result.entries.values())
    assert events.count()["ledger.settled_at_bound"] >= crashed > 0


def test_a_reservation_waits_for_one_under_way_and_counts_it(
    open_ledger: OpenLedger, core: CoreFactory, books: Books, database_url: str
) -> None:
    """However long the other one's commit takes: the sums that decide are those of after it."""
    ledger = open_ledger()
    ledger.settle(released(ledger.reserve(a_call(), [candidate("0.1")])))  # so that no sweep is what waits
    argument = {
        "settings": sql_settings(core.settings(AI_MONTHLY_BUDGET_USD="1")),
        "entry": {"id": str(uuid4()), "request_id": "slow", "attempt": 1, "operation": "chat", "tier": None},
        "candidates": [{"provider": "openai", "model": "gpt", "bound": Decimal("0.6")}],
        "probe_seconds": 30,
    }
    with psycopg.connect(database_url) as slow, ThreadPoolExecutor(1) as pool:
        slow.execute("SELECT ledger_reserve(%s::jsonb)", (dumps(argument),))
        quick = pool.submit(lambda: ledger.reserve(a_call(), [candidate("0.6")]))
        wait_for_a_lock(books)
        slow.commit()
        with pytest.raises(BudgetReservedError):
            quick.result(timeout=PATIENCE_SECONDS)
    assert books.only_window(limit=LIMIT).reserved == Decimal("0.6")


def test_who_waits_for_the_company_waits_in_one_queue(open_ledger: OpenLedger, books: Books, database_url: str) -> None:
    """In which each commit lets on the one that has waited longest, and no other is woken for it. Whoever isn't in it,
    an administrator's statement, holds up the first, and the rest stays where it is."""
    ledgers = [open_ledger() for _ in range(6)]
    held = [ledger.reserve(a_call(), [candidate("0.05")]) for ledger in ledgers[:2]]
    with psycopg.connect(database_url) as holder, ThreadPoolExecutor(6) as pool:
        holder.execute("SELECT FROM budget_window FOR UPDATE")
        came: list[Future[Reservation | Booked]] = []
        for number, ledger in enumerate(ledgers):
            came.append(
                pool.submit(ledger.settle, settled(held[number], "0.01"))
                if number < len(held)
                else pool.submit(ledger.reserve, a_call(), [candidate("0.05")])
            )
            wait_for_a_lock(books, waiting=number + 1)
        [waits] = books.rows(
            "SELECT count(*) FILTER (WHERE locktype = 'advisory') AS queued, count(*) AS all"
            " FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE NOT granted AND datname = current_database()"
        )
        holder.rollback()
        results = [each.result(timeout=PATIENCE_SECONDS) for each in came]
    assert (waits["queued"], waits["all"]) == (5, 6)
    in_order = [books.entry(result.id)["reserved_at"] for result in results if isinstance(result, Reservation)]
    assert in_order == sorted(in_order)
    assert max(books.entry(each.id)["ended_at"] for each in held) < min(in_order)


def test_a_failover_waits_for_its_old_window_before_it_locks_the_open_one(
    open_ledger: OpenLedger, books: Books, database_url: str
) -> None:
    """Older windows first, everywhere: the other way round it would hold up every call, and meet the sweep head on."""
    ledger, other = open_ledger(), open_ledger()
    first = ledger.reserve(a_call(), [candidate("0.5")])
    ledger.reset(actor="admin", source_ip=None, request_id="reset", reason=None)
    with psycopg.connect(database_url) as holder, ThreadPoolExecutor(1) as pool:
        holder.execute("SELECT FROM budget_window WHERE id = %s FOR UPDATE", (first.budget.window.id,))
        failover = pool.submit(
            lambda: ledger.reserve(a_call(), [candidate("0.5")], attempt=2, after=settled(first, "0.1"))
        )
        wait_for_a_lock(books)

        other.settle(settled(other.reserve(a_call(), [candidate("0.4")]), "0.2"))

        assert not failover.done()
        holder.rollback()
        failover.result(timeout=PATIENCE_SECONDS)
    old, new = books.check(limit=LIMIT)
    assert (old.spent, new.spent, new.reserved) == (Decimal("0.1"), Decimal("0.2"), Decimal("0.5"))


def test_a_call_is_held_to_its_key_as_it_is_when_its_window_is_free(
    open_ledger: OpenLedger, books: Books, keys: Keys, events: Events, database_url: str
) -> None:
    """Whoever waited before it has already told what the lowered budget crossed; taken back, it would be told again."""
    ledger, other, key = open_ledger(), open_ledger(), keys.make(budget="0.15")
    held = ledger.reserve(a_call(key_id=key), [candidate("0.05")])
    assert held.key is not None
    reset_once(ledger)  # so that its end waits for the key's window without the company's open one
    with psycopg.connect(database_url) as holder, ThreadPoolExecutor(2) as pool:
        holder.execute("SELECT FROM budget_window WHERE id = %s FOR UPDATE", (held.key.window.id,))
        settling = pool.submit(lambda: ledger.settle(settled(held, "0.04")))
        wait_for_a_lock(books)
        reserving = pool.submit(lambda: other.reserve(a_call(key_id=key), [candidate("0.05")]))
        wait_for_a_lock(books, waiting=2)
        keys.change(key, limit_usd="0.05")
        holder.rollback()
        settling.result(timeout=PATIENCE_SECONDS)
        with pytest.raises(BudgetExceededError):
            reserving.result(timeout=PATIENCE_SECONDS)
    with pytest.raises(BudgetExceededError):
        other.reserve(a_call(key_id=key), [candidate("0.02")])
    books.check(limit=LIMIT, keys={key: Decimal("0.05")})
    assert events.count()["circuit_breaker.alert"] == 1


@pytest.mark.parametrize("sweep", [Ledger.budget, reset_once])
def test_a_sweep_locks_the_open_window_before_any_keys(
    open_ledger: OpenLedger, books: Books, keys: Keys, database_url: str, sweep: Callable[[Ledger], object]
) -> None:
    """Even one that a reset opened while the sweep waited: the other way round, a reserve meets it head on."""
    ledger, key = open_ledger(AI_RESERVATION_TTL_SECONDS="0.01"), keys.make(budget="0.5")
    flying = ledger.reserve(a_call(key_id=key), [candidate("0.1")])
    assert flying.key is not None
    with (
        psycopg.connect(database_url) as resetting,
        psycopg.connect(database_url) as holder,
        psycopg.connect(database_url, autocommit=True) as onlooker,
        ThreadPoolExecutor(1) as pool,
    ):
        holder.execute("SELECT FROM budget_window WHERE id = %s FOR UPDATE", (flying.key.window.id,))
        resetting.execute("UPDATE budget_window SET closed_at = now() WHERE budget = 'global'")
        resetting.execute("""
            INSERT INTO budget_window (budget, opened_at, opened_by, resets_at)
            VALUES ('global', now(), 'admin', now() + interval '1 month')
        """)
        sweeping = pool.submit(sweep, ledger)
        wait_for_a_lock(books)
        resetting.commit()
        deadline = datetime.now(UTC) + timedelta(seconds=5)
        open_window = "SELECT FROM budget_window WHERE budget = 'global' AND closed_at IS NULL FOR UPDATE NOWAIT"
        while is_free(onlooker, open_window):
            assert datetime.now(UTC) < deadline, "it waits for a key's window, and the company's open one is free"
        holder.rollback()
        sweeping.result(timeout=PATIENCE_SECONDS)
    assert {window.reserved for window in books.check()} == {0}


def test_a_sweep_reclaims_the_slots_before_it_books_in_any_keys_window(
    open_ledger: OpenLedger, books: Books, keys: Keys, database_url: str
) -> None:
    """A call in a slot holds it while it waits for its key's window: they would wait for each other in a circle."""
    dying, key = open_ledger(AI_RESERVATION_TTL_SECONDS="0.01"), keys.make()
    crashed = dying.reserve(a_call(key_id=key), [candidate("0.1")])
    reset_once_without_sweeping(database_url)
    ledger = open_ledger(AI_LEDGER_SLOTS="2")
    ledger.settle(released(ledger.reserve(a_call(), [candidate("0.001")])))
    assert books.rows("SELECT FROM budget_slot WHERE allocated > 0")
    assert crashed.key is not None
    with (
        psycopg.connect(database_url) as holder,
        psycopg.connect(database_url, autocommit=True) as onlooker,
        ThreadPoolExecutor(1) as pool,
    ):
        holder.execute("SELECT FROM budget_window WHERE id = %s FOR UPDATE", (crashed.key.window.id,))
        sweeping = pool.submit(ledger.budget)
        deadline = datetime.now(UTC) + timedelta(seconds=5)
        while is_free(onlooker, "SELECT FROM budget_slot WHERE allocated > 0 FOR UPDATE NOWAIT"):
            assert datetime.now(UTC) < deadline, "it waits for a key's window, and the slots are free"
        holder.rollback()
        sweeping.result(timeout=PATIENCE_SECONDS)
    assert {window.reserved for window in books.check()} == {0}


def as_if_a_minute_had_passed(database_url: str) -> None:
    """In a slot nothing expires within a minute of the last sweep."""
    with psycopg.connect(database_url) as owner:
        owner.execute("UPDATE budget_window SET expired_until = '-infinity'")
        owner.execute("UPDATE ledger SET expires_at = now() WHERE status = 'reserved'")


def reset_once_without_sweeping(database_url: str) -> None:
    """As a reset does that is a moment too early for what is about to expire."""
    with psycopg.connect(database_url) as resetting:
        resetting.execute("UPDATE budget_window SET closed_at = now() WHERE budget = 'global'")
        resetting.execute("""
            INSERT INTO budget_window (budget, opened_at, opened_by, resets_at)
            VALUES ('global', now(), 'admin', now() + interval '1 month')
        """)


def is_free(onlooker: psycopg.Connection[TupleRow], statement: LiteralString) -> bool:
    """Whether nobody has these rows locked."""
    try:
        onlooker.execute(statement)
    except psycopg.errors.LockNotAvailable:
        return False
    return True
