"""What can happen to the ledger where its key is in a tree of budgets, and where calls wait: statements and states."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from tests.integration.budget.statements import (
    EARLIER,
    GONE,
    GRANT,
    HELD,
    KEY,
    KEYED,
    LATELY,
    NOW,
    RESET,
    STATEMENTS,
    TTL,
    Fields,
    NodeRow,
    Start,
    Statement,
    Step,
    administered,
    made,
    reservation,
    reset,
    settlement,
    step,
)

TOP: Final = f"bud_{1:032x}"
LOW: Final = f"bud_{2:032x}"
"""Below it; the key's node."""
WAITS: Final = UUID(int=8)
"""A call that waits."""

_BRIEF: Final = timedelta(seconds=1)
_EARLIER_THAN: Final = timedelta(seconds=2)


def nodes(low: str, top: str) -> tuple[NodeRow, ...]:
    return (TOP, None, Decimal(top), "week"), (LOW, TOP, Decimal(low), "month")


def _change(node_id: str, **changes: object) -> Callable[[int], Fields]:
    return lambda session: {**administered(session), "id": node_id, "changes": changes}


def _waiting(entry_id: UUID, **wait: Any) -> Fields:  # noqa: ANN401 - as `WaitArgument` has them
    return {
        **reservation(entry_id, KEY),
        "wait": {"max_per_key": 5, "lease_seconds": 4, "waited_percent": 0, **wait},
    }


def _fitting(session: int) -> Fields:
    """0.02 USD with 2,048 tokens of output, 0.5 with what it asks for."""
    token = Decimal("0.00001")
    fit = {"fixed": 0, "per_token": token, "cap": 50_000, "min_cap": 256, "first_cap": 2048, "fixed_tokens": 9, "n": 1}
    offered = {"provider": "openai", "model": "gpt", "bound": 50_000 * token, "tokens": 50_009, "fit": fit}
    return {**reservation(made("fitted call", session), KEY), "candidates": [offered]}


_ALSO: Final = (
    "reserve",
    "reserve for the key",
    "reserve in the next month",
    "reserve again",
    "fail over for the key",
    "settle the key's",
    "settle what is gone",
    "settle what is gone above its bound",
    "a group",
    "give the key's back",
    "give back what is gone",
    "read the budget",
    "reset",
    "reset the key",
    "lower the limit",
)

TREE_STATEMENTS: Final = (
    *(statement for statement in STATEMENTS if statement.name in _ALSO),
    Statement("reserve what can be fitted", "ledger_reserve", _fitting, passes_over=True),
    Statement(
        "reserve and wait",
        "ledger_reserve",
        lambda session: _waiting(made("waiting call", session)),
        passes_over=True,
    ),
    Statement("ask again", "ledger_reserve", lambda _: _waiting(WAITS, holds=True), passes_over=True),
    Statement(
        "ask for the last time", "ledger_reserve", lambda _: _waiting(WAITS, holds=True, last=True), passes_over=True
    ),
    Statement("give up", "admission_withdraw", lambda _: {"id": str(WAITS), "wait": {"holds": True}}),
    Statement("reset the node", "ledger_reset", lambda session: reset(session, "admin", LOW)),
    Statement("lower the node's limit", "budget_node_update", _change(LOW, limit_usd=Decimal("0.06"))),
    Statement("have the node's window end", "budget_node_update", _change(TOP, period="day")),
    Statement("move the node", "budget_node_update", _change(LOW, parent_id=None)),
    Statement("delete the node", "budget_node_delete", _change(LOW)),
    Statement("move the key", "key_update", lambda session: administered(session, budget_id=TOP)),
)


def _held(ttl_of_gone: timedelta = TTL, *, slots: int = 1) -> tuple[Step, ...]:
    granted = (
        step(LATELY, "ledger_reserve", reservation(GRANT, KEY, Decimal("0.001")), slots=slots),
        step(LATELY, "ledger_settle", settlement(GRANT, "release"), slots=slots),
    )
    return (
        *(granted if slots > 1 else ()),
        step(LATELY, "ledger_reserve", reservation(HELD), slots=slots),
        step(LATELY, "ledger_reserve", reservation(KEYED, KEY), slots=slots, seat=2),
        step(LATELY, "ledger_reserve", reservation(GONE, KEY), ttl_of_gone, slots=slots),
    )


_LINE: Final = step(_EARLIER_THAN, "ledger_reserve", _waiting(WAITS))
_NEW_LINE: Final = step(timedelta(seconds=0.5), "ledger_reserve", _waiting(WAITS))
"""It looks without a lock whether it is worth asking."""
_MOVED: Final = Step(_EARLIER_THAN, Statement("", "key_update", lambda _: administered(9, budget_id=TOP)))

TREE_STARTS: Final = tuple(
    replace(start, statements=TREE_STATEMENTS)
    for start in (
        Start("a tree with room for one", EARLIER + _held(), key={"node": LOW}, nodes=nodes("0.16", "0.3")),
        Start(
            "a tree where a call waits", (*EARLIER, *_held(), _NEW_LINE), key={"node": LOW}, nodes=nodes("0.12", "0.3")
        ),
        Start(
            "a tree, expired after a reset, and a call waits",
            (*EARLIER, *_held(_BRIEF), RESET, _LINE),
            now=NOW + timedelta(seconds=1),
            key={"node": LOW, "budget": "0.4"},
            nodes=nodes("0.12", "0.3"),
        ),
        Start(
            "a tree in slots",
            EARLIER + _held(slots=2),
            slots=(2, 2, 2),
            key={"node": LOW},
            nodes=nodes("0.16", "0.3"),
        ),
        Start(
            "a tree in slots of each",
            EARLIER + _held(slots=2),
            slots=(2, 2, 2),
            key={"node": LOW, "budget": "0.9"},
            nodes=nodes("0.9", "0.95"),
            is_busy=True,
        ),
        Start(
            "a node that its key has left",
            (*EARLIER, *_held(), _MOVED),
            key={"node": LOW},
            nodes=nodes("0.16", "0.16"),
        ),
    )
)
