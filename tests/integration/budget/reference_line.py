"""Who waits for room in which budget, by the rules: the second writing of `functions/admission.sql`."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final
from uuid import UUID

from fusewire.budget.wire import WaitArgument
from tests.integration.budget.reference_records import Ticket

_PASSED_AFTER: Final = timedelta(seconds=5)
_DELETED_AFTER: Final = timedelta(minutes=1)


class Line:
    """The tickets, in the order in which they were drawn. One of a call that died counts until its lease is over."""

    def __init__(self) -> None:
        self.tickets: list[Ticket] = []

    def of(self, entry_id: UUID) -> Ticket | None:
        return next((ticket for ticket in self.tickets if ticket.entry_id == entry_id), None)

    def somebody_waits(self, now: datetime) -> bool:
        """Whether there is a ticket of a call that is alive, as far as anybody knows."""
        return any(ticket.alive_until > now for ticket in self.tickets)

    def claimed(self, budget: str, entry_id: UUID, bound: Decimal, now: datetime) -> Decimal:
        """USD that calls before this one wait for in a budget, and that it may not take."""
        return sum((ticket.bound for ticket in self._before(budget, entry_id, bound, now)), Decimal(0))

    def take(
        self,
        entry_id: UUID,
        key_id: str | None,
        blocked_by: str,
        bound: Decimal,
        wait: WaitArgument | None,
        now: datetime,
    ) -> bool:
        """Whether the refused call has a ticket now."""
        if wait is None or wait.get("last"):
            return False
        lease = now + timedelta(seconds=wait["lease_seconds"])
        if (ticket := self.of(entry_id)) is not None:
            ticket.blocked_by, ticket.bound, ticket.asked_at, ticket.alive_until = blocked_by, bound, now, lease
            return True
        if sum(t.key_id == (key_id or "") and t.alive_until > now for t in self.tickets) >= wait["max_per_key"]:
            return False
        self.tickets = [ticket for ticket in self.tickets if ticket.alive_until >= now - _DELETED_AFTER]
        self.tickets.append(Ticket(entry_id, key_id or "", blocked_by, bound, now, now, lease))
        return True

    def leave(self, entry_id: UUID, wait: WaitArgument | None) -> None:
        if wait is not None and wait.get("holds"):
            self.tickets = [ticket for ticket in self.tickets if ticket.entry_id != entry_id]

    def _before(self, budget: str, entry_id: UUID, bound: Decimal, now: datetime) -> Iterator[Ticket]:
        for ticket in self.tickets:
            if ticket.entry_id == entry_id:
                return
            passed = ticket.bound > 8 * bound and ticket.since < now - _PASSED_AFTER
            if ticket.blocked_by == budget and ticket.alive_until > now and not passed:
                yield ticket
