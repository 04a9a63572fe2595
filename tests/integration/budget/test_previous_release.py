"""While a new release is rolled out, the one before it goes on calling the ledger's functions as they are now.

`previous_release.json` is what the code of commit 7895e63 sent, in this order, to its own schema, and what it was told:
recorded rather than checked out, since a clone without history has to run this too. There was no release yet when the
fields were given the names of today, so the recording was given them too, and nothing else of it changed. With each
release it is recorded anew, after this test has passed on the old recording.
"""

import json
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import psycopg
from psycopg.types.json import set_json_loads

from fusewire.json import dumps

RECORDED: list[dict[str, Any]] = json.loads(
    Path(__file__).with_name("previous_release.json").read_text(), parse_float=Decimal
)
_PING = "SELECT ledger_ping(%s::jsonb)"


def holds(now: object, then: object, where: str) -> None:
    """Whatever was told then is told now, under the same name and with the same value, times aside."""
    if isinstance(then, dict):
        found = cast(dict[str, Any], now)
        for name, value in then.items():
            assert name in found, f"{where}.{name} is gone"
            holds(found[name], value, f"{where}.{name}")
    elif isinstance(then, list):
        found_list = cast(list[object], now)
        assert len(found_list) == len(then), where
        for place, value in enumerate(then):
            holds(found_list[place], value, f"{where}[{place}]")
    elif isinstance(then, str) and then[:2] == "20":
        assert datetime.fromisoformat(cast(str, now)), where
    else:
        assert now == then, where


def test_every_statement_of_it_is_answered_as_it_was(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        set_json_loads(lambda text: json.loads(text, parse_float=Decimal), connection)
        for place, call in enumerate(RECORDED):
            row = connection.execute(call["statement"].encode(), (dumps(call["argument"]),)).fetchone()
            assert row is not None
            # It was told a migration's name, and asked only whether there was an answer.
            answer = call["answer"] if call["statement"] != _PING else {}
            holds(row[0], answer, f"{place}: {call['statement']}")


def test_the_recording_has_every_function_and_every_refusal() -> None:
    functions = {call["statement"].split()[1].partition("(")[0] for call in RECORDED}
    assert functions == {
        "ledger_reserve",
        "ledger_settle",
        "ledger_budget",
        "ledger_reset",
        "provider_health_json",
        "ledger_ping",
    }
    assert {call["answer"].get("refused") for call in RECORDED} == {None, "exceeded", "reserved", "cooling_down"}
    assert any("settlement" in call["argument"] and "entry" in call["argument"] for call in RECORDED), "a failover"
    assert any(call["answer"].get("threshold_events") for call in RECORDED)
