"""What an environment's groups book, counted."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from fusewire.budget.ledger import Ledger


def counted_groups(ledger: Ledger) -> Counter[str]:
    """From now on: `groups` that were booked, `calls` in them, and calls `left` to be sent alone; and how many groups
    Postgres has `taken back`.
    """
    counter: Counter[str] = Counter()
    database = ledger._database
    send = database._together

    def counting(argument: Mapping[str, object], seconds: float) -> Mapping[str, Any] | None:
        answer = send(argument, seconds)
        if answer is None:
            counter["taken back"] += 1
        else:
            counter["groups"] += 1
            counter["calls"] += sum(result is not None for result in answer["results"])
            counter["left"] += sum(result is None for result in answer["results"])
        return answer

    assert database._groups is not None
    database._groups._together = counting
    return counter
