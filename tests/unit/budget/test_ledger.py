"""What of the ledger needs no database; the rest is under tests/integration/budget."""

import ast
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import fusewire.budget
from fusewire.budget.breaker import Budget, Window
from fusewire.budget.price import TokenCounts
from fusewire.budget.reservation import Call, Candidate, HealthUpdate, Reservation, Settlement
from fusewire.ids import time_ordered_id

OPENED, RESETS = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)
BUDGET = Budget(Window(1, OPENED, "use", RESETS, None, Decimal(0), Decimal(0), 0), "CLOSED", Decimal(1))


def test_a_settlement_names_everything_that_the_ledger_books() -> None:
    made = time_ordered_id()
    reservation = Reservation(made, Call("r", "chat", None), 1, Candidate("p", "m", Decimal(1)), BUDGET)
    counts = TokenCounts(10, 20, 3, 4)
    settlement = Settlement(reservation, "actual", "success", Decimal("0.5"), counts, 5, HealthUpdate("p", "ok"))
    assert settlement.argument() == {
        "id": str(made),
        "mode": "actual",
        "outcome": "success",
        "cost": Decimal("0.5"),
        "input_tokens": 10,
        "output_tokens": 20,
        "cached_input_tokens": 3,
        "cache_write_tokens": 4,
        "reasoning_tokens": 5,
    }
    released = Settlement(reservation, "release", "connect_failed").argument()
    assert (released["cost"], released["input_tokens"], released["output_tokens"]) == (None, 0, 0)


def test_no_amount_of_money_is_ever_a_float() -> None:
    """Nothing that handles money makes a float, or names one, but for seconds."""
    for path in sorted(Path(fusewire.budget.__path__[0]).glob("*.py")):
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        constants = [n.lineno for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, float)]
        named = {n.lineno for n in nodes if isinstance(n, ast.Name) and n.id == "float"}
        seconds = {
            n.lineno
            for n in nodes
            if isinstance(n, ast.AnnAssign | ast.arg)
            and (ast.unparse(n.target) if isinstance(n, ast.AnnAssign) else n.arg).endswith("seconds")
        }
        refused = {n.lineno for n in nodes if isinstance(n, ast.Call) and ast.unparse(n.func) == "isinstance"}
        assert constants == [], path.name
        assert named <= seconds | refused, path.name
