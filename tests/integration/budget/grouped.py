"""What an environment's groups book, counted."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from fusewire.budget.ledger import Ledger
from fusewire.store.groups import Groups


def counted_groups(ledger: Ledger) -> Counter[str]:
    """From now on: `groups` that were sent, `calls` that they booked, and calls that were `left` to be sent alone."""
    counter: Counter[str] = Counter()
    database = ledger._database
    send = database._together

    def counting(argument: Mapping[str, object], seconds: float) -> Mapping[str, Any] | None:
        answer = send(argument, seconds)
        if answer is not None:
            counter["groups"] += 1
            counter["calls"] += sum(result is not None for result in answer["results"])
            counter["left"] += sum(result is None for result in answer["results"])
        return answer

    database._groups = Groups(database._alone, counting)
    return counter
