"""The table of what one call costs Postgres, by ledger and shape of call."""

from benchmarks import ledger_cost


def test_the_table_shows_each_ledger_beside_ours() -> None:
    found = {
        "this checkout": {"a key": 1000.0, "a tree": 1500.0},
        "the other": {"a key": 1250.0},
        "10,000,000 rows": {"a key": 1010.0, "a tree": 1500.0},
    }
    rows = ledger_cost.report(found).splitlines()
    assert rows[0].endswith("| this checkout | the other | 10,000,000 rows |")
    assert rows[2:] == ["| a key | 1000 | 1250 (x 1.25) | 1010 (x 1.01) |", "| a tree | 1500 |  | 1500 (x 1.00) |"]


def test_every_value_of_an_argument_has_its_path() -> None:
    argument = {"entry": {"id": "x", "cap": 3}, "candidates": [{"bound": 0.1}, {}], "resent": None}
    assert list(ledger_cost._values(argument)) == [
        ("entry,id", "x"),
        ("entry,cap", "3"),
        ("candidates,0,bound", "0.1"),
        ("resent", "None"),
    ]
