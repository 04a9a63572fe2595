"""What attempts do before anything is reserved."""

import pytest

from fusewire.ai.attempts import Attempts
from fusewire.ai.targets import TargetsLeft
from fusewire.ai.time_left import TimeLeft
from fusewire.budget.ledger import Ledger
from fusewire.budget.reservation import Call
from fusewire.config import load_settings
from fusewire.errors import DeadlineExceededError
from fusewire.store.db import Database


@pytest.mark.parametrize("seconds", [-5, 0, 0.1])
def test_without_time_nothing_is_even_reserved(seconds: float) -> None:
    # The ledger has no database here: reaching for it would raise LedgerUnavailableError.
    ledger = Ledger(Database(None), load_settings({}))
    call = Call("r", "chat", "sota")
    attempts = Attempts(ledger, call, TargetsLeft([]), TimeLeft.of(seconds, seconds), pinned=False, confidential=False)
    with pytest.raises(DeadlineExceededError) as caught:
        attempts.begin()
    assert (caught.value.status, caught.value.should_retry) == (504, False)
