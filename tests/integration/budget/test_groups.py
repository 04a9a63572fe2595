"""Reservations and settlements of one environment that come together: one transaction, each call's own result."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from decimal import Decimal
from typing import Any, Final
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql

from fusewire.budget.ledger import Ledger
from fusewire.budget.reservation import HealthUpdate, Reservation
from fusewire.budget.wire import RESERVE, sql_settings
from fusewire.errors import BudgetExceededError, LedgerUnavailableError
from fusewire.json import dumps
from fusewire.store.db import GROUP, Database, StatementRefusedError
from tests.conftest import CoreFactory
from tests.integration.budget.books import ZERO, Books, Events, a_call, candidate, released, settled, wait_for_a_lock
from tests.integration.budget.conftest import OpenLedger
from tests.integration.budget.grouped import counted_groups
from tests.integration.budget.keys import Keys
from tests.integration.budget.wire import Wire
from tests.support.database import ask
from tests.support.patience import PATIENCE_SECONDS

CALLERS: Final = 6
WAIT: Final = {"max_per_key": 9, "lease_seconds": 4, "waited_percent": 0}


@pytest.fixture
def group(core: CoreFactory, database_url: str, open_ledger: OpenLedger) -> Iterator[Callable[..., list[Any]]]:
    """`group(call, ...)` has the results of calls that are sent together, at a budget of 1 USD with a window open; none
    where Postgres takes the group back.
    """
    open_ledger().budget()
    settings = core.settings(AI_MONTHLY_BUDGET_USD="1")
    database = Database(settings.database_url)

    def send(*calls: dict[str, Any], resent: bool = False) -> list[Any]:
        argument: dict[str, Any] = {"settings": sql_settings(settings), "calls": calls}
        if resent:
            argument["resent"] = True
        answer = database._together(argument, PATIENCE_SECONDS)
        return [] if answer is None else answer["results"]

    yield send
    database.close()


def reserve(bound: str, key_id: str | None = None, *, entry_id: UUID | None = None, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - as JSON has it
    entry = {"id": str(entry_id or uuid4()), "request_id": "r", "attempt": 1, "operation": "chat", "tier": None}
    offered = [{"provider": "openai", "model": "gpt", "bound": Decimal(bound), "tokens": 1}]
    return {"reserve": {"entry": entry | {"key_id": key_id}, "candidates": offered, "probe_seconds": 30, **more}}


def settle(entry_id: UUID | str, cost: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - as above
    settlement = {"id": str(entry_id), "mode": "actual", "outcome": "success", "cost": Decimal(cost), **more}
    return {"settle": {"settlement": settlement}}


def group_or_why(database: Database, argument: Mapping[str, object]) -> str | list[str]:
    """The statuses of a group's settlements, or the class of the error for which Postgres has taken it back."""
    try:
        return [each["status"] for each in database._alone(GROUP, argument, PATIENCE_SECONDS)["results"]]
    except LedgerUnavailableError as error:
        return error.reason


def status_or_why(database: Database, argument: Mapping[str, object]) -> str:
    """The same for one by itself."""
    try:
        return str(ask(database, "SELECT ledger_settle($1::jsonb)", argument)["status"])
    except LedgerUnavailableError as error:
        return error.reason


def at_once(books: Books, database_url: str, *calls: Callable[[], Any]) -> list[Any]:
    """What they return or raise when all but the first have come while that one waits for the company's row."""

    def outcome(call: Callable[[], Any]) -> Any:  # noqa: ANN401 - whatever it is
        try:
            return call()
        except Exception as error:  # noqa: BLE001 - the test looks at it
            return error

    with psycopg.connect(database_url) as holder, ThreadPoolExecutor(len(calls)) as pool:
        holder.execute("SELECT FROM budget_window WHERE budget = 'global' FOR UPDATE")
        first = pool.submit(outcome, calls[0])
        wait_for_a_lock(books)
        began = time.monotonic()
        others = [pool.submit(outcome, call) for call in calls[1:]]
        while time.monotonic() - began < 0.02:  # less than what the first may hold them up for
            pass
        holder.rollback()
        return [each.result(PATIENCE_SECONDS) for each in (first, *others)]


def test_calls_that_come_while_one_is_under_way_are_booked_together(
    open_ledger: OpenLedger, books: Books, database_url: str
) -> None:
    ledger = open_ledger(AWS_LAMBDA_MAX_CONCURRENCY="8")
    ledger.budget()
    grouped = counted_groups(ledger)
    ledger.settle(released(ledger.reserve(a_call(), [candidate("0.1")])))
    calls = [lambda n=n: ledger.reserve(a_call(f"request-{n}"), [candidate("0.01")]) for n in range(CALLERS)]
    for _ in range(20):  # a busy machine may take its time between two of them
        made = at_once(books, database_url, *calls)
        assert all(isinstance(each, Reservation) for each in made)
        assert [each.call.request_id for each in made] == [f"request-{n}" for n in range(CALLERS)]
        ends = [lambda each=each: ledger.settle(settled(each, "0.001")) for each in made]
        assert all(booked.cost == Decimal("0.001") for booked in at_once(books, database_url, *ends))
        if grouped["calls"] >= 2 * (CALLERS - 1) and grouped["groups"] * 2 < grouped["calls"]:
            break
    else:
        raise AssertionError(f"they weren't grouped: {grouped}")
    [window] = books.check(limit=Decimal(1))
    assert window.reserved == 0
    assert window.spent == Decimal("0.001") * (window.calls)


def test_a_call_that_is_refused_takes_no_other_with_it(group: Callable[..., list[Any]], books: Books) -> None:
    pending = uuid4()
    group(reserve("0.2", entry_id=pending))
    results = group(reserve("0.3"), reserve("5"), settle(uuid4(), "0.1"), settle(pending, "0.15"), reserve("0.4"))
    assert [result and result.get("refused", "done") for result in results] == [
        *("done", "exceeded", None, "done", "done"),
    ]
    window = books.only_window(limit=Decimal(1))
    assert (window.spent, window.reserved) == (Decimal("0.15"), Decimal("0.7"))


@pytest.mark.parametrize("wrong", ["reservation", "settlement"])
def test_of_a_group_with_a_wrong_call_nothing_is_booked(
    group: Callable[..., list[Any]], books: Books, wrong: str
) -> None:
    pending = uuid4()
    group(reserve("0.2", entry_id=pending))
    too_many = reserve("0.1")
    too_many["reserve"]["entry"]["attempt"] = 10**12
    call = too_many if wrong == "reservation" else settle(pending, "0.2", input_tokens=10**30)
    assert group(reserve("0.3"), call, reserve("0.4")) == []
    window = books.only_window(limit=Decimal(1))
    assert (window.spent, window.reserved) == (ZERO, Decimal("0.2"))


def test_of_a_group_with_an_entry_that_somebody_has_locked_nothing_is_booked(
    group: Callable[..., list[Any]], books: Books, database_url: str
) -> None:
    pending = uuid4()
    group(reserve("0.2", entry_id=pending))
    with psycopg.connect(database_url) as forgotten:
        forgotten.execute("SELECT FROM ledger WHERE id = %s FOR UPDATE", (pending,))
        began = time.monotonic()
        try:
            assert group(settle(pending, "0.1"), reserve("0.3")) == []
        except LedgerUnavailableError:
            pytest.fail("the reservation fails with it")
        assert time.monotonic() - began < 4, "as long as for the company's row"
    window = books.only_window(limit=Decimal(1))
    assert (window.spent, window.reserved) == (ZERO, Decimal("0.2"))


def test_of_a_group_with_a_call_that_a_trigger_refuses_nothing_is_booked(
    group: Callable[..., list[Any]], books: Books, database_url: str
) -> None:
    """Any error of one call that Postgres answers, and not only a number out of range."""
    wrong = uuid4()
    with psycopg.connect(database_url) as owner:
        owner.execute(
            sql.SQL(
                "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
                " $$BEGIN IF NEW.id = {}::uuid THEN RAISE 'not this one'; END IF; RETURN NEW; END$$"
            ).format(str(wrong))
        )
        owner.execute("CREATE TRIGGER refuse BEFORE INSERT ON ledger FOR EACH ROW EXECUTE FUNCTION refuse()")
    assert group(reserve("0.1", entry_id=wrong), reserve("0.2")) == []
    assert books.only_window().reserved == ZERO


def test_a_group_that_has_waited_long_for_the_companys_row_is_taken_back_for_one_keys(
    group: Callable[..., list[Any]], books: Books, keys: Keys, database_url: str
) -> None:
    """It isn't how long a group has waited that says whose lock it was."""
    keys.make("key-a")
    assert group(reserve("0.1", "key-a")) != []
    with (
        psycopg.connect(database_url) as forgotten,
        psycopg.connect(database_url) as queue,
        ThreadPoolExecutor(1) as pool,
    ):
        forgotten.execute("SELECT FROM budget_window WHERE budget = 'key-a' FOR UPDATE")
        queue.execute("SELECT FROM budget_window WHERE budget = 'global' FOR UPDATE")
        sent = pool.submit(group, reserve("0.1"), reserve("0.1", "key-a"))
        wait_for_a_lock(books)
        time.sleep(4.5)
        queue.rollback()
        assert sent.result(PATIENCE_SECONDS) == []


def test_sizes_are_counted_in_one_order_beside_a_settlement_in_a_closed_window(
    group: Callable[..., list[Any]], open_ledger: OpenLedger, books: Books, database_url: str, core: CoreFactory
) -> None:
    """Which doesn't hold the open window: a key's row, then its model's. A group has several of the first."""
    old, first, one, two = (uuid4() for _ in range(4))
    group(reserve("0.01", "k2", entry_id=old))
    open_ledger().reset(actor="x", source_ip=None, request_id="x", reason=None)
    group(reserve("0.01", "k2", entry_id=first))
    group(settle(first, "0.001", size=100))
    group(reserve("0.01", "k1", entry_id=one), reserve("0.01", "k2", entry_id=two))
    settings = core.settings(AI_MONTHLY_BUDGET_USD="1")
    late = {"settings": sql_settings(settings), **settle(old, "0.001", size=100)["settle"]}
    with psycopg.connect(database_url, autocommit=True) as owner:
        # Found before a group's patience of a second is over.
        owner.execute(
            sql.SQL("ALTER DATABASE {} SET deadlock_timeout = '50ms'").format(sql.Identifier(owner.info.dbname))
        )
    database = Database(settings.database_url, connections=2, groups=False)
    with psycopg.connect(database_url) as holder, ThreadPoolExecutor(2) as pool:
        holder.execute("SELECT FROM output_size WHERE key_id = 'k2' FOR UPDATE")
        closed = pool.submit(status_or_why, database, late)
        wait_for_a_lock(books)
        calls = [settle(each, "0.001", size=100) for each in (one, two)]
        both = pool.submit(group_or_why, database, {"settings": late["settings"], "calls": calls})
        wait_for_a_lock(books, waiting=2)
        holder.rollback()
        assert closed.result(PATIENCE_SECONDS) == "settled"
        why = both.result(PATIENCE_SECONDS)
    if why == "LockNotAvailable":  # a machine may be busy for a second
        why = group_or_why(database, {"settings": late["settings"], "calls": calls})
    assert why == ["settled"] * 2
    database.close()
    assert books.rows("SELECT key_id, calls FROM output_size ORDER BY key_id") == [
        {"key_id": "", "calls": 4},
        {"key_id": "k1", "calls": 1},
        {"key_id": "k2", "calls": 3},
    ]


def test_a_group_that_waits_for_the_companys_row_in_vain_isnt_sent_again(
    group: Callable[..., list[Any]], database_url: str
) -> None:
    with psycopg.connect(database_url) as forgotten:
        forgotten.execute("SELECT FROM budget_window WHERE budget = 'global' FOR UPDATE")
        with pytest.raises(LedgerUnavailableError):
            group(reserve("0.1"), reserve("0.3"))


def test_a_call_that_is_wrong_takes_no_other_with_it(open_ledger: OpenLedger, books: Books, database_url: str) -> None:
    ledger = open_ledger(AWS_LAMBDA_MAX_CONCURRENCY="8")
    grouped = counted_groups(ledger)
    ledger.settle(released(ledger.reserve(a_call(), [candidate("0.1")])))
    tokens = [0] * 4 + [10**30] + [0] * 2
    calls = [
        lambda n=n, tokens=tokens: ledger.reserve(a_call(f"request-{n}"), [candidate("0.01", tokens=tokens)])
        for n, tokens in enumerate(tokens)
    ]
    for _ in range(20):  # a busy machine may take its time between two of them
        made = at_once(books, database_url, *calls)
        refused = made.pop(4)
        assert isinstance(refused, StatementRefusedError)
        assert all(isinstance(each, Reservation) for each in made)
        for each in made:
            ledger.settle(released(each))
        if grouped["taken back"]:
            break
    else:
        raise AssertionError(f"it wasn't grouped: {grouped}")
    window = books.only_window(limit=Decimal(1))
    assert (window.spent, window.reserved) == (ZERO, ZERO)


def test_settlements_make_room_for_the_reservations_beside_them(group: Callable[..., list[Any]], books: Books) -> None:
    pending = uuid4()
    group(reserve("0.9", entry_id=pending))
    refused, ended = group(reserve("0.8"), settle(pending, "0.1"))
    assert "refused" not in refused
    assert ended["status"] == "settled"
    window = books.only_window(limit=Decimal(1))
    assert (window.spent, window.reserved) == (Decimal("0.1"), Decimal("0.8"))


def test_no_group_passes_a_limit_that_its_calls_would_pass_together(
    group: Callable[..., list[Any]], books: Books, keys: Keys
) -> None:
    keys.make("key-a", budget="0.5")
    results = group(*[reserve("0.3", "key-a") for _ in range(3)], *[reserve("0.3") for _ in range(3)])
    assert [result.get("by", "reserved") for result in results] == [
        *("reserved", "key-a", "key-a"),
        *("reserved", "reserved", "global"),
    ]
    books.check(limit=Decimal(1), keys={"key-a": Decimal("0.5")})


@pytest.mark.parametrize(
    ("call", "what"),
    [
        (lambda pending: settle(pending, "0.1", allowance=50), "an allowance that is raised"),
        (lambda pending: settle(pending, "0.1", refusal={"threshold": 3, "seconds": 60}), "a refusal that is counted"),
        (lambda _: reserve("0.1", settings_snapshot={}), "an environment's first call"),
        (lambda _: reserve("0.1", wait=WAIT | {"holds": True}), "a waiting call"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_isnt_plain_is_left_to_be_sent_alone(
    group: Callable[..., list[Any]], books: Books, call: Callable[[UUID], dict[str, Any]], what: str
) -> None:
    pending = uuid4()
    group(reserve("0.2", entry_id=pending))
    assert group(call(pending)) == [None], what
    window = books.only_window(limit=Decimal(1))
    assert (window.spent, window.reserved) == (ZERO, Decimal("0.2"))


def test_a_provider_that_cools_down_is_probed_by_a_call_alone(
    group: Callable[..., list[Any]], open_ledger: OpenLedger
) -> None:
    ledger = open_ledger()
    failure = HealthUpdate("openai", "now", "server_error", seconds=0.001)
    ledger.settle(released(ledger.reserve(a_call(), [candidate("0.1")]), health_update=failure))
    time.sleep(0.01)
    assert group(reserve("0.1")) == [None]


def test_what_a_group_settles_after_a_reset_is_left(
    group: Callable[..., list[Any]], open_ledger: OpenLedger, books: Books
) -> None:
    pending = uuid4()
    group(reserve("0.2", entry_id=pending))
    open_ledger().reset(actor="x", source_ip=None, request_id="x", reason=None)
    results = group(settle(pending, "0.1"), reserve("0.1"))
    assert results[0] is None and "refused" not in results[1]
    assert [(w.spent, w.reserved) for w in books.check(limit=Decimal(1))] == [
        (ZERO, Decimal("0.2")),
        (ZERO, Decimal("0.1")),
    ]


def test_nothing_is_grouped_before_there_is_a_window(core: CoreFactory, books: Books) -> None:
    settings = core.settings(AI_MONTHLY_BUDGET_USD="1")
    database = Database(settings.database_url)
    argument = {"settings": sql_settings(settings), "calls": [reserve("0.1"), reserve("0.2")]}
    assert ask(database, "SELECT ledger_group($1::jsonb)", argument)["results"] == [None, None]
    database.close()
    assert books.rows("SELECT FROM budget_window") == []


@pytest.mark.parametrize(
    ("calls", "durable"),
    [
        ([reserve("0.5", wait=WAIT)], "off"),
        ([reserve("0.1"), reserve("0.9", wait=WAIT)], "on"),
        ([reserve("0.9", wait=WAIT), reserve("0")], "on"),
    ],
    ids=["a ticket alone", "a ticket last", "a ticket first"],
)
def test_what_is_reserved_beside_a_ticket_waits_for_the_disk(
    group: Callable[..., list[Any]], core: CoreFactory, database_url: str, calls: list[dict[str, Any]], durable: str
) -> None:
    group(reserve("0.6"))
    argument = dumps({"settings": sql_settings(core.settings(AI_MONTHLY_BUDGET_USD="1")), "calls": calls})
    with psycopg.connect(database_url) as session:
        session.execute("SELECT ledger_group(%s::jsonb)", (argument,))
        assert session.execute("SHOW synchronous_commit").fetchone() == (durable,)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_group_whose_answer_is_lost_is_booked_once(
    open_ledger: OpenLedger,
    books: Books,
    events: Events,
    database_url: str,
    when: Any,  # noqa: ANN401 - a Break
) -> None:
    wire = Wire(database_url)
    ledger = open_ledger(wire.url, AWS_LAMBDA_MAX_CONCURRENCY="8")
    ledger.settle(released(ledger.reserve(a_call(), [candidate("0.1")])))
    calls = [lambda n=n: ledger.reserve(a_call(f"request-{n}"), [candidate("0.14")]) for n in range(CALLERS)]
    for _ in range(20):
        wire.break_at("ledger_group", when=when)
        made = at_once(books, database_url, *calls)
        assert all(isinstance(each, Reservation) for each in made)
        if wire.all_broken:
            break
        for each in made:
            ledger.settle(released(each))
    else:
        raise AssertionError("no group was sent")
    if when == "before":
        wire.deliver_late()
    pending = books.rows("SELECT id FROM ledger WHERE status = 'reserved'")
    assert {row["id"] for row in pending} == {each.id for each in made}
    for each in made:
        ledger.settle(settled(each, "0.14"))
    window = books.only_window(limit=Decimal(1))
    assert (window.spent, window.reserved) == (Decimal("0.84"), ZERO)
    assert events.count()["circuit_breaker.alert"] == 1
    wire.close()


def test_a_key_that_somebody_has_locked_is_waited_for_before_anything_is_booked(
    group: Callable[..., list[Any]], keys: Keys, books: Books, database_url: str
) -> None:
    keys.make("key-a")
    [made] = group(reserve("0.1", "key-a"))
    assert "refused" not in made
    with psycopg.connect(database_url) as forgotten, ThreadPoolExecutor(1) as pool:
        forgotten.execute("SELECT FROM budget_window WHERE budget = 'key-a' FOR UPDATE")
        began = time.monotonic()
        waiting = pool.submit(group, reserve("0.1"), reserve("0.1", "key-a"))
        wait_for_a_lock(books)
        writes = "SELECT FROM pg_locks WHERE relation = 'ledger'::regclass AND mode = 'RowExclusiveLock'"
        assert books.rows(writes) == [], "it has booked a call before it has all windows"
        assert waiting.result(PATIENCE_SECONDS) == []
        assert time.monotonic() - began < 4, "as long as for the company's row"
    assert books.rows("SELECT count(*) AS n FROM ledger")[0]["n"] == 1


def test_where_the_room_is_in_slots_nothing_is_grouped_for_a_while(
    open_ledger: OpenLedger, books: Books, keys: Keys, database_url: str
) -> None:
    ledger = open_ledger(AWS_LAMBDA_MAX_CONCURRENCY="8", AI_MONTHLY_BUDGET_USD="1000", AI_LEDGER_SLOTS="")
    ledger.settle(released(ledger.reserve(a_call(), [candidate("0.1")])))
    keys.execute("UPDATE budget_window SET slots = 4, slots_changed_at = clock_timestamp()")
    groups = ledger._database._groups
    assert groups is not None and groups.takes(RESERVE, {"settings": None})
    calls = [lambda n=n: ledger.reserve(a_call(f"request-{n}"), [candidate("0.01")]) for n in range(CALLERS)]
    for _ in range(20):
        made = at_once(books, database_url, *calls)
        assert all(isinstance(each, Reservation) for each in made)
        if not groups.takes(RESERVE, {"settings": None}):
            break
    else:
        raise AssertionError("they go on")
    in_slots = [ledger.reserve(a_call(f"in a slot {n}"), [candidate("0.01")]) for n in range(3)]
    assert all(books.entry(each.id)["slot"] is not None for each in in_slots)
    books.check(limit=Decimal(1000))


def test_a_group_of_two_refused_calls_says_so_to_each(open_ledger: OpenLedger, books: Books, database_url: str) -> None:
    ledger = open_ledger(AWS_LAMBDA_MAX_CONCURRENCY="8")
    ledger.settle(settled(ledger.reserve(a_call(), [candidate("0.1")]), "0.1"))
    results = at_once(books, database_url, *[lambda: ledger.reserve(a_call(), [candidate("0.95")])] * 4)
    assert [type(result) for result in results] == [BudgetExceededError] * 4


def test_threads_that_stop_leave_nobody_behind(open_ledger: OpenLedger) -> None:
    """A call whose thread is told to stop while it sends for others."""
    ledger: Ledger = open_ledger(AWS_LAMBDA_MAX_CONCURRENCY="8")
    ledger.settle(released(ledger.reserve(a_call(), [candidate("0.1")])))
    database = ledger._database
    groups = database._groups
    assert groups is not None
    send, fails = groups._alone, threading.Event()

    def failing(statement: Any, argument: Any, seconds: float) -> Any:  # noqa: ANN401 - as what it stands for
        if not fails.is_set():
            fails.set()
            raise SystemExit
        return send(statement, argument, seconds)

    groups._alone = failing
    with pytest.raises(SystemExit):
        ledger.reserve(a_call(), [candidate("0.1")])
    assert isinstance(ledger.reserve(a_call(), [candidate("0.1")]), Reservation)


def test_a_trace_has_each_calls_own_statement_once(
    open_ledger: OpenLedger, books: Books, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = open_ledger(AWS_LAMBDA_MAX_CONCURRENCY="8")
    grouped = counted_groups(ledger)
    ledger.settle(released(ledger.reserve(a_call(), [candidate("0.1")])))
    traced: list[str] = []

    def statement(sql: str) -> AbstractContextManager[None]:
        traced.append(sql)
        return nullcontext()

    monkeypatch.setattr("fusewire.tracing.statement", statement)
    calls = [lambda: ledger.reserve(a_call(), [candidate("0.01")])] * CALLERS
    for _ in range(20):  # a busy machine may take its time between two of them
        traced.clear()
        at_once(books, database_url, *calls)
        assert traced == ["SELECT ledger_reserve($1::jsonb)"] * CALLERS
        if grouped["calls"]:
            break
    else:
        raise AssertionError("they weren't grouped")


@pytest.mark.parametrize(("together", "waits"), [(1, 1), (8, 0)])
def test_an_environment_that_sends_groups_asks_for_no_slots(
    open_ledger: OpenLedger, books: Books, database_url: str, together: int, waits: int
) -> None:
    """Its calls wait for the row, and who comes meanwhile shares their next commit."""
    ledger = open_ledger(AWS_LAMBDA_MAX_CONCURRENCY=str(together), AI_LEDGER_SLOTS="")
    ledger.settle(released(ledger.reserve(a_call(), [candidate("0.1")])))
    with psycopg.connect(database_url) as holder, ThreadPoolExecutor(1) as pool:
        holder.execute("SELECT pg_advisory_xact_lock(hashtext('fusewire.open_window'))")
        waiting = pool.submit(ledger.reserve, a_call(), [candidate("0.1")])
        wait_for_a_lock(books)
        holder.rollback()
        waiting.result(PATIENCE_SECONDS)
    assert books.rows("SELECT lock_waits FROM budget_window")[0]["lock_waits"] == waits
