"""Refused calls as the statements take and return them (`store/functions/refused.sql`), by key, code and minute.

The ledger records those that it refuses itself, in the statement that refuses them.
"""

from typing import Final, TypedDict

from fusewire.store.db import Statement


class RefusedCallArgument(TypedDict):
    """A refused call, for a statement that counts it in its key's rate limit too."""

    code: str | None
    """None where it is refused only if the rate limit is used up."""
    request_id: str


class CallRefusedArgument(TypedDict):
    """For `call_refused`."""

    key_id: str
    code: str
    request_id: str


class RefusedRow(TypedDict):
    """A row of `refused_calls`: the calls of one key that were refused with one code in one minute."""

    id: str
    key_id: str
    """Empty for none."""
    code: str
    minute: str
    calls: int
    last_at: str
    last_request_id: str | None


CALL_REFUSED: Final = Statement[CallRefusedArgument, bool]("SELECT call_refused($1::jsonb)")
