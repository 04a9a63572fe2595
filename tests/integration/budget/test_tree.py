"""The tree of budgets between the company's and the keys': every node on a call's way admits it, and is booked."""

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from fusewire.budget.audit_context import AuditContext
from fusewire.budget.nodes import Nodes
from fusewire.budget.reservation import Downgrade
from fusewire.errors import BudgetExceededError, BudgetNotFoundError, BudgetReservedError, InvalidRequestError
from tests.integration.budget.books import (
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
from tests.integration.budget.conftest import SLOTS_OF_EACH, OpenLedger
from tests.integration.budget.keys import Keys

ADMIN = AuditContext("admin", "192.0.2.1", "request-of-an-admin")
MakeNode = Callable[..., str]
SLOTS = pytest.mark.parametrize("slots", ["1", "4", SLOTS_OF_EACH], ids=["on the row", "in slots", "in slots of each"])


@pytest.fixture
def node(nodes: Nodes) -> MakeNode:
    """`node("team", limit="0.5", parent=above)` is a new node's id."""

    def make(name: str, limit: str | None = None, *, parent: str | None = None, **fields: Any) -> str:  # noqa: ANN401
        amount = None if limit is None else Decimal(limit)
        attributes = {"name": name, "limit_usd": amount, "parent_id": parent, "period": "month"} | fields
        return nodes.create(attributes, ADMIN).id

    return make


def by_budget(books: Books, **limits: Any) -> dict[str, Totals]:  # noqa: ANN401 - what `check` takes
    """The newest window of each budget."""
    return {window.budget: window for window in books.check(**limits)}


@SLOTS
def test_a_call_is_booked_in_every_budget_on_its_way(
    open_ledger: OpenLedger, books: Books, keys: Keys, node: MakeNode, slots: str
) -> None:
    ledger = open_ledger(AI_LEDGER_SLOTS=slots)
    top = node("division", "0.9")
    low = node("team", "0.5", parent=top)
    beside = node("another team", "0.5", parent=top)
    key = keys.make(node=low, budget="0.4")
    ledger.settle(settled(ledger.reserve(a_call(key_id=key), [candidate("0.01")]), "0.01"))
    held = ledger.reserve(a_call(key_id=key), [candidate("0.03")])
    found = by_budget(books)
    assert {found[name].reserved for name in ("global", key, low, top)} == {Decimal("0.03")}
    assert {found[name].spent for name in ("global", key, low, top)} == {Decimal("0.01")}
    assert beside not in found
    entry = books.entry(held.id)
    assert entry["path_window_ids"] == [found[low].id, found[top].id]
    assert (entry["slot"] is not None) == (slots != "1")
    ledger.settle(settled(held, "0.0123456789"))
    assert {by_budget(books)[name].spent for name in ("global", key, low, top)} == {Decimal("0.0223456789")}
    assert {by_budget(books)[name].reserved for name in ("global", key, low, top)} == {Decimal(0)}


@SLOTS
@pytest.mark.parametrize("which", ["team", "division"])
def test_a_node_is_passed_by_nobody_below_it(
    open_ledger: OpenLedger, books: Books, keys: Keys, node: MakeNode, slots: str, which: str
) -> None:
    ledger = open_ledger(AI_LEDGER_SLOTS=slots)
    limits = {"team": None, "division": None} | {which: "0.1"}
    top = node("division", limits["division"])
    low = node("team", limits["team"], parent=top)
    one, other = keys.make("key-1", node=low), keys.make("key-2", node=low)
    ledger.settle(settled(ledger.reserve(a_call(key_id=one), [candidate("0.01")]), "0.01"))
    held = ledger.reserve(a_call(key_id=one), [candidate("0.06")])
    with pytest.raises(BudgetReservedError):
        ledger.reserve(a_call(key_id=other), [candidate("0.030000000001")])
    ledger.settle(released(ledger.reserve(a_call(key_id=other), [candidate("0.03")])))
    ledger.settle(settled(held, "0.05"))
    with pytest.raises(BudgetExceededError) as refused:
        ledger.reserve(a_call(key_id=other, sees_budgets=True), [candidate("0.05")])
    assert refused.value.budget == {"team": low, "division": top}[which]
    ledger.settle(settled(ledger.reserve(a_call(key_id=other), [candidate("0.04")]), "0.04"))
    assert by_budget(books)[refused.value.budget].spent == Decimal("0.1")
    free = ledger.reserve(a_call(key_id=other), [candidate("0")])
    ledger.settle(settled(free, "0"))


def test_the_first_that_says_no_is_named_from_the_key_up(
    open_ledger: OpenLedger, keys: Keys, node: MakeNode, events: Events
) -> None:
    ledger = open_ledger()
    top = node("division", "0.3")
    low = node("team", "0.2", parent=top)
    key = keys.make(node=low, budget="0.1")

    def refused_by(bound: str, **fields: Any) -> tuple[str, str]:  # noqa: ANN401
        with pytest.raises(BudgetExceededError) as refused:
            ledger.reserve(a_call(key_id=key, **fields), [candidate(bound)])
        return refused.value.budget, refused.value.message

    assert refused_by("2")[0] == key
    keys.change(key, limit_usd=None)
    name, message = refused_by("2", sees_budgets=True)
    assert name == low and "'team'" in message
    name, message = refused_by("2")
    assert name == "above"
    assert message.startswith("A budget above this key's can't take this call")
    assert "team" not in message and "0.2" not in message and low not in message
    assert "resets at" in message
    line = events.of("circuit_breaker.blocked")[-1]
    assert (line["budget_id"], line["key_id"], line["reason"]) == (low, key, f"budget {low}")


def test_a_caller_is_told_the_same_of_what_is_reserved(open_ledger: OpenLedger, keys: Keys, node: MakeNode) -> None:
    ledger = open_ledger()
    key = keys.make(node=node("team", "0.2"))
    ledger.reserve(a_call(key_id=key), [candidate("0.15")])
    with pytest.raises(BudgetReservedError, match=r"hold the rest of a budget above this key's\. Retry"):
        ledger.reserve(a_call(key_id=key), [candidate("0.1")])
    with pytest.raises(BudgetReservedError, match="hold the rest of the budget 'team'"):
        ledger.reserve(a_call(key_id=key, sees_budgets=True), [candidate("0.1")])


@SLOTS
def test_a_node_with_models_counts_calls_of_these_alone(
    open_ledger: OpenLedger, books: Books, keys: Keys, node: MakeNode, slots: str
) -> None:
    ledger = open_ledger(AI_LEDGER_SLOTS=slots)
    ledger.settle(released(ledger.reserve(a_call(), [candidate("0.001")])))

    def fits(key: str, provider: str, model: str, tier: str) -> bool:
        try:
            made = ledger.reserve(a_call(key_id=key, tier=tier), [candidate("0.06", provider, model)])
        except BudgetExceededError:
            return False
        ledger.settle(released(made))
        return True

    for models in ("openai/gpt", "openai/*", "gpt", "sota"):
        id = node(models, "0.05", models=[models])
        key = keys.make(f"key of {models}", node=id)
        assert fits(key, "vllm", "llama", "cost_effective")
        assert id not in by_budget(books)
        assert not fits(key, "openai", "gpt", "sota")
        ledger.settle(settled(ledger.reserve(a_call(key_id=key), [candidate("0.02")]), "0.02"))
        assert by_budget(books)[id].spent == Decimal("0.02")


def test_thresholds_of_its_own_are_crossed_once(
    open_ledger: OpenLedger, keys: Keys, node: MakeNode, nodes: Nodes, events: Events, books: Books
) -> None:
    ledger = open_ledger()
    id = node("team", "0.1", alert_threshold=Decimal("0.5"), open_threshold=Decimal("0.6"))
    key = keys.make(node=id)
    ledger.settle(settled(ledger.reserve(a_call(key_id=key), [candidate("0.05")]), "0.05"))
    alerts = events.of("circuit_breaker.alert")
    assert [(line["budget_id"], line["usage_ratio"]) for line in alerts] == [(id, Decimal("0.5"))]
    assert "key_id" not in alerts[0]
    ledger.settle(settled(ledger.reserve(a_call(key_id=key), [candidate("0.01")]), "0.01"))
    [opened] = events.of("circuit_breaker.opened")
    assert opened["budget_id"] == id
    with pytest.raises(BudgetExceededError):
        ledger.reserve(a_call(key_id=key), [candidate("0.001")])
    budget = nodes.show(id).budget
    assert budget is not None and budget.state == "OPEN"
    nodes.update(id, {"open_threshold": None, "alert_threshold": None}, ADMIN)
    ledger.settle(settled(ledger.reserve(a_call(key_id=key), [candidate("0.01")]), "0.01"))
    assert len(events.of("circuit_breaker.opened")) == 1
    assert books.threshold_events() == ["HALF_OPEN", "OPEN"]


def test_a_settlement_that_is_sent_again_tells_the_same(
    open_ledger: OpenLedger, keys: Keys, node: MakeNode, events: Events, books: Books
) -> None:
    ledger = open_ledger()
    key = keys.make(node=node("team", "0.1"))
    held = ledger.reserve(a_call(key_id=key), [candidate("0.09")])
    ledger.settle(settled(held, "0.09"))
    ledger._unsent.keep({"settlement": settled(held, "0.09").argument()})
    ledger.settle(released(ledger.reserve(a_call(), [candidate("0.01")])))
    assert len(events.of("circuit_breaker.alert")) == 2  # told again, since the first answer may have been lost
    assert books.threshold_events() == ["HALF_OPEN"]


@SLOTS
def test_it_settles_on_the_path_in_which_it_was_reserved(
    open_ledger: OpenLedger, books: Books, keys: Keys, node: MakeNode, nodes: Nodes, slots: str
) -> None:
    ledger = open_ledger(AI_LEDGER_SLOTS=slots)
    ledger.settle(released(ledger.reserve(a_call(), [candidate("0.001")])))
    old_top, new_top = node("old division", "0.9"), node("new division", "0.9")
    low, other = node("team", "0.5", parent=old_top), node("other", "0.5", parent=new_top)
    key = keys.make(node=low)
    first, second = (ledger.reserve(a_call(key_id=key), [candidate("0.02")]) for _ in range(2))
    nodes.update(low, {"parent_id": new_top}, ADMIN)
    ledger.settle(settled(first, "0.01"))
    keys.change(key, budget_id=other)
    ledger.settle(settled(second, "0.01"))
    found = by_budget(books)
    assert (found[old_top].spent, found[low].spent) == (Decimal("0.02"), Decimal("0.02"))
    assert new_top not in found and other not in found
    ledger.settle(settled(ledger.reserve(a_call(key_id=key), [candidate("0.02")]), "0.003"))
    found = by_budget(books)
    assert (found[other].spent, found[new_top].spent) == (Decimal("0.003"), Decimal("0.003"))
    assert found[low].spent == Decimal("0.02")


@SLOTS
def test_what_expires_is_booked_on_its_path_and_corrected_there(
    open_ledger: OpenLedger, books: Books, keys: Keys, node: MakeNode, clock: Clock, slots: str
) -> None:
    ledger = open_ledger(AI_LEDGER_SLOTS=slots)
    ledger.settle(released(ledger.reserve(a_call(), [candidate("0.001")])))
    top = node("division", "0.9")
    low = node("team", "0.5", parent=top)
    key = keys.make(node=low)
    held = ledger.reserve(a_call(key_id=key), [candidate("0.02")])
    clock.advance(seconds=3600)
    ledger.budget()
    assert {by_budget(books)[name].spent for name in (key, low, top)} == {Decimal("0.02")}
    ledger.settle(settled(held, "0.0123"))
    assert {by_budget(books)[name].spent for name in (key, low, top)} == {Decimal("0.0123")}


def test_a_reset_of_the_company_leaves_a_crash_to_be_found_by_who_needs_the_nodes_room(
    open_ledger: OpenLedger, books: Books, keys: Keys, node: MakeNode, clock: Clock
) -> None:
    ledger = open_ledger()
    id = node("team", "0.1")
    key = keys.make(node=id)
    ledger.reserve(a_call(key_id=key), [candidate("0.08")])
    ledger.reset(actor="admin", source_ip=None, request_id="reset", reason=None)
    with pytest.raises(BudgetReservedError):
        ledger.reserve(a_call(key_id=key), [candidate("0.05")])
    clock.advance(seconds=3600)
    with pytest.raises(BudgetExceededError):
        ledger.reserve(a_call(key_id=key), [candidate("0.05")])
    assert by_budget(books)[id].spent == Decimal("0.08")


def test_a_failover_ends_one_path_and_reserves_another(
    open_ledger: OpenLedger, books: Books, keys: Keys, node: MakeNode
) -> None:
    ledger = open_ledger()
    top = node("division", "0.9")
    id = node("azure's", "0.5", parent=top, models=["azure/*"])
    key = keys.make(node=id)
    first = ledger.reserve(a_call(key_id=key), [candidate("0.02", "azure")])
    second = ledger.reserve(a_call(key_id=key), [candidate("0.03")], attempt=2, after=at_bound(first))
    found = by_budget(books)
    assert (found[id].spent, found[id].reserved) == (Decimal("0.02"), Decimal(0))
    assert (found[top].spent, found[top].reserved) == (Decimal("0.02"), Decimal("0.03"))
    ledger.settle(released(second))


def test_a_node_at_its_alert_threshold_downgrades(
    open_ledger: OpenLedger, books: Books, keys: Keys, node: MakeNode
) -> None:
    ledger = open_ledger()
    key = keys.make(node=node("dear", "0.1", models=["sota"]))
    ledger.settle(settled(ledger.reserve(a_call(key_id=key), [candidate("0.08")]), "0.08"))
    cheap = Downgrade("cost_effective", [candidate("0.05", "openai", "mini")])
    made = ledger.reserve(a_call(key_id=key), [candidate("0.01")], downgrade=cheap)
    assert made.downgraded and made.call.tier == "cost_effective"
    assert books.entry(made.id)["path_window_ids"] is None  # which that node doesn't count
    ledger.settle(released(made))


# --- periods ---


@pytest.mark.parametrize(
    ("period", "ends"),
    [
        ("month", datetime(2026, 12, 1, tzinfo=UTC)),
        ("week", datetime(2026, 11, 16, tzinfo=UTC)),
        ("day", datetime(2026, 11, 16, tzinfo=UTC)),
        ("none", None),
    ],
)
def test_a_window_ends_with_its_own_period(
    open_ledger: OpenLedger, keys: Keys, node: MakeNode, nodes: Nodes, clock: Clock, period: str, ends: datetime | None
) -> None:
    """It is a Sunday."""
    ledger = open_ledger()
    id = node("team", "0.1", period=period)
    key = keys.make(node=id, period=period)
    made = ledger.reserve(a_call(key_id=key), [candidate("0.06")])
    ledger.settle(settled(made, "0.06"))
    budget = nodes.show(id).budget
    assert budget is not None and budget.window.resets_at == ends
    assert made.key is not None and made.key.window.resets_at == ends
    with pytest.raises(BudgetExceededError) as refused:
        ledger.reserve(a_call(key_id=key), [candidate("0.06")])
    assert refused.value.resets_at == ends
    clock.set(datetime(2026, 11, 16, tzinfo=UTC))
    if period in ("week", "day"):
        ledger.settle(settled(ledger.reserve(a_call(key_id=key), [candidate("0.06")]), "0.01"))
        budget = nodes.show(id).budget
        assert budget is not None and budget.window.spent == Decimal("0.01")
    else:
        with pytest.raises(BudgetExceededError):
            ledger.reserve(a_call(key_id=key), [candidate("0.06")])


def test_a_week_begins_on_monday_in_the_budgets_zone(
    open_ledger: OpenLedger, keys: Keys, node: MakeNode, clock: Clock, books: Books
) -> None:
    ledger = open_ledger(AI_BUDGET_TIMEZONE="Asia/Tokyo")
    key = keys.make(node=node("team", "0.1", period="week"))
    clock.set(datetime(2026, 11, 15, 15, tzinfo=UTC))  # Monday there
    ledger.reserve(a_call(key_id=key), [candidate("0.06")])
    [row] = books.rows("SELECT resets_at FROM budget_window WHERE budget LIKE 'bud%%'")
    assert row["resets_at"] == datetime(2026, 11, 22, 15, tzinfo=UTC)


def test_another_period_in_mid_window(
    open_ledger: OpenLedger, keys: Keys, node: MakeNode, nodes: Nodes, clock: Clock, books: Books
) -> None:
    ledger = open_ledger()
    id = node("team", "0.1")
    key = keys.make(node=id)
    ledger.settle(settled(ledger.reserve(a_call(key_id=key), [candidate("0.06")]), "0.06"))
    shown = nodes.update(id, {"period": "day"}, ADMIN)
    assert shown.budget is not None and shown.budget.window.resets_at == datetime(2026, 11, 16, tzinfo=UTC)
    assert shown.budget.window.spent == Decimal("0.06")
    shown = nodes.update(id, {"period": "month"}, ADMIN)
    clock.set(datetime(2026, 11, 20, 12, tzinfo=UTC))
    held = ledger.reserve(a_call(key_id=key), [candidate("0.01")])
    assert nodes.update(id, {"period": "day"}, ADMIN).budget is None  # it would have ended on the 16th: it ends now
    ledger.settle(settled(ledger.reserve(a_call(key_id=key), [candidate("0.09")]), "0.02"))
    ledger.settle(settled(held, "0.01"))
    windows = [(w.spent, w.reserved) for w in books.check() if w.budget == id]
    assert windows == [(Decimal("0.07"), Decimal(0)), (Decimal("0.02"), Decimal(0))]


def test_another_limit_counts_at_once(
    open_ledger: OpenLedger, keys: Keys, node: MakeNode, nodes: Nodes, events: Events
) -> None:
    ledger = open_ledger()
    id = node("team", "0.1")
    key = keys.make(node=id)
    ledger.settle(settled(ledger.reserve(a_call(key_id=key), [candidate("0.06")]), "0.06"))
    shown = nodes.update(id, {"limit_usd": Decimal("0.05")}, ADMIN)
    assert shown.budget is not None and (shown.budget.state, shown.budget.limit) == ("OPEN", Decimal("0.05"))
    with pytest.raises(BudgetExceededError):
        ledger.reserve(a_call(key_id=key), [candidate("0.0001")])
    assert [line["budget_id"] for line in events.of("circuit_breaker.opened")] == [id]
    nodes.update(id, {"limit_usd": None}, ADMIN)
    ledger.settle(settled(ledger.reserve(a_call(key_id=key), [candidate("0.5")]), "0.0"))


def test_a_reset_of_one_node(open_ledger: OpenLedger, keys: Keys, node: MakeNode, books: Books, events: Events) -> None:
    ledger = open_ledger()
    top = node("division", "0.9")
    id = node("team", "0.1", parent=top)
    key = keys.make(node=id)
    held = ledger.reserve(a_call(key_id=key), [candidate("0.09")])
    closed, opened = ledger.reset(actor="admin", source_ip=None, request_id="reset", reason=None, budget=id)
    assert (closed.budget, closed.reserved, opened.reserved) == (id, Decimal("0.09"), Decimal(0))
    ledger.settle(settled(ledger.reserve(a_call(key_id=key), [candidate("0.09")]), "0.01"))
    ledger.settle(settled(held, "0.09"))
    assert [(w.spent, w.reserved) for w in books.check() if w.budget == id] == [
        (Decimal("0.09"), Decimal(0)),
        (Decimal("0.01"), Decimal(0)),
    ]
    assert by_budget(books)[top].spent == Decimal("0.1")
    [line] = events.of("circuit_breaker.manual_reset")
    assert line["budget_id"] == id and "key_id" not in line


# --- users ---


@SLOTS
def test_each_user_of_a_key_has_that_much(
    open_ledger: OpenLedger, keys: Keys, node: MakeNode, books: Books, events: Events, slots: str
) -> None:
    ledger = open_ledger(AI_LEDGER_SLOTS=slots)
    ledger.settle(released(ledger.reserve(a_call(), [candidate("0.001")])))
    id = node("team", "0.5")
    key, other = keys.make("key-1", node=id, per_user="0.05"), keys.make("key-2", per_user="0.05")

    def call(key: str, user: str, bound: str = "0.03") -> None:
        ledger.settle(settled(ledger.reserve(a_call(key_id=key, user=user), [candidate(bound)]), bound))

    call(key, "alice")
    with pytest.raises(BudgetExceededError) as refused:
        call(key, "alice")
    assert refused.value.budget == "user"
    assert refused.value.message.startswith("This user's budget on this key can't take this call")
    call(key, "bob")
    call(other, "alice")
    call(key, "alice", "0.01")
    users = [row["budget"] for row in books.rows("SELECT budget FROM budget_window WHERE budget LIKE 'user:%%'")]
    assert len(set(users)) == 3
    assert by_budget(books)[id].spent == Decimal("0.07")
    everything = books.rows("SELECT l::text AS row FROM ledger l UNION ALL SELECT w::text FROM budget_window w")
    assert not any("alice" in row["row"] for row in everything)
    assert not any("alice" in str(line) for line in events.logged)


def test_a_users_budget_is_named_by_a_keyed_hash(open_ledger: OpenLedger, keys: Keys, books: Books) -> None:
    ledger = open_ledger()
    key = keys.make(per_user="0.05")
    call = a_call(key_id=key, user="alice")
    for each in (call, a_call(key_id=key, user="bob")):
        ledger.settle(released(ledger.reserve(each, [candidate("0.01")])))
    named = [row["budget"] for row in books.rows("SELECT budget FROM budget_window WHERE budget LIKE 'user:%%'")]
    owners, digests = zip(*(name.removeprefix("user:").split(":") for name in named), strict=True)
    assert owners == (key, key)
    assert {len(digest) for digest in digests} == {64}
    assert call.user_digest not in digests
    [secret] = books.rows("SELECT length(secret) AS bytes FROM user_hash_secret")
    assert secret["bytes"] == 32


@SLOTS
def test_without_a_user_nothing_is_reserved_on_such_a_key(
    open_ledger: OpenLedger, keys: Keys, books: Books, slots: str
) -> None:
    ledger = open_ledger(AI_LEDGER_SLOTS=slots)
    ledger.settle(released(ledger.reserve(a_call(), [candidate("0.001")])))
    key = keys.make(per_user="0.05")
    with pytest.raises(InvalidRequestError) as refused:
        ledger.reserve(a_call(key_id=key), [candidate("0.01")])
    assert refused.value.param == "user"
    assert len(books.rows("SELECT FROM ledger")) == 1


# --- what a node may be ---


def test_what_may_not_be(nodes: Nodes, node: MakeNode, keys: Keys) -> None:
    way = [node("1")]
    for depth in range(2, 9):
        way.append(node(str(depth), parent=way[-1]))

    def refused(change: Callable[[], object]) -> str | None:
        with pytest.raises(InvalidRequestError) as error:
            change()
        return error.value.param

    assert refused(lambda: node("9", parent=way[-1])) == "parent_id"
    assert refused(lambda: node("x", parent="bud_" + "0" * 32)) == "parent_id"
    assert refused(lambda: nodes.update(way[2], {"parent_id": way[5]}, ADMIN)) == "parent_id"
    assert refused(lambda: nodes.update(way[0], {"parent_id": way[0]}, ADMIN)) == "parent_id"
    beside = node("beside")
    assert refused(lambda: nodes.update(way[0], {"parent_id": beside}, ADMIN)) == "parent_id"  # nine in all
    assert refused(lambda: node("beside")) == "name"
    assert refused(lambda: nodes.update(beside, {"name": "1"}, ADMIN)) == "name"
    node("beside", parent=beside)
    assert refused(lambda: node("t", alert_threshold=Decimal("0.95"))) == "alert_threshold"
    assert refused(lambda: nodes.delete(way[0], ADMIN)) is None
    key = keys.make(node=way[-1])
    assert refused(lambda: nodes.delete(way[-1], ADMIN)) is None
    keys.change(key, revoked_at=datetime.now(UTC))
    nodes.delete(way[-1], ADMIN)
    with pytest.raises(BudgetNotFoundError):
        nodes.show(way[-1])
    with pytest.raises(BudgetNotFoundError):
        nodes.update(way[-1], {"name": "x"}, ADMIN)
    node("8", parent=way[-2])


def test_a_deleted_node_takes_what_was_in_flight(
    open_ledger: OpenLedger, keys: Keys, node: MakeNode, nodes: Nodes, books: Books
) -> None:
    ledger = open_ledger()
    id = node("team", "0.1")
    key = keys.make(node=id)
    held = ledger.reserve(a_call(key_id=key), [candidate("0.09")])
    keys.change(key, budget_id=None)
    shown = nodes.delete(id, ADMIN)
    assert shown.budget is not None and shown.budget.window.reserved == Decimal("0.09")
    ledger.settle(settled(held, "0.08"))
    [row] = books.rows("SELECT spent, reserved, closed_at FROM budget_window WHERE budget = %s", id)
    assert (row["spent"], row["reserved"]) == (Decimal("0.08"), Decimal(0)) and row["closed_at"] is not None
    books.check()


def test_every_change_is_audited(nodes: Nodes, node: MakeNode, books: Books, events: Events) -> None:
    id = node("team", "0.1")
    nodes.update(id, {"limit_usd": Decimal("0.2")}, ADMIN)
    nodes.update(id, {"limit_usd": Decimal("0.2")}, ADMIN)  # changes nothing
    nodes.delete(id, ADMIN)
    entries = books.rows("SELECT action, before, after, actor FROM audit ORDER BY n")
    assert [row["action"] for row in entries] == ["budget.created", "budget.updated", "budget.deleted"]
    assert (entries[1]["before"]["limit_usd"], entries[1]["after"]["limit_usd"]) == (0.1, 0.2)
    assert entries[2]["after"]["deleted_at"] is not None
    assert [line["action"] for line in events.of("audit")] == [row["action"] for row in entries]


def test_a_forecast_looks_back_on_the_keys_below(
    nodes: Nodes, node: MakeNode, keys: Keys, open_ledger: OpenLedger
) -> None:
    ledger = open_ledger()
    top = node("division")
    id = node("team", "0.5", parent=top, models=["openai/*"])
    key, other = keys.make("key-1", node=id), keys.make("key-2", node=top)
    ledger.settle(settled(ledger.reserve(a_call(key_id=key), [candidate("0.02")]), "0.02"))
    ledger.settle(settled(ledger.reserve(a_call(key_id=key), [candidate("0.03", "vllm")]), "0.03"))
    ledger.settle(settled(ledger.reserve(a_call(key_id=other), [candidate("0.04")]), "0.04"))
    assert sum(nodes.show(id).history.days.values()) == Decimal("0.02")
    assert sum(nodes.show(top).history.days.values()) == Decimal("0.09")


def test_the_oldest_is_listed_first_and_by_pages(nodes: Nodes, node: MakeNode) -> None:
    ids = [node(str(number)) for number in range(3)]
    assert [each.id for each in nodes.list(after=None, limit=2)] == ids[:2]
    assert [each.id for each in nodes.list(after=ids[1], limit=2)] == ids[2:]
