"""The steps of `test_reference.py` that make, move, change and delete budgets of the tree."""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final
from uuid import uuid4

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from fusewire.budget.audit_context import AuditContext
from fusewire.errors import InvalidRequestError
from tests.integration.budget.books import a_call
from tests.integration.budget.machine import LedgerBesideReference
from tests.integration.budget.machine_steps import KEYS, changes, places
from tests.integration.budget.reference_records import Node
from tests.integration.budget.wire import Break

_MAX_NODES: Final = 4
_ADMIN: Final = AuditContext("key_boss", "192.0.2.7", "request-of-the-admin")


class TreeBesideReference(LedgerBesideReference):
    """The tree in the ledger, and by the rules."""

    @rule(change=changes, place=st.one_of(st.none(), places))
    def make_a_node(self, change: dict[str, object], place: int | None) -> None:
        """
        :param place: of its parent; None for the company
        """
        parent = None if place is None or not self.reference.nodes else self.node_at(place)
        if len(self.reference.nodes) < _MAX_NODES:
            self.plant_node(**{"limit_usd": Decimal("0.5"), "alert_threshold": None, **change, "parent_id": parent})

    @precondition(lambda self: self.reference.nodes)
    @rule(place=places, change=changes, lost=st.sampled_from([None, None, "before", "after"]))
    def change_a_node(self, place: int, change: dict[str, object], lost: Break | None) -> None:
        """Its limit, period, thresholds or models, in the middle of its window."""
        self._change_node(self.node_at(place), change, lost)

    @precondition(lambda self: self.reference.nodes)
    @rule(place=places, below=st.one_of(st.none(), places))
    def move_a_node(self, place: int, below: int | None) -> None:
        """With all that is below it, to wherever, itself included."""
        self._change_node(self.node_at(place), {"parent_id": None if below is None else self.node_at(below)}, None)

    @rule(key_id=st.sampled_from(KEYS), place=st.one_of(st.none(), places, places))
    def move_a_key(self, key_id: str, place: int | None) -> None:
        node = None if place is None or not self.reference.nodes else self.node_at(place)
        self.keys.change(key_id, budget_id=node)
        self.reference.keys[key_id].node = node

    @precondition(lambda self: self.reference.nodes)
    @rule(place=places, emptied=st.booleans())
    def delete_a_node(self, place: int, emptied: bool) -> None:
        """Calls may be in flight in it.

        :param emptied: its keys are moved away first
        """
        node = self.node_at(place)
        in_flight = any(window.reserved for window in self.reference.windows.get(node, [])[-1:])
        for key_id, key in self.reference.keys.items():
            if key.node == node and (emptied or key.revoked):
                self.keys.change(key_id, budget_id=None)
                key.node = None
        refused = self.reference.delete_node(node)
        try:
            self.process.nodes.delete(node, _ADMIN)
        except InvalidRequestError:
            assert refused is not None
        else:
            assert refused is None
            self.met["deleted with calls in flight"] += in_flight

    @precondition(lambda self: self.reference.nodes)
    @rule(place=places)
    def read_a_node(self, place: int) -> None:
        node_id = self.node_at(place)
        shown, window = self.process.nodes.show(node_id), self.reference.current(node_id)
        alive = [t for t in self.reference.line.tickets if t.blocked_by == node_id and t.alive_until > self.clock.now]
        assert (shown.limit, shown.waiting) == (self.reference.cap(node_id), len(alive))
        assert (shown.budget is None) == (window is None)
        if shown.budget is not None and window is not None:
            found = shown.budget.window
            assert (found.spent, found.reserved, found.resets_at) == (window.spent, window.reserved, window.resets_at)
            assert shown.budget.state == self.reference.state(window)

    def plant(self) -> None:
        """A tree of three levels with both keys in it."""
        top = self.plant_node(limit_usd=Decimal("0.8"), period="week")
        low = self.plant_node(limit_usd=Decimal("0.5"), parent_id=top)
        for key_id, node in zip(KEYS, (low, top), strict=True):
            self.keys.change(key_id, budget_id=node)
            self.reference.keys[key_id].node = node

    def plant_node(self, **fields: Any) -> str:  # noqa: ANN401 - as the admin API has them
        try:
            made = self.process.nodes.create({"name": str(uuid4()), "period": "month", **fields}, _ADMIN)
        except InvalidRequestError:
            assert fields["alert_threshold"] == Decimal("0.97")
            self.reference.open_window("global")
            return ""
        self.reference.make_node(made.id, Node(**fields))
        return made.id

    def user_budget(self, key_id: str, user: str) -> str:
        """As the database names it, by its secret."""
        digest = a_call(key_id=key_id, user=user).user_digest
        [row] = self.books.rows("SELECT ledger_user_budget(%s, %s) AS budget", key_id, digest)
        return str(row["budget"])

    def node_at(self, place: int) -> str:
        nodes = list(self.reference.nodes)
        return nodes[place % len(nodes)]

    def _change_node(self, node_id: str, changes: Mapping[str, object], lost: Break | None) -> None:
        refused = self.reference.change_node(node_id, **changes)
        with nullcontext() if lost is None else self.losing("budget_node_update", (lost,)):
            try:
                self.process.nodes.update(node_id, changes, replace(_ADMIN, request_id=str(uuid4())))
            except InvalidRequestError as error:
                assert refused == {"parent_id": "cycle", "alert_threshold": "thresholds"}[error.param or ""]
                return
        assert refused is None
        self.raise_highest(node_id)
        self.met["node moved" if "parent_id" in changes else "node changed"] += 1
