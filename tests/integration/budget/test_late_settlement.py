"""Which reservations may be settled after their answer, and that nobody misses the room that they hold till then."""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal

import psycopg
import pytest

from fusewire.budget.audit_context import AuditContext
from fusewire.budget.ledger import Ledger
from fusewire.budget.nodes import Nodes
from fusewire.budget.reservation import Booked, HealthUpdate, Reservation
from tests.integration.budget.books import Books, a_call, at_bound, candidate, released, settled
from tests.integration.budget.conftest import OpenLedger
from tests.integration.budget.keys import Keys

SLOTS = pytest.mark.parametrize("slots", ["1", "4"], ids=["on the row", "in slots"])
ADMIN = AuditContext("admin", "192.0.2.1", "request-of-an-admin")


def reserved(ledger: Ledger, bound: str, **call: str) -> Reservation:
    return ledger.reserve(a_call(**call), [candidate(bound)])  # type: ignore[arg-type]


def test_ample_is_twice_what_is_reserved_below_the_alert_threshold(open_ledger: OpenLedger) -> None:
    """Of 1 USD: 0.8 less what is spent, for what is reserved by now, once more."""
    ledger = open_ledger()
    ledger.settle(settled(reserved(ledger, "0.2"), "0.2"))
    first, second, third = (reserved(ledger, bound) for bound in ("0.2", "0.099999", "0.000001"))
    assert [held.ample for held in (first, second, third)] == [True, True, False]
    for held in (first, second, third):
        ledger.settle(released(held))
    assert reserved(ledger, "0.299999").ample


@SLOTS
@pytest.mark.parametrize("tight", ["key", "team", "division", "user"])
def test_every_budget_on_the_way_has_to_be_ample(
    open_ledger: OpenLedger, keys: Keys, nodes: Nodes, books: Books, slots: str, tight: str
) -> None:
    """0.0125 USD at 80 %: room for twice 0.004, not for twice 0.0051."""
    limits = {name: Decimal("0.0125") if name == tight else None for name in ("key", "team", "division", "user")}
    attributes = {"period": "month", "parent_id": None}
    top = nodes.create(attributes | {"name": "division", "limit_usd": limits["division"]}, ADMIN).id
    low = nodes.create(attributes | {"name": "team", "limit_usd": limits["team"], "parent_id": top}, ADMIN).id
    key = keys.make(node=low)
    keys.change(key, limit_usd=limits["key"], per_user_limit_usd=limits["user"])
    ledger = open_ledger(AI_LEDGER_SLOTS=slots)
    ledger.settle(released(reserved(ledger, "0.0001", key_id=key, user="u")))
    for bound, is_ample in (("0.004", True), ("0.0051", False), ("0.004", True)):
        held = reserved(ledger, bound, key_id=key, user="u")
        assert held.ample is is_ample
        assert (books.entry(held.id)["slot"] is not None) == (slots == "4")
        ledger.settle(released(held))


def test_a_slot_has_to_be_ample_too(open_ledger: OpenLedger, books: Books) -> None:
    """Each of four has about 0.2 USD of the company's 1."""
    ledger = open_ledger(AI_LEDGER_SLOTS="4")
    ledger.settle(released(reserved(ledger, "0.001")))
    held = [reserved(ledger, "0.09"), reserved(ledger, "0.02")]
    assert [books.entry(each.id)["slot"] is not None for each in held] == [True, True]
    assert [each.ample for each in held] == [True, False]


@SLOTS
def test_a_key_whose_tokens_are_limited_is_settled_first(
    open_ledger: OpenLedger, keys: Keys, books: Books, slots: str
) -> None:
    """Until the settlement, the bound's tokens count in the key's minute."""
    key = keys.make(tokens=1_000_000, requests=1_000)
    ledger = open_ledger(AI_LEDGER_SLOTS=slots)
    ledger.settle(released(reserved(ledger, "0.001", key_id=key)))
    assert not reserved(ledger, "0.001", key_id=key).ample
    keys.change(key, tokens_per_minute=None)
    assert reserved(ledger, "0.001", key_id=key).ample


def test_a_probe_is_settled_first(open_ledger: OpenLedger, database_url: str) -> None:
    """The others keep off the provider until it has answered: its caller's next call, too."""
    ledger = open_ledger()
    failed = HealthUpdate("openai", "now", "overloaded", "busy", seconds=60)
    ledger.settle(replace(released(reserved(ledger, "0.001")), health_update=failed))
    with psycopg.connect(database_url) as owner:
        owner.execute("UPDATE provider_health SET cooldown_until = clock_timestamp()")
    probe = reserved(ledger, "0.001")
    assert not probe.ample
    ledger.settle(settled(probe, "0.001", health_update=HealthUpdate("openai", "ok")))
    assert reserved(ledger, "0.001").ample


def test_only_a_settlement_whose_booking_is_known_may_be_late(open_ledger: OpenLedger) -> None:
    ledger = open_ledger()
    held = reserved(ledger, "0.01")
    assert ledger.may_settle_late(settled(held, "0.01"))
    assert not ledger.may_settle_late(settled(held, "0.010001"))
    assert not ledger.may_settle_late(at_bound(held))
    assert not ledger.may_settle_late(replace(settled(held, "0.01"), allowance=9))
    assert not ledger.may_settle_late(settled(replace(held, ample=False), "0.01"))
    old = replace(held, made_at_seconds=held.made_at_seconds - 481)  # it expires after 960 s
    assert not ledger.may_settle_late(settled(old, "0.01"))
    assert not open_ledger(AI_ADMISSION_WAIT_SECONDS="0").may_settle_late(settled(held, "0.01"))


@SLOTS
def test_what_is_foreseen_is_what_is_booked(open_ledger: OpenLedger, keys: Keys, slots: str) -> None:
    key = keys.make(budget="0.5", requests=100)
    ledger = open_ledger(AI_LEDGER_SLOTS=slots)
    for cost in ("0.0000000000071", "0.004", "0"):
        settlement = settled(reserved(ledger, "0.01", key_id=key), cost)
        assert ledger.may_settle_late(settlement)
        foreseen, booked = settlement.foreseen, ledger.settle(settlement, late=True)
        assert foreseen == booked
        assert foreseen.cost == Decimal(cost)


@pytest.mark.parametrize("wait", ["20", "0"])
@pytest.mark.parametrize("limit", ["0.0205", "0.031", "0.041", "0.061"])
def test_serial_callers_on_a_tight_budget_are_refused_nothing(
    open_ledger: OpenLedger, books: Books, limit: str, wait: str
) -> None:
    """Two callers, each call of theirs bound at 0.01 USD, each served by two environments in turn, since one may still
    be settling. Nothing is spent, so settled first none of them could be refused."""
    variables = {"AI_MONTHLY_BUDGET_USD": limit, "AI_ADMISSION_WAIT_SECONDS": wait}
    with ThreadPoolExecutor(6) as threads:

        def call_in_turn(environments: list[Ledger]) -> int:
            late = 0
            settling: list[Future[Booked] | None] = [None] * len(environments)
            for number in range(12):
                place = number % len(environments)
                ledger, busy = environments[place], settling[place]
                if busy is not None:
                    busy.result()
                held = ledger.reserve(a_call(), [candidate("0.01")], waiting=ledger.waiting(20))
                if ledger.may_settle_late(settled(held, "0")):
                    late += 1
                    settling[place] = threads.submit(slowly, ledger, held)
                else:
                    settling[place] = None
                    ledger.settle(settled(held, "0"))
            for each in settling:
                assert each is None or each.result().cost == 0
            return late

        def slowly(ledger: Ledger, held: Reservation) -> Booked:
            time.sleep(0.02)
            return ledger.settle(settled(held, "0"), late=True)

        callers = [[open_ledger(**variables), open_ledger(**variables)] for _ in range(2)]
        late = sum(caller.result() for caller in [threads.submit(call_in_turn, each) for each in callers])
    assert (late > 0) == (wait != "0" and limit != "0.0205")
    assert books.only_window(limit=Decimal(limit)).reserved == 0


def test_a_late_settlement_waits_briefly_and_is_kept(
    open_ledger: OpenLedger, books: Books, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody holds the window for longer than the next event may be kept waiting. The statement isn't done later,
    since its sessions end, so it has to be sent again."""
    monkeypatch.setattr("fusewire.budget.ledger._LATE_SECONDS", 0.2)
    ledger = open_ledger()
    held = reserved(ledger, "0.01")
    with psycopg.connect(database_url) as other:
        other.execute("SELECT FROM budget_window FOR UPDATE")
        began = time.monotonic()
        assert ledger.settle(settled(held, "0.004"), late=True).budget is None
        assert time.monotonic() - began < 4  # a lock's own limit is 5 s
        other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'fusewire' AND datname = current_database()"
        )
    assert books.entry(held.id)["status"] == "reserved"
    ledger.settle(released(reserved(ledger, "0.01")))
    assert (books.entry(held.id)["cost"], books.entry(held.id)["cost_basis"]) == (Decimal("0.004"), "actual")
