"""What an environment's groups book, counted."""

from collections import Counter
from typing import Any

from fusewire.budget.ledger import Ledger
from fusewire.store.groups import GROUP, Groups


def counted_groups(ledger: Ledger) -> Counter[str]:
    """From now on: `groups` that were sent, `calls` that they booked, and calls that were `left` to be sent alone."""
    counter: Counter[str] = Counter()
    database = ledger._database
    send = database._alone

    def counting(statement: Any, argument: Any, seconds: float) -> Any:  # noqa: ANN401 - as what it stands for
        answer = send(statement, argument, seconds)
        if statement is GROUP:
            counter["groups"] += 1
            counter["calls"] += sum(result is not None for result in answer["results"])
            counter["left"] += sum(result is None for result in answer["results"])
        return answer

    database._groups = Groups(counting)
    return counter
