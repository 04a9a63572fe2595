"""Whether the money is right after a run: a gateway that loses calls, or doesn't book them, may well be fast."""

import time
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from benchmarks import BenchmarkError
from benchmarks.peers import CALL_USD, get_json

_SETTLED_SECONDS: Final = 10.0


def checked(vendor_port: int, fusewire_port: int, key: str, sent: Mapping[str, int]) -> dict[str, object]:
    """What was called, served and booked, all of it equal.

    :param key: the credential of fusewire's calls to the vendor
    :param sent: the calls that were made, by credential
    :raises BenchmarkError: when the load, the vendor and the ledger don't agree to the last digit
    """
    served = get_json(vendor_port, "/billed")
    if served != {credential: calls for credential, calls in sent.items() if calls}:
        raise BenchmarkError(f"Calls got lost, repeated or answered from a cache: sent {dict(sent)}, served {served}.")
    calls = sent[key]
    deadline = time.monotonic() + _SETTLED_SECONDS
    while (wrong := mistake(calls, budget := get_json(fusewire_port, "/api/v1/admin/budget"))) is not None:
        if time.monotonic() > deadline:
            raise BenchmarkError(wrong)
        time.sleep(0.1)
    return {
        "calls": calls,
        "call_usd": _plain(CALL_USD),
        "expected_usd": _plain(calls * CALL_USD),
        "booked_usd": _plain(Decimal(budget["current_spend_usd"])),
        "reserved_usd": _plain(Decimal(budget["reserved_usd"])),
        "served": served[key],
    }


def mistake(calls: int, budget: Mapping[str, Any]) -> str | None:
    """What is wrong with the budget API's answer after so many calls; None when it is exact."""
    expected = calls * CALL_USD
    if (
        budget["current_spend_usd"] == expected
        and budget["reserved_usd"] == 0
        and budget["request_count"] == calls
        and sum(budget["by_provider"].values()) == expected
    ):
        return None
    return (
        f"The books are wrong: {calls} calls cost {_plain(expected)} USD, booked are {budget['current_spend_usd']} USD "
        f"over {budget['request_count']} calls, {budget['reserved_usd']} USD stay reserved."
    )


def _plain(amount: Decimal) -> str:
    return f"{amount.normalize():f}"
