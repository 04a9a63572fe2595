"""Who asks for a call, and within which limits."""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from fusewire.ai.permissions import EVERYTHING, Classification, Permissions
from fusewire.budget.reservation import Call, Operation


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, and until when."""

    request_id: str
    remaining_seconds: float
    """Of the Lambda invocation; what settling takes is kept back from it."""
    classification: Classification = "internal"
    key_id: str | None = None
    permissions: Permissions = EVERYTHING
    """What the key may ask for."""
    dropped: tuple[str, ...] = ()
    """What the request's own format says and the schema has no place for, for `x-fusewire-dropped` and the log."""
    wants_whole_cap: bool = False
    """`x-fusewire-output-cap: strict`: no smaller output cap is sent than the one that was asked for."""
    max_cost_usd: Decimal | None = None
    """`x-fusewire-max-cost-usd`: the most that all attempts of the call together may cost."""
    after_response: Callable[[Callable[[], None]], None] | None = None
    """Has something done once the answer has left; None where nothing may be left for then."""
    has_left: Callable[[], bool] | None = None
    """Whether nobody waits for the answer any more; None where the platform doesn't tell."""

    def call(self, operation: Operation, tier: str | None, user: str | None = None) -> Call:
        """:param user: whom the request is for, as it names them"""
        return Call(self.request_id, operation, tier, self.key_id, user, sees_budgets=self.permissions.sees_settings)
