"""A tree's books, for the tests of the commands that work on them: nodes of each sort of period, and a key's users."""

from dataclasses import dataclass

from fusewire.budget.audit_context import AuditContext
from fusewire.budget.nodes import Nodes
from fusewire.budget.reservation import Reservation
from fusewire.services import Services
from tests.integration.budget.books import a_call, candidate, settled

_ADMIN = AuditContext("admin", "192.0.2.1", "request-tree")


@dataclass(frozen=True, slots=True)
class Tree:
    """A division by the month, a team of it by the day, below that one tier's without an end, and a key under it."""

    services: Services
    division: str
    team: str
    tier: str
    key: str

    def reserve(self, request_id: str, user: str, bound: str = "0.1", tier: str = "sota") -> Reservation:
        """One call of a user of the key."""
        return self.services.ledger.reserve(
            a_call(request_id, tier=tier, key_id=self.key, user=user), [candidate(bound)]
        )

    def spend(self, request_id: str, user: str, cost: str, tier: str = "sota") -> None:
        """One call, and its end."""
        self.services.ledger.settle(settled(self.reserve(request_id, user, tier=tier), cost))

    def delete_tier(self) -> None:
        """Its key goes to the team."""
        self.services.keys.update(self.key, {"budget_id": self.team}, _ADMIN)
        Nodes(self.services.database, self.services.settings).delete(self.tier, _ADMIN)


def a_tree(services: Services) -> Tree:
    """With nothing spent."""
    nodes = Nodes(services.database, services.settings)

    def node(name: str, **fields: object) -> str:
        return nodes.create({"name": name, "limit_usd": 1, **fields}, _ADMIN).id

    division = node("division", period="month")
    team = node("team", period="day", parent_id=division)
    tier = node("sota alone", period="none", parent_id=team, models=["sota"])
    fields = {"name": "search", "scopes": ["complete"], "tags": {}, "budget_id": tier, "per_user_limit_usd": 1,
              "period": "week"}  # fmt: skip
    key, _ = services.keys.create(fields, _ADMIN)
    return Tree(services, division, team, tier, key.id)
